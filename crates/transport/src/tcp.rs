//! TCP connections of the load generator, and what both sides set on theirs.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pushmark_measure::clock;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::error::{Step, TransportError};
use crate::meter::{Meter, Metered};
use crate::seam::{Received, Target, TcpOptions};
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
        .and_then(|()| set_options(&stream, &target.tcp))
        .map_err(|e| TransportError::from_io(Step::Connect, &e))?;
    Ok(stream)
}

/// Sets what the kernel shall do to find out that the peer of `socket` is gone. The kernel counts keepalive times in seconds and
/// the user timeout in milliseconds: what is finer is rounded up.
///
/// # Errors
/// The kernel's own, for values that it does not take.
pub fn set_options(socket: impl AsFd, options: &TcpOptions) -> io::Result<()> {
    if let Some((idle, interval, probes)) = options.keepalive {
        sockopt::set_tcp_keepidle(&socket, whole_seconds(idle))?;
        sockopt::set_tcp_keepintvl(&socket, whole_seconds(interval))?;
        sockopt::set_tcp_keepcnt(&socket, probes)?;
        sockopt::set_socket_keepalive(&socket, true)?;
    }
    if let Some(timeout) = options.user_timeout {
        // Zero would be the kernel's own idea of it.
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000).max(1);
        sockopt::set_tcp_user_timeout(&socket, u32::try_from(milliseconds).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

fn whole_seconds(time: Duration) -> Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(up).max(1))
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
    /// The last read that brought bytes.
    fn last_read(&self) -> Received;
}

/// A client's TCP stream that notes its reads, with the kernel's stamps where it was asked for them. Layers above it keep the
/// time of the socket's read, whatever they do to the bytes.
pub struct Stamped {
    /// Where it counts what it moves. Stands before the stream: it is dropped while the socket is still open.
    meter: Option<Metered>,
    stream: TcpStream,
    stamped: bool,
    last_read: Received,
    /// What a write found. A socket tells its error once and is at its end after that.
    broken: Option<io::ErrorKind>,
}

impl Stamped {
    /// Notes reads from now on; `stamped`: the kernel's stamps too, as far as this kernel has them.
    pub fn new(stream: TcpStream, stamped: bool) -> Self {
        let stamped = stamped && stamps::switch_on(stream.as_fd()).is_ok();
        Self {
            meter: None,
            stream,
            stamped,
            last_read: Received::default(),
            broken: None,
        }
    }

    /// From now on what it moves is counted (see [`crate::meter`]).
    pub(crate) fn metered(&mut self) -> Meter {
        let stream = &self.stream;
        self.meter
            .get_or_insert_with(|| Metered::new(stream.as_fd()))
            .meter()
    }

    /// The kernel stamps what arrives from now on, as far as this kernel can.
    pub fn stamp(&mut self) {
        self.stamped = self.stamped || stamps::switch_on(self.stream.as_fd()).is_ok();
    }

    fn written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            // A write after the peer's orderly end breaks too, and its end is still to be read.
            Poll::Ready(Err(e)) if e.kind() != io::ErrorKind::BrokenPipe => {
                self.broken.get_or_insert(e.kind());
            }
            Poll::Ready(Ok(bytes @ 1..)) => {
                if let Some(meter) = &self.meter {
                    meter.wrote(*bytes);
                }
            }
            _ => {}
        }
        written
    }

    /// The end of the stream, or what a write has found to be the cause of it.
    fn end(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn note(&mut self, stamp: Option<u64>) {
        let at = clock::now();
        let kernel = stamp.and_then(|stamp| stamps::instant_of(stamp, at));
        self.last_read = Received { at, kernel };
        if let Some(meter) = &mut self.meter {
            meter.came();
        }
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
                if n == 0 && room > 0 {
                    return Poll::Ready(self.end());
                }
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
        let before = buf.filled().len();
        let room = buf.remaining();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() == before && room > 0 {
            return Poll::Ready(self.end());
        }
        self.note(None);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written)
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
