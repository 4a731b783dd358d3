//! The scenarios that ship: each makes a plan, fits the published schema, and ends in good time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::catalogue;
use pushmark_scenario::plan::{Cell, FaultKind};
use pushmark_scenario::{Options, Plan, ScenarioText, headline, plan, schema, schema_text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shipped() -> Vec<ScenarioText> {
    let files = fs::read_dir(root().join("scenarios")).expect("scenarios");
    let mut paths: Vec<_> = files.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
        .iter()
        .map(|path| ScenarioText::read(path).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

fn plan_as_shipped(scenario: &ScenarioText, options: &Options) -> Plan {
    plan(scenario, options, &catalogue()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_questions_are_there() {
    let names: Vec<String> = shipped()
        .iter()
        .map(|s| headline(s).expect("question").name)
        .collect();
    for name in [
        "binary",
        "carriers",
        "compress",
        "connect",
        "drop",
        "echo",
        "fan-out",
        "feed",
        "half-open",
        "handshake",
        "herd",
        "http2",
        "loss",
        "multiplex",
        "paused-neighbour",
        "reconnect",
        "sizes",
        "slow-reader",
        "small-frames",
        "stall",
        "tls",
    ] {
        assert!(
            names.iter().any(|n| n == name),
            "{name} is missing from {names:?}"
        );
    }
}

#[test]
fn each_ends_in_good_time() {
    for scenario in shipped() {
        let plan = plan_as_shipped(&scenario, &Options::default());
        let trials = plan.repeats * u32::try_from(plan.cells.len()).expect("few");
        // A trial drains, and its server starts and stops.
        let most = plan.least_duration() + trials * (plan.cells[0].load.drain + Duration::from_millis(750));
        // A trial of an end that the kernel tells of is over a second later: all have noticed.
        let told = |cell: &&Cell| {
            let [fault] = &cell.faults[..] else { return false };
            matches!(fault.kind, FaultKind::Fin | FaultKind::Rst | FaultKind::Crash) && fault.lasts.is_none()
        };
        let cells = plan.cells.iter().filter(told);
        let spared: Duration = cells.map(|cell| cell.load.measure - Duration::from_secs(2)).sum();
        let most = most.saturating_sub(spared);
        let limit = Duration::from_secs(match plan.name.as_str() {
            // Twelve pairs.
            "carriers" => 240,
            "drop" | "feed" => 150,
            _ => 120,
        });
        assert!(most <= limit, "{} may take {most:?}", plan.name);
        assert_eq!(plan.source, scenario.text(), "{}", plan.name);
    }
}

#[test]
fn each_has_a_quick_form() {
    for scenario in shipped() {
        let quick = plan_as_shipped(
            &scenario,
            &Options {
                quick: true,
                ..Options::default()
            },
        );
        assert!(quick.quick && quick.repeats == 1);
        for cell in &quick.cells {
            // What breaks has its times, which are kept.
            assert!(
                !cell.faults.is_empty() || cell.load.least_duration() <= Duration::from_millis(3500),
                "{}",
                cell.id
            );
        }
        let again = ScenarioText::new(scenario.file_name(), &quick.source).expect("text");
        assert_eq!(plan_as_shipped(&again, &Options::default()).cells, quick.cells);
    }
}

#[test]
fn each_names_the_schema_and_fits_it() {
    let validator = jsonschema::validator_for(&schema(&catalogue())).expect("schema");
    for scenario in shipped() {
        let first = scenario.text().lines().next();
        assert_eq!(
            first,
            Some("#:schema ../schema/scenario.schema.json"),
            "{}",
            scenario.name()
        );
        let table: toml::Table = scenario.text().parse().expect("TOML");
        let value = serde_json::to_value(table).expect("JSON");
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", scenario.name());
    }
}

#[test]
fn the_schema_refuses_what_an_editor_can_see() {
    let validator = jsonschema::validator_for(&schema(&catalogue())).expect("schema");
    let fits = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        validator.is_valid(&serde_json::to_value(table).expect("JSON"))
    };
    assert!(fits(common::PUSH));
    for (from, to) in [
        ("connections", "conections"),
        ("connections = 100", ""),
        ("\"200 B\"", "\"200\""),
        ("\"200 B\"", "200"),
        ("\"10/s\"", "\"10\""),
        ("\"push\"", "\"rooms\""),
        ("\"sse\"", "\"quic\""),
        ("\"sse\"", "\"ws\""),
        ("[load]", "[load]\nmeasure = \"2 sec\""),
        ("[load]", "[load]\narrival = { over = \"1s\", rate = \"1/s\" }"),
        ("[load]", "[expect]\nlatency.p99 = \"< 50ms\"\n[load]"),
    ] {
        let text = common::PUSH.replace(from, to);
        assert!(!fits(&text), "{text}");
        assert!(common::plan_of(&text).is_err(), "{text}");
    }
}

/// `UPDATE_SCHEMA=1 cargo test -p pushmark-scenario` writes it anew.
#[test]
fn the_committed_schema_is_current() {
    let path = root().join("schema/scenario.schema.json");
    let current = schema_text(&catalogue());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &current).expect("write");
    }
    assert_eq!(fs::read_to_string(&path).expect("schema"), current);
}
