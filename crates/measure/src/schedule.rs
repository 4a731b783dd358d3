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

/// A share of the time: of every `of` slots in a row, one. Two schedules with the same start and different places never
/// intend messages at the same time, so that two servers can be loaded in turns.
///
/// Within its slots a schedule keeps its rate; the time between them does not pass for it. Over all, `count` messages
/// every `per_ns` are therefore (`length_ns` − `guard_ns`) / (`of` × `length_ns`) of what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Length of one slot. The first one begins at the schedule's start.
    pub length_ns: u64,
    /// How many take turns.
    pub of: u32,
    /// Whose turn, from zero.
    pub mine: u32,
    /// Nothing is intended in this first part of a slot: what the slot before has left is done meanwhile.
    pub guard_ns: u64,
}

impl Slots {
    /// Two servers in turns of 100 ms, of which the first 10 are left free.
    pub fn of_two(mine: u32) -> Self {
        Self {
            length_ns: 100_000_000,
            of: 2,
            mine,
            guard_ns: 10_000_000,
        }
    }

    /// The part of a slot in which messages are intended; zero for slots that make no sense, in which none are.
    fn usable_ns(self) -> u64 {
        if self.mine < self.of {
            self.length_ns.saturating_sub(self.guard_ns)
        } else {
            0
        }
    }

    fn cycle_ns(self) -> u64 {
        self.length_ns.saturating_mul(u64::from(self.of))
    }

    /// Where my usable time begins within a cycle.
    fn first_ns(self) -> u64 {
        self.length_ns
            .saturating_mul(u64::from(self.mine))
            .saturating_add(self.guard_ns)
    }

    /// The share of the time that is mine, from 0 to 1.
    pub fn share(self) -> f64 {
        match self.cycle_ns() {
            0 => 0.0,
            cycle => self.usable_ns() as f64 / cycle as f64,
        }
    }

    /// When so much of my own time has passed, counted from the schedule's start. `None`: never.
    fn since_start(self, own_ns: u64) -> Option<u64> {
        let usable = self.usable_ns();
        let cycles = own_ns.checked_div(usable)?;
        let at = cycles.saturating_mul(self.cycle_ns());
        Some(at.saturating_add(self.first_ns()).saturating_add(own_ns % usable))
    }

    /// How much of my own time passes before this instant, counted from the schedule's start: what is due at so much of
    /// it or more is due at the instant or later.
    fn own_before(self, since_start: u64) -> u64 {
        let (usable, cycle) = (self.usable_ns(), self.cycle_ns());
        if usable == 0 {
            return 0;
        }
        let within = (since_start % cycle).saturating_sub(self.first_ns()).min(usable);
        (since_start / cycle)
            .saturating_mul(usable)
            .saturating_add(within)
    }
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
    /// The share of the time in which messages are intended; `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
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
                let since_start = limit.0.saturating_sub(self.start.0);
                let own = self
                    .slots
                    .map_or(since_start, |slots| slots.own_before(since_start));
                let offset = self.offset_ns();
                if own <= offset {
                    return 0;
                }
                let span = u128::from(own - offset);
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

    /// The same schedule in a share of the time.
    pub fn in_slots(mut self, slots: Option<Slots>) -> Self {
        self.slots = slots;
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
        let own = self.offset_ns.saturating_add(since_first);
        let since_start = match self.schedule.slots {
            None => own,
            Some(slots) => slots.since_start(own)?,
        };
        let at = self.schedule.start + Duration::from_nanos(since_start);
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
    use proptest::prelude::*;

    fn schedule(rate: Rate, pattern: Pattern) -> Schedule {
        Schedule {
            start: Nanos(1_000),
            end: Nanos(10_000_001_000),
            rate,
            pattern,
            seed: 7,
            stream: 3,
            staggered: false,
            slots: None,
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

    fn any_slots() -> impl Strategy<Value = Slots> {
        (1u64..300_000_000, 1u32..5, 0u32..5, 0u64..310_000_000).prop_map(
            |(length_ns, of, mine, guard_ns)| Slots {
                length_ns,
                of,
                mine,
                guard_ns,
            },
        )
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            Just(Pattern::Uniform),
            Just(Pattern::Poisson),
            (1u32..9).prop_map(|size| Pattern::Bursts { size }),
        ]
    }

    proptest! {
        #[test]
        fn slots_keep_to_their_part_of_the_time(
            slots in any_slots(), pattern in any_pattern(), count in 1u64..300, seed: u64, staggered: bool,
            cut in 0u64..4_000_000_000,
        ) {
            let s = Schedule {
                seed,
                staggered,
                end: Nanos(4_000_001_000),
                ..schedule(Rate::per_second(count), pattern)
            };
            let s = s.in_slots(Some(slots));
            let all: Vec<_> = s.cursor().collect();
            prop_assert!(all.windows(2).all(|w| w[0].0 + 1 == w[1].0 && w[0].1 <= w[1].1));
            let cycle = slots.length_ns * u64::from(slots.of);
            for (_, at) in &all {
                let within = (at.0 - s.start.0) % cycle;
                let from = slots.length_ns * u64::from(slots.mine);
                prop_assert!((from + slots.guard_ns..from + slots.length_ns).contains(&within));
                prop_assert!(*at < s.end);
            }
            // Counting and walking agree at any instant, also at those where a message is intended.
            let ended = s.clone().ending_at(Nanos(cut));
            prop_assert_eq!(ended.cursor().count() as u64, all.iter().filter(|(_, at)| at.0 < cut).count() as u64);
            let places = all.iter().take(40).flat_map(|(_, at)| [at.0, at.0 + 1]).chain([0, cut, u64::MAX]);
            for t in places {
                let before = all.iter().filter(|(_, at)| at.0 < t).count() as u64;
                // A burst that the end cuts is counted whole without slots, too.
                prop_assert_eq!(s.count_before(Nanos(t)).min(all.len() as u64), before, "{}", t);
            }
        }

        #[test]
        fn slots_take_the_same_messages_at_other_times(pattern in any_pattern(), count in 1u64..300, seed: u64) {
            let plain = Schedule { seed, ..schedule(Rate::per_second(count), pattern) };
            let own: Vec<Nanos> = plain.cursor().map(|(_, at)| at).collect();
            for mine in [0, 1] {
                let slots = Slots::of_two(mine);
                let turned = Schedule { end: Nanos::MAX, ..plain.clone() }.in_slots(Some(slots));
                let turned: Vec<Nanos> = turned.cursor().take(own.len()).map(|(_, at)| at).collect();
                for (own, turned) in own.iter().zip(&turned) {
                    let own_time = slots.own_before(turned.0 - plain.start.0);
                    prop_assert_eq!(own_time, own.0 - plain.start.0);
                }
            }
        }

        #[test]
        fn one_slot_of_one_is_all_the_time(count in 1u64..300, pattern in any_pattern(), length_ns in 1u64..1_000_000_000) {
            let plain = schedule(Rate::per_second(count), pattern);
            let slots = Slots { length_ns, of: 1, mine: 0, guard_ns: 0 };
            let turned = plain.clone().in_slots(Some(slots));
            prop_assert_eq!(plain.cursor().collect::<Vec<_>>(), turned.cursor().collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_in_turns_never_meet_and_have_equal_parts() {
        let of = |mine| {
            let s = schedule(Rate::per_second(1_000), Pattern::Poisson).in_slots(Some(Slots::of_two(mine)));
            s.cursor().map(|(_, at)| at.0 / 100_000_000).collect::<Vec<_>>()
        };
        let (a, b) = (of(0), of(1));
        assert!(a.iter().all(|slot| slot % 2 == 0) && b.iter().all(|slot| slot % 2 == 1));
        // 10 s at 45 % of 1,000 a second, with a standard deviation of 67.
        assert!(
            a.len().abs_diff(4_500) < 400 && a.len().abs_diff(b.len()) < 100,
            "{} {}",
            a.len(),
            b.len()
        );
        assert!((Slots::of_two(0).share() - 0.45).abs() < 1e-12);
    }

    #[test]
    fn slots_without_sense_hold_nothing() {
        let right = Slots::of_two(0);
        for slots in [
            Slots {
                length_ns: 0,
                ..right
            },
            Slots { of: 0, ..right },
            Slots { mine: 2, ..right },
            Slots {
                guard_ns: 100_000_000,
                ..right
            },
        ] {
            let s = schedule(Rate::per_second(7), Pattern::Uniform).in_slots(Some(slots));
            assert_eq!(
                (s.cursor().count(), s.count_before(Nanos::MAX)),
                (0, 0),
                "{slots:?}"
            );
        }
    }

    #[test]
    fn a_schedule_of_before_there_were_slots_is_read() {
        let s = schedule(Rate::per_second(7), Pattern::Uniform);
        let text = serde_json::to_string(&s).unwrap();
        assert!(!text.contains("slots"));
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), s);
    }
}
