//! `[load]`: how many connections, how they arrive, for how long.

use std::ops::Range;
use std::time::Duration;

use serde_spanned::Spanned;

use super::values::{Findings, LONGEST, Swept};
use super::workload::Kind;
use crate::diagnose::Problem;
use crate::plan::{Arrival, Load, Stage};
use crate::raw::{ArrivalField, ArrivalTable, Given, LoadSection, StageTable, Table};
use crate::units::show_count;

const MOST_CONNECTIONS: u64 = 1_000_000;
const MOST_REPEATS: u64 = 1_000;
const MOST_THREADS: u64 = 1_024;
const MOST_STAGES: usize = 100;
/// The largest integer that TOML promises to keep.
const LARGEST_SEED: u64 = i64::MAX as u64;

const DEFAULT_ARRIVAL: Arrival = Arrival::Over(Duration::from_secs(1));
const DEFAULT_WARMUP: Duration = Duration::from_secs(2);
const DEFAULT_MEASURE: Duration = Duration::from_secs(10);
const DEFAULT_DRAIN: Duration = Duration::from_secs(3);
const DEFAULT_REPEATS: u32 = 3;
const DEFAULT_SEED: u64 = 1;
const DEFAULT_KERNEL_STAMPS: f64 = 1.0;

/// `[load]`, checked; the number of connections may still be swept.
#[derive(Debug)]
pub(super) struct LoadDraft {
    pub(super) connections: Swept<u32>,
    arrival: Arrival,
    warmup: Duration,
    measure: Duration,
    drain: Duration,
    workers: Option<u32>,
    kernel_stamps: f64,
    pub(super) repeats: u32,
    pub(super) seed: u64,
}

impl LoadDraft {
    /// Length of the measured window.
    pub(super) fn measure(&self) -> Duration {
        self.measure
    }

    /// The load at one point of a sweep.
    pub(super) fn at(&self, connections: u32) -> Load {
        Load {
            connections,
            arrival: self.arrival.clone(),
            warmup: self.warmup,
            measure: self.measure,
            drain: self.drain,
            workers: self.workers,
            kernel_stamps: self.kernel_stamps,
        }
    }
}

/// Reads `[load]`.
pub(super) fn load(
    findings: &mut Findings,
    section: Option<&Spanned<Table<LoadSection>>>,
    kind: Option<Kind>,
) -> Option<LoadDraft> {
    let Some(section) = section else {
        findings.missing(None, "`[load]`", "[load] with connections = 1000");
        return None;
    };
    let (place, section) = (section.span(), &section.get_ref().0);
    let connections = match &section.connections {
        Some(value) => findings.swept(value, "load.connections", u32::eq, connections),
        None => {
            findings.missing(Some(place), "`load.connections`", "connections = 1000");
            None
        }
    };
    let arrival = arrival(findings, section.arrival.as_ref(), kind);
    let warmup = section.warmup.as_ref().and_then(|value| {
        // The one time that may be nothing: a scenario about cold starts has no warm-up.
        findings.duration(value, "load.warmup", Duration::ZERO, "")
    });
    let measure = findings.duration_or(&section.measure, "load.measure", DEFAULT_MEASURE);
    let drain = findings.duration_or(&section.drain, "load.drain", DEFAULT_DRAIN);
    let workers = findings.count_u32(&section.workers, "load.workers", 1..=MOST_THREADS);
    let repeats = findings.count_u32(&section.repeats, "load.repeats", 1..=MOST_REPEATS);
    let seed = section
        .seed
        .as_ref()
        .and_then(|value| findings.count(value, "load.seed", 0..=LARGEST_SEED));

    let kernel_stamps = section
        .kernel_stamps
        .as_ref()
        .and_then(|value| findings.share(value, "load.kernel-stamps"));

    if let (Some(connections), Some((place, arrival))) = (&connections, &arrival) {
        fits(findings, place, arrival, connections);
    }
    Some(LoadDraft {
        connections: connections?,
        arrival: match arrival {
            Some((_, arrival)) => arrival,
            // Opens follow the workload's rate, there is no ramp before it.
            None if kind == Some(Kind::Connect) => Arrival::AtOnce,
            None => DEFAULT_ARRIVAL,
        },
        warmup: warmup.unwrap_or(DEFAULT_WARMUP),
        measure,
        drain,
        workers,
        kernel_stamps: kernel_stamps.unwrap_or(DEFAULT_KERNEL_STAMPS),
        repeats: repeats.unwrap_or(DEFAULT_REPEATS),
        seed: seed.unwrap_or(DEFAULT_SEED),
    })
}

fn connections(findings: &mut Findings, value: &Spanned<Given>) -> Option<u32> {
    let count = findings.count(value, "load.connections", 1..=MOST_CONNECTIONS)?;
    u32::try_from(count).ok()
}

fn arrival(
    findings: &mut Findings,
    field: Option<&Spanned<ArrivalField>>,
    kind: Option<Kind>,
) -> Option<(Range<usize>, Arrival)> {
    let field = field?;
    let span = field.span();
    if kind == Some(Kind::Connect) {
        let message = "`load.arrival` has no meaning for a `connect` workload";
        let hint = "leave it out: connections are opened at workload.rate";
        findings.add(Problem::at(span, message, "not for `connect`").hint(hint));
        return None;
    }
    let arrival = match field.get_ref() {
        ArrivalField::Word(word) => findings
            .word(word, span.clone(), "load.arrival", &[("at-once", ())])
            .map(|()| Arrival::AtOnce),
        ArrivalField::Table(table) => ramp(findings, &span, table),
    };
    arrival.map(|arrival| (span, arrival))
}

fn ramp(findings: &mut Findings, span: &Range<usize>, table: &ArrivalTable) -> Option<Arrival> {
    match table {
        ArrivalTable {
            over: Some(over),
            rate: None,
            stages: None,
        } => {
            let least = Duration::from_nanos(1);
            let hint = r#"to open all at the same instant, write arrival = "at-once""#;
            findings
                .duration(over, "load.arrival.over", least, hint)
                .map(Arrival::Over)
        }
        ArrivalTable {
            over: None,
            rate: Some(rate),
            stages: None,
        } => findings.rate(rate, "load.arrival.rate").map(Arrival::Rate),
        ArrivalTable {
            over: None,
            rate: None,
            stages: Some(stages),
        } => {
            let (place, stages) = (stages.span(), stages.get_ref());
            if stages.is_empty() || stages.len() > MOST_STAGES {
                let problem = Problem::at(
                    place,
                    "`load.arrival.stages` has no fit length",
                    "a list of stages",
                );
                findings.add(problem.hint(format!("from 1 to {MOST_STAGES} stages")));
                return None;
            }
            let stages: Vec<Option<Stage>> =
                stages.iter().map(|stage| self::stage(findings, stage)).collect();
            stages
                .into_iter()
                .collect::<Option<Vec<_>>>()
                .map(Arrival::Stages)
        }
        ArrivalTable {
            over: None,
            rate: None,
            stages: None,
        } => {
            let example = r#"over = "5s", rate = "500/s" or stages = [...]"#;
            findings.missing(Some(span.clone()), "the key of `load.arrival`", example);
            None
        }
        _ => {
            let problem = Problem::at(span.clone(), "`load.arrival` needs exactly one key", "one key");
            findings.add(problem.hint(r#"{ over = "5s" }, { rate = "500/s" }, or { stages = [...] }"#));
            None
        }
    }
}

fn stage(findings: &mut Findings, stage: &Spanned<Table<StageTable>>) -> Option<Stage> {
    let StageTable {
        connections: Some(connections),
        over: Some(over),
    } = &stage.get_ref().0
    else {
        let example = r#"both keys, as in { connections = 100, over = "1s" }"#;
        findings.missing(Some(stage.span()), "a key of `load.arrival.stages`", example);
        return None;
    };
    let connections = findings.count(
        connections,
        "load.arrival.stages.connections",
        1..=MOST_CONNECTIONS,
    );
    let over = findings.duration(over, "load.arrival.stages.over", Duration::ZERO, "");
    Some(Stage {
        connections: u32::try_from(connections?).ok()?,
        over: over?,
    })
}

/// An arrival has to bring exactly the connections that the load names, in a bearable time.
fn fits(findings: &mut Findings, place: &Range<usize>, arrival: &Arrival, connections: &Swept<u32>) {
    if let Arrival::Stages(stages) = arrival {
        let sum: u64 = stages.iter().map(|stage| u64::from(stage.connections)).sum();
        if let Some(other) = connections.values.iter().find(|count| u64::from(**count) != sum) {
            let (sum, other) = (show_count(sum), show_count((*other).into()));
            let label = format!("the stages open {sum}, `load.connections` says {other}");
            let problem = Problem::at(
                place.clone(),
                "the stages do not add up to the connections",
                label,
            );
            let hint = match connections.list {
                Some(_) => "stages cannot be swept: use { over = … } or { rate = … }".to_owned(),
                None => format!("write connections = {}", sum.replace(',', "_")),
            };
            findings.add(problem.hint(hint));
            return;
        }
    }
    let most = connections.values.iter().max().copied().unwrap_or_default();
    if arrival.duration(most) > LONGEST {
        let problem = Problem::at(
            place.clone(),
            "the connections arrive too slowly",
            "takes more than 24h",
        );
        findings.add(problem.hint("a higher rate, or shorter stages"));
    }
}
