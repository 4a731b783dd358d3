//! Timer: wakes tasks of one thread at instants of the schedule, to tens of microseconds.
//!
//! The runtime's own timers tick in milliseconds and are late by about one; a schedule needs better. One timerfd and
//! one heap serve all tasks of a thread. Meant for schedules: an abandoned wait stays in the heap until its instant,
//! so deadlines that are usually cancelled belong to the runtime's timers.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pushmark_measure::{Nanos, clock};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

struct Waiting {
    at: Nanos,
    waker: Waker,
}

// Reversed, so that the heap's top is the earliest.
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Waiting {}

struct Inner {
    fd: AsyncFd<OwnedFd>,
    heap: RefCell<BinaryHeap<Waiting>>,
    armed: Cell<Nanos>,
}

/// A thread's timer. Clones share it.
#[derive(Clone)]
pub struct Timer(Rc<Inner>);

impl Timer {
    /// A timer on this thread's runtime; its driving task is spawned on the current local set.
    ///
    /// # Errors
    /// When no descriptor is left.
    #[allow(
        deprecated,
        reason = "the unsafe successor asks that the value keep owning one descriptor: OwnedFd does, and stays private"
    )]
    pub fn start() -> io::Result<Self> {
        let fd = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let inner = Inner {
            fd: AsyncFd::new(fd)?,
            heap: RefCell::new(BinaryHeap::new()),
            armed: Cell::new(Nanos::MAX),
        };
        let timer = Self(Rc::new(inner));
        let driven = Rc::downgrade(&timer.0);
        tokio::task::spawn_local(async move {
            // Holds the timer only while it waits for the descriptor, so that dropping the last clone of a timer whose
            // heap is empty ends the task at its next expiry or with the runtime.
            while let Some(inner) = driven.upgrade() {
                let Ok(mut ready) = inner.fd.readable().await else {
                    return;
                };
                let mut expirations = [0u8; 8];
                if rustix::io::read(inner.fd.get_ref(), &mut expirations).is_err() {
                    ready.clear_ready();
                    continue;
                }
                ready.clear_ready();
                drop(ready);
                inner.armed.set(Nanos::MAX);
                inner.wake_due();
                inner.rearm();
            }
        });
        Ok(timer)
    }

    /// Waits until `at`.
    pub fn until(&self, at: Nanos) -> Until {
        Until {
            timer: self.0.clone(),
            at,
            registered: None,
        }
    }
}

impl Inner {
    fn wake_due(&self) {
        let now = clock::now();
        loop {
            let due = {
                let mut heap = self.heap.borrow_mut();
                match heap.peek() {
                    Some(first) if first.at <= now => heap.pop(),
                    _ => None,
                }
            };
            match due {
                Some(waiting) => waiting.waker.wake(),
                None => return,
            }
        }
    }

    fn rearm(&self) {
        let Some(first) = self.heap.borrow().peek().map(|w| w.at) else {
            return;
        };
        if first >= self.armed.get() {
            return;
        }
        self.armed.set(first);
        // An all-zero value would disarm the timer.
        let at = first.0.max(1);
        let value = Timespec {
            tv_sec: (at / 1_000_000_000) as i64,
            tv_nsec: (at % 1_000_000_000) as i64,
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // Fails only for a descriptor that is no timer or a value out of range, neither of which can be here.
        let _ = rustix::time::timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &once);
    }
}

/// The future of [`Timer::until`].
pub struct Until {
    timer: Rc<Inner>,
    at: Nanos,
    registered: Option<Waker>,
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.at {
            return Poll::Ready(());
        }
        if !self.registered.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.registered = Some(cx.waker().clone());
            self.timer.heap.borrow_mut().push(Waiting {
                at: self.at,
                waker: cx.waker().clone(),
            });
            self.timer.rearm();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn on_local_runtime<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    #[test]
    fn wakes_in_order_and_never_early() {
        let order = on_local_runtime(async {
            let timer = Timer::start().unwrap();
            // Not yet: every wait is registered before the first is over.
            let start = clock::now() + Duration::from_millis(50);
            let order = Rc::new(RefCell::new(Vec::new()));
            let mut tasks = Vec::new();
            for delay_ms in [30u64, 10, 20, 0, 10] {
                let (timer, order) = (timer.clone(), order.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    let at = start + Duration::from_millis(delay_ms);
                    timer.until(at).await;
                    assert!(clock::now() >= at);
                    order.borrow_mut().push(delay_ms);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            order.take()
        });
        assert_eq!(order, [0, 10, 10, 20, 30]);
    }

    #[test]
    fn an_abandoned_wait_does_not_stop_the_others() {
        on_local_runtime(async {
            let timer = Timer::start().unwrap();
            let soon = clock::now() + Duration::from_millis(5);
            drop(timer.until(soon));
            tokio::select! {
                () = timer.until(soon + Duration::from_secs(3_600)) => unreachable!(),
                () = timer.until(soon) => (),
            }
            timer.until(soon + Duration::from_millis(5)).await;
        });
    }
}
