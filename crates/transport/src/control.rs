//! Control and statistics of the reference server: the words that generator and server exchange, and a client.
//!
//! JSON over HTTP/1.1 on the server's own port: `POST /control/publish` starts a publication, `POST /control/stop` ends it,
//! `POST /control/accept` opens or closes the door to new connections, `GET /stats` reads the server's own counts, and
//! `GET /control/disconnects` its disconnect log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use hyper::StatusCode;
use pushmark_measure::{Histogram, Nanos, Schedule};
use serde::{Deserialize, Serialize};

use crate::carrier::{Kept, Stream, status_of};
use crate::error::{ErrorClass, Step, TransportError};
use crate::host::CloseReason;
use crate::message::Kind;
use crate::seam::Target;
use crate::stamp::Content;
use crate::tcp::Stamped;

/// Path of the statistics.
pub const STATS_PATH: &str = "/stats";
/// Path that starts a publication.
pub const PUBLISH_PATH: &str = "/control/publish";
/// Path that ends it.
pub const STOP_PATH: &str = "/control/stop";
/// Path of the disconnect log: a JSON list of [`Disconnect`].
pub const DISCONNECTS_PATH: &str = "/control/disconnects";
/// Path that opens or closes the door to new connections: takes an [`Accept`].
pub const ACCEPT_PATH: &str = "/control/accept";
/// What the server prints on stdout, followed by its address, once it takes connections.
pub const READY: &str = "pushmark server ready on ";
/// What follows, before the address of its control listener, when it was asked to have one.
pub const CONTROL: &str = ", control on ";

/// A publication: one stream, from the server to every session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Goes into every stamp.
    pub run: u32,
    /// When messages are published.
    pub schedule: Schedule,
    /// Text or binary.
    pub kind: Kind,
    /// Payload size, stamp included.
    pub payload_bytes: u32,
    /// Messages intended in this window are counted apart.
    pub measured: Range<Nanos>,
    /// Number of the first message to publish: another process, which is gone, has published those before it. What
    /// is due by now is published at once.
    #[serde(default)]
    pub from: u64,
    /// What stands around the stamp; what is drawn at random is drawn from the schedule's seed.
    #[serde(default)]
    pub content: Content,
}

/// One line of the server's disconnect log: when it found that a client was gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disconnect {
    /// The client's address on the connection that the session was opened on.
    pub peer: SocketAddr,
    /// When something last came from it, or it acknowledged something as far as the server knows: the last good receive.
    pub last_heard: Nanos,
    /// When the server acted on it: the session's end, or, where a transport's sessions outlive their connection, the
    /// end of the connection on which an answer was waited for.
    pub at: Nanos,
    /// What told it.
    pub reason: CloseReason,
}

/// Whether new connections are taken. Those that are open are not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// False: the port is closed, connects are refused.
    pub accept: bool,
}

/// The end of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopPublishing {
    /// What is intended at or after this instant is not published any more.
    pub at: Nanos,
}

/// The server's own counts, from its start to now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStats {
    /// Sessions open now.
    pub sessions_open: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions refused because there were too many.
    pub sessions_refused: u64,
    /// Sessions ended, by reason.
    pub sessions_closed: BTreeMap<CloseReason, u64>,
    /// Times that no connection could be accepted (no descriptor left, mostly).
    pub accept_errors: u64,
    /// Messages published.
    pub published: u64,
    /// Of those, intended in the measured window.
    pub published_measured: u64,
    /// Messages published times the sessions open at the time.
    pub offered: u64,
    /// Of those, intended in the measured window.
    pub offered_measured: u64,
    /// Messages handed to sockets.
    pub written: u64,
    /// Messages dropped because an outbox was full.
    pub dropped: u64,
    /// Messages still waiting in an outbox when its session ended.
    pub undelivered: u64,
    /// Messages given again to clients that came back and said what they had seen.
    pub replayed: u64,
    /// Lines that the disconnect log had no room for.
    pub disconnects_over: u64,
    /// Messages from clients.
    pub received: u64,
    /// This connection's write − publish, in nanoseconds, over the messages of the running or last publication that were
    /// intended in its measured window.
    pub fanout_delay: Histogram,
    /// User CPU time of the process, in nanoseconds (to the kernel's tick).
    pub cpu_user_ns: u64,
    /// System CPU time of the process, in nanoseconds (to the kernel's tick).
    pub cpu_system_ns: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Threads that serve connections.
    pub threads: u32,
    /// The instant these counts were taken.
    pub at: Nanos,
}

impl ServerStats {
    /// Adds the counts of another process of the same server. What all processes publish alike is not added up.
    pub fn merge(&mut self, other: &ServerStats) {
        self.sessions_open += other.sessions_open;
        self.sessions_opened += other.sessions_opened;
        self.sessions_refused += other.sessions_refused;
        for (reason, count) in &other.sessions_closed {
            *self.sessions_closed.entry(*reason).or_default() += count;
        }
        self.accept_errors += other.accept_errors;
        self.published = self.published.max(other.published);
        self.published_measured = self.published_measured.max(other.published_measured);
        self.offered += other.offered;
        self.offered_measured += other.offered_measured;
        self.written += other.written;
        self.dropped += other.dropped;
        self.undelivered += other.undelivered;
        self.replayed += other.replayed;
        self.disconnects_over += other.disconnects_over;
        self.received += other.received;
        self.fanout_delay.merge(&other.fanout_delay);
        self.cpu_user_ns += other.cpu_user_ns;
        self.cpu_system_ns += other.cpu_system_ns;
        self.rss_bytes += other.rss_bytes;
        self.threads += other.threads;
        self.at = self.at.max(other.at);
    }
}

/// A kept connection to a server's control paths. One request at a time.
pub struct ControlClient {
    connection: Kept,
}

/// Most that a server's answer may take, in bytes.
const MOST_ANSWER_BYTES: usize = 32 << 20;

impl ControlClient {
    /// Connects.
    ///
    /// # Errors
    /// As any connect.
    pub async fn connect(target: &Target) -> Result<Self, TransportError> {
        // In the clear, whatever carries the sessions.
        let stream = Stamped::new(crate::tcp::connect(target).await?, false);
        Ok(Self {
            connection: Kept::over(Stream::Plain(stream), target),
        })
    }

    /// Starts a publication.
    ///
    /// # Errors
    /// The server has no such path, refused it, or is gone.
    pub async fn publish(&mut self, publish: &Publish) -> Result<(), TransportError> {
        let body =
            serde_json::to_vec(publish).map_err(|e| TransportError::new(Step::Send, ErrorClass::Other, e))?;
        self.ask("POST", PUBLISH_PATH, body).await.map(drop)
    }

    /// Ends the publication before the first message intended at or after `at`, and reads the statistics once it has
    /// ended.
    ///
    /// # Errors
    /// As [`ControlClient::stats`].
    pub async fn stop(&mut self, at: Nanos) -> Result<ServerStats, TransportError> {
        let body = serde_json::to_vec(&StopPublishing { at })
            .map_err(|e| TransportError::new(Step::Send, ErrorClass::Other, e))?;
        let answer = self.ask("POST", STOP_PATH, body).await?;
        parse(&answer)
    }

    /// Reads the statistics.
    ///
    /// # Errors
    /// The server has no such path, answered something else, or is gone.
    pub async fn stats(&mut self) -> Result<ServerStats, TransportError> {
        let answer = self.ask("GET", STATS_PATH, Vec::new()).await?;
        parse(&answer)
    }

    /// Reads the disconnect log.
    ///
    /// # Errors
    /// As [`ControlClient::stats`].
    pub async fn disconnects(&mut self) -> Result<Vec<Disconnect>, TransportError> {
        let answer = self.ask("GET", DISCONNECTS_PATH, Vec::new()).await?;
        parse(&answer)
    }

    /// Opens or closes the door to new connections; returns once it is so.
    ///
    /// # Errors
    /// As [`ControlClient::publish`].
    pub async fn accept(&mut self, accept: bool) -> Result<(), TransportError> {
        let body = serde_json::to_vec(&Accept { accept })
            .map_err(|e| TransportError::new(Step::Send, ErrorClass::Other, e))?;
        self.ask("POST", ACCEPT_PATH, body).await.map(drop)
    }

    async fn ask(&mut self, method: &str, path: &str, body: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let headers = "content-type: application/json\r\n";
        let request = (method, path, headers, &body[..]);
        let (head, answer) = self
            .connection
            .exchange(Step::Receive, request, MOST_ANSWER_BYTES, |_| ())
            .await?;
        let status = status_of(Step::Receive, head.status)?;
        if status != StatusCode::OK {
            let words = String::from_utf8_lossy(&answer);
            let class = ErrorClass::Status(status.as_u16());
            return Err(TransportError::new(
                Step::Receive,
                class,
                format_args!("{path}: {status}: {}", words.trim()),
            ));
        }
        Ok(answer)
    }
}

fn parse<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(answer).map_err(|e| {
        TransportError::new(
            Step::Receive,
            ErrorClass::Protocol,
            format_args!("the server's answer is not what it should be: {e}"),
        )
    })
}
