//! How a server is set up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pushmark_transport::WhenFull;

/// A server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads, each with a runtime and connections of its own.
    pub threads: usize,
    /// Messages that may wait for one session.
    pub outbox_messages: usize,
    /// What happens when they are more.
    pub when_full: WhenFull,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// Largest message a client may send, in bytes.
    pub max_message_bytes: usize,
    /// The headers of a connection's first request must have arrived by then.
    pub header_deadline: Duration,
    /// How long open sessions get to end when the server stops.
    pub stop_deadline: Duration,
    /// Faults that are put in on purpose.
    pub inject: Injection,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: 1,
            outbox_messages: 1_024,
            when_full: WhenFull::DropOldest,
            max_sessions: 1_000_000,
            max_message_bytes: 1 << 20,
            header_deadline: Duration::from_secs(10),
            stop_deadline: Duration::from_secs(5),
            inject: Injection::default(),
        }
    }
}

/// Known faults, so that whoever measures can be checked against the truth. Numbers are sequence numbers of messages,
/// in whichever stream; each is applied to every receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// Every message is held back this long.
    pub delay: Duration,
    /// These are not delivered, and not counted as dropped either: they vanish.
    pub drop: BTreeSet<u64>,
    /// These are delivered twice.
    pub duplicate: BTreeSet<u64>,
    /// These are delivered after their successor.
    pub swap: BTreeSet<u64>,
}

impl Injection {
    /// True when the server is honest.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
