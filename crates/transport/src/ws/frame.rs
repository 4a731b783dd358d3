//! Frames of a server (RFC 6455, section 5.2): not masked, so one serves every connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::compression::Compression;
use crate::compression::deflate::Compressor;
use crate::compression::shared::{self, Deflated, Form};
use crate::message::{Kind, Message};
use crate::outbox::{Coder, CodingFailed};

const FINAL: u8 = 0x80;
/// RSV1: the message is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// One whole message in one frame.
pub(super) fn encode(message: &Message) -> Bytes {
    let opcode = match message.kind {
        Kind::Text => 1,
        Kind::Binary => 2,
    };
    framed(FINAL | opcode, &message.payload)
}

fn framed(first: u8, payload: &[u8]) -> Bytes {
    let length = payload.len();
    let mut frame = BytesMut::with_capacity(10 + length);
    frame.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.put_u8(short),
        (_, Ok(medium)) => {
            frame.put_u8(126);
            frame.put_u16(medium);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

/// The message of a frame of [`encode`], deflated. Where the compressor failed, nothing: what it has taken is in its window
/// already, and not in the peer's, so nothing that comes after it could be read.
fn deflated(frame: &Bytes, compressor: &mut Compressor) -> Result<Bytes, CodingFailed> {
    let header_bytes = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    let (Some(first), Some(payload)) = (frame.first(), frame.get(header_bytes..)) else {
        return Err(CodingFailed);
    };
    let mut compressed = Vec::new();
    if compressor.message(payload, &mut compressed) {
        Ok(framed(COMPRESSED | first, &compressed))
    } else {
        Err(CodingFailed)
    }
}

/// Deflates a session's messages on their way out. Control frames are not compressed (RFC 7692, section 6).
pub(super) struct Deflating {
    compressor: Compressor,
    /// What refers to nothing before it is the same for all sessions with these settings: bits of the window, level.
    shared: Option<(u8, u8)>,
}

impl Deflating {
    pub(super) fn new(agreed: &Compression) -> Self {
        let window = agreed.down;
        Self {
            compressor: Compressor::new(window, agreed.level),
            shared: (!window.takeover).then_some((window.bits, agreed.level)),
        }
    }
}

impl Coder for Deflating {
    fn code(&mut self, frame: &Bytes, control: bool) -> Result<Bytes, CodingFailed> {
        // Nothing stands for what could not be made: a frame is never empty.
        let alone = |compressor: &mut Compressor| Deflated {
            bytes: deflated(frame, compressor).unwrap_or_default(),
            crc: None,
        };
        match self.shared {
            _ if control => Ok(frame.clone()),
            None => deflated(frame, &mut self.compressor),
            Some(of) => shared::once(Form::Frame, of, frame, alone, |made| {
                match made.bytes.is_empty() {
                    true => Err(CodingFailed),
                    false => Ok(made.bytes.clone()),
                }
            }),
        }
    }
}

/// A ping without a payload, as a server sends it.
pub(super) const PING: &[u8] = b"\x89\x00";

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{self};

    use super::*;

    #[test]
    fn the_library_reads_what_is_written_here() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            for message in [
                Message::text("x".repeat(length)),
                Message::binary(vec![0xFF; length]),
            ] {
                let wire = std::io::Cursor::new(encode(&message).to_vec());
                let config = WebSocketConfig::default();
                let read = WebSocket::from_raw_socket(wire, Role::Client, Some(config))
                    .read()
                    .unwrap();
                match message.kind {
                    Kind::Text => assert!(matches!(&read, tungstenite::Message::Text(_))),
                    Kind::Binary => assert!(matches!(&read, tungstenite::Message::Binary(_))),
                }
                assert_eq!(read.into_data(), message.payload);
            }
        }
        let read = WebSocket::from_raw_socket(std::io::Cursor::new(PING.to_vec()), Role::Client, None).read();
        assert!(matches!(read, Ok(tungstenite::Message::Ping(payload)) if payload.is_empty()));
    }

    #[test]
    fn a_session_whose_compressor_failed_is_to_end() {
        let mut coder = Deflating {
            compressor: Compressor::broken(),
            shared: None,
        };
        let frame = encode(&Message::text("Hello"));
        assert_eq!(coder.code(&frame, false), Err(CodingFailed));
        // What is not compressed is not its concern.
        assert_eq!(coder.code(&Bytes::from_static(PING), true).as_deref(), Ok(PING));
    }
}
