//! The outbox: messages that wait for one session's connection, bounded, with a stated policy for when it is full.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use pushmark_measure::Nanos;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::host::CloseReason;
use crate::outgoing::code;
pub use crate::outgoing::{Coder, CodingFailed, Outgoing, Pushed, WhenFull};

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
    /// Messages at the front of the queue that were published before the session was opened; they count as waiting, but
    /// not against the capacity.
    replayed: usize,
    /// What the socket said when a message was to be written to it, which it says once, or that a coder failed.
    failure: Option<CloseReason>,
    /// Where one connection's bytes are not another's.
    coder: Option<Box<dyn Coder>>,
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

    /// Writes `message` to the socket if there is one and nothing waits before it. `None` when it took all of it; when it
    /// took some, the rest must go to the front of the queue, which `partial` says.
    fn write_now(&mut self, mut message: Outgoing) -> Option<Outgoing> {
        if self.socket.is_none() || !self.queue.is_empty() {
            return Some(message);
        }
        if let Some(coder) = &mut self.coder {
            let coded = code(coder, &mut message);
            if self.coded(coded).is_err() {
                return Some(message);
            }
        }
        let all = self.write_bytes(&message.encoded);
        (!all).then_some(message)
    }

    /// Writes `bytes` to the socket if there is one and nothing waits before them; true when it took all of them, and else
    /// `partial` says how many.
    fn write_bytes(&mut self, bytes: &[u8]) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| self.queue.is_empty()) else {
            return false;
        };
        let tried = socket.try_write(bytes);
        let taken = self.taken(tried);
        let all = taken == bytes.len();
        if !all {
            self.partial = taken;
        }
        all
    }

    /// What is at the front goes out as it is from now on.
    fn code_front(&mut self) -> Result<(), CloseReason> {
        if let (Some(coder), Some(front)) = (&mut self.coder, self.queue.front_mut()) {
            let coded = code(coder, front);
            return self.coded(coded);
        }
        Ok(())
    }

    /// Nothing can go out after what a coder failed to make: the session is to end, and not as if it had come to its end.
    fn coded<T>(&mut self, coded: Result<T, CodingFailed>) -> Result<T, CloseReason> {
        coded.map_err(|CodingFailed| *self.failure.get_or_insert(CloseReason::Reset))
    }

    /// How many bytes a write took. A socket tells its error to the first who asks, and is at its end for all others: the
    /// error is kept for whoever waits for the socket.
    fn taken(&mut self, tried: io::Result<usize>) -> usize {
        match tried {
            Ok(taken) => taken,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => {
                self.failure.get_or_insert(CloseReason::of_io(&e));
                0
            }
        }
    }

    /// A message has left the front of the queue.
    fn left(&mut self) {
        self.front += 1;
        self.replayed = self.replayed.saturating_sub(1);
    }

    /// How many messages wait that count against the capacity.
    fn waiting_against_capacity(&self) -> usize {
        self.waiting()
            .saturating_sub(self.replayed.saturating_sub(self.unconfirmed()))
    }

    /// Drops the oldest message that may be dropped; false when there is none.
    fn drop_oldest(&mut self) -> bool {
        // What was given out may have been received: it is not dropped, and does not count as waiting. Nor is one that the
        // socket has taken a part of or that later ones refer back to, nor what the client has asked for.
        let begun = self
            .queue
            .front()
            .is_some_and(|m| !m.control && (self.partial > 0 || m.coded));
        let keep = self.unconfirmed().max(self.replayed).max(usize::from(begun));
        let mut messages = self.queue.iter().enumerate().filter(|(_, m)| !m.control);
        let oldest = messages.nth(keep).map(|(at, _)| at);
        oldest.and_then(|at| self.queue.remove(at)).is_some()
    }

    /// Fills `slices` with what waits; gives how many it filled.
    fn waiting_bytes<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        // Behind the first, what a coder makes of them is not said yet.
        let most = if self.coder.is_some() { 1 } else { slices.len() };
        for (slice, message) in slices.iter_mut().take(most).zip(&self.queue) {
            let skip = if count == 0 { self.partial } else { 0 };
            *slice = IoSlice::new(&message.encoded[skip..]);
            count += 1;
        }
        count
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
                self.left();
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
            replayed: 0,
            failure: None,
            coder: None,
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

    /// From now on everything goes through `coder`. To be called while the session is being opened, before anything has gone out.
    pub fn code_with(&self, coder: Box<dyn Coder>) {
        self.state().coder = Some(coder);
    }

    /// What the coder has to say after everything else. Nothing goes out after that.
    ///
    /// # Errors
    /// The coder failed: the session has no orderly end.
    pub fn finish(&self) -> Result<Option<Bytes>, CloseReason> {
        let mut state = self.state();
        match state.coder.take() {
            Some(mut coder) => state.coded(coder.finish()),
            None => Ok(None),
        }
    }

    /// From now on a message that finds nobody before it is written to `socket` by whoever pushes it, with no task
    /// between; what the socket does not take at once waits here for [`Outbox::poll_write_out`]. `head` goes before
    /// everything, also before messages that wait already.
    pub fn write_to(&self, socket: Arc<TcpStream>, head: &[u8]) {
        let mut state = self.state();
        let taken = state.taken(socket.try_write(head));
        state.socket = Some(socket);
        if taken < head.len() {
            state.partial = taken;
            state.controls += 1;
            state.queue.push_front(Outgoing::plain(head));
        }
    }

    /// Adds a message and wakes the connection.
    pub fn push(&self, message: Outgoing) -> Pushed {
        let mut state = self.state();
        if state.closed {
            return Pushed::Closed;
        }
        let Some(message) = state.write_now(message) else {
            state.front += 1;
            state.given = state.front;
            return Pushed::Written;
        };
        let outcome = if state.waiting_against_capacity() < self.capacity {
            Pushed::Queued
        } else {
            match self.when_full {
                // All that waits may be on its way already.
                WhenFull::DropOldest if !state.drop_oldest() => return Pushed::DroppedNewest,
                WhenFull::DropOldest => Pushed::DroppedOldest,
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

    /// Adds messages that were published before the session was opened, which its client has asked for. To be called while
    /// the session is being opened, before any other message is pushed. The capacity is no bound for them; whoever keeps such
    /// messages bounds how many there are.
    pub fn replay(&self, messages: impl Iterator<Item = Outgoing>) -> usize {
        let mut state = self.state();
        let before = state.queue.len();
        state.queue.extend(messages);
        let count = state.queue.len() - before;
        state.replayed += count;
        count
    }

    /// Adds a control frame before all that waits. To be called while the session is being opened, before it has a socket.
    pub fn push_first(&self, frame: &[u8]) {
        self.push_front(Outgoing::control(frame));
    }

    /// The same for what no coder is to have.
    pub fn push_head(&self, head: &[u8]) {
        self.push_front(Outgoing::plain(head));
    }

    fn push_front(&self, control: Outgoing) {
        let mut state = self.state();
        state.controls += 1;
        state.queue.push_front(control);
    }

    /// Adds a control frame, which counts as no message. Dropped when too many wait.
    pub fn push_control(&self, frame: &[u8]) {
        let mut state = self.state();
        if state.overflowed || state.controls >= MOST_CONTROLS {
            return;
        }
        // Copied only where it has to wait, or a coder to have it.
        let waits = if state.coder.is_some() {
            state.write_now(Outgoing::control(frame))
        } else {
            (!state.write_bytes(frame)).then(|| Outgoing::control(frame))
        };
        let Some(frame) = waits else { return };
        state.controls += 1;
        state.queue.push_back(frame);
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
    /// What the socket's error says about the session's end.
    pub fn poll_write_out(
        &self,
        cx: &mut Context<'_>,
        mut written: impl FnMut(Nanos),
    ) -> Poll<Result<(), CloseReason>> {
        loop {
            let mut state = self.state();
            let Some(socket) = state.socket.clone() else {
                return Poll::Ready(Err(CloseReason::Reset));
            };
            if let Some(failure) = state.failure {
                return Poll::Ready(Err(failure));
            }
            if state.queue.is_empty() {
                if state.closed {
                    return Poll::Ready(Ok(()));
                }
                Self::register(&mut state, cx);
                return Poll::Pending;
            }
            // A message pushed while the socket is full wakes nobody: the socket will.
            ready!(socket.poll_write_ready(cx)).map_err(|e| CloseReason::of_io(&e))?;
            state.code_front()?;
            let mut slices = [IoSlice::new(&[]); MOST_AT_ONCE];
            let count = state.waiting_bytes(&mut slices);
            let tried = socket.try_write_vectored(&slices[..count]);
            let taken = state.taken(tried);
            let mut gone = [Nanos::default(); MOST_AT_ONCE];
            let mut messages = 0;
            state.took(taken, &mut |sent| {
                gone[messages] = sent;
                messages += 1;
            });
            // Whoever is told may hold a lock of its own while it pushes.
            drop(state);
            gone[..messages].iter().for_each(|sent| written(*sent));
        }
    }

    /// The same to a stream that lies over something else, which this outbox has no socket of. What the stream has taken counts
    /// as handed over; it is flushed before this waits.
    ///
    /// # Errors
    /// What the stream's error says about the session's end.
    pub fn poll_write_through(
        &self,
        mut stream: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
        mut written: impl FnMut(Nanos),
    ) -> Poll<Result<(), CloseReason>> {
        loop {
            let mut state = self.state();
            if state.queue.is_empty() {
                let closed = state.closed;
                if !closed {
                    Self::register(&mut state, cx);
                }
                drop(state);
                let flushed = stream.as_mut().poll_flush(cx);
                ready!(flushed).map_err(|e| CloseReason::of_io(&e))?;
                return if closed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            state.code_front()?;
            let mut slices = [IoSlice::new(&[]); MOST_AT_ONCE];
            let count = state.waiting_bytes(&mut slices);
            let tried = match stream.as_mut().poll_write_vectored(cx, &slices[..count]) {
                // Flushing is what makes room, where the layer does not see to it itself.
                Poll::Pending => {
                    drop(state);
                    let flushed = stream.as_mut().poll_flush(cx);
                    ready!(flushed).map_err(|e| CloseReason::of_io(&e))?;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(CloseReason::Reset)),
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(CloseReason::of_io(&e))),
            };
            let mut gone = [Nanos::default(); MOST_AT_ONCE];
            let mut messages = 0;
            state.took(tried, &mut |sent| {
                gone[messages] = sent;
                messages += 1;
            });
            // Whoever is told may hold a lock of its own while it pushes.
            drop(state);
            gone[..messages].iter().for_each(|sent| written(*sent));
        }
    }

    /// Takes the oldest message; `None` when the outbox is closed and empty.
    ///
    /// # Errors
    /// The coder failed: the session has no orderly end.
    pub fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Outgoing>, CloseReason>> {
        let mut state = self.state();
        state.code_front()?;
        if let Some(message) = state.queue.pop_front() {
            if message.control {
                state.controls -= 1;
            } else {
                state.left();
                state.given = state.given.max(state.front);
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if state.closed {
            return Poll::Ready(Ok(None));
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
            state.left();
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
        (state.controls, state.partial, state.replayed) = (0, 0, 0);
        (state.socket, state.coder) = (None, None);
        drop(state);
        self.close();
        waiting
    }

    /// True once closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// What the socket said when a message was to be written to it, if it has failed, or a coder has. Whoever reads from it may find no more
    /// than its end after that.
    pub fn failure(&self) -> Option<CloseReason> {
        self.state().failure
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
#[path = "outbox_tests.rs"]
mod tests;
