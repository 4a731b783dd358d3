//! Long polling, client half.

use std::cell::Cell;
use std::fmt::Write;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use pushmark_measure::Nanos;

use crate::carrier::h2::Lease;
use crate::carrier::{
    Dialer, Headers, Kept, MOST_PLAIN_BYTES, check_version, header, parsed_header, status_of, too_large,
};
use crate::compression::{Corrupt, coding};
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::Progress;
use crate::host::SessionId;
use crate::http::{SESSION_HEADER, expect_status, named_session, resume_path, session_path};
use crate::long_poll::record::{self, BadRecord, HEADER_BYTES};
use crate::long_poll::{CURSOR_HEADER, LongPollServer, MOST_ANSWER_BYTES};
use crate::message::Message;
use crate::seam::{Connected, Connector, Inbox, Received, Rx, ServerHalf, Target, Tx};

/// Room that an answer's buffer keeps for the next answer, in bytes.
const KEPT_ROOM_BYTES: usize = 1024;

/// Opens sessions that poll.
#[derive(Clone, Default)]
pub struct LongPollConnector {
    dialer: Dialer,
}

/// The sending half: POSTs over a connection of its own. [`Tx::close`] sends DELETE over it, or over one made for the
/// purpose when the session only receives, and waits for the answer no longer than the open deadline: a request on a
/// connection that is closed at once may never be looked at.
pub struct LongPollTx {
    /// `None` when the session only receives.
    connection: Option<Kept>,
    path: String,
    target: Target,
    dialer: Dialer,
    /// The connection of the polls, where others may share it.
    lease: Option<Lease>,
    closed: Rc<Cell<bool>>,
}

/// The receiving half. The next poll is sent before the messages of the last answer are delivered, and waits here, not
/// in a future that the caller may drop.
pub struct LongPollRx {
    connection: Kept,
    /// Path and query of a poll; its cursor's digits are written anew for each.
    path: String,
    prefix_bytes: usize,
    /// The cursor of the answer whose body is being read.
    answering: Option<u64>,
    /// That body so far, and when its last bytes were read.
    body: Vec<u8>,
    /// It is compressed, as all answers with messages are.
    compressed: bool,
    /// The same inflated.
    inflated: Vec<u8>,
    received: Received,
    max_message_bytes: usize,
    /// The sending half has closed the session: a poll that the server sees after that finds none.
    closed: Rc<Cell<bool>>,
    end: Option<Result<(), TransportError>>,
}

impl Connector for LongPollConnector {
    type Tx = LongPollTx;
    type Rx = LongPollRx;

    async fn connect(&self, target: &Target) -> Result<Connected<LongPollTx, LongPollRx>, TransportError> {
        let mut dialed = self.dialer.requests(target).await?;
        let take = |headers: Headers<'_, '_>| {
            (
                answer_of(headers),
                parsed_header::<SessionId>(headers, SESSION_HEADER),
            )
        };
        let compressed = target.carriage.compression.is_some();
        let opening = resume_path(LongPollServer::PATH, target.resume.as_deref())?;
        let accept = accept_line(compressed);
        let request = ("GET", opening.as_str(), accept, &b""[..]);
        let exchange = dialed.made.exchange(Step::Open, request, MOST_PLAIN_BYTES, take);
        let (head, _) = tokio::time::timeout(target.open_deadline, exchange)
            .await
            .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??;
        expect_status(Step::Open, status_of(Step::Open, head.status)?, StatusCode::OK)?;
        check_version(Step::Open, head.version)?;
        let (answer, session) = head.taken;
        let agreed = coding::agreed(Step::Open, compressed, answer.coding.as_deref())?;
        dialed.negotiated.compression = agreed;
        let cursor = answer.cursor.ok_or_else(|| no_cursor(Step::Open))?;
        let session = session_path(LongPollServer::PATH, named_session(session)?);
        let path = format!("{session}&cursor=");
        let (connection, mut dialed) = dialed.apart();
        let lease = connection.lease();
        let closed = Rc::new(Cell::new(false));
        let mut rx = LongPollRx {
            connection,
            prefix_bytes: path.len(),
            path,
            answering: None,
            body: Vec::new(),
            compressed,
            inflated: Vec::new(),
            received: Received::default(),
            max_message_bytes: target.max_message_bytes,
            closed: closed.clone(),
            end: None,
        };
        // In flight before anybody waits for it.
        poll_fn(|cx| Poll::Ready(rx.poll_at(Step::Open, cursor, cx))).await?;
        if lease.is_some() {
            // The task of a connection that others share writes it.
            tokio::task::yield_now().await;
        }
        let up = match target.sends {
            true => Some(dialed.with(self.dialer.beside(lease.as_ref(), target).await?)?),
            false => None,
        };
        let (times, negotiated) = (dialed.usable_now(), dialed.negotiated);
        let tx = LongPollTx {
            connection: up,
            path: session,
            target: target.clone(),
            dialer: self.dialer.clone(),
            lease,
            closed,
        };
        Ok(Connected {
            tx,
            rx,
            times,
            negotiated,
        })
    }
}

/// Who asks for nothing gets answers as they are.
fn accept_line(compressed: bool) -> &'static str {
    if compressed { coding::accept_line(true) } else { "" }
}

/// What is read of an answer's headers.
struct Answer {
    cursor: Option<u64>,
    coding: Option<Vec<u8>>,
}

fn answer_of(headers: Headers<'_, '_>) -> Answer {
    Answer {
        cursor: parsed_header(headers, CURSOR_HEADER),
        coding: header(headers, "content-encoding").map(<[u8]>::to_vec),
    }
}

fn no_cursor(step: Step) -> TransportError {
    let words = format_args!("the answer has no number in its {CURSOR_HEADER} header");
    TransportError::new(step, ErrorClass::Protocol, words)
}

impl Tx for LongPollTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        let closed = |words| Err(TransportError::new(Step::Send, ErrorClass::Closed, words));
        match &mut self.connection {
            _ if self.closed.get() => closed("the session is closed"),
            Some(connection) => connection.post(&self.path, message).await,
            None => closed("the session was opened to receive only"),
        }
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        if self.closed.replace(true) {
            let words = "the session is closed";
            return Err(TransportError::new(Step::Close, ErrorClass::Closed, words));
        }
        let deadline = self.target.open_deadline;
        tokio::time::timeout(deadline, self.delete())
            .await
            .map_err(|_| TransportError::timed_out(Step::Close, deadline))?
    }
}

impl LongPollTx {
    async fn delete(&mut self) -> Result<(), TransportError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialer.beside(self.lease.as_ref(), &self.target).await?.made,
        };
        let request = ("DELETE", self.path.as_str(), "", &b""[..]);
        let (head, _) = connection
            .exchange(Step::Close, request, MOST_PLAIN_BYTES, |_| ())
            .await?;
        let status = status_of(Step::Close, head.status)?;
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            let words = "the server had ended the session already";
            return Err(TransportError::new(Step::Close, ErrorClass::Closed, words));
        }
        expect_status(Step::Close, status, StatusCode::NO_CONTENT)
    }
}

impl Rx for LongPollRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| self.poll(inbox, cx)).await
    }

    fn last_heard(&self) -> Nanos {
        self.connection.exchange.last_read().at
    }
}

impl LongPollRx {
    /// Puts the poll that confirms all below `cursor` in flight, as far as the socket takes it.
    fn poll_at(&mut self, step: Step, cursor: u64, cx: &mut Context<'_>) -> Result<(), TransportError> {
        if self.connection.exchange.is_closing() {
            let words = "the server had closed the connection after its last answer";
            return Err(TransportError::new(step, ErrorClass::EndedEarly, words));
        }
        self.path.truncate(self.prefix_bytes);
        let _ = write!(self.path, "{cursor}");
        let accept = accept_line(self.compressed);
        self.connection.queue(step, ("GET", &self.path, accept, &[]))?;
        match self.connection.exchange.poll_flush(step, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn poll<I: Inbox>(&mut self, inbox: &mut I, cx: &mut Context<'_>) -> Poll<Result<usize, TransportError>> {
        loop {
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone().map(|()| 0));
            }
            let cursor = match ready!(self.poll_answer(cx)) {
                Ok(Some(cursor)) => cursor,
                Ok(None) => {
                    self.end = Some(Ok(()));
                    continue;
                }
                Err(e) => {
                    self.end = Some(Err(e));
                    continue;
                }
            };
            let next = self.poll_at(Step::Receive, cursor, cx);
            let (mut count, mut payload_bytes) = (0, 0);
            let mut rest = if self.compressed {
                if let Err(e) = self.inflate() {
                    self.end = Some(Err(e));
                    continue;
                }
                &self.inflated[..]
            } else {
                &self.body[..]
            };
            let read = loop {
                match record::take(&mut rest, self.max_message_bytes) {
                    None => break Ok(()),
                    Some(Err(e)) => break Err(class_of(e)),
                    Some(Ok((kind, payload))) => {
                        inbox.deliver(self.received, kind, payload);
                        count += 1;
                        payload_bytes += payload.len();
                    }
                }
            };
            if self.compressed {
                inbox.inflated(self.received, payload_bytes, self.body.len());
                self.inflated.clear();
                self.inflated.shrink_to(KEPT_ROOM_BYTES);
            }
            self.body.clear();
            self.body.shrink_to(KEPT_ROOM_BYTES);
            // What came before a failure is told first.
            self.end = read.and(next).err().map(Err);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn most_body_bytes(&self) -> usize {
        MOST_ANSWER_BYTES.max(self.max_message_bytes.saturating_add(HEADER_BYTES))
    }

    /// Inflates `body`, no further than one that is not compressed may be long.
    fn inflate(&mut self) -> Result<(), TransportError> {
        self.inflated.clear();
        if self.body.is_empty() {
            // An answer that there is nothing.
            return Ok(());
        }
        coding::inflate(&self.body, self.most_body_bytes(), &mut self.inflated).map_err(Corrupt::into_error)
    }

    /// Reads the answer to the poll in flight into `body`; gives the cursor that confirms it, or `None` when the session has
    /// ended.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, TransportError>> {
        const STEP: Step = Step::Receive;
        let mut limit = self.most_body_bytes();
        if self.compressed {
            // What does not compress grows by five bytes in some thousands.
            limit += limit / 1_000 + 64;
        }
        let exchange = &mut self.connection.exchange;
        ready!(exchange.poll_flush(STEP, cx))?;
        if self.answering.is_none() {
            let (head, received) = ready!(exchange.poll_head(STEP, cx, answer_of))?;
            self.received = received;
            let Answer { cursor, coding } = head.taken;
            match status_of(STEP, head.status)? {
                StatusCode::GONE => return Poll::Ready(Ok(None)),
                StatusCode::NOT_FOUND if self.closed.get() => return Poll::Ready(Ok(None)),
                StatusCode::NO_CONTENT => {}
                status => {
                    expect_status(STEP, status, StatusCode::OK)?;
                    coding::agreed(STEP, self.compressed, coding.as_deref())?;
                }
            }
            self.answering = Some(cursor.ok_or_else(|| no_cursor(STEP))?);
        }
        loop {
            let (body, received) = (&mut self.body, &mut self.received);
            let progress = ready!(exchange.poll_body(STEP, cx, |at, bytes| {
                // The last read counts; the head and the body of a small answer come in one.
                *received = at;
                // One byte over the limit is enough to tell.
                body.extend_from_slice(&bytes[..bytes.len().min(limit + 1 - body.len())]);
            }))?;
            if self.body.len() > limit {
                return Poll::Ready(Err(too_large(STEP, limit)));
            }
            if progress == Progress::Done {
                return Poll::Ready(Ok(self.answering.take()));
            }
        }
    }
}

fn class_of(e: BadRecord) -> TransportError {
    let class = match e {
        BadRecord::TooLarge(_) => ErrorClass::TooLarge,
        _ => ErrorClass::Protocol,
    };
    TransportError::new(Step::Receive, class, e)
}
