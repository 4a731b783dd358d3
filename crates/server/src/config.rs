//! How a server is set up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pushmark_measure::clock;
use pushmark_transport::carrier::Windows;
use pushmark_transport::carrier::certificates::Acceptor;
use pushmark_transport::compression::Compression;
use pushmark_transport::seam::TcpOptions;
use pushmark_transport::{Heartbeat, WhenFull};

/// A server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to listen as well, for the control paths of this process alone: several servers may share a port.
    pub control: Option<SocketAddr>,
    /// Another server may listen there too, and the kernel spreads connections over both.
    pub share_port: bool,
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
    /// How dead clients are found; `None` leaves it to what their connections say.
    pub heartbeat: Option<Heartbeat>,
    /// How many published messages are kept for clients that come back and say what they have had.
    pub history: usize,
    /// How long clients are asked to wait before they come back, by transports that have a word for it.
    pub retry: Option<Duration>,
    /// What is compressed for clients that ask for it; `None`: nothing is.
    pub compression: Option<Compression>,
    /// Secures connections that ask for it; `None`: TLS is not spoken.
    pub tls: Option<Acceptor>,
    /// How much of what clients send may lie unread on an HTTP/2 connection.
    pub windows: Windows,
    /// What the kernel does to find dead clients.
    pub tcp: TcpOptions,
    /// Most lines of the disconnect log; what is over is counted.
    pub most_disconnects: usize,
    /// How long open sessions get to end when the server stops.
    pub stop_deadline: Duration,
    /// Faults that are put in on purpose.
    pub inject: Injection,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: None,
            share_port: false,
            threads: 1,
            outbox_messages: 1_024,
            when_full: WhenFull::DropOldest,
            max_sessions: 1_000_000,
            max_message_bytes: 1 << 20,
            header_deadline: Duration::from_secs(10),
            heartbeat: None,
            history: 0,
            retry: None,
            compression: None,
            tls: None,
            windows: Windows::default(),
            tcp: TcpOptions::default(),
            most_disconnects: 100_000,
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
    /// Every message costs this much processor time: once when it comes for echo, once on each thread when it is published.
    pub work: Duration,
    /// These are not delivered, and not counted as dropped either: they vanish.
    pub drop: BTreeSet<u64>,
    /// These are delivered twice.
    pub duplicate: BTreeSet<u64>,
    /// These are delivered after their successor.
    pub swap: BTreeSet<u64>,
    /// The delivery with this number vanishes, counted from 1 over all sessions of this process; 0: none does.
    pub lose_delivery: u64,
    /// Every session opened costs so many bytes that are never given back.
    pub leak_bytes: usize,
}

impl Injection {
    /// True when every message goes out once, at once, in its place.
    pub fn is_none(&self) -> bool {
        self.delay.is_zero()
            && self.drop.is_empty()
            && self.duplicate.is_empty()
            && self.swap.is_empty()
            && self.lose_delivery == 0
    }

    /// Uses up the processor time that a message costs.
    pub fn work(&self) {
        if self.work.is_zero() {
            return;
        }
        let until =
            clock::thread_cpu_ns().saturating_add(u64::try_from(self.work.as_nanos()).unwrap_or(u64::MAX));
        while clock::thread_cpu_ns() < until {
            std::hint::spin_loop();
        }
    }
}
