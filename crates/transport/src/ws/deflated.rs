//! A server's session with permessage-deflate agreed on: its messages go through the coder of its outbox, and the client's are read
//! by our own frames, since the library has no extension. Everything else is as in [`super::server`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::compression::Compression;
use crate::error::{ErrorClass, Step, TransportError};
use crate::host::{CloseReason, Host, Session};
use crate::message::{Kind, Message};
use crate::seam::{Inbox, Received};
use crate::tcp::Notes;
use crate::wire::Wire;
use crate::ws::frames::{Frames, Read, Role};
use crate::ws::socket::Socket;

impl<W> Notes for Socket<W> {
    /// A server does not look at when a message came.
    fn last_read(&self) -> Received {
        Received::default()
    }
}

/// What comes up goes to the host.
struct Up<'a, H> {
    host: &'a H,
    session: &'a Arc<Session>,
}

impl<H: Host> Inbox for Up<'_, H> {
    fn deliver(&mut self, _: Received, kind: Kind, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.host.received(self.session, Message { kind, payload });
    }
}

/// Serves a session whose handshake is done, but for `head`.
pub(super) async fn serve<H: Host, W: Wire>(
    mut wire: W,
    head: &[u8],
    session: &Arc<Session>,
    host: &H,
    agreed: Compression,
) -> CloseReason {
    wire.begin(&session.outbox, head);
    let socket = Socket {
        wire,
        session: session.clone(),
        noted: host.heartbeat().is_some(),
    };
    let mut served = Served {
        frames: Frames::of(Role::Server, socket, &[], host.max_message_bytes(), Some(&agreed)),
        closing: false,
    };
    tokio::select! {
        reason = poll_fn(|cx| served.poll(session, host, cx)) => reason,
        reason = session.connection.killed() => reason,
    }
}

struct Served<W> {
    frames: Frames<Socket<W>>,
    /// Our close frame is on its way.
    closing: bool,
}

impl<W: Wire> Served<W> {
    fn poll<H: Host>(&mut self, session: &Arc<Session>, host: &H, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let reason = std::task::ready!(self.poll_session(session, host, cx));
        if matches!(reason, CloseReason::Client | CloseReason::Server) {
            // Our answer to the peer's close frame may still wait: it goes, and the end after it, as far as the wire takes them.
            let wire = &mut self.frames.stream_mut().wire;
            let _ = wire.poll_write_out(&session.outbox, cx, |sent| host.written(session, sent));
            let _ = wire.poll_end(cx);
        }
        Poll::Ready(reason)
    }

    fn poll_session<H: Host>(
        &mut self,
        session: &Arc<Session>,
        host: &H,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let mut up = Up { host, session };
        while let Poll::Ready(read) = self.frames.poll_read(cx, &mut up) {
            // Whole frames, into the outbox.
            let _ = self.frames.poll_flush(Step::Send, cx);
            match read {
                Ok(Read::Messages(_)) if self.frames.peer_has_closed() => {
                    return Poll::Ready(self.reason_of_close());
                }
                Ok(Read::Messages(_)) if self.frames.holds_back() => {
                    // Others have their turn, and what this side sends its own, before it reads on.
                    cx.waker().wake_by_ref();
                    break;
                }
                Ok(Read::Messages(_)) => {}
                Ok(Read::End) => return Poll::Ready(CloseReason::EndedEarly),
                Err(e) => {
                    return Poll::Ready(session.outbox.failure().unwrap_or(reason_of(&e)));
                }
            }
        }
        loop {
            let wire = &mut self.frames.stream_mut().wire;
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
                    self.frames.close();
                    let _ = self.frames.poll_flush(Step::Send, cx);
                }
            }
        }
    }

    fn reason_of_close(&self) -> CloseReason {
        if self.closing {
            CloseReason::Server
        } else {
            CloseReason::Client
        }
    }
}

/// Why a session ended whose reading failed.
fn reason_of(error: &TransportError) -> CloseReason {
    match error.class {
        ErrorClass::EndedEarly => CloseReason::EndedEarly,
        ErrorClass::TimedOut => CloseReason::TimedOut,
        ErrorClass::Protocol | ErrorClass::TooLarge | ErrorClass::Flooded => CloseReason::Protocol,
        _ => CloseReason::Reset,
    }
}
