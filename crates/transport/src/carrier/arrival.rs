//! Arrivals on the server: one port takes every carrier, and its first bytes say which.
//!
//! A TLS record begins with 22 (RFC 8446, section 5.1), an HTTP/2 connection in the clear with `PRI` (RFC 9113, section 3.4), and
//! no request of HTTP/1.1 with either. They are only looked at; in the clear, whoever serves the connection reads them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Http;
use super::certificates::Acceptor;
use super::h2::Windows;
use crate::connection::Connection;
use crate::host::CloseReason;
use crate::takeover::{MOST_HEAD_BYTES, Opening};
use crate::wire::{Layered, Socket};

/// The type of a TLS record that begins a handshake.
const HANDSHAKE: u8 = 22;
/// How an HTTP/2 connection in the clear begins, as far as it must be looked at: no method of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI";
/// A client that sends the first byte alone is looked at again after this time.
const SECOND_LOOK: Duration = Duration::from_millis(1);
/// One that takes its time is looked at ever less often, but at least this often.
const LATER_LOOK: Duration = Duration::from_millis(50);
/// How long an HTTP/2 client's preface is, before its SETTINGS (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Streams of one connection that may be open at once. A load generator may well put all its sessions on one.
const MOST_STREAMS: u32 = 1 << 17;
/// How much the server holds of what one stream is to send, in bytes: what waits longer waits in the session's outbox, where
/// it is counted.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A connection under TLS, with what was read of it to know what it wants.
pub type Secured = Layered<Box<TlsStream<TcpStream>>>;

/// A connection that has begun to speak.
pub enum Arrived {
    /// In the clear, with its first request if that came whole and plain.
    Plain(Socket, Http, Option<Opening>),
    /// Under TLS, likewise.
    Secured(Secured, Http, Option<Opening>),
}

/// Waits for a connection's first words, and does its TLS handshake when they ask for one and there is a certificate.
/// `deadline` is that of the handshake, and of a preface that has begun: a library would wait for the rest of it for ever. A client
/// that has said nothing yet may take its time.
///
/// # Errors
/// The connection's own, or that of a handshake that failed; timed out when the deadline passed.
pub async fn look(stream: TcpStream, tls: Option<&Acceptor>, deadline: Duration) -> io::Result<Arrived> {
    let (mut waited, mut pause) = (Duration::ZERO, SECOND_LOOK);
    loop {
        let (first, opening) = Opening::look(&stream).await?;
        let begun = first.bytes();
        match (begun, tls) {
            (&[HANDSHAKE, ..], Some(tls)) => return Box::pin(secure(stream, tls, deadline)).await,
            (begun, _) if begun == PREFACE => {
                tokio::time::timeout(deadline, whole_preface(&stream))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                return Ok(Arrived::Plain(
                    Socket::new(stream, Bytes::new()),
                    Http::Http2,
                    None,
                ));
            }
            // A P alone, or with an R: there is a method that begins so too.
            (begun, _) if !begun.is_empty() && PREFACE.starts_with(begun) => {
                if waited >= deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                tokio::time::sleep(pause).await;
                waited += pause;
                pause = (pause * 2).min(LATER_LOOK);
            }
            _ => {
                let socket = Socket::new(stream, Bytes::new());
                return Ok(Arrived::Plain(socket, Http::Http1_1, opening));
            }
        }
    }
}

/// Waits until all of a preface has come, or the connection ended in the middle of it, which whoever serves it sees.
async fn whole_preface(stream: &TcpStream) -> io::Result<()> {
    let mut pause = SECOND_LOOK;
    let mut known = 0;
    loop {
        let mut bytes = [0; PREFACE_BYTES];
        let count = stream.peek(&mut bytes).await?;
        if count == PREFACE_BYTES {
            return Ok(());
        }
        // What was peeked at stays readable, so that there is no other way to wait for more than to look again.
        if count > known {
            (known, pause) = (count, SECOND_LOOK);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATER_LOOK);
    }
}

async fn secure(stream: TcpStream, tls: &Acceptor, deadline: Duration) -> io::Result<Arrived> {
    let handshake = tls.0.accept(stream);
    let mut stream = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let socket: fn(&Box<TlsStream<TcpStream>>) -> &TcpStream = |stream| stream.get_ref().0;
    if stream.get_ref().1.alpn_protocol() == Some(Http::Http2.alpn().as_bytes()) {
        let mut begun = [0; PREFACE_BYTES];
        tokio::time::timeout(deadline, stream.read_exact(&mut begun))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let secured = Layered::over_socket(Box::new(stream), Bytes::copy_from_slice(&begun), socket);
        return Ok(Arrived::Secured(secured, Http::Http2, None));
    }
    // What is under TLS cannot be looked at without being read.
    let early = poll_fn(|cx| {
        let mut bytes = [0; MOST_HEAD_BYTES + 1];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(io::Result::Ok(Bytes::copy_from_slice(buffer.filled())))
    })
    .await?;
    let opening = Opening::parse(&early);
    let secured = Layered::over_socket(Box::new(stream), early, socket);
    Ok(Arrived::Secured(secured, Http::Http1_1, opening))
}

/// Runs the tasks of a connection on the thread of the connection, and ends those whose stream is to end: the library itself looks
/// at nothing while it waits for a client that does not read.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnThisThread;

thread_local! {
    /// The stream that the task at work has said it serves.
    static SERVED: Cell<Option<Connection>> = const { Cell::new(None) };
}

/// Says, from within the answering of a request, that it came on `stream`: when that is killed, the answering ends, and its
/// stream is reset.
pub fn serving(stream: &Connection) {
    SERVED.set(Some(stream.clone()));
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        // Before it is captured: the task's own room would hold it a second time.
        let mut task = Box::pin(task);
        tokio::task::spawn_local(async move {
            let mut killed: Option<Pin<Box<dyn Future<Output = CloseReason>>>> = None;
            poll_fn(|cx| {
                SERVED.set(None);
                if task.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if let Some(stream) = SERVED.take() {
                    killed = Some(Box::pin(async move { stream.killed().await }));
                }
                match &mut killed {
                    Some(killed) => killed.as_mut().poll(cx).map(drop),
                    None => Poll::Pending,
                }
            })
            .await;
        });
    }
}

/// How the server speaks HTTP/2: tunnels are allowed (RFC 8441), all sessions of a generator may share a connection, and what
/// clients send has these windows.
pub fn http2(windows: Windows) -> http2::Builder<OnThisThread> {
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(windows.stream_bytes)
        .initial_connection_window_size(windows.connection_bytes)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}
