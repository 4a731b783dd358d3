//! The run directory from outside: what is written is read, whatever became of the files in between.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are tests, helpers included"
)]

mod damage;
mod hostile;
mod interop;
mod round_trip;
mod support;
