//! A worker thread watches itself: processor time it used, time it stood in line for one, and how late its loop came round.
//!
//! The host's load cannot tell who is overloaded. These three can: they belong to the generator's own threads, so a server
//! that is slow on another core moves none of them.

use std::ops::Range;
use std::time::Duration;

use pushmark_measure::{Histogram, Nanos, clock};
use pushmark_transport::timer::Timer;

/// Time between two looks at the loop. No divisor of a round period, so that the looks do not fall in step with the load.
const LOOK: Duration = Duration::from_nanos(7_310_573);

/// What a thread's measured window was like.
#[derive(Debug, Default)]
pub(crate) struct ThreadLoad {
    /// Share of the window in which the thread had a processor.
    pub(crate) busy: f64,
    /// Share of the window in which it was ready to run and had none; 0 where the kernel does not tell.
    pub(crate) waiting: f64,
    /// By how much the thread's loop was late for a timer: what any arrival had to wait for its turn.
    pub(crate) loop_delay: Histogram,
}

/// A thread's account so far.
#[derive(Clone, Copy, Debug)]
struct Account {
    at: Nanos,
    cpu_ns: u64,
    waited_ns: u64,
}

impl Account {
    fn now() -> Self {
        Self {
            at: clock::now(),
            cpu_ns: clock::thread_cpu_ns(),
            waited_ns: waited_ns().unwrap_or(0),
        }
    }
}

/// Time this thread has spent ready to run without a processor: the second number of `schedstat`.
fn waited_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Watches the thread it is used on.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    start: Option<Account>,
    loop_delay: Histogram,
}

impl Watch {
    /// Watches until the end of `window`. Dropped before, what was seen so far remains.
    pub(crate) async fn over(&mut self, timer: &Timer, window: Range<Nanos>) {
        timer.until(window.start).await;
        self.start = Some(Account::now());
        let mut look = window.start + LOOK;
        // After a standstill the looks that it swallowed follow at once, each with its own delay.
        while look < window.end {
            timer.until(look).await;
            self.loop_delay.record(clock::now().since(look));
            look = look + LOOK;
        }
        timer.until(window.end).await;
    }

    /// What the window was like until now.
    pub(crate) fn load(self) -> ThreadLoad {
        let Some(start) = self.start else {
            return ThreadLoad::default();
        };
        let end = Account::now();
        let wall = end.at.since(start.at).max(1) as f64;
        ThreadLoad {
            busy: end.cpu_ns.saturating_sub(start.cpu_ns) as f64 / wall,
            waiting: end.waited_ns.saturating_sub(start.waited_ns) as f64 / wall,
            loop_delay: self.loop_delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(window: Duration, work: impl AsyncFn()) -> ThreadLoad {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let timer = Timer::start().unwrap();
            let mut watch = Watch::default();
            let start = clock::now();
            tokio::join!(watch.over(&timer, start..start + window), work());
            watch.load()
        })
    }

    fn spin(span: Duration) {
        let until = clock::now() + span;
        while clock::now() < until {}
    }

    #[test]
    fn a_thread_that_does_nothing_is_not_busy() {
        let load = watched(Duration::from_millis(200), async || ());
        assert!(load.busy < 0.5, "{load:?}");
        assert!(load.loop_delay.count() > 20, "{load:?}");
    }

    #[test]
    fn a_loop_that_is_held_up_is_late_by_as_much() {
        let load = watched(Duration::from_millis(200), async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            spin(Duration::from_millis(100));
        });
        let longest = load.loop_delay.max().unwrap();
        assert!(longest > 80_000_000, "{longest}");
        // The looks that were swallowed are there, with delays that fall from the longest.
        let late = load.loop_delay.count() - load.loop_delay.count_at_most(40_000_000);
        assert!((5..=40).contains(&late), "{late}");
        assert!(load.busy + load.waiting > 0.4, "{load:?}");
    }
}
