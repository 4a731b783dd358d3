//! The hub: sessions, what is published to them, and the server's own counts.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use pushmark_measure::{Histogram, Nanos, clock};
use pushmark_transport::compression::Compression;
use pushmark_transport::control::{Disconnect, ServerStats};
use pushmark_transport::outbox::Pushed;
use pushmark_transport::{
    CloseReason, Connection, Heartbeat, Host, Message, Outbox, Outgoing, ServerHalf, Session, SessionId,
    process,
};
use tokio::sync::watch;

use crate::config::Config;
use crate::disconnects::Disconnects;
use crate::door::Door;
use crate::history::History;
use crate::inject;
use crate::publisher::{Publication, Published};

/// How long a client that fetches its messages may wait for one, unless heartbeats say otherwise.
const POLL_DEADLINE: Duration = Duration::from_secs(25);
/// How long such a client may stay away.
const ABSENCE_DEADLINE: Duration = Duration::from_secs(15);

thread_local! {
    /// Which of the server's threads this is.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Tells the hub that the calling thread is thread number `shard` of the server.
pub(crate) fn enter_shard(shard: usize) {
    SHARD.set(shard);
}

/// What belongs to one thread: the sessions opened on it, and what was written for them.
struct Shard {
    sessions: Mutex<Sessions>,
    written: Mutex<Written>,
}

struct Sessions {
    open: Vec<Open>,
    /// What was given to them.
    history: History,
    /// Sessions in `open` that have ended; removed when they are many, or at the next publication.
    ended: usize,
}

/// An open session.
struct Open {
    session: Arc<Session>,
    /// The first message that its client wants: it has had those before it, maybe from a thread that was further on.
    first: u64,
}

impl Open {
    fn wants(&self, published: &Published) -> bool {
        published.sequence >= self.first
    }
}

#[derive(Default)]
struct Written {
    count: u64,
    fanout_delay: Histogram,
}

impl Written {
    /// One message written whose turn came at `turn`.
    fn record(&mut self, sent: Nanos, turn: Nanos, measured: bool) {
        self.count += 1;
        if measured {
            self.fanout_delay.record(turn.since(sent));
        }
    }
}

/// When the first and the last message of the measured window were published so far. Whoever writes a message later knows
/// only when it was published: that tells whether it was one of them, without a lock.
struct MeasuredSpan {
    first: AtomicU64,
    last: AtomicU64,
}

impl MeasuredSpan {
    const fn none() -> Self {
        Self {
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
        }
    }

    fn reset(&self) {
        self.first.store(u64::MAX, Relaxed);
        self.last.store(0, Relaxed);
    }

    fn note(&self, sent: Nanos) {
        self.first.fetch_min(sent.0, Relaxed);
        self.last.fetch_max(sent.0, Relaxed);
    }

    fn contains(&self, sent: Nanos) -> bool {
        self.first.load(Relaxed) <= sent.0 && sent.0 <= self.last.load(Relaxed)
    }
}

#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    refused: AtomicU64,
    accept_errors: AtomicU64,
    offered: AtomicU64,
    offered_measured: AtomicU64,
    dropped: AtomicU64,
    undelivered: AtomicU64,
    replayed: AtomicU64,
    received: AtomicU64,
    /// Deliveries begun while a known fault is asked for.
    given: AtomicU64,
}

/// All that the server's threads share.
pub(crate) struct Hub {
    /// Itself, for tasks that outlive a call.
    me: Weak<Hub>,
    pub(crate) config: Config,
    by_id: RwLock<HashMap<SessionId, Arc<Session>>>,
    shards: Vec<Shard>,
    counts: Counts,
    closed: Mutex<BTreeMap<CloseReason, u64>>,
    disconnects: Disconnects,
    pub(crate) door: Door,
    publication: watch::Sender<Option<Arc<Publication>>>,
    /// How often messages were numbered anew.
    count: AtomicU64,
    measured: MeasuredSpan,
    life: watch::Sender<Life>,
    /// What sessions cost for good, when they are to.
    leaked: Mutex<Vec<Vec<u8>>>,
}

/// A server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    /// Takes sessions.
    Serving,
    /// Takes no more; those that are open are being ended.
    Ending,
    /// Has none left.
    Ended,
}

// A panic while one of these locks is held leaves counts and lists that are still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let shard = |_| Shard {
            sessions: Mutex::new(Sessions {
                open: Vec::new(),
                history: History::of_at_most(config.history),
                ended: 0,
            }),
            written: Mutex::default(),
        };
        let shards = (0..config.threads.max(1)).map(shard).collect();
        let disconnects = Disconnects::of_at_most(config.most_disconnects);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            config,
            by_id: RwLock::default(),
            shards,
            counts: Counts::default(),
            closed: Mutex::default(),
            disconnects,
            door: Door::new(),
            publication: watch::Sender::new(None),
            count: AtomicU64::new(0),
            measured: MeasuredSpan::none(),
            life: watch::Sender::new(Life::Serving),
            leaked: Mutex::default(),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn count_accept_error(&self) {
        self.counts.accept_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.counts.refused.fetch_add(1, Relaxed);
    }

    /// The running publication, whenever it changes.
    pub(crate) fn publications(&self) -> watch::Receiver<Option<Arc<Publication>>> {
        self.publication.subscribe()
    }

    /// Starts a publication in place of the running one. The delays within a fan-out are those of its measured window. One that
    /// begins at message 0 counts anew: what was kept is forgotten, and no client has had any of it.
    pub(crate) fn publish(&self, mut publication: Publication) {
        let anew = publication.first() == 0;
        publication.count = self.count.fetch_add(u64::from(anew), SeqCst) + u64::from(anew);
        self.measured.reset();
        for shard in &self.shards {
            lock(&shard.written).fanout_delay.clear();
            if anew {
                let mut sessions = lock(&shard.sessions);
                sessions.history.begin(publication.count);
                for open in &mut sessions.open {
                    open.first = 0;
                }
            }
        }
        self.publication.send_replace(Some(Arc::new(publication)));
    }

    /// The running or last publication.
    pub(crate) fn publication(&self) -> Option<Arc<Publication>> {
        self.publication.borrow().clone()
    }

    /// Has every session of this thread looked at: whether its client is still there.
    pub(crate) fn beat(&self, heartbeat: Heartbeat) {
        let now = clock::now();
        for Open { session, .. } in &lock(&self.shards[SHARD.get()].sessions).open {
            (session.beat)(session, heartbeat, now);
        }
    }

    /// Gives one message to every session of this thread.
    pub(crate) fn fan_out(&self, published: &Arc<Published>, measured: bool) {
        let shard = &self.shards[SHARD.get()];
        let mut sessions = lock(&shard.sessions);
        // Under the lock that a session is opened under: it gets each message from here or from there.
        sessions.history.keep(published);
        let (mut offered, mut dropped) = (0, 0);
        if measured {
            self.measured.note(published.sent);
        }
        let mut written = lock(&shard.written);
        // Its turn comes when the one before it has been written to: the write itself is no part of the wait.
        let mut turn = clock::now();
        sessions.open.retain(|open| {
            if !open.wants(published) {
                return true;
            }
            let session = &open.session;
            let pushed = session.push_encoded(published.encoded_for(session), published.sent);
            if pushed == Pushed::Written {
                written.record(published.sent, turn, measured);
                if measured {
                    turn = clock::now();
                }
            }
            offered += u64::from(pushed != Pushed::Closed);
            dropped += u64::from(is_drop(pushed));
            pushed != Pushed::Closed
        });
        drop(written);
        sessions.ended = 0;
        drop(sessions);
        self.counts.offered.fetch_add(offered, Relaxed);
        self.counts.dropped.fetch_add(dropped, Relaxed);
        if measured {
            self.counts.offered_measured.fetch_add(offered, Relaxed);
        }
    }

    /// Counts a message as offered to every session of this thread without giving it to them.
    pub(crate) fn count_offered(&self, published: &Published, measured: bool) {
        if measured {
            self.measured.note(published.sent);
        }
        let sessions = lock(&self.shards[SHARD.get()].sessions);
        let open = sessions.open.iter();
        let offered = open
            .filter(|open| open.wants(published) && !open.session.outbox.is_closed())
            .count() as u64;
        self.counts.offered.fetch_add(offered, Relaxed);
        if measured {
            self.counts.offered_measured.fetch_add(offered, Relaxed);
        }
    }

    /// Gives a message to every session of this thread without counting it as offered.
    pub(crate) fn give(&self, published: &Arc<Published>) {
        let mut sessions = lock(&self.shards[SHARD.get()].sessions);
        sessions.history.keep(published);
        for open in sessions.open.iter().filter(|open| open.wants(published)) {
            let session = &open.session;
            if self.counts.given.fetch_add(1, Relaxed) + 1 == self.config.inject.lose_delivery {
                continue;
            }
            if session.push_encoded(published.encoded_for(session), published.sent) == Pushed::Written {
                self.written(session, published.sent);
            }
        }
    }

    /// Queues a message for one session and counts a drop.
    pub(crate) fn push(&self, session: &Session, message: &Message) {
        let sent = clock::now();
        match session.push(message, sent) {
            Pushed::Written => self.written(session, sent),
            pushed if is_drop(pushed) => drop(self.counts.dropped.fetch_add(1, Relaxed)),
            _ => {}
        }
    }

    /// Takes no more sessions, and ends every one in its transport's orderly way.
    pub(crate) fn close_all(&self) {
        self.grow_older(Life::Ending);
        for session in self.by_id.read().unwrap_or_else(PoisonError::into_inner).values() {
            session.outbox.close();
        }
    }

    /// Says that the last session has ended after [`Hub::close_all`].
    pub(crate) fn all_sessions_ended(&self) {
        self.grow_older(Life::Ended);
    }

    /// Returns once that was said.
    pub(crate) async fn sessions_have_ended(&self) {
        let mut life = self.life.subscribe();
        // The sender lives as long as this hub.
        let _ = life.wait_for(|life| *life == Life::Ended).await;
    }

    /// Each of the server's threads says so in its turn.
    fn grow_older(&self, to: Life) {
        self.life.send_if_modified(|life| {
            let older = *life < to;
            *life = to.max(*life);
            older
        });
    }

    /// How many sessions are open.
    pub(crate) fn open_sessions(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The disconnect log.
    pub(crate) fn disconnects(&self) -> Vec<Disconnect> {
        self.disconnects.lines()
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let usage = process::usage();
        let (published, published_measured) = self.publication().map_or((0, 0), |p| p.published());
        let mut stats = ServerStats {
            sessions_open: self.open_sessions() as u64,
            sessions_opened: self.counts.opened.load(Relaxed),
            sessions_refused: self.counts.refused.load(Relaxed),
            sessions_closed: lock(&self.closed).clone(),
            accept_errors: self.counts.accept_errors.load(Relaxed),
            published,
            published_measured,
            offered: self.counts.offered.load(Relaxed),
            offered_measured: self.counts.offered_measured.load(Relaxed),
            dropped: self.counts.dropped.load(Relaxed),
            undelivered: self.counts.undelivered.load(Relaxed),
            replayed: self.counts.replayed.load(Relaxed),
            disconnects_over: self.disconnects.over(),
            received: self.counts.received.load(Relaxed),
            cpu_user_ns: usage.cpu_user_ns,
            cpu_system_ns: usage.cpu_system_ns,
            rss_bytes: usage.rss_bytes,
            threads: self.threads() as u32,
            at: clock::now(),
            ..ServerStats::default()
        };
        for shard in &self.shards {
            let written = lock(&shard.written);
            stats.written += written.count;
            stats.fanout_delay.merge(&written.fanout_delay);
        }
        stats
    }
}

fn is_drop(pushed: Pushed) -> bool {
    matches!(
        pushed,
        Pushed::DroppedOldest | Pushed::DroppedNewest | Pushed::Overflowed
    )
}

impl Host for Hub {
    fn open<S: ServerHalf>(&self, connection: &Connection, resume: Option<u64>) -> Option<Arc<Session>> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: what is opened before the end is ended with the others.
        if by_id.len() >= self.config.max_sessions || *self.life.borrow() != Life::Serving {
            return None;
        }
        let outbox = Outbox::new(self.config.outbox_messages, self.config.when_full);
        let id = SessionId(process::random_u128());
        let session = Arc::new(Session::new::<S>(id, outbox, connection.clone()));
        by_id.insert(session.id, session.clone());
        drop(by_id);
        let mut sessions = lock(&self.shards[SHARD.get()].sessions);
        if let Some(first) = resume {
            let again = sessions.history.since(first);
            let again = again.map(|p| Outgoing::message(p.encoded_for(&session), p.sent));
            let replayed = session.outbox.replay(again);
            self.counts.replayed.fetch_add(replayed as u64, Relaxed);
        }
        sessions.open.push(Open {
            session: session.clone(),
            first: resume.unwrap_or(0),
        });
        drop(sessions);
        self.counts.opened.fetch_add(1, Relaxed);
        let leak = self.config.inject.leak_bytes;
        if leak > 0 {
            // Written, so that it is resident.
            lock(&self.leaked).push(vec![1; leak]);
        }
        Some(session)
    }

    fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    fn received(&self, session: &Arc<Session>, message: Message) {
        self.counts.received.fetch_add(1, Relaxed);
        self.config.inject.work();
        if self.config.inject.is_none() {
            self.push(session, &message);
        } else if let Some(hub) = self.me.upgrade() {
            inject::echo(&self.config.inject, session, message, move |session, message| {
                hub.push(session, message)
            });
        }
    }

    fn written(&self, _session: &Session, sent: Nanos) {
        let measured = self.measured.contains(sent);
        let now = if measured { clock::now() } else { sent };
        lock(&self.shards[SHARD.get()].written).record(sent, now, measured);
    }

    fn closed(&self, session: &Arc<Session>, reason: CloseReason) {
        self.counts
            .undelivered
            .fetch_add(session.outbox.discard() as u64, Relaxed);
        *lock(&self.closed).entry(reason).or_default() += 1;
        if !session.is_cut_off() {
            self.disconnects.note(session, reason);
        }
        let mut sessions = lock(&self.shards[SHARD.get()].sessions);
        sessions.ended += 1;
        // Without a publication nobody else clears the list: keep it at most half stale.
        if sessions.ended > 64 && sessions.ended * 2 > sessions.open.len() {
            sessions.open.retain(|open| !open.session.outbox.is_closed());
            sessions.ended = 0;
        }
        drop(sessions);
        // Last: whoever sees no session open, sees all that was counted of them.
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session.id);
    }

    fn cut(&self, session: &Session, reason: CloseReason) {
        self.disconnects.note(session, reason);
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        self.config.heartbeat
    }

    fn retry(&self) -> Option<Duration> {
        self.config.retry
    }

    fn compression(&self) -> Option<Compression> {
        self.config.compression
    }

    fn max_message_bytes(&self) -> usize {
        self.config.max_message_bytes
    }

    fn poll_deadline(&self) -> Duration {
        self.config.heartbeat.map_or(POLL_DEADLINE, |h| h.every)
    }

    fn absence_deadline(&self) -> Duration {
        self.config.heartbeat.map_or(ABSENCE_DEADLINE, |h| h.timeout)
    }
}
