//! The books: where every message went. They balance, or the run is not valid.

use serde::{Deserialize, Serialize};

/// Delivery accounting of one trial, over the messages whose intended time lies in the measured window.
///
/// `scheduled = sent + not_sent`, and over all receivers `expected = delivered_once + lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
    /// Messages the schedule asked for.
    pub scheduled: u64,
    /// Messages handed to a transport (echo) or published (push).
    pub sent: u64,
    /// Scheduled, but the sender could not: connection gone, or the run ended first.
    pub not_sent: u64,
    /// Deliveries that should have happened: one per message and receiver that was there for it.
    pub expected: u64,
    /// Expected deliveries that happened; repeats are not counted again.
    pub delivered_once: u64,
    /// Expected deliveries that did not happen by the end of the drain.
    pub lost: u64,
    /// Of `lost`: refused or dropped by the server's own count.
    pub lost_dropped_by_server: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// Arrivals of a number smaller than one already seen (RFC 4737).
    pub reordered: u64,
    /// Arrivals after the drain began; they are part of `delivered_once`.
    pub late: u64,
    /// Arrivals that carry no stamp of this run: not counted as deliveries.
    pub foreign: u64,
    /// Arrivals whose stamp was damaged.
    pub corrupt: u64,
    /// Receivers with more gaps than could be told apart.
    pub overflowed_trackers: u64,
}

impl Books {
    /// Adds the books of another worker.
    pub fn merge(&mut self, other: &Books) {
        let Books {
            scheduled,
            sent,
            not_sent,
            expected,
            delivered_once,
            lost,
            lost_dropped_by_server,
            duplicated,
            reordered,
            late,
            foreign,
            corrupt,
            overflowed_trackers,
        } = other;
        self.scheduled += scheduled;
        self.sent += sent;
        self.not_sent += not_sent;
        self.expected += expected;
        self.delivered_once += delivered_once;
        self.lost += lost;
        self.lost_dropped_by_server += lost_dropped_by_server;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.late += late;
        self.foreign += foreign;
        self.corrupt += corrupt;
        self.overflowed_trackers += overflowed_trackers;
    }

    /// Every equation that does not hold, in words and numbers. Empty when the books balance.
    ///
    /// `latency_count` is how many latencies were recorded: one for each message delivered once.
    pub fn imbalances(&self, latency_count: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        check(
            self.scheduled == self.sent + self.not_sent,
            format!(
                "scheduled {} is not sent {} + not sent {}",
                self.scheduled, self.sent, self.not_sent
            ),
        );
        check(
            self.expected == self.delivered_once + self.lost,
            format!(
                "expected {} is not delivered {} + lost {}",
                self.expected, self.delivered_once, self.lost
            ),
        );
        check(
            self.delivered_once == latency_count,
            format!(
                "delivered {} but {} latencies were recorded",
                self.delivered_once, latency_count
            ),
        );
        check(
            self.overflowed_trackers == 0,
            format!(
                "{} receivers had too many gaps to count exactly",
                self.overflowed_trackers
            ),
        );
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_is_named() {
        let mut books = Books {
            scheduled: 10,
            sent: 9,
            not_sent: 1,
            expected: 9,
            delivered_once: 8,
            lost: 1,
            ..Books::default()
        };
        assert_eq!(books.imbalances(8), Vec::<String>::new());
        books.lost = 0;
        books.not_sent = 0;
        let wrong = books.imbalances(7);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[1].contains("expected 9"));
    }
}
