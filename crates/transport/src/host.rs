//! The host: what a server gives to the server halves of transports, and the sessions it keeps for them.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use serde::{Deserialize, Serialize};

use crate::compression::Compression;
use crate::connection::Connection;
use crate::long_poll::Presence;
use crate::message::{Kind, Message};
use crate::outbox::{Outbox, Outgoing, Pushed};

/// A session's name: hard to guess, so that one client cannot speak for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(SessionId)
    }
}

/// How dead clients are found: one that was not heard of for `every` is asked for a sign of life, as far as its transport
/// has a way to, and is given up when there was none within `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time without a word after which a client is asked for one.
    pub every: Duration,
    /// Time that it gets to answer.
    pub timeout: Duration,
}

/// Why a session ended, as the server saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The client ended it in the transport's orderly way.
    Client,
    /// The server ended it.
    Server,
    /// The connection ended without the transport's own ending.
    EndedEarly,
    /// The connection was reset or failed.
    Reset,
    /// The client broke the protocol.
    Protocol,
    /// The outbox overflowed and the policy was to disconnect.
    SlowReader,
    /// The client did not come back for its messages.
    Idle,
    /// The client did not answer, or was not heard of, within the heartbeat's deadline.
    Heartbeat,
    /// The kernel gave the connection up: what was sent stayed unacknowledged, or keepalive probes did.
    TimedOut,
}

impl CloseReason {
    /// The word in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Server => "server",
            CloseReason::EndedEarly => "ended-early",
            CloseReason::Reset => "reset",
            CloseReason::Protocol => "protocol",
            CloseReason::SlowReader => "slow-reader",
            CloseReason::Idle => "idle",
            CloseReason::Heartbeat => "heartbeat",
            CloseReason::TimedOut => "timed-out",
        }
    }
}

/// One client, over one or more requests.
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Messages for it.
    pub outbox: Outbox,
    /// Row of the registry that its transport stands in.
    pub transport: usize,
    /// The transport's encoder; see [`crate::ServerHalf::encode`].
    pub encode: fn(&Message, Option<u64>) -> bytes::Bytes,
    /// The transport's heartbeat; see [`crate::ServerHalf::beat`].
    pub beat: fn(&Session, Heartbeat, Nanos),
    /// The connection it was opened on.
    pub connection: Connection,
    /// When its client was last heard of, in nanoseconds.
    heard: AtomicU64,
    /// When its client was last sent a heartbeat, in nanoseconds.
    beaten: AtomicU64,
    pub(crate) presence: Presence,
}

impl Session {
    /// A session with an empty outbox, opened now on `connection`, whose transport has server half `S`.
    pub fn new<S: crate::ServerHalf>(id: SessionId, outbox: Outbox, connection: Connection) -> Self {
        let now = clock::now();
        Self {
            id,
            outbox,
            transport: crate::registry::row_of_path(S::PATH),
            encode: S::encode,
            beat: S::beat,
            connection,
            heard: AtomicU64::new(now.0),
            beaten: AtomicU64::new(now.0),
            presence: Presence::default(),
        }
    }

    /// The client's address on the connection that the session was opened on.
    pub fn peer(&self) -> SocketAddr {
        self.connection.peer()
    }

    /// When something last came from the client, as far as that is noted: always where each wait is a request, and
    /// elsewhere when the host asks for heartbeats. Else the session's opening.
    pub fn last_heard(&self) -> Nanos {
        Nanos(self.heard.load(Relaxed))
    }

    /// Something has come from the client.
    pub fn hear(&self) {
        self.heard.store(clock::now().0, Relaxed);
    }

    /// When the last heartbeat was sent, or the session was opened.
    pub(crate) fn last_beat(&self) -> Nanos {
        Nanos(self.beaten.load(Relaxed))
    }

    /// A heartbeat is sent now.
    pub(crate) fn beat_at(&self, now: Nanos) {
        self.beaten.store(now.0, Relaxed);
    }

    /// The host was told by [`Host::cut`] that the client is gone, and it has not come back.
    pub fn is_cut_off(&self) -> bool {
        self.presence.cut_off().is_some()
    }

    /// Encodes and queues a message for this session alone.
    pub fn push(&self, message: &Message, sent: Nanos) -> Pushed {
        self.push_encoded((self.encode)(message, None), sent)
    }

    /// Queues a message that is encoded for this session's transport already. A session whose outbox overflows under
    /// the policy to disconnect loses its connection at once.
    pub fn push_encoded(&self, encoded: bytes::Bytes, sent: Nanos) -> Pushed {
        let pushed = self.outbox.push(Outgoing::message(encoded, sent));
        if pushed == Pushed::Overflowed {
            self.connection.kill(CloseReason::SlowReader);
            self.presence.nudge();
        }
        pushed
    }
}

/// What server halves need from a server. One value serves all threads.
pub trait Host: Send + Sync + 'static {
    /// A new session for a transport with server half `S`, on `connection`; `None` when the server takes no more. With
    /// `resume`, the number of the first message that the client has not had, it gets what the server has kept of them
    /// before anything newer.
    fn open<S: crate::ServerHalf>(
        &self,
        connection: &Connection,
        resume: Option<u64>,
    ) -> Option<Arc<Session>>;

    /// The session of that name.
    fn find(&self, id: SessionId) -> Option<Arc<Session>>;

    /// A message came up from the client.
    fn received(&self, session: &Arc<Session>, message: Message);

    /// A message was handed to the socket (or, where the transport keeps messages until they are confirmed, was given
    /// out for the first time). Called once a message, but not for one whose push said [`Pushed::Written`]: who pushed
    /// it knows.
    fn written(&self, session: &Session, sent: Nanos);

    /// The session has ended; called once. What still waits in its outbox will not be delivered.
    fn closed(&self, session: &Arc<Session>, reason: CloseReason);

    /// The connection on which the client of a session waited for an answer has gone, for that reason; the session goes on
    /// until it is closed, since its client may come back on another. Called before [`Host::closed`], where sessions
    /// outlive their connections.
    fn cut(&self, _session: &Session, _reason: CloseReason) {}

    /// How dead clients are found; `None` when nothing is done to find them.
    fn heartbeat(&self) -> Option<Heartbeat> {
        None
    }

    /// How long clients are asked to wait before they come back, where the transport has a word for it.
    fn retry(&self) -> Option<Duration> {
        None
    }

    /// What may be compressed for clients that ask for it; `None`: nothing is.
    fn compression(&self) -> Option<Compression> {
        None
    }

    /// Largest message a client may send, in bytes.
    fn max_message_bytes(&self) -> usize {
        1 << 20
    }

    /// How long a client that fetches its messages may wait for one before it is told that there is none.
    fn poll_deadline(&self) -> Duration {
        Duration::from_secs(25)
    }

    /// How long a client that fetches its messages may stay away before its session ends.
    fn absence_deadline(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// Whether a payload that claims to be of `kind` is.
pub fn is_valid(kind: Kind, payload: &[u8]) -> bool {
    kind == Kind::Binary || std::str::from_utf8(payload).is_ok()
}
