//! Cells: every variant at every point of the one sweep that a scenario may have.

use super::load::LoadDraft;
use super::sides::Sides;
use super::values::{Findings, MOST_POINTS};
use super::workload::WorkloadDraft;
use crate::diagnose::Problem;
use crate::plan::{Axis, Cell, Variant};
use crate::units::show_count;

/// More cells than this are a typing error.
const MOST_CELLS: usize = MOST_POINTS;

/// The sweep's axis and all cells, point by point, so that variants to be compared run next to each other.
pub(super) fn cells(
    findings: &mut Findings,
    variants: &[Variant],
    load: &LoadDraft,
    workload: &WorkloadDraft,
    sides: &Sides,
) -> Option<(Option<Axis>, Vec<Cell>)> {
    let lists = [
        (Axis::Connections, "load.connections", &load.connections.list),
        (
            Axis::PayloadBytes,
            "workload.payload",
            &workload.payloads_bytes.list,
        ),
        (Axis::RatePerSecond, "workload.rate", &workload.rates.list),
    ];
    let swept: Vec<_> = lists
        .into_iter()
        .filter_map(|(axis, key, list)| Some((axis, key, list.clone()?)))
        .collect();
    if let [(_, first_key, first), (_, key, second), ..] = &swept[..] {
        let message = format!("both `{first_key}` and `{key}` are lists");
        let problem = Problem::at(second.clone(), message, "a second list");
        let hint = "a scenario sweeps one thing: make the other a single value";
        findings.add(problem.also(first.clone(), "the first list").hint(hint));
        return None;
    }
    let points =
        load.connections.values.len() * workload.payloads_bytes.values.len() * workload.rates.values.len();
    let axis = swept.first().map(|(axis, _, _)| *axis);
    if points * variants.len() > MOST_CELLS {
        let place = swept
            .first()
            .map_or_else(|| findings.end_of_file.clone(), |(_, _, list)| list.clone());
        let cells = show_count((points * variants.len()) as u64);
        let label = format!("{points} points x {} variants are {cells} cells", variants.len());
        let hint = format!("{MOST_CELLS} cells are the most");
        findings.add(Problem::at(place, "the scenario has too many cells", label).hint(hint));
        return None;
    }

    let mut cells = Vec::new();
    for connections in &load.connections.values {
        for payload_bytes in &workload.payloads_bytes.values {
            for rate in &workload.rates.values {
                let (point, suffix) = match axis {
                    None | Some(Axis::Condition) => (None, String::new()),
                    Some(Axis::Connections) => (Some(f64::from(*connections)), format!("-c{connections}")),
                    Some(Axis::PayloadBytes) => {
                        (Some(f64::from(*payload_bytes)), format!("-p{payload_bytes}"))
                    }
                    Some(Axis::RatePerSecond) => {
                        (Some(rate.per_second()), format!("-r{}", rate.per_second()))
                    }
                };
                cells.extend(variants.iter().map(|variant| Cell {
                    id: format!("{}-{}{suffix}", variant.transport, variant.carrier),
                    variant: variant.clone(),
                    point,
                    load: load.at(*connections),
                    workload: workload.at(*rate, *payload_bytes),
                    server: sides.server.clone(),
                    target: sides.target.clone(),
                    deadlines: sides.deadlines,
                    condition: String::new(),
                    heartbeat: None,
                    tcp: Default::default(),
                    reconnect: Default::default(),
                    faults: Vec::new(),
                    slow_readers: None,
                }));
            }
        }
    }
    Some((axis, cells))
}
