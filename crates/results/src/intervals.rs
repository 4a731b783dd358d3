//! `intervals.csv`: a row an interval, written and read.

use std::path::{Path, PathBuf};

use pushmark_measure::{Histogram, Interval, Metric, Nanos};

use crate::error::ResultsError;
use crate::files::{Checker, FileCheck, GrowingFile, read_whole};
use crate::run::IntervalRow;

/// The largest file that is read, in bytes: a week of one row a second.
const LARGEST: u64 = 128 << 20;

impl IntervalRow {
    /// The row of `interval` in a trial whose first interval began at `origin`.
    pub fn of(interval: &Interval, origin: Nanos) -> Self {
        let latency = interval.all(Metric::Latency);
        let p99 = |metric| interval.all(metric).quantile(0.99);
        let counters = &interval.counters;
        Self {
            index: interval.index,
            phase: interval.phase,
            start_s: interval.start.duration_since(origin).as_secs_f64(),
            length_s: interval.end.duration_since(interval.start).as_secs_f64(),
            open_sessions: counters.open_sessions,
            attempted: counters.attempted,
            failed: counters.failed,
            dropped: counters.dropped,
            sent: counters.sent,
            delivered: counters.delivered,
            delivered_bytes: counters.delivered_bytes,
            latency_ns_p50: latency.quantile(0.5),
            latency_ns_p90: latency.quantile(0.9),
            latency_ns_p99: latency.quantile(0.99),
            latency_ns_max: Histogram::max(&latency),
            service_time_ns_p99: p99(Metric::ServiceTime),
            send_delay_ns_p99: p99(Metric::SendDelay),
            generator_cpu_ns: counters.cpu_user_ns.saturating_add(counters.cpu_system_ns),
            generator_rss_bytes: counters.rss_bytes,
        }
    }
}

/// Writes `intervals.csv`.
pub(crate) struct IntervalsWriter {
    csv: csv::Writer<GrowingFile>,
    path: PathBuf,
}

impl IntervalsWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, ResultsError> {
        Ok(Self {
            csv: csv::Writer::from_writer(GrowingFile::create(path)?),
            path: path.to_owned(),
        })
    }

    /// Writes one row (the first brings the header) and flushes it.
    pub(crate) fn write(&mut self, row: &IntervalRow) -> Result<(), ResultsError> {
        self.csv.serialize(row).map_err(ResultsError::csv(&self.path))?;
        self.csv.flush().map_err(ResultsError::io("write", &self.path))
    }

    pub(crate) fn check(&self) -> FileCheck {
        self.csv.get_ref().check()
    }
}

/// `intervals.csv` as it was found.
#[derive(Debug)]
pub(crate) struct IntervalsFile {
    pub(crate) rows: Vec<IntervalRow>,
    pub(crate) check: FileCheck,
    /// The last line had no end and was left out.
    pub(crate) torn: bool,
}

/// Reads `intervals.csv`; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<IntervalsFile>, ResultsError> {
    let Some(contents) = read_whole(path, LARGEST)? else {
        return Ok(None);
    };
    let mut checker = Checker::default();
    checker.update(&contents);
    // No cell of this file holds a line break, so what stands after the last one was cut off in the middle.
    let whole = contents.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut rows = Vec::new();
    let mut csv = csv::Reader::from_reader(&contents[..whole]);
    for (n, row) in csv.deserialize::<IntervalRow>().enumerate() {
        let row = row
            .map_err(|e| ResultsError::damaged(path, e.position().map(csv::Position::line), e.to_string()))?;
        if !(row.start_s.is_finite() && row.length_s.is_finite() && row.start_s >= 0.0 && row.length_s >= 0.0)
        {
            return Err(ResultsError::damaged(
                path,
                Some(n as u64 + 2),
                "start_s or length_s is not a length of time",
            ));
        }
        rows.push(row);
    }
    Ok(Some(IntervalsFile {
        rows,
        check: checker.check(),
        torn: whole < contents.len(),
    }))
}
