//! The disconnect log: when and why the server found that its clients were gone. Bounded; what is over is counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pushmark_measure::clock;
use pushmark_transport::control::Disconnect;
use pushmark_transport::{CloseReason, Session};

/// The log of one server.
pub(crate) struct Disconnects {
    most: usize,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    lines: Vec<Disconnect>,
    over: u64,
}

impl Disconnects {
    /// An empty log of at most so many lines.
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self {
            most,
            log: Mutex::default(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A panic while the lock is held leaves a list that is still a list.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of `session` is gone, the server finds now.
    pub(crate) fn note(&self, session: &Session, reason: CloseReason) {
        let line = Disconnect {
            peer: session.peer(),
            last_heard: session.last_heard(),
            at: clock::now(),
            reason,
        };
        let mut log = self.log();
        if log.lines.len() < self.most {
            log.lines.push(line);
        } else {
            log.over += 1;
        }
    }

    /// All lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<Disconnect> {
        self.log().lines.clone()
    }

    /// How many lines had no room.
    pub(crate) fn over(&self) -> u64 {
        self.log().over
    }
}
