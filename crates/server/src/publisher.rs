//! The publisher: one stream of messages on a schedule, stamped once, encoded once per transport.
//!
//! Every thread of the server walks the same schedule and serves its own sessions; whichever comes first to a message
//! makes it, the others take the same one, so that a message has one stamp.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use pushmark_measure::{Nanos, clock};
use pushmark_transport::control::Publish;
use pushmark_transport::stamp::Template;
use pushmark_transport::timer::Timer;
use pushmark_transport::{Message, Session, Stamp, registry};

use crate::hub::Hub;

/// One message on its way to all sessions.
pub(crate) struct Published {
    pub(crate) sequence: u64,
    pub(crate) sent: Nanos,
    pub(crate) message: Message,
    /// Which of the server's counts its number belongs to.
    pub(crate) count: u64,
    /// Its number, when clients are to know it.
    id: Option<u64>,
    /// By the transport's row in the registry.
    encoded: Vec<OnceLock<Bytes>>,
}

impl Published {
    /// The bytes for a session's transport.
    pub(crate) fn encoded_for(&self, session: &Session) -> Bytes {
        match self.encoded.get(session.transport) {
            Some(cell) => cell
                .get_or_init(|| (session.encode)(&self.message, self.id))
                .clone(),
            None => (session.encode)(&self.message, self.id),
        }
    }
}

/// A running publication.
pub(crate) struct Publication {
    publish: Publish,
    template: Template,
    /// Messages say their number, for clients that come back.
    numbered: bool,
    /// Which of the server's counts its messages' numbers belong to.
    pub(crate) count: u64,
    issued: Mutex<Issued>,
    /// No message of this number or above is published.
    limit: AtomicU64,
    /// The next message of each thread.
    progress: Vec<AtomicU64>,
}

#[derive(Default)]
struct Issued {
    count: u64,
    measured: u64,
    /// Messages that some thread has still to take, oldest first, with how many threads that is.
    waiting: VecDeque<(Arc<Published>, usize)>,
}

impl Publication {
    pub(crate) fn new(publish: Publish, threads: usize, numbered: bool) -> Self {
        let template = Template::of(
            publish.content,
            publish.kind,
            publish.payload_bytes as usize,
            publish.schedule.seed,
        );
        let progress = (0..threads).map(|_| AtomicU64::new(0)).collect();
        Self {
            publish,
            template,
            numbered,
            count: 0,
            issued: Mutex::default(),
            limit: AtomicU64::new(u64::MAX),
            progress,
        }
    }

    /// The number of the first message.
    pub(crate) fn first(&self) -> u64 {
        self.publish.from
    }

    /// How many messages were published, and how many of them in the measured window.
    pub(crate) fn published(&self) -> (u64, u64) {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        (issued.count, issued.measured)
    }

    /// Ends the publication before the first message intended at or after `at`.
    pub(crate) fn end_before(&self, at: Nanos) {
        self.end_after(self.publish.schedule.count_before(at));
    }

    /// Ends the publication: messages that some thread has published are still published by the others, no further ones.
    pub(crate) fn end_now(&self) {
        self.end_after(0);
    }

    fn end_after(&self, count: u64) {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.publish.from.saturating_add(issued.count);
        self.limit.store(next.max(count), SeqCst);
    }

    /// True once every thread has published all that will be.
    pub(crate) fn is_settled(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        self.progress.iter().all(|p| p.load(SeqCst) >= limit)
    }

    fn is_measured(&self, intended: Nanos) -> bool {
        self.publish.measured.contains(&intended)
    }

    /// The message of that number, made now unless another thread has made it; `None` when the publication was stopped.
    fn take(&self, sequence: u64, intended: Nanos) -> Option<Arc<Published>> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence >= self.limit.load(SeqCst) {
            return None;
        }
        if let Some(at) = issued.waiting.iter().position(|(p, _)| p.sequence == sequence) {
            let (published, threads_left) = &mut issued.waiting[at];
            *threads_left -= 1;
            let (published, done) = (published.clone(), *threads_left == 0);
            if done {
                issued.waiting.remove(at);
            }
            return Some(published);
        }
        let sent = clock::now();
        let stamp = Stamp {
            run: self.publish.run,
            stream: 0,
            sequence,
            intended,
            sent,
        };
        let message = Message {
            kind: self.publish.kind,
            payload: self.template.stamped(&stamp),
        };
        let encoded = registry::ROWS.iter().map(|_| OnceLock::new()).collect();
        let published = Arc::new(Published {
            sequence,
            sent,
            message,
            count: self.count,
            id: self.numbered.then_some(sequence),
            encoded,
        });
        issued.count += 1;
        issued.measured += u64::from(self.is_measured(intended));
        if self.progress.len() > 1 {
            issued
                .waiting
                .push_back((published.clone(), self.progress.len() - 1));
        }
        Some(published)
    }
}

/// Publishes to the sessions of thread `shard`, whatever publication runs.
pub(crate) async fn run(hub: Arc<Hub>, shard: usize, timer: Timer) {
    let mut publications = hub.publications();
    loop {
        let publication = publications.borrow_and_update().clone();
        if let Some(publication) = publication {
            tokio::select! {
                () = walk(&hub, shard, &timer, &publication) => {}
                changed = publications.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        if publications.changed().await.is_err() {
            return;
        }
    }
}

async fn walk(hub: &Arc<Hub>, shard: usize, timer: &Timer, publication: &Arc<Publication>) {
    let mut held_back = None;
    for (sequence, intended) in publication.publish.schedule.cursor() {
        if sequence < publication.first() {
            // However many there are, the sessions get their turn.
            if sequence % 4_096 == 4_095 {
                tokio::task::yield_now().await;
            }
            continue;
        }
        timer.until(intended).await;
        let Some(published) = publication.take(sequence, intended) else {
            break;
        };
        deliver(
            hub,
            timer,
            published,
            publication.is_measured(intended),
            &mut held_back,
        );
        publication.progress[shard].store(sequence + 1, SeqCst);
        // When the schedule is behind, the sessions still get their turn between messages.
        tokio::task::yield_now().await;
    }
    if let Some(published) = held_back {
        hub.give(&published);
    }
    publication.progress[shard].store(u64::MAX, SeqCst);
}

fn deliver(
    hub: &Arc<Hub>,
    timer: &Timer,
    published: Arc<Published>,
    measured: bool,
    held_back: &mut Option<Arc<Published>>,
) {
    let inject = &hub.config.inject;
    inject.work();
    if inject.is_none() {
        hub.fan_out(&published, measured);
        return;
    }
    // Counted now, given later: whoever stops a publication asks for its counts at once.
    hub.count_offered(&published, measured);
    let sequence = published.sequence;
    if inject.drop.contains(&sequence) {
        return;
    }
    if inject.swap.contains(&sequence) {
        *held_back = Some(published);
        return;
    }
    let successor_of = held_back.take();
    let (hub, timer, twice) = (hub.clone(), timer.clone(), inject.duplicate.contains(&sequence));
    tokio::task::spawn_local(async move {
        timer.until(published.sent + hub.config.inject.delay).await;
        hub.give(&published);
        if twice {
            hub.give(&published);
        }
        if let Some(earlier) = successor_of {
            hub.give(&earlier);
        }
    });
}
