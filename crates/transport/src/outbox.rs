//! The outbox: messages that wait for one session's connection, bounded, with a stated policy for when it is full.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use pushmark_measure::Nanos;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// A message, encoded for the session's transport, on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What the transport writes.
    pub encoded: Bytes,
    /// When the message was published or handed over.
    pub sent: Nanos,
    /// No message, but a frame of the transport's own, which is not counted.
    pub control: bool,
}

impl Outgoing {
    fn control(frame: &[u8]) -> Self {
        Self {
            encoded: Bytes::copy_from_slice(frame),
            sent: Nanos::default(),
            control: true,
        }
    }

    /// A message.
    pub fn message(encoded: Bytes, sent: Nanos) -> Self {
        Self {
            encoded,
            sent,
            control: false,
        }
    }
}

/// What happens to a message for a session whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest waiting message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The session is closed.
    Disconnect,
}

/// What became of a message that was put in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was handed to the socket there and then (see [`Outbox::write_to`]). The host counts it as written.
    Written,
    /// It waits for the connection.
    Queued,
    /// It waits; the oldest was dropped for it.
    DroppedOldest,
    /// It was dropped.
    DroppedNewest,
    /// The outbox was full and is now closed: the session shall end.
    Overflowed,
    /// The session had ended before.
    Closed,
}

struct State {
    queue: VecDeque<Outgoing>,
    /// The number of the message at the front of the queue. Numbers count from zero; a message dropped before it was
    /// given out leaves its number to the next.
    front: u64,
    /// The number of the first message that was not given out yet; those before it wait to be confirmed.
    given: u64,
    /// Who may read with [`Outbox::poll_peek`]: the last one that asked.
    reader: u64,
    waker: Option<Waker>,
    closed: bool,
    overflowed: bool,
    /// The socket that messages go to as they are, when the transport allows it.
    socket: Option<Arc<TcpStream>>,
    /// Bytes of the message at the front that the socket has taken already.
    partial: usize,
    /// Control frames in the queue.
    controls: usize,
}

/// Most control frames that wait for one session: a peer that asks for answers and reads none gets no more.
const MOST_CONTROLS: usize = 16;
/// Most messages that one system call writes.
const MOST_AT_ONCE: usize = 32;

impl State {
    /// How many messages at the front were given out and wait to be confirmed.
    fn unconfirmed(&self) -> usize {
        (self.given - self.front) as usize
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.unconfirmed() - self.controls
    }

    /// Writes `bytes` to the socket if there is one and nothing waits before them. True when it took them all; when it
    /// took some, the rest must go to the front of the queue, which `partial` says.
    fn write_now(&mut self, bytes: &[u8]) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| self.queue.is_empty()) else {
            return false;
        };
        // An error is seen again by whoever waits for the socket.
        let taken = socket.try_write(bytes).unwrap_or(0);
        if taken == bytes.len() {
            return true;
        }
        self.partial = taken;
        false
    }

    /// Accounts for `taken` bytes that the socket took from the front of the queue.
    fn took(&mut self, mut taken: usize, written: &mut impl FnMut(Nanos)) {
        while taken > 0 {
            let Some(first) = self.queue.front() else { return };
            let left = first.encoded.len() - self.partial;
            if taken < left {
                self.partial += taken;
                return;
            }
            taken -= left;
            self.partial = 0;
            if first.control {
                self.controls -= 1;
            } else {
                written(first.sent);
                self.front += 1;
                self.given = self.front;
            }
            self.queue.pop_front();
        }
    }
}

/// Messages given to a reader that will confirm them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In order; at least one.
    pub messages: Vec<Outgoing>,
    /// The cursor that confirms them all.
    pub next: u64,
    /// How many of them, at the end, were given out for the first time.
    pub fresh: usize,
}

/// What [`Outbox::poll_peek`] found.
#[derive(Clone, Debug)]
pub enum Peeked {
    /// Messages.
    Batch(Batch),
    /// The outbox is closed and everything in it was confirmed.
    Ended,
    /// A newer reader has taken over.
    Superseded,
}

/// Messages waiting for one session.
pub struct Outbox {
    state: Mutex<State>,
    capacity: usize,
    when_full: WhenFull,
}

impl Outbox {
    /// An empty outbox for at most `capacity` messages (at least one).
    pub fn new(capacity: usize, when_full: WhenFull) -> Self {
        let state = State {
            queue: VecDeque::new(),
            front: 0,
            given: 0,
            reader: 0,
            waker: None,
            closed: false,
            overflowed: false,
            socket: None,
            partial: 0,
            controls: 0,
        };
        Self {
            state: Mutex::new(state),
            capacity: capacity.max(1),
            when_full,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves a queue that is still a queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a message that finds nobody before it is written to `socket` by whoever pushes it, with no task
    /// between; what the socket does not take at once waits here for [`Outbox::poll_write_out`]. `head` goes before
    /// everything, also before messages that wait already.
    pub fn write_to(&self, socket: Arc<TcpStream>, head: &[u8]) {
        let mut state = self.state();
        // An error is seen again by whoever waits for the socket.
        let taken = socket.try_write(head).unwrap_or(0);
        state.socket = Some(socket);
        if taken < head.len() {
            state.partial = taken;
            state.controls += 1;
            state.queue.push_front(Outgoing::control(head));
        }
    }

    /// Adds a message and wakes the connection.
    pub fn push(&self, message: Outgoing) -> Pushed {
        let mut state = self.state();
        if state.closed {
            return Pushed::Closed;
        }
        if state.write_now(&message.encoded) {
            state.front += 1;
            state.given = state.front;
            return Pushed::Written;
        }
        let outcome = if state.waiting() < self.capacity {
            Pushed::Queued
        } else {
            match self.when_full {
                WhenFull::DropOldest => {
                    // What was given out may have been received: it is not dropped, and does not count as waiting.
                    // Nor is one that the socket has taken a part of.
                    let skip = state.unconfirmed() + usize::from(state.partial > 0);
                    let oldest = state.queue.iter().skip(skip).position(|m| !m.control);
                    match oldest {
                        Some(oldest) => drop(state.queue.remove(skip + oldest)),
                        // All that waits is on its way already.
                        None => return Pushed::DroppedNewest,
                    }
                    Pushed::DroppedOldest
                }
                WhenFull::DropNewest => return Pushed::DroppedNewest,
                WhenFull::Disconnect => {
                    state.closed = true;
                    state.overflowed = true;
                    Pushed::Overflowed
                }
            }
        };
        if outcome != Pushed::Overflowed {
            state.queue.push_back(message);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        outcome
    }

    /// Adds a control frame, which counts as no message. Dropped when too many wait.
    pub fn push_control(&self, frame: &[u8]) {
        let mut state = self.state();
        if state.overflowed || state.controls >= MOST_CONTROLS || state.write_now(frame) {
            return;
        }
        state.controls += 1;
        state.queue.push_back(Outgoing::control(frame));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Writes to the socket what waits for it, as many messages in one system call as there are; tells `written` when each of them
    /// had been handed over. Ready when the outbox is closed and empty, or the socket failed.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_write_out(
        &self,
        cx: &mut Context<'_>,
        mut written: impl FnMut(Nanos),
    ) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.state();
            let Some(socket) = state.socket.clone() else {
                return Poll::Ready(Err(io::Error::other("no socket to write to")));
            };
            if state.queue.is_empty() {
                if state.closed {
                    return Poll::Ready(Ok(()));
                }
                Self::register(&mut state, cx);
                return Poll::Pending;
            }
            // A message pushed while the socket is full wakes nobody: the socket will.
            ready!(socket.poll_write_ready(cx))?;
            let mut slices = [IoSlice::new(&[]); MOST_AT_ONCE];
            let mut count = 0;
            for (slice, message) in slices.iter_mut().zip(&state.queue) {
                let skip = if count == 0 { state.partial } else { 0 };
                *slice = IoSlice::new(&message.encoded[skip..]);
                count += 1;
            }
            match socket.try_write_vectored(&slices[..count]) {
                Ok(taken) => state.took(taken, &mut written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Takes the oldest message; `None` when the outbox is closed and empty.
    pub fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        let mut state = self.state();
        if let Some(message) = state.queue.pop_front() {
            state.front += 1;
            state.given = state.given.max(state.front);
            return Poll::Ready(Some(message));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        Self::register(&mut state, cx);
        Poll::Pending
    }

    /// A new reader for [`Outbox::poll_peek`]; the one before it is told that it was superseded.
    pub fn begin_reading(&self) -> u64 {
        let mut state = self.state();
        state.reader += 1;
        let reader = state.reader;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        reader
    }

    /// Forgets all messages numbered below `cursor` (the peer has them), then waits until there is one at or after it
    /// and gives up to `max_bytes` of them: at least one message, and no more than the outbox's capacity. They stay in
    /// the outbox until a later cursor confirms them.
    ///
    /// A cursor beyond what was given out confirms what was given out: nothing is lost to a wrong one.
    pub fn poll_peek(
        &self,
        reader: u64,
        cursor: u64,
        max_bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Peeked> {
        let mut state = self.state();
        if state.reader != reader {
            return Poll::Ready(Peeked::Superseded);
        }
        while state.front < cursor.min(state.given) && state.queue.pop_front().is_some() {
            state.front += 1;
        }
        if state.queue.is_empty() {
            if state.closed {
                return Poll::Ready(Peeked::Ended);
            }
            Self::register(&mut state, cx);
            return Poll::Pending;
        }
        let mut taken = 0;
        let batch = state.queue.iter().take(self.capacity).take_while(|m| {
            let first = taken == 0;
            taken += m.encoded.len();
            first || taken <= max_bytes
        });
        let messages: Vec<Outgoing> = batch.cloned().collect();
        let next = state.front + messages.len() as u64;
        let fresh = next.saturating_sub(state.given) as usize;
        state.given = state.given.max(next);
        Poll::Ready(Peeked::Batch(Batch {
            messages,
            next,
            fresh,
        }))
    }

    /// How many messages wait to be given out.
    pub fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// No message is taken any more; those that wait are still given out.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Closes and empties the outbox; gives how many messages were still waiting to be given out.
    pub fn discard(&self) -> usize {
        let mut state = self.state();
        let waiting = state.waiting();
        state.queue = VecDeque::new();
        state.front = state.given;
        (state.controls, state.partial) = (0, 0);
        state.socket = None;
        drop(state);
        self.close();
        waiting
    }

    /// True once closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// True once a message found the outbox full under the policy to disconnect.
    pub fn has_overflowed(&self) -> bool {
        self.state().overflowed
    }

    fn register(state: &mut State, cx: &Context<'_>) {
        if !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u64) -> Outgoing {
        Outgoing::message(Bytes::from(n.to_string()), Nanos(n))
    }

    fn numbers(batch: &[Outgoing]) -> Vec<u64> {
        batch.iter().map(|m| m.sent.0).collect()
    }

    fn drain(outbox: &Outbox) -> Vec<u64> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(m)) = outbox.poll_pop(&mut cx) {
            all.push(m.sent.0);
        }
        all
    }

    #[test]
    fn each_policy_drops_what_it_says() {
        for (policy, outcome, left) in [
            (WhenFull::DropOldest, Pushed::DroppedOldest, vec![2, 3]),
            (WhenFull::DropNewest, Pushed::DroppedNewest, vec![1, 2]),
            (WhenFull::Disconnect, Pushed::Overflowed, vec![1, 2]),
        ] {
            let outbox = Outbox::new(2, policy);
            assert_eq!(
                (outbox.push(message(1)), outbox.push(message(2))),
                (Pushed::Queued, Pushed::Queued)
            );
            assert_eq!(outbox.push(message(3)), outcome);
            assert_eq!(outbox.is_closed(), policy == WhenFull::Disconnect);
            assert_eq!(drain(&outbox), left, "{policy:?}");
        }
    }

    fn peek(outbox: &Outbox, cursor: u64, max_bytes: usize) -> Option<(Vec<u64>, u64, usize)> {
        let reader = outbox.begin_reading();
        match outbox.poll_peek(reader, cursor, max_bytes, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Peeked::Batch(b)) => Some((numbers(&b.messages), b.next, b.fresh)),
            Poll::Ready(Peeked::Ended) => Some((Vec::new(), cursor, 0)),
            Poll::Ready(Peeked::Superseded) => panic!("a new reader cannot be superseded"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_cursor_keeps_what_is_not_confirmed() {
        let outbox = Outbox::new(10, WhenFull::DropOldest);
        for n in 0..5 {
            outbox.push(message(n));
        }
        assert_eq!(peek(&outbox, 0, 3), Some((vec![0, 1, 2], 3, 3)));
        let again = peek(&outbox, 0, 100);
        assert_eq!(again, Some((vec![0, 1, 2, 3, 4], 5, 2)), "only two are fresh");
        assert_eq!(peek(&outbox, 4, 0), Some((vec![4], 5, 0)), "always at least one");
        assert_eq!(peek(&outbox, 5, 9), None);
        outbox.push(message(5));
        assert_eq!(peek(&outbox, 0, 9), Some((vec![5], 6, 1)), "an old cursor");
        outbox.close();
        assert_eq!(peek(&outbox, 6, 9), Some((vec![], 6, 0)));
        assert_eq!(outbox.push(message(6)), Pushed::Closed);
    }

    #[test]
    fn a_cursor_from_the_future_loses_nothing() {
        let outbox = Outbox::new(10, WhenFull::DropOldest);
        outbox.push(message(0));
        outbox.push(message(1));
        assert_eq!(peek(&outbox, u64::MAX, 1), Some((vec![0], 1, 1)));
        assert_eq!(peek(&outbox, u64::MAX, 1), Some((vec![1], 2, 1)));
        assert_eq!(peek(&outbox, u64::MAX, 1), None);
    }

    #[test]
    fn what_was_given_out_is_neither_dropped_nor_counted_as_waiting() {
        for policy in [WhenFull::DropOldest, WhenFull::DropNewest] {
            let outbox = Outbox::new(2, policy);
            outbox.push(message(0));
            outbox.push(message(1));
            assert_eq!(peek(&outbox, 0, 1), Some((vec![0], 1, 1)));
            assert_eq!(outbox.waiting(), 1);
            assert_eq!(outbox.push(message(2)), Pushed::Queued);
            let (outcome, left) = match policy {
                WhenFull::DropOldest => (Pushed::DroppedOldest, vec![2, 3]),
                _ => (Pushed::DroppedNewest, vec![1, 2]),
            };
            assert_eq!(outbox.push(message(3)), outcome);
            assert_eq!(peek(&outbox, 0, 1), Some((vec![0], 1, 0)), "fetched again");
            assert_eq!(peek(&outbox, 1, 99), Some((left, 3, 2)));
            assert_eq!(outbox.discard(), 0);
        }
    }

    #[test]
    fn a_reader_that_never_confirms_holds_a_bounded_number() {
        let outbox = Outbox::new(3, WhenFull::DropOldest);
        for n in 0..100 {
            outbox.push(message(n));
            peek(&outbox, 0, usize::MAX);
        }
        assert_eq!(peek(&outbox, 0, usize::MAX), Some((vec![0, 1, 2], 3, 0)));
        assert_eq!(outbox.discard(), 3);
    }

    #[test]
    fn the_newer_reader_wins() {
        let mut cx = Context::from_waker(Waker::noop());
        let outbox = Outbox::new(3, WhenFull::DropOldest);
        let older = outbox.begin_reading();
        assert!(outbox.poll_peek(older, 0, 9, &mut cx).is_pending());
        let newer = outbox.begin_reading();
        outbox.push(message(0));
        assert!(matches!(
            outbox.poll_peek(older, 0, 9, &mut cx),
            Poll::Ready(Peeked::Superseded)
        ));
        assert!(matches!(
            outbox.poll_peek(newer, 0, 9, &mut cx),
            Poll::Ready(Peeked::Batch(_))
        ));
    }
}
