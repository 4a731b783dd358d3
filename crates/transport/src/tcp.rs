//! TCP connections of the load generator.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pushmark_measure::clock;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::error::{Step, TransportError};
use crate::seam::{Received, Target};
use crate::stamps;

/// Connects within the target's deadline. Nagle's algorithm is off: a small message leaves when it is written, on both
/// sides, so that no transport is charged for the other's delayed acknowledgement.
///
/// # Errors
/// Refused, timed out, or the load generator's own limits, each by its class.
pub async fn connect(target: &Target) -> Result<TcpStream, TransportError> {
    let stream = tokio::time::timeout(target.connect_deadline, open(target))
        .await
        .map_err(|_| TransportError::timed_out(Step::Connect, target.connect_deadline))?
        .map_err(|e| TransportError::from_io(Step::Connect, &e))?;
    stream
        .set_nodelay(true)
        .map_err(|e| TransportError::from_io(Step::Connect, &e))?;
    Ok(stream)
}

async fn open(target: &Target) -> io::Result<TcpStream> {
    let Some(source) = target.source else {
        return TcpStream::connect(target.address).await;
    };
    let socket = if source.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(source)?;
    socket.connect(target.address).await
}

/// A stream that notes when bytes were last read from its socket: the arrival of whatever those bytes completed.
pub trait Notes {
    /// The last read that brought bytes or the end.
    fn last_read(&self) -> Received;
}

/// A client's TCP stream that notes its reads, with the kernel's stamps where it was asked for them. Layers above it keep the
/// time of the socket's read, whatever they do to the bytes.
pub struct Stamped {
    stream: TcpStream,
    stamped: bool,
    last_read: Received,
}

impl Stamped {
    /// Notes reads from now on; `stamped`: the kernel's stamps too, as far as this kernel has them.
    pub fn new(stream: TcpStream, stamped: bool) -> Self {
        let stamped = stamped && stamps::switch_on(stream.as_fd()).is_ok();
        Self {
            stream,
            stamped,
            last_read: Received::default(),
        }
    }

    fn note(&mut self, stamp: Option<u64>) {
        let at = clock::now();
        let kernel = stamp.and_then(|stamp| stamps::instant_of(stamp, at));
        self.last_read = Received { at, kernel };
    }

    fn poll_read_stamped(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let into = buf.initialize_unfilled();
            let room = into.len();
            let mut got = None;
            let tried = self.stream.try_io(Interest::READABLE, || {
                let (n, stamp) = stamps::read(self.stream.as_fd(), into)?;
                got = Some((n, stamp));
                // A stream that gave less than was asked for is empty. Said so, the next look at it costs no system call;
                // the runtime does the same for its own reads. An end that came meanwhile is kept apart and not forgotten.
                if 0 < n && n < room {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            if let Some((n, stamp)) = got {
                self.note(stamp);
                buf.advance(n);
                return Poll::Ready(Ok(()));
            }
            match tried {
                Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Poll::Ready(Err(e));
                }
                _ => {}
            }
        }
    }
}

impl Notes for Stamped {
    fn last_read(&self) -> Received {
        self.last_read
    }
}

impl AsyncRead for Stamped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stamped {
            return self.poll_read_stamped(cx, buf);
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.note(None);
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
