//! How far a run can be trusted: the worst grade, every reason with its place, and remarks on the run as a whole.

use pushmark_measure::Grade;
use pushmark_results::plan::TargetPlan;
use pushmark_results::run::{Run, RunStatus};
use serde::Serialize;

use crate::escape::visible;

/// How far a run can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// The worst grade of the finished trials; at best suspect when the run did not end as planned, invalid when no
    /// trial finished.
    pub grade: Grade,
    /// A smoke run.
    #[serde(skip)]
    smoke: bool,
    /// Trials the plan asked for.
    pub trials_planned: u64,
    /// Trials that finished.
    pub trials_finished: u64,
    /// Finished trials that are suspect or invalid.
    pub trials_doubted: u64,
    /// Whole sentences about the run, before any number is looked at.
    pub caveats: Vec<String>,
    /// Why trials are suspect or invalid, worst first.
    pub findings: Vec<PlacedFinding>,
    /// Remarks made before the run.
    pub notes: Vec<String>,
}

/// One reason, and the trials it holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacedFinding {
    /// How bad it is.
    pub grade: Grade,
    /// The cell's id.
    pub cell: String,
    /// The repeats, counted from one.
    pub repeats: Vec<u32>,
    /// What was seen.
    pub reason: String,
}

impl PlacedFinding {
    /// Where it holds: `x-h1, repeats 1 and 3`.
    pub fn place(&self) -> String {
        let numbers: Vec<String> = self.repeats.iter().map(u32::to_string).collect();
        match numbers.as_slice() {
            [one] => format!("{}, repeat {one}", self.cell),
            [all @ .., last] => format!("{}, repeats {} and {last}", self.cell, all.join(", ")),
            [] => self.cell.clone(),
        }
    }
}

impl Quality {
    /// Judges a run by its trials' verdicts and by how it ended.
    pub fn of(run: &Run) -> Self {
        let manifest = &run.manifest;
        let plan = &manifest.plan;
        let finished = || {
            run.trials
                .iter()
                .filter(|t| t.summary.is_some() && run.cell(t).is_some())
        };
        let trials_planned = u64::from(plan.repeats) * plan.cells.len() as u64;
        let trials_finished = finished().count() as u64;
        let mut findings: Vec<PlacedFinding> = Vec::new();
        for trial in &run.trials {
            let cell = run
                .cell(trial)
                .map_or_else(|| "unknown cell".to_owned(), |c| visible(&c.id));
            let repeat = trial.repeat.saturating_add(1);
            for finding in &trial.verdict.findings {
                let reason = visible(&finding.reason);
                match findings
                    .iter_mut()
                    .find(|f| f.cell == cell && f.grade == finding.grade && f.reason == reason)
                {
                    Some(known) => known.repeats.push(repeat),
                    None => findings.push(PlacedFinding {
                        grade: finding.grade,
                        cell: cell.clone(),
                        repeats: vec![repeat],
                        reason,
                    }),
                }
            }
        }
        findings.sort_by_key(|f| std::cmp::Reverse(f.grade));

        let mut grade = finished()
            .map(|t| t.verdict.grade())
            .max()
            .unwrap_or(Grade::Invalid);
        let mut caveats = Vec::new();
        if plan.quick {
            caveats.push("quick: a smoke run, not a measurement".to_owned());
        }
        if plan
            .cells
            .iter()
            .any(|c| c.target != TargetPlan::Embedded && c.target_tls.insecure)
        {
            caveats.push(
                "insecure: no certificate was verified, so whoever answered may have been anybody".to_owned(),
            );
        }
        let done = format!("{trials_finished} of {trials_planned} trials finished");
        let why = manifest
            .status_reason
            .as_deref()
            .map(|r| format!(" ({})", visible(r)))
            .unwrap_or_default();
        match manifest.status {
            RunStatus::Complete if trials_finished < trials_planned => {
                caveats.push(format!("incomplete: {done}"));
                grade = grade.max(Grade::Suspect);
            }
            RunStatus::Complete => (),
            RunStatus::Partial => {
                caveats.push(format!("partial: the run was ended early{why}; {done}"));
                grade = grade.max(Grade::Suspect);
            }
            RunStatus::Running => {
                caveats.push(format!(
                    "unfinished: the run is still going on, or was killed{why}; {done}"
                ));
                grade = grade.max(Grade::Suspect);
            }
        }
        Quality {
            grade,
            smoke: plan.quick,
            trials_planned,
            trials_finished,
            trials_doubted: finished().filter(|t| t.verdict.grade() > Grade::Valid).count() as u64,
            caveats,
            findings,
            notes: manifest.notes.iter().map(|n| visible(n)).collect(),
        }
    }

    /// The verdict in one line: `suspect: 2 of 9 trials are in doubt`.
    pub fn headline(&self) -> String {
        let word = self.grade.as_str();
        match (self.trials_finished, self.trials_doubted) {
            (0, _) => format!("{word}: no trial finished"),
            // Sound, but no measurement.
            (all, 0) if self.grade == Grade::Valid && self.smoke => {
                format!("{word} as a smoke run: nothing went wrong in {all} trials")
            }
            (all, 0) if self.grade == Grade::Valid => {
                format!("{word}: nothing speaks against the numbers of {all} trials")
            }
            (all, 0) => format!("{word}: the {all} trials that finished are sound, the run is not whole"),
            (all, some) => format!("{word}: {some} of {all} trials in doubt"),
        }
    }
}
