//! One request and its answer at a time, whichever version of HTTP carries them.

use std::task::{Context, Poll};

use super::h2::Lease;
use super::kept::Headers;
use super::stream::Stream;
use super::streams;
use crate::error::{Step, TransportError};
use crate::h1::{self, Head, Progress};
use crate::seam::Received;

/// A request, in the words of HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Whom it is for: address and port.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Header lines, each ended by CR LF.
    pub headers: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

/// An exchange of requests and answers. Every `poll_` function may be dropped and called again: what was read is kept or
/// has been handed over.
pub enum Exchange {
    /// On a connection of its own.
    H1(h1::Exchange<Stream>),
    /// As streams of a connection, one after another.
    H2(Box<streams::Exchange>),
}

impl Exchange {
    /// Speaks HTTP/1.1 over a connected stream.
    pub(super) fn over(stream: Stream) -> Self {
        Exchange::H1(h1::Exchange::over(stream))
    }

    /// Speaks HTTP/2 on a connection that others may share.
    pub(super) fn on(lease: Lease) -> Self {
        Exchange::H2(Box::new(streams::Exchange::on(lease)))
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        match self {
            Exchange::H1(_) => None,
            Exchange::H2(exchange) => Some(exchange.lease()),
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// Protocol, when a part of it cannot stand in a request.
    pub fn request(&mut self, step: Step, asked: Asked<'_>) -> Result<(), TransportError> {
        match self {
            Exchange::H1(exchange) => {
                // A length is said whenever a server would wait for one.
                let length = match (asked.method, asked.body.len()) {
                    ("GET" | "DELETE", 0) => String::new(),
                    (_, length) => format!("content-length: {length}\r\n"),
                };
                exchange.request(&[
                    asked.method.as_bytes(),
                    b" ",
                    asked.path.as_bytes(),
                    b" HTTP/1.1\r\nhost: ",
                    asked.authority.as_bytes(),
                    b"\r\n",
                    asked.headers.as_bytes(),
                    length.as_bytes(),
                    b"\r\n",
                    asked.body,
                ]);
                Ok(())
            }
            Exchange::H2(exchange) => exchange.request(step, asked),
        }
    }

    /// True when the peer takes no further request on this connection.
    pub fn is_closing(&self) -> bool {
        match self {
            Exchange::H1(exchange) => exchange.is_closing(),
            Exchange::H2(exchange) => exchange.is_closing(),
        }
    }

    /// What the connection has ended with, where that was an error and is known before anything more is asked.
    pub(super) fn failure(&self, step: Step) -> Option<TransportError> {
        match self {
            Exchange::H1(_) => None,
            Exchange::H2(exchange) => exchange.lease().failure(step),
        }
    }

    /// The last read of the connection that brought bytes.
    pub fn last_read(&self) -> Received {
        match self {
            Exchange::H1(exchange) => exchange.last_read(),
            Exchange::H2(exchange) => exchange.last_read(),
        }
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_flush(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match self {
            Exchange::H1(exchange) => exchange.poll_flush(step, cx),
            Exchange::H2(exchange) => exchange.poll_flush(step, cx),
        }
    }

    /// Reads a response's head. `take` sees the headers. Also gives when the bytes that completed it were read.
    ///
    /// # Errors
    /// The connection ended, or what came is not a response, or its head is too large.
    pub fn poll_head<T>(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        take: impl FnMut(Headers<'_, '_>) -> T,
    ) -> Poll<Result<(Head<T>, Received), TransportError>> {
        match self {
            Exchange::H1(exchange) => exchange.poll_head(step, cx, take),
            Exchange::H2(exchange) => exchange.poll_head(step, cx, take),
        }
    }

    /// Lends what has come of the body to `sink`, with when it was read; `Done` as soon as the body is complete, which may bring
    /// bytes too.
    ///
    /// # Errors
    /// The connection ended before the body did, or the body's framing is broken.
    pub fn poll_body(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        sink: impl FnMut(Received, &[u8]),
    ) -> Poll<Result<Progress, TransportError>> {
        match self {
            Exchange::H1(exchange) => exchange.poll_body(step, cx, sink),
            Exchange::H2(exchange) => exchange.poll_body(step, cx, sink),
        }
    }
}
