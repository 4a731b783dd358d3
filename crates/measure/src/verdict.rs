//! Whether a trial's numbers can be trusted, and why not.

use serde::{Deserialize, Serialize};

use crate::summary::TrialSummary;

/// How far a trial can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Nothing speaks against the numbers.
    #[default]
    Valid,
    /// Something may have bent the numbers; read the findings.
    Suspect,
    /// The numbers are wrong or incomplete.
    Invalid,
}

impl Grade {
    /// The word used in files and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Grade::Valid => "valid",
            Grade::Suspect => "suspect",
            Grade::Invalid => "invalid",
        }
    }
}

/// One reason for a grade, in words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was seen.
    pub reason: String,
}

/// The verdict over one trial: the worst of its findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why, worst first.
    pub findings: Vec<Finding>,
}

/// A generator whose process used more than this share of the cores its workers may use cannot be told from the server.
const GENERATOR_BUSY: f64 = 0.90;
/// Steal above this share of the host's time means that a neighbour took the processor away.
const STEAL: f64 = 0.05;
/// A rate below this share of the planned one was not the planned load.
const ACHIEVED: f64 = 0.995;

impl Verdict {
    /// The worst grade; valid when there is no finding.
    pub fn grade(&self) -> Grade {
        self.findings.iter().map(|f| f.grade).max().unwrap_or_default()
    }

    /// Adds a finding.
    pub fn add(&mut self, grade: Grade, reason: impl Into<String>) {
        self.findings.push(Finding {
            grade,
            reason: reason.into(),
        });
        self.findings.sort_by_key(|f| std::cmp::Reverse(f.grade));
    }

    /// Judges one trial.
    pub fn of(s: &TrialSummary) -> Self {
        let mut v = Verdict::default();
        if s.partial {
            v.add(Grade::Suspect, "the trial was ended early: it is partial");
        }
        for wrong in &s.imbalances {
            v.add(Grade::Invalid, format!("the books do not balance: {wrong}"));
        }
        if s.negative_samples > 0 {
            v.add(
                Grade::Invalid,
                format!("{} samples ran backwards in time", s.negative_samples),
            );
        }
        if s.out_of_range > 0 {
            v.add(
                Grade::Suspect,
                format!("{} samples lay above the histogram's 60 s", s.out_of_range),
            );
        }
        if s.expects_messages && s.books.delivered_once == 0 {
            v.add(Grade::Invalid, "no message was delivered in the measured window");
        }
        if s.counters.established < s.sessions_planned {
            let (got, planned) = (s.counters.established, s.sessions_planned);
            let grade = if got == 0 { Grade::Invalid } else { Grade::Suspect };
            v.add(
                grade,
                format!("{got} of {planned} planned sessions were established"),
            );
        }
        if s.sessions_ended_early > 0 {
            v.add(
                Grade::Suspect,
                format!("{} sessions ended before the drain", s.sessions_ended_early),
            );
        }
        if s.books.not_sent > 0 {
            let share = s.books.not_sent as f64 / s.books.scheduled.max(1) as f64;
            let grade = if 1.0 - share < ACHIEVED {
                Grade::Invalid
            } else {
                Grade::Suspect
            };
            v.add(
                grade,
                format!(
                    "{} of {} scheduled messages were not sent",
                    s.books.not_sent, s.books.scheduled
                ),
            );
        }
        if let Some(busy) = s.generator_busy_share.filter(|b| *b > GENERATOR_BUSY) {
            v.add(
                Grade::Suspect,
                format!(
                    "the load generator's workers were {:.0} % busy: latency may be their own",
                    busy * 100.0
                ),
            );
        }
        if let Some(steal) = s.host_steal_share.filter(|b| *b > STEAL) {
            v.add(
                Grade::Suspect,
                format!(
                    "other machines took {:.0} % of the processor away (steal)",
                    steal * 100.0
                ),
            );
        }
        if s.generator_sends
            && let (Some(delay), Some(latency)) = (s.send_delay_p99_ns, s.latency_p99_ns)
            && delay > 1_000_000
            && delay * 2 > latency
        {
            let (delay_ms, latency_ms) = (delay as f64 / 1e6, latency as f64 / 1e6);
            v.add(
                Grade::Suspect,
                format!("the generator sent late: send_delay p99 {delay_ms:.1} ms is over half of latency p99 {latency_ms:.1} ms"),
            );
        }
        if s.interval_gaps > 0 {
            v.add(
                Grade::Suspect,
                format!("{} intervals are missing from a worker", s.interval_gaps),
            );
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_grade() {
        let good = TrialSummary {
            expects_messages: true,
            ..TrialSummary::default()
        };
        type Change = fn(&mut TrialSummary);
        let cases: &[(Change, Grade, &str)] = &[
            (|s| s.books.delivered_once = 1, Grade::Valid, ""),
            (|_| (), Grade::Invalid, "no message"),
            (|s| s.imbalances.push("x".into()), Grade::Invalid, "books"),
            (|s| s.partial = true, Grade::Invalid, "no message"),
            (
                |s| (s.books.delivered_once, s.partial) = (1, true),
                Grade::Suspect,
                "early",
            ),
            (
                |s| (s.books.delivered_once, s.sessions_planned) = (1, 3),
                Grade::Invalid,
                "0 of 3",
            ),
            (
                |s| (s.books.delivered_once, s.generator_busy_share) = (1, Some(0.97)),
                Grade::Suspect,
                "97 %",
            ),
            (
                |s| (s.books.delivered_once, s.host_steal_share) = (1, Some(0.2)),
                Grade::Suspect,
                "steal",
            ),
        ];
        for (change, grade, word) in cases {
            let mut s = good.clone();
            change(&mut s);
            let v = Verdict::of(&s);
            assert_eq!(v.grade(), *grade, "{v:?}");
            assert!(word.is_empty() || v.findings[0].reason.contains(word), "{v:?}");
        }
    }
}
