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

/// A generator thread that used, or wanted, more than this share of a processor cannot be told from a slow server.
const GENERATOR_BUSY: f64 = 0.90;
/// A generator thread that stood ready without a processor for more than this share of the window was robbed of it.
const GENERATOR_WAITING: f64 = 0.10;
/// Below this share of a processor, a generator thread was plainly not what held a server back.
const GENERATOR_FREE: f64 = 0.60;
/// Processor time beyond the trial's, as a share of the host's, from which on it bends the numbers; while anybody waits.
const OTHERS_BUSY: f64 = 0.20;
/// Pressure from which on processors were scarce.
const PRESSURE: f64 = 0.10;
/// Steal above this share of the host's time means that a neighbour took the processor away.
const STEAL: f64 = 0.05;
/// A rate below this share of the planned one was not the planned load.
const ACHIEVED: f64 = 0.995;
/// A rate below this share of the planned one was another load.
const BARELY_ACHIEVED: f64 = 0.90;
/// The generator's own lateness from which on it counts, in nanoseconds.
const LATE_NS: u64 = 1_000_000;

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
        if let Some(words) = &s.fault_failed {
            v.add(
                Grade::Invalid,
                format!("a fault was not what was asked for: {words}"),
            );
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
        // Where something was to break, silence and lost sessions are the finding and no fault of the measurement.
        let breaks = !s.faults.is_empty();
        if s.expects_messages && s.books.delivered_once == 0 && !breaks {
            v.add(Grade::Invalid, "no message was delivered in the measured window");
        }
        if s.counters.established < s.sessions_planned {
            let (got, planned) = (s.counters.established, s.sessions_planned);
            let grade = if got == 0 { Grade::Invalid } else { Grade::Suspect };
            let why = s.negotiation.why_most_failed();
            v.add(
                grade,
                format!("{got} of {planned} planned sessions were established{why}"),
            );
        }
        for (grade, reason) in s
            .negotiation
            .findings(breaks)
            .into_iter()
            .chain(s.compressed.finding())
        {
            v.add(grade, reason);
        }
        if s.sessions_ended_early > 0 && !breaks {
            let causes: Vec<String> = s
                .ended_by
                .iter()
                .map(|(cause, n)| format!("{cause} ({n})"))
                .collect();
            let colon = if causes.is_empty() { "" } else { ": " };
            let (ended, causes) = (s.sessions_ended_early, causes.join(", "));
            v.add(
                Grade::Suspect,
                format!("{ended} sessions ended before the drain{colon}{causes}"),
            );
        }
        if s.generator_sends {
            v.judge_sending(s);
        } else {
            v.judge_publishing(s);
        }
        v.judge_generator(s);
        v.judge_host(s);
        if let (Some(delay), Some(latency)) = (s.generator_delay_p99_ns, s.latency_p99_ns)
            && delay > 1_000_000
            && delay * 2 > latency
        {
            let (delay_ms, latency_ms) = (delay as f64 / 1e6, latency as f64 / 1e6);
            v.add(
                Grade::Suspect,
                format!("messages waited within the generator: generator_delay p99 {delay_ms:.1} ms is over half of latency p99 {latency_ms:.1} ms"),
            );
        }
        if s.counters.unplaced_stamps > 0 {
            v.add(
                Grade::Suspect,
                format!(
                    "the wall clock was set during the trial: {} kernel stamps could not be placed",
                    s.counters.unplaced_stamps
                ),
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

    /// The load as it was planned and as the generator sent it.
    fn judge_sending(&mut self, s: &TrialSummary) {
        // A generator that is itself at its limit cannot say that the server held it back.
        let free = s
            .generator_wanting_share
            .is_some_and(|wanting| wanting < GENERATOR_FREE);
        let held_back = if free { s.held_back } else { 0 };
        let own = s.books.not_sent.saturating_sub(held_back);
        let scheduled = s.books.scheduled.max(1) as f64;
        if own > 0 {
            let missed = 1.0 - own as f64 / scheduled < ACHIEVED;
            self.add(
                if missed { Grade::Invalid } else { Grade::Suspect },
                format!("{own} of {} scheduled messages were not sent", s.books.scheduled),
            );
        }
        if held_back > 0 {
            self.add(
                Grade::Valid,
                format!(
                    "{} of {} scheduled messages were not sent because the server had not taken earlier ones: its own doing",
                    held_back, s.books.scheduled
                ),
            );
        }
        let late = s.own_send_delay_p99_ns.filter(|delay| *delay > LATE_NS);
        if let (Some(delay), Some(latency)) = (late, s.latency_p99_ns)
            && delay.saturating_mul(2) > latency
        {
            self.add(
                Grade::Suspect,
                format!(
                    "the generator sent late: its own part of send_delay has a p99 of {}, over half of latency p99 {}",
                    ms(delay),
                    ms(latency)
                ),
            );
        }
        let achieved = s.sent_in_window as f64 / scheduled;
        if late.is_some() && achieved < ACHIEVED {
            let per_second = |count: u64| count as f64 / s.measured.as_secs_f64().max(1e-9);
            let barely = achieved < BARELY_ACHIEVED;
            self.add(
                if barely { Grade::Invalid } else { Grade::Suspect },
                format!(
                    "the generator sent {:.0} messages a second where {:.0} were planned",
                    per_second(s.sent_in_window),
                    per_second(s.books.scheduled)
                ),
            );
        }
    }

    /// The load as it was planned and as the server published it: a server that falls behind is a result, as long as the
    /// generator was not in its way.
    fn judge_publishing(&mut self, s: &TrialSummary) {
        if s.books.not_sent == 0 {
            return;
        }
        let (missing, scheduled) = (s.books.not_sent, s.books.scheduled);
        let words = format!(
            "the server published {} of {scheduled} scheduled messages",
            scheduled - missing
        );
        match s.generator_wanting_share {
            Some(wanting) if wanting < GENERATOR_FREE => self.add(
                Grade::Valid,
                format!("{words}: its own doing, as the generator's busiest thread wanted {:.0} % of a processor", wanting * 100.0),
            ),
            Some(wanting) => self.add(
                Grade::Suspect,
                format!(
                    "{words}, and the generator's busiest thread wanted {:.0} % of a processor: which of both was the limit cannot be told",
                    wanting * 100.0
                ),
            ),
            None => self.add(Grade::Suspect, words),
        }
    }

    /// The generator's own threads.
    fn judge_generator(&mut self, s: &TrialSummary) {
        if let Some(busy) = s.generator_busy_share.filter(|b| *b > GENERATOR_BUSY) {
            self.add(
                Grade::Suspect,
                format!(
                    "the load generator's busiest thread used {:.0} % of a processor: latency may be its own",
                    busy * 100.0
                ),
            );
        } else if let Some(wanting) = s.generator_wanting_share.filter(|w| *w > GENERATOR_BUSY) {
            self.add(
                Grade::Suspect,
                format!(
                    "the load generator's busiest thread wanted a processor for {:.0} % of the window: latency may be its own",
                    wanting * 100.0
                ),
            );
        }
        if let Some(waiting) = s.generator_waiting_share.filter(|w| *w > GENERATOR_WAITING) {
            self.add(
                Grade::Suspect,
                format!(
                    "a load generator thread stood ready without a processor for {:.0} % of the window",
                    waiting * 100.0
                ),
            );
        }
        if let (Some(delay), Some(latency)) = (s.loop_delay_p99_ns, s.latency_p99_ns)
            && delay > LATE_NS
            && delay.saturating_mul(2) > latency
        {
            self.add(
                Grade::Suspect,
                format!(
                    "the generator's own queue: its loops came round late, by {} at p99, over half of latency p99 {}",
                    ms(delay),
                    ms(latency)
                ),
            );
        }
    }

    /// The machine around the trial.
    fn judge_host(&mut self, s: &TrialSummary) {
        if let Some(steal) = s.host_steal_share.filter(|b| *b > STEAL) {
            self.add(
                Grade::Suspect,
                format!(
                    "other machines took {:.0} % of the processor away (steal)",
                    steal * 100.0
                ),
            );
        }
        // Without the kernel's account of pressure, processors count as scarce when hardly any time was left.
        let scarce = match s.host_pressure_share {
            Some(pressure) => pressure > PRESSURE,
            None => s.host_busy_share.is_some_and(|busy| busy > GENERATOR_BUSY),
        };
        if let Some(others) = s.others_busy_share.filter(|o| scarce && *o > OTHERS_BUSY) {
            let pressure = s.host_pressure_share.map_or(String::new(), |p| {
                format!(
                    ", and somebody stood in line for {:.0} % of the window",
                    p * 100.0
                )
            });
            self.add(
                Grade::Suspect,
                format!(
                    "processes that are no part of the trial used {:.0} % of the processors{pressure}",
                    others * 100.0
                ),
            );
        }
    }
}

fn ms(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
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
                |s| {
                    (s.books.delivered_once, s.latency_p99_ns, s.generator_delay_p99_ns) =
                        (1, Some(9_000_000), Some(4_700_000));
                },
                Grade::Suspect,
                "generator_delay p99 4.7 ms is over half of latency p99 9.0 ms",
            ),
            (
                |s| {
                    (s.books.delivered_once, s.latency_p99_ns, s.generator_delay_p99_ns) =
                        (1, Some(1_000_000), Some(900_000));
                },
                Grade::Valid,
                "",
            ),
            (
                |s| (s.books.delivered_once, s.counters.unplaced_stamps) = (1, 3),
                Grade::Suspect,
                "3 kernel stamps",
            ),
            (
                // Agreed on, and done with every message.
                |s| (s.books.delivered_once, s.compressed.messages) = (1, 9),
                Grade::Valid,
                "",
            ),
            (
                |s| {
                    s.books.delivered_once = 1;
                    (s.compressed.messages, s.compressed.plain_messages) = (9, 2);
                },
                Grade::Suspect,
                "2 of 9 messages came uncompressed",
            ),
            (
                |s| {
                    s.books.delivered_once = 1;
                    (s.compressed.messages, s.compressed.plain_messages) = (9, 9);
                },
                Grade::Invalid,
                "none of 9 messages came compressed",
            ),
            (
                |s| (s.books.delivered_once, s.host_steal_share) = (1, Some(0.2)),
                Grade::Suspect,
                "steal",
            ),
            (
                |s| (s.books.delivered_once, s.generator_waiting_share) = (1, Some(0.3)),
                Grade::Suspect,
                "ready without a processor for 30 %",
            ),
            (
                |s| (s.books.delivered_once, s.generator_wanting_share) = (1, Some(0.95)),
                Grade::Suspect,
                "wanted a processor for 95 %",
            ),
            (
                |s| {
                    s.books.delivered_once = 1;
                    (s.loop_delay_p99_ns, s.latency_p99_ns) = (Some(6_000_000), Some(10_000_000));
                },
                Grade::Suspect,
                "by 6.0 ms at p99",
            ),
            (
                |s| {
                    s.books.delivered_once = 1;
                    (s.loop_delay_p99_ns, s.latency_p99_ns) = (Some(6_000_000), Some(900_000_000));
                },
                Grade::Valid,
                "",
            ),
            (
                |s| {
                    s.books.delivered_once = 1;
                    (s.host_pressure_share, s.others_busy_share) = (Some(0.9), Some(0.7));
                },
                Grade::Suspect,
                "70 % of the processors",
            ),
            (
                // A machine with processors to spare.
                |s| {
                    s.books.delivered_once = 1;
                    (s.host_pressure_share, s.others_busy_share) = (Some(0.01), Some(0.7));
                },
                Grade::Valid,
                "",
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

    /// A load of 1,000 messages in a second of which `sent` were sent in it, `not_sent` never.
    fn load(generator_sends: bool, sent_in_window: u64, not_sent: u64) -> TrialSummary {
        let mut s = TrialSummary {
            expects_messages: true,
            generator_sends,
            measured: std::time::Duration::from_secs(1),
            sent_in_window,
            latency_p99_ns: Some(500_000_000),
            ..TrialSummary::default()
        };
        (s.books.scheduled, s.books.sent, s.books.not_sent) = (1_000, 1_000 - not_sent, not_sent);
        s.books.delivered_once = 1;
        s
    }

    fn told(s: &TrialSummary) -> (Grade, String) {
        let v = Verdict::of(s);
        (
            v.grade(),
            v.findings.iter().map(|f| f.reason.clone() + "\n").collect(),
        )
    }

    #[test]
    fn lateness_is_told_of_whom_it_belongs_to() {
        // The generator's own: late by itself, a tenth of the load not sent in time.
        let mut own = load(true, 850, 0);
        own.own_send_delay_p99_ns = Some(400_000_000);
        let (grade, words) = told(&own);
        assert_eq!(grade, Grade::Invalid, "{words}");
        assert!(
            words.contains("sent 850 messages a second where 1000 were planned"),
            "{words}"
        );
        assert!(
            words.contains("its own part of send_delay has a p99 of 400.0 ms"),
            "{words}"
        );

        // The server's: it did not take messages, and the generator waited with the next.
        let mut held = load(true, 600, 300);
        (held.held_back, held.own_send_delay_p99_ns) = (300, Some(80_000));
        held.send_delay_p99_ns = Some(450_000_000);
        held.generator_wanting_share = Some(0.3);
        let (grade, words) = told(&held);
        assert_eq!(grade, Grade::Valid, "{words}");
        assert!(words.contains("300 of 1000"), "{words}");
        // A generator at its limit cannot say so.
        held.generator_wanting_share = Some(0.8);
        assert_eq!(told(&held).0, Grade::Invalid);
        held.generator_wanting_share = Some(0.3);
        // What was not sent for any other reason is not the server's.
        held.books.not_sent += 10;
        assert_eq!(told(&held).0, Grade::Invalid);
    }

    #[test]
    fn a_server_behind_its_schedule_is_a_result_when_the_generator_was_free() {
        let mut s = load(false, 0, 400);
        for (wanting, grade) in [
            (Some(0.3), Grade::Valid),
            (Some(0.8), Grade::Suspect),
            (None, Grade::Suspect),
        ] {
            s.generator_wanting_share = wanting;
            let (got, words) = told(&s);
            assert_eq!(got, grade, "{words}");
            assert!(words.contains("published 600 of 1000"), "{words}");
        }
    }
}
