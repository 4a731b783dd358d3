//! A run: every trial of a plan in its order, each handed to an observer as it goes.

use std::path::PathBuf;

use pushmark_measure::{ConnectionEvent, Histogram, Interval, Metric, Phase, TrialSummary};
use pushmark_scenario::plan::Plan;
use pushmark_transport::control::ServerStats;
use tokio::sync::watch;

use crate::preflight::Limits;
use crate::trial::{self, Setting, TrialError};

/// How often the user has asked to stop: once, end in good order and report; twice, end at once.
pub type Interrupt = watch::Receiver<u32>;

/// What an observer may fail with; it ends the run.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Which trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialId {
    /// Its place in the order of trials, from zero.
    pub index: u32,
    /// Which repeat, from zero.
    pub repeat: u32,
    /// Which cell of the plan.
    pub cell_index: usize,
}

/// Sees everything as it happens.
pub trait Observer {
    /// A trial begins.
    ///
    /// # Errors
    /// Ends the run.
    fn trial_started(&mut self, trial: TrialId) -> Result<(), ObserverError>;

    /// A trial has entered a phase, which is to last this long at the most.
    fn phase(&mut self, phase: Phase, at_most: std::time::Duration);

    /// About a second, merged over all workers.
    ///
    /// # Errors
    /// Ends the run.
    fn interval(&mut self, interval: &Interval) -> Result<(), ObserverError>;

    /// What became of connections.
    ///
    /// # Errors
    /// Ends the run.
    fn events(&mut self, events: &[ConnectionEvent]) -> Result<(), ObserverError>;

    /// A distribution over the whole measured window, from the server's own statistics.
    ///
    /// # Errors
    /// Ends the run.
    fn distribution(&mut self, metric: Metric, histogram: &Histogram) -> Result<(), ObserverError>;

    /// A trial has ended, with the server's own counts where it gives any.
    ///
    /// # Errors
    /// Ends the run.
    fn trial_finished(
        &mut self,
        summary: &TrialSummary,
        server: Option<&ServerStats>,
    ) -> Result<(), ObserverError>;
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A trial could not be run.
    #[error("{cell}, repeat {repeat}: {source}")]
    Trial {
        /// The cell's name.
        cell: String,
        /// Which repeat, from one.
        repeat: u32,
        /// Why.
        source: TrialError,
    },
    /// The observer failed.
    #[error(transparent)]
    Observer(ObserverError),
    /// The user asked twice to stop.
    #[error("ended at once, as asked")]
    Aborted,
}

/// How a run ended that was not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Every trial ran.
    Complete,
    /// The user asked to stop; the trial that ran was ended in good order.
    Interrupted,
}

/// Runs every trial of `plan`. `program` is the pushmark executable, started again for servers and workers.
///
/// # Errors
/// When a trial cannot be run at all, the observer fails, or the user asked twice to stop. Trials that ran before are
/// with the observer.
pub async fn run_plan(
    plan: &Plan,
    program: PathBuf,
    limits: Limits,
    mut interrupt: Interrupt,
    observer: &mut dyn Observer,
) -> Result<RunEnd, RunError> {
    for (index, (repeat, cell_index)) in plan.trials().enumerate() {
        if *interrupt.borrow_and_update() > 0 {
            return Ok(RunEnd::Interrupted);
        }
        let trial = TrialId {
            index: index as u32,
            repeat,
            cell_index,
        };
        observer.trial_started(trial).map_err(RunError::Observer)?;
        let setting = Setting::default();
        let outcome = trial::run(
            plan,
            trial,
            &program,
            limits,
            interrupt.clone(),
            observer,
            setting,
        );
        match outcome.await {
            Ok(ended) => {
                observer
                    .trial_finished(&ended.summary, ended.server.as_ref())
                    .map_err(RunError::Observer)?;
            }
            Err(TrialError::Aborted) => return Err(RunError::Aborted),
            Err(TrialError::Observer(e)) => return Err(RunError::Observer(e)),
            Err(source) => {
                let cell = plan.cells[cell_index].id.clone();
                return Err(RunError::Trial {
                    cell,
                    repeat: repeat + 1,
                    source,
                });
            }
        }
    }
    Ok(if *interrupt.borrow_and_update() > 0 {
        RunEnd::Interrupted
    } else {
        RunEnd::Complete
    })
}
