//! Long polling, client half.

use std::fmt::Write;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use pushmark_measure::clock;

use crate::driven::{Driven, too_large};
use crate::error::{ErrorClass, Step, TransportError};
use crate::http::{expect_status, session_of, session_uri};
use crate::long_poll::record::{self, BadRecord, HEADER_BYTES};
use crate::long_poll::{CURSOR_HEADER, LongPollServer, MOST_ANSWER_BYTES};
use crate::message::Message;
use crate::seam::{ConnectTimes, Connected, Connector, Inbox, Rx, ServerHalf, Target, Tx};
use crate::tcp;

/// Most bytes of an answer that carries no message.
const MOST_PLAIN_BYTES: usize = 64 * 1024;

/// Opens sessions that poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct LongPollConnector;

/// The sending half: POSTs over a connection of its own. [`Tx::close`] sends DELETE over it, or over one made for the
/// purpose when the session only receives, and waits for the answer no longer than the open deadline: a request on a
/// connection that is closed at once may never be looked at.
pub struct LongPollTx {
    /// `None` when the session only receives.
    connection: Option<Driven>,
    uri: Uri,
    target: Target,
    closed: bool,
}

/// The receiving half. The next poll is sent before the messages of the last answer are delivered, and waits here, not
/// in a future that the caller may drop.
pub struct LongPollRx {
    connection: Driven,
    /// Path and query of a poll, up to the cursor's digits.
    prefix: String,
    /// A poll that the connection has not taken yet.
    unsent: Option<Request<Full<Bytes>>>,
    answer: Option<Answer>,
    max_message_bytes: usize,
    end: Option<Result<(), TransportError>>,
}

/// An answer whose body is being read.
struct Answer {
    cursor: u64,
    body: Incoming,
    /// The first piece, mostly the only one: not copied.
    first: Bytes,
    /// All pieces, once there are more.
    whole: BytesMut,
}

impl Connector for LongPollConnector {
    type Tx = LongPollTx;
    type Rx = LongPollRx;

    async fn connect(&self, target: &Target) -> Result<Connected<LongPollTx, LongPollRx>, TransportError> {
        let started = clock::now();
        let stream = tcp::connect(target).await?;
        let tcp_connected = clock::now();
        let mut connection = Driven::over(stream, target).await?;
        let request = connection.request(Method::GET, Uri::from_static(LongPollServer::PATH), Bytes::new());
        let exchange = connection.exchange(Step::Open, request, MOST_PLAIN_BYTES);
        let (head, _) = tokio::time::timeout(target.open_deadline, exchange)
            .await
            .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??;
        expect_status(Step::Open, head.status, StatusCode::OK)?;
        let cursor = cursor_of(Step::Open, &head.headers)?;
        let session = session_of(&head.headers)?;
        let uri = session_uri(LongPollServer::PATH, session)?;
        let mut rx = LongPollRx {
            connection,
            prefix: format!("{uri}&cursor="),
            unsent: None,
            answer: None,
            max_message_bytes: target.max_message_bytes,
            end: None,
        };
        // In flight before anybody waits for it.
        rx.poll_at(cursor)?;
        poll_fn(|cx| Poll::Ready(rx.send(Step::Open, cx))).await?;
        let up = match target.sends {
            true => Some(Driven::over(tcp::connect(target).await?, target).await?),
            false => None,
        };
        let times = ConnectTimes {
            started,
            tcp_connected,
            usable: clock::now(),
        };
        let tx = LongPollTx {
            connection: up,
            uri,
            target: target.clone(),
            closed: false,
        };
        Ok(Connected { tx, rx, times })
    }
}

fn cursor_of(step: Step, headers: &HeaderMap) -> Result<u64, TransportError> {
    let cursor = headers
        .get(CURSOR_HEADER)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    cursor.ok_or_else(|| {
        TransportError::new(
            step,
            ErrorClass::Protocol,
            format_args!("the answer has no number in its {CURSOR_HEADER} header"),
        )
    })
}

impl Tx for LongPollTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        let closed = |words| Err(TransportError::new(Step::Send, ErrorClass::Closed, words));
        match &mut self.connection {
            _ if self.closed => closed("the session is closed"),
            Some(connection) => connection.post(self.uri.clone(), message).await,
            None => closed("the session was opened to receive only"),
        }
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        if std::mem::replace(&mut self.closed, true) {
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
            None => Driven::over(tcp::connect(&self.target).await?, &self.target).await?,
        };
        let request = connection.request(Method::DELETE, self.uri.clone(), Bytes::new());
        let (head, _) = connection
            .exchange(Step::Close, request, MOST_PLAIN_BYTES)
            .await?;
        if matches!(head.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            let words = "the server had ended the session already";
            return Err(TransportError::new(Step::Close, ErrorClass::Closed, words));
        }
        expect_status(Step::Close, head.status, StatusCode::NO_CONTENT)
    }
}

impl Rx for LongPollRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| self.poll(inbox, cx)).await
    }
}

impl LongPollRx {
    /// Prepares the poll that confirms all below `cursor`.
    fn poll_at(&mut self, cursor: u64) -> Result<(), TransportError> {
        const MOST_DIGITS: usize = 20;
        let mut path = String::with_capacity(self.prefix.len() + MOST_DIGITS);
        path.push_str(&self.prefix);
        let _ = write!(path, "{cursor}");
        let path = PathAndQuery::from_maybe_shared(Bytes::from(path))
            .map_err(|e| TransportError::new(Step::Receive, ErrorClass::Other, e))?;
        self.unsent = Some(
            self.connection
                .request(Method::GET, Uri::from(path), Bytes::new()),
        );
        Ok(())
    }

    /// Puts the next poll in flight if the connection is free for it.
    fn send(&mut self, step: Step, cx: &mut Context<'_>) -> Result<(), TransportError> {
        match self.unsent {
            Some(_) => match self.connection.poll_send(step, &mut self.unsent, cx) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn poll<I: Inbox>(&mut self, inbox: &mut I, cx: &mut Context<'_>) -> Poll<Result<usize, TransportError>> {
        loop {
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone().map(|()| 0));
            }
            let (body, cursor) = match ready!(self.poll_answer(cx)) {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    self.end = Some(Ok(()));
                    continue;
                }
                Err(e) => {
                    self.end = Some(Err(e));
                    continue;
                }
            };
            let received = self.connection.last_read();
            let next = self.poll_at(cursor).and_then(|()| self.send(Step::Receive, cx));
            let mut count = 0;
            let mut rest = &body[..];
            let read = loop {
                match record::take(&mut rest, self.max_message_bytes) {
                    None => break Ok(()),
                    Some(Err(e)) => break Err(class_of(e)),
                    Some(Ok((kind, payload))) => {
                        inbox.deliver(received, kind, payload);
                        count += 1;
                    }
                }
            };
            // What came before a failure is told first.
            self.end = read.and(next).err().map(Err);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// The body of the answer to the poll in flight, and the cursor that confirms it; `None` when the session has ended.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<(Bytes, u64)>, TransportError>> {
        const STEP: Step = Step::Receive;
        if self.unsent.is_some() {
            ready!(self.connection.poll_send(STEP, &mut self.unsent, cx))?;
        }
        let answer = match &mut self.answer {
            Some(answer) => answer,
            none => {
                let (head, body) = ready!(self.connection.poll_head(STEP, cx))?.into_parts();
                match head.status {
                    StatusCode::GONE => return Poll::Ready(Ok(None)),
                    StatusCode::NO_CONTENT => {}
                    status => expect_status(STEP, status, StatusCode::OK)?,
                }
                none.insert(Answer {
                    cursor: cursor_of(STEP, &head.headers)?,
                    body,
                    first: Bytes::new(),
                    whole: BytesMut::new(),
                })
            }
        };
        let limit = MOST_ANSWER_BYTES.max(self.max_message_bytes.saturating_add(HEADER_BYTES));
        while let Some(data) = ready!(self.connection.poll_data(STEP, &mut answer.body, cx)) {
            answer.append(data?, limit)?;
        }
        Poll::Ready(Ok(self.answer.take().map(Answer::whole)))
    }
}

impl Answer {
    fn append(&mut self, data: Bytes, limit: usize) -> Result<(), TransportError> {
        let len = self.first.len().max(self.whole.len());
        if data.len() > limit - len {
            return Err(too_large(Step::Receive, limit));
        }
        if len == 0 {
            self.first = data;
            return Ok(());
        }
        if self.whole.is_empty() {
            self.whole.extend_from_slice(&self.first);
        }
        self.whole.extend_from_slice(&data);
        Ok(())
    }

    /// The body and the cursor that confirms it.
    fn whole(self) -> (Bytes, u64) {
        let body = if self.whole.is_empty() {
            self.first
        } else {
            self.whole.freeze()
        };
        (body, self.cursor)
    }
}

fn class_of(e: BadRecord) -> TransportError {
    let class = match e {
        BadRecord::TooLarge(_) => ErrorClass::TooLarge,
        _ => ErrorClass::Protocol,
    };
    TransportError::new(Step::Receive, class, e)
}
