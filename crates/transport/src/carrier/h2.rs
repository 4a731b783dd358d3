//! HTTP/2 on the client (RFC 9113): connections that the sessions of a thread share, and requests as streams of them.
//!
//! A task drives each connection: it reads whatever comes, whoever may be waiting, so that a session that does not read holds up
//! its own stream's window and nothing else. What it has not read waits in memory, within that window. Its neighbours feel it
//! only once the unread bytes of all streams together fill the connection's window, which is made large enough for a
//! thousand of them unless asked otherwise ([`Windows`]).
//!
//! # How many may be open
//! A server may take fewer streams at once than sessions are to share its connection (SETTINGS_MAX_CONCURRENT_STREAMS). The
//! library would have the rest wait without a word. Here each stream is counted, and one too many is an error of its own class,
//! [`StreamLimit`](ErrorClass::StreamLimit): more connections than were asked for would be another measurement. Sessions that
//! share a connection therefore wait for the server's SETTINGS before they ask for anything.
//!
//! # Whose time it is
//! The connection's task reads for all, so a message may have waited in this process when its session takes it. Its arrival
//! is therefore the moment when its session took the first of what was there (`Taking`, in `streams.rs`), as it is the read of a session
//! that has a socket of its own: what a session waited for its turn is in its latency. The kernel's stamp beside it is that of
//! the connection's last read, so that the generator's own delay holds that wait too.
//!
//! # Small frames
//! A library that guards against floods of small DATA frames ends a connection on which too many wait unread, with
//! ENHANCE_YOUR_CALM. Its measure is half the connection's window; what dies of it has a class of its own,
//! [`EnhanceYourCalm`](ErrorClass::EnhanceYourCalm).

mod noted;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ::h2::Reason;
use ::h2::client::{Connection, SendRequest};
use bytes::Bytes;
use pushmark_measure::{Nanos, clock};
use tokio::sync::{Notify, OnceCell};

use super::tls;
use super::{Dialed, Negotiated, On, Opening, Streams};
use crate::error::{ErrorClass, Step, TransportError};
use crate::meter::Meter;
use crate::seam::{Received, Target};
use noted::Noted;

/// How much one side of a connection takes that nobody has read yet (RFC 9113, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Of one stream, in bytes.
    pub stream_bytes: u32,
    /// Of all streams of a connection together, in bytes.
    pub connection_bytes: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            stream_bytes: 256 * 1024,
            connection_bytes: 256 << 20,
        }
    }
}

/// A response's head may be this long, in bytes.
const MOST_HEAD_BYTES: u32 = 64 * 1024;
/// A frame's header, in bytes (RFC 9113, section 4.1).
const FRAME_HEADER_BYTES: usize = 9;
/// The type of a SETTINGS frame (section 6.5).
const SETTINGS: u8 = 4;

/// What a connection's task and its sessions tell each other. All on one thread.
#[derive(Default)]
struct Book {
    last_read: Cell<Received>,
    /// The first bytes that the peer sent, and how many it has sent in all.
    first: Cell<[u8; FRAME_HEADER_BYTES]>,
    seen: Cell<u64>,
    /// The peer's first SETTINGS were read and taken up.
    settled: Cell<bool>,
    over: Cell<bool>,
    /// What the connection ended with, when that was an error.
    failure: RefCell<Option<TransportError>>,
    changed: Notify,
    stamps_wanted: Cell<bool>,
}

impl Book {
    fn note(&self, received: Received, bytes: &[u8]) {
        self.last_read.set(received);
        let seen = self.seen.get();
        if let Some(from) = usize::try_from(seen).ok().filter(|n| *n < FRAME_HEADER_BYTES) {
            let mut first = self.first.get();
            for (to, byte) in first[from..].iter_mut().zip(bytes) {
                *to = *byte;
            }
            self.first.set(first);
        }
        self.seen.set(seen + bytes.len() as u64);
    }

    /// The peer's connection preface (section 3.4) has come whole: a SETTINGS frame.
    fn preface_is_whole(&self) -> bool {
        let [a, b, c, ..] = self.first.get();
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        self.seen.get() >= FRAME_HEADER_BYTES as u64 + length
    }

    /// What the peer began with is not HTTP/2.
    fn is_foreign(&self) -> bool {
        let known = usize::try_from(self.seen.get()).unwrap_or(usize::MAX);
        let first = self.first.get();
        known >= 4 && first[3] != SETTINGS
    }

    fn class_of(&self, step: Step, error: &::h2::Error) -> TransportError {
        if !self.is_foreign() {
            let mut found = class_of(step, error);
            // A stream that the connection's end has cut off knows of the end alone, not of the farewell that came before it.
            if let (Some(_), Some(failure)) = (error.get_io(), &*self.failure.borrow()) {
                (found.class, found.detail) = (failure.class, failure.detail.clone());
            }
            return found;
        }
        let first = self.first.get();
        let shown = first.escape_ascii();
        let advice = match first {
            [20..=23, 3, ..] => "the peer speaks TLS on this port, so use h1+tls or h2+tls",
            _ => "use a carrier that it speaks, as h1",
        };
        let words = format_args!("the server does not speak HTTP/2: it begins with \"{shown}\"; {advice}");
        TransportError::new(step, ErrorClass::Negotiation, words)
    }
}

/// The class that an error of HTTP/2 belongs to.
pub(crate) fn class_of(step: Step, error: &::h2::Error) -> TransportError {
    if let Some(io) = error.get_io() {
        let mut found = TransportError::from_io(step, io);
        // The library's own words for an end of the connection: in the middle of a frame, and while streams are open, which it
        // calls a broken pipe. What the system says comes without words.
        let own_words = io.kind() == io::ErrorKind::BrokenPipe && io.get_ref().is_some();
        if own_words || found.class == ErrorClass::Other && io.raw_os_error().is_none() {
            found.class = ErrorClass::EndedEarly;
        }
        return found;
    }
    let class = match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) => ErrorClass::EnhanceYourCalm,
        Some(Reason::HTTP_1_1_REQUIRED) => ErrorClass::Negotiation,
        _ if error.is_go_away() && error.is_remote() => ErrorClass::GoAway,
        _ if error.is_reset() && error.is_remote() => ErrorClass::StreamReset,
        Some(_) => ErrorClass::Protocol,
        None => ErrorClass::Other,
    };
    TransportError::new(step, class, error)
}

/// Reads and writes a connection to its end.
async fn drive(mut connection: Connection<Noted, Bytes>, book: Rc<Book>) {
    let ended = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        if !book.settled.get() && book.preface_is_whole() {
            book.settled.set(true);
            book.changed.notify_waiters();
        }
        ended
    })
    .await;
    if let Err(e) = ended {
        // Each of its streams hears it from the library; this is for those who come later.
        *book.failure.borrow_mut() = Some(book.class_of(Step::Open, &e));
    }
    book.over.set(true);
    book.changed.notify_waiters();
}

/// A connection that stands.
struct Shared {
    send: SendRequest<Bytes>,
    /// Streams that are open now.
    streams: Cell<usize>,
    book: Rc<Book>,
    dialed: Nanos,
    tcp_connected: Nanos,
    secured: Nanos,
    negotiated: Negotiated,
    meter: Meter,
    /// How often the peer was waited for until the connection stood.
    waits: u32,
    /// A session of it could be used.
    told: Cell<bool>,
}

impl Shared {
    /// It takes further requests.
    fn is_usable(&self) -> bool {
        if self.book.over.get() {
            return false;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        !matches!(self.send.clone().poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }

    /// Waits for the peer's first SETTINGS.
    ///
    /// # Errors
    /// The connection ended before, or the peer does not speak HTTP/2.
    async fn settled(&self) -> Result<(), TransportError> {
        let book = &self.book;
        loop {
            let changed = book.changed.notified();
            if book.over.get() {
                let failure = book.failure.borrow().clone();
                let ended = || TransportError::new(Step::Open, ErrorClass::EndedEarly, "no answer");
                return Err(failure.unwrap_or_else(ended));
            }
            if book.settled.get() && !book.is_foreign() {
                return Ok(());
            }
            changed.await;
        }
    }
}

/// A connection, or one that is being made.
struct Slot {
    address: SocketAddr,
    tls: Option<Arc<tls::Client>>,
    group: Option<u32>,
    sessions: Cell<u32>,
    connection: OnceCell<Rc<Shared>>,
}

impl Slot {
    fn takes(&self, target: &Target, most: u32) -> bool {
        let tls = &target.carriage.tls;
        let same_tls = match (&self.tls, tls.as_ref().filter(|_| is_secured(target))) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        let usable = self.connection.get().is_none_or(|shared| shared.is_usable());
        let same_place = self.address == target.address && self.group == target.carriage.group;
        same_place && same_tls && self.sessions.get() < most && usable
    }
}

fn is_secured(target: &Target) -> bool {
    target.carriage.carrier.is_secured()
}

/// A session's part in a connection. The connection ends when the last of them is dropped.
#[derive(Clone)]
pub struct Lease(Rc<Part>);

struct Part {
    slot: Rc<Slot>,
    shared: Rc<Shared>,
    /// How often this session had to wait for the peer. What others of the connection waited for is not in it.
    waits: Cell<u32>,
    /// The session asked for the kernel's stamps. The connection has them for all as soon as one does.
    stamped: bool,
}

/// A place in a slot, given back however its holder ends.
struct Place(Rc<Slot>);

impl Place {
    fn take(slot: Rc<Slot>) -> Self {
        slot.sessions.set(slot.sessions.get() + 1);
        Self(slot)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get().saturating_sub(1));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.slot.sessions.set(self.slot.sessions.get().saturating_sub(1));
    }
}

/// The connections of one thread. Clones share them.
#[derive(Clone, Default)]
pub struct Pool {
    slots: Rc<RefCell<Vec<Weak<Slot>>>>,
}

impl Pool {
    fn slot(&self, target: &Target) -> Rc<Slot> {
        let most = target.carriage.streams_per_connection.most();
        let make = || {
            Rc::new(Slot {
                address: target.address,
                tls: target.carriage.tls.clone().filter(|_| is_secured(target)),
                group: target.carriage.group,
                sessions: Cell::new(0),
                connection: OnceCell::new(),
            })
        };
        if most <= 1 {
            // Nobody else will ask for it.
            return make();
        }
        let mut slots = self.slots.borrow_mut();
        let fits = |slot: &Rc<Slot>| slot.takes(target, most);
        if let Some(found) = slots.iter().rev().filter_map(Weak::upgrade).find(fits) {
            return found;
        }
        slots.retain(|slot| slot.strong_count() > 0);
        let made = make();
        slots.push(Rc::downgrade(&made));
        made
    }

    /// A part in a connection to the target: in one that stands and has room, or in a new one.
    ///
    /// # Errors
    /// With the step that failed and the class of its cause.
    pub(super) async fn lease(&self, target: &Target) -> Result<Dialed<Lease>, TransportError> {
        let started = clock::now();
        let place = Place::take(self.slot(target));
        let mut joined = true;
        // Whoever joins a connection that is still being made waits for its round trips too.
        let stood = place.0.connection.initialized();
        let made = place.0.connection.get_or_try_init(|| {
            joined = false;
            connect(target)
        });
        // Where one fails the next of those that wait for it tries, and the rest wait on: each for so long and no longer.
        let deadline = target.connect_deadline + target.open_deadline;
        let shared = tokio::time::timeout(deadline, made)
            .await
            .map_err(|_| TransportError::timed_out(Step::Connect, deadline))??
            .clone();
        let mut waited = 0;
        if target.carriage.streams_per_connection.most() > 1 {
            waited = u32::from(!shared.book.settled.get());
            // Who means to share has to know with how many.
            tokio::time::timeout(target.open_deadline, shared.settled())
                .await
                .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??;
        }
        if target.kernel_stamps {
            shared.book.stamps_wanted.set(true);
        }
        let (dialed, tcp_connected) = (shared.dialed, shared.tcp_connected);
        let (secured, negotiated) = (shared.secured, shared.negotiated);
        let slot = place.0.clone();
        // The lease holds the place from here on.
        slot.sessions.set(slot.sessions.get() + 1);
        drop(place);
        let waits = Cell::new(waited + if stood { 0 } else { shared.waits });
        let lease = Lease(Rc::new(Part {
            slot,
            shared,
            waits,
            stamped: target.kernel_stamps,
        }));
        Ok(Dialed {
            made: lease.clone(),
            started,
            dialed: dialed.max(started),
            tcp_connected: tcp_connected.max(started),
            secured: secured.max(started),
            joined,
            negotiated,
            opening: Opening {
                waits: 0,
                on: On::Shared(lease),
            },
        })
    }
}

async fn connect(target: &Target) -> Result<Rc<Shared>, TransportError> {
    let dialed = super::connect(target, target.kernel_stamps).await?;
    let waits = dialed.opening.round_trips();
    let On::Own(meter) = dialed.opening.on else {
        let words = "a connection that was just made is not one's own";
        return Err(TransportError::new(Step::Connect, ErrorClass::Other, words));
    };
    let book = Rc::new(Book::default());
    let noted = Noted {
        stream: dialed.made,
        book: book.clone(),
        stamped: target.kernel_stamps,
    };
    let (send, connection) = ::h2::client::Builder::new()
        .initial_window_size(target.carriage.windows.stream_bytes)
        .initial_connection_window_size(target.carriage.windows.connection_bytes)
        .max_header_list_size(MOST_HEAD_BYTES)
        .enable_push(false)
        .handshake::<_, Bytes>(noted)
        .await
        .map_err(|e| book.class_of(Step::Open, &e))?;
    tokio::task::spawn_local(drive(connection, book.clone()));
    Ok(Rc::new(Shared {
        send,
        streams: Cell::new(0),
        book,
        dialed: dialed.dialed,
        tcp_connected: dialed.tcp_connected,
        secured: dialed.secured,
        negotiated: Negotiated {
            streams_per_connection: Some(target.carriage.streams_per_connection),
            ..dialed.negotiated
        },
        meter,
        waits,
        told: Cell::new(false),
    }))
}

impl Lease {
    pub(super) fn is_usable(&self) -> bool {
        self.0.shared.is_usable()
    }

    /// What the connection has ended with, where that was an error.
    pub(super) fn failure(&self, step: Step) -> Option<TransportError> {
        let failure = self.0.shared.book.failure.borrow().clone()?;
        Some(TransportError { step, ..failure })
    }

    /// The connection's last read, with the kernel's stamp where the session asked for it: those who carry stamps are a share
    /// of the sessions, not the neighbours of that share.
    pub(super) fn last_read(&self) -> Received {
        let read = self.0.shared.book.last_read.get();
        Received {
            kernel: read.kernel.filter(|_| self.0.stamped),
            ..read
        }
    }

    /// A way to send one request.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.shared.send.clone()
    }

    /// The session waited for the peer once more.
    pub(super) fn waited(&self) {
        self.0.waits.set(self.0.waits.get().saturating_add(1));
    }

    /// How often it has, with what it took to make the connection where it waited for that.
    pub(super) fn waits(&self) -> u32 {
        self.0.waits.get()
    }

    /// The session can be used; true for the first of its connection.
    pub(super) fn is_first(&self) -> bool {
        !self.0.shared.told.replace(true)
    }

    /// Other sessions may join the connection.
    pub(super) fn is_shared(&self) -> bool {
        let streams = self.0.shared.negotiated.streams_per_connection;
        streams.is_some_and(|streams| streams.most() > 1)
    }

    pub(super) fn meter(&self) -> Meter {
        self.0.shared.meter.clone()
    }

    /// Something that the session makes of the connection that it has a part in.
    pub(super) fn standing<T>(&self, made: T) -> Dialed<T> {
        let now = clock::now();
        Dialed {
            made,
            started: now,
            dialed: now,
            tcp_connected: now,
            secured: now,
            joined: true,
            negotiated: self.0.shared.negotiated,
            opening: Opening {
                waits: 0,
                on: On::Standing,
            },
        }
    }

    /// The class of an error on this connection.
    pub(super) fn class_of(&self, step: Step, error: &::h2::Error) -> TransportError {
        self.0.shared.book.class_of(step, error)
    }

    /// Waits for the peer's first SETTINGS; whether they allow the extended CONNECT (RFC 8441, section 3).
    ///
    /// # Errors
    /// The connection ended before, or the peer does not speak HTTP/2.
    pub(super) async fn takes_extended_connect(&self) -> Result<bool, TransportError> {
        if !self.0.shared.book.settled.get() {
            self.waited();
        }
        self.0.shared.settled().await?;
        Ok(self.0.shared.send.is_extended_connect_protocol_enabled())
    }

    /// Room for one more stream.
    ///
    /// # Errors
    /// [`StreamLimit`](ErrorClass::StreamLimit): the server takes no more at once.
    pub(super) fn room(&self, step: Step) -> Result<Room, TransportError> {
        let shared = &self.0.shared;
        let most = shared.send.current_max_send_streams();
        if shared.book.settled.get() && shared.streams.get() >= most {
            let words = format_args!(
                "the server takes no more than {most} streams at once on a connection (SETTINGS_MAX_CONCURRENT_STREAMS)"
            );
            return Err(TransportError::new(step, ErrorClass::StreamLimit, words));
        }
        shared.streams.set(shared.streams.get() + 1);
        Ok(Room(shared.clone()))
    }
}

/// A stream's room in its connection, given back when the stream is over.
pub(super) struct Room(Rc<Shared>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

pub(super) fn is_secured_lease(lease: &Lease) -> bool {
    lease.0.shared.negotiated.tls.is_some()
}

/// A connection's share, for those who only want to know.
impl Lease {
    /// How many sessions have a part in the connection now.
    pub fn sessions(&self) -> u32 {
        self.0.slot.sessions.get()
    }

    /// How many may.
    pub fn most_sessions(&self) -> Option<Streams> {
        self.0.shared.negotiated.streams_per_connection
    }
}
