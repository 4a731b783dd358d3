//! TCP connections of the load generator.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pushmark_measure::{Nanos, clock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::error::{Step, TransportError};
use crate::seam::Target;

/// Connects within the target's deadline. Nagle's algorithm is off: a small message leaves when it is written, on both
/// sides, so that no transport is charged for the other's delayed acknowledgement.
///
/// # Errors
/// Refused, timed out, or the load generator's own limits, each by its class.
pub async fn connect(target: &Target) -> Result<TcpStream, TransportError> {
    let stream = tokio::time::timeout(target.connect_deadline, TcpStream::connect(target.address))
        .await
        .map_err(|_| TransportError::timed_out(Step::Connect, target.connect_deadline))?
        .map_err(|e| TransportError::from_io(Step::Connect, &e))?;
    stream
        .set_nodelay(true)
        .map_err(|e| TransportError::from_io(Step::Connect, &e))?;
    Ok(stream)
}

/// A TCP stream that notes when bytes were last read from it: the arrival time of whatever those bytes completed.
pub struct Stamped {
    stream: TcpStream,
    last_read: Rc<Cell<Nanos>>,
}

impl Stamped {
    /// Notes reads from now on.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            last_read: Rc::default(),
        }
    }

    /// Where the time of the last read stands, also while a library owns the stream.
    pub fn last_read(&self) -> &Rc<Cell<Nanos>> {
        &self.last_read
    }
}

impl AsyncRead for Stamped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.last_read.set(clock::now());
        }
        read
    }
}

impl AsyncWrite for Stamped {
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
