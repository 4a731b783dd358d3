//! `pushmark gate --self-test`: how often the gate is wrong on this machine, by gates whose answer is known.
//!
//! Half of them compare our own server with itself: a regression is a false alarm. The other half give the candidate a
//! known amount of extra work for each message: no regression in processor time is a miss.

use std::path::Path;

use pushmark_loadgen::Interrupt;
use pushmark_loadgen::block::{Arm, ServerProgram};
use pushmark_measure::clock;
use pushmark_measure::gate::exact::median;
use pushmark_measure::gate::{Course, Side};
use pushmark_results::host;
use pushmark_results::self_test::{
    Injected, SelfTest, SelfTestLine, SelfTestLog, SelfTestSummary, read_self_test,
};
use pushmark_scenario::ScenarioText;

use super::blocks::{Ended, one};
use super::{Scenario, Setup, UNUSED_TLS};
use crate::args::GateArgs;
use crate::commands::check::minutes;
use crate::commands::{catalogue, options};
use crate::exit::{End, Failure, Outcome};
use crate::signals;
use crate::terminal::Terminal;

/// What is loaded when no scenario is given.
const SCENARIO: &str = include_str!("self_test.toml");
/// What extra work must show in.
const CPU: &str = "server_cpu_us_per_delivery";

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
    let calibration = first.profile.block * if slower_gates > 0 { WORK_BLOCKS } else { 0 };
    terminal.remark(&format!(
        "{gates} gates of alike servers and {slower_gates} with {} % more work: {} at most",
        args.inject_work_percent,
        minutes(most * gates.saturating_add(slower_gates) + calibration)
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
        // What nobody is made slower by needs no measure.
        let mut costs = match slower_gates {
            0 => Vec::new(),
            _ => calibrate(&first, interrupt.clone()).await?,
        };
        let mut lines: Vec<SelfTestLine> = Vec::new();
        // In turns, so that both kinds see the same machine.
        for number in 0..gates.max(slower_gates) {
            for kind in 0..2 {
                if !falls_due(number, [gates, slower_gates][kind], gates.max(slower_gates)) {
                    continue;
                }
                let message_costs: Vec<f64> = costs.iter().map(Cost::of_a_message).collect();
                let works = works(&message_costs, args.inject_work_percent);
                let extra = |cell: usize| (kind == 1).then(|| works.get(cell).copied()).flatten();
                let arms = |cell: usize| (server(None), server(extra(cell)));
                let mut args = args.clone();
                args.seed = args
                    .seed
                    .map(|seed| seed.wrapping_add(2 * u64::from(number) + kind as u64));
                let setup = Setup::new(&args, scenarios()?, &arms)?;
                let gate = setup.gate(&args, interrupt.clone(), terminal).await?;
                let injected = (kind == 1).then_some(Injected {
                    percent: args.inject_work_percent,
                    us: &works,
                    message_cost_us: &message_costs,
                });
                let load = host::gather().load_average.0;
                let mut line = SelfTestLine::of(&gate, injected, clock::unix_seconds(), load);
                if let Some(first) = lines.first() {
                    // The program was built before the first gate; a checkout that has moved on since is not what runs.
                    line.conditions
                        .git_commit
                        .clone_from(&first.conditions.git_commit);
                }
                follow(&mut costs, &gate.courses);
                terminal.remark(&serde_json::to_string(&line)?);
                if let Some(log) = &mut log {
                    log.add(&line)?;
                }
                lines.push(line);
            }
        }
        Ok::<_, Failure>(lines)
    })?;
    let text = pushmark_report::gate::self_test(&SelfTest {
        broken_off_after: None,
        gates: lines,
    });
    Terminal::result(&text);
    if let Some(log) = &mut log {
        let summary = text.lines().map(str::to_owned).collect();
        log.add(&SelfTestSummary { summary })?;
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
    let read = read_self_test(log)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&read)? + "\n",
        false => pushmark_report::gate::self_test(&read),
    };
    Terminal::result(&text);
    Ok(End::Fine)
}

/// So many blocks tell what a message costs: a single one may be a fifth off.
const WORK_BLOCKS: u32 = 5;

/// What the messages of a cell cost a server without extra work.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    /// Processor time of a delivery, in microseconds, as last measured.
    delivery_us: f64,
    /// Deliveries of a published message: the scenario's, whatever the machine does.
    deliveries: f64,
    /// Every thread of the server does the extra work for each message.
    threads: f64,
}

impl Cost {
    /// What a published message costs each thread of the server, in microseconds.
    fn of_a_message(&self) -> f64 {
        self.delivery_us * self.deliveries / self.threads
    }
}

/// So many percent of each cost.
fn works(message_costs: &[f64], percent: f64) -> Vec<f64> {
    message_costs.iter().map(|us| us * percent / 100.0).collect()
}

/// Takes over what a delivery cost the baseline of the latest gate, which never has extra work: when the machine
/// was busy at the start, a tenth of what a message cost then is more than a tenth of what it costs later. Where a gate does not
/// tell, what was known stays.
fn follow(costs: &mut [Cost], courses: &[Course]) {
    for (cost, course) in costs.iter_mut().zip(courses) {
        let blocks = course.blocks.iter();
        let us: Vec<f64> = blocks
            .filter_map(|b| b.baseline.values.get(CPU).copied())
            .collect();
        cost.delivery_us = median(&us).unwrap_or(cost.delivery_us);
    }
}

/// What the messages of each cell cost before the first gate: the medians of some blocks of alike servers.
async fn calibrate(setup: &Setup, interrupt: Interrupt) -> Result<Vec<Cost>, Failure> {
    // Of each cell: processor time of a delivery, and deliveries of a message.
    let mut seen = vec![(Vec::new(), Vec::new()); setup.cells.len()];
    for (block, (place, cell)) in
        (0..WORK_BLOCKS).flat_map(|b| setup.cells.iter().enumerate().map(move |c| (b, c)))
    {
        let sides = match one(setup, cell, block, false, interrupt.clone()).await? {
            Ended::Both(sides) => sides,
            Ended::Failed(what) => return Err(Failure::usage(what)),
        };
        let told = |side: &Side| {
            let books = &side.summary.books;
            let us = side.summary.server.cpu_us_per_delivery(books.delivered_once)?;
            (books.sent > 0).then(|| (us, books.delivered_once as f64 / books.sent as f64))
        };
        for (us, deliveries) in [&sides.0, &sides.1].into_iter().filter_map(told) {
            seen[place].0.push(us);
            seen[place].1.push(deliveries);
        }
    }
    let mut costs = Vec::new();
    for (cell, (us, deliveries)) in setup.cells.iter().zip(&seen) {
        let (Some(delivery_us), Some(deliveries)) = (median(us), median(deliveries)) else {
            return Err(Failure::usage(format!(
                "{}: the server does not tell what a message costs",
                cell.name
            )));
        };
        // The embedded server has so many.
        let threads = cell.plan.cells[cell.index].server.threads;
        let threads = threads.unwrap_or_else(pushmark_loadgen::embedded::default_threads);
        costs.push(Cost {
            delivery_us,
            deliveries,
            threads: f64::from(threads.max(1)),
        });
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushmark_measure::gate::{Block, Figures};

    #[test]
    fn extra_work_follows_what_a_message_costs_the_baseline_of_the_latest_gate() {
        let cost = |delivery_us| Cost {
            delivery_us,
            deliveries: 100.0,
            threads: 2.0,
        };
        let mut costs = [cost(4.0), cost(8.0), cost(2.0)];
        let work = |costs: &[Cost]| {
            let of_messages: Vec<f64> = costs.iter().map(Cost::of_a_message).collect();
            works(&of_messages, 10.0)
        };
        // 4 µs × 100 deliveries ÷ 2 threads is 200 µs, of which a tenth.
        assert_eq!(work(&costs), [20.0, 40.0, 10.0]);
        let course = |baseline: &[f64]| {
            let figures = |us: f64| Figures {
                values: [(CPU.to_owned(), us)].into(),
                ..Figures::default()
            };
            let block = |us: &f64| Block {
                baseline: figures(*us),
                // With the work in it.
                candidate: figures(us * 1.1),
                ..Block::default()
            };
            Course {
                blocks: baseline.iter().map(block).collect(),
                ..Course::default()
            }
        };
        // One block that is far off moves nothing.
        let mut untold = course(&[3.0]);
        untold.blocks[0].baseline.values.clear();
        follow(&mut costs, &[course(&[3.0, 90.0, 3.0]), untold, course(&[])]);
        assert_eq!(work(&costs), [15.0, 40.0, 10.0]);
        // A gate that ended before its second cell began.
        follow(&mut costs, &[course(&[5.0])]);
        assert_eq!(work(&costs), [25.0, 40.0, 10.0]);
    }

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
