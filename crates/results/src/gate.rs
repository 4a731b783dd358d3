//! A gate on disk: what both arms did, block by block, the verdict, and all that is needed to reach it again.
//!
//! ```text
//! results/20261120T061000Z-gate-feed/
//!   gate.json      seed, plan, every figure and every difference, what the sensors saw, the verdict; sealed by a check value
//!   report/        made from it: report.md, junit.xml, gate.sarif, table.txt, forest.svg and .png
//! ```
//!
//! The document is written as a whole when the gate has ended. A reader takes nothing on trust: differences are made again
//! from the figures, and the verdict from the differences.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pushmark_measure::Slots;
use pushmark_measure::gate::{Course, Found, Outcome, Plan, SensorLimits, Table, evidence};
use serde::{Deserialize, Serialize};

use crate::error::ResultsError;
use crate::files::{read_document, replace_document};
use crate::names;
use crate::run::{FORMAT_VERSION, GitState, Host};
use crate::write::refuse_link;

/// The document's name in a gate directory.
pub const GATE: &str = "gate.json";
/// What [`Gate::document`] says.
const DOCUMENT: &str = "pushmark-gate";
/// Gates of one name that began in the same second, at the most.
const MOST_ATTEMPTS: u32 = 1_000;

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateVerdict {
    /// Every required metric is proven.
    Pass,
    /// A pass, and at least one metric is better.
    Improvement,
    /// At least one metric is worse.
    Regression,
    /// The candidate broke down, or broke a promise that the baseline kept.
    Failure,
    /// Neither worse nor proven.
    Inconclusive,
    /// The sensors say that nothing can be told.
    Invalid,
}

impl GateVerdict {
    /// The verdict that failures and statistics make.
    pub fn of(failures: &[String], found: Option<&Found>) -> Self {
        if !failures.is_empty() {
            return GateVerdict::Failure;
        }
        match found.map(|f| f.judgement.outcome) {
            Some(Outcome::Pass) => GateVerdict::Pass,
            Some(Outcome::Improvement) => GateVerdict::Improvement,
            Some(Outcome::Regression) => GateVerdict::Regression,
            Some(Outcome::Inconclusive | Outcome::MoreBlocks) => GateVerdict::Inconclusive,
            Some(Outcome::Invalid) | None => GateVerdict::Invalid,
        }
    }

    /// The word used in files and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            GateVerdict::Pass => "pass",
            GateVerdict::Improvement => "improvement",
            GateVerdict::Regression => "regression",
            GateVerdict::Failure => "failure",
            GateVerdict::Inconclusive => "inconclusive",
            GateVerdict::Invalid => "invalid",
        }
    }
}

/// One scenario file of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateScenario {
    /// Its name.
    pub name: String,
    /// Where it was read from, as it was given.
    pub path: String,
    /// The question that it answers.
    pub question: String,
    /// The scenario as run, but for the lengths of its phases.
    pub source: String,
}

/// What each block is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockShape {
    /// Load runs, nothing is counted, in seconds.
    pub warmup_s: f64,
    /// The measured window of both arms together, in seconds.
    pub measure_s: f64,
    /// The turns that the arms take; `mine` is the first arm's.
    pub slots: Slots,
}

/// `gate.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Tells it from other documents.
    pub document: String,
    /// The version of pushmark that ran it.
    pub pushmark_version: String,
    /// When it began, in seconds since the Unix epoch.
    pub started_unix_s: u64,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// The machine.
    pub host: Host,
    /// The checkout it was run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// The profile's name.
    pub profile: String,
    /// What the coins came from.
    pub seed: u64,
    /// What each block is.
    pub block: BlockShape,
    /// The baseline, as it was given.
    pub baseline: String,
    /// The candidate, as it was given.
    pub candidate: String,
    /// What was run.
    pub scenarios: Vec<GateScenario>,
    /// When the data were looked at, and how sure to be.
    pub plan: Plan,
    /// What the sensors were held against.
    pub limits: SensorLimits,
    /// Every figure of every block.
    pub courses: Vec<Course>,
    /// Every difference.
    pub table: Table,
    /// What the candidate did that no statistics are needed for.
    pub failures: Vec<String>,
    /// What was left out, and other remarks.
    pub notes: Vec<String>,
    /// What the statistics found; `None` when the gate ended before its first look.
    pub found: Option<Found>,
    /// The verdict.
    pub verdict: GateVerdict,
}

impl Gate {
    /// Fills in what follows from the rest: version, differences, verdict.
    pub fn sealed(mut self) -> Self {
        self.format_version = FORMAT_VERSION;
        self.document = DOCUMENT.to_owned();
        self.table = evidence::table(&self.courses);
        self.verdict = GateVerdict::of(&self.failures, self.found.as_ref());
        self
    }

    /// Writes it into a new directory `<parent>/<UTC date and time>-gate-<name>`; gives the directory.
    ///
    /// # Errors
    /// When `parent` is a link, or the disk refuses.
    pub fn write_new(&self, parent: &Path, name: &str) -> Result<PathBuf, ResultsError> {
        let dir = new_dir(parent, self.started_unix_s, name)?;
        self.write_into(&dir).map(|()| dir)
    }

    /// Writes it into `dir` itself, which must be [ready](ready_dir).
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_into(&self, dir: &Path) -> Result<(), ResultsError> {
        replace_document(&dir.join(GATE), self)
    }

    /// Reads `gate.json`, or the one in a gate directory.
    ///
    /// # Errors
    /// When there is none, it is something else, another version wrote it, or it is not what was written.
    pub fn read(path: &Path) -> Result<Gate, ResultsError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            document: String,
        }
        let file = if path.is_dir() {
            path.join(GATE)
        } else {
            path.to_owned()
        };
        let not_a_gate = |why| ResultsError::NotAGate {
            path: file.clone(),
            why,
        };
        let head: Head = read_document(&file)?.ok_or_else(|| not_a_gate("there is no such file"))?;
        if head.document != DOCUMENT {
            return Err(not_a_gate("it is another document"));
        }
        read_document(&file)?.ok_or_else(|| not_a_gate("there is no such file"))
    }

    /// Reaches the verdict again from what was measured.
    ///
    /// # Errors
    /// In words, when the file does not say what its own figures say.
    pub fn judged_again(&self) -> Result<(GateVerdict, Option<Found>), String> {
        if evidence::table(&self.courses) != self.table {
            return Err("its differences are not those of its figures".to_owned());
        }
        let mut failures = self.failures.clone();
        let broken = self.courses.iter().flat_map(|c| c.broken(&self.limits));
        failures.extend(broken.filter(|what| !self.failures.contains(what)));
        let reached = |found: &Found| found.judgement.outcome != Outcome::MoreBlocks;
        let found = match evidence::walk(&self.courses, &self.plan, &self.limits) {
            Ok(found) if reached(&found) || !failures.is_empty() => Some(found),
            Ok(_) => return Err("it ends before the gate does".to_owned()),
            // A failure needs no statistics.
            Err(_) if !failures.is_empty() => None,
            Err(e) => return Err(format!("its figures cannot be judged: {e}")),
        };
        let verdict = GateVerdict::of(&failures, found.as_ref());
        // What ended by a failure may have ended before its next look.
        if verdict != self.verdict || (failures.is_empty() && found != self.found) {
            return Err(format!(
                "it says {}, and its figures say {}",
                self.verdict.as_str(),
                verdict.as_str()
            ));
        }
        Ok((verdict, found))
    }
}

/// A new directory `<parent>/<UTC date and time>-gate-<name>`.
pub(crate) fn new_dir(parent: &Path, started_unix_s: u64, name: &str) -> Result<PathBuf, ResultsError> {
    refuse_link(parent)?;
    fs::create_dir_all(parent).map_err(ResultsError::io("create", parent))?;
    for attempt in 1..=MOST_ATTEMPTS {
        let dir = parent.join(names::run_dir(started_unix_s, &format!("gate-{name}"), attempt));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(ResultsError::io("create", &dir)(e)),
        }
    }
    Err(ResultsError::Unusable {
        path: parent.to_owned(),
        why: "a thousand gates of this name began in the same second; check the clock, or choose another directory",
    })
}

/// Makes sure that `dir` can take a gate: it is new or empty.
///
/// # Errors
/// When it is a link, not a directory, or holds something.
pub fn ready_dir(dir: &Path) -> Result<(), ResultsError> {
    refuse_link(dir)?;
    fs::create_dir_all(dir).map_err(ResultsError::io("create", dir))?;
    let mut entries = fs::read_dir(dir).map_err(ResultsError::io("read", dir))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(ResultsError::Unusable {
            path: dir.to_owned(),
            why: "it is not empty; choose a new directory",
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pushmark_measure::gate::{Block, Figures};

    pub(crate) fn gate() -> Gate {
        let figures = |cpu: f64| Figures {
            values: [
                ("server_cpu_us_per_delivery", cpu),
                ("loss", 0.0),
                ("deliveries_per_second", 100.0),
            ]
            .map(|(k, v)| (k.to_owned(), v))
            .into(),
            ..Figures::default()
        };
        let mut course = Course {
            scenario: "feed".into(),
            ..Course::default()
        };
        for k in 0..10 {
            let noise = 0.01 * f64::from(k * 7 % 5);
            course.blocks.push(Block {
                baseline: figures(3.0 + noise),
                candidate: figures(3.0 + 0.02 - noise / 2.0),
                ..Block::default()
            });
        }
        course.choose_metrics();
        let (courses, plan, limits) = (
            vec![course],
            Plan::spending(&[10], 0.01).unwrap(),
            SensorLimits::default(),
        );
        let found = evidence::walk(&courses, &plan, &limits).unwrap();
        Gate {
            format_version: 0,
            document: String::new(),
            pushmark_version: "0".into(),
            started_unix_s: 0,
            took_s: 1.0,
            host: Host::default(),
            git: None,
            profile: "quick".into(),
            seed: u64::MAX,
            block: BlockShape {
                warmup_s: 1.0,
                measure_s: 1.0,
                slots: Slots::of_two(0),
            },
            baseline: "a".into(),
            candidate: "b".into(),
            scenarios: Vec::new(),
            plan,
            limits,
            courses,
            table: Table::default(),
            failures: Vec::new(),
            notes: Vec::new(),
            found: Some(found),
            verdict: GateVerdict::Pass,
        }
        .sealed()
    }

    #[test]
    fn what_is_read_says_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate();
        let at = gate.write_new(dir.path(), "feed").unwrap();
        for path in [at.clone(), at.join(GATE)] {
            let read = Gate::read(&path).unwrap();
            assert_eq!(read, gate);
            assert_eq!(read.judged_again(), Ok((gate.verdict, gate.found.clone())));
        }
        assert_eq!(gate.verdict, GateVerdict::Pass);
    }

    #[test]
    fn what_is_not_what_was_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = gate().write_new(dir.path(), "feed").unwrap().join(GATE);
        let text = fs::read_to_string(&at).unwrap();
        let refused = |text: &str| {
            fs::write(&at, text).unwrap();
            Gate::read(&at).unwrap_err().to_string()
        };
        assert!(refused("").contains("empty"));
        for cut in [1, text.len() / 3, text.len() - 3] {
            refused(&text[..cut]);
        }
        assert!(refused(&text.replacen("\"pass\"", "\"regression\"", 1)).contains("changed"));
        assert!(
            refused(&text.replacen("\"format_version\": 1", "\"format_version\": 2", 1)).contains("newer")
        );
        assert!(
            refused(&text.replacen("\"format_version\": 1", "\"format_version\": 0", 1))
                .contains("format version 0")
        );
        // A sound document that is none of a gate.
        replace_document(&at, &serde_json::json!({ "format_version": FORMAT_VERSION })).unwrap();
        assert!(
            Gate::read(&at)
                .unwrap_err()
                .to_string()
                .contains("another document")
        );
        assert!(Gate::read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_file_that_contradicts_itself_is_found_out() {
        let mut altered = gate();
        altered.table.rows[0].d[0] = Some(0.5);
        assert!(altered.judged_again().unwrap_err().contains("differences"));
        let mut altered = gate();
        altered.verdict = GateVerdict::Improvement;
        assert!(altered.judged_again().unwrap_err().contains("improvement"));
        let mut altered = gate();
        altered.courses[0].blocks.truncate(5);
        altered.table = evidence::table(&altered.courses);
        assert!(altered.judged_again().is_err());
        let mut altered = gate();
        altered.courses[0].blocks[4].candidate.promises.lost = 1;
        assert!(altered.judged_again().unwrap_err().contains("failure"));
    }
}
