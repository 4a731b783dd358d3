//! One block of a gate: two ordinary trials of one cell at the same time, of two servers that are loaded in turns; or one
//! after the other, where something is broken that two cannot share.

use std::path::Path;
use std::time::Duration;

use pushmark_measure::gate::Side;
use pushmark_measure::{ConnectionEvent, Histogram, Interval, Metric, Phase, TrialSummary};
use pushmark_scenario::plan::{Cell, Plan, TargetPlan};
use pushmark_transport::control::ServerStats;

use crate::duo::Duo;
pub use crate::embedded::ServerProgram;
use crate::preflight::Limits;
use crate::run::{Interrupt, Observer, ObserverError, TrialId};
pub use crate::trial::TrialError;
use crate::trial::{self, Ended, Setting};

/// One of the two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arm {
    /// A program that is started anew for each block.
    Program(ServerProgram),
    /// A server that runs already, at this `host:port`.
    Running(String),
}

/// Which block.
#[derive(Clone, Copy, Debug)]
pub struct BlockId {
    /// Which cell of the plan.
    pub cell_index: usize,
    /// Its number, from zero.
    pub block: u32,
    /// Whether the candidate gets ready first, and has the first slot.
    pub candidate_first: bool,
}

/// Whether the arms of a cell cannot take turns: a fault, or a reader that does not read, lasts longer than a turn.
pub fn has_phases(cell: &Cell) -> bool {
    !cell.faults.is_empty() || cell.slow_readers.is_some()
}

/// Runs one block: the baseline's side of it, and the candidate's. A side that cannot be run does not keep the other from
/// running alone.
pub async fn run_block(
    plan: &Plan,
    id: BlockId,
    (baseline, candidate): (&Arm, &Arm),
    program: &Path,
    limits: Limits,
    interrupt: Interrupt,
) -> (Result<Side, TrialError>, Result<Side, TrialError>) {
    let alone = plan.cells.get(id.cell_index).is_some_and(has_phases);
    let (first, second) = match alone {
        true => (None, None),
        false => {
            let (first, second) = Duo::pair();
            (Some(first), Some(second))
        }
    };
    let (for_baseline, for_candidate) = match id.candidate_first {
        true => (second, first),
        false => (first, second),
    };
    let place = u32::from;
    // Servers that run already are where they are.
    let is_program = |arm: &Arm| matches!(arm, Arm::Program(_));
    let halves = is_program(baseline) && is_program(candidate);
    let run = |place: u32, arm: &Arm, duo: Option<Duo>| {
        let (mut plan, mut setting) = (plan.clone(), Setting::default());
        match arm {
            Arm::Program(program) => setting.server = Some(program.clone()),
            Arm::Running(address) => {
                if let Some(cell) = plan.cells.get_mut(id.cell_index) {
                    cell.target = TargetPlan::Address(address.clone());
                }
            }
        }
        setting.duo = duo;
        setting.halves = halves;
        let trial = TrialId {
            index: id.block.wrapping_mul(2).wrapping_add(place),
            repeat: id.block,
            cell_index: id.cell_index,
        };
        let (program, interrupt) = (program.to_owned(), interrupt.clone());
        async move {
            let mut seen = Seen::default();
            let ended = trial::run(&plan, trial, &program, limits, interrupt, &mut seen, setting);
            ended.await.map(|ended| seen.side(ended, alone))
        }
    };
    let first = id.candidate_first;
    let (baseline, candidate) = (
        run(place(first), baseline, for_baseline),
        run(place(!first), candidate, for_candidate),
    );
    if alone {
        // A future does nothing before it is waited for.
        return if first {
            let candidate = candidate.await;
            (baseline.await, candidate)
        } else {
            let baseline = baseline.await;
            (baseline, candidate.await)
        };
    }
    // Whoever goes first is also asked first whenever both can go on: the coin decides everything that one arm has before
    // the other.
    if first {
        let (candidate, baseline) = tokio::join!(candidate, baseline);
        (baseline, candidate)
    } else {
        tokio::join!(baseline, candidate)
    }
}

/// What goes by in one side's trial.
#[derive(Default)]
struct Seen {
    latency: Histogram,
    connect_time: Histogram,
    seconds: Vec<(u64, f64)>,
}

impl Seen {
    fn side(self, ended: Ended, alone: bool) -> Side {
        Side {
            alone,
            summary: ended.summary,
            server_told: ended.server.is_some(),
            planned: ended.planned,
            trial_share: ended.trial_share,
            latency: self.latency,
            seconds: self.seconds,
            connect_time: self.connect_time,
        }
    }
}

impl Observer for Seen {
    fn trial_started(&mut self, _: TrialId) -> Result<(), ObserverError> {
        Ok(())
    }

    fn phase(&mut self, _: Phase, _: Duration) {}

    fn interval(&mut self, interval: &Interval) -> Result<(), ObserverError> {
        if let Some(latency) = interval.measured.get(Metric::Latency) {
            self.latency.merge(latency);
            let p99 = latency.quantile(0.99).map_or(f64::NAN, |ns| ns as f64);
            self.seconds.push((latency.count(), p99));
        }
        if let Some(connect_time) = interval.measured.get(Metric::ConnectTime) {
            self.connect_time.merge(connect_time);
        }
        Ok(())
    }

    fn events(&mut self, _: &[ConnectionEvent]) -> Result<(), ObserverError> {
        Ok(())
    }

    fn distribution(&mut self, _: Metric, _: &Histogram) -> Result<(), ObserverError> {
        Ok(())
    }

    fn trial_finished(&mut self, _: &TrialSummary, _: Option<&ServerStats>) -> Result<(), ObserverError> {
        Ok(())
    }
}
