//! A run as it is read back: what reports, comparisons and gates are functions of.

use std::path::PathBuf;

use pushmark_measure::{Calibration, Histograms, TrialSummary, Verdict};
use pushmark_scenario::plan::{Cell, Plan};
use serde::{Deserialize, Serialize};

/// The version of the run directory's layout. A reader refuses any other, by name.
pub const FORMAT_VERSION: u32 = 1;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Still going on, or killed: nobody wrote how it ended.
    Running,
    /// Every trial ran to its end.
    Complete,
    /// Ended early by a signal or a failure; what is there is sound, the rest is missing.
    Partial,
}

/// `manifest.json`: what was run, where, by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// How the run ended.
    pub status: RunStatus,
    /// Why it ended early, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// When it began, in seconds since the Unix epoch.
    pub started_unix_s: u64,
    /// The version of pushmark that ran it.
    pub pushmark_version: String,
    /// What ran: every cell with all its values.
    pub plan: Plan,
    /// The machine.
    pub host: Host,
    /// The git commit of the working directory and whether it had changes, when it is a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// What the harness itself cost on this machine just before the run, when that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Remarks made before the run: limits of the machine, what they mean.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The machine that a run ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Operating system and kernel release.
    pub kernel: String,
    /// Processor model.
    pub cpu_model: String,
    /// Processors this process may use.
    pub cores: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Open files this process may have: soft limit after raising it.
    pub open_files_soft: u64,
    /// Open files this process may have: hard limit.
    pub open_files_hard: u64,
    /// First and last ephemeral port.
    pub ephemeral_ports: (u16, u16),
    /// `net.core.somaxconn`.
    pub listen_backlog: u32,
    /// The kernel's clock source.
    pub clock_source: String,
    /// Load averages over 1, 5 and 15 minutes when the run began.
    pub load_average: (f64, f64, f64),
}

/// The state of a git checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit.
    pub commit: String,
    /// Whether tracked files differed from it.
    pub dirty: bool,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The directory it was read from.
    pub dir: PathBuf,
    /// What was run, where, by what.
    pub manifest: Manifest,
    /// The trials that were begun, in the order they ran.
    pub trials: Vec<TrialRecord>,
}

/// One trial as it was written.
#[derive(Clone, Debug)]
pub struct TrialRecord {
    /// Its place in the order of trials, from zero.
    pub index: u32,
    /// Which repeat, from zero.
    pub repeat: u32,
    /// What it measured: `plan.cells[cell_index]`.
    pub cell_index: usize,
    /// What it came to; `None` when the run was killed before the trial ended. Intervals and histograms up to the last
    /// flush are there all the same.
    pub summary: Option<TrialSummary>,
    /// Whether it can be trusted; of a trial that never ended: invalid, and says so.
    pub verdict: Verdict,
    /// Interval by interval.
    pub intervals: Vec<IntervalRow>,
    /// The distributions over the measured window (merged over the intervals).
    pub histograms: Histograms,
}

/// One row of `intervals.csv`: an interval without its distributions, but for a few quantiles of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    /// Counted from the first interval of the trial.
    pub index: u32,
    /// The phase in which it ended.
    pub phase: pushmark_measure::Phase,
    /// Start, in seconds since the trial's first interval began.
    pub start_s: f64,
    /// Length, in seconds.
    pub length_s: f64,
    /// Sessions open at its end.
    pub open_sessions: u64,
    /// Connection attempts begun.
    pub attempted: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Sessions that ended by an error.
    pub dropped: u64,
    /// Messages handed to the transport (echo).
    pub sent: u64,
    /// First arrivals.
    pub delivered: u64,
    /// Payload bytes of those.
    pub delivered_bytes: u64,
    /// Latency of all messages that arrived in it, measured or not; empty when none did.
    pub latency_ns_p50: Option<u64>,
    /// 90th percentile.
    pub latency_ns_p90: Option<u64>,
    /// 99th percentile.
    pub latency_ns_p99: Option<u64>,
    /// Largest.
    pub latency_ns_max: Option<u64>,
    /// 99th percentile of the service time.
    pub service_time_ns_p99: Option<u64>,
    /// 99th percentile of the send delay.
    pub send_delay_ns_p99: Option<u64>,
    /// CPU of the load generator, in nanoseconds.
    pub generator_cpu_ns: u64,
    /// Resident memory of the load generator, in bytes.
    pub generator_rss_bytes: u64,
}

impl Run {
    /// The trials of cell `cell_index`, by repeat.
    pub fn trials_of(&self, cell_index: usize) -> impl Iterator<Item = &TrialRecord> {
        self.trials.iter().filter(move |t| t.cell_index == cell_index)
    }

    /// The cell a trial measured.
    pub fn cell(&self, trial: &TrialRecord) -> Option<&Cell> {
        self.manifest.plan.cells.get(trial.cell_index)
    }
}
