//! `pushmark run`: from a scenario file to a run directory and its report.

use std::time::Duration;

use pushmark_loadgen::preflight::Limits;
use pushmark_loadgen::run::{ObserverError, RunEnd, TrialId};
use pushmark_loadgen::{Observer, RunError, calibrate, preflight, run_plan};
use pushmark_measure::{
    Calibration, ConnectionEvent, Histogram, Interval, Metric, Phase, TrialSummary, clock,
};
use pushmark_results::{FORMAT_VERSION, Manifest, RunStatus, RunWriter, TrialWriter, host};
use pushmark_scenario::{Cell, Plan, TargetPlan, TargetTls};
use pushmark_transport::control::ServerStats;

use crate::args::RunArgs;
use crate::commands::check::minutes;
use crate::commands::{limits, plan, report};
use crate::exit::{End, Failure, Outcome};
use crate::progress::Progress;
use crate::signals;
use crate::terminal::Terminal;

pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> Outcome {
    let plan = plan(&args.scenario, &args.change, terminal)?;
    pushmark_transport::process::raise_open_files();
    let host = host::gather();
    let limits = limits(&host);
    let obstacles = preflight::obstacles(&plan, limits);
    if !obstacles.is_empty() {
        return Err(Failure::usage(format!(
            "this machine cannot carry the plan:\n  {}",
            obstacles.join("\n  ")
        )));
    }
    announce(&plan, terminal);

    let calibration = (!args.no_calibration)
        .then(|| calibrated(&plan, terminal))
        .flatten();
    let notes = spread_out(&plan, limits);
    for note in &notes {
        terminal.remark(note);
    }

    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        status: RunStatus::Running,
        status_reason: None,
        started_unix_s: clock::unix_seconds(),
        pushmark_version: env!("CARGO_PKG_VERSION").to_owned(),
        plan: plan.clone(),
        host,
        git: std::env::current_dir().ok().and_then(|dir| host::git_state(&dir)),
        calibration,
        notes,
    };
    let writer = match &args.out {
        Some(dir) => RunWriter::create_at(dir, manifest)?,
        None => RunWriter::create(&args.results, manifest)?,
    };
    let dir = writer.dir().to_owned();
    let mut recording = Recording {
        writer,
        trial: None,
        progress: Progress::new(&plan, *terminal),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = tokio::task::LocalSet::new().block_on(&runtime, async {
        let interrupt = signals::count()?;
        let program = std::env::current_exe()?;
        Ok::<_, std::io::Error>(run_plan(&plan, program, limits, interrupt, &mut recording).await)
    })?;
    recording.progress.finish();
    let (status, reason) = match &ended {
        Ok(RunEnd::Complete) => (RunStatus::Complete, None),
        Ok(RunEnd::Interrupted) => (RunStatus::Partial, Some("interrupted by a signal".to_owned())),
        Err(e) => (RunStatus::Partial, Some(e.to_string())),
    };
    recording.writer.finish(status, reason)?;
    match ended {
        Ok(_) => report::report(&dir, args.json, terminal),
        Err(RunError::Aborted) => Err(Failure {
            code: End::NotValid,
            words: format!("ended at once, as asked; what there is lies in {}", dir.display()),
        }),
        Err(e) => {
            terminal.remark(&format!("what was measured before lies in {}", dir.display()));
            Err(Failure::usage(e))
        }
    }
}

/// What the harness costs on this machine; a run goes on without.
fn calibrated(plan: &Plan, terminal: &Terminal) -> Option<Calibration> {
    calibrate::run(plan.quick)
        .inspect_err(|e| terminal.warning(&format!("the harness is not calibrated: {e}")))
        .ok()
}

/// What is said to whom secures connections that are secured already.
pub(crate) const UNUSED_TLS: &str = "--cacert, --insecure, --client-cert, --client-key and --sni are for a server that runs already: the one that is started \
     for each trial has a certificate made for it, which is trusted";

/// Says what is about to happen, and how long it takes.
fn announce(plan: &Plan, terminal: &Terminal) {
    let quick = if plan.quick {
        " (quick: a smoke run, not a measurement)"
    } else {
        ""
    };
    terminal.remark(&pushmark_report::visible(&plan.question));
    let trials = plan.cells.len() * plan.repeats as usize;
    terminal.remark(&format!(
        "{trials} trials, {} at least{quick}",
        minutes(plan.least_duration())
    ));
    let (insecure, unused) = (
        plan.cells.iter().any(verifies_nothing),
        plan.cells.iter().any(has_unused_tls),
    );
    if insecure {
        terminal.warning("certificates are NOT verified (insecure): whoever answers may be anybody");
    }
    if unused {
        terminal.warning(UNUSED_TLS);
    }
    for cell in &plan.cells {
        if let TargetPlan::Address(address) = &cell.target {
            terminal.warning(&format!(
                "{}: {} connections go to {}",
                cell.id,
                cell.load.connections,
                address.escape_debug()
            ));
        }
    }
}

fn verifies_nothing(cell: &Cell) -> bool {
    cell.target != TargetPlan::Embedded && cell.target_tls.insecure
}

fn has_unused_tls(cell: &Cell) -> bool {
    cell.target == TargetPlan::Embedded && cell.target_tls != TargetTls::default()
}

/// What is done about cells that one process or one address cannot carry.
fn spread_out(plan: &Plan, limits: Limits) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, cell) in plan.cells.iter().enumerate() {
        let needs = preflight::needs(plan, index, limits);
        let mut parts = Vec::new();
        if needs.processes > 1 {
            parts.push(format!("{} load generator processes", needs.processes));
        }
        if needs.server_processes > 1 && cell.target == TargetPlan::Embedded {
            parts.push(format!("{} server processes on one port", needs.server_processes));
        }
        if needs.sources > 1 {
            parts.push(format!("{} source addresses", needs.sources));
        }
        if !parts.is_empty() {
            notes.push(format!(
                "{}: {} connections are spread over {}, since a process may open {} files here",
                cell.id,
                needs.connections,
                parts.join(", "),
                limits.open_files,
            ));
        }
    }
    notes
}

/// Hands everything on to the run directory and to the screen.
struct Recording {
    writer: RunWriter,
    trial: Option<TrialWriter>,
    progress: Progress,
}

impl Observer for Recording {
    fn trial_started(&mut self, trial: TrialId) -> Result<(), ObserverError> {
        self.trial = Some(
            self.writer
                .begin_trial(trial.index, trial.repeat, trial.cell_index)?,
        );
        self.progress.trial_started(trial);
        Ok(())
    }

    fn phase(&mut self, phase: Phase, at_most: Duration) {
        self.progress.phase(phase, at_most);
    }

    fn interval(&mut self, interval: &Interval) -> Result<(), ObserverError> {
        if let Some(trial) = &mut self.trial {
            trial.interval(interval)?;
        }
        self.progress.interval(interval);
        Ok(())
    }

    fn distribution(&mut self, metric: Metric, histogram: &Histogram) -> Result<(), ObserverError> {
        if let Some(trial) = &mut self.trial {
            trial.distribution(metric, histogram)?;
        }
        Ok(())
    }

    fn events(&mut self, events: &[ConnectionEvent]) -> Result<(), ObserverError> {
        if let Some(trial) = &mut self.trial {
            trial.events(events)?;
        }
        Ok(())
    }

    fn trial_finished(
        &mut self,
        summary: &TrialSummary,
        server: Option<&ServerStats>,
    ) -> Result<(), ObserverError> {
        if let Some(trial) = self.trial.take() {
            trial.finish(summary.clone(), server.map(serde_json::to_value).transpose()?)?;
        }
        self.progress.trial_finished(summary);
        Ok(())
    }
}
