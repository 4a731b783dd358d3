//! The registry: one row for each transport. The only list of them anywhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::carrier::Carrier;
use crate::connection::Connection;
use crate::host::Host;
use crate::long_poll::{LongPollConnector, LongPollServer};
use crate::message::Message;
use crate::null::NullConnector;
use crate::seam::{Connector, Native, ServerHalf, ServerRequest, ServerResponse};
use crate::sse::{SseConnector, SseServer};
use crate::takeover::Opening;
use crate::wire::Wire;
use crate::ws::{WsConnector, WsServer};

/// Carriers of whatever speaks HTTP.
const HTTP: &[&str] = &[
    Carrier::H1.name(),
    Carrier::H1Tls.name(),
    Carrier::H2c.name(),
    Carrier::H2Tls.name(),
];

/// What is known of a transport without connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// As written in scenario files and reports.
    pub name: &'static str,
    /// Carriers it can run over, its default first.
    pub carriers: &'static [&'static str],
    /// It needs no server: sessions talk to a peer in their own process.
    pub in_process: bool,
    /// How binary payloads cross it: as they are, or encoded because it carries text alone.
    pub binary: Binary,
    /// How many connections a session that also sends holds.
    pub connections_when_sending: u32,
    /// A client can say that it ends a session. Otherwise all it can do is close the connection, which the server cannot
    /// tell from a crash and counts as ended early.
    pub orderly_close: bool,
    /// What its standard says about a connection that ends.
    pub native: Native,
    /// Resident memory of one idle session at the client and at the server, in bytes, as measured over 9,500 of them. The
    /// kernel's socket memory is not in it.
    pub resident_bytes: (u64, u64),
}

/// How a transport carries bytes that are not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// As they are.
    Native,
    /// In base64 (RFC 4648, section 4): four bytes for every three.
    Base64,
}

/// Something to do with a transport's client half, whichever it is: each transport gets code, futures and task sizes
/// of its own, with no dispatch left on the message path.
pub trait WithConnector {
    /// What comes of it.
    type Output;
    /// Does it.
    fn with<C: Connector>(self, connector: C) -> Self::Output;
}

macro_rules! registry {
    ($($row:expr, $connector:expr, [$($server:ty)?];)*) => {
        /// Every transport, in the order of reports.
        pub const ROWS: &[Row] = &[$($row),*];

        /// Runs `task` with the client half of the transport called `name`, for sessions over `carrier`; gives `task` back when there
        /// is no such pair. (Which carrier a session takes is said by its [`Target`](crate::Target).)
        ///
        /// # Errors
        /// No transport has that name, or it does not run over that carrier.
        pub fn with_connector<W: WithConnector>(name: &str, carrier: &str, task: W) -> Result<W::Output, W> {
            $(if name == $row.name && $row.carriers.contains(&carrier) { return Ok(task.with($connector)); })*
            Err(task)
        }

        /// Answers a request for a transport's path; gives the request back when the path is none of them.
        ///
        /// # Errors
        /// The path is no transport's.
        pub async fn respond<H: Host>(request: ServerRequest, host: &Arc<H>) -> Result<ServerResponse<H>, ServerRequest> {
            $($(if request.uri().path() == <$server>::PATH {
                // In a box of its own: a request that waits need not have room for another transport's.
                return Ok(Box::pin(<$server as ServerHalf>::respond(request, host)).await);
            })?)*
            Err(request)
        }

        /// Serves a connection straight on its wire, when its transport does so for such an opening; gives it back otherwise, with
        /// nothing read from it.
        ///
        /// # Errors
        /// The connection, which goes the usual way.
        pub async fn take_over<H: Host, W: Wire>(
            opening: Opening,
            wire: W,
            host: &Arc<H>,
            connection: &Connection,
        ) -> Result<(), W> {
            $($(if opening.request.uri().path() == <$server>::PATH {
                // In a box of its own: one transport's sessions need not have room for another's.
                return Box::pin(<$server as ServerHalf>::take_over(opening, wire, host, connection)).await;
            })?)*
            Err(wire)
        }

        /// The row whose server half has `path`; the number of rows when there is none.
        pub fn row_of_path(path: &str) -> usize {
            let paths = [$(registry!(@path $($server)?)),*];
            paths.iter().position(|p| *p == Some(path)).unwrap_or(ROWS.len())
        }

        /// The encoder of each row's server half.
        pub const ENCODERS: &[Option<Encoder>] = &[$(registry!(@encode $($server)?)),*];
    };
    (@path $server:ty) => { Some(<$server>::PATH) };
    (@path) => { None };
    (@encode $server:ty) => { Some(<$server>::encode) };
    (@encode) => { None };
}

registry! {
    Row { name: "ws", carriers: HTTP, in_process: false, binary: Binary::Native, connections_when_sending: 1, orderly_close: true, native: Native::Nothing, resident_bytes: (6 << 10, 6 << 10) },
        WsConnector::default(), [WsServer];
    Row { name: "sse", carriers: HTTP, in_process: false, binary: Binary::Base64, connections_when_sending: 2, orderly_close: false, native: Native::EventSource { retry: Duration::from_secs(3) }, resident_bytes: (3 << 10, 4 << 10) },
        SseConnector::default(), [SseServer];
    Row { name: "long-poll", carriers: HTTP, in_process: false, binary: Binary::Native, connections_when_sending: 2, orderly_close: true, native: Native::AskAgain { pause: Duration::from_secs(1) }, resident_bytes: (5 << 10, 18 << 10) },
        LongPollConnector::default(), [LongPollServer];
    Row { name: "null", carriers: &[crate::null::CARRIER], in_process: true, binary: Binary::Native, connections_when_sending: 0, orderly_close: true, native: Native::Nothing, resident_bytes: (0, 0) },
        NullConnector, [];
}

/// See [`ServerHalf::encode`].
pub type Encoder = fn(&Message, Option<u64>) -> Bytes;

/// The row called `name`.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
