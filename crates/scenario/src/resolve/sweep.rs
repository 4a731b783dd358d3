//! Cells: every variant at every point of the one sweep that a scenario may have.

use std::ops::Range;

use super::compression;
use super::condition::{Condition, times};
use super::load::LoadDraft;
use super::sharing::{Sharing, Way};
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
    label: String,
    condition: &'c Condition,
    ways: &'c Ways,
}

/// Ways to share connections that have one name: that of carriers that share, that of those that do not.
struct Ways {
    label: String,
    shared: Option<Way>,
    alone: Option<Way>,
}

impl Ways {
    /// The one of a variant; `None`: it has no part in this.
    fn of(&self, variant: &Variant, catalogue: &Catalogue) -> Option<&Way> {
        match catalogue.shares(&variant.carrier) {
            true => self.shared.as_ref(),
            false => self.alone.as_ref(),
        }
    }
}

/// Every way that any of the variants has, by name; that of carriers that do not share first.
fn ways(variants: &[Variant], catalogue: &Catalogue, sharing: &Sharing) -> Vec<Ways> {
    let has = |shares: bool| variants.iter().any(|v| catalogue.shares(&v.carrier) == shares);
    let mut all: Vec<Ways> = Vec::new();
    for shares in [false, true].into_iter().filter(|shares| has(*shares)) {
        for way in sharing.ways(shares) {
            let at = all.iter().position(|ways| ways.label == way.label);
            let at = at.unwrap_or_else(|| {
                all.push(Ways {
                    label: way.label.clone(),
                    shared: None,
                    alone: None,
                });
                all.len() - 1
            });
            let part = if shares {
                &mut all[at].shared
            } else {
                &mut all[at].alone
            };
            *part = Some(way);
        }
    }
    all
}

/// The sweep's axis and all cells, point by point, so that variants to be compared run next to each other.
pub(super) fn cells(
    findings: &mut Findings,
    (variants, catalogue): (&[Variant], &Catalogue),
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
        .or_else(|| sides.sharing.first_list())
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
    let ways = ways(variants, catalogue, &sides.sharing);
    let points = conditions.len()
        * ways.len()
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
        let pairs = conditions.iter().flat_map(|c| ways.iter().map(move |w| (c, w)));
        pairs.enumerate().map(move |(index, (condition, ways))| {
            let label = match (&condition.label, ways) {
                (label, Ways { label: way, .. }) if label.is_empty() || way.is_empty() => {
                    format!("{label}{way}")
                }
                (label, Ways { label: way, .. }) => format!("{label}, {way}"),
            };
            let (value, suffix) = match axis {
                None => (None, String::new()),
                Some(Axis::Connections) => (Some(f64::from(connections)), format!("-c{connections}")),
                Some(Axis::PayloadBytes) => (Some(f64::from(payload_bytes)), format!("-p{payload_bytes}")),
                Some(Axis::RatePerSecond) => (Some(rate), format!("-r{rate}")),
                Some(Axis::Condition) => (Some(index as f64), format!("-{}", slug(&label))),
            };
            Point {
                value,
                suffix,
                label,
                condition,
                ways,
            }
        })
    };
    for connections in &load.connections.values {
        for payload_bytes in &workload.payloads_bytes.values {
            for rate in &workload.rates.values {
                for point in points(*connections, *payload_bytes, rate.per_second()) {
                    let condition = point.condition;
                    let taking_part = variants
                        .iter()
                        .filter_map(|variant| Some((variant, point.ways.of(variant, catalogue)?)));
                    cells.extend(taking_part.map(|(variant, way)| Cell {
                        id: format!("{}-{}{}", variant.transport, variant.carrier, point.suffix),
                        variant: variant.clone(),
                        point: point.value,
                        condition: point.label.clone(),
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
                            ..way.setup(sides.carriage)
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
