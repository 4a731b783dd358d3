//! `pushmark proxy`: a process in which connections are broken on purpose; the coordinator speaks to it on stdin.

use std::io::{BufReader, stdin, stdout};

use pushmark_loadgen::faults::proxy;

use crate::exit::{End, Outcome};

pub(crate) fn run() -> Outcome {
    proxy::run(BufReader::new(stdin()), stdout())?;
    Ok(End::Fine)
}
