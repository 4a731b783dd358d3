//! Recovery: when a session that was cut off tries again, and what is noted of each cut.

use std::time::Duration;

use pushmark_measure::Nanos;
use pushmark_measure::schedule::mix;
use pushmark_scenario::plan::{Jitter, ReconnectPolicy};
use pushmark_transport::seam::Native;
use pushmark_transport::{ErrorClass, Step, TransportError};
use serde::{Deserialize, Serialize};

/// One end of a session that nobody had asked for, and what followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cut {
    /// The session's number within the trial.
    pub session: u32,
    /// When something last came from the peer.
    pub last_heard: Nanos,
    /// When the session was found to be dead.
    pub at: Nanos,
    /// What told: `clean-end`, `ended-early`, `reset`, `heartbeat`, `timed-out`, …
    pub reason: String,
    /// When the last message before it arrived.
    pub last_message: Option<Nanos>,
    /// When the session was usable again.
    pub back: Option<Nanos>,
    /// When the first message after it arrived.
    pub first_message: Option<Nanos>,
    /// Attempts made so far.
    pub attempts: u32,
    /// No further attempt will be made.
    pub gave_up: bool,
    /// Number of the first message that had not come by then.
    pub from: u64,
    /// One past the number of the last message that belongs to the outage, once that is known.
    pub to: Option<u64>,
    /// Messages of the measured window that belong to the outage.
    pub missed: u64,
    /// Of those, delivered after all.
    pub made_up: u64,
}

/// The waits between attempts after one cut.
pub(crate) struct Waits {
    policy: ReconnectPolicy,
    native: Native,
    seed: u64,
    /// Attempts that a wait was given for.
    count: u32,
    last: Duration,
}

impl Waits {
    /// The waits of `session` after its cut number `cut`. The same seed gives the same waits.
    pub(crate) fn new(policy: ReconnectPolicy, native: Native, seed: u64, session: u32, cut: u32) -> Self {
        Self {
            policy,
            native,
            seed: mix(mix(seed, u64::from(session)), u64::from(cut)),
            count: 0,
            last: Duration::ZERO,
        }
    }

    /// How long to wait before the next attempt; `None`: there is none. `retry` is what the server asked for.
    pub(crate) fn next(&mut self, retry: Option<Duration>) -> Option<Duration> {
        let first = self.count == 0;
        let wait = match self.policy {
            ReconnectPolicy::None => return None,
            ReconnectPolicy::Native => match self.native {
                Native::Nothing => return None,
                Native::EventSource { retry: default } => retry.unwrap_or(default),
                Native::AskAgain { .. } if first => Duration::ZERO,
                Native::AskAgain { pause } => pause,
            },
            ReconnectPolicy::Fixed { delay } => delay,
            ReconnectPolicy::Exponential { base, max, jitter } => {
                let whole = base.saturating_mul(1 << self.count.min(31)).min(max);
                let chance = unit(mix(self.seed, u64::from(self.count)));
                match jitter {
                    Jitter::None => whole,
                    Jitter::Full => whole.mul_f64(chance),
                    Jitter::Equal => whole / 2 + (whole / 2).mul_f64(chance),
                    Jitter::Decorrelated => {
                        let most = if first { base } else { self.last.saturating_mul(3) };
                        (base + most.saturating_sub(base).mul_f64(chance)).min(max)
                    }
                }
            }
        };
        self.count += 1;
        self.last = wait;
        Some(wait)
    }

    /// Whether a failed attempt ends all attempts: an event source takes any answer that is not a stream as final (WHATWG
    /// HTML, section 9.2.3).
    pub(crate) fn is_final(&self, error: &TransportError) -> bool {
        let answered = matches!(error.class, ErrorClass::Status(_) | ErrorClass::Protocol);
        self.policy == ReconnectPolicy::Native
            && matches!(self.native, Native::EventSource { .. })
            && error.step == Step::Open
            && answered
    }
}

/// A number from 0 up to 1, of well-mixed bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// What an end is called in counts.
pub(crate) fn reason_of(ended: &Result<(), TransportError>) -> String {
    match ended {
        Ok(()) => "clean-end".to_owned(),
        Err(e) if e.step == Step::Send => format!("send-{}", e.class),
        Err(e) => e.class.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const EVENT_SOURCE: Native = Native::EventSource {
        retry: Duration::from_secs(3),
    };

    fn waits(policy: ReconnectPolicy, native: Native, session: u32) -> Waits {
        Waits::new(policy, native, 7, session, 0)
    }

    fn exponential(jitter: Jitter) -> ReconnectPolicy {
        ReconnectPolicy::Exponential {
            base: SECOND,
            max: 10 * SECOND,
            jitter,
        }
    }

    #[test]
    fn native_is_what_the_transport_has() {
        let next = |native, retry| waits(ReconnectPolicy::Native, native, 0).next(retry);
        assert_eq!(next(EVENT_SOURCE, None), Some(3 * SECOND));
        assert_eq!(next(EVENT_SOURCE, Some(SECOND / 2)), Some(SECOND / 2));
        assert_eq!(next(Native::Nothing, Some(SECOND)), None);
        let mut again = waits(ReconnectPolicy::Native, Native::AskAgain { pause: SECOND }, 0);
        assert_eq!(
            (again.next(None), again.next(None)),
            (Some(Duration::ZERO), Some(SECOND))
        );
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut waits = waits(exponential(Jitter::None), Native::Nothing, 0);
        let seconds: Vec<u64> = (0..40).map(|_| waits.next(None).unwrap().as_secs()).collect();
        assert_eq!(seconds[..6], [1, 2, 4, 8, 10, 10]);
        assert!(seconds[6..].iter().all(|s| *s == 10));
    }

    #[test]
    fn jitter_keeps_within_its_bounds_and_spreads() {
        for (jitter, least_share, most_share) in [(Jitter::Full, 0.0, 1.0), (Jitter::Equal, 0.5, 1.0)] {
            let firsts: Vec<f64> = (0..1_000)
                .map(|session| {
                    waits(exponential(jitter), Native::Nothing, session)
                        .next(None)
                        .unwrap()
                        .as_secs_f64()
                })
                .collect();
            assert!(
                firsts.iter().all(|w| (least_share..=most_share).contains(w)),
                "{jitter:?}"
            );
            let mean = firsts.iter().sum::<f64>() / 1_000.0;
            assert!(
                (mean - (least_share + most_share) / 2.0).abs() < 0.03,
                "{jitter:?}: {mean}"
            );
        }
        let mut decorrelated = waits(exponential(Jitter::Decorrelated), Native::Nothing, 3);
        let mut last = SECOND;
        for _ in 0..50 {
            let wait = decorrelated.next(None).unwrap();
            assert!(
                wait >= SECOND && wait <= (3 * last).min(10 * SECOND),
                "{wait:?} after {last:?}"
            );
            last = wait;
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let series = |session| {
            let mut waits = waits(exponential(Jitter::Full), Native::Nothing, session);
            (0..5).map(|_| waits.next(None)).collect::<Vec<_>>()
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
    }

    #[test]
    fn an_answer_ends_an_event_source_for_good() {
        let native = waits(ReconnectPolicy::Native, EVENT_SOURCE, 0);
        let error = |step, class| TransportError::new(step, class, "");
        assert!(native.is_final(&error(Step::Open, ErrorClass::Status(204))));
        assert!(!native.is_final(&error(Step::Connect, ErrorClass::Refused)));
        assert!(!native.is_final(&error(Step::Open, ErrorClass::Reset)));
        let fixed = waits(ReconnectPolicy::Fixed { delay: SECOND }, EVENT_SOURCE, 0);
        assert!(!fixed.is_final(&error(Step::Open, ErrorClass::Status(503))));
    }
}
