//! The clock room: the one place that reads time.
//!
//! All instants are `CLOCK_MONOTONIC` nanoseconds, so that stamps of the server and of the load generator can be
//! subtracted on one host. Wall time is read only to name run directories and to date manifests.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds. Comparable between processes of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The largest instant: "never".
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// Time since `earlier`, in nanoseconds; zero when `earlier` is later.
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The span since `earlier`; zero when `earlier` is later.
    pub fn duration_since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }
}

impl Add<Duration> for Nanos {
    type Output = Nanos;
    fn add(self, span: Duration) -> Nanos {
        Nanos(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Nanos {
    type Output = Nanos;
    fn sub(self, span: Duration) -> Nanos {
        Nanos(
            self.0
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

fn read(clock: ClockId) -> Nanos {
    let t = clock_gettime(clock);
    Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// Now, on `CLOCK_MONOTONIC`.
#[inline]
pub fn now() -> Nanos {
    read(ClockId::Monotonic)
}

/// CPU time this process has used, user and system together, in nanoseconds (`CLOCK_PROCESS_CPUTIME_ID`).
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime).0
}

/// CPU time the calling thread has used, in nanoseconds (`CLOCK_THREAD_CPUTIME_ID`).
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime).0
}

/// Wall-clock time in seconds since the Unix epoch; for names and dates only, never for a measurement.
pub fn unix_seconds() -> u64 {
    read(ClockId::Realtime).0 / 1_000_000_000
}

/// The wall clock against the clock of all instants, read together. For stamps that others made with the wall clock (the
/// kernel's): see [`crate::wall::WallClock`].
pub fn wall_reading() -> WallReading {
    let before = now();
    let wall_ns = read(ClockId::Realtime).0;
    let after = now();
    WallReading {
        before,
        wall_ns,
        after,
    }
}

/// The wall clock, and the instants just before and just after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallReading {
    /// Before.
    pub before: Nanos,
    /// `CLOCK_REALTIME`, in nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// After.
    pub after: Nanos,
}

/// `2026-11-20T06:10:00Z` for seconds since the Unix epoch (proleptic Gregorian calendar, UTC).
pub fn utc_text(unix_seconds: u64) -> String {
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Civil-from-days: years start in March, so that the leap day is the last day of the year.
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_text_of_known_instants() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_154_999, "2026-11-20T06:09:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc_text(seconds), text);
        }
    }

    #[test]
    fn instants_never_go_below_zero() {
        assert_eq!(Nanos(5).since(Nanos(9)), 0);
        assert_eq!(Nanos(5) - Duration::from_secs(1), Nanos(0));
        let (first, second) = (now(), now());
        assert!(second >= first);
    }
}
