//! The measures of recovery and of slow reading: like the others, but of trials in which something was to break.

use pushmark_measure::{Histogram, Party, Recovery, SlowReading, TrialSummary};

use super::measures::{Measure, each, sum};
use super::rows::is_thin;
use crate::units::Quantity;

/// What came back, in the order of tables.
pub(super) const RECOVERY: &[Measure] = &[
    sum("cut_off", "sessions", "cut off", |s| came_back(s, |r| r.cut_off)),
    sum("recovered", "sessions", "came back", |s| {
        came_back(s, |r| r.recovered)
    }),
    sum("gave_up", "sessions", "gave up", |s| came_back(s, |r| r.gave_up)),
    time("outage_ns_p50", "outage", "p50", |s| {
        quantile(&recovery(s)?.outage, 0.5)
    }),
    time("outage_ns_max", "outage", "max", |s| {
        quantile(&recovery(s)?.outage, 1.0)
    }),
    time("time_to_reconnect_ns_p50", "reconnected after", "p50", |s| {
        quantile(&recovery(s)?.time_to_reconnect, 0.5)
    }),
    time("time_to_reconnect_ns_p99", "reconnected after", "p99", |s| {
        quantile(&recovery(s)?.time_to_reconnect, 0.99)
    }),
    sum("missed", "gap", "missed", |s| came_back(s, |r| r.missed)),
    sum("made_up", "gap", "made up", |s| came_back(s, |r| r.made_up)),
    sum("gap_lost", "gap", "lost", |s| came_back(s, |r| r.lost)),
    sum("gap_duplicated", "gap", "duplicated", |s| {
        came_back(s, |r| r.duplicated)
    }),
    each("herd_peak", "herd", "peak in 100 ms", Quantity::Count, |s| {
        Some((recovery(s)?.herd_peak as f64, false))
    }),
    time("stayed_before_ns_p99", "stayed: p99", "before", |s| {
        Some((recovery(s)?.stayed_before_p99_ns? as f64, false))
    }),
    time("stayed_after_ns_p99", "stayed: p99", "after", |s| {
        Some((recovery(s)?.stayed_after_p99_ns? as f64, false))
    }),
];

/// What slow sessions cost, in the order of tables.
pub(super) const SLOW: &[Measure] = &[
    sum("slow_sessions", "slow", "sessions", |s| slow(s, |r| r.sessions)),
    sum("slow_disconnected", "slow", "disconnected", |s| {
        slow(s, |r| r.disconnected)
    }),
    sum("slow_expected", "their messages", "expected", |s| {
        slow(s, |r| r.expected)
    }),
    sum("slow_delivered", "their messages", "delivered", |s| {
        slow(s, |r| r.delivered)
    }),
    sum("slow_undelivered", "their messages", "not delivered", |s| {
        slow(s, |r| r.undelivered)
    }),
    sum("dropped_by_server", "all messages", "dropped by server", |s| {
        slow(s, |r| r.dropped_by_server)
    }),
    each(
        "server_rss_growth_bytes",
        "memory growth",
        "server",
        Quantity::Bytes,
        |s| Some((s.slow.as_ref()?.server_rss_growth_bytes? as f64, false)),
    ),
    each(
        "kernel_tcp_growth_bytes",
        "memory growth",
        "kernel's TCP",
        Quantity::Bytes,
        |s| Some((s.slow.as_ref()?.kernel_tcp_growth_bytes? as f64, false)),
    ),
    sum("neighbours", "neighbours", "sessions", |s| {
        near(s, |p| p.sessions)
    }),
    sum("neighbours_ended", "neighbours", "ended early", |s| {
        near(s, |p| p.ended_early)
    }),
    sum("neighbours_expected", "neighbours", "expected", |s| {
        near(s, |p| p.expected)
    }),
    sum("neighbours_lost", "neighbours", "lost", |s| near(s, lost)),
    time("neighbours_latency_ns_p50", "neighbours", "latency p50", |s| {
        quantile(&s.slow.as_ref()?.neighbours.as_ref()?.latency, 0.5)
    }),
    time("neighbours_latency_ns_p99", "neighbours", "latency p99", |s| {
        quantile(&s.slow.as_ref()?.neighbours.as_ref()?.latency, 0.99)
    }),
    sum("rest", "the rest", "sessions", |s| far(s, |p| p.sessions)),
    sum("rest_ended", "the rest", "ended early", |s| {
        far(s, |p| p.ended_early)
    }),
    sum("rest_expected", "the rest", "expected", |s| {
        far(s, |p| p.expected)
    }),
    sum("rest_lost", "the rest", "lost", |s| far(s, lost)),
    time("rest_latency_ns_p50", "the rest", "latency p50", |s| {
        quantile(&s.slow.as_ref()?.rest.as_ref()?.latency, 0.5)
    }),
    time("rest_latency_ns_p99", "the rest", "latency p99", |s| {
        quantile(&s.slow.as_ref()?.rest.as_ref()?.latency, 0.99)
    }),
];

const fn time(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    read: fn(&TrialSummary) -> Option<(f64, bool)>,
) -> Measure {
    each(key, group, name, Quantity::Nanoseconds, read)
}

fn recovery(s: &TrialSummary) -> Option<&Recovery> {
    s.recovery.as_ref()
}

fn came_back(s: &TrialSummary, read: fn(&Recovery) -> u64) -> Option<u64> {
    recovery(s).map(read)
}

fn slow(s: &TrialSummary, read: fn(&SlowReading) -> u64) -> Option<u64> {
    s.slow.as_ref().map(read)
}

/// Of those who share a connection with a slow session.
fn near(s: &TrialSummary, read: fn(&Party) -> u64) -> Option<u64> {
    s.slow.as_ref()?.neighbours.as_ref().map(read)
}

/// Of those who share none with one.
fn far(s: &TrialSummary, read: fn(&Party) -> u64) -> Option<u64> {
    s.slow.as_ref()?.rest.as_ref().map(read)
}

fn lost(party: &Party) -> u64 {
    party.expected.saturating_sub(party.delivered)
}

fn quantile(times: &Histogram, q: f64) -> Option<(f64, bool)> {
    let ns = times.quantile(q)?;
    Some((ns as f64, is_thin(q, times.count())))
}
