//! WebSocket, client half.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pushmark_measure::Nanos;
use tokio::time::Sleep;

use crate::carrier::{self, Channel, Dialer};
use crate::compression::extension::{self, Parameters};
use crate::compression::{Agreed, Compression};
use crate::error::{ErrorClass, Step, TransportError};
use crate::host::is_valid;
use crate::http::resume_path;
use crate::message::Message;
use crate::seam::{Connected, Connector, Inbox, Rx, ServerHalf, Target, Tx};
use crate::ws::frames::{Frames, Read, Role};
use crate::ws::{WsServer, handshake};

/// Opens WebSocket sessions.
#[derive(Clone, Default)]
pub struct WsConnector {
    dialer: Dialer,
}

/// What both halves share. They live on one thread and never hold the borrow over a wait.
struct Both {
    frames: RefCell<Frames<carrier::Stream>>,
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
    shared: Shared,
    /// How the session ended.
    end: Option<Result<(), TransportError>>,
    /// The peer's close frame has come: how long it may still take to close the connection.
    closing: Option<Pin<Box<Sleep>>>,
    /// What came with the handshake was looked at.
    begun: bool,
    /// Others have their turn before this one reads on.
    yields: bool,
}

/// How long a peer that has sent its close frame may leave the connection open (RFC 6455, section 7.1.1: the client
/// should wait for the server to close it, and need not).
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

const VERSION: &str = "sec-websocket-version: 13\r\n";
const EXTENSIONS: &str = "sec-websocket-extensions";

impl Connector for WsConnector {
    type Tx = WsTx;
    type Rx = WsRx;

    async fn connect(&self, target: &Target) -> Result<Connected<WsTx, WsRx>, TransportError> {
        let path = resume_path(WsServer::PATH, target.resume.as_deref())?;
        let asked = target.carriage.compression;
        let headers = match &asked {
            None => VERSION.to_owned(),
            Some(asked) => format!("{VERSION}{EXTENSIONS}: {}\r\n", Parameters::offer(asked)),
        };
        let dialed = self
            .dialer
            .channel(target, &path, ("websocket", &headers))
            .await?;
        let (channel, mut rest) = dialed.apart();
        let (stream, early, extensions) = match channel {
            Channel::Open(stream, answer) => {
                let values = answer.get_all(EXTENSIONS).iter();
                let values = values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
                (stream, Vec::new(), values.collect())
            }
            Channel::Fresh(stream) => {
                let host = target.address.to_string();
                let opening = handshake::open(stream, &host, (&path, &headers));
                tokio::time::timeout(target.open_deadline, opening)
                    .await
                    .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??
            }
        };
        rest.negotiated.compression = agreed(asked.as_ref(), &extensions)?.map(Agreed::Extension);
        let most = target.max_message_bytes;
        let frames = Frames::of(Role::Client, stream, &early, most, asked.as_ref());
        let dialed = rest.map(|()| frames);
        let (times, negotiated) = (dialed.usable_now(), dialed.negotiated);
        let shared = Rc::new(Both {
            frames: RefCell::new(dialed.made),
            writing: Cell::new(false),
        });
        Ok(Connected {
            tx: WsTx(shared.clone()),
            rx: WsRx {
                shared,
                end: None,
                closing: None,
                begun: false,
                yields: false,
            },
            times,
            negotiated,
        })
    }
}

/// What the server's answer says of extensions, which has to be what was asked for.
fn agreed(asked: Option<&Compression>, answer: &[String]) -> Result<Option<Parameters>, TransportError> {
    let values = answer.iter().map(String::as_str);
    match asked {
        Some(asked) => extension::agreed(asked, values).map(Some),
        None if answer.is_empty() => Ok(None),
        None => {
            let words = "the answer names an extension that was not asked for";
            Err(TransportError::new(Step::Open, ErrorClass::Protocol, words))
        }
    }
}

impl WsTx {
    async fn flush(&self, step: Step) -> Result<(), TransportError> {
        let _writing = Writing::begin(&self.0.writing);
        poll_fn(|cx| self.0.frames.borrow_mut().poll_flush(step, cx)).await
    }
}

impl Tx for WsTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        if !is_valid(message.kind, &message.payload) {
            let words = "a text message must be UTF-8";
            return Err(TransportError::new(Step::Send, ErrorClass::Protocol, words));
        }
        {
            let mut frames = self.0.frames.borrow_mut();
            if frames.has_closed() {
                let words = "the session is closed";
                return Err(TransportError::new(Step::Send, ErrorClass::Closed, words));
            }
            frames.message(message.kind, &message.payload)?;
        }
        self.flush(Step::Send).await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        {
            let mut frames = self.0.frames.borrow_mut();
            if frames.has_closed() {
                let words = "the session is closed";
                return Err(TransportError::new(Step::Close, ErrorClass::Closed, words));
            }
            frames.close();
        }
        self.flush(Step::Close).await
    }
}

impl WsRx {
    /// Writes answers and pings, as far as the socket takes them. When the sending half waits for the socket, it writes them
    /// as well. Whatever fails here is told by the next read, after the messages that came before it.
    fn flush(&mut self, cx: &mut Context<'_>) {
        let mut frames = self.shared.frames.borrow_mut();
        if frames.has_unsent() && !self.shared.writing.get() {
            let _ = frames.poll_flush(Step::Send, cx);
        }
    }

    /// One read: so many messages, or the session's end.
    fn poll_once<I: Inbox>(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut I,
    ) -> Poll<Result<Option<usize>, TransportError>> {
        let mut frames = self.shared.frames.borrow_mut();
        let read = if std::mem::replace(&mut self.begun, true) {
            frames.poll_read(cx, inbox)
        } else {
            Poll::Ready(frames.read_early(inbox).map(Read::Messages))
        };
        let closed = frames.peer_has_closed();
        drop(frames);
        if closed && self.closing.is_none() {
            self.closing = Some(Box::pin(tokio::time::sleep(CLOSE_DEADLINE)));
        }
        match read {
            Poll::Ready(Ok(Read::Messages(count))) => Poll::Ready(Ok(Some(count))),
            Poll::Ready(Ok(Read::End)) if closed => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(Read::End)) => {
                let words = "the connection ended without a close frame";
                Poll::Ready(Err(TransportError::new(
                    Step::Receive,
                    ErrorClass::EndedEarly,
                    words,
                )))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                let Some(deadline) = &mut self.closing else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(cx));
                let words = "the peer sent its close frame and did not close the connection";
                Poll::Ready(Err(TransportError::new(Step::Close, ErrorClass::LeftOpen, words)))
            }
        }
    }
}

impl Rx for WsRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| {
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone().map(|()| 0));
            }
            if std::mem::take(&mut self.yields) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut count = 0;
            let end = loop {
                let once = self.poll_once(cx, inbox);
                self.flush(cx);
                self.yields = self.shared.frames.borrow().holds_back();
                match once {
                    Poll::Pending if count > 0 => return Poll::Ready(Ok(count)),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Some(more))) => {
                        count += more;
                        if self.yields && count > 0 {
                            return Poll::Ready(Ok(count));
                        }
                    }
                    Poll::Ready(Ok(None)) => break Ok(()),
                    Poll::Ready(Err(e)) => break Err(e),
                }
            };
            self.end = Some(end.clone());
            // What came before the end is told first; the end is told by the next call.
            Poll::Ready(if count > 0 { Ok(count) } else { end.map(|()| 0) })
        })
        .await
    }

    fn last_heard(&self) -> Nanos {
        self.shared.frames.borrow().last_read().at
    }

    async fn probe(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| {
            if let Some(end) = &self.end {
                let gone = TransportError::new(Step::Send, ErrorClass::Closed, "the session has ended");
                return Poll::Ready(Err(end.clone().err().unwrap_or(gone)));
            }
            if self.closing.is_none() {
                self.shared.frames.borrow_mut().ping();
            }
            // What the socket does not take now, the next wait for messages writes.
            self.flush(cx);
            Poll::Ready(Ok(()))
        })
        .await
    }
}
