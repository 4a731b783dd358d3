//! What the harness itself costs on this machine: measured before a run, so that a reader knows the floor under its numbers.

use serde::{Deserialize, Serialize};

/// The harness alone: no socket, no server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// One read of the clock, in nanoseconds.
    pub clock_read_ns: f64,
    /// How late the timer wakes an idle thread, in nanoseconds, at the median.
    pub timer_late_ns_p50: u64,
    /// The same at the 99th percentile.
    pub timer_late_ns_p99: u64,
    /// Waits that this was taken from.
    pub timer_waits: u64,
    /// Processor time of one delivery through the whole engine with full accounting, in nanoseconds.
    pub engine_ns_per_delivery: f64,
    /// Latency through the engine at a modest rate, in nanoseconds, at the median: the floor under every latency.
    pub engine_latency_ns_p50: u64,
    /// The same at the 99th percentile.
    pub engine_latency_ns_p99: u64,
    /// Messages that this was taken from.
    pub engine_messages: u64,
    /// How long the calibration took, in nanoseconds.
    pub took_ns: u64,
}
