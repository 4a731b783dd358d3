//! The host: what a server gives to the server halves of transports, and the sessions it keeps for them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pushmark_measure::Nanos;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

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

/// Ends a connection at once, from anywhere: the way out when a peer does not read and an orderly end cannot be written.
/// The server puts one among the extensions of every request.
#[derive(Clone, Default)]
pub struct ConnectionKill(Arc<Notify>);

impl ConnectionKill {
    /// The kill switch of the connection that `request` came on; one that nobody listens to when the server put none.
    pub fn of<B>(request: &hyper::Request<B>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Ends the connection.
    pub fn kill(&self) {
        self.0.notify_one();
    }

    /// Returns once the connection shall end.
    pub async fn killed(&self) {
        self.0.notified().await;
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
    /// The transport's encoder.
    pub encode: fn(&Message) -> bytes::Bytes,
    /// Ends the connection it was opened on.
    pub kill: ConnectionKill,
    pub(crate) presence: Presence,
}

impl Session {
    /// A session with an empty outbox, whose transport has server half `S`.
    pub fn new<S: crate::ServerHalf>(id: SessionId, outbox: Outbox, kill: ConnectionKill) -> Self {
        Self {
            id,
            outbox,
            transport: crate::registry::row_of_path(S::PATH),
            encode: S::encode,
            kill,
            presence: Presence::default(),
        }
    }

    /// Encodes and queues a message for this session alone.
    pub fn push(&self, message: &Message, sent: Nanos) -> Pushed {
        self.push_encoded((self.encode)(message), sent)
    }

    /// Queues a message that is encoded for this session's transport already. A session whose outbox overflows under
    /// the policy to disconnect loses its connection at once.
    pub fn push_encoded(&self, encoded: bytes::Bytes, sent: Nanos) -> Pushed {
        let pushed = self.outbox.push(Outgoing::message(encoded, sent));
        if pushed == Pushed::Overflowed {
            self.kill.kill();
            self.presence.nudge();
        }
        pushed
    }
}

/// What server halves need from a server. One value serves all threads.
pub trait Host: Send + Sync + 'static {
    /// A new session for a transport with server half `S`, on the connection that `kill` ends; `None` when the server takes no more.
    fn open<S: crate::ServerHalf>(&self, kill: ConnectionKill) -> Option<Arc<Session>>;

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

    /// Largest message a client may send, in bytes.
    fn max_message_bytes(&self) -> usize {
        1 << 20
    }

    /// How long a client that fetches its messages may wait for one before it is told that there is none.
    fn poll_deadline(&self) -> std::time::Duration {
        std::time::Duration::from_secs(25)
    }

    /// How long a client that fetches its messages may stay away before its session ends.
    fn absence_deadline(&self) -> std::time::Duration {
        std::time::Duration::from_secs(15)
    }
}

/// Whether a payload that claims to be of `kind` is.
pub fn is_valid(kind: Kind, payload: &[u8]) -> bool {
    kind == Kind::Binary || std::str::from_utf8(payload).is_ok()
}
