//! What faults that last do to bytes on their way: one set of conditions for a group, worked out from all that is in force.

use std::collections::VecDeque;
use std::time::Duration;

use pushmark_measure::Nanos;
use pushmark_measure::schedule::mix;
use pushmark_scenario::plan::FaultKind;

/// Most bytes that are held in one direction of one connection while they are paced or their reader is slow.
pub(super) const PIECE: usize = 16 * 1024;
/// The same while a delay holds them: what is under way on a long line. A delay `d` thus caps a connection at this many
/// bytes in each `d`.
const MOST_DELAYED: usize = 256 * 1024;
/// A limited bandwidth passes what has become due in about this long at once.
const PACES_A_SECOND: u64 = 100;

/// The way that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// What is in force for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Conditions {
    pub(super) frozen: bool,
    delay: Duration,
    jitter: Duration,
    bytes_per_second: Option<u64>,
    drip: Option<Duration>,
    intact: Intact,
}

/// Chance of a byte to come through unchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Intact(f64);

impl Default for Intact {
    fn default() -> Self {
        Self(1.0)
    }
}

/// What is in force in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) pace: Option<Pace>,
    /// Chance of each byte to be changed.
    pub(super) corrupt: f64,
}

/// Bytes are let through at a pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// So many at once at the most.
    pub(super) quantum: usize,
    /// Each costs so long.
    ns_per_byte: f64,
}

impl Conditions {
    /// Delays add up; of limits the tightest holds.
    pub(super) fn of(faults: impl Iterator<Item = FaultKind>) -> Self {
        let mut all = Self::default();
        for fault in faults {
            match fault {
                FaultKind::Freeze => all.frozen = true,
                FaultKind::Delay { delay, jitter } => {
                    all.delay += delay;
                    all.jitter += jitter;
                }
                FaultKind::Bandwidth { bytes_per_second } => {
                    let least = all.bytes_per_second.unwrap_or(u64::MAX);
                    all.bytes_per_second = Some(least.min(bytes_per_second.max(1)));
                }
                FaultKind::SlowDrip { every } => all.drip = Some(all.drip.unwrap_or_default().max(every)),
                FaultKind::Corrupt { chance } => all.intact.0 *= 1.0 - chance.clamp(0.0, 1.0),
                _ => {}
            }
        }
        all
    }

    pub(super) fn towards(&self, direction: Direction) -> Shape {
        let both = Shape {
            delay: self.delay,
            jitter: self.jitter,
            pace: None,
            corrupt: 0.0,
        };
        match direction {
            Direction::ToServer => both,
            Direction::ToClient => Shape {
                pace: self.pace(),
                corrupt: 1.0 - self.intact.0,
                ..both
            },
        }
    }

    fn pace(&self) -> Option<Pace> {
        let limited = self.bytes_per_second.map(|rate| Pace {
            quantum: usize::try_from(rate / PACES_A_SECOND)
                .unwrap_or(PIECE)
                .clamp(1, PIECE),
            ns_per_byte: 1e9 / rate as f64,
        });
        let dripping = self.drip.map(|every| Pace {
            quantum: 1,
            ns_per_byte: every.as_nanos() as f64,
        });
        match (limited, dripping) {
            (Some(a), Some(b)) => Some(Pace {
                quantum: a.quantum.min(b.quantum),
                ns_per_byte: a.ns_per_byte.max(b.ns_per_byte),
            }),
            (a, b) => a.or(b),
        }
    }
}

impl Shape {
    /// Bytes can be passed on at once.
    pub(super) fn is_plain(&self) -> bool {
        self.pace.is_none() && !self.is_delayed()
    }

    fn is_delayed(&self) -> bool {
        self.delay + self.jitter > Duration::ZERO
    }

    /// Most bytes that may be held before no more are read; none where nothing needs to be held.
    fn room(&self) -> usize {
        match (self.is_delayed(), self.pace) {
            (true, _) => MOST_DELAYED,
            (false, Some(_)) => PIECE,
            (false, None) => 0,
        }
    }
}

impl Pace {
    /// When the next bytes may pass, after `bytes` were let through at `now` that might have passed from `next` on.
    pub(super) fn after(&self, next: Nanos, now: Nanos, bytes: usize) -> Nanos {
        next.max(now) + Duration::from_nanos((bytes as f64 * self.ns_per_byte) as u64)
    }
}

/// Bytes on their way in one direction, in order, each piece with the instant from which it may go on; and at last the end.
#[derive(Default)]
pub(super) struct Line {
    pieces: VecDeque<Piece>,
    held: usize,
    last: Nanos,
    end: Option<(Nanos, Ending)>,
}

struct Piece {
    due: Nanos,
    bytes: Vec<u8>,
    gone: usize,
}

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In order: nothing more will be said on it.
    Fin,
    Reset,
}

impl Line {
    /// When the next thing is due, if anything is on its way.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.pieces
            .front()
            .map(|p| p.due)
            .or(self.end.map(|(due, _)| due))
    }

    pub(super) fn takes_more(&self, shape: &Shape) -> bool {
        self.end.is_none() && (self.due().is_none() || self.held < shape.room())
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.due().is_none()
    }

    /// Order is kept: nothing is due before what went in before it.
    pub(super) fn push(&mut self, due: Nanos, bytes: &[u8]) {
        self.last = self.last.max(due);
        self.held += bytes.len();
        self.pieces.push_back(Piece {
            due: self.last,
            bytes: bytes.to_vec(),
            gone: 0,
        });
    }

    pub(super) fn end(&mut self, due: Nanos, ending: Ending) {
        self.end = Some((self.last.max(due), ending));
    }

    /// The bytes that go next.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| &piece.bytes[piece.gone..])
    }

    /// So many of them have gone.
    pub(super) fn gone(&mut self, bytes: usize) {
        let Some(piece) = self.pieces.front_mut() else {
            return;
        };
        let bytes = bytes.min(piece.bytes.len() - piece.gone);
        piece.gone += bytes;
        self.held -= bytes;
        if piece.gone == piece.bytes.len() {
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// The end, once all bytes before it have gone.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.pieces
            .front()
            .map_or(self.end.map(|(_, ending)| ending), |_| None)
    }
}

/// Chance, the same for the same seed.
pub(super) struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn)
    }

    /// From 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Any length from zero to `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.share())
    }

    /// Changes each byte with this chance; gives how many were changed.
    pub(super) fn corrupt(&mut self, bytes: &mut [u8], chance: f64) -> u64 {
        if chance <= 0.0 {
            return 0;
        }
        let mut changed = 0;
        let mut at = 0usize;
        // The bytes between two changed ones are skipped in one step; there are as many as the geometric law says.
        let between = (-chance.min(1.0)).ln_1p();
        loop {
            // At a chance of 1 the divisor is minus infinity, and the step none.
            at = at.saturating_add(((1.0 - self.share()).ln() / between) as usize);
            let Some(byte) = bytes.get_mut(at) else {
                return changed;
            };
            // Never zero, so that the byte does change.
            *byte ^= (self.next() % 255 + 1) as u8;
            changed += 1;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(faults: &[FaultKind]) -> Conditions {
        Conditions::of(faults.iter().copied())
    }

    #[test]
    fn faults_in_force_together_add_up() {
        let ms = Duration::from_millis;
        let delay = |d, j| FaultKind::Delay {
            delay: ms(d),
            jitter: ms(j),
        };
        let all = conditions(&[
            delay(10, 1),
            delay(5, 2),
            FaultKind::Bandwidth {
                bytes_per_second: 1_000_000,
            },
            FaultKind::Bandwidth {
                bytes_per_second: 1_000,
            },
            FaultKind::Corrupt { chance: 0.5 },
            FaultKind::Corrupt { chance: 0.5 },
        ]);
        let (up, down) = (all.towards(Direction::ToServer), all.towards(Direction::ToClient));
        assert_eq!(
            (up.delay, up.jitter, up.pace, up.corrupt),
            (ms(15), ms(3), None, 0.0)
        );
        assert_eq!((down.delay, down.corrupt), (ms(15), 0.75));
        assert_eq!(down.pace.unwrap().quantum, 10);
        assert!(!all.frozen && conditions(&[FaultKind::Freeze]).frozen);
        assert!(conditions(&[]).towards(Direction::ToClient).is_plain());
        assert!(conditions(&[FaultKind::Fin, FaultKind::Rst]) == Conditions::default());
    }

    #[test]
    fn a_pace_is_kept_and_not_saved_up() {
        let pace = conditions(&[FaultKind::Bandwidth {
            bytes_per_second: 1_000,
        }])
        .pace()
        .unwrap();
        let ms = |n: u64| Nanos(n * 1_000_000);
        assert_eq!(
            pace.after(ms(0), ms(500), 10),
            ms(510),
            "an idle while gives no credit"
        );
        assert_eq!(
            pace.after(ms(600), ms(599), 10),
            ms(610),
            "bytes that go early are not cheaper"
        );
        let drip = conditions(&[FaultKind::SlowDrip {
            every: Duration::from_millis(3),
        }])
        .pace()
        .unwrap();
        assert_eq!((drip.quantum, drip.after(ms(0), ms(1), 1)), (1, ms(4)));
        let least = conditions(&[FaultKind::Bandwidth { bytes_per_second: 0 }])
            .pace()
            .unwrap();
        assert_eq!(
            least.quantum, 1,
            "a bandwidth of nothing still is a byte a second"
        );
    }

    #[test]
    fn a_line_keeps_order_and_the_end_last() {
        let mut line = Line::default();
        assert!(line.is_empty() && line.next().is_none() && line.ending().is_none());
        line.push(Nanos(50), b"abc");
        line.push(Nanos(20), b"de");
        line.end(Nanos(10), Ending::Fin);
        assert_eq!(
            (line.due(), line.next(), line.ending()),
            (Some(Nanos(50)), Some(&b"abc"[..]), None)
        );
        line.gone(2);
        assert_eq!(line.next(), Some(&b"c"[..]));
        line.gone(1);
        assert_eq!((line.due(), line.next()), (Some(Nanos(50)), Some(&b"de"[..])));
        line.gone(2);
        assert_eq!(
            (line.due(), line.ending(), line.held),
            (Some(Nanos(50)), Some(Ending::Fin), 0)
        );
    }

    #[test]
    fn a_line_is_bounded() {
        let (mut line, plain) = (Line::default(), conditions(&[]).towards(Direction::ToClient));
        assert!(line.takes_more(&plain));
        line.push(Nanos(0), b"a");
        assert!(
            !line.takes_more(&plain),
            "what is held up goes before more is read"
        );
        let slow = conditions(&[FaultKind::Bandwidth { bytes_per_second: 9 }]).towards(Direction::ToClient);
        line.push(Nanos(0), &[0; PIECE - 2]);
        assert!(line.takes_more(&slow));
        line.push(Nanos(0), b"a");
        assert!(!line.takes_more(&slow));
    }

    #[test]
    fn bytes_are_changed_as_often_as_asked() {
        let mut bytes = vec![7; 100_000];
        let changed = Chance::new(1).corrupt(&mut bytes, 0.01);
        assert_eq!(bytes.iter().filter(|b| **b != 7).count() as u64, changed);
        assert!((800..1_200).contains(&changed), "{changed}");
        let mut again = vec![7; 100_000];
        Chance::new(1).corrupt(&mut again, 0.01);
        assert!(bytes == again, "same seed, same bytes");
        assert_eq!(Chance::new(1).corrupt(&mut bytes, 1.0), 100_000);
        assert_eq!(Chance::new(1).corrupt(&mut bytes, 0.0), 0);
        assert_eq!(Chance::new(1).corrupt(&mut bytes, 1e-300), 0);
    }
}
