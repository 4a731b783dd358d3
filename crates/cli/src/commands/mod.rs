//! One file for each command.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod proxy;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod trend;
pub(crate) mod worker;

use std::path::Path;

use pushmark_loadgen::preflight::Limits;
use pushmark_results::Host;
use pushmark_scenario::{Catalogue, CatalogueEntry, Options, Plan, ScenarioText};
use pushmark_transport::carrier::{Carrier, Http};
use pushmark_transport::{registry, stamp};

use crate::args::ScenarioArgs;
use crate::exit::Failure;
use crate::terminal::Terminal;

/// The registry, in the scenario crate's words.
pub(crate) fn catalogue() -> Catalogue {
    let transports = registry::ROWS.iter().map(|row| CatalogueEntry {
        name: row.name.to_owned(),
        carriers: row.carriers.iter().map(|&c| c.to_owned()).collect(),
        in_process: row.in_process,
    });
    let sharing = Carrier::ALL
        .iter()
        .filter(|carrier| carrier.http() == Http::Http2);
    Catalogue {
        transports: transports.collect(),
        sharing_carriers: sharing.map(|carrier| carrier.name().to_owned()).collect(),
        smallest_payload_bytes: stamp::STAMP_BYTES as u32,
        largest_payload_bytes: 1 << 20,
    }
}

/// What changes a scenario, in the scenario crate's words.
pub(crate) fn options(change: &ScenarioArgs) -> Options {
    Options {
        overrides: change.overrides.clone(),
        transports: change.transports.clone(),
        carriers: change.carriers.clone(),
        target_tls: change.target_tls(),
        quick: change.quick,
        allow_remote: change.allow_remote,
    }
}

/// Reads a scenario file and makes its plan.
pub(crate) fn plan(path: &Path, change: &ScenarioArgs, terminal: &Terminal) -> Result<Plan, Failure> {
    let options = options(change);
    let result =
        ScenarioText::read(path).and_then(|text| pushmark_scenario::plan(&text, &options, &catalogue()));
    result.map_err(|e| Failure::usage(e.render(terminal.color_err)))
}

/// The limits of this machine that matter to a plan.
pub(crate) fn limits(host: &Host) -> Limits {
    let (first, last) = host.ephemeral_ports;
    Limits {
        first_port: first,
        open_files: host.open_files_soft,
        ports: u64::from(last.saturating_sub(first)) + 1,
    }
}
