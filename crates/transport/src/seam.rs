//! The seam: the few traits through which everything else speaks to a transport.
//!
//! On the client, a connection is a pair ([`Tx`], [`Rx`]) whichever transport made it, so one engine drives them all.
//! On the server, a [`ServerHalf`] answers requests and lets the connection pull from its session's outbox.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use pushmark_measure::Nanos;

use crate::body::ServerBody;
use crate::carrier::{Carriage, Negotiated};
use crate::connection::Connection;
use crate::error::TransportError;
use crate::host::{Heartbeat, Host, Session};
use crate::message::{Kind, Message};
use crate::takeover::Opening;
use crate::wire::Wire;

/// Where a session goes, and what it may take.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Where connections come from; `None` leaves it to the kernel. One address opens some 28,000 connections to one other.
    pub source: Option<SocketAddr>,
    /// The kernel stamps what arrives on this session; see [`crate::stamps`].
    pub kernel_stamps: bool,
    /// The session will also send; a transport with a separate way up opens it while connecting.
    pub sends: bool,
    /// Deadline of the TCP connect.
    pub connect_deadline: Duration,
    /// Deadline of the TLS handshake, and again from then to usable.
    pub open_deadline: Duration,
    /// How large messages are mostly: buffers are made for that.
    pub usual_message_bytes: usize,
    /// A message larger than this ends the session with an error of its own class.
    pub max_message_bytes: usize,
    /// Where the session goes on, as [`Rx::resume_token`] of an earlier one gave it; `None` for a new start.
    pub resume: Option<String>,
    /// What the kernel does to find out that the peer is gone.
    pub tcp: TcpOptions,
    /// What carries the session.
    pub carriage: Carriage,
    /// Which in-process peer a transport without sockets talks to; see [`crate::null`].
    pub in_process: Option<crate::null::Peer>,
}

/// What the kernel does to find out that a peer is gone, on the connections of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Keepalive: idle time before the first probe, time between probes, unanswered probes that end the connection.
    pub keepalive: Option<(Duration, Duration, u32)>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482).
    pub user_timeout: Option<Duration>,
}

/// What a transport's own standard says about a connection that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// It comes back after a time that the server may set, and says what it has seen; an answer other than a stream ends
    /// it for good (WHATWG HTML, section 9.2, server-sent events).
    EventSource {
        /// The time until the server sets another.
        retry: Duration,
    },
    /// There is no such thing: whoever used it has to.
    Nothing,
    /// There is no standard; a client that asks again and again asks again, after a failed attempt only in a while.
    AskAgain {
        /// That while.
        pause: Duration,
    },
}

/// When the steps of a connect happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectTimes {
    /// Before anything was done for the session.
    pub started: Nanos,
    /// Before the TCP connect: later than `started` where another's attempt at the same connection was waited for and failed.
    pub dialed: Nanos,
    /// TCP connected.
    pub tcp_connected: Nanos,
    /// TLS done; in the clear, the same as `tcp_connected`.
    pub secured: Nanos,
    /// The session can be used: headers of a 101 or a 200 have arrived.
    pub usable: Nanos,
    /// The session has a part in a connection that another had made: there was nothing to connect or to secure.
    pub joined: bool,
    /// No session of its connection could be used before: what is to be said of the connection is said with this one.
    pub first: bool,
    /// How often the peer had to be waited for until then.
    pub round_trips: u32,
}

/// A usable session.
pub struct Connected<T, R> {
    /// Sends.
    pub tx: T,
    /// Receives.
    pub rx: R,
    /// When the steps happened.
    pub times: ConnectTimes,
    /// What was really agreed on with the peer.
    pub negotiated: Negotiated,
}

/// Opens sessions: the client half of a transport.
pub trait Connector: Clone + 'static {
    /// The sending half of a session.
    type Tx: Tx + 'static;
    /// The receiving half.
    type Rx: Rx + 'static;

    /// Opens one session, each step within its deadline.
    ///
    /// # Errors
    /// With the step that failed and the class of its cause.
    fn connect(
        &self,
        target: &Target,
    ) -> impl Future<Output = Result<Connected<Self::Tx, Self::Rx>, TransportError>>;
}

/// The sending half of a session.
pub trait Tx {
    /// Sends one message. Returns when the transport has taken it, which is not when the peer has it.
    ///
    /// # Errors
    /// When the session is gone or the peer refused the message.
    fn send(&mut self, message: Message) -> impl Future<Output = Result<(), TransportError>>;

    /// Ends the session in the transport's orderly way, as far as it has one. Does not wait for the peer's answer:
    /// the receiving half sees that. (Where the ending is a request of its own, its answer is waited for, no longer than
    /// the open deadline.)
    ///
    /// # Errors
    /// When the session is gone already.
    fn close(&mut self) -> impl Future<Output = Result<(), TransportError>>;
}

/// The receiving half of a session.
pub trait Rx {
    /// Waits for the next wake-up that brings at least one message and delivers all that it brought. All that one read
    /// of the socket completed has one arrival stamp, taken in the first statement after that read: never before the
    /// bytes were there, so no latency is negative. Returns how many; 0 means that the peer closed the session in an
    /// orderly way. Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// When the session ended otherwise.
    fn recv<I: Inbox>(&mut self, inbox: &mut I) -> impl Future<Output = Result<usize, TransportError>>;

    /// When anything last came from the peer: messages, answers, heartbeats, comments. Zero before the first word.
    fn last_heard(&self) -> Nanos {
        Nanos::default()
    }

    /// Asks the peer for a sign of life, where the transport has a way to: its answer moves [`Rx::last_heard`] and is no
    /// message. Where it has none, nothing is sent: the peer's own heartbeat is all there is.
    ///
    /// # Errors
    /// The session is gone.
    fn probe(&mut self) -> impl Future<Output = Result<(), TransportError>> {
        std::future::ready(Ok(()))
    }

    /// What [`Target::resume`] is to be for a session that goes on where this one ended, when the message of number `seen` was
    /// the last one it got in order; `None` for a new start.
    fn resume_token(&self, seen: Option<u64>) -> Option<String> {
        seen.map(|n| (n + 1).to_string())
    }

    /// How long the peer has asked its clients to wait before they come back, if it has.
    fn retry(&self) -> Option<Duration> {
        None
    }
}

/// When a read of the socket brought bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The first statement after the read.
    pub at: Nanos,
    /// When the kernel had queued the last of those bytes: never later than `at`. `None` where it does not say so.
    pub kernel: Option<Nanos>,
}

/// Takes what a session receives. Payloads are lent, so that a receive path need not allocate.
pub trait Inbox {
    /// One message, and when the read that completed it brought its last bytes.
    fn deliver(&mut self, received: Received, kind: Kind, payload: &[u8]);

    /// So many bytes of payload, which were delivered, came as so many on the stream, where what the peer sends is compressed.
    fn inflated(&mut self, _received: Received, _payload_bytes: usize, _stream_bytes: usize) {}

    /// A message came where a peer that agreed on compression may still send each as it is (permessage-deflate): whether it did.
    fn agreed_deflate(&mut self, _received: Received, _is_compressed: bool) {}
}

/// Owned deliveries; for tests and tools.
#[derive(Clone, Debug, Default)]
pub struct Collected(pub Vec<(Received, Message)>);

impl Inbox for Collected {
    fn deliver(&mut self, received: Received, kind: Kind, payload: &[u8]) {
        self.0.push((
            received,
            Message {
                kind,
                payload: payload.to_vec().into(),
            },
        ));
    }
}

/// A request for one of the reference server's own paths.
pub type ServerRequest = Request<Incoming>;
/// What it is answered with.
pub type ServerResponse<H> = Response<ServerBody<H>>;

/// The server half of a transport.
pub trait ServerHalf: 'static {
    /// The path all of the transport's requests go to: `/` and the transport's name.
    const PATH: &'static str;

    /// The bytes that carry `message` to every session of this transport: made once for a fan-out, then shared. `id` is
    /// the message's number, when clients may come back and ask for what came after it; a transport whose clients count
    /// for themselves leaves it out.
    fn encode(message: &Message, id: Option<u64>) -> bytes::Bytes;

    /// One of many regular looks at `session`: asks its client for a sign of life when it is time to, and ends the session's
    /// connection with [`CloseReason::Heartbeat`](crate::CloseReason::Heartbeat) when there was none in time. Where somebody
    /// else finds out, be it the kernel or a deadline of the transport's own, it does no more than make them look.
    fn beat(_session: &Session, _heartbeat: Heartbeat, _now: Nanos) {}

    /// Answers one request for [`ServerHalf::PATH`]: opens a session, takes a message upstream, or gives what waits.
    /// Never fails: what is wrong with a request is said in its response.
    fn respond<H: Host>(request: ServerRequest, host: &Arc<H>) -> impl Future<Output = ServerResponse<H>>;

    /// Serves a whole connection from the request it opened with, straight on its wire, when the transport gains by it; else
    /// gives the connection back, with nothing read from it, and it goes the usual way.
    ///
    /// # Errors
    /// The connection, which this transport does not take.
    fn take_over<H: Host, W: Wire>(
        _opening: Opening,
        wire: W,
        _host: &Arc<H>,
        _connection: &Connection,
    ) -> impl Future<Output = Result<(), W>> {
        std::future::ready(Err(wire))
    }
}
