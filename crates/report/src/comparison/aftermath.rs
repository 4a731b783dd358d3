//! What broke and what became of it: how each side noticed, what came back, and what slow sessions cost. Only runs in
//! which something was to break have any of it.

use std::collections::{BTreeMap, BTreeSet};

use pushmark_measure::{Detection, FaultOutcome, Histogram, TrialSummary};
use pushmark_results::plan::Axis;
use pushmark_results::run::Run;
use serde::Serialize;

use super::measures_of_faults::{RECOVERY, SLOW};
use super::rows::{finished, rows_of};
use super::{Column, Row};
use crate::escape::{shorten, visible};
use crate::plan_words;

/// The longest reason, outcome or kind that is shown whole.
const LONGEST_WORD: usize = 32;

/// What broke at one point of a comparison, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Aftermath {
    /// Sessions were cut off, or lost their peer, on purpose. What they never got is in no latency, and nobody is ahead
    /// for having fewer sessions to serve.
    pub interrupted: bool,
    /// How each fault was noticed; those that are nobody's death are left out.
    pub faults: Vec<FaultRow>,
    /// When each variant's sessions try again, in words; none where nothing was to come back.
    pub policies: Vec<Option<String>>,
    /// What came back, measure by measure.
    pub recovery: Vec<Row>,
    /// Attempts to come back, by outcome.
    pub attempts: Vec<Attempts>,
    /// What sessions cost that were slow on purpose, measure by measure.
    pub slow: Vec<Row>,
}

/// One fault, and how both sides of every variant noticed it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultRow {
    /// Its kind: `fin`, `blackhole`, …
    pub kind: String,
    /// Its place among the faults of a trial.
    pub index: usize,
    /// When, as `at 3 s`; empty unless a trial has several of this kind.
    pub at: String,
    /// The server is what died, so that it has nothing to notice.
    pub server_died: bool,
    /// The clients of each variant.
    pub client: Vec<Option<Noticed>>,
    /// The server of each variant.
    pub server: Vec<Option<Noticed>>,
}

/// How one side of one variant noticed a fault, over all repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noticed {
    /// Sessions that the fault hit.
    pub affected: u64,
    /// Of those, on which this side noticed.
    pub detected: u64,
    /// Of those, on which it did not, for as long as they were watched.
    pub undetected: u64,
    /// How long they were watched, in seconds: the least of the repeats.
    pub watched_s: f64,
    /// From the fault to the noticing, in nanoseconds; none when none did.
    pub p50_ns: Option<u64>,
    /// The 99th percentile.
    pub p99_ns: Option<u64>,
    /// The slowest.
    pub max_ns: Option<u64>,
    /// What told them.
    pub by_reason: BTreeMap<String, u64>,
}

/// Attempts that ended in one way, summed over repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempts {
    /// How: `established`, `connect: refused`, …
    pub outcome: String,
    /// One for each variant; none where nothing was to come back.
    pub totals: Vec<Option<u64>>,
}

impl Aftermath {
    /// What became of the faults of these columns.
    pub(super) fn of(run: &Run, columns: &[Column]) -> Self {
        let trials = |column: &Column| -> Vec<&TrialSummary> {
            let cell = column.cell.into_iter();
            cell.flat_map(|c| finished(run, c)).map(|(_, s)| s).collect()
        };
        let trials: Vec<Vec<&TrialSummary>> = columns.iter().map(trials).collect();
        let slow = trials.iter().flatten().any(|s| s.slow.is_some());
        let recovery = trials.iter().flatten().any(|s| s.recovery.is_some());
        Self {
            interrupted: trials.iter().flatten().any(|s| is_interrupted(s)),
            faults: faults(run, columns, &trials),
            policies: if recovery { policies(&trials) } else { Vec::new() },
            recovery: if recovery {
                rows_of(run, columns, RECOVERY)
            } else {
                Vec::new()
            },
            attempts: attempts(&trials),
            slow: if slow {
                rows_of(run, columns, SLOW)
            } else {
                Vec::new()
            },
        }
    }

    /// Whether nothing was to break here.
    pub fn is_empty(&self) -> bool {
        !self.interrupted && self.faults.is_empty() && self.recovery.is_empty() && self.slow.is_empty()
    }

    /// The row of measure `key`.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.recovery.iter().chain(&self.slow).find(|r| r.key == key)
    }
}

/// Whether a fault took sessions away from this trial, or their peer from them.
fn is_interrupted(summary: &TrialSummary) -> bool {
    let hit = |d: &Option<Detection>| d.as_ref().is_some_and(|d| d.affected > 0);
    summary.recovery.as_ref().is_some_and(|r| r.cut_off > 0)
        || summary.faults.iter().any(|f| hit(&f.client) || hit(&f.server))
}

fn faults(run: &Run, columns: &[Column], trials: &[Vec<&TrialSummary>]) -> Vec<FaultRow> {
    // In the order of the plan; a kind may come twice in a trial.
    let mut keys: BTreeSet<(usize, &str)> = BTreeSet::new();
    for summary in trials.iter().flatten() {
        let deaths = summary.faults.iter().enumerate();
        keys.extend(
            deaths
                .filter(|(_, f)| f.client.is_some() || f.server.is_some())
                .map(|(i, f)| (i, f.kind.as_str())),
        );
    }
    let several = |kind: &str| keys.iter().filter(|(_, k)| *k == kind).count() > 1;
    let row = |(index, kind): &(usize, &str)| {
        let of = |summaries: &[&TrialSummary]| -> Vec<FaultOutcome> {
            let faults = summaries.iter().filter_map(|s| s.faults.get(*index));
            faults.filter(|f| f.kind == *kind).cloned().collect()
        };
        let outcomes: Vec<Vec<FaultOutcome>> = trials.iter().map(|s| of(s)).collect();
        let planned = columns
            .iter()
            .find_map(|c| run.manifest.plan.cells.get(c.cell?)?.faults.get(*index));
        let planned = planned.filter(|f| f.kind.as_str() == *kind);
        let at = planned.map(|f| f.at);
        let at = at.or_else(|| outcomes.iter().flatten().next().map(|f| f.onset));
        let side = |read: fn(&FaultOutcome) -> Option<&Detection>| {
            let noticed = |o: &Vec<FaultOutcome>| noticed(&o.iter().filter_map(read).collect::<Vec<_>>());
            outcomes.iter().map(noticed).collect()
        };
        FaultRow {
            kind: word(kind),
            index: *index,
            at: match at {
                Some(at) if several(kind) => format!("at {}", plan_words::duration(at)),
                _ => String::new(),
            },
            server_died: planned.is_some_and(|f| f.kind.takes_the_server()),
            client: side(|f| f.client.as_ref()),
            server: side(|f| f.server.as_ref()),
        }
    };
    keys.iter().map(row).collect()
}

fn noticed(repeats: &[&Detection]) -> Option<Noticed> {
    let watched = repeats.iter().map(|d| d.watched.as_secs_f64());
    let watched_s = watched.reduce(f64::min)?;
    let mut time = Histogram::new();
    let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
    let (mut affected, mut undetected) = (0_u64, 0_u64);
    for detection in repeats {
        time.merge(&detection.time);
        affected = affected.saturating_add(detection.affected);
        undetected = undetected.saturating_add(detection.undetected);
        for (reason, count) in &detection.by_reason {
            let sum = by_reason.entry(word(reason)).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    Some(Noticed {
        affected,
        detected: time.count(),
        undetected,
        watched_s,
        p50_ns: time.quantile(0.5),
        p99_ns: time.quantile(0.99),
        max_ns: time.max(),
        by_reason,
    })
}

/// A word of the files, as it may be shown, and no longer than a table's label.
fn word(text: &str) -> String {
    shorten(&visible(text), LONGEST_WORD)
}

/// Each variant's policy. Its repeats share one.
fn policies(trials: &[Vec<&TrialSummary>]) -> Vec<Option<String>> {
    let policy = |summaries: &Vec<&TrialSummary>| {
        let first = summaries.iter().find_map(|s| s.recovery.as_ref());
        first.map(|r| visible(&r.policy))
    };
    trials.iter().map(policy).collect()
}

/// Outcomes of attempts: the successful first, then by name.
fn attempts(trials: &[Vec<&TrialSummary>]) -> Vec<Attempts> {
    let outcomes = trials.iter().flatten().filter_map(|s| s.recovery.as_ref());
    let names: BTreeSet<&String> = outcomes.flat_map(|r| r.attempts.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|n| n.as_str() != "established");
    let total = |summaries: &[&TrialSummary], name: &String| {
        let counts = summaries.iter().filter_map(|s| s.recovery.as_ref());
        counts
            .map(|r| r.attempts.get(name).copied().unwrap_or(0))
            .reduce(u64::saturating_add)
    };
    let line = |name: &String| Attempts {
        outcome: word(name),
        totals: trials.iter().map(|s| total(s, name)).collect(),
    };
    names.into_iter().map(line).collect()
}

/// What a condition says beside the kind of fault: `no heartbeat` of `fin, no heartbeat`.
pub(crate) fn beside_the_kind(condition: &str, kind: &str) -> String {
    let is_kind = |part: &&str| *part == kind || part.strip_prefix(kind).is_some_and(|p| p.starts_with(' '));
    let parts = condition.split(", ").filter(|p| !is_kind(p) && !p.is_empty());
    parts.collect::<Vec<_>>().join(", ")
}

/// A fault's name in a table, together with where it happened: `fin at 3 s, no heartbeat`.
pub(crate) fn fault_name(fault: &FaultRow, axis: Option<Axis>, place: &str) -> String {
    let mut name = fault.kind.clone();
    if !fault.at.is_empty() {
        name.push_str(&format!(" {}", fault.at));
    }
    let rest = match axis {
        Some(Axis::Condition) => beside_the_kind(place, &fault.kind),
        _ => place.to_owned(),
    };
    if !rest.is_empty() {
        name.push_str(&format!(", {rest}"));
    }
    name
}
