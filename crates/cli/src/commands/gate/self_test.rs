//! `pushmark gate --self-test`: how often the gate is wrong on this machine, by gates whose answer is known.
//!
//! Half of them compare our own server with itself: a regression is a false alarm. The other half give the candidate a
//! known amount of extra work for each message: no regression in processor time is a miss.

use std::path::Path;

use pushmark_loadgen::Interrupt;
use pushmark_loadgen::block::{Arm, ServerProgram};
use pushmark_measure::clock;
use pushmark_measure::gate::exact::median;
use pushmark_results::host;
use pushmark_results::self_test::{SelfTestLine, SelfTestLog, read_self_test};
use pushmark_scenario::ScenarioText;
use serde_json::json;

use super::blocks::{Cell, Ended, one};
use super::{Scenario, Setup, UNUSED_TLS};
use crate::args::GateArgs;
use crate::commands::check::minutes;
use crate::commands::{catalogue, options};
use crate::exit::{End, Failure, Outcome};
use crate::signals;
use crate::terminal::Terminal;

/// What is loaded when no scenario is given.
const SCENARIO: &str = include_str!("self_test.toml");
pub(super) fn run(args: &GateArgs, terminal: &Terminal) -> Outcome {
    let gates = args.self_test.unwrap_or(0);
    let slower_gates = args.self_test_slower.unwrap_or(gates);
    let program = std::env::current_exe()?;
    let server = |extra: Option<f64>| {
        let mut words = vec!["serve".to_owned()];
        if let Some(us) = extra {
            words.extend(["--inject-work-us".to_owned(), format!("{us:.3}")]);
        }
        Arm::Program(ServerProgram {
            program: program.clone(),
            words,
        })
    };
    let scenarios = || -> Result<Vec<Scenario>, Failure> {
        if args.scenarios.is_empty() {
            let text = ScenarioText::from_bytes("self-test.toml", SCENARIO.as_bytes());
            let options = options(&args.change);
            let plan = text.and_then(|text| pushmark_scenario::plan(&text, &options, &catalogue()));
            let plan = plan.map_err(|e| Failure::usage(e.render(false)))?;
            return Ok(vec![Scenario::new(plan, "self-test.toml".as_ref())]);
        }
        let read = |path: &std::path::PathBuf| {
            Ok(Scenario::new(
                crate::commands::plan(path, &args.change, terminal)?,
                path,
            ))
        };
        args.scenarios.iter().map(read).collect()
    };
    let alike = |_: usize| (server(None), server(None));
    let first = Setup::new(args, scenarios()?, &alike)?;
    if args.change.target_tls() != Default::default() {
        terminal.warning(UNUSED_TLS);
    }
    let most = first.profile.block * first.profile.plan.most_run() as u32;
    terminal.remark(&format!(
        "{gates} gates of alike servers and {slower_gates} with {} % more work: {} at most",
        args.inject_work_percent,
        minutes(most * gates.saturating_add(slower_gates))
    ));
    let mut log = match &args.log {
        Some(path) => Some(SelfTestLog::create(path)?),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lines = tokio::task::LocalSet::new().block_on(&runtime, async {
        let interrupt = signals::count()?;
        let works = work(&first, args.inject_work_percent, interrupt.clone()).await?;
        let mut lines: Vec<SelfTestLine> = Vec::new();
        // In turns, so that both kinds see the same machine.
        for number in 0..gates.max(slower_gates) {
            for kind in 0..2 {
                if !falls_due(number, [gates, slower_gates][kind], gates.max(slower_gates)) {
                    continue;
                }
                let extra = |cell: usize| (kind == 1).then(|| works.get(cell).copied()).flatten();
                let arms = |cell: usize| (server(None), server(extra(cell)));
                let mut args = args.clone();
                args.seed = args
                    .seed
                    .map(|seed| seed.wrapping_add(2 * u64::from(number) + kind as u64));
                let setup = Setup::new(&args, scenarios()?, &arms)?;
                let gate = setup.gate(&args, interrupt.clone(), terminal).await?;
                let injected = (kind == 1).then_some((args.inject_work_percent, &works[..]));
                let load = host::gather().load_average.0;
                let line = SelfTestLine::of(&gate, injected, clock::unix_seconds(), load);
                terminal.remark(&serde_json::to_string(&line)?);
                if let Some(log) = &mut log {
                    log.add(&line)?;
                }
                lines.push(line);
            }
        }
        Ok::<_, Failure>(lines)
    })?;
    let text = pushmark_report::gate::self_test(&lines);
    Terminal::result(&text);
    if let Some(log) = &mut log {
        log.add(&json!({ "summary": text.lines().collect::<Vec<_>>() }))?;
    }
    Ok(End::Fine)
}

/// Whether one of `share` gates, spread evenly over `of` rounds, falls in round `number`.
fn falls_due(number: u32, share: u32, of: u32) -> bool {
    let upto = |n: u32| u64::from(n) * u64::from(share) / u64::from(of.max(1));
    upto(number.saturating_add(1)) > upto(number)
}

/// Prints again what a self-test came to, from its log.
pub(super) fn summary(log: &Path, args: &GateArgs) -> Outcome {
    let lines = read_self_test(log)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&lines)? + "\n",
        false => pushmark_report::gate::self_test(&lines),
    };
    Terminal::result(&text);
    Ok(End::Fine)
}

/// So many blocks tell what a message costs: a single one may be a fifth off.
const WORK_BLOCKS: u32 = 5;

/// How much extra work a message is so many percent of what one costs now, in microseconds, for each cell: the median of some
/// blocks of alike servers.
async fn work(setup: &Setup, percent: f64, interrupt: Interrupt) -> Result<Vec<f64>, Failure> {
    let mut costs = vec![Vec::new(); setup.cells.len()];
    for (block, (place, cell)) in
        (0..WORK_BLOCKS).flat_map(|b| setup.cells.iter().enumerate().map(move |c| (b, c)))
    {
        let sides = match one(setup, cell, block, false, interrupt.clone()).await? {
            Ended::Both(sides) => sides,
            Ended::Failed(what) => return Err(Failure::usage(what)),
        };
        let cpu = |side: &pushmark_measure::gate::Side| {
            let cost = &side.summary.server;
            let ns = cost.cpu_user_ns? + cost.cpu_system_ns?;
            (side.summary.books.sent > 0).then(|| ns as f64 / 1e3 / side.summary.books.sent as f64)
        };
        costs[place].extend([&sides.0, &sides.1].into_iter().filter_map(cpu));
    }
    let work = |(cell, costs): (&Cell, &Vec<f64>)| {
        let us = median(costs).ok_or_else(|| {
            Failure::usage(format!(
                "{}: the server does not tell what a message costs",
                cell.name
            ))
        })?;
        // Every thread of the server does the work for each message, and the embedded one has so many.
        let threads = cell.plan.cells[cell.index].server.threads;
        let threads = threads.unwrap_or_else(pushmark_loadgen::embedded::default_threads);
        Ok(us * percent / 100.0 / f64::from(threads.max(1)))
    };
    setup.cells.iter().zip(&costs).map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_of_either_kind_is_run_and_the_fewer_are_spread() {
        for (share, of) in [(60, 60), (20, 60), (1, 60), (0, 60), (59, 60), (7, 9)] {
            let due: Vec<u32> = (0..of).filter(|&n| falls_due(n, share, of)).collect();
            assert_eq!(due.len(), share as usize, "{share} of {of}");
            let gaps = due.windows(2).map(|w| w[1] - w[0]);
            assert!(
                gaps.clone().max().unwrap_or(0) <= of.div_ceil(share.max(1)),
                "{due:?}"
            );
        }
        assert!(!falls_due(0, 0, 0));
    }
}
