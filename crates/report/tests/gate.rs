//! What a gate's report says, of gates whose figures are known.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

use pushmark_measure::Slots;
use pushmark_measure::gate::evidence::walk;
use pushmark_measure::gate::{Block, Course, Figures, Plan, SensorLimits, Table};
use pushmark_report::gate::{headline, render, text};
use pushmark_results::Host;
use pushmark_results::gate::{BlockShape, Gate, GateScenario, GateVerdict};

/// Ten blocks in which the candidate's processor time is `cpu` times the baseline's, and nothing else differs but by noise.
fn gate(name: &str, cpu: f64) -> Gate {
    let figures = |latency: f64, cpu: f64| Figures {
        values: [
            ("latency_p50", latency),
            ("latency_p99", 5.0 * latency),
            ("loss", 0.0),
            ("deliveries_per_second", 1_800.0),
            ("server_cpu_us_per_delivery", cpu),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        samples: 5_000,
        seconds_suffice: true,
        ..Figures::default()
    };
    let mut course = Course {
        scenario: format!("{name}/a"),
        ..Course::default()
    };
    for k in 0..10u32 {
        let noise = 1.0 + 0.002 * f64::from(k * 7 % 5);
        course.blocks.push(Block {
            candidate_first: k % 2 == 0,
            baseline: figures(1e6 * noise, 3.0 * noise),
            candidate: figures(1.004e6, 3.0 * cpu),
            ..Block::default()
        });
    }
    let notes = course.choose_metrics();
    let (courses, plan, limits) = (
        vec![course],
        Plan::spending(&[10], 0.01).unwrap(),
        SensorLimits::default(),
    );
    let found = walk(&courses, &plan, &limits).unwrap();
    Gate {
        format_version: 1,
        document: String::new(),
        pushmark_version: "0.1.0".into(),
        started_unix_s: 0,
        took_s: 61.0,
        host: Host::default(),
        git: None,
        profile: "self-test".into(),
        seed: 7,
        block: BlockShape {
            warmup_s: 0.6,
            measure_s: 4.0,
            slots: Slots::of_two(0),
        },
        baseline: "base/pushmark serve".into(),
        candidate: "head/pushmark serve".into(),
        scenarios: vec![GateScenario {
            name: name.into(),
            path: format!("./scenarios/{name}.toml"),
            question: "q".into(),
            source: String::new(),
        }],
        plan,
        limits,
        courses,
        table: Table::default(),
        failures: Vec::new(),
        notes,
        found: Some(found),
        verdict: GateVerdict::Invalid,
    }
    .sealed()
}

fn file(gate: &Gate, name: &str) -> String {
    let files = render(gate).unwrap();
    let (_, bytes) = files.into_iter().find(|(n, _)| n == name).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_pass_says_what_is_ruled_out_and_what_would_have_been_found() {
    let gate = gate("feed", 1.004);
    assert_eq!(gate.verdict, GateVerdict::Pass);
    let text = text(&gate, false);
    assert!(text.starts_with("pass after 10 blocks, look 1 of 1"), "{text}");
    assert!(text.contains("a latency p99 regression above +"), "{text}");
    assert!(text.contains("is ruled out (95 %); +"), "{text}");
    assert!(
        text.contains("memory per session is left out: neither side tells it"),
        "{text}"
    );
    assert!(!file(&gate, "junit.xml").contains("<failure"));
    assert!(file(&gate, "gate.sarif").contains("\"results\": []"));
}

#[test]
fn a_regression_is_named_everywhere() {
    let gate = gate("feed", 1.1);
    assert_eq!(gate.verdict, GateVerdict::Regression);
    let headline = headline(&gate);
    assert!(headline.contains("CPU per delivery of feed/a +"), "{headline}");
    assert!(file(&gate, "report.md").contains("| **REGRESSION** |"));
    assert!(file(&gate, "forest.svg").contains("CPU per delivery"));
    let junit = file(&gate, "junit.xml");
    assert_eq!(
        junit.matches("<failure").count(),
        2,
        "the verdict, and the metric: {junit}"
    );
    let sarif: serde_json::Value = serde_json::from_str(&file(&gate, "gate.sarif")).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(
        (&result["level"], &result["ruleId"]),
        (&"error".into(), &"regression".into())
    );
    let place = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "scenarios/feed.toml");
}

#[test]
fn an_inconclusive_gate_names_what_is_not_proven() {
    let mut gate = gate("feed", 1.0);
    for block in &mut gate.courses[0].blocks {
        block.sensors.others_cpu = Some(0.9);
    }
    gate.found = Some(walk(&gate.courses, &gate.plan, &gate.limits).unwrap());
    let gate = gate.sealed();
    assert_eq!(gate.verdict, GateVerdict::Inconclusive);
    let headline = headline(&gate);
    assert!(
        headline
            .ends_with("nothing is surely worse; not proven: latency p50 of feed/a, latency p99 of feed/a"),
        "{headline}"
    );
    assert!(text(&gate, false).contains("the machine was taken by others"));
}

#[test]
fn a_failure_needs_no_figures() {
    let mut gate = gate("feed", 1.0);
    (gate.found, gate.courses) = (None, Vec::new());
    gate.failures = vec!["feed/a: block 3: the candidate died".into()];
    let gate = gate.sealed();
    assert_eq!(gate.verdict, GateVerdict::Failure);
    assert!(text(&gate, false).contains("block 3: the candidate died"));
    assert!(file(&gate, "junit.xml").contains("the candidate died"));
    assert!(file(&gate, "gate.sarif").contains("\"ruleId\": \"failure\""));
    assert!(
        render(&gate)
            .unwrap()
            .iter()
            .all(|(name, _)| !name.starts_with("forest"))
    );
}

#[test]
fn names_do_nothing_in_any_of_them() {
    let mut gate = gate("<b>\"x\"|\u{1b}[31m&", 1.1);
    gate.baseline = "sh -c '\u{1b}[2J'".into();
    for (name, bytes) in render(&gate).unwrap() {
        if name.ends_with(".png") {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains('\u{1b}'), "{name}");
        let markup = ["report.md", "junit.xml", "forest.svg"].contains(&name.as_str());
        assert!(!(markup && text.contains("<b>")), "{name}: {text}");
    }
    assert_eq!(
        render(&gate).unwrap(),
        render(&gate).unwrap(),
        "the same gate, the same bytes"
    );
}

#[test]
fn medians_are_those_of_the_blocks_that_were_judged() {
    let mut gate = gate("feed", 1.0);
    let blocks = &mut gate.courses[0].blocks;
    let further = blocks[0].clone();
    blocks.extend([further.clone(), further]);
    // Two are left out for two reasons, a further one cannot stand in, and the last does for one of them.
    for (k, busy) in [(2, 0.9), (5, 0.8), (10, 0.9)] {
        blocks[k].sensors.others_cpu = Some(busy);
    }
    // What is left out is far off.
    for (k, block) in blocks.iter_mut().enumerate() {
        let far_off = [2, 5, 10].contains(&k);
        let us = if far_off { 900.0 } else { 3.0 + k as f64 };
        block
            .baseline
            .values
            .insert("server_cpu_us_per_delivery".into(), us);
    }
    gate.found = Some(walk(&gate.courses, &gate.plan, &gate.limits).unwrap());
    let gate = gate.sealed();
    let validity = &gate.found.as_ref().unwrap().validity[0].1;
    assert_eq!(
        (validity.dropped_blocks(), &validity.standing_in[..]),
        (vec![2, 5], &[11][..])
    );
    let text = text(&gate, false);
    assert!(
        text.contains(
            "feed/a: left out as pairs: block 3 (others used 90 % of the processors), block 6 (others used 80 % of the \
             processors); one more block stands in for one of them"
        ),
        "{text}"
    );
    // Of 3, 4, 6, 7, 9, 10, 11, 12 and 14; with what was left out it would be 10.5.
    let line = text.lines().find(|l| l.contains("CPU per delivery  ")).unwrap();
    assert!(line.contains(" 9.00 µs") || line.contains(" 9 µs"), "{line}");
}

#[test]
fn the_report_says_what_was_done() {
    let of = |notes: &[&str]| {
        let mut gate = gate("feed", 1.0);
        let mut other = gate.scenarios[0].clone();
        other.name = "breaks".into();
        gate.scenarios.push(other);
        gate.notes.extend(notes.iter().map(|note| (*note).to_owned()));
        let text = text(&gate, false);
        text.lines().last().unwrap().to_owned()
    };
    let (feed, breaks) = (
        "feed: its arms cannot take turns, so",
        "breaks: its arms cannot take turns, so",
    );
    let turns = of(&[]);
    assert!(
        turns.starts_with("Each block starts both servers anew, warms them up for 0.6 s"),
        "{turns}"
    );
    let phases = of(&[feed, breaks]);
    assert!(
        phases.starts_with("Each block starts both servers anew and loads one after the other")
            && !phases.contains("in turns"),
        "{phases}"
    );
    let both = of(&[breaks]);
    assert!(
        both.contains("in turns of 100 ms") && both.contains("; for breaks it loads one after the other"),
        "{both}"
    );
    let running = of(&["a server that runs already is not started anew for each block: what"]);
    assert!(
        !running.contains("both servers anew") && running.contains("as it is"),
        "{running}"
    );
}
