//! `pushmark gate --replay`: the verdict again, from the file of a gate.

use std::path::Path;

use pushmark_results::gate::Gate;
use pushmark_results::history::HistoryGate;

use super::{end, history, show};
use crate::args::GateArgs;
use crate::exit::{End, Failure, Outcome};
use crate::terminal::Terminal;

/// Reads the file, reaches the verdict again from its figures, and prints it. A file that is damaged, foreign or of another
/// version is no verdict, and no pass.
pub(super) fn run(file: &Path, args: &GateArgs, terminal: &Terminal) -> Outcome {
    if let Some(said) = HistoryGate::read(file)? {
        return history::replay(&said, file, args, terminal);
    }
    let gate = Gate::read(file)?;
    let (verdict, _) = gate.judged_again().map_err(|what| Failure {
        code: End::NotValid,
        words: format!("{} is no verdict: {what}", file.display()),
    })?;
    show(&gate, args, terminal)?;
    Ok(end(verdict, args.strict, terminal))
}
