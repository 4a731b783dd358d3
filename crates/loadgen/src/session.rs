//! One session, from its connect to its close, and what it has seen and sent.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use pushmark_measure::{Arrival, EventKind, Metric, Nanos, Sample, SequenceTracker, clock};
use pushmark_scenario::plan::{Messages, Workload};
use pushmark_transport::seam::{Connected, Connector, Inbox, Received, Rx, Tx};
use pushmark_transport::stamp::{Found, MAX_24_BIT, Template};
use pushmark_transport::{Kind, Message, Stamp, TransportError};

use crate::assignment::{kind, schedule};
use crate::worker::Context;

/// What is known of one session; outlives its task.
pub(crate) struct SessionState {
    pub(crate) index: u32,
    pub(crate) tracker: RefCell<SequenceTracker>,
    /// Messages of the measured window that were handed to the transport.
    pub(crate) sent_measured: Cell<u64>,
    /// Of those, handed over before the window ended.
    pub(crate) sent_in_window: Cell<u64>,
    /// The transport is taking a message right now.
    pub(crate) sending: Cell<bool>,
    pub(crate) established: Cell<bool>,
    pub(crate) usable_at: Cell<Nanos>,
    pub(crate) ended_at: Cell<Option<Nanos>>,
}

impl SessionState {
    pub(crate) fn new(index: u32) -> Self {
        Self {
            index,
            tracker: RefCell::default(),
            sent_measured: Cell::new(0),
            sent_in_window: Cell::new(0),
            sending: Cell::new(false),
            established: Cell::new(false),
            usable_at: Cell::new(Nanos::MAX),
            ended_at: Cell::new(None),
        }
    }
}

/// Takes deliveries of one session to the worker's recorder.
struct Recording {
    context: Rc<Context>,
    state: Rc<SessionState>,
    stream: u32,
    usable: Nanos,
    first_seen: bool,
}

impl Inbox for Recording {
    #[inline]
    fn deliver(&mut self, received: Received, _kind: Kind, payload: &[u8]) {
        let mut recorder = self.context.recorder.borrow_mut();
        let stamp = match Stamp::find(payload) {
            Found::Stamp(stamp) if stamp.run == self.context.run && stamp.stream == self.stream => stamp,
            Found::Damaged => {
                self.context.corrupt.set(self.context.corrupt.get() + 1);
                return;
            }
            Found::Stamp(_) | Found::None => {
                recorder.counters.foreign += 1;
                return;
            }
        };
        if !self.first_seen {
            self.first_seen = true;
            recorder.record_connect(Metric::FirstMessageTime, received.at.since(self.usable));
        }
        let measured = recorder.window().contains(&stamp.intended);
        match self.state.tracker.borrow_mut().arrive(stamp.sequence) {
            Arrival::InOrder => {}
            Arrival::Reordered => {
                recorder.counters.reordered += 1;
                self.context.count(measured, |c| c.reordered += 1);
            }
            Arrival::Duplicate => {
                recorder.counters.duplicated += 1;
                self.context.count(measured, |c| c.duplicated += 1);
                return;
            }
        }
        let sample = Sample {
            intended: stamp.intended,
            sent: stamp.sent,
            received: received.at,
            kernel: received.kernel,
            payload_bytes: payload.len(),
        };
        if recorder.record(&sample) {
            self.context.count(true, |c| {
                c.payload_bytes += payload.len() as u64;
                c.late += u64::from(received.at >= self.context.load_end.get());
            });
        }
    }
}

/// Opens session `state.index` at `open_at`, runs it to the worker's end, closes it.
pub(crate) async fn run<C: Connector>(
    context: Rc<Context>,
    state: Rc<SessionState>,
    connector: C,
    open_at: Nanos,
) {
    context.timer.until(open_at).await;
    // In a box of its own: connecting needs more room than the session that it leads to, and gives it back.
    let connected = Box::pin(context.connect(&connector, state.index, true)).await;
    let Some(Connected {
        mut tx,
        mut rx,
        times,
    }) = connected
    else {
        return;
    };
    state.established.set(true);
    state.usable_at.set(times.usable);
    let echo = match &context.assignment.workload {
        Workload::Echo(messages) => Some(messages.clone()),
        Workload::Push(_) | Workload::Connect { .. } => None,
    };
    // Echoed messages come back on the stream of their sender; a publication has one stream, number 0.
    let stream = if echo.is_some() {
        state.index & MAX_24_BIT
    } else {
        0
    };
    let mut inbox = Recording {
        context: context.clone(),
        state: state.clone(),
        stream,
        usable: times.usable,
        first_seen: false,
    };

    let ended = {
        let receiving = receive(&context, &mut rx, &mut inbox);
        let sending = async {
            match &echo {
                // Boxed: only those who send need the room.
                Some(messages) => Box::pin(send(&context, &state, &mut tx, messages)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = context.closing.cancelled() => None,
            ended = receiving => Some(ended),
            error = sending => Some(Err(error)),
        }
    };
    context.session_ended();
    match ended {
        None => {
            let deadline = context.assignment.deadlines.close;
            let close = Box::pin(async {
                if tx.close().await.is_ok() {
                    // The peer's answer ends the session; what still arrives was counted as lost already.
                    let mut ignored = Ignored;
                    while rx.recv(&mut ignored).await.is_ok_and(|n| n > 0) {}
                }
            });
            let _ = tokio::time::timeout(deadline, close).await;
            context.event(state.index, EventKind::ClosedByUs, String::new());
        }
        Some(Ok(())) => {
            state.ended_at.set(Some(clock::now()));
            context.event(state.index, EventKind::ClosedByPeer, String::new());
        }
        Some(Err(e)) => {
            state.ended_at.set(Some(clock::now()));
            context.event(state.index, EventKind::Dropped, e.to_string());
        }
    }
}

struct Ignored;

impl Inbox for Ignored {
    fn deliver(&mut self, _: Received, _: Kind, _: &[u8]) {}
}

async fn receive<R: Rx>(context: &Context, rx: &mut R, inbox: &mut Recording) -> Result<(), TransportError> {
    loop {
        if rx.recv(inbox).await? == 0 {
            return Ok(());
        }
        context.recorder.borrow_mut().counters.wakeups += 1;
    }
}

/// Sends on this session's own schedule, never waiting for a reply. Returns only when the session can send no more.
async fn send<T: Tx>(
    context: &Context,
    state: &SessionState,
    tx: &mut T,
    messages: &Messages,
) -> TransportError {
    let begin = context.begin().await;
    let kind = kind(messages.encoding);
    let template = Template::new(kind, messages.payload_bytes as usize);
    let span = begin.start..begin.measured.end;
    let stream = state.index & MAX_24_BIT;
    let plan = schedule(
        messages.rate,
        messages.pattern,
        span,
        context.assignment.seed,
        stream,
        true,
    );
    // Since when nothing but this generator keeps the next message from being sent.
    let mut free_since = begin.start;
    for (sequence, intended) in plan.cursor() {
        context.timer.until(intended).await;
        if intended >= context.load_end.get() {
            break;
        }
        let measured = begin.measured.contains(&intended);
        let sent = clock::now();
        let stamp = Stamp {
            run: context.run,
            stream,
            sequence,
            intended,
            sent,
        };
        context.recorder.borrow_mut().counters.sent += 1;
        if measured {
            state.sent_measured.set(state.sent_measured.get() + 1);
            let in_window = u64::from(sent < begin.measured.end);
            state.sent_in_window.set(state.sent_in_window.get() + in_window);
            let own_delay = sent.since(intended.max(free_since));
            context.own_send_delay.borrow_mut().record(own_delay);
        }
        state.sending.set(true);
        let mut waited = false;
        let taken = {
            let mut sending = pin!(tx.send(Message {
                kind,
                payload: template.stamped(&stamp),
            }));
            poll_fn(|cx| {
                let poll = sending.as_mut().poll(cx);
                waited |= poll.is_pending();
                poll
            })
            .await
        };
        state.sending.set(false);
        // A send that went through at once held nothing up: what is late after it is late by this generator's doing.
        if waited {
            free_since = clock::now();
        }
        if let Err(error) = taken {
            // Refused by the transport: not sent, unless it came back all the same.
            if measured && state.tracker.borrow().missing_in(sequence..sequence + 1) == 1 {
                state.sent_measured.set(state.sent_measured.get() - 1);
            }
            return error;
        }
    }
    pending().await
}
