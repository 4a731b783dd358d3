//! Response bodies of the reference server: nothing, some bytes, or an outbox that streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::host::{CloseReason, Host, Session};

/// A response's body.
pub enum ServerBody<H: Host> {
    /// All of it, sent at once; `None` once it is taken, or when there is none.
    Whole(Option<Bytes>),
    /// A session's outbox, for as long as the session lives.
    Stream(OutboxStream<H>),
}

impl<H: Host> ServerBody<H> {
    /// No body.
    pub fn empty() -> Self {
        ServerBody::Whole(None)
    }

    /// All of a body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        ServerBody::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

/// A session's outbox as a body that ends with the session. When the client goes away first, the server drops the
/// body, and the session ends with it.
pub struct OutboxStream<H: Host> {
    host: Arc<H>,
    session: Arc<Session>,
    /// What the body carries of a message that is encoded for the socket.
    unwrap: fn(&Bytes) -> Bytes,
    ended: bool,
}

impl<H: Host> OutboxStream<H> {
    /// Streams `session`'s messages. `unwrap` takes off what the transport put around a message for the socket alone.
    pub fn new(host: Arc<H>, session: Arc<Session>, unwrap: fn(&Bytes) -> Bytes) -> Self {
        Self {
            host,
            session,
            unwrap,
            ended: false,
        }
    }

    /// The body breaks off: the peer's stream is reset.
    fn fail(&mut self, reason: CloseReason) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.host.closed(&self.session, reason);
        }
        Poll::Ready(Some(Err(io::Error::other(
            "what was to go out could not be made",
        ))))
    }
}

impl<H: Host> Drop for OutboxStream<H> {
    fn drop(&mut self) {
        if !self.ended {
            let outbox = &self.session.outbox;
            let reason = match (outbox.has_overflowed(), outbox.is_closed()) {
                (true, _) => CloseReason::SlowReader,
                (false, true) => CloseReason::Server,
                (false, false) => self
                    .session
                    .connection
                    .reason()
                    .unwrap_or(CloseReason::EndedEarly),
            };
            self.host.closed(&self.session, reason);
        }
    }
}

impl<H: Host> Body for ServerBody<H> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            ServerBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ServerBody::Stream(stream) => match stream.session.outbox.poll_pop(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(reason)) => stream.fail(reason),
                Poll::Ready(Ok(Some(outgoing))) => {
                    if !outgoing.control {
                        stream.host.written(&stream.session, outgoing.sent);
                    }
                    Poll::Ready(Some(Ok(Frame::data((stream.unwrap)(&outgoing.encoded)))))
                }
                Poll::Ready(Ok(None)) => {
                    match stream.session.outbox.finish() {
                        Ok(Some(last)) => {
                            return Poll::Ready(Some(Ok(Frame::data((stream.unwrap)(&last)))));
                        }
                        Ok(None) => {}
                        Err(reason) => return stream.fail(reason),
                    }
                    stream.ended = true;
                    let overflowed = stream.session.outbox.has_overflowed();
                    let reason = if overflowed {
                        CloseReason::SlowReader
                    } else {
                        CloseReason::Server
                    };
                    stream.host.closed(&stream.session, reason);
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ServerBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ServerBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ServerBody::Stream(_) => SizeHint::default(),
        }
    }
}
