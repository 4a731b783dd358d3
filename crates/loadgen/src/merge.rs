//! Merging: the same interval of several sources becomes one.

use std::collections::BTreeMap;

use pushmark_measure::Interval;

/// Collects intervals of several sources, and gives each on when all sources have sent it.
#[derive(Debug)]
pub struct Merger {
    sources: usize,
    waiting: BTreeMap<u32, (Interval, usize)>,
    next: u32,
}

impl Merger {
    /// A merger of `sources` sources.
    pub fn new(sources: usize) -> Self {
        Self {
            sources,
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes an interval; gives those that are now whole, in order.
    pub fn push(&mut self, interval: Interval) -> Vec<Interval> {
        match self.waiting.get_mut(&interval.index) {
            Some((merged, count)) => {
                merged.merge(&interval);
                *count += 1;
            }
            None => {
                self.waiting.insert(interval.index, (interval, 1));
            }
        }
        let mut whole = Vec::new();
        while let Some((_, count)) = self.waiting.get(&self.next) {
            if *count < self.sources {
                break;
            }
            whole.extend(self.waiting.remove(&self.next).map(|(interval, _)| interval));
            self.next += 1;
        }
        whole
    }

    /// A source has ended before its time: what it did not send is not waited for any more.
    pub fn source_ended(&mut self) {
        self.sources = self.sources.saturating_sub(1).max(1);
    }

    /// All that is left, whole or not, in order. Sources end at slightly different times, so their last intervals may
    /// differ in number; that is no gap.
    pub fn finish(&mut self) -> Vec<Interval> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|(interval, _)| interval)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use pushmark_measure::{Metric, Nanos, Phase, Recorder, Sample};

    use super::*;

    #[test]
    fn merged_workers_equal_a_single_one() {
        let (mut one, mut a, mut b) = (
            Recorder::new(Nanos(0)),
            Recorder::new(Nanos(0)),
            Recorder::new(Nanos(0)),
        );
        for r in [&mut one, &mut a, &mut b] {
            r.set_window(Nanos(0)..Nanos::MAX);
        }
        let mut merger = Merger::new(2);
        for second in 1..=3u64 {
            for i in 0..1_000 {
                let sample = Sample {
                    intended: Nanos(i),
                    sent: Nanos(i),
                    received: Nanos(i * second + i),
                    kernel: None,
                    payload_bytes: 7,
                };
                one.record(&sample);
                if i % 3 == 0 { &mut a } else { &mut b }.record(&sample);
            }
            let (end, phase) = (Nanos(second), Phase::Measure);
            assert_eq!(merger.push(a.take(phase, end)), []);
            assert_eq!(merger.push(b.take(phase, end)), [one.take(phase, end)]);
        }
        assert_eq!(merger.finish(), []);
    }

    #[test]
    fn a_dead_source_does_not_hold_up_the_others() {
        let mut merger = Merger::new(2);
        let mut a = Recorder::new(Nanos(0));
        assert!(merger.push(a.take(Phase::Ramp, Nanos(1))).is_empty());
        merger.source_ended();
        assert_eq!(merger.push(a.take(Phase::Ramp, Nanos(2))).len(), 2);
        assert!(
            a.take(Phase::Ramp, Nanos(3))
                .measured
                .get(Metric::Latency)
                .is_none()
        );
    }
}
