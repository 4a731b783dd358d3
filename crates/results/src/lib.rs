//! The run directory: the only format on disk. Written as the run goes, never overwritten, readable after a kill.
//!
//! ```text
//! results/20261120T061000Z-feed/     one run; a second one in the same second gets -2
//!   manifest.json                    what ran, where, by what, how it ended; replaced as a whole
//!   scenario.toml                    the scenario as run
//!   summary.csv                      a row per finished trial, for spreadsheets
//!   trials/000-alpha-h1-r1/          one trial; numbered from 000 in running order, repeats from r1
//!     trial.json                     which cell, and what it came to; without a summary until the trial ends
//!     intervals.csv                  a row a second
//!     latency.hlog, …                an HdrHistogram interval log per metric: the measured window, in nanoseconds
//!     events.csv                     what became of every connection
//!     server.json                    the server's own statistics, when it has any
//! ```
//!
//! Everything that grows is flushed row by row, so a killed run is readable up to its last interval. A finished trial
//! names the length and the CRC-32 of the files it is read from, so a file cut or changed later makes it invalid.
//! [`Run::open`] reads `manifest.json`, `trial.json`, `intervals.csv` and the logs; the rest is for people.

mod derived;
mod error;
mod events;
mod files;
pub mod gate;
pub mod history;
mod hlog;
pub mod host;
mod intervals;
mod judge;
mod names;
mod read;
pub mod run;
pub mod self_test;
mod summary;
mod table;
mod write;

pub use derived::write_report;
pub use error::ResultsError;
pub use gate::{Gate, GateVerdict};
/// The plan, as the manifest holds it: readers of runs need no other crate to know what was run.
pub use pushmark_scenario::plan;
pub use run::{FORMAT_VERSION, GitState, Host, IntervalRow, Manifest, Run, RunStatus, TrialRecord};
pub use write::{RunWriter, TrialWriter};
