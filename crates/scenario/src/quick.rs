//! `--quick`: what of a scenario's time is cut for a smoke run. Connections and rates stay.

use std::time::Duration;

use crate::plan::{Load, Plan, Workload};

const LONGEST_ARRIVAL: Duration = Duration::from_secs(1);
const LONGEST_WARMUP: Duration = Duration::from_millis(500);
const LONGEST_MEASURE: Duration = Duration::from_secs(2);
const LONGEST_DRAIN: Duration = Duration::from_secs(2);

/// The keys of `[load]` to set, with their values as text of a TOML file.
pub(crate) fn cuts(plan: &Plan) -> Vec<(&'static str, &'static str)> {
    let over = |limit: Duration, length: fn(&Load) -> Duration| {
        plan.cells.iter().any(|cell| length(&cell.load) > limit)
    };
    let opens_at_a_rate = plan
        .cells
        .iter()
        .any(|cell| matches!(cell.workload, Workload::Connect { .. }));
    let breaks = plan.cells.iter().any(|cell| !cell.faults.is_empty());
    let cuts = [
        (
            // The arrival of a `connect` workload is its rate.
            !opens_at_a_rate && over(LONGEST_ARRIVAL, |load| load.arrival.duration(load.connections)),
            ("arrival", r#"{ over = "1s" }"#),
        ),
        (over(LONGEST_WARMUP, |load| load.warmup), ("warmup", r#""500ms""#)),
        (
            // What breaks has its times, which a shorter window would not hold.
            !breaks && over(LONGEST_MEASURE, |load| load.measure),
            ("measure", r#""2s""#),
        ),
        (over(LONGEST_DRAIN, |load| load.drain), ("drain", r#""2s""#)),
        (plan.repeats > 1, ("repeats", "1")),
    ];
    cuts.into_iter()
        .filter(|(needed, _)| *needed)
        .map(|(_, cut)| cut)
        .collect()
}
