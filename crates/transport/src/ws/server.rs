//! WebSocket, server half.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use pushmark_measure::Nanos;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message as Ws};

use crate::connection::Connection;
use crate::host::{CloseReason, Heartbeat, Host, Session};
use crate::http::{refusal, resume_point, status};
use crate::message::{Kind, Message};
use crate::seam::{ServerHalf, ServerRequest, ServerResponse};
use crate::takeover::Opening;
use crate::ws::socket::Socket;
use crate::ws::{SERVER_READ_BYTES, config, frame};

/// Answers WebSocket handshakes and serves the sessions they open.
pub struct WsServer;

impl ServerHalf for WsServer {
    const PATH: &'static str = "/ws";

    fn encode(message: &Message, _id: Option<u64>) -> Bytes {
        frame::encode(message)
    }

    fn beat(session: &Session, heartbeat: Heartbeat, now: Nanos) {
        let heard = session.last_heard();
        let quiet = now.duration_since(heard);
        if quiet >= heartbeat.every + heartbeat.timeout {
            session.connection.kill(CloseReason::Heartbeat);
        } else if quiet >= heartbeat.every && session.last_beat() <= heard && !session.outbox.is_closed() {
            // Once: what was sent arrives, or the connection is no good. And nothing may follow a close frame (RFC 6455,
            // section 5.5.1).
            session.beat_at(now);
            session.outbox.push_control(frame::PING);
        }
    }

    async fn take_over<H: Host>(
        opening: Opening,
        stream: TcpStream,
        host: &Arc<H>,
        connection: &Connection,
    ) -> Result<(), TcpStream> {
        let Ok(key) = check(&Method::GET, opening.request.headers()) else {
            return Err(stream);
        };
        let Ok(resume) = resume_point(opening.request.uri()) else {
            return Err(stream);
        };
        let Some(session) = host.open::<Self>(connection, resume) else {
            return Err(stream);
        };
        let accept = derive_accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        let taken = opening.take(&stream);
        // Its headers would stay for as long as the session.
        drop(opening);
        let reason = match taken {
            Ok(()) => serve(stream, Bytes::new(), head.as_bytes(), &session, &**host).await,
            Err(e) => CloseReason::of_io(&e),
        };
        host.closed(&session, reason);
        Ok(())
    }

    async fn respond<H: Host>(mut request: ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
        let accept = match check(request.method(), request.headers()) {
            Ok(key) => derive_accept_key(key.as_bytes()),
            Err((code, words)) => {
                let mut response = refusal(code, words);
                response
                    .headers_mut()
                    .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                return response;
            }
        };
        let resume = match resume_point(request.uri()) {
            Ok(resume) => resume,
            Err(words) => return refusal(StatusCode::BAD_REQUEST, words),
        };
        let Some(session) = host.open::<Self>(&Connection::of(&request), resume) else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server takes no more sessions",
            );
        };
        let Ok(accept) = HeaderValue::try_from(accept) else {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let host = host.clone();
        tokio::task::spawn_local(async move {
            let reason = match upgrade.await.map(|u| u.downcast::<TokioIo<TcpStream>>()) {
                Ok(Ok(parts)) => serve(parts.io.into_inner(), parts.read_buf, b"", &session, &*host).await,
                _ => CloseReason::EndedEarly,
            };
            host.closed(&session, reason);
        });
        let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// The opening handshake's requirements (RFC 6455, section 4.2.1); gives the key.
fn check(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if method != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "a WebSocket opens with GET"));
    }
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "this path speaks WebSocket: send Upgrade: websocket",
        ));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "the version must be 13"));
    }
    headers
        .get(SEC_WEBSOCKET_KEY)
        .cloned()
        .ok_or((StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"))
}

/// Serves a session whose handshake is done, but for `head`. Messages are written to the socket by whoever pushes them; this task reads, and
/// writes what the socket did not take at once.
async fn serve<H: Host>(
    stream: TcpStream,
    early: Bytes,
    head: &[u8],
    session: &Arc<Session>,
    host: &H,
) -> CloseReason {
    let stream = Arc::new(stream);
    let socket = Socket {
        stream: stream.clone(),
        session: session.clone(),
        // An empty remainder would keep the handshake's whole buffer.
        early: if early.is_empty() { Bytes::new() } else { early },
        noted: host.heartbeat().is_some(),
    };
    let config = config(host.max_message_bytes(), SERVER_READ_BYTES);
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    session.outbox.write_to(stream, head);
    let mut served = Served { closing: false };
    tokio::select! {
        reason = poll_fn(|cx| served.poll(Pin::new(&mut socket), session, host, cx)) => reason,
        reason = session.connection.killed() => reason,
    }
}

struct Served {
    /// Our close frame is on its way.
    closing: bool,
}

impl Served {
    fn poll<H: Host>(
        &mut self,
        mut socket: Pin<&mut WebSocketStream<Socket>>,
        session: &Arc<Session>,
        host: &H,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        while let Poll::Ready(next) = socket.as_mut().poll_next(cx) {
            let (kind, payload) = match next {
                Some(Ok(Ws::Text(text))) => (Kind::Text, text.into()),
                Some(Ok(Ws::Binary(payload))) => (Kind::Binary, payload),
                Some(Ok(_)) => continue,
                None => return Poll::Ready(self.reason_of_end()),
                Some(Err(e)) => {
                    let reason = self.reason_of_error(&e);
                    return Poll::Ready(session.outbox.failure().unwrap_or(reason));
                }
            };
            host.received(session, Message { kind, payload });
        }
        loop {
            match session
                .outbox
                .poll_write_out(cx, |sent| host.written(session, sent))
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => return Poll::Ready(reason),
                Poll::Ready(Ok(())) if session.outbox.has_overflowed() => {
                    return Poll::Ready(CloseReason::SlowReader);
                }
                // The peer's close frame, or the end of the connection, is what is left to come.
                Poll::Ready(Ok(())) if self.closing => return Poll::Pending,
                Poll::Ready(Ok(())) => {
                    self.closing = true;
                    // An error here means that the socket is gone, which the next read tells.
                    let _ = socket.as_mut().start_send(Ws::Close(None));
                    let _ = socket.as_mut().poll_flush(cx);
                }
            }
        }
    }

    fn reason_of_error(&self, error: &tungstenite::Error) -> CloseReason {
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => self.reason_of_end(),
            tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => CloseReason::EndedEarly,
            tungstenite::Error::Io(e) => CloseReason::of_io(e),
            _ => CloseReason::Protocol,
        }
    }

    fn reason_of_end(&self) -> CloseReason {
        if self.closing {
            CloseReason::Server
        } else {
            CloseReason::Client
        }
    }
}
