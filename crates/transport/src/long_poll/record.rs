//! Records: messages in the body of a poll's answer, each with its kind and length, so that any bytes pass as they are.
//!
//! ```text
//! record = kind length payload
//! kind   = "t" (text) | "b" (binary)      one byte
//! length = payload's bytes                four bytes, most significant first
//! ```

use bytes::Bytes;

use crate::message::{Kind, Message};

/// Bytes before a record's payload.
pub const HEADER_BYTES: usize = 5;

/// The record that carries `message`.
pub fn encode(message: &Message) -> Bytes {
    let kind = match message.kind {
        Kind::Text => b't',
        Kind::Binary => b'b',
    };
    // Payloads are capped far below four gibibytes.
    let length = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
    let mut record = Vec::with_capacity(HEADER_BYTES + message.payload.len());
    record.push(kind);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&message.payload);
    record.into()
}

/// What is wrong with the bytes where a record should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The kind is neither.
    #[error("a record of kind {0:#04x}")]
    Kind(u8),
    /// The body ends inside a record.
    #[error("the body ends inside a record")]
    Incomplete,
    /// The payload of a text record is not UTF-8.
    #[error("a text record that is not UTF-8")]
    Text,
    /// The payload is larger than what is taken.
    #[error("a record of {0} bytes")]
    TooLarge(usize),
}

/// Takes the first record off `body`; `None` when nothing is left.
///
/// # Errors
/// The bytes are no record, or its payload is over `most_bytes`.
pub fn take<'a>(body: &mut &'a [u8], most_bytes: usize) -> Option<Result<(Kind, &'a [u8]), BadRecord>> {
    if body.is_empty() {
        return None;
    }
    Some(split(body, most_bytes).map(|(kind, payload, rest)| {
        *body = rest;
        (kind, payload)
    }))
}

fn split(body: &[u8], most_bytes: usize) -> Result<(Kind, &[u8], &[u8]), BadRecord> {
    let (header, rest) = body
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(BadRecord::Incomplete)?;
    let [kind, length @ ..] = *header;
    let kind = match kind {
        b't' => Kind::Text,
        b'b' => Kind::Binary,
        other => return Err(BadRecord::Kind(other)),
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > most_bytes {
        return Err(BadRecord::TooLarge(length));
    }
    let (payload, rest) = rest.split_at_checked(length).ok_or(BadRecord::Incomplete)?;
    if !crate::host::is_valid(kind, payload) {
        return Err(BadRecord::Text);
    }
    Ok((kind, payload, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_follow_each_other() {
        let messages = [
            Message::text(""),
            Message::binary((0..=255).collect::<Vec<u8>>()),
            Message::text("t\0b\r\n…"),
        ];
        let body: Vec<u8> = messages.iter().flat_map(encode).collect();
        let mut rest = &body[..];
        for message in &messages {
            assert_eq!(
                take(&mut rest, 256),
                Some(Ok((message.kind, &message.payload[..])))
            );
        }
        assert_eq!(take(&mut rest, 256), None);
    }

    #[test]
    fn wrong_bytes_are_told_apart() {
        for (body, wrong) in [
            (&b"t"[..], BadRecord::Incomplete),
            (b"b\0\0\0\x02x", BadRecord::Incomplete),
            (b"x\0\0\0\0", BadRecord::Kind(b'x')),
            (b"t\0\0\0\x01\xFF", BadRecord::Text),
            (b"b\xFF\xFF\xFF\xFF", BadRecord::TooLarge(u32::MAX as usize)),
            (b"b\0\0\0\x05", BadRecord::TooLarge(5)),
        ] {
            assert_eq!(take(&mut &body[..], 4), Some(Err(wrong)), "{body:?}");
        }
    }
}
