//! When messages are meant to leave: a pure function of seed, stream and index.
//!
//! The schedule knows nothing of what really happened, so a slow sender cannot move it; that is what frees latency
//! from coordinated omission.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// A rate as a ratio of integers, so that no schedule drifts: `count` messages every `per_ns` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Messages.
    pub count: u64,
    /// In this many nanoseconds.
    pub per_ns: u64,
}

impl Rate {
    /// `count` a second.
    pub fn per_second(count: u64) -> Self {
        Self {
            count,
            per_ns: 1_000_000_000,
        }
    }

    /// Messages a second.
    pub fn as_per_second(self) -> f64 {
        if self.per_ns == 0 {
            0.0
        } else {
            self.count as f64 * 1e9 / self.per_ns as f64
        }
    }

    /// Mean time between messages, in nanoseconds; `u64::MAX` for a rate of zero.
    pub fn period_ns(self) -> u64 {
        self.per_ns.checked_div(self.count).unwrap_or(u64::MAX)
    }
}

/// How messages spread within the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Evenly: one each period.
    Uniform,
    /// Exponential gaps with the same mean (a Poisson process).
    Poisson,
    /// `size` messages at once, then a pause of `size` periods.
    Bursts {
        /// Messages in one burst.
        size: u32,
    },
}

/// The intended instants of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Nothing is intended before this instant.
    pub start: Nanos,
    /// Nothing is intended at or after this instant.
    pub end: Nanos,
    /// How many, how often.
    pub rate: Rate,
    /// How they spread.
    pub pattern: Pattern,
    /// Same seed, same schedule.
    pub seed: u64,
    /// Streams of one seed differ from each other.
    pub stream: u32,
    /// Whether streams start apart from each other (each at a fixed random part of a period) or all on the beat.
    pub staggered: bool,
}

/// SplitMix64: a well-mixed 64-bit value for each counter value (Steele, Lea, Flood, OOPSLA 2014).
pub fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Schedule {
    fn stream_seed(&self) -> u64 {
        mix(self.seed, u64::from(self.stream))
    }

    fn offset_ns(&self) -> u64 {
        let period = self.rate.period_ns();
        if !self.staggered || period == 0 || period == u64::MAX {
            0
        } else {
            mix(self.stream_seed(), u64::MAX) % period
        }
    }

    /// The instants in order, each with its index, from index 0 to the end of the schedule.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            schedule: self.clone(),
            offset_ns: self.offset_ns(),
            seed: self.stream_seed(),
            index: 0,
            elapsed_ns: 0.0,
        }
    }

    /// How many messages are intended before `instant` (and before the end). Index `count_before(t)` is the first one
    /// at or after `t`. Constant time for uniform and burst patterns, linear for Poisson.
    pub fn count_before(&self, instant: Nanos) -> u64 {
        let limit = instant.min(self.end);
        if self.rate.count == 0 || self.rate.per_ns == 0 {
            return 0;
        }
        match self.pattern {
            Pattern::Poisson => self.cursor().take_while(|(_, at)| *at < limit).count() as u64,
            Pattern::Uniform | Pattern::Bursts { .. } => {
                let first = self.start.0.saturating_add(self.offset_ns());
                if limit.0 <= first {
                    return 0;
                }
                let span = u128::from(limit.0 - first);
                // Beats i with floor(i·per/count) < span  ⇔  i < span·count/per rounded up.
                let beats = (span * u128::from(self.rate.count)).div_ceil(u128::from(self.rate.per_ns));
                let beats = u64::try_from(beats).unwrap_or(u64::MAX);
                match self.pattern {
                    Pattern::Bursts { size } => {
                        let size = u64::from(size.max(1));
                        beats.div_ceil(size).saturating_mul(size)
                    }
                    _ => beats,
                }
            }
        }
    }

    /// The same schedule cut to end no later than `instant`.
    pub fn ending_at(mut self, instant: Nanos) -> Self {
        self.end = self.end.min(instant);
        self
    }
}

/// Walks a schedule from its first message on; yields (index, intended instant).
#[derive(Clone, Debug)]
pub struct Cursor {
    schedule: Schedule,
    offset_ns: u64,
    seed: u64,
    index: u64,
    elapsed_ns: f64,
}

impl Iterator for Cursor {
    type Item = (u64, Nanos);

    fn next(&mut self) -> Option<(u64, Nanos)> {
        let rate = self.schedule.rate;
        if rate.count == 0 || rate.per_ns == 0 {
            return None;
        }
        let index = self.index;
        let since_first = match self.schedule.pattern {
            Pattern::Uniform => beat_ns(rate, index),
            Pattern::Bursts { size } => {
                let size = u64::from(size.max(1));
                beat_ns(rate, index / size * size)
            }
            Pattern::Poisson => {
                // 53 random bits in (0, 1], so that the logarithm is finite.
                let u = ((mix(self.seed, index) >> 11) + 1) as f64 / (1u64 << 53) as f64;
                self.elapsed_ns += -u.ln() * rate.per_ns as f64 / rate.count as f64;
                self.elapsed_ns as u64
            }
        };
        let at = self.schedule.start + Duration::from_nanos(self.offset_ns.saturating_add(since_first));
        if at >= self.schedule.end {
            return None;
        }
        self.index += 1;
        Some((index, at))
    }
}

fn beat_ns(rate: Rate, index: u64) -> u64 {
    u64::try_from(u128::from(index) * u128::from(rate.per_ns) / u128::from(rate.count)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: Rate, pattern: Pattern) -> Schedule {
        Schedule {
            start: Nanos(1_000),
            end: Nanos(10_000_001_000),
            rate,
            pattern,
            seed: 7,
            stream: 3,
            staggered: false,
        }
    }

    #[test]
    fn uniform_does_not_drift() {
        let s = schedule(
            Rate {
                count: 3,
                per_ns: 1_000_000_000,
            },
            Pattern::Uniform,
        );
        let all: Vec<_> = s.cursor().collect();
        assert_eq!(all.len(), 30);
        assert_eq!(all[29].1.0, 1_000 + 29 * 1_000_000_000 / 3);
        assert_eq!(all[3].1.0, 1_000 + 1_000_000_000);
    }

    #[test]
    fn count_before_agrees_with_walking() {
        for pattern in [Pattern::Uniform, Pattern::Poisson, Pattern::Bursts { size: 5 }] {
            for staggered in [false, true] {
                let s = Schedule {
                    staggered,
                    ..schedule(Rate::per_second(7), pattern)
                };
                for t in (0..12_000_000_000u64).step_by(333_333_333) {
                    let walked = s.cursor().take_while(|(_, at)| at.0 < t).count() as u64;
                    assert_eq!(
                        s.count_before(Nanos(t)).min(s.cursor().count() as u64),
                        walked,
                        "{pattern:?} {t}"
                    );
                }
            }
        }
    }

    #[test]
    fn same_seed_same_schedule_other_seed_another() {
        let s = schedule(Rate::per_second(50), Pattern::Poisson);
        let a: Vec<_> = s.cursor().collect();
        assert_eq!(a, s.cursor().collect::<Vec<_>>());
        assert_ne!(a, Schedule { seed: 8, ..s.clone() }.cursor().collect::<Vec<_>>());
        assert_ne!(a, Schedule { stream: 4, ..s }.cursor().collect::<Vec<_>>());
    }

    #[test]
    fn poisson_keeps_its_rate_and_its_spread() {
        let s = Schedule {
            end: Nanos(1_000_000_001_000),
            ..schedule(Rate::per_second(50), Pattern::Poisson)
        };
        let at: Vec<f64> = s.cursor().map(|(_, at)| at.0 as f64 / 1e9).collect();
        // 50,000 expected with a standard deviation of 224.
        assert!((49_000..51_000).contains(&at.len()), "{}", at.len());
        let gaps: Vec<f64> = at.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!(
            (0.9..1.1).contains(&(variance.sqrt() / mean)),
            "exponential gaps have variation 1"
        );
    }

    #[test]
    fn bursts_come_together() {
        let s = schedule(Rate::per_second(10), Pattern::Bursts { size: 5 });
        let at: Vec<u64> = s.cursor().map(|(_, at)| at.0 - 1_000).take(11).collect();
        assert_eq!(
            at,
            [
                0,
                0,
                0,
                0,
                0,
                500_000_000,
                500_000_000,
                500_000_000,
                500_000_000,
                500_000_000,
                1_000_000_000
            ]
        );
    }

    #[test]
    fn a_rate_of_zero_sends_nothing() {
        assert_eq!(
            schedule(Rate { count: 0, per_ns: 1 }, Pattern::Uniform)
                .cursor()
                .count(),
            0
        );
        assert_eq!(
            schedule(Rate { count: 0, per_ns: 1 }, Pattern::Uniform).count_before(Nanos::MAX),
            0
        );
    }
}
