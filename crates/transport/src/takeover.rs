//! Taking over: a connection whose first request came whole can be served straight on its socket.
//!
//! A general HTTP library keeps buffers and state for every connection, and stands between a fan-out and the socket. A
//! stream that is opened once and then only written to needs neither: when its request is all there is to read, the transport
//! may answer it itself. The request is only looked at here; whatever is unusual about it stays in the socket for the
//! library, which is the way for everything else.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::wire::Wire;

/// A request's head longer than this is left to the library.
pub(crate) const MOST_HEAD_BYTES: usize = 2 * 1024;
/// More headers than this are too.
const MOST_HEADERS: usize = 32;

/// A request that came whole, still unread.
pub struct Opening {
    /// Its method, target and headers.
    pub request: Request<()>,
    head_bytes: usize,
}

impl Opening {
    /// Looks at what has come on a connection, once something has: its first bytes, and the first request, if it is there whole, is
    /// a plain GET without a body or anything unusual, and nothing follows it.
    ///
    /// # Errors
    /// The connection's own.
    pub(crate) async fn look(stream: &TcpStream) -> io::Result<(First, Option<Self>)> {
        poll_fn(|cx| {
            // In this function, not in the future: it would be part of every connection's memory.
            let mut bytes = [0; MOST_HEAD_BYTES + 1];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(stream.poll_peek(cx, &mut buffer))?;
            Poll::Ready(Ok((First::of(buffer.filled()), Self::parse(buffer.filled()))))
        })
        .await
    }

    /// Reads the request off the connection.
    ///
    /// # Errors
    /// The connection's own.
    pub fn take(&self, wire: &mut impl Wire) -> io::Result<()> {
        wire.skip(self.head_bytes)
    }

    /// The request in `bytes`, on the same terms as [`Opening::look`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        parse(bytes)
    }
}

/// The first bytes of a connection, as far as they tell what it speaks.
#[derive(Clone, Copy, Default)]
pub(crate) struct First {
    bytes: [u8; 3],
    count: usize,
}

impl First {
    fn of(came: &[u8]) -> Self {
        let mut first = Self::default();
        for (to, byte) in first.bytes.iter_mut().zip(came) {
            *to = *byte;
            first.count += 1;
        }
        first
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

fn parse(bytes: &[u8]) -> Option<Opening> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).ok()? else {
        return None;
    };
    if head_bytes != bytes.len() || head.version != Some(1) || head.method != Some(Method::GET.as_str()) {
        return None;
    }
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let unusual = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT];
    if map.get_all(HOST).iter().count() != 1 || unusual.iter().any(|name| map.contains_key(name)) {
        return None;
    }
    let mut request = Request::new(());
    *request.uri_mut() = head.path?.parse().ok()?;
    *request.headers_mut() = map;
    Some(Opening { request, head_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_whole_get_is_taken() {
        let taken = parse(b"GET /x?a=b HTTP/1.1\r\nHost: h\r\nAccept: y\r\n\r\n").unwrap();
        assert_eq!((taken.request.uri().path(), taken.head_bytes), ("/x", 43));
        for other in [
            &b""[..],
            b"GET /x HTTP/1.1\r\nHost: h\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\n\r\nmore",
            b"GET /x HTTP/1.0\r\nHost: h\r\n\r\n",
            b"POST /x HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /x HTTP/1.1\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\nHost: g\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ] {
            assert!(parse(other).is_none(), "{:?}", String::from_utf8_lossy(other));
        }
        let long = [
            &b"GET /x HTTP/1.1\r\nHost: h\r\nx: "[..],
            &[b'y'; MOST_HEAD_BYTES],
            b"\r\n\r\n",
        ]
        .concat();
        assert!(parse(&long[..MOST_HEAD_BYTES + 1]).is_none());
    }
}
