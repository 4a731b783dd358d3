//! Evidence: what both arms did, block by block, and the way from there to a verdict at each look.
//!
//! Everything a verdict rests on is here as plain data, so that a gate can be judged again from its file: the figures of
//! both sides in each block, what the sensors saw, and the metrics as they were chosen at the first look. A promise of
//! delivery is no figure: one message that the candidate loses and the baseline does not is enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::difference::{Metric, Role, Row, Table};
use super::judge::{JudgeError, Judgement, LEAST_PRESENT, Outcome, judge};
use super::plan::Plan;
use super::sampling::{Sampling, median_of_seconds, quantile_rule, samples_needed};
use super::trouble;
use super::validity::{Lateness, Machine, SensorLimits, Sensors, Validity};
use crate::histogram::Histogram;
use crate::summary::TrialSummary;

/// What one arm did in one block, as its trial saw it.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// What the trial came to.
    pub summary: TrialSummary,
    /// The server gave its own counts at the end.
    pub server_told: bool,
    /// Messages that the schedule had for the measured window (push).
    pub planned: Option<u64>,
    /// Share of the host's processor time that went to this arm's generator and server.
    pub trial_share: Option<f64>,
    /// Latency over the measured window, in nanoseconds.
    pub latency: Histogram,
    /// Samples and p99 of each second of it.
    pub seconds: Vec<(u64, f64)>,
    /// Connect times, in nanoseconds.
    pub connect_time: Histogram,
    /// Its trial was run alone, before or after the other's, and not in turns with it.
    pub alone: bool,
}

/// The latency figures, by name and quantile.
const LATENCIES: [(&str, f64); 4] = [
    ("latency_p50", 0.5),
    ("latency_p90", 0.9),
    (P99, 0.99),
    ("latency_p999", 0.999),
];
/// Gated as the median over seconds of each second's p99.
const P99: &str = "latency_p99";
const RATE: &str = "deliveries_per_second";
const LOSS: &str = "loss";
const CPU: &str = "server_cpu_us_per_delivery";
/// Growth of the server's memory for each connection.
pub const MEMORY: &str = "server_rss_bytes_per_session";
const CONNECT: &str = "connect_time_p50";

/// A candidate that loses so large a share in one block, where the baseline loses nothing in any, has failed: no statistics
/// of ten blocks are needed, nor would those see it.
const FAILED_SHARE: f64 = 0.5;
/// Half of fewer is no failure by itself: of one session, one is all.
const LEAST_FAILED_OF: u64 = 10;

/// A metric's name as people read it.
pub fn words(name: &str) -> &str {
    match name {
        "latency_p50" => "latency p50",
        "latency_p90" => "latency p90",
        P99 => "latency p99",
        "latency_p999" => "latency p99.9",
        RATE => "delivery rate",
        CPU => "CPU per delivery",
        MEMORY => "memory per session",
        CONNECT => "connect time p50",
        name => trouble::words(name).unwrap_or(name),
    }
}

/// What a server promises without saying so, counted where it was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promises {
    /// Deliveries that did not happen, beyond what the server itself says it dropped.
    pub lost: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// Arrivals out of order.
    pub reordered: u64,
    /// Arrivals of damaged messages, or of none of ours.
    pub corrupt: u64,
    /// Sessions that ended though nobody asked for it.
    pub cut_off: u64,
    /// Connections that did not come to be.
    pub refused: u64,
}

impl Promises {
    /// With the words for each.
    pub fn each(self) -> [(&'static str, u64); 6] {
        [
            ("deliveries lost without a word from the server", self.lost),
            ("messages delivered twice", self.duplicated),
            ("messages delivered out of order", self.reordered),
            ("messages damaged", self.corrupt),
            ("sessions cut off", self.cut_off),
            ("connections refused", self.refused),
        ]
    }
}

/// One arm's figures of one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// By the metric's name. What could not be had is not there.
    pub values: BTreeMap<String, f64>,
    /// Latency samples.
    pub samples: u64,
    /// There were enough samples a second for its p99.
    pub seconds_suffice: bool,
    /// Of how many a share is, by the share's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares_of: BTreeMap<String, u64>,
    /// What was promised and not kept.
    pub promises: Promises,
}

impl Figures {
    /// The figures of one side.
    pub fn of(side: &Side) -> Self {
        let promises = promises(&side.summary);
        if let Some((values, shares_of)) = trouble::figures(side) {
            return Self {
                values,
                shares_of,
                promises,
                ..Self::default()
            };
        }
        let (s, mut values) = (&side.summary, BTreeMap::new());
        let mut put = |name: &str, value: Option<f64>| {
            if let Some(value) = value.filter(|v| v.is_finite()) {
                values.insert(name.to_owned(), value);
            }
        };
        for (name, q) in LATENCIES.into_iter().filter(|(name, _)| *name != P99) {
            put(name, side.latency.quantile(q).map(|ns| ns as f64));
        }
        let (p99, rule) = median_of_seconds(0.99, &side.seconds);
        put(P99, p99);
        put(CONNECT, side.connect_time.quantile(0.5).map(|ns| ns as f64));
        let b = &s.books;
        if s.expects_messages {
            put(RATE, Some(s.deliveries_per_second()));
            put(LOSS, (b.expected > 0).then(|| b.lost as f64 / b.expected as f64));
            // A server that tells nothing tells zero.
            let cpu = s.server.cpu_us_per_delivery(b.delivered_once);
            put(CPU, cpu.filter(|us| *us > 0.0));
        }
        // Where sessions come and go, growth is no session's.
        let sessions = s.counters.established.min(s.sessions_planned);
        let told = s.expects_messages && s.server.rss_after_bytes.is_some_and(|bytes| bytes > 0);
        put(MEMORY, s.server.rss_bytes_per_session(sessions).filter(|_| told));
        Self {
            values,
            samples: side.latency.count(),
            seconds_suffice: rule == Sampling::Gated,
            shares_of: [(LOSS.to_owned(), b.expected)].into(),
            promises,
        }
    }
}

/// What was not kept. What a fault takes with it is no broken promise; but no fault damages a message, save the one that
/// is made for it.
fn promises(s: &TrialSummary) -> Promises {
    let b = &s.books;
    let damaged = b.corrupt + b.foreign;
    if trouble::breaks(s) {
        let meant = s.faults.iter().any(|f| f.kind == trouble::CORRUPT);
        return Promises {
            corrupt: if meant { 0 } else { damaged },
            ..Promises::default()
        };
    }
    // A server may end sessions that do not read.
    let reads = |count: u64| if s.slow.is_some() { 0 } else { count };
    Promises {
        lost: b.lost.saturating_sub(b.lost_dropped_by_server),
        duplicated: b.duplicated,
        reordered: b.reordered,
        corrupt: damaged,
        cut_off: reads(s.sessions_ended_early),
        refused: reads(s.counters.failed),
    }
}

/// One block of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// What the coin said.
    pub candidate_first: bool,
    /// What the sensors saw.
    pub sensors: Sensors,
    /// One arm.
    pub baseline: Figures,
    /// The other.
    pub candidate: Figures,
}

impl Block {
    /// The block that both sides make.
    pub fn of(candidate_first: bool, baseline: &Side, candidate: &Side) -> Self {
        Self {
            candidate_first,
            sensors: sensors(baseline, candidate),
            baseline: Figures::of(baseline),
            candidate: Figures::of(candidate),
        }
    }
}

/// What the sensors saw of both.
fn sensors(baseline: &Side, candidate: &Side) -> Sensors {
    let (b, c) = (&baseline.summary, &candidate.summary);
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    let larger = |f: &dyn Fn(&TrialSummary) -> Option<f64>| match (f(b), f(c)) {
        (Some(b), Some(c)) => Some(b.max(c)),
        (one, other) => one.or(other),
    };
    let missed = |s: &TrialSummary| {
        let own = s.books.not_sent.saturating_sub(s.held_back);
        share(own, s.books.scheduled).filter(|_| s.generator_sends)
    };
    // What a fault takes with it was never to be sent.
    let whole = |s: &TrialSummary| !trouble::breaks(s);
    let missed = |s: &TrialSummary| missed(s).filter(|_| whole(s));
    let others = if baseline.alone && candidate.alone {
        larger(&|s| s.others_busy_share)
    } else {
        // What each trial took for others' is the other trial's, in part.
        b.others_busy_share
            .zip(candidate.trial_share)
            .map(|(others, beside)| (others - beside).max(0.0))
    };
    Sensors {
        baseline_achieved: share(b.books.sent, b.books.scheduled).filter(|_| whole(b)),
        generator_missed: larger(&missed),
        sends: [baseline, candidate].into_iter().filter_map(sends).collect(),
        loops: [baseline, candidate].into_iter().filter_map(loops).collect(),
        others_cpu: others,
        steal: larger(&|s| s.host_steal_share),
    }
}

/// What an arm timed in this block, at a quantile: messages, else connecting; where something breaks, noticing and coming
/// back.
fn timed_ns(side: &Side, quantile: f64) -> Option<u64> {
    if trouble::breaks(&side.summary) {
        return trouble::timed_ns(&side.summary);
    }
    let connecting = || side.connect_time.quantile(quantile);
    side.latency.quantile(quantile).or_else(connecting)
}

/// How late an arm's generator sent (echo).
fn sends(side: &Side) -> Option<Lateness> {
    let late_ns = side.summary.own_send_delay_p99_ns;
    Some(Lateness {
        quantile: 0.99,
        late_ns: late_ns.filter(|_| side.summary.generator_sends)?,
        latency_ns: timed_ns(side, 0.5),
    })
}

/// How late an arm's loops came round, at the quantile that the looks at them suffice for.
fn loops(side: &Side) -> Option<Lateness> {
    let s = &side.summary;
    let few = |looks| quantile_rule(0.99, looks) != Sampling::Gated;
    let (quantile, late_ns) = match s.loop_looks.is_some_and(few) {
        true => (0.9, s.loop_delay_p90_ns?),
        false => (0.99, s.loop_delay_p99_ns?),
    };
    Some(Lateness {
        quantile,
        late_ns,
        latency_ns: timed_ns(side, quantile),
    })
}

/// A server that was told to keep to its slots and published more than they hold, in words.
pub fn ignores_slots(side: &Side) -> Option<String> {
    let (planned, sent) = (side.planned?, side.summary.books.sent);
    (sent > planned + planned / 100 + 2).then(|| {
        format!(
            "it published {sent} messages where its turns held {planned}: it does not know slots, which older versions do not"
        )
    })
}

/// All blocks of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The scenario.
    pub scenario: String,
    /// What is judged, chosen at the first look.
    pub metrics: Vec<Metric>,
    /// In order.
    pub blocks: Vec<Block>,
}

impl Course {
    /// Chooses what is judged, from the blocks there are: what both sides have, by the rules of sampling. Gives what is
    /// left out or only told, in words.
    pub fn choose_metrics(&mut self) -> Vec<String> {
        let (s, mut notes) = (self.scenario.clone(), Vec::new());
        let mut all: Vec<Metric> = LATENCIES
            .into_iter()
            .map(|(name, q)| Metric::latency(&s, name, q))
            .collect();
        all.extend([
            Metric::time(&s, CONNECT),
            Metric::rate(&s, RATE),
            Metric::fraction(&s, LOSS),
            Metric::resource(&s, CPU),
            Metric::resource(&s, MEMORY),
        ]);
        let sides = || self.blocks.iter().flat_map(|b| [&b.baseline, &b.candidate]);
        if sides().any(|f| trouble::are_of_faults(&f.values)) {
            all = trouble::metrics(&s);
            notes.push(format!(
                "{s}: it breaks something on purpose, so noticing and coming back are compared; latency, rate, CPU and memory are \
                 for scenarios that break nothing, or nothing that ends sessions"
            ));
            all.retain(|metric| match self.told(&metric.name) {
                (true, true) => true,
                (false, false) => false,
                one_side => keeps(one_side, metric, &s, &mut notes),
            });
            self.metrics = all;
            return notes;
        }
        let least = sides().map(|f| f.samples).min().unwrap_or(0);
        let talks = sides().any(|f| f.values.contains_key(RATE));
        let suffice = |b: &Block| b.baseline.seconds_suffice && b.candidate.seconds_suffice;
        let enough = self.blocks.iter().filter(|b| suffice(b)).count() as f64
            >= LEAST_PRESENT * self.blocks.len() as f64;
        all.retain_mut(|metric| {
            let name = metric.name.clone();
            if name == CONNECT && !talks {
                // All that connections are opened for.
                metric.role = Role::Required;
            }
            let told = self.told(&name);
            // Without messages there is nothing to say of them.
            let expected = talks || name == CONNECT;
            if told != (true, true) && !(expected && keeps(told, metric, &s, &mut notes)) {
                return false;
            }
            let quantile = LATENCIES.iter().find(|(latency, _)| *latency == name);
            if let Some((_, q)) = quantile.filter(|_| metric.role != Role::Advisory) {
                let thin = match name == P99 {
                    true if enough => None,
                    true => Some("a second".to_owned()),
                    false => match quantile_rule(*q, least) {
                        Sampling::Gated => None,
                        Sampling::ReportOnly { samples, .. } => {
                            Some(format!("a block, and there are {samples}"))
                        }
                    },
                };
                if let Some(thin) = thin {
                    metric.role = Role::Advisory;
                    notes.push(format!(
                        "{s}: {} decides nothing: it needs {} samples {thin}",
                        words(&name),
                        samples_needed(*q).unwrap_or(0),
                    ));
                }
            }
            true
        });
        self.metrics = all;
        notes
    }

    /// Whether the baseline tells a metric in any block, and the candidate.
    fn told(&self, name: &str) -> (bool, bool) {
        let has = |f: fn(&Block) -> &Figures| self.blocks.iter().any(|b| f(b).values.contains_key(name));
        (has(|b| &b.baseline), has(|b| &b.candidate))
    }

    /// Gives a metric other limits than the built-in ones; false when it is not among those that are judged.
    pub fn limit(&mut self, name: &str, floor: f64, budget: f64) -> bool {
        let metric = self.metrics.iter_mut().find(|m| m.name == name);
        metric.map(|m| (m.floor, m.budget) = (floor, budget)).is_some()
    }

    /// The differences, one row for each metric.
    pub fn rows(&self) -> Vec<Row> {
        let difference = |metric: &Metric, block: &Block| {
            let (b, c) = (&block.baseline, &block.candidate);
            let thin = metric.name == P99 && metric.role != Role::Advisory;
            if thin && !(b.seconds_suffice && c.seconds_suffice) {
                return None;
            }
            let (b, c) = (b.values.get(&metric.name)?, c.values.get(&metric.name)?);
            metric.kind.difference(*b, *c).ok()
        };
        let row = |metric: &Metric| Row {
            metric: metric.clone(),
            d: self.blocks.iter().map(|b| difference(metric, b)).collect(),
        };
        self.metrics.iter().map(row).collect()
    }

    /// What the candidate did not keep and the baseline did, in words; also in a block that the sensors leave out, and then with
    /// what they saw: a machine that stands still for longer than the drain can lose messages by itself.
    pub fn broken(&self, limits: &SensorLimits) -> Vec<String> {
        let none = Promises::default().each();
        let mut found = Vec::new();
        for (place, (what, _)) in none.into_iter().enumerate() {
            let of = |f: &Figures| f.promises.each()[place].1;
            let kept = self.blocks.iter().all(|b| of(&b.baseline) == 0);
            let broken: Vec<usize> = (0..self.blocks.len())
                .filter(|k| of(&self.blocks[*k].candidate) > 0)
                .collect();
            if let (true, Some(first)) = (kept, broken.first()) {
                let count: u64 = self.blocks.iter().map(|b| of(&b.candidate)).sum();
                let seen = self.blocks[*first]
                    .sensors
                    .against(Machine::Fit, limits)
                    .join(", ");
                let seen = match seen.as_str() {
                    "" => String::new(),
                    seen => format!(" (in that block {seen})"),
                };
                found.push(format!(
                    "{}: {what}: {count} by the candidate, first in block {}, none by the baseline{seen}",
                    self.scenario,
                    first + 1
                ));
            }
        }
        for name in [LOSS].into_iter().chain(trouble::SHARES) {
            let of = |f: &Figures| f.values.get(name).copied();
            let spared = self.blocks.iter().all(|b| of(&b.baseline) == Some(0.0));
            let many = |f: &Figures| f.shares_of.get(name).is_none_or(|of| *of >= LEAST_FAILED_OF);
            let failed =
                |b: &Block| of(&b.candidate).filter(|share| *share >= FAILED_SHARE && many(&b.candidate));
            let first = self
                .blocks
                .iter()
                .enumerate()
                .find_map(|(k, b)| Some((k, failed(b)?)));
            if let (true, Some((block, share))) = (spared, first) {
                found.push(format!(
                    "{}: {}: {:.0} % with the candidate in block {}, none with the baseline",
                    self.scenario,
                    words(name),
                    100.0 * share,
                    block + 1
                ));
            }
        }
        found
    }
}

/// Says who does not tell a metric, and whether it is judged all the same: what has to be proven, and the baseline tells, is
/// not proven by a candidate that keeps silent.
fn keeps(told: (bool, bool), metric: &Metric, scenario: &str, notes: &mut Vec<String>) -> bool {
    let name = words(&metric.name);
    let who = match told {
        (true, _) => "the candidate does not tell it",
        (false, true) => "the baseline does not tell it",
        (false, false) => "neither side tells it",
    };
    let unproven = told.0 && metric.role == Role::Required;
    notes.push(match unproven {
        true => format!("{scenario}: {name} cannot be proven: {who}, and the baseline does"),
        false => format!("{scenario}: {name} is left out: {who}"),
    });
    unproven
}

/// All differences, block by block, before any block is dropped.
pub fn table(courses: &[Course]) -> Table {
    Table {
        rows: courses.iter().flat_map(Course::rows).collect(),
    }
}

/// A verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The verdict.
    pub judgement: Judgement,
    /// What the machine allowed to be judged, in the scenario in which it was the least.
    pub machine: Machine,
    /// Of each scenario.
    pub validity: Vec<(String, Validity)>,
}

/// Judges the next look after `before`, the first when there was none.
///
/// # Errors
/// When there are too few blocks, or the data make no sense.
pub fn look(
    courses: &[Course],
    plan: &Plan,
    limits: &SensorLimits,
    before: Option<&Found>,
) -> Result<Found, JudgeError> {
    let place = before.map_or(0, |b| b.judgement.look + 1);
    let at = plan
        .looks
        .get(place)
        .ok_or(JudgeError::NoSuchLook(plan.looks.len()))?;
    let (mut table, mut machine, mut all) = (Table::default(), Machine::Fit, Vec::new());
    for course in courses {
        let seen = course.seen(at, limits, before);
        table.rows.extend(seen.rows);
        machine = machine.max(seen.validity.machine);
        all.push((course.scenario.clone(), seen.validity));
    }
    let of = |scenario: &str| {
        let found = all.iter().find(|(name, _)| name == scenario);
        found.map_or(Machine::Unfit, |(_, v)| v.machine)
    };
    Ok(Found {
        judgement: judge(&table, plan, before.map(|b| &b.judgement), &of)?,
        machine,
        validity: all,
    })
}

/// Walks through the looks as far as the data reach, and stops where the gate would have stopped: the same verdict, from
/// the same data, on every machine.
///
/// # Errors
/// As [`look`].
pub fn walk(courses: &[Course], plan: &Plan, limits: &SensorLimits) -> Result<Found, JudgeError> {
    let mut last = look(courses, plan, limits, None)?;
    let blocks = courses.iter().map(|c| c.blocks.len()).max().unwrap_or(0);
    while last.judgement.outcome == Outcome::MoreBlocks
        && plan
            .looks
            .get(last.judgement.look + 1)
            .is_some_and(|next| next.blocks <= blocks)
    {
        last = look(courses, plan, limits, Some(&last))?;
    }
    Ok(last)
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
