//! The log of a self-test: a line of JSON for each gate, flushed as it ends, and a summary for people as the last. A log
//! without that was broken off: what was left out may have been left out for what it said.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use pushmark_measure::gate::validity::Machine;
use pushmark_measure::gate::{Kind, Reading, Role, Standing};
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
    /// How its two sides are compared; logs from before it was written do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
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
            kind: Some(r.kind),
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

/// What ran, and how: gates that are unlike in it have no common rate. Logs from before it was written do not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfTestConditions {
    /// The version of pushmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushmark_version: Option<String>,
    /// The commit of the checkout it ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// The profile's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// After how many blocks it looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks: Option<Vec<usize>>,
    /// Load runs, nothing is counted, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_s: Option<f64>,
    /// The measured window of both arms together, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_s: Option<f64>,
    /// False alarms that the plan allows a gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

impl SelfTestConditions {
    fn of(gate: &Gate) -> Self {
        Self {
            pushmark_version: Some(gate.pushmark_version.clone()),
            git_commit: gate.git.as_ref().map(|git| git.commit.clone()),
            profile: Some(gate.profile.clone()),
            looks: Some(gate.plan.looks.iter().map(|look| look.blocks).collect()),
            warmup_s: Some(gate.block.warmup_s),
            measure_s: Some(gate.block.measure_s),
            alpha: Some(gate.plan.total_alpha()),
        }
    }

    /// By field, in words.
    fn each(&self) -> [(&'static str, String); 7] {
        fn words(value: Option<&impl std::fmt::Debug>) -> String {
            value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
        }
        [
            ("pushmark_version", words(self.pushmark_version.as_ref())),
            ("git_commit", words(self.git_commit.as_ref())),
            ("profile", words(self.profile.as_ref())),
            ("looks", words(self.looks.as_ref())),
            ("warmup_s", words(self.warmup_s.as_ref())),
            ("measure_s", words(self.measure_s.as_ref())),
            ("alpha", words(self.alpha.as_ref())),
        ]
    }
}

/// The extra work that a slower candidate was given.
#[derive(Clone, Copy, Debug)]
pub struct Injected<'a> {
    /// In percent of what a message costs.
    pub percent: f64,
    /// For a message in each thread of the server, in microseconds, for each cell.
    pub us: &'a [f64],
    /// What a message costs each thread of the server without it, in microseconds, for each cell.
    pub message_cost_us: &'a [f64],
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTestLine {
    /// What ran, and how.
    #[serde(flatten)]
    pub conditions: SelfTestConditions,
    /// Which kind.
    pub kind: SelfTestKind,
    /// Extra work, in percent of what a message costs.
    pub injected_percent: Option<f64>,
    /// The same for a message in each thread of the server, in microseconds, for each cell.
    pub injected_us: Option<Vec<f64>>,
    /// What it is that percentage of, in microseconds, for each cell; logs from before it was written do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_cost_us: Option<Vec<f64>>,
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
    /// The line of a gate that has ended; `injected` where the candidate was made slower.
    pub fn of(gate: &Gate, injected: Option<Injected<'_>>, ended_unix_s: u64, load_average: f64) -> Self {
        let readings = gate.found.iter().flat_map(|f| &f.judgement.readings);
        Self {
            conditions: SelfTestConditions::of(gate),
            kind: match injected {
                Some(_) => SelfTestKind::Slower,
                None => SelfTestKind::Alike,
            },
            injected_percent: injected.map(|i| i.percent),
            injected_us: injected.map(|i| i.us.to_vec()),
            message_cost_us: injected.map(|i| i.message_cost_us.to_vec()),
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

/// A log that was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfTest {
    /// After how many gates it was broken off; `None` when it was run to its end.
    pub broken_off_after: Option<usize>,
    /// In their order.
    pub gates: Vec<SelfTestLine>,
}

/// What a whole log ends with, for people.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTestSummary {
    /// In lines.
    pub summary: Vec<String>,
}

/// The gates of a log, in their order.
///
/// # Errors
/// When there is no such file, it holds no gate, a line of it is none of a self-test's, stands in it twice, or is of a gate
/// that was run under other conditions than the first.
pub fn read_self_test(path: &Path) -> Result<SelfTest, ResultsError> {
    let none = |why| ResultsError::NotAGate {
        path: path.to_owned(),
        why,
    };
    let contents = read_whole(path, LARGEST)?.ok_or_else(|| none("there is no such file"))?;
    let (mut gates, mut ended): (Vec<SelfTestLine>, bool) = (Vec::new(), false);
    // Where each gate stands, from one, by what no two gates have in common.
    let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (number, line) in (1u64..).zip(contents.split_inclusive(|byte| *byte == b'\n')) {
        let damaged = |what: String| ResultsError::damaged(path, Some(number), what);
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(damaged("it is cut off".to_owned()));
        };
        ended = serde_json::from_slice::<SelfTestSummary>(line).is_ok();
        if ended {
            continue;
        }
        let gate: SelfTestLine =
            serde_json::from_slice(line).map_err(|e| damaged(format!("no gate of a self-test: {e}")))?;
        if let Some(before) = seen.insert((gate.seed, gate.ended_unix_s), number) {
            return Err(damaged(format!(
                "it is the gate of line {before} once more (seed and ended_unix_s are the same)"
            )));
        }
        if let Some(first) = gates.first() {
            let both = first.conditions.each().into_iter().zip(gate.conditions.each());
            for ((field, before), (_, now)) in both {
                if before != now {
                    return Err(damaged(format!(
                        "its {field} is {now}, and the first gate's is {before}: unlike gates have no common rate"
                    )));
                }
            }
        }
        gates.push(gate);
    }
    if gates.is_empty() {
        return Err(none("it holds no gate"));
    }
    Ok(SelfTest {
        broken_off_after: (!ended).then_some(gates.len()),
        gates,
    })
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
        let read = read_self_test(&path).unwrap();
        assert_eq!((read.broken_off_after, read.gates), (None, vec![line]));
    }

    #[test]
    fn a_line_says_what_ran_and_is_read_again() {
        let injected = Injected {
            percent: 10.0,
            us: &[0.4],
            message_cost_us: &[4.0],
        };
        let gate = Gate {
            git: Some(crate::GitState {
                commit: "c0ffee".to_owned(),
                dirty: false,
            }),
            ..crate::gate::tests::gate()
        };
        let line = SelfTestLine::of(&gate, Some(injected), 1, 0.5);
        let c = &line.conditions;
        assert_eq!((c.looks.as_deref(), c.measure_s), (Some(&[10][..]), Some(1.0)));
        assert_eq!(c.git_commit.as_deref(), Some("c0ffee"));
        assert!(c.each().iter().all(|(_, words)| words != "none"), "{c:?}");
        assert!(line.readings.iter().all(|r| r.kind.is_some()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        SelfTestLog::create(&path).unwrap().add(&line).unwrap();
        // Broken off: there is no summary.
        let read = read_self_test(&path).unwrap();
        assert_eq!((read.broken_off_after, read.gates), (Some(1), vec![line]));
    }

    #[test]
    fn unlike_gates_and_the_same_one_twice_are_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let line = |number: u64, change: &dyn Fn(&mut SelfTestConditions)| {
            let mut line = SelfTestLine::of(&crate::gate::tests::gate(), None, number, 0.5);
            change(&mut line.conditions);
            serde_json::to_string(&line).unwrap() + "\n"
        };
        let first = line(1, &|_| ());
        type Change = fn(&mut SelfTestConditions);
        let changes: [(&str, Change); 7] = [
            ("pushmark_version", |c| c.pushmark_version = None),
            ("git_commit", |c| c.git_commit = Some("c0ffee".to_owned())),
            ("profile", |c| c.profile = Some("long".to_owned())),
            ("looks", |c| c.looks = Some(vec![10, 20])),
            ("warmup_s", |c| c.warmup_s = Some(0.2)),
            ("measure_s", |c| c.measure_s = Some(9.0)),
            ("alpha", |c| c.alpha = Some(0.2)),
        ];
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_self_test(&path).unwrap_err().to_string()
        };
        for (field, change) in changes {
            let said = refused(&(first.clone() + &line(2, &|_| ()) + &line(3, &change)));
            assert!(
                said.contains("line 3") && said.contains(&format!("its {field} is")),
                "{said}"
            );
        }
        let said = refused(&(first.clone() + &line(2, &|_| ()) + &first));
        assert!(said.contains("line 3") && said.contains("of line 1"), "{said}");
    }

    #[test]
    fn a_gate_that_has_a_summary_is_counted_and_a_summary_that_has_more_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let with = OLD.replacen('{', "{\"summary\":[\"x\"],", 1);
        std::fs::write(&path, format!("{with}\n")).unwrap();
        let read = read_self_test(&path).unwrap();
        assert_eq!((read.broken_off_after, read.gates.len()), (Some(1), 1));
        std::fs::write(&path, format!("{OLD}\n{{\"summary\":[],\"kind\":\"alike\"}}\n")).unwrap();
        let said = read_self_test(&path).unwrap_err().to_string();
        assert!(said.contains("line 2"), "{said}");
    }

    #[test]
    fn the_published_logs_are_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/published/gate");
        for (name, gates, broken_off) in [
            ("1-before-halves.log", 80, false),
            ("2-broken-off.log", 12, true),
            ("3-broken-off.log", 9, true),
            ("4-halves.log", 21, false),
        ] {
            let read = read_self_test(&dir.join(name)).unwrap();
            let broken_off = broken_off.then_some(gates);
            assert_eq!(
                (read.gates.len(), read.broken_off_after),
                (gates, broken_off),
                "{name}"
            );
        }
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
