//! What the tests share: a catalogue, and short ways to a plan.

#![allow(dead_code, reason = "each test file uses its own part")]

use pushmark_scenario::{Catalogue, CatalogueEntry, Options, Plan, ScenarioError, ScenarioText, plan};

/// The transports of this version, as the registry names them.
pub(crate) fn catalogue() -> Catalogue {
    const ALL: &[&str] = &["h1", "h1+tls", "h2c", "h2+tls"];
    let entry = |name: &str, carriers: &[&str], in_process| CatalogueEntry {
        name: name.to_owned(),
        carriers: carriers.iter().map(|carrier| (*carrier).to_owned()).collect(),
        in_process,
    };
    Catalogue {
        transports: vec![
            entry("ws", ALL, false),
            entry("sse", ALL, false),
            entry("long-poll", ALL, false),
            entry("null", &["in-process"], true),
        ],
        sharing_carriers: vec!["h2c".to_owned(), "h2+tls".to_owned()],
        smallest_payload_bytes: 48,
        largest_payload_bytes: 1 << 20,
    }
}

/// One whose transports run over different carriers.
pub(crate) fn wide_catalogue() -> Catalogue {
    let mut catalogue = catalogue();
    catalogue.transports[0].carriers = vec!["h1".to_owned(), "h1+tls".to_owned()];
    catalogue.transports[1].carriers = vec!["h1".to_owned(), "h1+tls".to_owned(), "h2+tls".to_owned()];
    catalogue
}

pub(crate) const PUSH: &str = r#"question = "How long does a message take?"
transports = ["ws", "sse"]

[load]
connections = 100

[workload]
kind = "push"
rate = "10/s"
payload = "200 B"
"#;

pub(crate) fn plan_of(text: &str) -> Result<Plan, ScenarioError> {
    plan_with(text, &Options::default())
}

pub(crate) fn plan_with(text: &str, options: &Options) -> Result<Plan, ScenarioError> {
    plan(&ScenarioText::new("test.toml", text)?, options, &catalogue())
}

pub(crate) fn set(pairs: &[(&str, &str)]) -> Options {
    let overrides = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Options {
        overrides,
        ..Options::default()
    }
}

pub(crate) fn only(transports: &[&str]) -> Options {
    Options {
        transports: transports.iter().map(|name| (*name).to_owned()).collect(),
        ..Options::default()
    }
}
