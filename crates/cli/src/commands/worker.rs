//! `pushmark worker`: a load generator process; the coordinator speaks to it on stdin.

use std::io::{BufReader, stdin, stdout};

use crate::exit::{End, Outcome};

pub(crate) fn run() -> Outcome {
    pushmark_loadgen::process::run(BufReader::new(stdin()), stdout())?;
    Ok(End::Fine)
}
