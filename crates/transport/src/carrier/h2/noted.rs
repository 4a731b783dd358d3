//! The stream below an HTTP/2 connection, as the library sees it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Book;
use crate::carrier::stream::{Stream, is_of_tls, unread_reason};
use crate::error::{Step, TransportError};
use crate::tcp::Notes;

/// The connection's stream as the library sees it: it notes what is read.
pub(super) struct Noted {
    pub(super) stream: Stream,
    pub(super) book: Rc<Book>,
    pub(super) stamped: bool,
}

impl Noted {
    /// The library keeps the words of an error alone: what TLS ended with is told from here.
    fn keep(&self, error: &io::Error) {
        if is_of_tls(error) {
            *self.book.failure.borrow_mut() = Some(TransportError::from_io(Step::Open, error));
        }
    }

    /// After a write that failed, the library reads no more. Why the peer gave the connection up under TLS, it said before: that
    /// lies unread.
    fn learn_why<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &written
            && let Stream::Tls(stream, _) = &mut self.stream
        {
            let reason = match is_of_tls(error) {
                true => None,
                false => ready!(unread_reason(stream, cx)),
            };
            self.keep(reason.as_ref().unwrap_or(error));
        }
        written
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.book.stamps_wanted.get() && !self.stamped {
            self.stamped = true;
            self.stream.stamp();
        }
        let before = buf.filled().len();
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            self.keep(&error);
            return Poll::Ready(Err(error));
        }
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.book.note(self.stream.last_read(), came);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.learn_why(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.learn_why(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.learn_why(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
