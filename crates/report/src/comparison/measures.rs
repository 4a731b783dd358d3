//! The measures: one line of data for each row of a comparison, and how its values and its winner are found.

use pushmark_measure::stats::{Spread, clear_winner, spread};
use pushmark_measure::{Cost, Grade, Metric, TrialSummary};
use pushmark_results::run::{Run, TrialRecord};

use super::{Column, Row, Value, WorkloadKind};
use crate::units::Quantity;

/// A quantile with fewer samples than this beyond it moves by chance.
const SAMPLES_BEYOND: f64 = 10.0;
/// Below so many sessions, growth of memory is mostly not theirs.
const FEW_SESSIONS: u64 = 100;
/// The schedule sets the rate of deliveries: a smaller difference is the clock's, not a transport's.
const RATE_MATTERS: f64 = 0.005;

struct Measure {
    key: &'static str,
    group: &'static str,
    name: &'static str,
    quantity: Quantity,
    better: Better,
    /// Left out for workloads without messages.
    of_messages: bool,
    read: Read,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    Smaller,
    Larger,
    Neither,
}

enum Read {
    /// A quantile of each repeat, then the spread over repeats.
    Quantile(Metric, f64),
    /// One number of each repeat, then the spread; true when it rests on too little.
    Each(fn(&TrialSummary) -> Option<(f64, bool)>),
    /// A count, summed over repeats; `None` in any repeat makes it missing.
    Sum(fn(&TrialSummary) -> Option<u64>),
    /// Sessions established of those planned.
    Sessions,
    /// The verdict.
    Grade,
}

const fn quantile(key: &'static str, group: &'static str, name: &'static str, of: (Metric, f64), better: Better) -> Measure {
    let of_messages = !matches!(of.0, Metric::ConnectTime);
    Measure { key, group, name, quantity: Quantity::Nanoseconds, better, of_messages, read: Read::Quantile(of.0, of.1) }
}

const fn sum(key: &'static str, group: &'static str, name: &'static str, read: fn(&TrialSummary) -> Option<u64>) -> Measure {
    let read = Read::Sum(read);
    Measure { key, group, name, quantity: Quantity::Count, better: Better::Neither, of_messages: true, read }
}

const fn cost(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    quantity: Quantity,
    read: fn(&TrialSummary) -> Option<(f64, bool)>,
) -> Measure {
    Measure { key, group, name, quantity, better: Better::Smaller, of_messages: true, read: Read::Each(read) }
}

const MEASURES: &[Measure] = &[
    quantile("latency_ns_p50", "latency", "p50", (Metric::Latency, 0.5), Better::Smaller),
    quantile("latency_ns_p90", "latency", "p90", (Metric::Latency, 0.9), Better::Smaller),
    quantile("latency_ns_p99", "latency", "p99", (Metric::Latency, 0.99), Better::Smaller),
    quantile("latency_ns_p999", "latency", "p99.9", (Metric::Latency, 0.999), Better::Smaller),
    quantile("latency_ns_max", "latency", "max", (Metric::Latency, 1.0), Better::Smaller),
    quantile("service_time_ns_p50", "service time", "p50", (Metric::ServiceTime, 0.5), Better::Smaller),
    quantile("service_time_ns_p90", "service time", "p90", (Metric::ServiceTime, 0.9), Better::Smaller),
    quantile("service_time_ns_p99", "service time", "p99", (Metric::ServiceTime, 0.99), Better::Smaller),
    quantile("service_time_ns_p999", "service time", "p99.9", (Metric::ServiceTime, 0.999), Better::Smaller),
    quantile("service_time_ns_max", "service time", "max", (Metric::ServiceTime, 1.0), Better::Smaller),
    quantile("send_delay_ns_p99", "send delay", "p99", (Metric::SendDelay, 0.99), Better::Neither),
    sum("delivered", "messages", "delivered", |s| of_books(s, s.books.delivered_once)),
    sum("lost", "messages", "lost", |s| of_books(s, s.books.lost)),
    sum("duplicated", "messages", "duplicated", |s| of_books(s, s.books.duplicated)),
    sum("reordered", "messages", "reordered", |s| of_books(s, s.books.reordered)),
    Measure {
        key: "deliveries_per_second",
        group: "throughput",
        name: "deliveries",
        quantity: Quantity::PerSecond,
        better: Better::Larger,
        of_messages: true,
        read: Read::Each(|s| (!s.measured.is_zero()).then(|| (s.deliveries_per_second(), false))),
    },
    cost("server_cpu_us_per_delivery", "CPU per delivery", "server", Quantity::Microseconds, |s| cpu(s, &s.server)),
    cost("generator_cpu_us_per_delivery", "CPU per delivery", "client", Quantity::Microseconds, |s| cpu(s, &s.generator)),
    cost("server_rss_bytes_per_connection", "memory per conn.", "server", Quantity::Bytes, |s| memory(s, &s.server)),
    cost("generator_rss_bytes_per_connection", "memory per conn.", "client", Quantity::Bytes, |s| memory(s, &s.generator)),
    quantile("connect_time_ns_p50", "connect time", "p50", (Metric::ConnectTime, 0.5), Better::Smaller),
    quantile("connect_time_ns_p99", "connect time", "p99", (Metric::ConnectTime, 0.99), Better::Smaller),
    Measure {
        of_messages: false,
        ..sum("sessions_failed", "sessions", "failed", |s| Some(s.counters.failed))
    },
    Measure {
        key: "sessions_established",
        group: "sessions",
        name: "opened",
        quantity: Quantity::Count,
        better: Better::Neither,
        of_messages: false,
        read: Read::Sessions,
    },
    Measure {
        key: "grade",
        group: "verdict",
        name: "",
        quantity: Quantity::Count,
        better: Better::Neither,
        of_messages: false,
        read: Read::Grade,
    },
];

/// Counts of a trial without messages are not zero: there are none.
fn of_books(s: &TrialSummary, count: u64) -> Option<u64> {
    s.expects_messages.then_some(count)
}

fn cpu(s: &TrialSummary, side: &Cost) -> Option<(f64, bool)> {
    // A damaged file may hold numbers whose sum does not fit; they are missing, not a reason to stop.
    side.cpu_user_ns?.checked_add(side.cpu_system_ns?)?;
    side.cpu_us_per_delivery(s.books.delivered_once).map(|us| (us, false))
}

fn memory(s: &TrialSummary, side: &Cost) -> Option<(f64, bool)> {
    let sessions = s.counters.established;
    side.rss_bytes_per_session(sessions).map(|bytes| (bytes, sessions < FEW_SESSIONS))
}

/// The trials of a cell that have a summary, by repeat.
pub(crate) fn finished(run: &Run, cell: usize) -> impl Iterator<Item = (&TrialRecord, &TrialSummary)> {
    run.trials_of(cell).filter_map(|t| t.summary.as_ref().map(|s| (t, s)))
}

/// What is known about one cell apart from its measures.
pub(super) fn column(run: &Run, cell: Option<usize>) -> Column {
    let trials: Vec<Grade> =
        cell.map(|c| finished(run, c).map(|(t, _)| t.verdict.grade()).collect()).unwrap_or_default();
    Column { cell, grade: trials.iter().max().copied(), finished: u32::try_from(trials.len()).unwrap_or(u32::MAX) }
}

/// Every measure that applies, over all columns.
pub(super) fn rows(run: &Run, columns: &[Column], workload: WorkloadKind) -> Vec<Row> {
    let applies = |m: &&Measure| workload != WorkloadKind::Connect || !m.of_messages;
    MEASURES
        .iter()
        .filter(applies)
        .map(|m| {
            let values: Vec<Value> = columns.iter().map(|c| value(run, c, m)).collect();
            let winner = winner(m, columns, &values);
            Row { key: m.key, group: m.group, name: m.name, quantity: m.quantity, values, winner }
        })
        .collect()
}

fn value(run: &Run, column: &Column, measure: &Measure) -> Value {
    let Some(cell) = column.cell else { return Value::Missing };
    let trials = || finished(run, cell);
    match &measure.read {
        Read::Quantile(metric, q) => {
            let mut thin = false;
            let values: Vec<f64> = trials()
                .filter_map(|(t, _)| {
                    let histogram = t.histograms.get(*metric)?;
                    thin |= is_thin(*q, histogram.count());
                    histogram.quantile(*q).map(|ns| ns as f64)
                })
                .collect();
            spread_value(&values, thin)
        }
        Read::Each(read) => {
            let values: Vec<(f64, bool)> = trials().filter_map(|(_, s)| read(s)).collect();
            let thin = values.iter().any(|(_, thin)| *thin);
            spread_value(&values.into_iter().map(|(v, _)| v).collect::<Vec<_>>(), thin)
        }
        Read::Sum(read) => {
            let counts: Option<Vec<u64>> = trials().map(|(_, s)| read(s)).collect();
            match counts.filter(|c| !c.is_empty()) {
                Some(counts) => Value::Total { total: counts.into_iter().fold(0, u64::saturating_add) },
                None => Value::Missing,
            }
        }
        Read::Sessions => trials()
            .map(|(_, s)| (s.counters.established, s.sessions_planned))
            .min()
            .map_or(Value::Missing, |(part, whole)| Value::Part { part, whole }),
        Read::Grade => column.grade.map_or(Value::Missing, |grade| Value::Graded { grade }),
    }
}

/// Whether fewer than ten samples lie beyond quantile `q`; the largest sample is always itself.
pub(crate) fn is_thin(q: f64, count: u64) -> bool {
    q < 1.0 && (count as f64) * (1.0 - q) < SAMPLES_BEYOND - 1e-6
}

fn spread_value(values: &[f64], thin: bool) -> Value {
    spread(values).map_or(Value::Missing, |spread| Value::Spread { spread, thin })
}

/// The column that is clearly ahead. An invalid one takes no part, neither ahead nor behind; and where a value rests
/// on too little, nobody is ahead.
fn winner(measure: &Measure, columns: &[Column], values: &[Value]) -> Option<usize> {
    if measure.better == Better::Neither {
        return None;
    }
    let taking_part: Vec<Option<Spread>> = columns
        .iter()
        .zip(values)
        .map(|(c, v)| v.spread().filter(|_| c.grade.is_some_and(|g| g < Grade::Invalid)))
        .collect();
    let thin = |(v, s): (&Value, &Option<Spread>)| s.is_some() && matches!(v, Value::Spread { thin: true, .. });
    if values.iter().zip(&taking_part).any(thin) {
        return None;
    }
    let winner = clear_winner(&taking_part, measure.better == Better::Smaller)?;
    if measure.better == Better::Larger {
        let best = taking_part.get(winner).copied().flatten()?;
        let others = taking_part.iter().enumerate().filter(|(i, _)| *i != winner).filter_map(|(_, s)| *s);
        let next = others.map(|s| s.max).fold(0.0, f64::max);
        return (best.min > next * (1.0 + RATE_MATTERS)).then_some(winner);
    }
    Some(winner)
}
