//! The header deadline: by when the headers of a connection's first request must be there.
//!
//! It runs from the first byte. A connection on which nothing is asked for, be it new or kept, is not slow: a load
//! generator opens its way up long before it sends, and asks for statistics at both ends of a long measured window. hyper
//! has but one deadline for slow headers and for a kept connection; so a client that has made one whole request holds its
//! connection for as long as it likes, which costs no more than an idle one.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// How much longer than the first request the later ones may take to come.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// One connection's timer, which hyper asks for a sleep whenever it begins to wait for a request.
#[derive(Default)]
pub(crate) struct HeaderTimer {
    timer: TokioTimer,
    first_has_come: AtomicBool,
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.timer.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let kept = self.first_has_come.swap(true, Relaxed);
        self.timer
            .sleep_until(if kept { deadline + KEPT } else { deadline })
    }

    fn now(&self) -> Instant {
        self.timer.now()
    }
}
