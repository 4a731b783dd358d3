//! `pushmark check`: what a scenario would do, without any traffic.

use std::fmt::Write;
use std::time::Duration;

use pushmark_loadgen::preflight;
use pushmark_results::host;
use pushmark_scenario::Plan;

use crate::args::CheckArgs;
use crate::commands::{limits, plan};
use crate::exit::{End, Failure, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run(args: &CheckArgs, terminal: &Terminal) -> Outcome {
    pushmark_transport::process::raise_open_files();
    let limits = limits(&host::gather());
    let mut bad = Vec::new();
    for path in &args.scenarios {
        match plan(path, &args.change, terminal) {
            Ok(plan) => {
                let obstacles = preflight::obstacles(&plan, limits);
                Terminal::result(&describe(&plan, obstacles.is_empty()));
                bad.extend(obstacles);
            }
            Err(failure) => bad.push(failure.words),
        }
    }
    for words in &bad {
        terminal.error(words);
    }
    if bad.is_empty() {
        return Ok(End::Fine);
    }
    Err(Failure::usage("mend what is said above before this can run"))
}

pub(crate) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

pub(crate) fn minutes(span: Duration) -> String {
    let seconds = span.as_secs_f64().round() as u64;
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

fn describe(plan: &Plan, carries: bool) -> String {
    let mut text = String::new();
    let trials = plan.cells.len() * plan.repeats as usize;
    let _ = writeln!(
        text,
        "{}: {}\n  {} × {} = {}, {} at least{}",
        pushmark_report::visible(&plan.name),
        pushmark_report::visible(&plan.question),
        plural(plan.cells.len(), "cell"),
        plural(plan.repeats as usize, "repeat"),
        plural(trials, "trial"),
        minutes(plan.least_duration()),
        if plan.quick {
            " (quick: a smoke run, not a measurement)"
        } else {
            ""
        },
    );
    for cell in &plan.cells {
        let _ = writeln!(text, "  {:<24} {} connections", cell.id, cell.load.connections);
    }
    let _ = writeln!(
        text,
        "  {}",
        if carries {
            "this machine can carry it"
        } else {
            "this machine cannot carry it; see below"
        }
    );
    text
}
