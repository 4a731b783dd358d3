//! The plan in words: what load a cell puts on, on one line.

use std::time::Duration;

use pushmark_results::plan::{
    Arrival, Axis, Cell, Encoding, Fault, Heartbeat, Messages, Pattern, Rate, SlowReaders,
    StreamsPerConnection, TargetPlan, Windows, Workload,
};

use crate::comparison::point_names;
use crate::escape::visible;
use crate::units::{percent, three_digits, whole};

/// The load of a cell: `2,000 connections, 10 messages/s of 200 B pushed`.
pub(crate) fn load(cell: &Cell) -> String {
    let connections = whole(u64::from(cell.load.connections));
    match &cell.workload {
        Workload::Push(m) => format!("{connections} connections, {} pushed to each", messages(m)),
        Workload::Echo(m) => format!("{connections} connections, {} echoed on each", messages(m)),
        Workload::Connect { rate: r } => format!("{} opened, at most {connections} at once", rate(r)),
    }
}

/// The windows of a trial: `opened over 5 s, 3 s of warm-up, 20 s measured`.
pub(crate) fn windows(cell: &Cell) -> String {
    let arrival = match &cell.load.arrival {
        Arrival::AtOnce => "opened at once".to_owned(),
        Arrival::Over(over) => format!("opened over {}", duration(*over)),
        Arrival::Rate(r) => format!("opened at {}", rate(r)),
        Arrival::Stages(stages) => format!("opened in {} stages", stages.len()),
    };
    format!(
        "{arrival}, {} of warm-up, {} measured",
        duration(cell.load.warmup),
        duration(cell.load.measure)
    )
}

/// What breaks: `restart at 3 s for 2 s, on 50 % of the connections`. Empty when nothing does.
pub(crate) fn breaks(cell: &Cell) -> String {
    let fault = |f: &Fault| {
        let mut text = format!("{} at {}", f.kind.as_str(), duration(f.at));
        if let Some(lasts) = f.lasts {
            text.push_str(&format!(" for {}", duration(lasts)));
        }
        if f.share < 1.0 {
            text.push_str(&format!(", on {} of the connections", percent(f.share)));
        }
        text
    };
    cell.faults.iter().map(fault).collect::<Vec<_>>().join("; ")
}

/// How both sides find out: `asked after 2 s of silence, dead 2 s later`. Empty without a heartbeat.
pub(crate) fn heartbeat(cell: &Cell) -> String {
    let words = |h: Heartbeat| {
        format!(
            "asked after {} of silence, dead {} later",
            duration(h.every),
            duration(h.timeout)
        )
    };
    cell.heartbeat.map(words).unwrap_or_default()
}

/// The sessions that do not keep up. Empty when all do.
pub(crate) fn slow_readers(cell: &Cell) -> String {
    let words = |s: SlowReaders| {
        let takes = s.rate.map_or("nothing".to_owned(), |r| rate(&r));
        format!("{} of the sessions take {takes}", percent(s.share))
    };
    cell.slow_readers.map(words).unwrap_or_default()
}

/// How sessions share connections. Empty where they cannot.
pub(crate) fn sharing(cell: &Cell) -> String {
    let size = |bytes: u32| point_names(Some(Axis::PayloadBytes), f64::from(bytes)).0;
    let words = |w: Windows| {
        let streams = match cell.carriage.streams_per_connection {
            StreamsPerConnection::AtMost(1) => "one session a connection".to_owned(),
            StreamsPerConnection::AtMost(most) => format!("{} sessions a connection", whole(u64::from(most))),
            StreamsPerConnection::All => "all sessions on one connection".to_owned(),
        };
        format!(
            "{streams}, windows of {} a stream, {} a connection",
            size(w.stream_bytes),
            size(w.connection_bytes)
        )
    };
    cell.carriage.windows.map(words).unwrap_or_default()
}

/// Where the load goes.
pub(crate) fn target(cell: &Cell) -> String {
    match &cell.target {
        TargetPlan::Embedded => "pushmark's reference server, started for each trial on loopback".to_owned(),
        TargetPlan::Address(address) => visible(address),
    }
}

/// What one receiver should get a second; none for workloads without messages.
pub(crate) fn messages_per_second(cell: &Cell) -> Option<f64> {
    match &cell.workload {
        Workload::Push(m) | Workload::Echo(m) => Some(per_second(&m.rate)).filter(|r| r.is_finite()),
        Workload::Connect { .. } => None,
    }
}

fn messages(m: &Messages) -> String {
    let size = point_names(Some(Axis::PayloadBytes), f64::from(m.payload_bytes)).0;
    let pattern = match m.pattern {
        Pattern::Uniform => String::new(),
        Pattern::Poisson => " (Poisson)".to_owned(),
        Pattern::Bursts { size } => format!(" (bursts of {})", whole(u64::from(size))),
    };
    let made_of = match m.encoding {
        Encoding::Text => "",
        Encoding::Binary => " of bytes",
        Encoding::Json => " of JSON",
    };
    format!("{}{pattern} of {size}{made_of}", rate(&m.rate))
}

fn rate(r: &Rate) -> String {
    let each = |unit: &str| format!("{}/{unit}", whole(r.count));
    match r.per.as_secs_f64() {
        1.0 => each("s"),
        60.0 => each("min"),
        _ => format!("{}/s", three_digits(per_second(r))),
    }
}

fn per_second(r: &Rate) -> f64 {
    r.count as f64 / r.per.as_secs_f64()
}

/// A duration as its author would write it: `20 s`, `500 ms`.
pub(crate) fn duration(d: Duration) -> String {
    match d.as_millis() {
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms if ms < 1000 => format!("{ms} ms"),
        ms => format!("{} s", ms as f64 / 1000.0),
    }
}
