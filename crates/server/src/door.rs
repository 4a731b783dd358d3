//! The door: whether new connections are taken. Closed, nobody listens on the port, and the kernel refuses connects.

use std::time::Duration;

use tokio::sync::watch;

/// How long the threads get to do what was asked of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// One door for all threads, each of which has a listener behind it.
pub(crate) struct Door {
    open: watch::Sender<bool>,
    /// How many of the threads listen.
    listening: watch::Sender<usize>,
}

impl Door {
    /// An open door.
    pub(crate) fn new() -> Self {
        Self {
            open: watch::Sender::new(true),
            listening: watch::Sender::new(0),
        }
    }

    /// Whether the door shall be open, whenever that changes.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// One more thread listens.
    pub(crate) fn listens(&self) {
        self.listening.send_modify(|count| *count += 1);
    }

    /// One thread less does.
    pub(crate) fn listens_no_more(&self) {
        self.listening
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    /// Opens or closes the door; returns once all of the `threads` have done so. False when they have not in time: the port was
    /// taken by somebody else, or the door was moved again.
    pub(crate) async fn set(&self, open: bool, threads: usize) -> bool {
        self.open.send_replace(open);
        let wanted = if open { threads } else { 0 };
        let mut listening = self.listening.subscribe();
        let done = listening.wait_for(|count| *count == wanted);
        matches!(tokio::time::timeout(PATIENCE, done).await, Ok(Ok(_)))
    }
}
