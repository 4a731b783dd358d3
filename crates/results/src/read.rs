//! The read side: a run directory, whole or as far as a killed run got.

use std::fs;
use std::path::{Path, PathBuf};

use pushmark_measure::{Grade, Histograms, Metric, Verdict};

use crate::error::ResultsError;
use crate::files::{FileCheck, read_document};
use crate::run::{Manifest, Run, RunStatus, TrialRecord};
use crate::write::{INTERVALS, MANIFEST, TRIAL, TRIALS, TrialFile};
use crate::{hlog, intervals, judge};

/// Trials of one run that are read, at the most: each holds a few megabytes of histograms.
const MOST_TRIALS: usize = 10_000;

impl Run {
    /// Reads a run directory. A run that was killed, or still goes on, is read up to its last flush; a last line that
    /// was cut off is left out and noted in the verdict of its trial. The same directory always reads the same.
    ///
    /// # Errors
    /// [`ResultsError::NotARun`] when there is no manifest; [`ResultsError::Version`] when another version wrote it;
    /// [`ResultsError::Damaged`], [`ResultsError::TooLarge`] or [`ResultsError::UnknownCell`] when a file is not what a
    /// run writes; [`ResultsError::Io`] when one cannot be read.
    pub fn open(dir: &Path) -> Result<Run, ResultsError> {
        let not_a_run = |why| ResultsError::NotARun {
            path: dir.to_owned(),
            why,
        };
        if !dir.is_dir() {
            return Err(not_a_run(if dir.exists() {
                "it is not a directory"
            } else {
                "there is no such directory"
            }));
        }
        let manifest: Manifest =
            read_document(&dir.join(MANIFEST))?.ok_or_else(|| not_a_run("it has no manifest.json"))?;
        let mut trials = Vec::new();
        for trial_dir in trial_dirs(&dir.join(TRIALS))? {
            if let Some(trial) = read_trial(&trial_dir, manifest.plan.cells.len())? {
                trials.push(trial);
            }
        }
        trials.sort_by_key(|t| t.index);
        if let Some(twice) = trials.windows(2).find(|pair| pair[0].index == pair[1].index) {
            let what = format!("two trials have the index {}", twice[0].index);
            return Err(ResultsError::damaged(&dir.join(TRIALS), None, what));
        }
        Ok(Run {
            dir: dir.to_owned(),
            manifest,
            trials,
        })
    }

    /// True when the run ended as planned: its status is complete and every trial of the plan is there, in the plan's
    /// order, with a summary. It says nothing about verdicts.
    pub fn is_complete(&self) -> bool {
        let plan = &self.manifest.plan;
        // Compared first: a damaged plan may ask for more repeats than can be counted through.
        (plan.repeats as usize).checked_mul(plan.cells.len()) == Some(self.trials.len())
            && self.manifest.status == RunStatus::Complete
            && self
                .trials
                .iter()
                .zip(0..)
                .zip(plan.trials())
                .all(|((trial, index), (repeat, cell_index))| {
                    (trial.index, trial.repeat, trial.cell_index) == (index, repeat, cell_index)
                        && trial.summary.is_some()
                })
    }
}

/// The directories of trials, by name; none when there is no directory for them yet.
fn trial_dirs(dir: &Path) -> Result<Vec<PathBuf>, ResultsError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(ResultsError::io("read", dir)(e)),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ResultsError::io("read", dir))?;
        // The type of the entry itself: a symbolic link is not followed out of the run.
        if entry.file_type().map_err(ResultsError::io("read", dir))?.is_dir() {
            dirs.push(entry.path());
        }
        if dirs.len() > MOST_TRIALS {
            let (size, limit) = (dirs.len() as u64, MOST_TRIALS as u64);
            return Err(ResultsError::TooLarge {
                path: dir.to_owned(),
                size,
                unit: "trials",
                limit,
            });
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// Reads one trial; `None` when the run was killed before the trial's first file.
fn read_trial(dir: &Path, cells: usize) -> Result<Option<TrialRecord>, ResultsError> {
    let path = dir.join(TRIAL);
    let Some(record) = read_document::<TrialFile>(&path)? else {
        return Ok(None);
    };
    if record.cell_index >= cells {
        return Err(ResultsError::UnknownCell {
            path,
            cell_index: record.cell_index,
            cells,
        });
    }
    let mut findings = Verdict::default();
    let mut compare = |name: String, found: Option<FileCheck>, torn: bool| {
        if torn {
            findings.add(
                Grade::Suspect,
                format!("the last line of {name} was cut off and is left out"),
            );
        }
        // A trial that never ended has no record of its files.
        if record.summary.is_some() && record.files.get(&name).copied() != found {
            findings.add(
                Grade::Invalid,
                format!("{name} is not what it was when the trial ended: cut off, changed or missing"),
            );
        }
    };

    let found = intervals::read(&dir.join(INTERVALS))?;
    compare(
        INTERVALS.to_owned(),
        found.as_ref().map(|f| f.check),
        found.as_ref().is_some_and(|f| f.torn),
    );
    let mut histograms = Histograms::default();
    for metric in Metric::ALL {
        let name = hlog::file_name(metric);
        let found = hlog::read(&dir.join(&name))?;
        compare(
            name,
            found.as_ref().map(|f| f.check),
            found.as_ref().is_some_and(|f| f.torn),
        );
        if let Some(log) = found.filter(|log| !log.histogram.is_empty()) {
            histograms.insert(metric, log.histogram);
        }
    }

    let mut verdict = judge::verdict(record.summary.as_ref(), &histograms);
    for finding in findings.findings {
        verdict.add(finding.grade, finding.reason);
    }
    Ok(Some(TrialRecord {
        index: record.index,
        repeat: record.repeat,
        cell_index: record.cell_index,
        summary: record.summary,
        verdict,
        intervals: found.map(|f| f.rows).unwrap_or_default(),
        histograms,
    }))
}
