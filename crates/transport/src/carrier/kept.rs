//! A kept connection of the client: requests one after another, driven by whoever waits for the answer.
//!
//! On a connection of its own there is no task behind it, so that one wake-up reads the socket, parses, and delivers, with no
//! queue and no second wake-up between the arrival of bytes and their arrival time. What nobody waits for is not read: it waits
//! in the socket.

use std::future::poll_fn;

use hyper::{StatusCode, Version};

use super::exchange::{Asked, Exchange};
use super::h2::Lease;
use super::stream::Stream;
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::{Head, Progress};
use crate::http::{BINARY, TEXT, expect_status};
use crate::message::{Kind, Message};
use crate::seam::Target;

/// Most bytes of an answer that says no more than its status.
pub const MOST_PLAIN_BYTES: usize = 64 * 1024;

/// The headers of a response, as they are lent.
pub type Headers<'a, 'b> = &'a [httparse::Header<'b>];

/// A kept connection. One request at a time.
pub struct Kept {
    /// The connection itself, for those who poll.
    pub exchange: Exchange,
    authority: String,
    /// An exchange has begun and its answer was not read to the end.
    busy: bool,
}

impl Kept {
    /// Speaks HTTP/1.1 over a connected stream.
    pub fn over(stream: Stream, target: &Target) -> Self {
        Self::with(Exchange::over(stream), target)
    }

    /// Speaks HTTP/2 on a connection that others may share.
    pub(super) fn on(lease: Lease, target: &Target) -> Self {
        Self::with(Exchange::on(lease), target)
    }

    fn with(exchange: Exchange, target: &Target) -> Self {
        Self {
            exchange,
            authority: target.address.to_string(),
            busy: false,
        }
    }

    /// The connection, where others may share it.
    pub fn lease(&self) -> Option<Lease> {
        self.exchange.lease()
    }

    /// Queues a request. `headers` are lines of their own, each ended by CR LF.
    ///
    /// # Errors
    /// Protocol, when a part of it cannot stand in a request.
    pub fn queue(
        &mut self,
        step: Step,
        (method, path, headers, body): (&str, &str, &str, &[u8]),
    ) -> Result<(), TransportError> {
        let asked = Asked {
            method,
            authority: &self.authority,
            path,
            headers,
            body,
        };
        self.exchange.request(step, asked)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// The connection ended or broke the protocol, or an earlier call was dropped before its end.
    pub async fn ask<T>(
        &mut self,
        step: Step,
        request: (&str, &str, &str, &[u8]),
        mut take: impl FnMut(Headers<'_, '_>) -> T,
    ) -> Result<Head<T>, TransportError> {
        if std::mem::replace(&mut self.busy, true) {
            let words = "an earlier request on this connection was abandoned";
            return Err(TransportError::new(step, ErrorClass::Closed, words));
        }
        if self.exchange.is_closing() {
            let words = "the server had closed the connection after its last answer";
            let closed = || TransportError::new(step, ErrorClass::EndedEarly, words);
            return Err(self.exchange.failure(step).unwrap_or_else(closed));
        }
        self.queue(step, request)?;
        poll_fn(|cx| self.exchange.poll_flush(step, cx)).await?;
        let (head, _) = poll_fn(|cx| self.exchange.poll_head(step, cx, &mut take)).await?;
        Ok(head)
    }

    /// Sends a request and reads the whole answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Kept::ask`], or the body is too large.
    pub async fn exchange<T>(
        &mut self,
        step: Step,
        request: (&str, &str, &str, &[u8]),
        limit: usize,
        take: impl FnMut(Headers<'_, '_>) -> T,
    ) -> Result<(Head<T>, Vec<u8>), TransportError> {
        let head = self.ask(step, request, take).await?;
        let mut whole = Vec::new();
        let append = |whole: &mut Vec<u8>, bytes: &[u8]| {
            // One byte over the limit is enough to tell.
            whole.extend_from_slice(&bytes[..bytes.len().min(limit + 1 - whole.len())]);
        };
        while poll_fn(|cx| {
            self.exchange
                .poll_body(step, cx, |_, bytes| append(&mut whole, bytes))
        })
        .await?
            == Progress::More
        {
            if whole.len() > limit {
                break;
            }
        }
        if whole.len() > limit {
            return Err(too_large(step, limit));
        }
        self.busy = false;
        Ok((head, whole))
    }

    /// Sends `message` up and waits until the server has taken it.
    ///
    /// # Errors
    /// The connection ended, or the server did not answer with 204.
    pub async fn post(&mut self, path: &str, message: Message) -> Result<(), TransportError> {
        let media_type = if message.kind == Kind::Text { TEXT } else { BINARY };
        let headers = format!("content-type: {media_type}\r\n");
        let request = ("POST", path, headers.as_str(), &message.payload[..]);
        let (head, _) = self
            .exchange(Step::Send, request, MOST_PLAIN_BYTES, |_| ())
            .await?;
        expect_status(
            Step::Send,
            status_of(Step::Send, head.status)?,
            StatusCode::NO_CONTENT,
        )
    }
}

/// The status code as a type.
///
/// # Errors
/// Protocol, for a number that is no status.
pub fn status_of(step: Step, status: u16) -> Result<StatusCode, TransportError> {
    StatusCode::from_u16(status).map_err(|e| TransportError::new(step, ErrorClass::Protocol, e))
}

/// The version of an answer that opens a session, which is to be at least HTTP/1.1: what an older server does with a connection
/// is not what was asked for.
///
/// # Errors
/// Negotiation, for an answer in HTTP/1.0.
pub fn check_version(step: Step, version: Version) -> Result<(), TransportError> {
    if version == Version::HTTP_10 {
        let words = "the server answers in HTTP/1.0 where HTTP/1.1 was asked for";
        return Err(TransportError::new(step, ErrorClass::Negotiation, words));
    }
    Ok(())
}

/// The value of the first header called `name`.
pub fn header<'b>(headers: Headers<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    headers
        .iter()
        .find(|h| h.name.eq_ignore_ascii_case(name))
        .map(|h| h.value.trim_ascii())
}

/// The value of the first header called `name`, parsed.
pub fn parsed_header<T: std::str::FromStr>(headers: Headers<'_, '_>, name: &str) -> Option<T> {
    std::str::from_utf8(header(headers, name)?).ok()?.parse().ok()
}

/// A body over `limit` bytes.
pub fn too_large(step: Step, limit: usize) -> TransportError {
    TransportError::new(step, ErrorClass::TooLarge, format_args!("over {limit} bytes"))
}
