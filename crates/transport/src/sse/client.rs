//! Server-sent events, client half.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::StatusCode;
use pushmark_measure::Nanos;

use crate::carrier::{Dialer, Headers, Kept, check_version, header, parsed_header, status_of, too_large};
use crate::compression::{Agreed, Corrupt, coding};
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::Progress;
use crate::host::SessionId;
use crate::http::{SESSION_HEADER, expect_status, named_session, session_path};
use crate::message::{Kind, Message};
use crate::seam::{Connected, Connector, Inbox, Received, Rx, ServerHalf, Target, Tx};
use crate::sse::parser::{Event, EventSink, Parser, TooLarge};
use crate::sse::writer::{self, BINARY_TYPE, TEXT_TYPE};
use crate::sse::{LAST_EVENT_ID, SseServer};

const EVENT_STREAM: &str = "text/event-stream";
const REQUEST_HEADERS: &str = "accept: text/event-stream\r\ncache-control: no-store\r\n";
/// Lines up to this length are always read: comments, ids and types do not count as payload.
const LEAST_LINE_BYTES: usize = 64 * 1024;

/// Opens sessions whose messages come as server-sent events.
#[derive(Clone, Default)]
pub struct SseConnector {
    dialer: Dialer,
}

/// The sending half: POSTs over a connection of its own, or beside the stream where one connection can carry both.
pub struct SseTx {
    /// `None` when the session only receives.
    up: Option<(Kept, String)>,
    down: Rc<RefCell<Down>>,
}

/// The receiving half. After [`Tx::close`] it returns 0: an event stream has no closing handshake, so a session that its
/// client closes ends there and then, and what was on its way is lost.
pub struct SseRx(Rc<RefCell<Down>>);

/// The way down, shared so that the sending half can close it.
struct Down {
    state: State,
    /// Who waits for messages.
    waker: Option<Waker>,
    /// What the stream had said when it ended.
    said: Said,
}

/// What a stream has said beside its messages, which outlives it.
#[derive(Clone, Debug, Default)]
struct Said {
    last_heard: Nanos,
    /// The last event ID string; empty where there is none.
    last_event_id: String,
    /// The stream gave ids itself.
    has_ids: bool,
    retry: Option<Duration>,
}

enum State {
    Open(Box<Stream>),
    Ended(Result<(), TransportError>),
}

struct Stream {
    connection: Kept,
    parser: Parser,
    /// Where the stream is compressed.
    gzip: Option<Box<coding::Reader>>,
    /// A decoded payload.
    decoded: Vec<u8>,
    max_message_bytes: usize,
    retry: Option<Duration>,
}

impl Connector for SseConnector {
    type Tx = SseTx;
    type Rx = SseRx;

    async fn connect(&self, target: &Target) -> Result<Connected<SseTx, SseRx>, TransportError> {
        let mut dialed = self.dialer.requests(target).await?;
        let opened = tokio::time::timeout(target.open_deadline, open(&mut dialed.made, target)).await;
        let (parser, session, compressed) =
            opened.map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??;
        let up = if target.sends {
            let path = session_path(SseServer::PATH, named_session(session)?);
            let lease = dialed.made.lease();
            let beside = self.dialer.beside(lease.as_ref(), target).await?;
            Some((dialed.with(beside)?, path))
        } else {
            None
        };
        dialed.negotiated.compression = compressed;
        let (times, negotiated) = (dialed.usable_now(), dialed.negotiated);
        let stream = Stream {
            gzip: compressed.map(|_| Box::new(coding::Reader::new())),
            connection: dialed.made,
            parser,
            decoded: Vec::new(),
            max_message_bytes: target.max_message_bytes,
            retry: None,
        };
        let down = Rc::new(RefCell::new(Down {
            state: State::Open(Box::new(stream)),
            waker: None,
            said: Said::default(),
        }));
        Ok(Connected {
            tx: SseTx {
                up,
                down: down.clone(),
            },
            rx: SseRx(down),
            times,
            negotiated,
        })
    }
}

/// What is read of the answer's headers.
struct Taken {
    media_type: Vec<u8>,
    coding: Option<Vec<u8>>,
    session: Option<SessionId>,
}

type Opened = (Parser, Option<SessionId>, Option<Agreed>);

async fn open(connection: &mut Kept, target: &Target) -> Result<Opened, TransportError> {
    let compressed = target.carriage.compression.is_some();
    let accept = coding::accept_line(compressed);
    let last_event_id = target.resume.as_deref().unwrap_or_default();
    if last_event_id.bytes().any(|b| b.is_ascii_control()) {
        let words = "a last event id with a control character cannot stand in a header";
        return Err(TransportError::new(Step::Open, ErrorClass::Protocol, words));
    }
    let headers = match last_event_id {
        "" => format!("{REQUEST_HEADERS}{accept}"),
        id => format!("{REQUEST_HEADERS}{accept}{LAST_EVENT_ID}: {id}\r\n"),
    };
    let request = ("GET", SseServer::PATH, headers.as_str(), &b""[..]);
    let take = |headers: Headers<'_, '_>| Taken {
        media_type: header(headers, "content-type").unwrap_or_default().to_vec(),
        coding: header(headers, "content-encoding").map(<[u8]>::to_vec),
        session: parsed_header(headers, SESSION_HEADER),
    };
    let head = connection.ask(Step::Open, request, take).await?;
    expect_status(Step::Open, status_of(Step::Open, head.status)?, StatusCode::OK)?;
    check_version(Step::Open, head.version)?;
    let Taken {
        media_type,
        coding,
        session,
    } = head.taken;
    if !is_event_stream(&media_type) {
        let words = format!(
            "the content type is {:?} where {EVENT_STREAM} was needed",
            String::from_utf8_lossy(&media_type)
        );
        return Err(TransportError::new(Step::Open, ErrorClass::Protocol, words));
    }
    let compressed = coding::agreed(Step::Open, compressed, coding.as_deref())?;
    let parser = Parser::resuming(
        writer::encoded_bytes(target.max_message_bytes).max(LEAST_LINE_BYTES),
        last_event_id,
    );
    Ok((parser, session, compressed))
}

/// Whether a content type's essence is that of an event stream (WHATWG HTML, section 9.2.3).
fn is_event_stream(media_type: &[u8]) -> bool {
    let essence = media_type.split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
}

impl Tx for SseTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        let closed = |words| Err(TransportError::new(Step::Send, ErrorClass::Closed, words));
        if matches!(self.down.borrow().state, State::Ended(_)) {
            return closed("the session is closed");
        }
        match &mut self.up {
            Some((connection, path)) => connection.post(path, message).await,
            None => closed("the session was opened to receive only"),
        }
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.down.borrow_mut().end();
        Ok(())
    }
}

impl Down {
    /// Closes the connection from this side.
    fn end(&mut self) {
        if matches!(self.state, State::Open(_)) {
            self.end_as(Ok(()));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The stream is over; what it has said stays.
    fn end_as(&mut self, how: Result<(), TransportError>) {
        self.said = self.said();
        self.state = State::Ended(how);
    }

    fn said(&self) -> Said {
        match &self.state {
            State::Open(stream) => Said {
                last_heard: stream.connection.exchange.last_read().at,
                last_event_id: stream.parser.last_event_id().to_owned(),
                has_ids: stream.parser.has_ids(),
                retry: stream.retry,
            },
            State::Ended(_) => self.said.clone(),
        }
    }

    fn poll<I: Inbox>(&mut self, inbox: &mut I, cx: &mut Context<'_>) -> Poll<Result<usize, TransportError>> {
        let stream = match &mut self.state {
            State::Open(stream) => stream,
            State::Ended(how) => return Poll::Ready(how.clone().map(|()| 0)),
        };
        let (count, end) = stream.poll(inbox, cx);
        if let Some(how) = end {
            self.end_as(how.clone());
            // What came before the end is told first; the end is told by the next call.
            return Poll::Ready(if count > 0 { Ok(count) } else { how.map(|()| 0) });
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Stream {
    /// Delivers all that this wake-up brought; gives how many messages, and how the stream ended if it did.
    fn poll<I: Inbox>(
        &mut self,
        inbox: &mut I,
        cx: &mut Context<'_>,
    ) -> (usize, Option<Result<(), TransportError>>) {
        let mut delivery = Delivery {
            inbox,
            received: Received::default(),
            count: 0,
            payload_bytes: 0,
            decoded: &mut self.decoded,
            max_message_bytes: self.max_message_bytes,
            failed: None,
            retry: &mut self.retry,
        };
        let (exchange, parser) = (&mut self.connection.exchange, &mut self.parser);
        let (gzip, most) = (&mut self.gzip, writer::encoded_bytes(self.max_message_bytes));
        let end = loop {
            let (mut fed, mut corrupt) = (Ok(()), Ok(()));
            let progress = exchange.poll_body(Step::Receive, cx, |received, bytes| {
                delivery.received = received;
                if fed.is_err() || corrupt.is_err() || delivery.failed.is_some() {
                    return;
                }
                match gzip {
                    None => fed = parser.feed(bytes, &mut delivery),
                    Some(gzip) => {
                        (fed, corrupt) = inflate(gzip, bytes, most, parser, &mut delivery);
                    }
                }
            });
            if let Some(e) = delivery.failed.take() {
                break Some(Err(e));
            }
            if let Err(e) = fed {
                break Some(Err(TransportError::new(Step::Receive, ErrorClass::TooLarge, e)));
            }
            if let Err(e) = corrupt {
                break Some(Err(e.into_error()));
            }
            match progress {
                Poll::Pending => break None,
                Poll::Ready(Ok(Progress::More)) => {}
                Poll::Ready(Ok(Progress::Done)) if gzip.as_ref().is_some_and(|g| !g.has_ended()) => {
                    let words = "the body ended before the compressed stream in it";
                    break Some(Err(TransportError::new(
                        Step::Receive,
                        ErrorClass::EndedEarly,
                        words,
                    )));
                }
                Poll::Ready(Ok(Progress::Done)) => break Some(Ok(())),
                Poll::Ready(Err(e)) => break Some(Err(e)),
            }
        };
        (delivery.count, end)
    }
}

/// Inflates what one read brought and parses it. Of what makes no message (comments, say) no more is inflated than the largest
/// message may have twice: a few bytes must not keep a client busy.
fn inflate<I: Inbox>(
    gzip: &mut coding::Reader,
    bytes: &[u8],
    most: usize,
    parser: &mut Parser,
    delivery: &mut Delivery<'_, I>,
) -> (Result<(), TooLarge>, Result<(), Corrupt>) {
    let most = most.max(LEAST_LINE_BYTES).saturating_mul(2);
    let (mut fed, mut over) = (Ok(()), false);
    let (mut count, mut idle, before) = (delivery.count, 0, delivery.payload_bytes);
    let corrupt = gzip.feed(bytes, |piece| {
        fed = parser.feed(piece, delivery);
        idle = if delivery.count == std::mem::replace(&mut count, delivery.count) {
            idle + piece.len()
        } else {
            0
        };
        over = idle > most;
        fed.is_ok() && delivery.failed.is_none() && !over
    });
    let payload_bytes = delivery.payload_bytes - before;
    delivery
        .inbox
        .inflated(delivery.received, payload_bytes, bytes.len());
    let over = if over {
        Err(Corrupt::TooLarge(most))
    } else {
        Ok(())
    };
    (fed, corrupt.and(over))
}

/// Hands events on as messages.
struct Delivery<'a, I> {
    inbox: &'a mut I,
    received: Received,
    count: usize,
    payload_bytes: usize,
    decoded: &'a mut Vec<u8>,
    max_message_bytes: usize,
    /// Nothing is delivered after the first failure.
    failed: Option<TransportError>,
    retry: &'a mut Option<Duration>,
}

/// The message that an event carries; `decoded` holds it when it was coded.
fn message<'a>(event: Event<'a>, decoded: &'a mut Vec<u8>) -> Result<(Kind, &'a [u8]), TransportError> {
    let kind = match event.event_type {
        BINARY_TYPE => Kind::Binary,
        TEXT_TYPE => Kind::Text,
        // Whatever a foreign server calls its events.
        _ => return Ok((Kind::Text, event.data.as_bytes())),
    };
    let protocol = |e: &dyn std::fmt::Display| TransportError::new(Step::Receive, ErrorClass::Protocol, e);
    writer::decode(event.data, decoded).map_err(|e| protocol(&e))?;
    if kind == Kind::Text {
        std::str::from_utf8(decoded).map_err(|e| protocol(&e))?;
    }
    Ok((kind, decoded))
}

impl<I: Inbox> EventSink for Delivery<'_, I> {
    fn event(&mut self, event: Event<'_>) {
        if self.failed.is_some() {
            return;
        }
        match message(event, self.decoded) {
            Ok((_, payload)) if payload.len() > self.max_message_bytes => {
                self.failed = Some(too_large(Step::Receive, self.max_message_bytes));
            }
            Ok((kind, payload)) => {
                self.inbox.deliver(self.received, kind, payload);
                self.count += 1;
                self.payload_bytes += payload.len();
            }
            Err(e) => self.failed = Some(e),
        }
    }

    fn retry(&mut self, milliseconds: u64) {
        *self.retry = Some(Duration::from_millis(milliseconds));
    }
}

impl Rx for SseRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| self.0.borrow_mut().poll(inbox, cx)).await
    }

    fn last_heard(&self) -> Nanos {
        let down = self.0.borrow();
        match &down.state {
            State::Open(stream) => stream.connection.exchange.last_read().at,
            State::Ended(_) => down.said.last_heard,
        }
    }

    /// The value of `Last-Event-ID`: the last event ID string, which a stream may also have set to nothing. Where the stream
    /// gave no ids, the number of the last message, for servers that number them from zero.
    fn resume_token(&self, seen: Option<u64>) -> Option<String> {
        let said = self.0.borrow().said();
        let id = Some(said.last_event_id).filter(|id| !id.is_empty());
        if said.has_ids {
            return id;
        }
        seen.map(|seen| seen.to_string()).or(id)
    }

    fn retry(&self) -> Option<Duration> {
        self.0.borrow().said().retry
    }
}

impl Drop for SseRx {
    fn drop(&mut self) {
        self.0.borrow_mut().end();
    }
}
