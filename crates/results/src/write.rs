//! The write side: a run directory that grows as the run goes. Every row is flushed, nothing is overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pushmark_measure::{
    ConnectionEvent, Histogram, Histograms, Interval, Metric, Nanos, TrialSummary, Verdict, clock,
};
use pushmark_scenario::plan::Cell;
use serde::{Deserialize, Serialize};

use crate::error::ResultsError;
use crate::events::EventsWriter;
use crate::files::{FileCheck, create_new, replace_document, write_new};
use crate::hlog::{self, HlogWriter};
use crate::intervals::IntervalsWriter;
use crate::judge;
use crate::names;
use crate::run::{FORMAT_VERSION, IntervalRow, Manifest, RunStatus};
use crate::summary::{FinishedTrial, columns, line};

/// Names in a run directory.
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const TRIALS: &str = "trials";
pub(crate) const TRIAL: &str = "trial.json";
pub(crate) const INTERVALS: &str = "intervals.csv";
const SUMMARY: &str = "summary.csv";

/// Runs of one scenario that began in the same second, at the most; more is a sign of something else.
const MOST_ATTEMPTS: u32 = 1_000;

/// `trial.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrialFile {
    /// [`FORMAT_VERSION`].
    pub(crate) format_version: u32,
    /// Place in running order, from zero.
    pub(crate) index: u32,
    /// Repeat, from zero.
    pub(crate) repeat: u32,
    /// `plan.cells[cell_index]`.
    pub(crate) cell_index: usize,
    /// `None` until the trial ends.
    pub(crate) summary: Option<TrialSummary>,
    /// What the trial's other files were when it ended; empty until then.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, FileCheck>,
}

/// Writes one run directory.
#[derive(Debug)]
pub struct RunWriter {
    dir: PathBuf,
    manifest: Manifest,
    summary_csv: File,
}

impl RunWriter {
    /// Creates `<parent>/<UTC date and time>-<scenario name>` and writes the manifest with status running. The date is
    /// `manifest.started_unix_s`; a run that exists already is left alone and this one gets `-2`, `-3`, … The
    /// manifest's version, status and reason are set here, whatever the caller gave.
    ///
    /// # Errors
    /// [`ResultsError::Unusable`] when `parent` is a symbolic link or not a directory; [`ResultsError::Io`] when
    /// anything cannot be created.
    pub fn create(parent: &Path, manifest: Manifest) -> Result<RunWriter, ResultsError> {
        refuse_link(parent)?;
        fs::create_dir_all(parent).map_err(ResultsError::io("create", parent))?;
        for attempt in 1..=MOST_ATTEMPTS {
            let dir = parent.join(names::run_dir(
                manifest.started_unix_s,
                &manifest.plan.name,
                attempt,
            ));
            // `create_dir` fails on anything that exists: two runs cannot come to share a directory.
            match fs::create_dir(&dir) {
                Ok(()) => return Self::begin(dir, manifest),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(ResultsError::io("create", &dir)(e)),
            }
        }
        Err(ResultsError::Unusable {
            path: parent.to_owned(),
            why: "a thousand runs of this scenario began in the same second; check the clock, or choose another directory",
        })
    }

    /// Writes into `dir` itself, which must not exist, or be empty.
    ///
    /// # Errors
    /// [`ResultsError::Unusable`] when `dir` is a symbolic link, not a directory, or not empty;
    /// [`ResultsError::Io`] when anything cannot be created.
    pub fn create_at(dir: &Path, manifest: Manifest) -> Result<RunWriter, ResultsError> {
        refuse_link(dir)?;
        fs::create_dir_all(dir).map_err(ResultsError::io("create", dir))?;
        let mut entries = fs::read_dir(dir).map_err(ResultsError::io("read", dir))?;
        if entries.next().is_some() {
            return Err(not_empty(dir));
        }
        Self::begin(dir.to_owned(), manifest)
    }

    fn begin(dir: PathBuf, mut manifest: Manifest) -> Result<RunWriter, ResultsError> {
        // Whoever creates `trials` owns the directory, should two have found it empty at the same time.
        let trials = dir.join(TRIALS);
        fs::create_dir(&trials).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => not_empty(&dir),
            _ => ResultsError::io("create", &trials)(e),
        })?;
        (manifest.format_version, manifest.status, manifest.status_reason) =
            (FORMAT_VERSION, RunStatus::Running, None);
        replace_document(&dir.join(MANIFEST), &manifest)?;
        write_new(&dir.join("scenario.toml"), manifest.plan.source.as_bytes())?;
        let summary_csv = begin_summary(&dir.join(SUMMARY), manifest.plan.cells.first())?;
        Ok(RunWriter {
            dir,
            manifest,
            summary_csv,
        })
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest as it stands on disk.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Begins trial number `index` (from zero) of `plan.cells[cell_index]`, for the `repeat`th time (from zero). A
    /// trial that is dropped without [`TrialWriter::finish`] reads as one that never ended.
    ///
    /// # Errors
    /// [`ResultsError::UnknownCell`] for a cell the plan does not have; [`ResultsError::Io`] when a file cannot be
    /// written, or the trial was begun before.
    pub fn begin_trial(
        &mut self,
        index: u32,
        repeat: u32,
        cell_index: usize,
    ) -> Result<TrialWriter, ResultsError> {
        let cells = &self.manifest.plan.cells;
        let cell = cells
            .get(cell_index)
            .cloned()
            .ok_or_else(|| ResultsError::UnknownCell {
                path: self.dir.clone(),
                cell_index,
                cells: cells.len(),
            })?;
        let dir = self
            .dir
            .join(TRIALS)
            .join(names::trial_dir(index, &cell.id, repeat));
        fs::create_dir(&dir).map_err(ResultsError::io("create", &dir))?;
        let record = TrialFile {
            format_version: FORMAT_VERSION,
            index,
            repeat,
            cell_index,
            summary: None,
            files: BTreeMap::new(),
        };
        replace_document(&dir.join(TRIAL), &record)?;
        let summary_path = self.dir.join(SUMMARY);
        let summary_csv = self
            .summary_csv
            .try_clone()
            .map_err(ResultsError::io("open", &summary_path))?;
        Ok(TrialWriter {
            intervals: IntervalsWriter::create(&dir.join(INTERVALS))?,
            events: EventsWriter::create(&dir.join("events.csv"))?,
            logs: BTreeMap::new(),
            measured: Histograms::default(),
            length_s: 0.0,
            began: None,
            dir,
            record,
            cell,
            summary_csv,
            summary_path,
        })
    }

    /// Adds a remark to the manifest.
    ///
    /// # Errors
    /// [`ResultsError::Io`] when the manifest cannot be replaced; the old one then stands.
    pub fn add_note(&mut self, note: impl Into<String>) -> Result<(), ResultsError> {
        self.manifest.notes.push(note.into());
        replace_document(&self.dir.join(MANIFEST), &self.manifest)
    }

    /// Writes how the run ended, and why when it ended early.
    ///
    /// # Errors
    /// [`ResultsError::Io`] when the manifest cannot be replaced; the run then reads as still running.
    pub fn finish(&mut self, status: RunStatus, reason: Option<String>) -> Result<(), ResultsError> {
        (self.manifest.status, self.manifest.status_reason) = (status, reason);
        replace_document(&self.dir.join(MANIFEST), &self.manifest)
    }
}

/// Writes one trial's directory.
pub struct TrialWriter {
    dir: PathBuf,
    record: TrialFile,
    cell: Cell,
    intervals: IntervalsWriter,
    events: EventsWriter,
    logs: BTreeMap<Metric, HlogWriter>,
    measured: Histograms,
    /// The end of the last interval, in seconds since the first one began.
    length_s: f64,
    /// First instant of the first interval: the zero of every time in the trial's files, and its wall-clock time in
    /// seconds since the Unix epoch.
    began: Option<(Nanos, f64)>,
    summary_csv: File,
    summary_path: PathBuf,
}

impl TrialWriter {
    /// The trial's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes one interval: its row, and its measured distributions to the log of each metric. The start of the first
    /// one is the zero of every time in the trial's files.
    ///
    /// # Errors
    /// [`ResultsError::Io`] when a file cannot be written, a full disk for one; the trial cannot go on after that, and
    /// what was written before stays readable. [`ResultsError::Encode`] when a histogram cannot be encoded.
    pub fn interval(&mut self, interval: &Interval) -> Result<(), ResultsError> {
        let (origin, start_unix_s) = *self.began.get_or_insert_with(|| {
            let age_s = clock::now().since(interval.start) as f64 / 1e9;
            (interval.start, (clock::unix_seconds() as f64 - age_s).max(0.0))
        });
        let row = IntervalRow::of(interval, origin);
        self.length_s = row.start_s + row.length_s;
        for metric in Metric::ALL {
            if let Some(histogram) = interval.measured.get(metric) {
                self.log(metric, start_unix_s)?
                    .write(row.start_s, row.length_s, histogram)?;
            }
        }
        self.measured.merge(&interval.measured);
        self.intervals.write(&row)
    }

    /// Writes a distribution that came as a whole, not interval by interval: one line in the metric's log, over the trial so far.
    /// For a metric that no interval has values of.
    ///
    /// # Errors
    /// As [`TrialWriter::interval`].
    pub fn distribution(&mut self, metric: Metric, histogram: &Histogram) -> Result<(), ResultsError> {
        let start_unix_s = match self.began {
            Some((_, start_unix_s)) => start_unix_s,
            None => clock::unix_seconds() as f64,
        };
        let length_s = self.length_s;
        self.log(metric, start_unix_s)?.write(0.0, length_s, histogram)?;
        let mut whole = Histograms::default();
        whole.insert(metric, histogram.clone());
        self.measured.merge(&whole);
        Ok(())
    }

    /// The log of a metric, begun when there is something to write.
    fn log(&mut self, metric: Metric, start_unix_s: f64) -> Result<&mut HlogWriter, ResultsError> {
        Ok(match self.logs.entry(metric) {
            std::collections::btree_map::Entry::Occupied(log) => log.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let path = self.dir.join(hlog::file_name(metric));
                place.insert(HlogWriter::create(&path, metric, start_unix_s)?)
            }
        })
    }

    /// Writes connection events; they may come in any order, and before the first interval. After 100,000 they are
    /// counted only.
    ///
    /// # Errors
    /// [`ResultsError::Io`] when the file cannot be written.
    pub fn events(&mut self, events: &[ConnectionEvent]) -> Result<(), ResultsError> {
        self.events.write(events, self.began.map(|(origin, _)| origin))
    }

    /// Ends the trial: writes what it came to and what the server said of itself.
    ///
    /// # Errors
    /// [`ResultsError::Io`] when a file cannot be written; the trial then reads as one that never ended, unless only
    /// its row in `summary.csv` is missing.
    pub fn finish(
        mut self,
        summary: TrialSummary,
        server: Option<serde_json::Value>,
    ) -> Result<(), ResultsError> {
        self.events.finish(self.began.map(|(origin, _)| origin))?;
        if let Some(server) = server {
            let path = self.dir.join("server.json");
            let encoding = |e: serde_json::Error| ResultsError::Encode {
                path: path.clone(),
                what: e.to_string(),
            };
            let text = serde_json::to_string_pretty(&server).map_err(encoding)?;
            write_new(&path, format!("{text}\n").as_bytes())?;
        }
        self.record
            .files
            .insert(INTERVALS.to_owned(), self.intervals.check());
        for (metric, log) in &self.logs {
            self.record.files.insert(hlog::file_name(*metric), log.check());
        }
        let verdict = judge::verdict(Some(&summary), &self.measured);
        let row = columns(&FinishedTrial {
            index: self.record.index,
            repeat: self.record.repeat,
            cell: &self.cell,
            verdict: &verdict,
            summary: &summary,
            histograms: &self.measured,
        });
        let row = line(&row.cells).map_err(ResultsError::csv(&self.summary_path))?;
        self.record.summary = Some(summary);
        replace_document(&self.dir.join(TRIAL), &self.record)?;
        // One write: rows of trials that end at the same time stay whole.
        self.summary_csv
            .write_all(&row)
            .map_err(ResultsError::io("write", &self.summary_path))
    }
}

impl std::fmt::Debug for TrialWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrialWriter")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Creates `summary.csv` with its header; the header is that of any row, and a plan without cells has none.
fn begin_summary(path: &Path, any_cell: Option<&Cell>) -> Result<File, ResultsError> {
    let mut file = create_new(path)?;
    if let Some(cell) = any_cell {
        let nothing = FinishedTrial {
            index: 0,
            repeat: 0,
            cell,
            verdict: &Verdict::default(),
            summary: &TrialSummary::default(),
            histograms: &Histograms::default(),
        };
        let header = line(&columns(&nothing).names).map_err(ResultsError::csv(path))?;
        file.write_all(&header).map_err(ResultsError::io("write", path))?;
    }
    Ok(file)
}

pub(crate) fn refuse_link(dir: &Path) -> Result<(), ResultsError> {
    // Its components: with a slash at the end, the path would name what the link points to.
    let why = match fs::symlink_metadata(dir.components().as_path()) {
        Ok(metadata) if metadata.is_symlink() => "it is a symbolic link; give the directory it points to",
        Ok(metadata) if !metadata.is_dir() => "it is not a directory; choose another name",
        _ => return Ok(()),
    };
    Err(ResultsError::Unusable {
        path: dir.to_owned(),
        why,
    })
}

fn not_empty(dir: &Path) -> ResultsError {
    ResultsError::Unusable {
        path: dir.to_owned(),
        why: "it is not empty, and results are never overwritten; choose another name",
    }
}
