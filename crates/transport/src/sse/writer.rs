//! Writer of event streams: one message, one event.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::{memchr, memchr_iter};

use crate::message::{Kind, Message};

/// The type of an event whose data is a binary message in base64 (RFC 4648, section 4).
pub const BINARY_TYPE: &str = "b64";
/// The type of an event whose data is, in base64, a text that an event stream would change.
pub const TEXT_TYPE: &str = "b64t";

/// The longest line, or data, that [`encode`] makes of a message of at most `payload_bytes`.
pub const fn encoded_bytes(payload_bytes: usize) -> usize {
    const FIELD_NAME: usize = 16;
    payload_bytes
        .div_ceil(3)
        .saturating_mul(4)
        .saturating_add(FIELD_NAME)
}

/// The event that carries `message`.
pub fn encode(message: &Message) -> Bytes {
    let payload = &message.payload[..];
    match message.kind {
        Kind::Binary => in_base64(BINARY_TYPE, payload),
        // A carriage return ends a line like a line feed does, so a reader could not tell which of them it was.
        Kind::Text if memchr(b'\r', payload).is_some() => in_base64(TEXT_TYPE, payload),
        Kind::Text => in_lines(payload),
    }
}

fn in_lines(text: &[u8]) -> Bytes {
    const NAME: &[u8] = b"data: ";
    let lines = memchr_iter(b'\n', text).count() + 1;
    let mut event = Vec::with_capacity(lines * NAME.len() + text.len() + 2);
    for line in text.split_inclusive(|b| *b == b'\n') {
        event.extend_from_slice(NAME);
        event.extend_from_slice(line);
    }
    if text.last().is_none_or(|b| *b == b'\n') {
        // The empty line after the last line feed, which the split leaves out.
        event.extend_from_slice(NAME);
    }
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn in_base64(event_type: &str, payload: &[u8]) -> Bytes {
    let mut event = String::with_capacity(encoded_bytes(payload.len()) + 16);
    event.push_str("event: ");
    event.push_str(event_type);
    event.push_str("\ndata: ");
    STANDARD.encode_string(payload, &mut event);
    event.push_str("\n\n");
    event.into()
}

/// The payload that an event of type [`BINARY_TYPE`] or [`TEXT_TYPE`] carries, into `payload`.
///
/// # Errors
/// The data is not base64.
pub fn decode(data: &str, payload: &mut Vec<u8>) -> Result<(), base64::DecodeError> {
    payload.clear();
    STANDARD.decode_vec(data, payload)
}
