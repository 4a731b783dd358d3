//! A stream of an HTTP/2 connection as a stream of bytes, opened by an extended CONNECT (RFC 8441).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::ext::Protocol;
use ::h2::{RecvStream, SendStream};
use bytes::{Buf, Bytes};
use hyper::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Asked;
use super::h2::{Lease, Pool, Room, is_secured_lease};
use super::stream::Stream;
use super::streams::{Taking, request};
use super::{Channel, Dialed};
use crate::error::{ErrorClass, Step, TransportError};
use crate::http::expect_status;
use crate::seam::{Received, Target};

/// A tunnel. Dropped before both its ways were closed, it resets its stream.
pub struct Tunnel {
    lease: Lease,
    send: SendStream<Bytes>,
    body: RecvStream,
    /// What has come and was not read yet; it counts against the stream's window.
    rest: Bytes,
    taking: Taking,
    last_taken: Received,
    _room: Room,
}

impl Tunnel {
    /// When what was read last was taken off the connection.
    pub(super) fn last_read(&self) -> Received {
        self.last_taken
    }
}

/// Opens a tunnel to `path` for `protocol`.
pub(super) async fn open(
    pool: &Pool,
    target: &Target,
    path: &str,
    protocol: (&'static str, &str),
) -> Result<Dialed<Channel>, TransportError> {
    let dialed = pool.lease(target).await?;
    let opening = ask(dialed.made.clone(), target, path, protocol);
    let (tunnel, headers) = tokio::time::timeout(target.open_deadline, opening)
        .await
        .map_err(|_| TransportError::timed_out(Step::Open, target.open_deadline))??;
    Ok(dialed.map(|_| Channel::Open(Stream::Tunnel(Box::new(tunnel)), Box::new(headers))))
}

async fn ask(
    lease: Lease,
    target: &Target,
    path: &str,
    (protocol, headers): (&'static str, &str),
) -> Result<(Tunnel, HeaderMap), TransportError> {
    const STEP: Step = Step::Open;
    // Without the server's word for it, the request must not be sent (RFC 8441, section 3).
    if !lease.takes_extended_connect().await? {
        let words = format_args!("the server's SETTINGS do not enable CONNECT for {protocol} (RFC 8441)");
        return Err(TransportError::new(STEP, ErrorClass::Negotiation, words));
    }
    let authority = target.address.to_string();
    let asked = Asked {
        method: "CONNECT",
        authority: &authority,
        path,
        headers,
        body: b"",
    };
    let mut request = request(&asked, is_secured_lease(&lease))
        .map_err(|e| TransportError::new(STEP, ErrorClass::Protocol, e))?;
    request.extensions_mut().insert(Protocol::from_static(protocol));
    let mut sender = lease.sender();
    poll_fn(|cx| sender.poll_ready(cx))
        .await
        .map_err(|e| lease.class_of(STEP, &e))?;
    let room = lease.room(STEP)?;
    let (response, send) = sender
        .send_request(request, false)
        .map_err(|e| lease.class_of(STEP, &e))?;
    let response = response.await.map_err(|e| lease.class_of(STEP, &e))?;
    lease.waited();
    expect_status(STEP, response.status(), StatusCode::OK)?;
    let (head, body) = response.into_parts();
    let tunnel = Tunnel {
        last_taken: lease.last_read(),
        lease,
        send,
        body,
        rest: Bytes::new(),
        taking: Taking::default(),
        _room: room,
    };
    Ok((tunnel, head.headers))
}

/// Kept whole within an error of input and output: its class is found there again.
fn wrapped(error: ::h2::Error) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tunnel = &mut *self;
        while tunnel.rest.is_empty() {
            let Poll::Ready(came) = tunnel.body.poll_data(cx) else {
                tunnel.taking.waits();
                return Poll::Pending;
            };
            match came {
                None => return Poll::Ready(Ok(())),
                Some(Ok(bytes)) => {
                    tunnel.last_taken = tunnel.taking.took(&tunnel.lease);
                    tunnel.rest = bytes;
                }
                Some(Err(e)) => return Poll::Ready(Err(wrapped(e))),
            }
        }
        let take = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..take]);
        self.rest.advance(take);
        // Taken: the peer may send as much again.
        let _ = self.body.flow_control().release_capacity(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            self.send.reserve_capacity(buf.len());
            let room = self.send.capacity();
            if room > 0 {
                let take = room.min(buf.len());
                let piece = Bytes::copy_from_slice(&buf[..take]);
                self.send.send_data(piece, false).map_err(wrapped)?;
                return Poll::Ready(Ok(take));
            }
            match ready!(self.send.poll_capacity(cx)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Err(wrapped(e))),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(wrapped))
    }
}
