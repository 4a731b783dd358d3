//! The load generator: sessions in workers, workers in processes, and the trial that conducts them.
//!
//! ```text
//! trial (coordinator) ── stdin/stdout, JSON lines ── worker process ── bounded channel ── worker threads ── sessions
//! ```
//! Every trial gets fresh processes, on both sides: memory and CPU are charged to the right side and the right trial.

pub mod assignment;
pub mod block;
pub mod calibrate;
mod carriage;
mod controls;
mod course;
mod duo;
pub mod embedded;
pub mod faults;
pub mod groups;
pub mod halves;
pub mod machine;
pub mod merge;
mod outcome;
pub mod preflight;
pub mod pressure;
pub mod process;
pub mod recovery;
pub mod run;
mod session;
mod summary;
pub mod trial;
mod watch;
pub mod worker;

pub use run::{Interrupt, Observer, RunError, run_plan};
