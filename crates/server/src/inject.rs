//! Known faults in echo: what a dishonest server does to the messages that it sends back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pushmark_measure::clock;
use pushmark_transport::stamp::Found;
use pushmark_transport::timer::Timer;
use pushmark_transport::{Message, Session, SessionId, Stamp};

use crate::config::Injection;

thread_local! {
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
    /// Messages held back until their successor has passed.
    static HELD_BACK: RefCell<HashMap<SessionId, Message>> = RefCell::new(HashMap::new());
}

/// Gives the calling thread the timer that delays use.
pub(crate) fn use_timer(timer: Timer) {
    TIMER.set(Some(timer));
}

/// Sends `message` back to `session` as the injection has it, by `push`, now or after the delay.
pub(crate) fn echo(
    inject: &Injection,
    session: &Arc<Session>,
    message: Message,
    push: impl Fn(&Session, &Message) + 'static,
) {
    let sequence = match Stamp::find(&message.payload) {
        Found::Stamp(stamp) => stamp.sequence,
        Found::Damaged | Found::None => u64::MAX,
    };
    if inject.drop.contains(&sequence) {
        return;
    }
    if inject.swap.contains(&sequence) {
        HELD_BACK.with_borrow_mut(|held| held.insert(session.id, message));
        return;
    }
    let mut batch = vec![message.clone()];
    if inject.duplicate.contains(&sequence) {
        batch.push(message);
    }
    batch.extend(HELD_BACK.with_borrow_mut(|held| held.remove(&session.id)));
    let timer = TIMER.with_borrow(Clone::clone);
    match timer.filter(|_| !inject.delay.is_zero()) {
        None => batch.iter().for_each(|m| push(session, m)),
        Some(timer) => {
            let (session, until) = (session.clone(), clock::now() + inject.delay);
            tokio::task::spawn_local(async move {
                timer.until(until).await;
                for message in &batch {
                    push(&session, message);
                }
            });
        }
    }
}
