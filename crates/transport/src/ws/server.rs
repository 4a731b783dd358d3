//! WebSocket, server half.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use pushmark_measure::Nanos;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message as Ws};

use crate::compression::Compression;
use crate::compression::extension::{self, Parameters};
use crate::connection::Connection;
use crate::host::{CloseReason, Heartbeat, Host, Session};
use crate::http::{refusal, resume_point, status};
use crate::message::{Kind, Message};
use crate::seam::{ServerHalf, ServerRequest, ServerResponse};
use crate::takeover::Opening;
use crate::wire::{self, Layered, Wire};
use crate::ws::socket::Socket;
use crate::ws::{SERVER_READ_BYTES, config, deflated, frame};

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

    async fn take_over<H: Host, W: Wire>(
        opening: Opening,
        mut wire: W,
        host: &Arc<H>,
        connection: &Connection,
    ) -> Result<(), W> {
        let Ok(key) = check(&Method::GET, opening.request.headers()) else {
            return Err(wire);
        };
        let Ok(resume) = resume_point(opening.request.uri()) else {
            return Err(wire);
        };
        let Some(session) = host.open::<Self>(connection, resume) else {
            return Err(wire);
        };
        let accept = derive_accept_key(key.as_bytes());
        let (extension, compression) = negotiate(opening.request.headers(), &session, &**host);
        let extension = extension
            .map(|answer| format!("{SEC_WEBSOCKET_EXTENSIONS}: {answer}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n{extension}\r\n"
        );
        let taken = opening.take(&mut wire);
        // Its headers would stay for as long as the session.
        drop(opening);
        let reason = match taken {
            Ok(()) => match compression {
                None => serve(wire, head.as_bytes(), &session, &**host).await,
                Some(agreed) => {
                    Box::pin(deflated::serve(wire, head.as_bytes(), &session, &**host, agreed)).await
                }
            },
            Err(e) => CloseReason::of_io(&e),
        };
        host.closed(&session, reason);
        Ok(())
    }

    async fn respond<H: Host>(mut request: ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
        let tunneled = asks_for_tunnel(&request);
        let checked = if tunneled {
            check_version(request.headers()).map(|()| None)
        } else {
            check(request.method(), request.headers()).map(Some)
        };
        let accept = match checked {
            Ok(key) => key.map(|key| derive_accept_key(key.as_bytes())),
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
        let Ok(accept) = accept.map(HeaderValue::try_from).transpose() else {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let (extension, compression) = negotiate(request.headers(), &session, &**host);
        let extension = extension.and_then(|answer| HeaderValue::try_from(answer.to_string()).ok());
        let upgrade = hyper::upgrade::on(&mut request);
        let host = host.clone();
        tokio::task::spawn_local(async move {
            let reason = match upgrade.await.map(|u| u.downcast::<TokioIo<TcpStream>>()) {
                Ok(Ok(parts)) => {
                    let socket = wire::Socket::new(parts.io.into_inner(), parts.read_buf);
                    match compression {
                        None => Box::pin(serve(socket, b"", &session, &*host)).await,
                        Some(agreed) => {
                            Box::pin(deflated::serve(socket, b"", &session, &*host, agreed)).await
                        }
                    }
                }
                // Something lies over the socket, or it is a part of a connection.
                Ok(Err(upgraded)) => {
                    let layered = Layered::new(TokioIo::new(upgraded), Bytes::new());
                    match compression {
                        None => Box::pin(serve(layered, b"", &session, &*host)).await,
                        Some(agreed) => {
                            Box::pin(deflated::serve(layered, b"", &session, &*host, agreed)).await
                        }
                    }
                }
                Err(_) => session.connection.reason().unwrap_or(CloseReason::EndedEarly),
            };
            host.closed(&session, reason);
        });
        let mut response = status(match accept {
            Some(_) => StatusCode::SWITCHING_PROTOCOLS,
            None => StatusCode::OK,
        });
        let headers = response.headers_mut();
        if let Some(extension) = extension {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, extension);
        }
        let Some(accept) = accept else {
            return response;
        };
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// What is agreed on of the extensions that a request offers: what the answer says, and what both sides do. What the session is
/// sent goes through a compressor from then on.
fn negotiate<H: Host>(
    headers: &HeaderMap,
    session: &Session,
    host: &H,
) -> (Option<Parameters>, Option<Compression>) {
    let Some(ours) = host.compression() else {
        return (None, None);
    };
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    // One value that cannot be read makes the others doubtful too.
    let offers: Option<Vec<&str>> = offers.map(|value| value.to_str().ok()).collect();
    let agreed = offers.and_then(|offers| extension::accept(offers, ours.level));
    let Some((answer, agreed)) = agreed else {
        return (None, None);
    };
    session.outbox.code_with(Box::new(frame::Deflating::new(&agreed)));
    (Some(answer), Some(agreed))
}

/// Whether a request opens a tunnel for this protocol (RFC 8441, section 5).
fn asks_for_tunnel(request: &ServerRequest) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT && protocol.is_some_and(|p| p.as_str() == "websocket")
}

fn check_version(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    match headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13") {
        true => Ok(()),
        false => Err((StatusCode::UPGRADE_REQUIRED, "the version must be 13")),
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
    check_version(headers)?;
    headers
        .get(SEC_WEBSOCKET_KEY)
        .cloned()
        .ok_or((StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"))
}

/// Serves a session whose handshake is done, but for `head`. Where the wire is a socket, messages are written by whoever pushes
/// them; this task reads, and writes what was not taken at once.
async fn serve<H: Host, W: Wire>(mut wire: W, head: &[u8], session: &Arc<Session>, host: &H) -> CloseReason {
    wire.begin(&session.outbox, head);
    let socket = Socket {
        wire,
        session: session.clone(),
        noted: host.heartbeat().is_some(),
    };
    let config = config(host.max_message_bytes(), SERVER_READ_BYTES);
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
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
    fn poll<H: Host, W: Wire>(
        &mut self,
        mut socket: Pin<&mut WebSocketStream<Socket<W>>>,
        session: &Arc<Session>,
        host: &H,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let reason = ready!(self.poll_session(socket.as_mut(), session, host, cx));
        if matches!(reason, CloseReason::Client | CloseReason::Server) {
            // Our answer to the peer's close frame may still wait: it goes, and the end after it, as far as the wire takes them.
            let wire = &mut socket.get_mut().get_mut().wire;
            let _ = wire.poll_write_out(&session.outbox, cx, |sent| host.written(session, sent));
            let _ = wire.poll_end(cx);
        }
        Poll::Ready(reason)
    }

    fn poll_session<H: Host, W: Wire>(
        &mut self,
        mut socket: Pin<&mut WebSocketStream<Socket<W>>>,
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
            let wire = &mut socket.as_mut().get_mut().get_mut().wire;
            match wire.poll_write_out(&session.outbox, cx, |sent| host.written(session, sent)) {
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
