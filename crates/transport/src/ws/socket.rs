//! A server's wire as the WebSocket library sees it: it reads from the connection, and what it writes (answers to pings,
//! close frames) goes through the session's outbox, so that it cannot cut into a message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::host::Session;
use crate::wire::Wire;

pub(super) struct Socket<W> {
    pub(super) wire: W,
    pub(super) session: Arc<Session>,
    /// Reads are noted in the session.
    pub(super) noted: bool,
}

impl<W: Wire> AsyncRead for Socket<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.wire.poll_read(cx, buf))?;
        if self.noted && buf.filled().len() > before {
            self.session.hear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: Wire> AsyncWrite for Socket<W> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        // The library writes whole control frames, and nothing else on this side.
        self.session.outbox.push_control(frame);
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
