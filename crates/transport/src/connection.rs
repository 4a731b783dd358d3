//! One TCP connection of a server, as far as its sessions need to know it: whose it is, the way to end it, and why it ended.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::host::CloseReason;

/// A connection: ends it at once, from anywhere (the way out when a peer does not read and an orderly end cannot be
/// written), and says why it ended. The server puts one among the extensions of every request. Clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    peer: SocketAddr,
    ending: Notify,
    /// Why it ended, or shall end: the first word counts.
    reason: OnceLock<CloseReason>,
    /// The connection that this is a stream of.
    whole: Option<Connection>,
}

impl Connection {
    /// The connection from `peer`.
    pub fn from(peer: SocketAddr) -> Self {
        Self::new(peer, None)
    }

    fn new(peer: SocketAddr, whole: Option<Connection>) -> Self {
        Self(Arc::new(Inner {
            peer,
            ending: Notify::new(),
            reason: OnceLock::new(),
            whole,
        }))
    }

    /// A stream of this connection, which others share: it can be ended without them, and ends with the connection.
    pub fn stream(&self) -> Self {
        Self::new(self.peer(), Some(self.clone()))
    }

    /// It is one of the streams of a connection.
    pub fn is_stream(&self) -> bool {
        self.0.whole.is_some()
    }

    /// The connection that `request` came on; when the server put none, one from nowhere whose end nobody listens to.
    pub fn of<B>(request: &hyper::Request<B>) -> Self {
        let known = request.extensions().get::<Self>().cloned();
        known.unwrap_or_else(|| Self::from(SocketAddr::from(([0, 0, 0, 0], 0))))
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Ends the connection, for that reason.
    pub fn kill(&self, reason: CloseReason) {
        self.note(reason);
        self.0.ending.notify_one();
    }

    /// Returns once the connection shall end, with the reason.
    pub async fn killed(&self) -> CloseReason {
        self.0.ending.notified().await;
        self.reason().unwrap_or(CloseReason::Server)
    }

    /// The connection has ended, for that reason: for those who see no more of it than that it is gone.
    pub fn note(&self, reason: CloseReason) {
        // What was said first stays.
        let _ = self.0.reason.set(reason);
    }

    /// Why it ended, as far as that was said.
    pub fn reason(&self) -> Option<CloseReason> {
        let own = self.0.reason.get().copied();
        own.or_else(|| self.0.whole.as_ref()?.reason())
    }
}

impl CloseReason {
    /// What an error of a connected socket says about its end.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            // The kernel reports what it had last heard of the way to the peer, if anything, in place of the timeout.
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => CloseReason::TimedOut,
            io::ErrorKind::UnexpectedEof => CloseReason::EndedEarly,
            // A library's word, not the system's, for a connection that ended under its streams.
            io::ErrorKind::BrokenPipe if error.raw_os_error().is_none() => CloseReason::EndedEarly,
            // Not the system's words but those of a layer above the socket.
            io::ErrorKind::InvalidData => CloseReason::Protocol,
            _ => CloseReason::Reset,
        }
    }

    /// What an error of the HTTP library says about its connection's end.
    pub fn of_http(error: &hyper::Error) -> Self {
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return Self::of_io(io);
            }
            if let Some(h2) = inner.downcast_ref::<h2::Error>() {
                return match h2.get_io() {
                    Some(io) => Self::of_io(io),
                    None if h2.is_remote() => CloseReason::EndedEarly,
                    None => CloseReason::Protocol,
                };
            }
            cause = inner.source();
        }
        if error.is_parse() {
            CloseReason::Protocol
        } else {
            CloseReason::EndedEarly
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let connection = Connection::from(([127, 0, 0, 1], 9).into());
        assert_eq!(connection.reason(), None);
        connection.kill(CloseReason::Heartbeat);
        connection.note(CloseReason::Reset);
        assert_eq!(connection.reason(), Some(CloseReason::Heartbeat));
    }

    #[test]
    fn a_connection_that_the_kernel_gave_up_has_timed_out() {
        for (errno, reason) in [
            (110, CloseReason::TimedOut),
            (113, CloseReason::TimedOut),
            (104, CloseReason::Reset),
            (32, CloseReason::Reset),
        ] {
            assert_eq!(CloseReason::of_io(&io::Error::from_raw_os_error(errno)), reason);
        }
    }
}
