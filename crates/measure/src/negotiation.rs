//! What the connections of a trial agreed on with their peer, and which did not get what was asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Grade;

/// More connections than this share that were not resumed make another distribution than the one that was asked for.
const COLD: f64 = 0.01;

/// What connections agreed on, counted from the connections themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Negotiation {
    /// What was asked for, in words; empty where nothing can be.
    pub asked: String,
    /// What sessions got, in words: how many of each.
    pub agreed: BTreeMap<String, u64>,
    /// TCP connections that carry these sessions. (What a session sends may take a further one.)
    pub connections: u64,
    /// Connections were to take up the keys of earlier ones.
    pub asked_to_resume: bool,
    /// Connections that did.
    pub resumed: u64,
    /// Connections whose times were taken for those of resumed ones (connect). Files of before it was counted have none.
    pub timed: u64,
    /// Of `timed`: those that were not resumed.
    pub cold_in_window: u64,
    /// Attempts to connect that failed, by step and class.
    pub failed: BTreeMap<String, Failed>,
}

/// Attempts to connect that failed in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// How many.
    pub count: u64,
    /// The peer, or what secures the connection, was not what was asked for.
    pub is_other: bool,
    /// The first of them: its session.
    pub session: u32,
    /// What happened to it, in words.
    pub words: String,
}

impl Negotiation {
    /// Sessions that agreed on something.
    pub fn sessions(&self) -> u64 {
        self.agreed.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Counts an attempt that failed by `key`, its step and class.
    pub fn failed(&mut self, key: String, session: u32, is_other: bool, words: impl FnOnce() -> String) {
        let failed = self.failed.entry(key).or_insert_with(|| Failed {
            count: 0,
            is_other,
            session,
            words: words(),
        });
        failed.count += 1;
    }

    /// What speaks against a trial: sessions that got something else than what was asked for, or not all the same. Where
    /// something was to break (`breaks`), a handshake that fails may be its doing.
    pub fn findings(&self, breaks: bool) -> Vec<(Grade, String)> {
        let mut findings = Vec::new();
        for (key, failed) in self.failed.iter().filter(|(_, failed)| failed.is_other) {
            // Each of those who wait for one connection hears of it: so many sessions, however few connections.
            let count = many(failed.count, "session", "sessions");
            let (asked, session, words) = (&self.asked, failed.session, &failed.words);
            findings.push((
                if breaks { Grade::Suspect } else { Grade::Invalid },
                format!("{count} got other than what was asked for ({asked}): the first, number {session}, {key}: {words}"),
            ));
        }
        if self.agreed.len() > 1 {
            let mut all: Vec<_> = self.agreed.iter().collect();
            all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let all: Vec<_> = all.iter().map(|(words, n)| format!("{n} × {words}")).collect();
            let reason = format!(
                "sessions of one variant agreed on different things: {}",
                all.join("; ")
            );
            findings.push((Grade::Suspect, reason));
        }
        if self.asked_to_resume && self.sessions() > 0 {
            findings.extend(self.judge_resumption());
        }
        findings
    }

    /// The first connects of a worker cannot be resumed: it has no keys yet. So those alone are held against it that were timed
    /// as resumed ones; of sessions that are held, it is enough to say how many were.
    fn judge_resumption(&self) -> Option<(Grade, String)> {
        if self.resumed == 0 {
            // Sessions that are held may have come all at once, or share one connection: then none had a ticket to come back with. How
            // many were resumed is told beside what was agreed.
            if self.timed == 0 && self.cold_in_window == 0 {
                return None;
            }
            let words = "connections were to be resumed, and none was: the peer gives no tickets, or does not take them";
            return Some((Grade::Invalid, words.to_owned()));
        }
        let of = if self.timed == 0 {
            self.connections
        } else {
            self.timed
        };
        let share = self.cold_in_window as f64 / of.max(1) as f64;
        let grade = match self.cold_in_window {
            0 => return None,
            _ if share > COLD => Grade::Invalid,
            _ => Grade::Suspect,
        };
        let count = many(self.cold_in_window, "connection", "connections");
        Some((
            grade,
            format!("{count} of the window were to be resumed and were not"),
        ))
    }

    /// What most attempts that failed died of, to stand behind how many there were; empty when none failed.
    pub fn why_most_failed(&self) -> String {
        // Those with a finding of their own need not be told twice.
        let failed = self.failed.iter().filter(|(_, failed)| !failed.is_other);
        let Some((key, failed)) = failed.max_by_key(|(_, failed)| failed.count) else {
            return String::new();
        };
        let words = match failed.words.is_empty() {
            true => String::new(),
            false => format!(": {}", failed.words),
        };
        format!(" ({} failed with {key}{words})", failed.count)
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Negotiation) {
        if self.asked.is_empty() {
            self.asked.clone_from(&other.asked);
        }
        self.asked_to_resume |= other.asked_to_resume;
        for (words, count) in &other.agreed {
            *self.agreed.entry(words.clone()).or_default() += count;
        }
        self.connections += other.connections;
        self.resumed += other.resumed;
        self.timed += other.timed;
        self.cold_in_window += other.cold_in_window;
        for (key, theirs) in &other.failed {
            match self.failed.get_mut(key) {
                None => drop(self.failed.insert(key.clone(), theirs.clone())),
                Some(ours) => {
                    let count = ours.count + theirs.count;
                    // The first by number, so that it does not depend on which worker was heard first.
                    if theirs.session < ours.session {
                        *ours = theirs.clone();
                    }
                    ours.count = count;
                }
            }
        }
    }
}

fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_that_got_something_else_is_enough() {
        let mut n = Negotiation {
            asked: "h2+tls: HTTP/2".to_owned(),
            connections: 999,
            ..Negotiation::default()
        };
        n.agreed.insert("HTTP/2, ALPN h2".to_owned(), 999);
        assert_eq!(n.findings(false), []);
        n.failed("connect: refused".to_owned(), 4, false, String::new);
        assert_eq!(n.findings(false), []);
        assert_eq!(n.why_most_failed(), " (1 failed with connect: refused)");
        n.failed("secure: negotiation".to_owned(), 17, true, || {
            "ALPN settled on nothing".to_owned()
        });
        let [(Grade::Invalid, reason)] = &n.findings(false)[..] else {
            panic!("{:?}", n.findings(false));
        };
        for part in [
            "1 session got",
            "asked for (h2+tls: HTTP/2)",
            "number 17",
            "settled on nothing",
        ] {
            assert!(reason.contains(part), "{reason}");
        }
        // Where handshakes are broken on purpose, one that fails is no surprise.
        assert_eq!(n.findings(true)[0].0, Grade::Suspect);
        // Two things agreed on by one variant are no single thing to measure.
        n.failed.clear();
        n.agreed.insert("HTTP/2, ALPN h2, another cipher".to_owned(), 1);
        let findings = n.findings(false);
        assert_eq!(findings[0].0, Grade::Suspect);
        assert!(
            findings[0].1.contains("999 × HTTP/2, ALPN h2; 1 ×"),
            "{findings:?}"
        );
    }

    #[test]
    fn resumption_that_was_asked_for_has_to_happen() {
        let of = |resumed, cold_in_window| {
            let mut n = Negotiation {
                connections: 1_000,
                timed: 500,
                asked_to_resume: true,
                resumed,
                cold_in_window,
                ..Negotiation::default()
            };
            n.agreed.insert("TLS".to_owned(), 1_000);
            n.findings(false).first().map(|(grade, _)| *grade)
        };
        assert_eq!(of(999, 0), None);
        assert_eq!(of(995, 5), Some(Grade::Suspect));
        // Of those whose time was taken: what warmed up does not dilute them.
        assert_eq!(of(994, 6), Some(Grade::Invalid));
        assert_eq!(of(900, 90), Some(Grade::Invalid));
        assert_eq!(of(0, 500), Some(Grade::Invalid));
        // Sessions that are held were all opened before a ticket could come, and may be on one connection: nothing is held
        // against the peer.
        let mut held = Negotiation {
            connections: 1,
            asked_to_resume: true,
            ..Negotiation::default()
        };
        held.agreed.insert("TLS".to_owned(), 1_000);
        assert_eq!(held.findings(false), []);
    }

    #[test]
    fn workers_add_up_and_the_first_is_the_first_by_number() {
        let of = |session: u32, count: u64| {
            let mut n = Negotiation {
                connections: count,
                timed: count,
                ..Negotiation::default()
            };
            n.agreed.insert("HTTP/2".to_owned(), count);
            n.failed("open: x".to_owned(), session, true, || {
                format!("number {session}")
            });
            n
        };
        for (a, b) in [(7, 3), (3, 7)] {
            let mut sum = of(a, 10);
            sum.merge(&of(b, 5));
            assert_eq!((sum.sessions(), sum.connections, sum.timed), (15, 15, 15));
            let failed = &sum.failed["open: x"];
            assert_eq!((failed.count, failed.session), (2, 3));
            assert_eq!(failed.words, "number 3");
        }
    }
}
