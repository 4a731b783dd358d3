//! The blocks of a gate, one after another, until a look at them is enough.

use pushmark_loadgen::Interrupt;
use pushmark_loadgen::block::{Arm, BlockId, TrialError, run_block};
use pushmark_measure::gate::evidence::{MEMORY, ignores_slots, look, words};
use pushmark_measure::gate::{Block, Course, Found, Outcome, SensorLimits, Side, candidate_first};
use pushmark_scenario::plan::{Cell as PlanCell, Plan};

use super::Setup;
use crate::exit::{End, Failure};
use crate::terminal::Terminal;

/// One cell of one scenario, and who is compared in it.
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) index: usize,
    pub(super) baseline: Arm,
    pub(super) candidate: Arm,
}

impl Cell {
    /// Whether one of the servers is not started anew for each block.
    pub(super) fn keeps_running(&self) -> bool {
        [&self.baseline, &self.candidate]
            .iter()
            .any(|arm| matches!(arm, Arm::Running(_)))
    }
}

/// What came of the blocks.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) courses: Vec<Course>,
    pub(super) failures: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) found: Option<Found>,
}

/// How one block ended.
pub(super) enum Ended {
    /// Both held.
    Both(Box<(Side, Side)>),
    /// The candidate did not, in words.
    Failed(String),
}

/// Runs blocks until the gate has its verdict.
pub(super) async fn run(
    setup: &Setup,
    limits: &SensorLimits,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> Result<Ran, Failure> {
    let mut ran = Ran::default();
    let course = |cell: &Cell| Course {
        scenario: cell.name.clone(),
        ..Course::default()
    };
    ran.courses = setup.cells.iter().map(course).collect();
    if setup.cells.iter().any(Cell::keeps_running) {
        ran.notes.push(
            "a server that runs already is not started anew for each block: what differs from start to start is not averaged \
             out, and memory per session cannot be had"
                .to_owned(),
        );
    }
    let plan = &setup.profile.plan;
    for at in &plan.looks {
        let unsettled = ran.found.as_ref().map(|f| f.judgement.unsettled.clone());
        let runs = |name: &String| unsettled.as_ref().is_none_or(|u| u.contains(name));
        // One block of each, again and again, so that all see the same machine.
        loop {
            let mut all_have_enough = true;
            for (place, cell) in setup.cells.iter().enumerate() {
                if !runs(&cell.name) || !ran.courses[place].wants_block(at, limits) {
                    continue;
                }
                all_have_enough = false;
                let block = ran.courses[place].blocks.len();
                let first = candidate_first(setup.seed, (block * setup.cells.len() + place) as u64);
                let ended = one(setup, cell, block as u32, first, interrupt.clone()).await?;
                let sides = match ended {
                    Ended::Both(sides) => sides,
                    Ended::Failed(what) => {
                        ran.failures.push(what);
                        return Ok(ran);
                    }
                };
                let mut made = Block::of(first, &sides.0, &sides.1);
                if cell.keeps_running() {
                    // It has grown already, for the block before.
                    made.baseline.values.remove(MEMORY);
                    made.candidate.values.remove(MEMORY);
                }
                terminal.remark(&format!(
                    "{} {}: {}",
                    progress(block, at.blocks, plan.most_blocks()),
                    cell.name,
                    summary(&made)
                ));
                ran.courses[place].blocks.push(made);
                ran.failures = ran.courses[place].broken(limits);
                if !ran.failures.is_empty() {
                    return Ok(ran);
                }
            }
            if all_have_enough {
                break;
            }
        }
        if ran.found.is_none() {
            for (course, cell) in ran.courses.iter_mut().zip(&setup.cells) {
                ran.notes.extend(course.choose_metrics());
                for limit in &cell.plan.gate {
                    if !course.limit(&limit.metric, limit.floor, limit.budget) {
                        let name = words(&limit.metric);
                        ran.notes.push(format!(
                            "{}: [gate] limits {name}, which is not judged here",
                            cell.name
                        ));
                    }
                }
            }
        }
        let found = look(&ran.courses, plan, limits, ran.found.as_ref()).map_err(Failure::usage)?;
        let outcome = found.judgement.outcome;
        ran.found = Some(found);
        if outcome != Outcome::MoreBlocks {
            break;
        }
        terminal.remark(&format!("not settled after {} blocks: more are run", at.blocks));
    }
    Ok(ran)
}

/// Runs one block of one cell, and tells a server's fault from ours.
pub(super) async fn one(
    setup: &Setup,
    cell: &Cell,
    block: u32,
    candidate_first: bool,
    interrupt: Interrupt,
) -> Result<Ended, Failure> {
    let id = BlockId {
        cell_index: cell.index,
        block,
        candidate_first,
    };
    let program = std::env::current_exe()?;
    let arms = (&cell.baseline, &cell.candidate);
    let (b, c) = run_block(&cell.plan, id, arms, &program, setup.limits, interrupt.clone()).await;
    if *interrupt.borrow() > 0 {
        return Err(Failure {
            code: End::NotValid,
            words: "ended before the gate had a verdict, as asked".to_owned(),
        });
    }
    let place = format!("{}: block {}", cell.name, block + 1);
    let baseline = |what: String| Failure::usage(format!("{place}: the baseline {what}"));
    let b = match b {
        Ok(side) => side,
        Err(e) if is_the_servers(&e) => return Err(baseline(format!("did not hold: {e}"))),
        Err(e) => return Err(Failure::usage(format!("{place}: {e}"))),
    };
    let c = match c {
        Ok(side) => side,
        Err(e) if is_the_servers(&e) => {
            return Ok(Ended::Failed(format!("{place}: the candidate did not hold: {e}")));
        }
        Err(e) => return Err(Failure::usage(format!("{place}: {e}"))),
    };
    if let Some(what) = ignores_slots(&b) {
        return Err(baseline(format!("cannot be loaded in turns: {what}")));
    }
    if let Some(what) = ignores_slots(&c) {
        return Err(Failure::usage(format!(
            "{place}: the candidate cannot be loaded in turns: {what}"
        )));
    }
    for (side, whose) in [(&b, "baseline"), (&c, "candidate")] {
        if let Some(why) = &side.summary.fault_failed {
            let words =
                format!("{place}: what was to break in the {whose} could not be broken or mended: {why}");
            // The baseline's is looked at first: it did its part.
            if whose == "candidate" && side.summary.server_failed_fault {
                return Ok(Ended::Failed(words));
            }
            return Err(Failure::usage(words));
        }
    }
    let takes = |c: &PlanCell| c.faults.iter().any(|f| f.kind.takes_the_server());
    if cell.plan.cells.get(cell.index).is_some_and(takes) {
        // It was ended on purpose, and may not be there to tell.
        return Ok(Ended::Both(Box::new((b, c))));
    }
    let died = "died or hung before the end of its block";
    let told = |arm: &Arm, side: &Side| side.server_told || matches!(arm, Arm::Running(_));
    if !told(&cell.baseline, &b) {
        return Err(baseline(died.to_owned()));
    }
    if !told(&cell.candidate, &c) {
        return Ok(Ended::Failed(format!("{place}: the candidate {died}")));
    }
    Ok(Ended::Both(Box::new((b, c))))
}

/// Whether it is the server that failed, and not the load generator.
fn is_the_servers(e: &TrialError) -> bool {
    matches!(
        e,
        TrialError::Server(_) | TrialError::Control { .. } | TrialError::Target(_)
    )
}

/// How far it is, before a look at `of` blocks.
fn progress(block: usize, of: usize, most: usize) -> String {
    match block < of {
        true => format!("[{}/{most}]", block + 1),
        false => format!("[{}, for one that the sensors left out]", block + 1),
    }
}

/// A block in a line.
fn summary(block: &Block) -> String {
    let shown = [
        "latency_p50",
        "latency_p99",
        "server_cpu_us_per_delivery",
        "detection_time_p50",
        "time_to_reconnect_p50",
    ];
    let change = |name: &&str| {
        let (b, c) = (
            block.baseline.values.get(*name)?,
            block.candidate.values.get(*name)?,
        );
        (*b > 0.0).then(|| format!("{} {:+.1} %", words(name), 100.0 * (c / b - 1.0)))
    };
    let changes: Vec<String> = shown.iter().filter_map(change).collect();
    if changes.is_empty() {
        return "done".to_owned();
    }
    changes.join(", ")
}
