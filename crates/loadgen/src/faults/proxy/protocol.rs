//! What a coordinator and a proxy process say to each other: JSON lines on stdin and stdout.

use std::net::SocketAddr;

use pushmark_measure::{Histogram, Nanos};
use pushmark_scenario::plan::FaultKind;
use serde::{Deserialize, Serialize};

use crate::faults::FaultId;

/// The first line to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The server.
    pub upstream: SocketAddr,
    /// Groups of connections that share their fate; the proxy listens on one port of loopback for each.
    pub groups: u32,
}

/// The first line from a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens, in the order of the groups.
    pub addresses: Vec<SocketAddr>,
}

/// A later line to a proxy. It is answered with the same number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Tells answers apart whose question nobody waits for any more.
    pub number: u64,
    /// What is said.
    pub what: T,
}

/// What a proxy is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Break something.
    Inject {
        /// Its number.
        fault: FaultId,
        /// What.
        kind: FaultKind,
        /// For whom.
        groups: Vec<u32>,
    },
    /// Mend it.
    Clear {
        /// Its number.
        fault: FaultId,
    },
    /// New connections go to another server.
    Upstream {
        /// Its address.
        address: SocketAddr,
    },
    /// Count.
    Stats,
}

/// What a proxy answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is broken.
    Injected(Injected),
    /// It is mended.
    Cleared(Cleared),
    /// New connections go there.
    Redirected,
    /// So much.
    Stats(Box<ProxyStats>),
    /// It will not, and nothing was changed.
    Refused {
        /// Why not.
        reason: String,
    },
}

/// A fault has taken effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Injected {
    /// Its number.
    pub fault: FaultId,
    /// When it had taken effect on every connection.
    pub at: Nanos,
    /// Connections that were open and were hit. Those that come later are hit by kinds that last.
    pub connections: u64,
    /// The proxy's own addresses on the way to the server, of those connections that had got there: the server knows
    /// them as its peers.
    pub server_side: Vec<SocketAddr>,
}

/// A fault is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Its number.
    pub fault: FaultId,
    /// When it was.
    pub at: Nanos,
}

/// What a proxy has seen since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyStats {
    /// What the proxy itself added to the way of each piece of bytes that no fault and no slow reader held up, in
    /// nanoseconds: from when its kernel had them (from the read, where the kernel does not tell) until the write was done.
    pub delay: Histogram,
    /// Pieces that waited because their reader was slow.
    pub held_by_reader: u64,
    /// Connections taken.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections that were reset because the server could not be reached.
    pub unreachable: u64,
    /// Connections that were reset for want of a port or a descriptor of the proxy's own: no fault of the server's.
    pub out_of_room: u64,
    /// Attempts to take a connection that failed, for want of descriptors mostly.
    pub accept_errors: u64,
    /// Bytes passed on to the server.
    pub bytes_to_server: u64,
    /// Bytes passed on to clients.
    pub bytes_to_client: u64,
}
