//! Chunks (RFC 9112, section 7.1): an event as it stands on the socket of an HTTP/1.1 stream.

use bytes::Bytes;

/// The end of a chunked body.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// `event` as one chunk.
pub(super) fn wrap(event: &[u8]) -> Bytes {
    let size = format!("{:x}\r\n", event.len());
    [size.as_bytes(), event, b"\r\n"].concat().into()
}

/// The event in a chunk of [`wrap`], not copied: for carriers that frame a body themselves.
pub(super) fn unwrap(chunk: &Bytes) -> Bytes {
    let start = memchr::memchr(b'\n', chunk).map_or(0, |end| end + 1);
    chunk.slice(start..chunk.len().saturating_sub(2).max(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        for event in [&b"data: x\n\n"[..], b"\r\n\r\n", &[b'\n'; 5_000]] {
            assert_eq!(unwrap(&wrap(event)), event);
        }
        assert_eq!(wrap(b"data: x\n\n"), "9\r\ndata: x\n\n\r\n");
    }
}
