//! A history of sessions: each a build against a frozen reference server, in one file.
//!
//! ```text
//! history.jsonl     the first line says what every session has in common: reference, scenarios, lengths
//!                   then a line for each session, in order
//!                   the last line counts them, with the check value of all bytes before it
//! ```
//!
//! Lines, so that a repository shows what was added; a last one that seals them, so that a file cut at any place is known
//! to be cut. It is replaced as a whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::exact::mean;
use pushmark_measure::gate::validity::Machine;
use pushmark_measure::gate::{Found, HistoryJudgement, Kind, Metric, Outcome, Role, Series, judge_session};
use serde::{Deserialize, Serialize};

use crate::error::ResultsError;
use crate::files::{Checker, read_document, read_whole, replace_document, replace_whole};
use crate::gate::{GATE, Gate, GateVerdict, new_dir};
use crate::run::FORMAT_VERSION;

mod head;
pub use head::{Head, HistoryScenario};

/// What [`Head::document`] says.
const HISTORY: &str = "pushmark-history";
/// What [`HistoryGate::document`] says.
const HISTORY_GATE: &str = "pushmark-history-gate";
/// More metrics than this, over all sessions, no gate has: each is tested against thousands of random orders.
const MOST_METRICS: usize = 1_000;
/// The largest history that is read, in bytes: some 5 KB a session.
const LARGEST: u64 = 64 << 20;

/// One metric of a session: ln(build / reference), plus is worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionValue {
    /// Which metric, with its limits.
    pub metric: Metric,
    /// The estimate over the session's blocks.
    pub h: f64,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// What its author calls it: a commit, mostly.
    pub label: String,
    /// When it began, in seconds since the Unix epoch.
    pub started_unix_s: u64,
    /// What its coins came from; with the start, what tells it from every other.
    pub seed: u64,
    /// The version of pushmark that ran it.
    pub pushmark_version: String,
    /// The build, as it was given.
    pub candidate: String,
    /// The processor of its machine, and how many of them.
    pub machine: (String, u32),
    /// What the machine allowed to be judged.
    pub fit: Machine,
    /// What history said of it.
    pub verdict: GateVerdict,
    /// A change was accepted here: sessions before it are no measure for those after it.
    #[serde(default)]
    pub accepted: bool,
    /// Its metrics.
    pub values: Vec<SessionValue>,
}

impl Session {
    fn new(gate: &Gate, label: &str, accepted: bool) -> Self {
        Self {
            label: label.to_owned(),
            started_unix_s: gate.started_unix_s,
            seed: gate.seed,
            pushmark_version: gate.pushmark_version.clone(),
            candidate: gate.candidate.clone(),
            machine: (gate.host.cpu_model.clone(), gate.host.cores),
            fit: gate.found.as_ref().map_or(Machine::Unfit, |f| f.machine),
            verdict: GateVerdict::Invalid,
            accepted,
            values: gate.found.as_ref().map_or_else(Vec::new, |f| values(gate, f)),
        }
    }

    /// The value of a metric.
    pub fn value(&self, scenario: &str, name: &str) -> Option<&SessionValue> {
        let is = |v: &&SessionValue| v.metric.scenario == scenario && v.metric.name == name;
        self.values.iter().find(is)
    }
}

/// The metrics that a gate could judge, each as one number: the centre of its blocks, and of a share their mean, since one
/// block that lost everything does not move the centre.
fn values(gate: &Gate, found: &Found) -> Vec<SessionValue> {
    let metrics = || gate.courses.iter().flat_map(|c| &c.metrics);
    let value = |r: &pushmark_measure::gate::Reading| {
        let metric = metrics().find(|m| m.scenario == r.scenario && m.name == r.name)?;
        let centre = r.estimate.filter(|_| r.why.is_none())?.centre;
        let blocks = || {
            let row = gate.table.rows.iter().find(|row| &row.metric == metric)?;
            let dropped = found
                .validity
                .iter()
                .find(|(scenario, _)| *scenario == r.scenario);
            let dropped = dropped.map_or_else(Default::default, |(_, v)| v.dropped_blocks());
            let kept = row.d.iter().take(found.judgement.at.blocks).enumerate();
            let kept = kept.filter(|(block, _)| !dropped.contains(block));
            mean(&kept.filter_map(|(_, d)| *d).collect::<Vec<_>>())
        };
        let h = match metric.kind {
            Kind::Fraction => blocks()?,
            Kind::Cost | Kind::Rate => centre,
        };
        Some(SessionValue {
            metric: metric.clone(),
            h,
        })
    };
    found.judgement.readings.iter().filter_map(value).collect()
}

/// A history.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What all sessions have in common.
    pub head: Head,
    /// In order.
    pub sessions: Vec<Session>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    sessions: usize,
    check: String,
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut checker = Checker::default();
    checker.update(bytes);
    checker.check().crc32
}

fn check_value(bytes: &[u8]) -> String {
    format!("crc32:{:08x}", crc32(bytes))
}

impl History {
    /// Reads a history; `None` when there is no file.
    ///
    /// # Errors
    /// When it is something else, another version wrote it, or it is not what was written.
    pub fn read(path: &Path) -> Result<Option<Self>, ResultsError> {
        #[derive(Deserialize)]
        struct Versioned {
            format_version: u64,
            document: String,
        }
        let Some(contents) = read_whole(path, LARGEST)? else {
            return Ok(None);
        };
        let damaged = |line: usize, what: &str| ResultsError::damaged(path, Some(line as u64 + 1), what);
        if contents.is_empty() {
            return Err(ResultsError::damaged(path, None, "it is empty"));
        }
        let lines: Vec<&[u8]> = contents.split_inclusive(|byte| *byte == b'\n').collect();
        let foreign = |why| ResultsError::NotAGate {
            path: path.to_owned(),
            why,
        };
        let versioned: Versioned = lines
            .first()
            .and_then(|line| serde_json::from_slice(line).ok())
            .ok_or_else(|| foreign("its first line is not that of a history"))?;
        if versioned.document != HISTORY {
            return Err(foreign("it is another document"));
        }
        if versioned.format_version != u64::from(FORMAT_VERSION) {
            return Err(ResultsError::Version {
                path: path.to_owned(),
                found: versioned.format_version,
                known: FORMAT_VERSION,
            });
        }
        let (Some((last, before)), true) = (lines.split_last(), contents.ends_with(b"\n")) else {
            return Err(damaged(lines.len().saturating_sub(1), "it is cut off"));
        };
        let seal: Seal = serde_json::from_slice(last).map_err(|_| {
            damaged(
                before.len(),
                "it does not end with its check value: it is cut off",
            )
        })?;
        let sealed = &contents[..contents.len() - last.len()];
        if seal.check != check_value(sealed) || seal.sessions + 1 != before.len() {
            return Err(damaged(
                before.len(),
                "its check value does not fit: it was changed since it was written",
            ));
        }
        let parsed = |line: usize, e: serde_json::Error| damaged(line, &e.to_string());
        let (head, rest) = before
            .split_first()
            .ok_or_else(|| foreign("its first line is not that of a history"))?;
        let head = serde_json::from_slice(head).map_err(|e| parsed(0, e))?;
        let mut sessions: Vec<Session> = Vec::new();
        let (mut known, mut metrics) = (BTreeSet::new(), BTreeSet::new());
        for (number, line) in rest.iter().enumerate() {
            let session: Session = serde_json::from_slice(line).map_err(|e| parsed(number + 1, e))?;
            if !known.insert((session.started_unix_s, session.seed)) {
                return Err(damaged(number + 1, "this session stands here twice"));
            }
            let metric = |v: &SessionValue| (v.metric.scenario.clone(), v.metric.name.clone());
            metrics.extend(session.values.iter().map(metric));
            if session.values.len() > MOST_METRICS || metrics.len() > MOST_METRICS {
                let what = format!("it has more than {MOST_METRICS} metrics");
                return Err(damaged(number + 1, &what));
            }
            sessions.push(session);
        }
        Ok(Some(Self { head, sessions }))
    }

    /// Writes it, in place of what was there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let encoding = |e: serde_json::Error| ResultsError::Encode {
            path: path.to_owned(),
            what: e.to_string(),
        };
        let mut text = serde_json::to_string(&self.head).map_err(encoding)? + "\n";
        for session in &self.sessions {
            text += &serde_json::to_string(session).map_err(encoding)?;
            text.push('\n');
        }
        let seal = Seal {
            sessions: self.sessions.len(),
            check: check_value(text.as_bytes()),
        };
        text += &serde_json::to_string(&seal).map_err(encoding)?;
        text.push('\n');
        replace_whole(path, text.as_bytes())
    }

    /// Adds a session to the file, which may have grown meanwhile.
    ///
    /// # Errors
    /// When the file is not, or not any more, one that it belongs to; or the disk refuses.
    pub fn append(path: &Path, head: &Head, session: Session) -> Result<(), ResultsError> {
        let mut now = Self::read(path)?.unwrap_or_else(|| Self {
            head: head.clone(),
            sessions: Vec::new(),
        });
        if let Some(why) = now.head.differs(head) {
            return Err(ResultsError::damaged(
                path,
                None,
                format!("it was replaced meanwhile: {why}"),
            ));
        }
        let same = |s: &Session| (s.started_unix_s, s.seed) == (session.started_unix_s, session.seed);
        if now.sessions.iter().any(same) {
            return Err(ResultsError::Unusable {
                path: path.to_owned(),
                why: "this session stands in it already",
            });
        }
        now.head.settle(head);
        now.sessions.push(session);
        now.write(path)
    }

    /// The sessions since the last accepted change.
    pub fn measure(&self) -> &[Session] {
        let from = self.sessions.iter().rposition(|s| s.accepted).unwrap_or(0);
        &self.sessions[from..]
    }

    /// The sessions that a new one is held against: those of [`measure`](Self::measure) that were not called worse, or were
    /// accepted.
    pub fn held_against(&self) -> Vec<Session> {
        let counts = |s: &&Session| s.accepted || s.verdict != GateVerdict::Regression;
        self.measure().iter().filter(counts).cloned().collect()
    }
}

/// A session and what history says of it: `gate.json` of a gate with `--history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryGate {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Tells it from other documents.
    pub document: String,
    /// False alarms of a gate, as a share.
    pub alpha: f64,
    /// The sessions that it was held against.
    pub earlier: Vec<Session>,
    /// The session.
    pub session: Session,
    /// What history says of it.
    pub judgement: HistoryJudgement,
    /// The verdict.
    pub verdict: GateVerdict,
    /// Remarks.
    pub notes: Vec<String>,
    /// What the session measured: the build is its candidate, the reference its baseline. Its own verdict compares those two.
    pub gate: Gate,
}

impl HistoryGate {
    /// Holds the session that `gate` measured against `history`.
    pub fn new(gate: Gate, history: Option<&History>, label: &str, accepted: bool, alpha: f64) -> Self {
        let earlier: Vec<Session> = history.map_or_else(Vec::new, History::held_against);
        let mut session = Session::new(&gate, label, accepted);
        let (judgement, verdict, why) = said(&gate, &earlier, &session, alpha);
        session.verdict = verdict;
        let mut notes = gate.notes.clone();
        notes.extend(why);
        let others = earlier.iter().filter(|s| s.machine != session.machine).count();
        if others > 0 {
            notes.push(format!(
                "{others} of {} earlier sessions ran on another kind of machine: ratios to the reference carry over only in part",
                earlier.len()
            ));
        }
        Self {
            format_version: FORMAT_VERSION,
            document: HISTORY_GATE.to_owned(),
            alpha,
            earlier,
            session,
            judgement,
            verdict,
            notes,
            gate,
        }
    }

    /// Reaches the verdict again from what was measured.
    ///
    /// # Errors
    /// In words, when the file does not say what its own figures say.
    pub fn judged_again(&self) -> Result<GateVerdict, String> {
        self.gate.judged_again()?;
        let mut measured = Session::new(&self.gate, &self.session.label, self.session.accepted);
        let (judgement, verdict, _) = said(&self.gate, &self.earlier, &measured, self.alpha);
        measured.verdict = verdict;
        if measured != self.session {
            return Err("its session is not what its figures make".to_owned());
        }
        if judgement != self.judgement || verdict != self.verdict {
            return Err(format!(
                "it says {}, and its figures say {}",
                self.verdict.as_str(),
                verdict.as_str()
            ));
        }
        Ok(verdict)
    }

    /// Writes it into a new directory `<parent>/<UTC date and time>-gate-<name>`; gives the directory.
    ///
    /// # Errors
    /// When `parent` is a link, or the disk refuses.
    pub fn write_new(&self, parent: &Path, name: &str) -> Result<PathBuf, ResultsError> {
        let dir = new_dir(parent, self.gate.started_unix_s, name)?;
        self.write_into(&dir).map(|()| dir)
    }

    /// Writes it into `dir` itself, which must be [ready](crate::gate::ready_dir).
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_into(&self, dir: &Path) -> Result<(), ResultsError> {
        replace_document(&dir.join(GATE), self)
    }

    /// Reads it; `None` when the file is a gate of two builds.
    ///
    /// # Errors
    /// As [`Gate::read`].
    pub fn read(path: &Path) -> Result<Option<Self>, ResultsError> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            document: String,
        }
        let file = if path.is_dir() {
            path.join(GATE)
        } else {
            path.to_owned()
        };
        match read_document::<Named>(&file)? {
            Some(head) if head.document == HISTORY_GATE => read_document(&file),
            _ => Ok(None),
        }
    }
}

/// What `earlier` sessions and the gate's own sensors and promises say, and why it is less than they could.
fn said(
    gate: &Gate,
    earlier: &[Session],
    session: &Session,
    alpha: f64,
) -> (HistoryJudgement, GateVerdict, Vec<String>) {
    // Those that were called worse are no measure, in files of before they were left out; an accepted one begins it.
    let counts = |s: &&Session| s.accepted || s.verdict != GateVerdict::Regression;
    let series: Vec<Series> = session
        .values
        .iter()
        .map(|v| Series {
            metric: v.metric.clone(),
            earlier: earlier
                .iter()
                .filter(counts)
                .filter_map(|s| s.value(&v.metric.scenario, &v.metric.name))
                .map(|v| v.h)
                .collect(),
            new: v.h,
        })
        .collect();
    let mut judgement = judge_session(&series, alpha, gate.plan.bound_alpha);
    let mut why = Vec::new();
    // A required metric that could not be measured is not proven, nor is one that nobody tells any more.
    let here = gate.found.iter().flat_map(|f| &f.judgement.readings);
    let here = here.map(|r| (r.role, &r.scenario, &r.name));
    let before = earlier.iter().flat_map(|s| &s.values).map(|v| &v.metric);
    let before = before.map(|m| (m.role, &m.scenario, &m.name));
    let required = here.chain(before).filter(|(role, ..)| *role == Role::Required);
    let missing: BTreeSet<(&String, &String)> = required
        .map(|(_, scenario, name)| (scenario, name))
        .filter(|(scenario, name)| session.value(scenario, name).is_none())
        .collect();
    for (scenario, name) in missing {
        why.push(format!(
            "{scenario}: {} has to be proven, and this session does not have it",
            words(name)
        ));
    }
    if !why.is_empty() && matches!(judgement.outcome, Outcome::Pass | Outcome::Improvement) {
        judgement.outcome = Outcome::Inconclusive;
    }
    // Another machine has another ratio to the reference: what looks worse may be that alone.
    let alike = |s: &Session| s.machine == session.machine;
    if judgement.outcome == Outcome::Regression && !earlier.iter().filter(counts).any(alike) {
        judgement.outcome = Outcome::Inconclusive;
        why.push(format!(
            "it is worse than the earlier sessions, but none of them ran on such a machine ({}, {} processors): that alone may \
             be why",
            session.machine.0, session.machine.1
        ));
    }
    let verdict = match judgement.outcome {
        _ if !gate.failures.is_empty() => GateVerdict::Failure,
        _ if gate
            .found
            .as_ref()
            .is_none_or(|found| found.judgement.outcome == Outcome::Invalid) =>
        {
            GateVerdict::Invalid
        }
        Outcome::Regression => GateVerdict::Regression,
        Outcome::Pass | Outcome::Improvement => GateVerdict::Pass,
        Outcome::Inconclusive | Outcome::MoreBlocks | Outcome::Invalid => GateVerdict::Inconclusive,
    };
    (judgement, verdict, why)
}

#[cfg(test)]
mod tests;
