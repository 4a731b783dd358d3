//! What one trial came to: the few numbers that tables, charts and verdicts are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::books::Books;
use crate::fault::{FaultOutcome, Recovery, SlowReading, Timeline};
use crate::interval::Counters;
use crate::negotiation::Negotiation;
use crate::verdict::Grade;
use crate::wire::Wire;

/// One side's cost over the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// User CPU time in the measured window, in nanoseconds; `None` where it could not be had.
    pub cpu_user_ns: Option<u64>,
    /// System CPU time in the measured window, in nanoseconds.
    pub cpu_system_ns: Option<u64>,
    /// Resident memory before the first connection, in bytes.
    pub rss_before_bytes: Option<u64>,
    /// Resident memory at the end of the measured window, in bytes.
    pub rss_after_bytes: Option<u64>,
}

impl Cost {
    /// User and system CPU per delivery, in microseconds.
    pub fn cpu_us_per_delivery(&self, deliveries: u64) -> Option<f64> {
        let ns = self.cpu_user_ns? + self.cpu_system_ns?;
        (deliveries > 0).then(|| ns as f64 / 1e3 / deliveries as f64)
    }

    /// Growth of resident memory per session, in bytes.
    pub fn rss_bytes_per_session(&self, sessions: u64) -> Option<f64> {
        let growth = self.rss_after_bytes?.saturating_sub(self.rss_before_bytes?);
        (sessions > 0).then(|| growth as f64 / sessions as f64)
    }
}

/// One trial: one variant at one point of a sweep, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialSummary {
    /// Sessions the plan asked for.
    pub sessions_planned: u64,
    /// Whether the workload sends messages at all.
    pub expects_messages: bool,
    /// Whether the load generator is the sender (echo), or the server is (push).
    pub generator_sends: bool,
    /// Length of the measured window as it really was.
    pub measured: Duration,
    /// Delivery accounting over the measured window.
    pub books: Books,
    /// Equations that did not hold.
    pub imbalances: Vec<String>,
    /// Counts over the whole trial.
    pub counters: Counters,
    /// Payload bytes delivered in the measured window.
    pub measured_payload_bytes: u64,
    /// What went over the wire for all that; `None` where there is no wire, or it was not all read from it.
    pub wire: Option<Wire>,
    /// What came compressed in the measured window; nothing where nothing is compressed.
    pub compressed: Compressed,
    /// Sessions that ended before the drain began, though the plan did not ask for it.
    pub sessions_ended_early: u64,
    /// What they ended with, where they are known to have: `receive: go-away`.
    pub ended_by: BTreeMap<String, u64>,
    /// TCP connections that the generator made for its sessions, over the whole trial; `None` where that is not known.
    pub tcp_connections: Option<u64>,
    /// Sessions that became usable only after the load had begun.
    pub sessions_late: u64,
    /// Samples that ran backwards in time.
    pub negative_samples: u64,
    /// Samples above the histogram's range.
    pub out_of_range: u64,
    /// Cost on the load generator's side.
    pub generator: Cost,
    /// Cost on the server's side.
    pub server: Cost,
    /// CPU the generator used over what its worker threads could use at most, in the measured window.
    pub generator_busy_share: Option<f64>,
    /// Share of the host's processor time that the hypervisor gave to others in the measured window.
    pub host_steal_share: Option<f64>,
    /// Share of the host's processor time in use by anyone in the measured window.
    pub host_busy_share: Option<f64>,
    /// The longest that one of the generator's threads stood ready to run without a processor, as a share of the window.
    pub generator_waiting_share: Option<f64>,
    /// The most of the window that one of the generator's threads wanted a processor, whether it had one or not.
    pub generator_wanting_share: Option<f64>,
    /// 99th percentile of how late the generator's loops came round for a timer, in nanoseconds: what an arrival waits.
    pub loop_delay_p99_ns: Option<u64>,
    /// 90th percentile of the same, which fewer looks suffice for.
    pub loop_delay_p90_ns: Option<u64>,
    /// How often it was looked how late they came.
    pub loop_looks: Option<u64>,
    /// 99th percentile of that part of the send delay that the generator made itself, in nanoseconds (echo).
    pub own_send_delay_p99_ns: Option<u64>,
    /// Messages of the measured window that were sent before it ended (echo).
    pub sent_in_window: u64,
    /// Scheduled messages that were not sent because the transport had not taken an earlier one yet (echo).
    pub held_back: u64,
    /// Share of the measured window in which somebody on this host stood ready to run without a processor (PSI).
    pub host_pressure_share: Option<f64>,
    /// Share of the host's processor time that went to processes outside the trial.
    pub others_busy_share: Option<f64>,
    /// 99th percentile of the latency, in nanoseconds.
    pub latency_p99_ns: Option<u64>,
    /// 99th percentile of the send delay, in nanoseconds.
    pub send_delay_p99_ns: Option<u64>,
    /// 99th percentile of the generator delay, in nanoseconds; `None` where no arrival was stamped by the kernel.
    pub generator_delay_p99_ns: Option<u64>,
    /// Intervals a worker should have sent and did not.
    pub interval_gaps: u64,
    /// What broke, in the plan's order, and how it was noticed.
    pub faults: Vec<FaultOutcome>,
    /// What came back; `None` where nothing was to break.
    pub recovery: Option<Recovery>,
    /// The course of the trial; `None` where nothing was to break.
    pub timeline: Option<Timeline>,
    /// What sessions that were slow on purpose cost; the rest of this summary is about the others.
    pub slow: Option<SlowReading>,
    /// Why a fault was not what was asked for: it could not be made or ended, or what makes it died.
    pub fault_failed: Option<String>,
    /// With [`fault_failed`](Self::fault_failed): it was the server that did not do its part, such as coming back.
    pub server_failed_fault: bool,
    /// Added by the proxy that makes faults, 99th percentile each way, in nanoseconds; `None` without one.
    pub proxy_delay_p99_ns: Option<u64>,
    /// Sessions that were opened in the measured window, where opening them is the load; each was closed again.
    pub opened_in_window: u64,
    /// What connections agreed on with their peer; nothing in runs of before that was kept.
    pub negotiation: Negotiation,
    /// The trial was ended before its time (a signal, or a worker or server that died).
    pub partial: bool,
}

/// What receivers' decompressors saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compressed {
    /// Payload of the messages, in bytes.
    pub payload_bytes: u64,
    /// What they were on the stream, compressed, in bytes: without frames, chunks and headers around it, with what the transport
    /// compresses along with the payload.
    pub stream_bytes: u64,
    /// Messages that a peer which agreed on compression may send compressed or not (permessage-deflate). Files of before it was
    /// counted have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub messages: u64,
    /// Those of them that it sent as they are.
    #[serde(skip_serializing_if = "is_zero")]
    pub plain_messages: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Compressed {
    /// How many times smaller; `None` where nothing came compressed.
    pub fn ratio(&self) -> Option<f64> {
        (self.stream_bytes > 0).then(|| self.payload_bytes as f64 / self.stream_bytes as f64)
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Compressed) {
        self.payload_bytes = self.payload_bytes.saturating_add(other.payload_bytes);
        self.stream_bytes = self.stream_bytes.saturating_add(other.stream_bytes);
        self.messages = self.messages.saturating_add(other.messages);
        self.plain_messages = self.plain_messages.saturating_add(other.plain_messages);
    }

    /// What speaks against a trial: who agrees to compress need not do it (RFC 7692, section 6), and many servers leave small
    /// messages as they are. What is shown as compressed would be no such thing, or half of it.
    pub fn finding(&self) -> Option<(Grade, String)> {
        let (all, plain) = (self.messages, self.plain_messages);
        let why = "a server may leave what is small as it is: lower its threshold, or ask for no compression";
        match plain {
            0 => None,
            _ if plain >= all => Some((
                Grade::Invalid,
                format!("compression was agreed on, and none of {all} messages came compressed: {why}"),
            )),
            _ => Some((
                Grade::Suspect,
                format!("compression was agreed on, and {plain} of {all} messages came uncompressed: {why}"),
            )),
        }
    }
}

impl TrialSummary {
    /// Deliveries a second in the measured window.
    pub fn deliveries_per_second(&self) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 {
            self.books.delivered_once as f64 / seconds
        } else {
            0.0
        }
    }
}
