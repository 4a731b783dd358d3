//! A client's stream of bytes, whatever carries it: one type, so that a transport need not be made for each.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::tunnel::Tunnel;
use crate::seam::Received;
use crate::tcp::{Notes, Stamped};

/// So many reads at most look for the reason of a write that failed.
const MOST_UNREAD: usize = 64;

/// A stream of bytes. The last read that it tells of is the socket's.
pub enum Stream {
    /// The socket itself.
    Plain(Stamped),
    /// TLS over it, and whether anything was read through it. In a box: its state is fifty times the socket's.
    Tls(Box<TlsStream<Stamped>>, bool),
    /// A stream of an HTTP/2 connection.
    Tunnel(Box<Tunnel>),
}

impl Stream {
    /// From now on the kernel stamps what arrives, as far as this kernel can and the socket is this stream's own.
    pub(super) fn stamp(&mut self) {
        match self {
            Stream::Plain(stream) => stream.stamp(),
            Stream::Tls(stream, _) => stream.get_mut().0.stamp(),
            Stream::Tunnel(_) => {}
        }
    }
}

/// Whether TLS itself ended with this.
pub(super) fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Why a peer gave up a connection under TLS, where a write to it failed: it said so before, and that lies unread. What it sent
/// besides is lost. Pending until the runtime has been told that there is something to read, as it is of every connection that
/// has ended.
pub(super) fn unread_reason(
    stream: &mut TlsStream<Stamped>,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Error>> {
    let mut bytes = [0; 1024];
    for _ in 0..MOST_UNREAD {
        let mut unread = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(cx, &mut unread) {
            Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Some(error).filter(is_of_tls)),
            Poll::Ready(Ok(())) => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(None)
}

/// The reason of a write that failed, in the place of its failure. In TLS 1.3 a client has done its handshake before the server has
/// seen its certificate (RFC 8446, section 4.4.3), so its first writes may hit a connection that is gone. Once something was
/// read, there may be more that is worth more than a reason.
fn telling<T>(
    stream: &mut TlsStream<Stamped>,
    has_read: bool,
    cx: &mut Context<'_>,
    written: Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    match written {
        // A write that is tried again fails again.
        Poll::Ready(Err(_)) if !has_read => match ready!(unread_reason(stream, cx)) {
            Some(reason) => Poll::Ready(Err(reason)),
            None => written,
        },
        written => written,
    }
}

impl Notes for Stream {
    fn last_read(&self) -> Received {
        match self {
            Stream::Plain(stream) => stream.last_read(),
            Stream::Tls(stream, _) => stream.get_ref().0.last_read(),
            Stream::Tunnel(stream) => stream.last_read(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream, has_read) => {
                let before = buf.filled().len();
                let read = Pin::new(stream).poll_read(cx, buf);
                *has_read |= buf.filled().len() > before;
                read
            }
            Stream::Tunnel(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream, has_read) => {
                let written = Pin::new(&mut **stream).poll_write(cx, buf);
                telling(stream, *has_read, cx, written)
            }
            Stream::Tunnel(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream, has_read) => {
                let written = Pin::new(&mut **stream).poll_write_vectored(cx, bufs);
                telling(stream, *has_read, cx, written)
            }
            Stream::Tunnel(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream, _) => stream.is_write_vectored(),
            Stream::Tunnel(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream, has_read) => {
                let flushed = Pin::new(&mut **stream).poll_flush(cx);
                telling(stream, *has_read, cx, flushed)
            }
            Stream::Tunnel(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tunnel(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
