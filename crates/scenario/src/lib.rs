//! Scenario files: what a user wrote, checked and multiplied out into the plan that the program runs.
//!
//! ```
//! use pushmark_scenario::{Catalogue, CatalogueEntry, Options, ScenarioText, plan};
//!
//! let catalogue = Catalogue {
//!     transports: vec![CatalogueEntry {
//!         name: "pipe".to_owned(),
//!         carriers: vec!["plain".to_owned()],
//!         in_process: false,
//!     }],
//!     sharing_carriers: Vec::new(),
//!     smallest_payload_bytes: 48,
//!     largest_payload_bytes: 1 << 20,
//! };
//! let text = r#"
//!     question = "How long does a message take?"
//!     transports = ["pipe"]
//!     load = { connections = 10 }
//!     workload = { kind = "push", rate = "10/s", payload = "100 B" }
//! "#;
//! let options = Options { quick: true, ..Options::default() };
//! let plan = plan(&ScenarioText::new("pipe.toml", text)?, &options, &catalogue)?;
//! assert_eq!(plan.cells[0].id, "pipe-plain");
//! # Ok::<(), pushmark_scenario::ScenarioError>(())
//! ```

mod diagnose;
mod effective;
mod overrides;
pub mod plan;
mod quick;
mod raw;
mod request;
mod resolve;
mod schema;
mod shape;
mod suggest;
mod text;
mod units;

pub use diagnose::{Place, Problem, ScenarioError};
pub use plan::*;
pub use schema::{schema, schema_text};
pub use text::ScenarioText;

use diagnose::Origins;
use request::Request;

/// What the command line adds to a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--set KEY=VALUE`, in their order. A value is TOML, or else a bare text.
    pub overrides: Vec<(String, String)>,
    /// `--transport NAME`: these instead of the scenario's own. Empty: the scenario's own.
    pub transports: Vec<String>,
    /// `--carrier NAME`: these instead of the scenario's own. Empty: the scenario's own.
    pub carriers: Vec<String>,
    /// `--cacert`, `--insecure`, `--client-cert`, `--client-key`, `--sni`: what is given stands instead of the scenario's
    /// `[target.tls]`. Where the scenario has no target, its cells keep it for whoever gives them one.
    pub target_tls: TargetTls,
    /// `--quick`: shorter times and one repeat, for a smoke run.
    pub quick: bool,
    /// `--allow-remote`: the target may lie outside loopback.
    pub allow_remote: bool,
}

/// A scenario's name and question, for a list of scenarios.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// The file's name without `.toml`.
    pub name: String,
    /// The question that it answers, on one line.
    pub question: String,
}

/// Reads the name and the question, and looks at nothing else of the scenario.
pub fn headline(scenario: &ScenarioText) -> Result<Headline, ScenarioError> {
    let origins = Origins::new(scenario.file_name(), scenario.text());
    let question = shape::parse(scenario.text())
        .map_err(|problem| vec![problem])
        .and_then(|tree| resolve::question_of(&tree, &origins));
    match question {
        Ok(question) => Ok(Headline {
            name: scenario.name(),
            question,
        }),
        Err(problems) => Err(ScenarioError::new(origins, problems)),
    }
}

/// Makes the plan of a scenario, or says everything that is wrong with it.
pub fn plan(
    scenario: &ScenarioText,
    options: &Options,
    catalogue: &Catalogue,
) -> Result<Plan, ScenarioError> {
    let mut origins = Origins::new(scenario.file_name(), scenario.text());
    let request = Request::new(&mut origins, scenario, options);
    match request.plan(&origins, catalogue) {
        Ok(plan) => Ok(plan),
        Err(problems) => Err(ScenarioError::new(origins, problems)),
    }
}
