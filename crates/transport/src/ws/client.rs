//! WebSocket, client half.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use pushmark_measure::Nanos;
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::carrier::{self, Channel, Dialer};
use crate::error::{ErrorClass, Step, TransportError};
use crate::http::resume_path;
use crate::message::{Kind, Message};
use crate::seam::{Connected, Connector, Inbox, Rx, ServerHalf, Target, Tx};
use crate::tcp::Notes;
use crate::ws::{WsServer, class_of, client_read_bytes, config};

/// Opens WebSocket sessions.
#[derive(Clone, Default)]
pub struct WsConnector {
    dialer: Dialer,
}

/// What both halves share. They live on one thread and never hold the borrow over a wait.
struct Both {
    stream: RefCell<WebSocketStream<carrier::Stream>>,
    /// The sending half waits for the socket, which wakes one waiter alone.
    writing: Cell<bool>,
}

type Shared = Rc<Both>;

/// The sending half.
pub struct WsTx(Shared);

/// The sending half's wait, however it ends.
struct Writing<'a>(&'a Cell<bool>);

impl<'a> Writing<'a> {
    fn begin(writing: &'a Cell<bool>) -> Self {
        writing.set(true);
        Self(writing)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The receiving half.
pub struct WsRx {
    socket: Shared,
    /// How the session ended: kept, since the library tells an error once and calls it a clean end after that.
    end: Option<Result<(), TransportError>>,
    /// The peer's close frame has come: how long it may still take to close the connection.
    closing: Option<Pin<Box<Sleep>>>,
    /// A ping may not have gone out whole.
    probing: bool,
}

/// How long a peer that has sent its close frame may leave the connection open (RFC 6455, section 7.1.1: the client
/// should wait for the server to close it, and need not).
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

impl Connector for WsConnector {
    type Tx = WsTx;
    type Rx = WsRx;

    async fn connect(&self, target: &Target) -> Result<Connected<WsTx, WsRx>, TransportError> {
        let path = resume_path(WsServer::PATH, target.resume.as_deref())?;
        let dialed = self
            .dialer
            .channel(target, &path, ("websocket", "sec-websocket-version: 13\r\n"))
            .await?;
        let config = config(
            target.max_message_bytes,
            client_read_bytes(target.usual_message_bytes),
        );
        let dialed = match dialed.apart() {
            (Channel::Open(stream), rest) => {
                let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
                rest.map(|()| socket)
            }
            (Channel::Fresh(stream), rest) => {
                let url = format!("ws://{}{path}", target.address);
                let handshake = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
                let (socket, _response) = tokio::time::timeout(target.open_deadline, handshake)
                    .await
                    .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))?
                    .map_err(|e| class_of(Step::Open, e))?;
                rest.map(|()| socket)
            }
        };
        let (times, negotiated) = (dialed.usable_now(), dialed.negotiated);
        let shared = Rc::new(Both {
            stream: RefCell::new(dialed.made),
            writing: Cell::new(false),
        });
        Ok(Connected {
            tx: WsTx(shared.clone()),
            rx: WsRx {
                socket: shared,
                end: None,
                closing: None,
                probing: false,
            },
            times,
            negotiated,
        })
    }
}

fn with<T>(
    shared: &Shared,
    cx: &mut Context<'_>,
    poll: impl FnOnce(Pin<&mut WebSocketStream<carrier::Stream>>, &mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    poll(Pin::new(&mut *shared.stream.borrow_mut()), cx)
}

impl WsTx {
    async fn write(&self, step: Step, message: tungstenite::Message) -> Result<(), TransportError> {
        let _writing = Writing::begin(&self.0.writing);
        poll_fn(|cx| with(&self.0, cx, |s, cx| s.poll_ready(cx)))
            .await
            .map_err(|e| class_of(step, e))?;
        Pin::new(&mut *self.0.stream.borrow_mut())
            .start_send(message)
            .map_err(|e| class_of(step, e))?;
        poll_fn(|cx| with(&self.0, cx, |s, cx| s.poll_flush(cx)))
            .await
            .map_err(|e| class_of(step, e))
    }
}

impl Tx for WsTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        let frame = to_frame(message.kind, message.payload).ok_or_else(|| {
            TransportError::new(Step::Send, ErrorClass::Protocol, "a text message must be UTF-8")
        })?;
        self.write(Step::Send, frame).await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.write(Step::Close, tungstenite::Message::Close(None)).await
    }
}

/// The frame that carries a payload; `None` for text that is not UTF-8.
fn to_frame(kind: Kind, payload: bytes::Bytes) -> Option<tungstenite::Message> {
    Some(match kind {
        Kind::Text => tungstenite::Message::Text(Utf8Bytes::try_from(payload).ok()?),
        Kind::Binary => tungstenite::Message::Binary(payload),
    })
}

impl WsRx {
    /// Writes what is left of a ping, as far as the socket takes it. When the sending half waits for the socket, it writes the
    /// ping as well.
    fn flush_probe(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        if self.socket.writing.get() {
            return Ok(());
        }
        match with(&self.socket, cx, |s, cx| s.poll_flush(cx)) {
            Poll::Pending => Ok(()),
            Poll::Ready(flushed) => {
                self.probing = false;
                flushed.or_else(|e| self.probe_failed(e))
            }
        }
    }

    fn probe_failed(&mut self, e: tungstenite::Error) -> Result<(), TransportError> {
        match e {
            // Whatever ends the session is told by the next wait, after the messages that came before it; and a peer that
            // takes nothing gives no sign of life either.
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(_)
            | tungstenite::Error::Io(_)
            | tungstenite::Error::WriteBufferFull(_) => Ok(()),
            e => Err(class_of(Step::Send, e)),
        }
    }
}

impl Rx for WsRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| {
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone().map(|()| 0));
            }
            if self.probing {
                self.flush_probe(cx)?;
            }
            let mut count = 0;
            loop {
                let next = match with(&self.socket, cx, |s, cx| s.poll_next(cx)) {
                    Poll::Pending if count > 0 => return Poll::Ready(Ok(count)),
                    Poll::Pending => {
                        if let Some(deadline) = &mut self.closing {
                            ready!(deadline.as_mut().poll(cx));
                            self.end = Some(Ok(()));
                            return Poll::Ready(Ok(0));
                        }
                        return Poll::Pending;
                    }
                    Poll::Ready(next) => next,
                };
                // What one read brought has one arrival time; what a later read of this wake-up brought, its own.
                let received = self.socket.stream.borrow().get_ref().last_read();
                let end = match next {
                    Some(Ok(tungstenite::Message::Text(text))) => {
                        inbox.deliver(received, Kind::Text, text.as_bytes());
                        count += 1;
                        continue;
                    }
                    Some(Ok(tungstenite::Message::Binary(bytes))) => {
                        inbox.deliver(received, Kind::Binary, &bytes);
                        count += 1;
                        continue;
                    }
                    // Answered by the library and followed by the end of the stream.
                    Some(Ok(tungstenite::Message::Close(_))) => {
                        self.closing = Some(Box::pin(tokio::time::sleep(CLOSE_DEADLINE)));
                        continue;
                    }
                    // Pings are answered by the library.
                    Some(Ok(_)) => continue,
                    None
                    | Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => {
                        Ok(())
                    }
                    // Who has said goodbye may leave out the goodbyes of what lies below.
                    Some(Err(tungstenite::Error::Io(e)))
                        if self.closing.is_some() && e.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        Ok(())
                    }
                    Some(Err(e)) => Err(class_of(Step::Receive, e)),
                };
                self.end = Some(end.clone());
                // What came before the end is told first; the end is told by the next call.
                return Poll::Ready(if count > 0 { Ok(count) } else { end.map(|()| 0) });
            }
        })
        .await
    }

    fn last_heard(&self) -> Nanos {
        self.socket.stream.borrow().get_ref().last_read().at
    }

    async fn probe(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| {
            if let Some(end) = &self.end {
                let gone = TransportError::new(Step::Send, ErrorClass::Closed, "the session is closed");
                return Poll::Ready(Err(end.clone().err().unwrap_or(gone)));
            }
            if !self.probing && self.closing.is_none() {
                let ping = tungstenite::Message::Ping(bytes::Bytes::new());
                let queued = Pin::new(&mut *self.socket.stream.borrow_mut()).start_send(ping);
                if let Err(e) = queued {
                    return Poll::Ready(self.probe_failed(e));
                }
                self.probing = true;
            }
            Poll::Ready(self.flush_probe(cx))
        })
        .await
    }
}
