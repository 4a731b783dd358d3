//! What broke and what became of it: detection on both sides, recovery, and the course of a trial in short steps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// How one side found out that the other was gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detection {
    /// Sessions that the fault hit.
    pub affected: u64,
    /// From the fault's onset until this side acted on it, in nanoseconds: one value for each session that did.
    pub time: Histogram,
    /// Those that did, by what told them: `clean-end`, `ended-early`, `reset`, `heartbeat`, `timed-out`, …
    pub by_reason: BTreeMap<String, u64>,
    /// Sessions that noticed nothing for as long as they were watched.
    pub undetected: u64,
    /// How long they were watched after the onset.
    pub watched: Duration,
}

/// One fault of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultOutcome {
    /// The kind's word: `fin`, `blackhole`, …
    pub kind: String,
    /// When it had taken effect, counted from the start of the measured window.
    pub onset: Duration,
    /// When it was over, counted likewise; `None` when it lasted to the end.
    pub cleared: Option<Duration>,
    /// When service was available again (a server that listens), counted likewise; `None` when it was never gone or never
    /// came back.
    pub available: Option<Duration>,
    /// Share of the connections it was meant for.
    pub share: f64,
    /// How clients found out; `None` for a fault that is nobody's death.
    pub client: Option<Detection>,
    /// How the server found out; `None` also where it was the server that died, or one that keeps no log.
    pub server: Option<Detection>,
}

/// What came back after sessions were cut off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// The policy, in words: `native`, `fixed 1 s`, `exponential 100 ms to 10 s, full jitter`; with `, resume` where the
    /// client says what it has seen.
    pub policy: String,
    /// Sessions that were cut off, each time counted.
    pub cut_off: u64,
    /// Of those, usable again before the end.
    pub recovered: u64,
    /// Of those, that will not try (again): the policy, or the server's answer, forbids it.
    pub gave_up: u64,
    /// Last message before to first message after, in nanoseconds, for each that recovered and heard something again.
    pub outage: Histogram,
    /// Service available again (or the cut, when it was never gone) to session usable again, in nanoseconds.
    pub time_to_reconnect: Histogram,
    /// Attempts, by outcome: `established`, `connect: refused`, `open: timed-out`, …
    pub attempts: BTreeMap<String, u64>,
    /// Attempts for each session that recovered: how many took one, two, …
    pub attempts_per_recovery: BTreeMap<u32, u64>,
    /// Messages published while a session was cut off, over all sessions.
    pub missed: u64,
    /// Of those, delivered after it came back.
    pub made_up: u64,
    /// Of those, never delivered: a hole in the stream.
    pub lost: u64,
    /// Messages published while their receiver was not there, by the servers' own count; `None` where one that was killed took
    /// its count with it. Without a resumption that is what is lost.
    pub not_offered: Option<u64>,
    /// Messages that came a second time after a resume.
    pub duplicated: u64,
    /// Most connection attempts in any 100 ms.
    pub herd_peak: u64,
    /// 99th percentile of the latency, in nanoseconds, before the first fault: of sessions that were never cut off.
    pub stayed_before_p99_ns: Option<u64>,
    /// The same from the first fault on.
    pub stayed_after_p99_ns: Option<u64>,
}

/// The course of a trial in short steps, counted from the start of the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Length of a step, in milliseconds.
    pub step_ms: u64,
    /// Messages that arrived in each step.
    pub deliveries: Vec<u64>,
    /// Connection attempts begun in each step.
    pub attempts: Vec<u64>,
    /// Sessions open at the end of each step.
    pub open: Vec<u64>,
}

/// What sessions that do not keep up cost, and whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowReading {
    /// Sessions that were slow on purpose.
    pub sessions: u64,
    /// Messages of the measured window that were meant for them.
    pub expected: u64,
    /// Of those, delivered.
    pub delivered: u64,
    /// Of those, not delivered by the end.
    pub undelivered: u64,
    /// Of the slow sessions, disconnected by the server.
    pub disconnected: u64,
    /// Messages that the server dropped because an outbox was full.
    pub dropped_by_server: u64,
    /// Growth of the server's resident memory over the measured window, in bytes.
    pub server_rss_growth_bytes: Option<i64>,
    /// Growth of the memory that the kernel keeps for all TCP sockets of the host over the measured window, in bytes.
    pub kernel_tcp_growth_bytes: Option<i64>,
    /// The sessions that kept up and share a connection with a slow one; `None` where nothing is shared.
    pub neighbours: Option<Party>,
    /// The sessions that kept up and share none with a slow one, where others do.
    pub rest: Option<Party>,
}

/// What some of the sessions got in the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// How many they are.
    pub sessions: u64,
    /// Of those, ended before the drain.
    pub ended_early: u64,
    /// Messages that were meant for them while they were there.
    pub expected: u64,
    /// Of those, delivered.
    pub delivered: u64,
    /// Their latency, in nanoseconds.
    pub latency: Histogram,
}

impl Party {
    /// Adds what others of the same kind got.
    pub fn merge(&mut self, other: &Party) {
        self.sessions += other.sessions;
        self.ended_early += other.ended_early;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.latency.merge(&other.latency);
    }
}
