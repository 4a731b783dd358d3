//! What people read of a run in which something broke, held as snapshots; and what must hold of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use pushmark_report::{Comparison, answer, check_expectations, markdown, render, table};
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
