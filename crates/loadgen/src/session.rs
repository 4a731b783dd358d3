//! One session, from its connect to its close, over every cut and every coming back.

mod sending;
mod state;

use std::future::pending;
use std::pin::pin;
use std::rc::Rc;

use pushmark_measure::{EventKind, Nanos, clock};
use pushmark_scenario::plan::{Heartbeat, ReconnectPolicy, SlowReaders, Workload, is_in_share};
use pushmark_transport::seam::{Connected, Connector, Inbox, Received, Rx, Tx};
use pushmark_transport::stamp::MAX_24_BIT;
use pushmark_transport::{ErrorClass, Kind, Step, TransportError};

use crate::recovery::{Cut, Waits, reason_of};
use crate::worker::Context;
use sending::send;
use state::Recording;
pub(crate) use state::SessionState;

/// Opens session `state.index` at `open_at`, runs it to the worker's end, closes it.
pub(crate) async fn run<C: Connector>(
    context: Rc<Context>,
    state: Rc<SessionState>,
    connector: C,
    open_at: Nanos,
) {
    context.timer.until(open_at).await;
    // In a box of its own: connecting needs more room than the session that it leads to, and gives it back.
    let Some(mut connected) = Box::pin(context.connect(&connector, state.index, true)).await else {
        return;
    };
    state.established.set(true);
    state.usable_at.set(connected.times.usable);
    loop {
        let Some((ended, token)) = serve(&context, &state, connected).await else {
            return;
        };
        // In a box of its own: few sessions ever need the room.
        match Box::pin(come_back(&context, &state, &connector, ended, token)).await {
            Some(again) => connected = again,
            None => return,
        }
    }
}

/// What a session that ended takes along: the token to go on with, and how long the server asked it to stay away.
struct Token {
    resume: Option<String>,
    retry: Option<std::time::Duration>,
}

/// Serves a session until it ends; `None` when the worker has closed it.
async fn serve<T: Tx, R: Rx>(
    context: &Rc<Context>,
    state: &Rc<SessionState>,
    connected: Connected<T, R>,
) -> Option<(Result<(), TransportError>, Token)> {
    let Connected {
        mut tx,
        mut rx,
        times,
        ..
    } = connected;
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
    let mut inbox = Recording::new(context.clone(), state.clone(), stream, times.usable);
    let ended = {
        let receiving = receive(context, state, &mut rx, &mut inbox, times.usable);
        let sending = async {
            match &echo {
                // Boxed: only those who send need the room.
                Some(messages) => Box::pin(send(context, state, &mut tx, messages)).await,
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
    let Some(ended) = ended else {
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
        return None;
    };
    let now = clock::now();
    // Each drop has three times: this one, the last good receive before it, and that of coming back.
    let heard = now
        .duration_since(rx.last_heard().max(times.usable))
        .as_secs_f64();
    let heard = format!("last heard {heard:.6} s before");
    match &ended {
        Ok(()) => context.event(state.index, EventKind::ClosedByPeer, heard),
        Err(e) => {
            context.note_dropped(state.index, e);
            context.event(state.index, EventKind::Dropped, format!("{e}; {heard}"));
        }
    }
    if context.trouble.is_some() {
        state.cut(Cut {
            session: state.index,
            last_heard: rx.last_heard().max(times.usable),
            at: now,
            reason: reason_of(&ended),
            ..Cut::default()
        });
    }
    let seen = state.tracker.borrow().next().checked_sub(1);
    let token = Token {
        resume: rx.resume_token(seen),
        retry: rx.retry(),
    };
    Some((ended, token))
}

/// Tries to come back, as the policy has it; `None` when the session has ended for good.
async fn come_back<C: Connector>(
    context: &Rc<Context>,
    state: &Rc<SessionState>,
    connector: &C,
    ended: Result<(), TransportError>,
    token: Token,
) -> Option<Connected<C::Tx, C::Rx>> {
    let reconnect = context.assignment.trouble.reconnect;
    if reconnect.policy == ReconnectPolicy::None {
        state.ended_at.set(Some(clock::now()));
        *state.ended_by.borrow_mut() = Some(reason_of(&ended).into());
        return None;
    }
    let cuts = state.cut_count();
    let mut waits = Waits::new(
        reconnect.policy,
        context.native,
        context.assignment.seed,
        state.index,
        cuts,
    );
    // The transport's own way to go on is part of its standard, or there is none.
    let resume = token.resume.filter(|_| reconnect.resume);
    let mut last = ended.err();
    let over = |why: String| {
        state.with_last_cut(|cut| cut.gave_up = true);
        context.event(state.index, EventKind::GaveUp, why);
    };
    loop {
        if let Some(error) = last.as_ref().filter(|error| waits.is_final(error)) {
            over(error.to_string());
            return None;
        }
        let Some(wait) = waits.next(token.retry) else {
            over("the transport has no reconnection of its own".to_owned());
            return None;
        };
        let attempt = async {
            context.timer.until(clock::now() + wait).await;
            state.with_last_cut(|cut| cut.attempts += 1);
            context.reconnect(connector, state.index, resume.clone()).await
        };
        let attempt = tokio::select! {
            biased;
            () = context.closing.cancelled() => return None,
            attempt = attempt => attempt,
        };
        match attempt {
            Ok(connected) => {
                let resumes = resume.is_some();
                state.came_back(
                    connected.times.usable,
                    resumes,
                    context.scheduled_before(connected.times.usable),
                );
                return Some(connected);
            }
            Err(error) => last = Some(error),
        }
    }
}

struct Ignored;

impl Inbox for Ignored {
    fn deliver(&mut self, _: Received, _: Kind, _: &[u8]) {}
}

/// Receives until the session ends, by itself or because nothing was heard for too long.
async fn receive<R: Rx>(
    context: &Context,
    state: &SessionState,
    rx: &mut R,
    inbox: &mut Recording,
    usable: Nanos,
) -> Result<(), TransportError> {
    let slow = context.assignment.trouble.slow_readers;
    if let Some(slow) = slow.filter(|slow| is_in_share(slow.share, state.index)) {
        return Box::pin(read_slowly(context, rx, inbox, slow)).await;
    }
    if let Some(heartbeat) = context.assignment.trouble.heartbeat {
        // Boxed, as above: who has no heartbeat needs no room for one.
        return Box::pin(receive_watched(context, rx, inbox, usable, heartbeat)).await;
    }
    loop {
        if rx.recv(inbox).await? == 0 {
            return Ok(());
        }
        context.recorder.borrow_mut().counters.wakeups += 1;
    }
}

/// Receives for as long as the peer gives a sign of life within the heartbeat's time.
async fn receive_watched<R: Rx>(
    context: &Context,
    rx: &mut R,
    inbox: &mut Recording,
    usable: Nanos,
    heartbeat: Heartbeat,
) -> Result<(), TransportError> {
    let whole = heartbeat.every + heartbeat.timeout;
    let mut asked = false;
    // One wait for many messages: it is looked at again only when it is over.
    let mut due = pin!(context.timer.until(usable + heartbeat.every));
    loop {
        tokio::select! {
            biased;
            received = rx.recv(inbox) => {
                if received? == 0 {
                    return Ok(());
                }
                context.recorder.borrow_mut().counters.wakeups += 1;
            }
            () = &mut due => {
                let (heard, now) = (rx.last_heard().max(usable), clock::now());
                let silent = now.duration_since(heard);
                if silent >= whole {
                    let words = format_args!("nothing was heard for {silent:.1?}");
                    return Err(TransportError::new(Step::Receive, ErrorClass::Heartbeat, words));
                }
                asked = if silent >= heartbeat.every {
                    if !asked {
                        rx.probe().await?;
                    }
                    true
                } else {
                    false
                };
                let next = if asked { whole } else { heartbeat.every };
                due.set(context.timer.until(heard + next));
            }
        }
    }
}

/// Reads as slowly as asked from the beginning of the load on; until then like everybody.
async fn read_slowly<R: Rx>(
    context: &Context,
    rx: &mut R,
    inbox: &mut Recording,
    slow: SlowReaders,
) -> Result<(), TransportError> {
    let begin = {
        let mut begin = pin!(context.begin());
        loop {
            tokio::select! {
                begin = &mut begin => break begin,
                received = rx.recv(inbox) => if received? == 0 { return Ok(()) },
            }
        }
    };
    context.timer.until(begin.measured.start).await;
    let Some(rate) = slow.rate else {
        return pending().await;
    };
    let each = rate.per.div_f64(rate.count.max(1) as f64);
    loop {
        let count = rx.recv(inbox).await?;
        if count == 0 {
            return Ok(());
        }
        let pause = each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        context.timer.until(clock::now() + pause).await;
    }
}
