//! Sending: a session's own messages on its own schedule (echo).

use std::future::{Future, pending, poll_fn};
use std::pin::pin;

use pushmark_measure::clock;
use pushmark_measure::schedule::mix;
use pushmark_scenario::plan::Messages;
use pushmark_transport::seam::Tx;
use pushmark_transport::stamp::MAX_24_BIT;
use pushmark_transport::{Message, Stamp, TransportError};

use super::SessionState;
use crate::assignment::{kind, schedule, template};
use crate::worker::Context;

/// Sends on this session's own schedule, never waiting for a reply. Returns only when the session can send no more.
pub(super) async fn send<T: Tx>(
    context: &Context,
    state: &SessionState,
    tx: &mut T,
    messages: &Messages,
) -> TransportError {
    let begin = context.begin().await;
    let kind = kind(messages.encoding);
    let span = begin.start..begin.measured.end;
    let stream = state.index & MAX_24_BIT;
    let template = template(messages, mix(context.assignment.seed, u64::from(stream)));
    let plan = schedule(
        messages.rate,
        messages.pattern,
        span,
        context.assignment.seed,
        stream,
        true,
    )
    .in_slots(begin.slots);
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
