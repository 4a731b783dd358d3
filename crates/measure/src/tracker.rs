//! Sequence tracker: which messages of one stream a receiver has seen, exactly, in a few bytes.
//!
//! Messages of a stream are numbered from zero. The tracker keeps the highest number seen and the gaps below it, so a
//! stream without loss costs no memory however long it runs.

use std::ops::Range;

/// More gaps than this are no longer told apart; see [`SequenceTracker::overflowed`].
const MOST_GAPS: usize = 4_096;

/// What one arrival meant for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// First arrival, and the highest number so far.
    InOrder,
    /// First arrival, of a number smaller than one already seen (a reordered packet in the sense of RFC 4737, section 3).
    Reordered,
    /// This number was seen before.
    Duplicate,
}

/// What one receiver has seen of one stream.
#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    /// All numbers from `first` up to here were seen, but for the gaps.
    next: u64,
    /// Numbers not seen, as half-open ranges in ascending order.
    gaps: Vec<Range<u64>>,
    overflowed: bool,
}

impl SequenceTracker {
    /// Accounts for one arrival.
    #[inline]
    pub fn arrive(&mut self, sequence: u64) -> Arrival {
        if sequence == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.arrive_out_of_step(sequence)
    }

    #[cold]
    fn arrive_out_of_step(&mut self, sequence: u64) -> Arrival {
        if sequence > self.next {
            if self.gaps.len() < MOST_GAPS {
                self.gaps.push(self.next..sequence);
            } else if let Some(last) = self.gaps.last_mut() {
                // Joined to the last gap: what lies between is then counted as missing although it came.
                self.overflowed = true;
                last.end = sequence;
            }
            self.next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        let at = self.gaps.partition_point(|gap| gap.end <= sequence);
        match self.gaps.get(at).cloned() {
            Some(gap) if gap.contains(&sequence) => {
                let (left, right) = (gap.start..sequence, sequence + 1..gap.end);
                let pieces = [left, right].into_iter().filter(|piece| !piece.is_empty());
                self.gaps.splice(at..=at, pieces);
                Arrival::Reordered
            }
            _ => Arrival::Duplicate,
        }
    }

    /// How many numbers in `range` have not been seen.
    pub fn missing_in(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let in_gaps: u64 = self
            .gaps
            .iter()
            .map(|gap| gap.end.min(range.end).saturating_sub(gap.start.max(range.start)))
            .sum();
        in_gaps + range.end.saturating_sub(self.next.max(range.start))
    }

    /// How many numbers in `range` have been seen.
    pub fn seen_in(&self, range: Range<u64>) -> u64 {
        (range.end.saturating_sub(range.start)).saturating_sub(self.missing_in(range))
    }

    /// One past the highest number seen.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// True when every number below `end` was seen.
    pub fn complete_below(&self, end: u64) -> bool {
        self.next >= end && self.missing_in(0..end) == 0
    }

    /// True when there were too many gaps to tell all apart: counts of this stream are then not exact.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn told_apart() {
        let mut t = SequenceTracker::default();
        let seen: Vec<_> = [0, 1, 4, 2, 2, 3, 0, 7]
            .into_iter()
            .map(|s| t.arrive(s))
            .collect();
        use Arrival::*;
        assert_eq!(
            seen,
            [
                InOrder, InOrder, InOrder, Reordered, Duplicate, Reordered, Duplicate, InOrder
            ]
        );
        assert_eq!(t.missing_in(0..10), 4);
        assert_eq!(t.missing_in(5..7), 2);
        assert_eq!(t.seen_in(3..6), 2);
        assert!(t.complete_below(5) && !t.complete_below(6));
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let mut t = SequenceTracker::default();
        assert_eq!(t.arrive(u64::MAX), Arrival::InOrder);
        assert_eq!(t.arrive(5), Arrival::Reordered);
        assert_eq!(t.missing_in(0..10), 9);
    }

    #[test]
    fn too_many_gaps_are_owned_up_to() {
        let mut t = SequenceTracker::default();
        for s in (1..20_000).step_by(2) {
            t.arrive(s);
        }
        assert!(t.overflowed());
        assert!(t.gaps.len() <= MOST_GAPS);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(arrivals in proptest::collection::vec(0u64..60, 0..120), from in 0u64..60, len in 0u64..30) {
            let (mut tracker, mut set, mut highest) = (SequenceTracker::default(), HashSet::new(), None);
            for s in arrivals {
                let expected = if !set.insert(s) { Arrival::Duplicate }
                    else if highest.is_some_and(|h| s < h) { Arrival::Reordered }
                    else { Arrival::InOrder };
                highest = highest.max(Some(s));
                prop_assert_eq!(tracker.arrive(s), expected);
            }
            let seen = (from..from + len).filter(|s| set.contains(s)).count() as u64;
            prop_assert_eq!(tracker.seen_in(from..from + len), seen);
            prop_assert_eq!(tracker.missing_in(from..from + len), len - seen);
        }
    }
}
