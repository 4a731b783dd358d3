//! Wires: what a session that was taken over is served on. A socket takes messages from whoever pushes them; anything between
//! session and socket takes them from the session's own task.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use pushmark_measure::Nanos;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::host::CloseReason;
use crate::outbox::Outbox;
use crate::seam::TcpOptions;
use crate::tcp;

/// A server's connection, or a part of one, that carries one session.
pub trait Wire: Unpin {
    /// Reads.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Forgets the next `count` bytes, which have been looked at.
    ///
    /// # Errors
    /// They are not there.
    fn skip(&mut self, count: usize) -> io::Result<()>;

    /// Starts writing what `outbox` holds and gets, `head` before everything.
    fn begin(&mut self, outbox: &Outbox, head: &[u8]);

    /// Writes what waits in the outbox; tells `written` when each message had been handed over. Ready when the outbox is
    /// closed and all it had is written, or the wire failed.
    ///
    /// # Errors
    /// What the failure says about the session's end.
    fn poll_write_out(
        &mut self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
        written: impl FnMut(Nanos),
    ) -> Poll<Result<(), CloseReason>>;

    /// Says to the peer, as far as it can be said at once, that nothing follows.
    fn poll_end(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Has the kernel look after the connection, where it is the session's own.
    fn set_options(&self, _options: &TcpOptions) {}
}

/// Reads and forgets whatever has come. Ready at the end of the wire, with how it ended.
pub fn poll_drain(wire: &mut impl Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut nothing = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut nothing);
        ready!(wire.poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// A socket: whoever pushes a message writes it.
pub struct Socket {
    stream: Arc<TcpStream>,
    /// What was read before it came here.
    early: Bytes,
}

impl Socket {
    /// A socket of which `early` was read already.
    pub fn new(stream: TcpStream, early: Bytes) -> Self {
        Self {
            stream: Arc::new(stream),
            // An empty remainder would keep the whole buffer that it is a part of.
            early: if early.is_empty() { Bytes::new() } else { early },
        }
    }

    /// The socket, while nobody else writes to it; `None` once the session began.
    pub fn into_stream(self) -> Option<TcpStream> {
        Arc::into_inner(self.stream)
    }
}

/// Takes what was read before; false when nothing is left of it.
fn take_early(early: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
    if early.is_empty() {
        return false;
    }
    let take = early.len().min(buf.remaining());
    buf.put_slice(&early[..take]);
    early.advance(take);
    if early.is_empty() {
        *early = Bytes::new();
    }
    true
}

impl Wire for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if take_early(&mut self.early, buf) {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    fn skip(&mut self, mut count: usize) -> io::Result<()> {
        let mut bytes = [0; 2 * 1024];
        while count > 0 {
            let most = count.min(bytes.len());
            match self.stream.try_read(&mut bytes[..most])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => count -= n,
            }
        }
        Ok(())
    }

    fn begin(&mut self, outbox: &Outbox, head: &[u8]) {
        outbox.write_to(self.stream.clone(), head);
    }

    fn poll_write_out(
        &mut self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
        written: impl FnMut(Nanos),
    ) -> Poll<Result<(), CloseReason>> {
        outbox.poll_write_out(cx, written)
    }

    fn set_options(&self, options: &TcpOptions) {
        // A socket that is no more fails at the next step as well.
        let _ = tcp::set_options(&self.stream, options);
    }
}

/// A stream of bytes over something else: TLS, or a tunnel.
pub struct Layered<S> {
    stream: S,
    early: Bytes,
    /// The socket below, where it is the session's own.
    socket: Option<fn(&S) -> &TcpStream>,
    /// Everything is written and the peer has been told.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Layered<S> {
    /// A stream of which `early` was read already.
    pub fn new(stream: S, early: Bytes) -> Self {
        Self {
            stream,
            early,
            socket: None,
            ended: false,
        }
    }

    /// The same, which lies over a socket of its own.
    pub fn over_socket(stream: S, early: Bytes, socket: fn(&S) -> &TcpStream) -> Self {
        Self {
            socket: Some(socket),
            ..Self::new(stream, early)
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Layered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if take_early(&mut self.early, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Layered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for Layered<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, buf)
    }

    fn skip(&mut self, count: usize) -> io::Result<()> {
        if self.early.len() < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.early.advance(count);
        if self.early.is_empty() {
            self.early = Bytes::new();
        }
        Ok(())
    }

    fn begin(&mut self, outbox: &Outbox, head: &[u8]) {
        if !head.is_empty() {
            outbox.push_head(head);
        }
    }

    fn poll_write_out(
        &mut self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
        written: impl FnMut(Nanos),
    ) -> Poll<Result<(), CloseReason>> {
        outbox.poll_write_through(Pin::new(&mut self.stream), cx, written)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended {
            // Who is gone need not hear it.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.ended = true;
        }
        Poll::Ready(())
    }

    fn set_options(&self, options: &TcpOptions) {
        if let Some(socket) = self.socket {
            let _ = tcp::set_options(socket(&self.stream), options);
        }
    }
}
