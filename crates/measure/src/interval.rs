//! One interval of a worker: what it counted and recorded in about a second. The unit that is merged and written.

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;
use crate::histogram::Histogram;

/// Where in a trial an instant lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Connections are being opened.
    #[default]
    Ramp,
    /// The load runs, nothing is counted in results.
    WarmUp,
    /// The measured window.
    Measure,
    /// No new messages; those in flight may still arrive.
    Drain,
}

impl Phase {
    /// The word used in files and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Ramp => "ramp",
            Phase::WarmUp => "warm-up",
            Phase::Measure => "measure",
            Phase::Drain => "drain",
        }
    }
}

/// The distributions that are recorded, all in nanoseconds (METHODOLOGY.md defines each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// received − intended.
    Latency,
    /// received − sent.
    ServiceTime,
    /// sent − intended.
    SendDelay,
    /// received − kernel: how long a message waited within the load generator. Of connections whose arrivals the kernel
    /// stamps.
    GeneratorDelay,
    /// kernel − intended: latency without the load generator's own wait. Of the same connections.
    KernelLatency,
    /// This connection's turn − sent: the wait for its turn in a fan-out, by the server's own count.
    FanoutDelay,
    /// Start of the TCP connect to a usable session.
    ConnectTime,
    /// The TCP part of the connect time.
    TcpConnectTime,
    /// The TLS part of the connect time, of connections that have one.
    TlsConnectTime,
    /// Session usable to first message.
    FirstMessageTime,
}

impl Metric {
    /// Every metric, in the order of reports.
    pub const ALL: [Metric; 10] = [
        Metric::Latency,
        Metric::ServiceTime,
        Metric::SendDelay,
        Metric::GeneratorDelay,
        Metric::KernelLatency,
        Metric::FanoutDelay,
        Metric::ConnectTime,
        Metric::TcpConnectTime,
        Metric::TlsConnectTime,
        Metric::FirstMessageTime,
    ];

    /// The name in files: `latency`, `service_time`, …
    pub fn name(self) -> &'static str {
        match self {
            Metric::Latency => "latency",
            Metric::ServiceTime => "service_time",
            Metric::SendDelay => "send_delay",
            Metric::GeneratorDelay => "generator_delay",
            Metric::KernelLatency => "kernel_latency",
            Metric::FanoutDelay => "fanout_delay",
            Metric::ConnectTime => "connect_time",
            Metric::TcpConnectTime => "tcp_connect_time",
            Metric::TlsConnectTime => "tls_connect_time",
            Metric::FirstMessageTime => "first_message_time",
        }
    }
}

/// One histogram per [`Metric`]; those never recorded cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histograms {
    by_metric: std::collections::BTreeMap<Metric, Histogram>,
}

impl Histograms {
    /// Records one value in nanoseconds.
    pub fn record(&mut self, metric: Metric, value_ns: u64) {
        self.by_metric.entry(metric).or_default().record(value_ns);
    }

    /// The histogram of `metric`, when anything was recorded for it.
    pub fn get(&self, metric: Metric) -> Option<&Histogram> {
        self.by_metric.get(&metric).filter(|h| !h.is_empty())
    }

    /// How many values were recorded for `metric`.
    pub fn count(&self, metric: Metric) -> u64 {
        self.by_metric.get(&metric).map_or(0, Histogram::count)
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Histograms) {
        for (metric, histogram) in &other.by_metric {
            self.by_metric.entry(*metric).or_default().merge(histogram);
        }
    }

    /// Sets the histogram of `metric`.
    pub fn insert(&mut self, metric: Metric, histogram: Histogram) {
        self.by_metric.insert(metric, histogram);
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.by_metric.values().all(Histogram::is_empty)
    }
}

/// What is counted rather than timed. Deltas of one interval, but for the gauges named `open_sessions` and `rss_bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Connection attempts begun.
    pub attempted: u64,
    /// Attempts that became usable sessions.
    pub established: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Sessions closed on purpose by the load generator.
    pub closed_by_us: u64,
    /// Sessions the peer closed in an orderly way.
    pub closed_by_peer: u64,
    /// Sessions that ended by an error.
    pub dropped: u64,
    /// Sessions that had ended and were usable again.
    pub reconnected: u64,
    /// Attempts to come back that failed.
    pub reconnects_failed: u64,
    /// Sessions that had ended and will not try (again).
    pub gave_up: u64,
    /// Sessions open at the end of the interval (a gauge).
    pub open_sessions: u64,
    /// Messages scheduled (echo).
    pub scheduled: u64,
    /// Messages handed to the transport (echo).
    pub sent: u64,
    /// First arrivals of messages, whatever the phase they were intended in.
    pub delivered: u64,
    /// Payload bytes of those.
    pub delivered_bytes: u64,
    /// Repeated arrivals.
    pub duplicated: u64,
    /// Arrivals out of order.
    pub reordered: u64,
    /// Arrivals without a stamp of this run.
    pub foreign: u64,
    /// Times a read returned at least one message.
    pub wakeups: u64,
    /// Kernel stamps that could not be placed on the clock of all instants: the wall clock was set.
    pub unplaced_stamps: u64,
    /// User CPU time of this worker's process, in nanoseconds.
    pub cpu_user_ns: u64,
    /// System CPU time of this worker's process, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Resident memory of this worker's process at the end of the interval, in bytes (a gauge).
    pub rss_bytes: u64,
}

impl Counters {
    /// Adds the counters of another worker over the same interval; gauges add up too.
    pub fn merge(&mut self, other: &Counters) {
        self.attempted += other.attempted;
        self.established += other.established;
        self.failed += other.failed;
        self.closed_by_us += other.closed_by_us;
        self.closed_by_peer += other.closed_by_peer;
        self.dropped += other.dropped;
        self.reconnected += other.reconnected;
        self.reconnects_failed += other.reconnects_failed;
        self.gave_up += other.gave_up;
        self.open_sessions += other.open_sessions;
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.wakeups += other.wakeups;
        self.unplaced_stamps += other.unplaced_stamps;
        self.cpu_user_ns += other.cpu_user_ns;
        self.cpu_system_ns += other.cpu_system_ns;
        self.rss_bytes += other.rss_bytes;
    }
}

/// About a second of one worker, or of all workers merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Counted from the first interval of the trial.
    pub index: u32,
    /// The phase in which the interval ended.
    pub phase: Phase,
    /// First instant.
    pub start: Nanos,
    /// One past the last instant.
    pub end: Nanos,
    /// Counts.
    pub counters: Counters,
    /// Samples whose intended time lies in the measured window (connects: those of the whole trial).
    pub measured: Histograms,
    /// All other samples: warm-up. Shown over time, never part of a result.
    pub unmeasured: Histograms,
}

impl Interval {
    /// Merges the same interval of another worker: later phase, wider span, everything added.
    pub fn merge(&mut self, other: &Interval) {
        self.phase = self.phase.max(other.phase);
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.counters.merge(&other.counters);
        self.measured.merge(&other.measured);
        self.unmeasured.merge(&other.unmeasured);
    }

    /// Samples of `metric` in this interval, measured or not.
    pub fn all(&self, metric: Metric) -> Histogram {
        let mut all = self.measured.get(metric).cloned().unwrap_or_default();
        if let Some(h) = self.unmeasured.get(metric) {
            all.merge(h);
        }
        all
    }
}
