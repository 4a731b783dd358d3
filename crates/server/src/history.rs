//! History: the last messages that one of the server's threads has published, for clients that come back.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::publisher::Published;

/// The last so many messages, shared with the other threads.
pub(crate) struct History {
    most: usize,
    /// The count that its numbers belong to.
    count: u64,
    kept: VecDeque<Arc<Published>>,
}

impl History {
    /// An empty history of at most so many messages.
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self {
            most,
            count: 0,
            kept: VecDeque::new(),
        }
    }

    /// A message was given to the sessions of this thread.
    pub(crate) fn keep(&mut self, published: &Arc<Published>) {
        // One that is given twice on purpose is still one message.
        let again = self.kept.back().is_some_and(|last| Arc::ptr_eq(last, published));
        // A thread may be at work on a message while the next publication begins.
        let stale = published.count != self.count;
        if self.most == 0 || again || stale {
            return;
        }
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(published.clone());
    }

    /// What is kept of the messages numbered `first` and above, in the order in which they were given.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = &Arc<Published>> {
        self.kept.iter().filter(move |p| p.sequence >= first)
    }

    /// Numbers begin anew, and this is their count.
    pub(crate) fn begin(&mut self, count: u64) {
        self.count = count;
        self.kept.clear();
    }
}
