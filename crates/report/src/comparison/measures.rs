//! The measures: one line of data for each row of a comparison.

use pushmark_measure::{Cost, Metric, TrialSummary, Wire};

use crate::units::Quantity;

/// Below so many sessions, growth of memory is mostly not theirs.
const FEW_SESSIONS: u64 = 100;

/// One measure: where it stands in a table, and how it is read from a trial.
pub(super) struct Measure {
    pub(super) key: &'static str,
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) quantity: Quantity,
    pub(super) better: Better,
    /// Left out for workloads without messages.
    pub(super) of_messages: bool,
    pub(super) read: Read,
}

/// Which of two values is ahead.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Better {
    Smaller,
    Larger,
    Neither,
}

/// How a measure is read.
pub(super) enum Read {
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

const fn quantile(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    of: (Metric, f64),
    better: Better,
) -> Measure {
    let of_messages = !matches!(of.0, Metric::ConnectTime | Metric::TlsConnectTime);
    Measure {
        key,
        group,
        name,
        quantity: Quantity::Nanoseconds,
        better,
        of_messages,
        read: Read::Quantile(of.0, of.1),
    }
}

pub(super) const fn sum(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    read: fn(&TrialSummary) -> Option<u64>,
) -> Measure {
    let read = Read::Sum(read);
    Measure {
        key,
        group,
        name,
        quantity: Quantity::Count,
        better: Better::Neither,
        of_messages: true,
        read,
    }
}

const fn cost(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    quantity: Quantity,
    read: fn(&TrialSummary) -> Option<(f64, bool)>,
) -> Measure {
    Measure {
        key,
        group,
        name,
        quantity,
        better: Better::Smaller,
        of_messages: true,
        read: Read::Each(read),
    }
}

/// One number of each repeat in which nobody is ahead.
pub(super) const fn each(
    key: &'static str,
    group: &'static str,
    name: &'static str,
    quantity: Quantity,
    read: fn(&TrialSummary) -> Option<(f64, bool)>,
) -> Measure {
    Measure {
        better: Better::Neither,
        ..cost(key, group, name, quantity, read)
    }
}

/// Every measure, in the order of tables.
pub(super) const MEASURES: &[Measure] = &[
    quantile(
        "latency_ns_p50",
        "latency",
        "p50",
        (Metric::Latency, 0.5),
        Better::Smaller,
    ),
    quantile(
        "latency_ns_p90",
        "latency",
        "p90",
        (Metric::Latency, 0.9),
        Better::Smaller,
    ),
    quantile(
        "latency_ns_p99",
        "latency",
        "p99",
        (Metric::Latency, 0.99),
        Better::Smaller,
    ),
    quantile(
        "latency_ns_p999",
        "latency",
        "p99.9",
        (Metric::Latency, 0.999),
        Better::Smaller,
    ),
    quantile(
        "latency_ns_max",
        "latency",
        "max",
        (Metric::Latency, 1.0),
        Better::Smaller,
    ),
    quantile(
        "service_time_ns_p50",
        "service time",
        "p50",
        (Metric::ServiceTime, 0.5),
        Better::Smaller,
    ),
    quantile(
        "service_time_ns_p90",
        "service time",
        "p90",
        (Metric::ServiceTime, 0.9),
        Better::Smaller,
    ),
    quantile(
        "service_time_ns_p99",
        "service time",
        "p99",
        (Metric::ServiceTime, 0.99),
        Better::Smaller,
    ),
    quantile(
        "service_time_ns_p999",
        "service time",
        "p99.9",
        (Metric::ServiceTime, 0.999),
        Better::Smaller,
    ),
    quantile(
        "service_time_ns_max",
        "service time",
        "max",
        (Metric::ServiceTime, 1.0),
        Better::Smaller,
    ),
    quantile(
        "send_delay_ns_p99",
        "send delay",
        "p99",
        (Metric::SendDelay, 0.99),
        Better::Neither,
    ),
    quantile(
        "kernel_latency_ns_p50",
        "kernel latency",
        "p50",
        (Metric::KernelLatency, 0.5),
        Better::Neither,
    ),
    quantile(
        "kernel_latency_ns_p99",
        "kernel latency",
        "p99",
        (Metric::KernelLatency, 0.99),
        Better::Neither,
    ),
    quantile(
        "fanout_delay_ns_p99",
        "fan-out delay",
        "p99",
        (Metric::FanoutDelay, 0.99),
        Better::Neither,
    ),
    quantile(
        "generator_delay_ns_p99",
        "generator delay",
        "p99",
        (Metric::GeneratorDelay, 0.99),
        Better::Neither,
    ),
    each(
        "proxy_delay_ns_p99",
        "proxy delay",
        "p99",
        Quantity::Nanoseconds,
        |s| Some((s.proxy_delay_p99_ns? as f64, false)),
    ),
    sum("delivered", "messages", "delivered", |s| {
        of_books(s, s.books.delivered_once)
    }),
    sum("lost", "messages", "lost", |s| of_books(s, s.books.lost)),
    sum("duplicated", "messages", "duplicated", |s| {
        of_books(s, s.books.duplicated)
    }),
    sum("reordered", "messages", "reordered", |s| {
        of_books(s, s.books.reordered)
    }),
    Measure {
        key: "deliveries_per_second",
        group: "throughput",
        name: "deliveries",
        quantity: Quantity::PerSecond,
        better: Better::Larger,
        of_messages: true,
        read: Read::Each(|s| (!s.measured.is_zero()).then(|| (s.deliveries_per_second(), false))),
    },
    Measure {
        better: Better::Larger,
        ..each(
            "compression_ratio",
            "compression ratio",
            "",
            Quantity::Ratio,
            |s| Some((s.compressed.ratio()?, false)),
        )
    },
    cost(
        "server_cpu_us_per_delivery",
        "CPU per delivery",
        "server",
        Quantity::Microseconds,
        |s| cpu(s, &s.server),
    ),
    cost(
        "generator_cpu_us_per_delivery",
        "CPU per delivery",
        "client",
        Quantity::Microseconds,
        |s| cpu(s, &s.generator),
    ),
    cost(
        "server_rss_bytes_per_connection",
        "memory / session",
        "server",
        Quantity::Bytes,
        |s| memory(s, &s.server),
    ),
    cost(
        "generator_rss_bytes_per_connection",
        "memory / session",
        "client",
        Quantity::Bytes,
        |s| memory(s, &s.generator),
    ),
    cost(
        "wire_received_bytes_per_delivery",
        "wire / delivery",
        "down",
        Quantity::WireBytes,
        |s| wire(s, Wire::received_bytes_per_delivery),
    ),
    cost(
        "wire_sent_bytes_per_delivery",
        "wire / delivery",
        "up",
        Quantity::WireBytes,
        |s| wire(s, Wire::sent_bytes_per_delivery),
    ),
    each(
        "wire_overhead_bytes_per_delivery",
        "wire / delivery",
        "overhead",
        Quantity::WireBytes,
        |s| wire(s, Wire::overhead_bytes_per_delivery),
    ),
    Measure {
        of_messages: false,
        ..cost(
            "handshake_received_bytes",
            "handshake",
            "down",
            Quantity::WireBytes,
            |s| wire(s, Wire::opening_received_bytes_per_session),
        )
    },
    Measure {
        of_messages: false,
        ..cost(
            "handshake_sent_bytes",
            "handshake",
            "up",
            Quantity::WireBytes,
            |s| wire(s, Wire::opening_sent_bytes_per_session),
        )
    },
    Measure {
        of_messages: false,
        ..cost("round_trips", "handshake", "round trips", Quantity::Count, |s| {
            wire(s, Wire::round_trips_per_session)
        })
    },
    quantile(
        "connect_time_ns_p50",
        "connect time",
        "p50",
        (Metric::ConnectTime, 0.5),
        Better::Smaller,
    ),
    quantile(
        "connect_time_ns_p99",
        "connect time",
        "p99",
        (Metric::ConnectTime, 0.99),
        Better::Smaller,
    ),
    quantile(
        "tls_connect_time_ns_p50",
        "of it TLS",
        "p50",
        (Metric::TlsConnectTime, 0.5),
        Better::Neither,
    ),
    quantile(
        "tls_connect_time_ns_p99",
        "of it TLS",
        "p99",
        (Metric::TlsConnectTime, 0.99),
        Better::Neither,
    ),
    Measure {
        of_messages: false,
        ..cost(
            "server_cpu_us_per_connect",
            "CPU per connect",
            "server",
            Quantity::Microseconds,
            |s| cpu_per_connect(s, &s.server),
        )
    },
    Measure {
        of_messages: false,
        ..cost(
            "client_cpu_us_per_connect",
            "CPU per connect",
            "client",
            Quantity::Microseconds,
            |s| cpu_per_connect(s, &s.generator),
        )
    },
    Measure {
        of_messages: false,
        ..sum("sessions_failed", "sessions", "failed", |s| {
            Some(s.counters.failed)
        })
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
        of_messages: false,
        ..each(
            "tcp_connections",
            "sessions",
            "TCP connections",
            Quantity::Count,
            |s| Some((s.tcp_connections? as f64, false)),
        )
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

impl Measure {
    /// Left out where no variant has it: some servers do not tell it, and some runs were not asked for it.
    pub(super) fn is_optional(&self) -> bool {
        matches!(
            self.read,
            Read::Quantile(
                Metric::FanoutDelay | Metric::GeneratorDelay | Metric::KernelLatency | Metric::TlsConnectTime,
                _
            )
        ) || matches!(
            self.group,
            "wire / delivery" | "handshake" | "neighbours" | "the rest"
        ) || matches!(
            self.key,
            "compression_ratio"
                | "server_cpu_us_per_connect"
                | "client_cpu_us_per_connect"
                | "proxy_delay_ns_p99"
                | "stayed_before_ns_p99"
                | "stayed_after_ns_p99"
                | "kernel_tcp_growth_bytes"
                | "tcp_connections"
        )
    }
}

/// Sessions that were opened. One that came back was established again, and is still one.
pub(crate) fn opened(s: &TrialSummary) -> u64 {
    match &s.recovery {
        Some(_) => s.counters.established.min(s.sessions_planned),
        None => s.counters.established,
    }
}

/// Counts of a trial without messages are not zero: there are none.
fn of_books(s: &TrialSummary, count: u64) -> Option<u64> {
    s.expects_messages.then_some(count)
}

fn cpu(s: &TrialSummary, side: &Cost) -> Option<(f64, bool)> {
    // A damaged file may hold numbers whose sum does not fit; they are missing, not a reason to stop.
    side.cpu_user_ns?.checked_add(side.cpu_system_ns?)?;
    side.cpu_us_per_delivery(s.books.delivered_once)
        .map(|us| (us, false))
}

fn wire(s: &TrialSummary, read: fn(&Wire) -> Option<f64>) -> Option<(f64, bool)> {
    read(s.wire.as_ref()?).map(|value| (value, false))
}

/// What opening a session and closing it again cost one side.
fn cpu_per_connect(s: &TrialSummary, side: &Cost) -> Option<(f64, bool)> {
    side.cpu_user_ns?.checked_add(side.cpu_system_ns?)?;
    side.cpu_us_per_delivery(s.opened_in_window).map(|us| (us, false))
}

fn memory(s: &TrialSummary, side: &Cost) -> Option<(f64, bool)> {
    let sessions = opened(s);
    side.rss_bytes_per_session(sessions)
        .map(|bytes| (bytes, sessions < FEW_SESSIONS))
}
