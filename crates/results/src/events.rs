//! `events.csv`: what became of every connection, a row each, up to a limit.

use std::path::{Path, PathBuf};

use pushmark_measure::{ConnectionEvent, Nanos};

use crate::error::ResultsError;
use crate::files::GrowingFile;
use crate::table::text_cell;

/// Rows of one trial; a flapping server could fill a disk otherwise.
pub(crate) const MOST_ROWS: u64 = 100_000;

/// Writes `events.csv`.
pub(crate) struct EventsWriter {
    csv: csv::Writer<GrowingFile>,
    path: PathBuf,
    rows: u64,
    not_written: u64,
    /// Events that came before it was known when the trial began.
    held: Vec<ConnectionEvent>,
}

impl EventsWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, ResultsError> {
        let mut csv = csv::Writer::from_writer(GrowingFile::create(path)?);
        csv.write_record(["session", "at_s", "kind", "detail"])
            .map_err(ResultsError::csv(path))?;
        csv.flush().map_err(ResultsError::io("write", path))?;
        Ok(Self {
            csv,
            path: path.to_owned(),
            rows: 0,
            not_written: 0,
            held: Vec::new(),
        })
    }

    /// Writes the events, or holds them until `origin` is known.
    pub(crate) fn write(
        &mut self,
        events: &[ConnectionEvent],
        origin: Option<Nanos>,
    ) -> Result<(), ResultsError> {
        let Some(origin) = origin else {
            let room = (MOST_ROWS as usize)
                .saturating_sub(self.held.len())
                .min(events.len());
            self.held.extend_from_slice(&events[..room]);
            self.not_written += (events.len() - room) as u64;
            return Ok(());
        };
        let held = std::mem::take(&mut self.held);
        for event in held.iter().chain(events) {
            if self.rows == MOST_ROWS {
                self.not_written += 1;
                continue;
            }
            let row = [
                &event.session.to_string(),
                &seconds(event.at, origin),
                event.kind.as_str(),
                &text_cell(&event.detail),
            ];
            self.csv
                .write_record(row)
                .map_err(ResultsError::csv(&self.path))?;
            self.rows += 1;
        }
        self.csv.flush().map_err(ResultsError::io("write", &self.path))
    }

    /// Writes what is held and how many rows are missing.
    pub(crate) fn finish(mut self, origin: Option<Nanos>) -> Result<(), ResultsError> {
        let origin = origin
            .or_else(|| self.held.iter().map(|e| e.at).min())
            .unwrap_or_default();
        self.write(&[], Some(origin))?;
        if self.not_written > 0 {
            let more = format!("{} more events", self.not_written);
            self.csv
                .write_record(["", "", "not-written", &more])
                .map_err(ResultsError::csv(&self.path))?;
        }
        self.csv.flush().map_err(ResultsError::io("write", &self.path))
    }
}

/// Seconds since `origin`, negative before it.
fn seconds(at: Nanos, origin: Nanos) -> String {
    let sign = if at < origin { "-" } else { "" };
    let ns = at.0.abs_diff(origin.0);
    format!("{sign}{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_signed_and_exact() {
        for (at, origin, text) in [
            (1_500_000_000, 1_000_000_000, "0.500000"),
            (1_000_000_000, 1_500_000_000, "-0.500000"),
            (u64::MAX, 0, "18446744073.709551"),
            (7, 7, "0.000000"),
        ] {
            assert_eq!(seconds(Nanos(at), Nanos(origin)), text);
        }
    }
}
