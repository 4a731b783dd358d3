//! Two trials at the same time: one after the other they get ready, together they begin, and in turns they are loaded.
//!
//! Getting ready is what two servers cannot share: processes start, connections come in. The second trial waits until all
//! connections of the first stand. Then both agree on one start, and their schedules on slots of it.

use std::time::Duration;

use pushmark_measure::{Nanos, Slots};
use tokio::sync::watch;

/// Time between the agreement and the first message: two servers and their workers are told meanwhile.
const LEAD: Duration = Duration::from_millis(300);

/// How far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    GettingReady,
    Ready,
    Begins(Nanos),
}

/// One side of two trials. Dropped, it lets the other go on alone.
pub(crate) struct Duo {
    first: bool,
    slots: Slots,
    mine: watch::Sender<Stage>,
    other: watch::Receiver<Stage>,
}

impl Duo {
    /// Both sides; the first gets ready first, and has the first slot.
    pub(crate) fn pair() -> (Self, Self) {
        let (one, from_one) = watch::channel(Stage::GettingReady);
        let (two, from_two) = watch::channel(Stage::GettingReady);
        let side = |first: bool, mine, other| Self {
            first,
            slots: Slots::of_two(u32::from(!first)),
            mine,
            other,
        };
        (side(true, one, from_two), side(false, two, from_one))
    }

    /// When this side is loaded.
    pub(crate) fn slots(&self) -> Slots {
        self.slots
    }

    /// Waits until it is this side's turn to get ready.
    pub(crate) async fn my_turn(&mut self) {
        if !self.first {
            // An error is the end of the other side: nothing is left to wait for.
            let _ = self.other.wait_for(|stage| *stage != Stage::GettingReady).await;
        }
    }

    /// This side is ready: the start, once both are, or this one is alone. `None`: ask again.
    pub(crate) fn start(&mut self, now: Nanos) -> Option<Nanos> {
        self.mine.send_if_modified(|stage| {
            let news = *stage == Stage::GettingReady;
            if news {
                *stage = Stage::Ready;
            }
            news
        });
        let other = *self.other.borrow();
        let alone = self.other.has_changed().is_err();
        match other {
            Stage::Begins(at) => Some(at),
            _ if alone => Some(now + LEAD),
            // The second to be ready says when.
            Stage::Ready if !self.first => {
                let at = now + LEAD;
                self.mine.send_replace(Stage::Begins(at));
                Some(at)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_begin_at_the_same_time_in_different_slots() {
        let (mut first, mut second) = Duo::pair();
        assert_ne!(first.slots().mine, second.slots().mine);
        assert_eq!(first.start(Nanos(1)), None);
        let at = second.start(Nanos(5));
        assert_eq!(at, Some(Nanos(5) + LEAD));
        assert_eq!(first.start(Nanos(900)), at);
        // Whoever has begun is not held up by the other's end.
        drop(second);
        assert_eq!(first.start(Nanos(901)), at);
    }

    #[test]
    fn one_that_is_left_goes_on_alone() {
        let (first, mut second) = Duo::pair();
        drop(first);
        assert_eq!(second.start(Nanos(5)), Some(Nanos(5) + LEAD));
        let (mut first, second) = Duo::pair();
        assert_eq!(first.start(Nanos(1)), None);
        drop(second);
        assert_eq!(first.start(Nanos(7)), Some(Nanos(7) + LEAD));
    }
}
