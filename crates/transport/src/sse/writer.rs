//! Writer of event streams: one message, one event.

use std::time::Duration;

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

/// A comment without words, which reaches no application: a heartbeat.
pub const COMMENT: &[u8] = b":\n\n";

/// The field that sets how long clients wait before they come back, whole milliseconds.
pub fn retry(wait: Duration) -> Bytes {
    format!("retry: {}\n\n", wait.as_millis()).into()
}

/// The event that carries `message`.
pub fn encode(message: &Message) -> Bytes {
    encode_with_id(message, None)
}

/// The event that carries `message`, with an id when it has one.
pub fn encode_with_id(message: &Message, id: Option<u64>) -> Bytes {
    let payload = &message.payload[..];
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    match message.kind {
        Kind::Binary => in_base64(&id, BINARY_TYPE, payload),
        // A carriage return ends a line like a line feed does, so a reader could not tell which of them it was.
        Kind::Text if memchr(b'\r', payload).is_some() => in_base64(&id, TEXT_TYPE, payload),
        Kind::Text => in_lines(&id, payload),
    }
}

fn in_lines(id: &str, text: &[u8]) -> Bytes {
    const NAME: &[u8] = b"data: ";
    let lines = memchr_iter(b'\n', text).count() + 1;
    let mut event = Vec::with_capacity(id.len() + lines * NAME.len() + text.len() + 2);
    event.extend_from_slice(id.as_bytes());
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

fn in_base64(id: &str, event_type: &str, payload: &[u8]) -> Bytes {
    let mut event = String::with_capacity(id.len() + encoded_bytes(payload.len()) + 16);
    event.push_str(id);
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
