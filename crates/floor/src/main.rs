//! The floor: readers, writers and echoers on bare epoll, one thread, no framework. What a message cannot cost less than.
//!
//! `scripts/bench-floor` runs these and pushmark in turn and prints the ratios. Nothing here measures latency or keeps
//! books: a frame is found by its magic word and counted. One JSON line on stdout tells what was moved and what it cost.

mod args;
mod compare;
mod echo;
mod net;
mod reader;
mod usage;
mod writer;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = args::parse().and_then(|args| match args.verb.as_str() {
        "reader" => reader::run(&args),
        "writer" => writer::run(&args),
        "echo" => echo::run(&args),
        "compare" => compare::run(&args),
        other => Err(std::io::Error::other(format!(
            "no such verb: {other} (reader, writer, echo, compare)"
        ))),
    });
    match result {
        Ok(line) => {
            let _ = std::io::stdout().write_all(line.as_bytes());
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "pushmark-floor: {e}");
            ExitCode::from(2)
        }
    }
}
