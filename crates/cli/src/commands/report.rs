//! `pushmark report`: every table, chart and page of a run, made again from its directory.

use std::fmt::Write;
use std::path::Path;

use pushmark_measure::Grade;
use pushmark_report::{Check, Comparison, check_expectations};
use pushmark_results::{Run, RunStatus, write_report};

use crate::args::ReportArgs;
use crate::exit::{End, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run(args: &ReportArgs, terminal: &Terminal) -> Outcome {
    report(&args.dir, args.json, terminal)
}

/// Writes the report of the run in `dir` beside it, prints the comparison, and says what came of it.
pub(crate) fn report(dir: &Path, json: bool, terminal: &Terminal) -> Outcome {
    let run = Run::open(dir)?;
    let written = write_report(&run.dir, &pushmark_report::render(&run)?)?;
    let comparison = Comparison::of(&run);
    let checks = check_expectations(&run);
    if json {
        Terminal::result(&pushmark_report::json(&comparison, &checks)?);
    } else {
        Terminal::result(&pushmark_report::table::text(&comparison, terminal.color_out));
        Terminal::result(&thresholds(&checks));
    }
    terminal.remark(&format!("run:    {}", run.dir.display()));
    if let Some(page) = written
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "html"))
    {
        terminal.remark(&format!("report: {}", page.display()));
    }
    Ok(end_of(&run, checks.iter().all(|check| check.held)))
}

/// One line for all thresholds that held, one for each that did not.
fn thresholds(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks
        .iter()
        .filter(|check| !check.held || check.remark.is_some())
    {
        let mark = if check.held { "held" } else { "MISSED" };
        let remark = check
            .remark
            .as_deref()
            .map(|r| format!(" ({r})"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{mark}: {}: {}, measured {}{remark}",
            check.cell, check.text, check.measured_text
        );
    }
    let held = checks.iter().filter(|check| check.held).count();
    if held > 0 {
        let _ = writeln!(text, "thresholds: {held} of {} held", checks.len());
    }
    text
}

fn end_of(run: &Run, all_held: bool) -> End {
    let worst = run
        .trials
        .iter()
        .map(|t| t.verdict.grade())
        .max()
        .unwrap_or(Grade::Invalid);
    if worst == Grade::Invalid || run.manifest.status != RunStatus::Complete || !run.is_complete() {
        End::NotValid
    } else if !all_held {
        End::Missed
    } else {
        End::Fine
    }
}
