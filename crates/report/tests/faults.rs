//! What people read of a run in which something broke, held as snapshots; and what must hold of every such report.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use pushmark_measure::{Detection, FaultOutcome, Grade, Histogram, Recovery, SlowReading, Timeline};
use pushmark_report::{Comparison, answer, check_expectations, json, markdown, render, table};
use pushmark_results::run::Run;
use support::faults;

#[test]
fn tables() {
    for (name, run) in faults::all() {
        let text = table::text(&Comparison::of(&run), false);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
        insta::assert_snapshot!(format!("table_{name}"), text);
    }
}

#[test]
fn answers() {
    let all: Vec<String> = faults::all()
        .iter()
        .map(|(name, run)| format!("{name}: {}", answer(&Comparison::of(run))))
        .collect();
    insta::assert_snapshot!("answers", all.join("\n\n"));
}

#[test]
fn markdown_pages() {
    for (name, run) in [("twice", faults::twice()), ("hostile", faults::hostile())] {
        let text = markdown(&Comparison::of(&run), &check_expectations(&run));
        insta::assert_snapshot!(format!("markdown_{name}"), text);
    }
}

#[test]
fn json_has_it_beside_what_was_there() {
    let value = |run: &Run| -> serde_json::Value {
        serde_json::from_str(&json(&Comparison::of(run), &[]).unwrap()).unwrap()
    };
    let native = value(&faults::native());
    assert_eq!(native["version"], 1);
    insta::assert_snapshot!(
        "json_native",
        serde_json::to_string_pretty(&native["points"][0]["aftermath"]).unwrap()
    );
    // Where nothing was to break, there is nothing new.
    assert!(value(&support::well())["points"][0].get("aftermath").is_none());
}

#[test]
fn every_file_is_there_and_the_same_again() {
    let mut lines = Vec::new();
    for (name, run) in faults::all() {
        let mut elsewhere = run.clone();
        elsewhere.dir = "another/place".into();
        let files = render(&run).unwrap();
        assert!(files == render(&elsewhere).unwrap(), "{name}");
        let charts = files.iter().filter_map(|(path, _)| path.strip_prefix("charts/"));
        let charts: Vec<&str> = charts.filter_map(|p| p.strip_suffix(".svg")).collect();
        lines.push(format!("{name}: {}", charts.join(" ")));
    }
    insta::assert_snapshot!("charts", lines.join("\n"));
}

#[test]
fn names_cannot_act() {
    for (path, bytes) in render(&faults::hostile()).unwrap() {
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let acting = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(acting), "{path}");
        if path != "table.txt" && !path.ends_with(".json") {
            assert!(!text.contains("<script"), "{path}");
        }
    }
}

#[test]
fn who_was_cut_off_is_not_ahead() {
    // Without the cut ws would be ahead, and so it is in the same run without one.
    let winners = |run: &Run| -> Vec<&'static str> {
        let comparison = Comparison::of(run);
        let rows = comparison.points.iter().flat_map(|p| &p.rows);
        rows.filter(|r| r.winner.is_some()).map(|r| r.key).collect()
    };
    let mut run = faults::native();
    assert_eq!(winners(&run), [""; 0]);
    assert!(answer(&Comparison::of(&run)).contains("nobody is called faster"));
    for trial in &mut run.trials {
        let summary = trial.summary.as_mut().unwrap();
        (summary.faults, summary.recovery, summary.timeline) = (Vec::new(), None, None);
    }
    assert!(winners(&run).contains(&"latency_ns_p99"));
    // A session that came back was opened once.
    let mut run = faults::native();
    for trial in &mut run.trials {
        trial.summary.as_mut().unwrap().counters.established *= 2;
    }
    assert!(table::text(&Comparison::of(&run), false).contains("1,000 of 1,000"));
}

#[test]
fn nothing_is_claimed_for_the_invalid() {
    let mut run = faults::native();
    for trial in run.trials.iter_mut().filter(|t| t.cell_index == 0) {
        trial.verdict.add(Grade::Invalid, "wrong");
    }
    let text = answer(&Comparison::of(&run));
    assert!(!text.contains("no reconnection of its own"), "{text}");
    assert!(text.contains("ws takes no part"), "{text}");
    // Attempts that were made contradict that a transport has none of its own.
    let mut run = faults::native();
    for trial in &mut run.trials {
        let recovery = trial.summary.as_mut().unwrap().recovery.as_mut().unwrap();
        recovery.attempts.insert("connect: refused".to_owned(), 9);
    }
    let text = answer(&Comparison::of(&run));
    assert!(text.contains("None of 2,000 ws sessions came back"), "{text}");
}

#[test]
fn doubt_is_on_the_face_of_every_chart() {
    let mut run = faults::herd();
    run.trials[0].verdict.add(Grade::Suspect, "busy");
    for (path, bytes) in render(&run).unwrap() {
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(text.contains("suspect"), "{path}");
        }
    }
}

prop_compose! {
    fn number()(small in 0_u64..2000, any in any::<u64>(), pick in 0..4) -> u64 {
        match pick { 0 => 0, 1 => small, 2 => u64::MAX, _ => any }
    }
}

prop_compose! {
    fn histogram()(values in prop::collection::vec((number(), number()), 0..6)) -> Histogram {
        let mut histogram = Histogram::new();
        for (value, count) in values {
            histogram.record_n(value, count % 1_000_000);
        }
        histogram
    }
}

prop_compose! {
    fn detection()(affected in number(), undetected in number(), time in histogram(), watched in number(), reason in number()) -> Detection {
        Detection {
            affected,
            undetected,
            time,
            watched: Duration::from_secs(watched),
            by_reason: [("a".to_owned(), reason), ("b".to_owned(), affected)].into_iter().collect(),
        }
    }
}

prop_compose! {
    fn outcome()(
        client in prop::option::of(detection()),
        server in prop::option::of(detection()),
        onset in number(),
        cleared in prop::option::of(number()),
        available in prop::option::of(number()),
        kind in prop::sample::select(vec!["fin", "crash", "restart", "?", ""]),
    ) -> FaultOutcome {
        FaultOutcome {
            kind: kind.to_owned(),
            onset: Duration::from_millis(onset),
            cleared: cleared.map(Duration::from_millis),
            available: available.map(Duration::from_secs),
            share: f64::NAN,
            client,
            server,
        }
    }
}

prop_compose! {
    fn recovery()(n in prop::collection::vec(number(), 9), outage in histogram(), back in histogram(), stayed in prop::option::of(number())) -> Recovery {
        Recovery {
            policy: "native".to_owned(),
            cut_off: n[0], recovered: n[1], gave_up: n[2], outage, time_to_reconnect: back,
            attempts: [("established".to_owned(), n[3])].into_iter().collect(),
            missed: n[4], made_up: n[5], lost: n[6], duplicated: n[7], herd_peak: n[8],
            stayed_before_p99_ns: stayed, stayed_after_p99_ns: stayed,
            ..Recovery::default()
        }
    }
}

prop_compose! {
    fn timeline()(step_ms in number(), deliveries in prop::collection::vec(number(), 0..900), attempts in prop::collection::vec(number(), 0..30), open in prop::collection::vec(number(), 0..30)) -> Timeline {
        Timeline { step_ms, deliveries, attempts, open }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_number_makes_it_panic(
        parts in prop::collection::vec(
            (prop::collection::vec(outcome(), 0..3), prop::option::of(recovery()), prop::option::of(timeline()), prop::option::of(prop::collection::vec(number(), 6))),
            1..6),
        conditions in any::<bool>(),
    ) {
        let mut run = if conditions { faults::herd() } else { faults::native() };
        for (trial, part) in run.trials.iter_mut().zip(parts.iter().cycle()) {
            let summary = trial.summary.as_mut().unwrap();
            let (faults, recovery, timeline, slow) = part.clone();
            (summary.faults, summary.recovery, summary.timeline) = (faults, recovery, timeline);
            summary.slow = slow.map(|n| SlowReading {
                sessions: n[0], expected: n[1], delivered: n[2], undelivered: n[3], disconnected: n[4],
                dropped_by_server: n[5], server_rss_growth_bytes: Some(n[0] as i64), kernel_tcp_growth_bytes: None,
                ..SlowReading::default()
            });
        }
        let files = render(&run).unwrap();
        prop_assert!(files.len() >= 4);
        table::text(&Comparison::of(&run), true);
    }
}
