//! Cells: every variant at every point of the one sweep that a scenario may have.

use std::ops::Range;

use super::compression;
use super::condition::{Condition, times};
use super::load::LoadDraft;
use super::sides::Sides;
use super::trouble::Troubles;
use super::values::{Findings, MOST_POINTS, Swept};
use super::workload::{Kind, WorkloadDraft, encoding_word};
use crate::diagnose::{Problem, quoted};
use crate::plan::{Axis, CarriageSetup, Catalogue, Cell, Compression, ServerSetup, Variant};
use crate::raw::{Given, ScenarioFile};
use crate::units::{show_count, show_duration};

/// More cells than this are a typing error.
const MOST_CELLS: usize = MOST_POINTS;

/// Whether this load, workload and choice of transports can go through such troubles.
pub(super) fn check_troubles(
    findings: &mut Findings,
    file: &ScenarioFile,
    kind: Option<Kind>,
    catalogue: &Catalogue,
    load: Option<&LoadDraft>,
    troubles: &Troubles,
) {
    let faults = file.fault.as_ref().filter(|_| troubles.has_faults());
    if let (Some(faults), Some(Kind::Connect)) = (faults, kind) {
        let problem = Problem::at(
            faults.span(),
            "`connect` has no sessions that a fault could hit",
            "faults",
        );
        findings.add(problem.hint("use the workload \"push\" or \"echo\""));
    }
    if let (Some(section), Some(Kind::Echo | Kind::Connect)) = (&file.reconnect, kind)
        && troubles.reconnects()
    {
        let problem = Problem::at(
            section.span(),
            "only sessions that receive (\"push\") come back in this version",
            "[reconnect]",
        );
        findings.add(problem.hint("use the workload \"push\", or take [reconnect] out"));
    }
    if let (Some(section), Some(Kind::Echo | Kind::Connect)) = (&file.slow_readers, kind) {
        let problem = Problem::at(
            section.span(),
            "slow readers need something to read",
            "[slow-readers]",
        );
        findings.add(problem.hint("use the workload \"push\""));
    }
    if let (Some(faults), Some(load)) = (faults, load) {
        for fault in faults.get_ref() {
            let Some(at) = &fault.get_ref().0.at else { continue };
            let starts = match at.get_ref() {
                Given::Text(text) => crate::units::duration(text).ok(),
                _ => None,
            };
            if starts.is_some_and(|starts| starts >= load.measure()) {
                let problem = Problem::at(at.span(), "the fault comes after the measured window", "too late");
                let hint = format!(
                    "the window is {} long (load.measure)",
                    show_duration(load.measure())
                );
                findings.add(problem.hint(hint));
            }
        }
    }
    let Some(Given::List(names)) = file.transports.as_ref().map(serde_spanned::Spanned::get_ref) else {
        return;
    };
    for name in names {
        let Given::Text(text) = name.get_ref() else {
            continue;
        };
        let in_process = catalogue
            .transports
            .iter()
            .any(|t| t.name == *text && t.in_process);
        if in_process && (faults.is_some() || troubles.reconnects()) {
            let message = format!("{} has no connection that could break", quoted(text));
            findings
                .add(Problem::at(name.span(), message, "in-process").hint("take it out of the transports"));
        }
    }
}

/// A point of the sweep: its value, what its cells are called after, and what is particular to it.
struct Point<'c> {
    value: Option<f64>,
    suffix: String,
    condition: &'c Condition,
}

/// The sweep's axis and all cells, point by point, so that variants to be compared run next to each other.
pub(super) fn cells(
    findings: &mut Findings,
    variants: &[Variant],
    load: &LoadDraft,
    workload: &WorkloadDraft,
    (sides, troubles, compressions): (&Sides, &Troubles, &Swept<Option<Compression>>),
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
    // Settings that are not numbers make one sweep together.
    let others = [
        ("server.when-full", &sides.when_full.list),
        ("compression", &compressions.list),
        ("workload.encoding", &workload.encodings.list),
        ("carrier.tls", &sides.tls.list),
        ("carrier.resumption", &sides.resumption.list),
    ];
    let mut others = others
        .into_iter()
        .filter_map(|(key, list)| Some((key, list.clone()?)));
    let condition = troubles
        .first_list()
        .or_else(|| others.next())
        .map(|(key, list)| (Axis::Condition, key, list));
    let swept: Vec<(Axis, &str, Range<usize>)> = lists
        .into_iter()
        .filter_map(|(axis, key, list)| Some((axis, key, list.clone()?)))
        .chain(condition)
        .collect();
    if let [(_, first_key, first), (_, key, second), ..] = &swept[..] {
        let message = format!("both `{first_key}` and `{key}` are lists");
        let problem = Problem::at(second.clone(), message, "a second list");
        let hint = "a scenario sweeps one thing: make the other a single value";
        findings.add(problem.also(first.clone(), "the first list").hint(hint));
        return None;
    }
    let conditions = troubles.conditions(sides);
    let conditions = compression::multiply(conditions, compressions);
    let conditions = times(conditions, &workload.encodings, |condition, encoding| {
        condition.encoding = encoding;
        encoding_word(encoding).to_owned()
    });
    let points = conditions.len()
        * load.connections.values.len()
        * workload.payloads_bytes.values.len()
        * workload.rates.values.len();
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
    let points = |connections: u32, payload_bytes: u32, rate: f64| {
        conditions.iter().enumerate().map(move |(index, condition)| {
            let (value, suffix) = match axis {
                None => (None, String::new()),
                Some(Axis::Connections) => (Some(f64::from(connections)), format!("-c{connections}")),
                Some(Axis::PayloadBytes) => (Some(f64::from(payload_bytes)), format!("-p{payload_bytes}")),
                Some(Axis::RatePerSecond) => (Some(rate), format!("-r{rate}")),
                Some(Axis::Condition) => (Some(index as f64), format!("-{}", slug(&condition.label))),
            };
            Point {
                value,
                suffix,
                condition,
            }
        })
    };
    for connections in &load.connections.values {
        for payload_bytes in &workload.payloads_bytes.values {
            for rate in &workload.rates.values {
                for point in points(*connections, *payload_bytes, rate.per_second()) {
                    let condition = point.condition;
                    cells.extend(variants.iter().map(|variant| Cell {
                        id: format!("{}-{}{}", variant.transport, variant.carrier, point.suffix),
                        variant: variant.clone(),
                        point: point.value,
                        condition: condition.label.clone(),
                        load: load.at(*connections),
                        workload: workload.at(*rate, *payload_bytes, condition.encoding),
                        server: ServerSetup {
                            when_full: condition.when_full,
                            ..sides.server.clone()
                        },
                        carriage: CarriageSetup {
                            compression: condition.compression,
                            tls: condition.tls,
                            resumption: condition.resumption,
                            ..sides.carriage
                        },
                        target: sides.target.clone(),
                        target_tls: sides.target_tls.clone(),
                        deadlines: sides.deadlines,
                        heartbeat: condition.heartbeat,
                        tcp: troubles.tcp,
                        reconnect: condition.reconnect,
                        faults: condition.faults.clone(),
                        slow_readers: troubles.slow_readers,
                    }));
                }
            }
        }
    }
    Some((axis, cells))
}

/// A label as part of a file name.
fn slug(label: &str) -> String {
    let words = label
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
