//! The course of a trial in short steps: what arrived, who tried to connect, who was open. Kept only where something breaks.

use std::time::Duration;

use pushmark_measure::{Nanos, Timeline};
use serde::{Deserialize, Serialize};

/// Length of a step of the timeline.
const STEP: Duration = Duration::from_millis(100);
/// Attempts are counted in finer steps, so that the most in *any* 100 ms can be told.
const FINE: Duration = Duration::from_millis(10);
/// Fine steps in a step.
const FINE_IN_STEP: usize = 10;
/// A course of more steps than this is not kept further: an hour.
const MOST_STEPS: usize = 36_000;

/// Counts by step, from one instant on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    start: Nanos,
    deliveries: Vec<u64>,
    attempts: Vec<u64>,
    opened: Vec<i64>,
    /// Sessions open at the start.
    open_at_start: i64,
}

impl Course {
    /// A course that begins at `start`, with so many sessions open by then.
    pub(crate) fn new(start: Nanos, open: u64) -> Self {
        Self {
            start,
            open_at_start: i64::try_from(open).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }

    /// Messages that arrived.
    pub(crate) fn delivered(&mut self, at: Nanos, count: u64) {
        if let Some(step) = self.step(at, STEP) {
            *slot(&mut self.deliveries, step) += count;
        }
    }

    /// An attempt that began.
    pub(crate) fn attempted(&mut self, at: Nanos) {
        if let Some(step) = self.step(at, FINE) {
            *slot(&mut self.attempts, step) += 1;
        }
    }

    /// A session that opened (1) or ended (-1). Before the start it changes what was open then.
    pub(crate) fn opened(&mut self, at: Nanos, change: i64) {
        if at < self.start {
            self.open_at_start += change;
        } else if let Some(step) = self.step(at, STEP) {
            *slot(&mut self.opened, step) += change;
        }
    }

    fn step(&self, at: Nanos, length: Duration) -> Option<usize> {
        if at < self.start || self.start == Nanos::default() {
            return None;
        }
        let step = at.duration_since(self.start).as_nanos() / length.as_nanos();
        let most = MOST_STEPS * (STEP.as_nanos() / length.as_nanos()) as usize;
        usize::try_from(step).ok().filter(|step| *step < most)
    }

    /// Adds another worker's course of the same trial.
    pub(crate) fn merge(&mut self, other: &Course) {
        if self.start == Nanos::default() {
            self.start = other.start;
        }
        self.open_at_start += other.open_at_start;
        add(&mut self.deliveries, &other.deliveries);
        add(&mut self.attempts, &other.attempts);
        add(&mut self.opened, &other.opened);
    }

    /// Most attempts in any 100 ms, to the precision of the fine steps.
    pub(crate) fn herd_peak(&self) -> u64 {
        let windows = self.attempts.windows(FINE_IN_STEP).map(|w| w.iter().sum());
        windows.max().unwrap_or_else(|| self.attempts.iter().sum())
    }

    /// The course over `length` from its start.
    pub(crate) fn timeline(&self, length: Duration) -> Timeline {
        let steps = (length.as_nanos() / STEP.as_nanos()) as usize;
        let steps = steps.min(MOST_STEPS);
        let mut open = self.open_at_start;
        let padded = |values: &[u64]| (0..steps).map(|k| values.get(k).copied().unwrap_or(0)).collect();
        let attempts: Vec<u64> = self
            .attempts
            .chunks(FINE_IN_STEP)
            .map(|chunk| chunk.iter().sum())
            .collect();
        Timeline {
            step_ms: STEP.as_millis() as u64,
            deliveries: padded(&self.deliveries),
            attempts: padded(&attempts),
            open: (0..steps)
                .map(|k| {
                    open += self.opened.get(k).copied().unwrap_or(0);
                    u64::try_from(open).unwrap_or(0)
                })
                .collect(),
        }
    }
}

fn slot<T: Default + Clone>(values: &mut Vec<T>, at: usize) -> &mut T {
    if values.len() <= at {
        // In large portions: a step's first message should seldom have to make room.
        values.resize(at + 64, T::default());
    }
    &mut values[at]
}

fn add<T: Copy + Default + std::ops::AddAssign>(to: &mut Vec<T>, from: &[T]) {
    if to.len() < from.len() {
        to.resize(from.len(), T::default());
    }
    for (sum, value) in to.iter_mut().zip(from) {
        *sum += *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_adds_up() {
        let start = Nanos(1_000_000_000);
        let ms = |ms: u64| start + Duration::from_millis(ms);
        let mut one = Course::new(start, 10);
        one.delivered(ms(0), 2);
        one.delivered(ms(99), 1);
        one.delivered(ms(100), 5);
        one.delivered(Nanos(999_999_999), 100);
        one.opened(ms(150), -1);
        one.opened(ms(320), 1);
        for at in [195, 196, 204, 299, 305] {
            one.attempted(ms(at));
        }
        let mut two = Course::new(start, 5);
        two.delivered(ms(250), 4);
        one.merge(&two);
        let timeline = one.timeline(Duration::from_millis(400));
        assert_eq!(timeline.deliveries, [3, 5, 4, 0]);
        assert_eq!(timeline.open, [15, 14, 14, 15]);
        assert_eq!(timeline.attempts, [0, 2, 2, 1]);
        // 204, 299 lie in no common 100 ms with 195; 195, 196, 204 do, and so do 204 to 299.
        assert_eq!(one.herd_peak(), 3);
    }
}
