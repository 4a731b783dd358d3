//! The peer of in-process sessions: a queue each, filled by echo or by a publication.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::message::Message;

/// Most messages that wait for one session; more are dropped and counted.
const CAPACITY: usize = 65_536;

#[derive(Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    waker: Option<Waker>,
    closed: bool,
}

#[derive(Default)]
struct Inner {
    sessions: RefCell<Vec<Rc<RefCell<Queue>>>>,
    dropped: Cell<u64>,
}

/// What in-process sessions of one thread talk to. Clones share it.
#[derive(Clone, Default)]
pub struct Peer(Rc<Inner>);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer {{ sessions: {} }}", self.0.sessions.borrow().len())
    }
}

impl Peer {
    /// Hands `message` to every open session; gives how many there were.
    pub fn publish(&self, message: &Message) -> usize {
        let sessions = self.0.sessions.borrow();
        sessions
            .iter()
            .filter(|queue| self.put(queue, message.clone()))
            .count()
    }

    /// Messages dropped because a session did not take them.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.get()
    }

    /// Closes every session from the peer's side.
    pub fn close_all(&self) {
        for queue in self.0.sessions.borrow().iter() {
            close(queue);
        }
    }

    pub(super) fn join(&self) -> Rc<RefCell<Queue>> {
        let queue = Rc::<RefCell<Queue>>::default();
        let mut sessions = self.0.sessions.borrow_mut();
        sessions.retain(|q| !q.borrow().closed);
        sessions.push(queue.clone());
        queue
    }

    pub(super) fn put(&self, queue: &Rc<RefCell<Queue>>, message: Message) -> bool {
        let mut q = queue.borrow_mut();
        if q.closed {
            return false;
        }
        if q.messages.len() >= CAPACITY {
            self.0.dropped.set(self.0.dropped.get() + 1);
        } else {
            q.messages.push_back(message);
        }
        let waker = q.waker.take();
        drop(q);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

pub(super) fn close(queue: &Rc<RefCell<Queue>>) {
    let waker = {
        let mut q = queue.borrow_mut();
        q.closed = true;
        q.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

pub(super) fn is_closed(queue: &Rc<RefCell<Queue>>) -> bool {
    queue.borrow().closed
}

/// The next message; `None` when the session is closed and nothing waits.
pub(super) fn poll_take(queue: &Rc<RefCell<Queue>>, cx: &Context<'_>) -> Poll<Option<Message>> {
    let mut q = queue.borrow_mut();
    match q.messages.pop_front() {
        Some(message) => Poll::Ready(Some(message)),
        None if q.closed => Poll::Ready(None),
        None => {
            q.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }
}
