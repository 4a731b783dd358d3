//! Server-sent events, server half.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{HeaderMap, Method, StatusCode};
use pushmark_measure::Nanos;

use crate::body::{OutboxStream, ServerBody};
use crate::compression::coding;
use crate::connection::Connection;
use crate::host::{CloseReason, Heartbeat, Host, Session};
use crate::http::{SESSION_HEADER, asks_for_gzip, receive_post, refusal, session_header, status};
use crate::message::Message;
use crate::seam::{ServerHalf, ServerRequest, ServerResponse, TcpOptions};
use crate::sse::gzip::Gzipping;
use crate::sse::{LAST_EVENT_ID, chunk, writer};
use crate::takeover::Opening;
use crate::wire::{Wire, poll_drain};

/// Serves event streams and the messages that come up beside them.
pub struct SseServer;

impl ServerHalf for SseServer {
    const PATH: &'static str = "/sse";

    fn encode(message: &Message, id: Option<u64>) -> Bytes {
        chunk::wrap(&writer::encode_with_id(message, id))
    }

    /// A comment: what is sent and not acknowledged makes the kernel look, whose deadline [`take_over`](Self::take_over) has
    /// set.
    fn beat(session: &Session, heartbeat: Heartbeat, now: Nanos) {
        // Nothing may follow the last chunk.
        if now.duration_since(session.last_beat()) >= heartbeat.every && !session.outbox.is_closed() {
            session.beat_at(now);
            session.outbox.push_control(&chunk::wrap(writer::COMMENT));
        }
    }

    async fn take_over<H: Host, W: Wire>(
        opening: Opening,
        mut wire: W,
        host: &Arc<H>,
        connection: &Connection,
    ) -> Result<(), W> {
        if let Some(heartbeat) = host.heartbeat() {
            let options = TcpOptions {
                user_timeout: Some(heartbeat.timeout),
                ..TcpOptions::default()
            };
            wire.set_options(&options);
        }
        // A request that asks for more than a stream goes the usual way, which says what it gets.
        if opening.request.uri().query().is_some() || opening.request.headers().contains_key(UPGRADE) {
            return Err(wire);
        }
        let Ok(resume) = resume_point(opening.request.headers()) else {
            return Err(wire);
        };
        let Some(session) = host.open::<Self>(connection, resume) else {
            return Err(wire);
        };
        let compressed = compress(opening.request.headers(), &session, &**host);
        let taken = opening.take(&mut wire);
        // Its headers would stay for as long as the session.
        drop(opening);
        let reason = match taken {
            Ok(()) => serve(wire, &session, &**host, compressed).await,
            Err(e) => CloseReason::of_io(&e),
        };
        host.closed(&session, reason);
        Ok(())
    }

    async fn respond<H: Host>(request: ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
        match *request.method() {
            Method::GET => open(&request, host),
            Method::POST => receive_post(request, host).await,
            _ => {
                let mut response = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "GET opens a stream, POST takes a message",
                );
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, POST"));
                response
            }
        }
    }
}

fn open<H: Host>(request: &ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
    let resume = match resume_point(request.headers()) {
        Ok(resume) => resume,
        Err(words) => return refusal(StatusCode::BAD_REQUEST, words),
    };
    let Some(session) = host.open::<SseServer>(&Connection::of(request), resume) else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server takes no more sessions",
        );
    };
    let compressed = compress(request.headers(), &session, &**host);
    ask_to_wait(&session, &**host);
    let mut response = status(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding::GZIP));
    }
    session_header(headers, session.id);
    *response.body_mut() = ServerBody::Stream(OutboxStream::new(host.clone(), session, chunk::unwrap));
    response
}

/// The number of the first message that a client has not had, which comes after the one whose id it names (WHATWG HTML,
/// section 9.2.4). A client without one names none, or an empty one.
fn resume_point(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let seen = id.to_str().ok().and_then(|id| id.parse::<u64>().ok());
    seen.and_then(|seen| seen.checked_add(1))
        .map(Some)
        .ok_or("Last-Event-ID must be the id of an event of this server: a number")
}

/// Compresses a stream whose client has asked for it; says whether.
fn compress<H: Host>(headers: &HeaderMap, session: &Session, host: &H) -> bool {
    let Some(compression) = host.compression().filter(|_| asks_for_gzip(headers)) else {
        return false;
    };
    session.outbox.code_with(Gzipping::of(&compression));
    true
}

/// Says at the start of the stream how long the client shall wait before it comes back.
fn ask_to_wait<H: Host>(session: &Session, host: &H) {
    if let Some(retry) = host.retry() {
        session.outbox.push_first(&chunk::wrap(&writer::retry(retry)));
    }
}

/// Serves a stream straight on its wire. Where that is a socket, messages are written by whoever pushes them; this task writes
/// what was not taken at once, and notices the client's end.
async fn serve<H: Host, W: Wire>(
    mut wire: W,
    session: &Arc<Session>,
    host: &H,
    compressed: bool,
) -> CloseReason {
    ask_to_wait(session, host);
    let coding = if compressed {
        "content-encoding: gzip\r\n"
    } else {
        ""
    };
    // The connection ends with the stream: there is nobody to read a further request from it.
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n{SESSION_HEADER}: {}\r\n\
         {coding}connection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        session.id
    );
    wire.begin(&session.outbox, head.as_bytes());
    // It would stay for as long as the session.
    drop(head);
    let mut ending = false;
    let served = poll_fn(|cx| {
        if let Poll::Ready(reason) = poll_client(&mut wire, ending, cx) {
            return Poll::Ready(session.outbox.failure().unwrap_or(reason));
        }
        loop {
            match wire.poll_write_out(&session.outbox, cx, |sent| host.written(session, sent)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => return Poll::Ready(reason),
                Poll::Ready(Ok(())) if session.outbox.has_overflowed() => {
                    return Poll::Ready(CloseReason::SlowReader);
                }
                Poll::Ready(Ok(())) if ending => {
                    return wire.poll_end(cx).map(|()| CloseReason::Server);
                }
                Poll::Ready(Ok(())) => {
                    ending = true;
                    match session.outbox.finish() {
                        Ok(Some(end)) => session.outbox.push_control(&end),
                        Ok(None) => {}
                        Err(reason) => return Poll::Ready(reason),
                    }
                    session.outbox.push_control(chunk::LAST);
                }
            }
        }
    });
    tokio::select! {
        reason = served => reason,
        reason = session.connection.killed() => reason,
    }
}

/// Ready when the client has gone. What it sends on a stream that only goes down is read and means nothing.
fn poll_client(wire: &mut impl Wire, ending: bool, cx: &mut Context<'_>) -> Poll<CloseReason> {
    poll_drain(wire, cx).map(|ended| match ended {
        Ok(()) if ending => CloseReason::Server,
        Ok(()) => CloseReason::EndedEarly,
        Err(e) => CloseReason::of_io(&e),
    })
}
