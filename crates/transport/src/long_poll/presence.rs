//! Presence: whether a polling client is there, and the one end of its session.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::host::{CloseReason, Host, Session};

/// What a session of polls knows of its client; unused by other transports.
#[derive(Default)]
pub(crate) struct Presence {
    polls: AtomicU32,
    /// When the last poll ended, or the session was opened.
    left_at: AtomicU64,
    /// Why the connection of the last poll was gone before its answer, when it was.
    cut: Mutex<Option<CloseReason>>,
    over: AtomicBool,
    nudge: Notify,
}

impl Presence {
    pub(super) fn leave(&self) {
        self.left_at.store(clock::now().0, SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// The last poll ended without an answer, for that reason.
    pub(crate) fn cut_off(&self) -> Option<CloseReason> {
        // A panic while the lock is held leaves a reason that is still one.
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_cut_off(&self, reason: Option<CloseReason>) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Has the watchdog look at the session now.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// How long until the client has been away too long; the full span while it is there.
    fn left_to_wait(&self, absence_deadline: Duration) -> Duration {
        if self.polls.load(SeqCst) > 0 {
            return absence_deadline;
        }
        let away = clock::now().duration_since(Nanos(self.left_at.load(SeqCst)));
        absence_deadline.saturating_sub(away)
    }
}

/// A poll that is being answered.
pub(super) struct Present<'a, H: Host> {
    session: &'a Session,
    connection: &'a Connection,
    host: &'a H,
    answered: bool,
}

/// A poll of `session` is there, on `connection`, for as long as the returned value lives.
pub(super) fn arrive<'a, H: Host>(
    session: &'a Session,
    connection: &'a Connection,
    host: &'a H,
) -> Present<'a, H> {
    session.presence.polls.fetch_add(1, SeqCst);
    session.presence.set_cut_off(None);
    Present {
        session,
        connection,
        host,
        answered: false,
    }
}

impl<H: Host> Present<'_, H> {
    /// The poll has its answer. One that is dropped without had its connection go away.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl<H: Host> Drop for Present<'_, H> {
    fn drop(&mut self) {
        let presence = &self.session.presence;
        presence.leave();
        // The last of several polls counts: the others were superseded, and the client is there.
        let last = presence.polls.fetch_sub(1, SeqCst) == 1;
        if !self.answered && last && !presence.is_over() {
            let reason = self.connection.reason().unwrap_or(CloseReason::EndedEarly);
            presence.set_cut_off(Some(reason));
            self.host.cut(self.session, reason);
        }
    }
}

/// Ends `session` unless it has ended: the host hears of it once, and a poll that waits is woken.
pub(super) fn end<H: Host>(session: &Arc<Session>, host: &H, reason: CloseReason) {
    if session.presence.over.swap(true, SeqCst) {
        return;
    }
    host.closed(session, reason);
    // Also wakes a poll that waits, whether or not the host has emptied the outbox.
    session.outbox.close();
    session.presence.nudge();
}

/// Watches over `session` until it ends. One timer, set again only when it fires: a poll costs it nothing.
pub(super) async fn watch<H: Host>(session: Arc<Session>, host: Arc<H>) {
    let presence = &session.presence;
    while !presence.is_over() {
        if session.outbox.has_overflowed() {
            return end(&session, &*host, CloseReason::SlowReader);
        }
        let wait = presence.left_to_wait(host.absence_deadline());
        if wait.is_zero() {
            let reason = if session.outbox.is_closed() {
                CloseReason::Server
            } else if let Some(reason) = presence.cut_off() {
                reason
            } else if host.heartbeat().is_some() {
                CloseReason::Heartbeat
            } else {
                CloseReason::Idle
            };
            return end(&session, &*host, reason);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = presence.nudge.notified() => {}
        }
    }
}
