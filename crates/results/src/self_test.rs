//! The log of a self-test: a line of JSON for each gate, flushed as it ends, and a summary for people as the last.

use std::path::{Path, PathBuf};

use std::io::Write;

use pushmark_measure::gate::validity::Machine;
use pushmark_measure::gate::{Reading, Role, Standing};
use serde::{Deserialize, Serialize};

use crate::error::ResultsError;
use crate::files::{GrowingFile, read_whole};
use crate::gate::{Gate, GateVerdict};

/// The largest log that is read, in bytes: some 10 KB a gate.
const LARGEST: u64 = 256 << 20;

/// Which gate it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelfTestKind {
    /// Nothing differs: a regression is a false alarm.
    Alike,
    /// The candidate does more work for each message: no regression is a miss.
    Slower,
}

/// One metric of one gate. Changes are shown ones: 0.1 is 10 % worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTestReading {
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub metric: String,
    /// The verdict on it.
    pub standing: Standing,
    /// What its test is good for; logs from before it was written do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How many blocks have a difference.
    pub blocks: usize,
    /// The adjusted p-value.
    pub p: Option<f64>,
    /// The estimate.
    pub change: Option<f64>,
    /// Its upper bound.
    pub upper: Option<f64>,
    /// What would have been found.
    pub detectable: Option<f64>,
}

impl SelfTestReading {
    fn of(r: &Reading) -> Self {
        Self {
            scenario: r.scenario.clone(),
            metric: r.name.clone(),
            standing: r.standing,
            role: Some(r.role),
            blocks: r.blocks,
            p: r.p,
            change: r.estimate.map(|e| r.kind.shown(e.centre)),
            upper: r.estimate.and_then(|e| e.upper).map(|d| r.kind.shown(d)),
            detectable: r.detectable.map(|d| r.kind.shown(d)),
        }
    }
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTestLine {
    /// Which kind.
    pub kind: SelfTestKind,
    /// Extra work, in percent of what a message costs.
    pub injected_percent: Option<f64>,
    /// The same in microseconds, for each cell.
    pub injected_us: Option<Vec<f64>>,
    /// When it ended, in seconds since the Unix epoch.
    pub ended_unix_s: u64,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// The host's load over the last minute, when it ended.
    pub load_average: f64,
    /// What the coins came from.
    pub seed: u64,
    /// What it said.
    pub verdict: GateVerdict,
    /// What the machine allowed to be judged.
    pub machine: Option<Machine>,
    /// What the candidate did that needs no statistics.
    pub failures: Vec<String>,
    /// Every metric.
    pub readings: Vec<SelfTestReading>,
}

impl SelfTestLine {
    /// The line of a gate that has ended; `injected`: percent and microseconds of extra work.
    pub fn of(gate: &Gate, injected: Option<(f64, &[f64])>, ended_unix_s: u64, load_average: f64) -> Self {
        let readings = gate.found.iter().flat_map(|f| &f.judgement.readings);
        Self {
            kind: match injected {
                Some(_) => SelfTestKind::Slower,
                None => SelfTestKind::Alike,
            },
            injected_percent: injected.map(|(percent, _)| percent),
            injected_us: injected.map(|(_, us)| us.to_vec()),
            ended_unix_s,
            took_s: gate.took_s,
            load_average,
            seed: gate.seed,
            verdict: gate.verdict,
            machine: gate.found.as_ref().map(|f| f.machine),
            failures: gate.failures.clone(),
            readings: readings.map(SelfTestReading::of).collect(),
        }
    }

    /// Whether a reading is a regression that decides.
    pub fn decides(&self, r: &SelfTestReading) -> bool {
        let advisory = match r.role {
            Some(role) => role == Role::Advisory,
            // Before roles were written: this one always was, and what was thin never made a verdict.
            None => r.metric == "latency_p999" || self.verdict != GateVerdict::Regression,
        };
        r.standing == Standing::Regression && !advisory
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct SelfTestLog {
    path: PathBuf,
    file: GrowingFile,
}

impl SelfTestLog {
    /// Creates the log.
    ///
    /// # Errors
    /// When the file exists, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, ResultsError> {
        let file = GrowingFile::create(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, line: &impl Serialize) -> Result<(), ResultsError> {
        let mut text = serde_json::to_vec(line).map_err(|e| ResultsError::Encode {
            path: self.path.clone(),
            what: e.to_string(),
        })?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(ResultsError::io("write", &self.path))
    }
}

/// The gates of a log, in their order.
///
/// # Errors
/// When there is no such file, it holds no gate, or a line of it is none of a self-test's.
pub fn read_self_test(path: &Path) -> Result<Vec<SelfTestLine>, ResultsError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Row {
        Summary {
            #[serde(rename = "summary")]
            _summary: Vec<String>,
        },
        Gate(Box<SelfTestLine>),
    }
    let none = |why| ResultsError::NotAGate {
        path: path.to_owned(),
        why,
    };
    let contents = read_whole(path, LARGEST)?.ok_or_else(|| none("there is no such file"))?;
    let mut all = Vec::new();
    for (number, line) in contents.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = |what: String| ResultsError::damaged(path, Some(number as u64 + 1), what);
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(damaged("it is cut off".to_owned()));
        };
        match serde_json::from_slice(line) {
            Ok(Row::Gate(gate)) => all.push(*gate),
            Ok(Row::Summary { .. }) => {}
            Err(_) => {
                // The untagged reader cannot say what is wrong.
                let what = serde_json::from_slice::<SelfTestLine>(line).err();
                return Err(damaged(what.map_or_else(
                    || "no gate of a self-test".to_owned(),
                    |e| format!("no gate of a self-test: {e}"),
                )));
            }
        }
    }
    if all.is_empty() {
        return Err(none("it holds no gate"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the first version wrote it, without roles.
    const OLD: &str = r#"{"ended_unix_s":1,"failures":[],"injected_percent":null,"injected_us":null,"kind":"alike","load_average":1.65,"machine":"fit","readings":[{"blocks":7,"change":0.005,"detectable":null,"metric":"latency_p50","p":0.69,"scenario":"self-test/ws","standing":"regression","upper":0.02}],"seed":757336201785095846,"took_s":66.5,"verdict":"regression"}"#;

    #[test]
    fn what_is_read_is_what_was_written_and_older_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = SelfTestLog::create(&path).unwrap();
        let mut line: SelfTestLine = serde_json::from_str(OLD).unwrap();
        assert!(line.decides(&line.readings[0]));
        line.readings[0].role = Some(Role::Advisory);
        assert!(!line.decides(&line.readings[0]));
        log.add(&line).unwrap();
        log.add(&serde_json::json!({ "summary": ["nothing differs"] }))
            .unwrap();
        assert_eq!(read_self_test(&path).unwrap(), [line]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (text, words) in [
            ("", "no gate"),
            ("{\"summary\":[]}\n", "no gate"),
            ("{}\n", "line 1"),
            (&OLD[..80], "cut off"),
            (&format!("{OLD}\n{}", &OLD[..50]), "line 2"),
            (&format!("{OLD}\n{}\n", OLD.replace("alike", "other")), "line 2"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = read_self_test(&path).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
