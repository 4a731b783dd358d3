//! Stamps of the wall clock on the clock of all instants: the kernel stamps packets with `CLOCK_REALTIME`, everything here is
//! `CLOCK_MONOTONIC`.
//!
//! The two run at the same speed (both are slewed alike), so the distance between them is constant until somebody sets
//! the wall clock: then it jumps. The distance is therefore read again every few milliseconds, and at once when a stamp
//! looks odd. From the moment a jump was noticed, only stamps made after it are believed. What can go wrong unseen is a
//! jump backwards of less than [`RECHECK`], and that for no longer than [`RECHECK`]; no delay is ever negative.

use std::time::Duration;

use crate::clock::{Nanos, WallReading};

/// The distance is read again after so long.
pub const RECHECK: Duration = Duration::from_millis(10);
/// Readings tried for one whose two sides are close together.
const TRIES: usize = 4;
/// A reading this close together is good enough.
const CLOSE_NS: u64 = 300;
/// A distance that moved by more than this, and by more than its readings leave open, was set.
const STEP_NS: u64 = 1_000;

/// Where the wall clock stands against the clock of all instants.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// Wall − instant.
    distance_ns: i128,
    /// How far `distance_ns` may be off.
    open_ns: u64,
    /// It has been so since then.
    since: Nanos,
    /// It was last read then.
    checked: Nanos,
}

impl WallClock {
    /// Reads the distance for the first time.
    pub fn start(read: impl FnMut() -> WallReading) -> Self {
        let (distance_ns, open_ns, at) = distance(read);
        Self {
            distance_ns,
            open_ns,
            since: Nanos(0),
            checked: at,
        }
    }

    /// The instant of a wall-clock stamp that was seen at `seen`: never later than that. `None` when it cannot be placed,
    /// because the wall clock was set around it.
    #[inline]
    pub fn instant_of(
        &mut self,
        wall_ns: u64,
        seen: Nanos,
        read: impl FnMut() -> WallReading,
    ) -> Option<Nanos> {
        if seen.since(self.checked) < RECHECK.as_nanos() as u64
            && let Some(instant) = self.place(wall_ns, seen)
            && instant >= self.checked
        {
            return Some(instant);
        }
        self.check(read);
        self.place(wall_ns, seen).filter(|instant| *instant >= self.since)
    }

    /// Where the stamp falls, unless that is after it was seen by more than the distance leaves open.
    fn place(&self, wall_ns: u64, seen: Nanos) -> Option<Nanos> {
        let instant = u64::try_from(i128::from(wall_ns) - self.distance_ns).ok()?;
        (instant <= seen.0.saturating_add(self.open_ns)).then_some(Nanos(instant.min(seen.0)))
    }

    fn check(&mut self, read: impl FnMut() -> WallReading) {
        let (distance_ns, open_ns, at) = distance(read);
        self.checked = at;
        let moved = distance_ns.abs_diff(self.distance_ns);
        if moved > u128::from(STEP_NS + self.open_ns + open_ns) {
            (self.distance_ns, self.open_ns, self.since) = (distance_ns, open_ns, at);
        } else if open_ns <= self.open_ns {
            (self.distance_ns, self.open_ns) = (distance_ns, open_ns);
        }
    }
}

/// Wall − instant, how far that may be off, and when it was read: of a few readings the closest, since a reading that was
/// interrupted says little.
fn distance(mut read: impl FnMut() -> WallReading) -> (i128, u64, Nanos) {
    let mut best = read();
    for _ in 1..TRIES {
        if best.after.since(best.before) <= CLOSE_NS {
            break;
        }
        let next = read();
        if next.after.since(next.before) < best.after.since(best.before) {
            best = next;
        }
    }
    let width = best.after.since(best.before);
    let middle = best.before.0 + width / 2;
    (
        i128::from(best.wall_ns) - i128::from(middle),
        width / 2 + 1,
        best.after,
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock;

    const MS: u64 = 1_000_000;
    const EPOCH: u64 = 1_795_155_145_000_000_000;

    /// Clocks that the test moves by hand.
    struct Clocks {
        now: Cell<u64>,
        wall: Cell<u64>,
        reads: Cell<u32>,
    }

    impl Clocks {
        fn new() -> Self {
            Self {
                now: Cell::new(1_000 * MS),
                wall: Cell::new(EPOCH),
                reads: Cell::new(0),
            }
        }
        fn pass(&self, ns: u64) {
            self.now.set(self.now.get() + ns);
            self.wall.set(self.wall.get() + ns);
        }
        fn read(&self) -> WallReading {
            self.reads.set(self.reads.get() + 1);
            WallReading {
                before: Nanos(self.now.get() - 20),
                wall_ns: self.wall.get(),
                after: Nanos(self.now.get() + 20),
            }
        }
        /// The delay of a message that was stamped now and is read `delay` later.
        fn delay(&self, clock: &mut WallClock, delay: u64) -> Option<u64> {
            let stamp = self.wall.get();
            self.pass(delay);
            let seen = Nanos(self.now.get());
            clock
                .instant_of(stamp, seen, || self.read())
                .map(|at| seen.since(at))
        }
    }

    #[test]
    fn delays_are_what_they_were() {
        let clocks = Clocks::new();
        let mut clock = WallClock::start(|| clocks.read());
        for delay in [0, 1, 20_000, 3 * MS, 12 * MS, 5_000 * MS, 0, 50] {
            clocks.pass(MS / 2);
            assert_eq!(clocks.delay(&mut clock, delay), Some(delay));
        }
    }

    #[test]
    fn the_clocks_are_compared_seldom() {
        let clocks = Clocks::new();
        let mut clock = WallClock::start(|| clocks.read());
        for _ in 0..1_000 {
            clocks.pass(MS / 10);
            assert!(clocks.delay(&mut clock, 20_000).is_some());
        }
        assert!(clocks.reads.get() <= 15, "{}", clocks.reads.get());
    }

    #[test]
    fn a_clock_that_is_set_gives_no_absurd_delay() {
        for step in [-3_600_000_i64, -500, -20, 20, 500, 3_600_000] {
            let clocks = Clocks::new();
            let mut clock = WallClock::start(|| clocks.read());
            clocks.pass(MS);
            assert_eq!(clocks.delay(&mut clock, 100), Some(100));
            // Stamped before the step, read after it.
            let stamp = clocks.wall.get();
            clocks
                .wall
                .set(clocks.wall.get().wrapping_add_signed(step * MS as i64));
            clocks.pass(30_000);
            let seen = Nanos(clocks.now.get());
            let before = clock.instant_of(stamp, seen, || clocks.read());
            assert!(before.is_none_or(|at| seen.since(at) <= 30_000 + 40), "{step}");
            // Stamped and read after it: at most for a few milliseconds nothing, then right again.
            for _ in 0..30 {
                clocks.pass(MS);
                let delay = clocks.delay(&mut clock, 70_000);
                assert!(delay.is_none_or(|d| d == 70_000), "{step}: {delay:?}");
            }
            assert_eq!(clocks.delay(&mut clock, 70_000), Some(70_000), "{step}");
        }
    }

    #[test]
    fn a_small_step_is_told_within_the_time_between_checks() {
        let clocks = Clocks::new();
        let mut clock = WallClock::start(|| clocks.read());
        clocks.pass(MS);
        clocks.wall.set(clocks.wall.get() - 5 * MS);
        for _ in 0..30 {
            clocks.pass(MS);
            let delay = clocks.delay(&mut clock, 70_000);
            assert!(delay.is_none_or(|d| d <= 10 * MS), "{delay:?}");
        }
        assert_eq!(clocks.delay(&mut clock, 70_000), Some(70_000));
    }

    #[test]
    fn the_real_clocks_agree() {
        let mut clock = WallClock::start(clock::wall_reading);
        for _ in 0..1_000 {
            let reading = clock::wall_reading();
            let seen = clock::now();
            let at = clock
                .instant_of(reading.wall_ns, seen, clock::wall_reading)
                .unwrap();
            assert!(at <= seen);
            assert!(at.0 + 2_000 >= reading.before.0 && at.0 <= reading.after.0 + 2_000);
        }
    }
}
