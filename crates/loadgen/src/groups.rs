//! Groups: which sessions share a connection, as a pure function of their numbers.
//!
//! Sessions of one group are one thread's, and of one worker process: so many a connection means so many, however many threads
//! and processes there are, as long as no fault sends some of them another way.

use std::ops::Range;

use pushmark_scenario::plan::{CarriageSetup, StreamsPerConnection, Workload, is_in_share};
use pushmark_transport::carrier::{Carrier, Http};

/// How many sessions make a group; one, where nothing is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups(u32);

impl Groups {
    /// Those of a trial over `carrier`. Sessions that come and go take whatever place there is, and make none.
    pub fn of(carrier: &str, setup: CarriageSetup, workload: &Workload) -> Self {
        let carrier: Option<Carrier> = carrier.parse().ok();
        let shares = carrier.is_some_and(|carrier| carrier.http() == Http::Http2);
        Self(match setup.streams_per_connection {
            _ if !shares || matches!(workload, Workload::Connect { .. }) => 1,
            StreamsPerConnection::AtMost(most) => most.max(1),
            StreamsPerConnection::All => u32::MAX,
        })
    }

    /// Whether any two sessions share a connection.
    pub fn share(self) -> bool {
        self.0 > 1
    }

    /// The group of session number `session`.
    pub fn group(self, session: u32) -> u32 {
        session / self.0
    }

    /// The first session of part number `part` when `total` of them are parted into `parts`, none of which cuts a group.
    pub fn part(self, total: u32, part: u32, parts: u32) -> u32 {
        let groups = u64::from(total.div_ceil(self.0));
        let first = groups * u64::from(part) / u64::from(parts.max(1)) * u64::from(self.0);
        u32::try_from(first).unwrap_or(u32::MAX).min(total)
    }

    /// Whether one of those that share a connection with session number `session`, of `total` in all, is in this share.
    pub fn has_neighbour_in(self, share: f64, session: u32, total: u32) -> bool {
        let first = self.group(session).saturating_mul(self.0);
        let group: Range<u32> = first..first.saturating_add(self.0).min(total);
        group.into_iter().any(|other| is_in_share(share, other))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use pushmark_scenario::plan::Rate;

    use super::*;

    fn groups(carrier: &str, streams: StreamsPerConnection) -> Groups {
        let setup = CarriageSetup {
            streams_per_connection: streams,
            ..CarriageSetup::default()
        };
        let echo = pushmark_scenario::plan::Messages {
            rate: Rate {
                count: 1,
                per: Duration::from_secs(1),
            },
            pattern: pushmark_scenario::plan::Pattern::Uniform,
            payload_bytes: 100,
            encoding: pushmark_scenario::plan::Encoding::Text,
        };
        Groups::of(carrier, setup, &Workload::Echo(echo))
    }

    /// Every connection is one process's and one thread's, and there are exactly as many as asked for.
    #[test]
    fn five_thousand_at_a_hundred_are_fifty_however_they_are_spread() {
        let hundred = groups("h2c", StreamsPerConnection::AtMost(100));
        for processes in [1, 2, 3, 7, 50] {
            for threads in [1, 2, 3] {
                let (mut connections, mut sessions) = (HashSet::new(), 0);
                for process in 0..processes {
                    let first = hundred.part(5_000, process, processes);
                    for session in first..hundred.part(5_000, process + 1, processes) {
                        let group = hundred.group(session);
                        connections.insert((process, group % threads, group));
                        sessions += 1;
                    }
                }
                assert_eq!(
                    (connections.len(), sessions),
                    (50, 5_000),
                    "{processes} x {threads}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_shared_is_parted_as_evenly_as_it_goes() {
        let alone = groups("h1", StreamsPerConnection::AtMost(100));
        assert!(!alone.share());
        let parts: Vec<u32> = (0..=3).map(|k| alone.part(10, k, 3)).collect();
        assert_eq!(parts, [0, 3, 6, 10]);
        let all = groups("h2+tls", StreamsPerConnection::All);
        assert_eq!((all.group(0), all.group(4_999)), (0, 0));
        assert_eq!(
            [all.part(10, 0, 2), all.part(10, 1, 2), all.part(10, 2, 2)],
            [0, 0, 10]
        );
    }

    #[test]
    fn neighbours_are_those_on_the_same_connection() {
        let ten = groups("h2c", StreamsPerConnection::AtMost(10));
        // In a share of one in twenty are sessions 0 and 20 of 35.
        let near: Vec<u32> = (0..35).filter(|s| ten.has_neighbour_in(0.05, *s, 35)).collect();
        assert_eq!(near, (0..10).chain(20..30).collect::<Vec<_>>());
        assert!((0..35).all(|s| groups("h2c", StreamsPerConnection::All).has_neighbour_in(0.05, s, 35)));
    }
}
