//! Long polling, server half.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Uri};

use crate::body::ServerBody;
use crate::compression::deflate::Compressor;
use crate::compression::shared::{self, Deflated, Form};
use crate::compression::{Compression, coding};
use crate::connection::Connection;
use crate::host::{CloseReason, Host, Session, SessionId};
use crate::http::{
    BINARY, RESUME, asks_for_gzip, query, receive_post, refusal, resume_point, session_header, status,
};
use crate::long_poll::{CURSOR_HEADER, MOST_ANSWER_BYTES, presence, record};
use crate::message::Message;
use crate::outbox::{Batch, Outgoing, Peeked};
use crate::registry::row_of_path;
use crate::seam::{ServerHalf, ServerRequest, ServerResponse};

const CURSOR: HeaderName = HeaderName::from_static(CURSOR_HEADER);

/// Answers polls.
pub struct LongPollServer;

impl ServerHalf for LongPollServer {
    const PATH: &'static str = "/long-poll";

    fn encode(message: &Message, _id: Option<u64>) -> Bytes {
        record::encode(message)
    }

    async fn respond<H: Host>(request: ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
        match *request.method() {
            Method::GET if opens(request.uri()) => open(&request, host),
            Method::GET => {
                let asked = Asked::of(request.uri());
                let connection = Connection::of(&request);
                let compression = compression(request.headers(), &**host);
                // The request shares the connection's read buffer: kept while the poll waits, it would cost a second one.
                drop(request);
                poll(asked, &connection, host, compression).await
            }
            Method::POST => receive_post(request, host).await,
            Method::DELETE => close(Asked::of(request.uri()), host),
            _ => {
                let mut response = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "GET polls, POST takes a message, DELETE ends the session",
                );
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
                response
            }
        }
    }
}

/// A GET that names no session asks for a new one, from its start or from where an earlier one ended.
fn opens(uri: &Uri) -> bool {
    uri.query().is_none() || (query(uri, "session").is_none() && query(uri, RESUME).is_some())
}

fn open<H: Host>(request: &ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
    let resume = match resume_point(request.uri()) {
        Ok(resume) => resume,
        Err(words) => return refusal(StatusCode::BAD_REQUEST, words),
    };
    let Some(session) = host.open::<LongPollServer>(&Connection::of(request), resume) else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server takes no more sessions",
        );
    };
    let mut response = status(StatusCode::OK);
    session_header(response.headers_mut(), session.id);
    response.headers_mut().insert(CURSOR, HeaderValue::from(0));
    if let Some(compression) = compression(request.headers(), &**host) {
        // There is nothing to say yet, and how it will be said is shown by that.
        set_body(&mut response, &[], Some(compression));
    }
    session.presence.leave();
    tokio::task::spawn_local(presence::watch(session, host.clone()));
    response
}

/// What a query asks for.
#[derive(Clone, Copy)]
struct Asked {
    session: Option<SessionId>,
    cursor: Option<u64>,
}

impl Asked {
    fn of(uri: &Uri) -> Self {
        Self {
            session: query(uri, "session").and_then(|id| id.parse().ok()),
            cursor: query(uri, "cursor").and_then(|cursor| cursor.parse().ok()),
        }
    }

    /// The session of polls that it names.
    fn session<H: Host>(self, host: &Arc<H>) -> Result<Arc<Session>, Box<ServerResponse<H>>> {
        self.session
            .and_then(|id| host.find(id))
            .filter(|session| session.transport == row_of_path(LongPollServer::PATH))
            .ok_or_else(|| Box::new(refusal(StatusCode::NOT_FOUND, "no such session, or it has ended")))
    }
}

fn close<H: Host>(asked: Asked, host: &Arc<H>) -> ServerResponse<H> {
    match asked.session(host) {
        Ok(session) => {
            presence::end(&session, &**host, CloseReason::Client);
            status(StatusCode::NO_CONTENT)
        }
        Err(refusal) => *refusal,
    }
}

/// What a poll found.
enum Found {
    Batch(Batch),
    Nothing,
    Ended,
    Superseded,
}

async fn poll<H: Host>(
    asked: Asked,
    connection: &Connection,
    host: &Arc<H>,
    compression: Option<Compression>,
) -> ServerResponse<H> {
    let session = match asked.session(host) {
        Ok(session) => session,
        Err(refusal) => return *refusal,
    };
    let Some(cursor) = asked.cursor else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "the query must have a cursor: a number, 0 at first",
        );
    };
    session.hear();
    let present = presence::arrive(&session, connection, &**host);
    let found = wait(&session, cursor, &**host).await;
    present.answered();
    match found {
        Found::Batch(batch) => {
            let given_before = batch.messages.len() - batch.fresh;
            for outgoing in &batch.messages[given_before..] {
                host.written(&session, outgoing.sent);
            }
            let mut response = status(StatusCode::OK);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(BINARY));
            headers.insert(CURSOR, HeaderValue::from(batch.next));
            set_body(&mut response, &batch.messages, compression);
            response
        }
        Found::Nothing => {
            let mut response = status(StatusCode::NO_CONTENT);
            response.headers_mut().insert(CURSOR, HeaderValue::from(cursor));
            response
        }
        Found::Ended => {
            let overflowed = session.outbox.has_overflowed();
            let reason = if overflowed {
                CloseReason::SlowReader
            } else {
                CloseReason::Server
            };
            presence::end(&session, &**host, reason);
            if overflowed && connection.is_stream() {
                // What was dropped is not told in good order: as where the connection is the session's own, it breaks.
                connection.kill(reason);
                std::future::pending::<()>().await;
            }
            refusal(StatusCode::GONE, "the session has ended")
        }
        Found::Superseded => refusal(StatusCode::CONFLICT, "a newer poll of this session took over"),
    }
}

async fn wait<H: Host>(session: &Session, cursor: u64, host: &H) -> Found {
    let reader = session.outbox.begin_reading();
    let peek = poll_fn(|cx| {
        if session.presence.is_over() {
            return Poll::Ready(Found::Ended);
        }
        let peeked = ready!(session.outbox.poll_peek(reader, cursor, MOST_ANSWER_BYTES, cx));
        Poll::Ready(match peeked {
            Peeked::Batch(batch) => Found::Batch(batch),
            Peeked::Ended => Found::Ended,
            Peeked::Superseded => Found::Superseded,
        })
    });
    tokio::select! {
        biased;
        found = peek => found,
        () = tokio::time::sleep(host.poll_deadline()) => Found::Nothing,
    }
}

/// How a client's answers are compressed that has asked for it.
fn compression<H: Host>(headers: &HeaderMap, host: &H) -> Option<Compression> {
    host.compression().filter(|_| asks_for_gzip(headers))
}

/// Each answer is compressed by itself.
fn set_body<H: Host>(
    response: &mut ServerResponse<H>,
    messages: &[Outgoing],
    compression: Option<Compression>,
) {
    let mut body = joined(messages);
    let gzipped = compression.and_then(|compression| gzipped(messages, &body, &compression));
    if let Some(gzipped) = gzipped {
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding::GZIP));
        body = gzipped;
    }
    *response.body_mut() = ServerBody::whole(body);
}

/// A body in gzip. That of one record is made once for all who get it.
fn gzipped(messages: &[Outgoing], body: &Bytes, compression: &Compression) -> Option<Bytes> {
    let whole = || coding::whole(body, compression).map(Bytes::from);
    if messages.len() != 1 {
        return whole();
    }
    let of = (compression.down.bits, compression.level);
    let make = |_: &mut Compressor| Deflated {
        bytes: whole().unwrap_or_default(),
        crc: None,
    };
    let made = shared::once(Form::Body, of, body, make, |made| made.bytes.clone());
    Some(made).filter(|made| !made.is_empty())
}

/// One body of many records; of one record, that record itself.
fn joined(messages: &[Outgoing]) -> Bytes {
    if let [only] = messages {
        return only.encoded.clone();
    }
    let mut body = BytesMut::with_capacity(messages.iter().map(|m| m.encoded.len()).sum());
    for message in messages {
        body.extend_from_slice(&message.encoded);
    }
    body.freeze()
}
