//! Frames of a server (RFC 6455, section 5.2): not masked, so one serves every connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::{Kind, Message};

/// One whole message in one frame.
pub(super) fn encode(message: &Message) -> Bytes {
    const FINAL: u8 = 0x80;
    let opcode = match message.kind {
        Kind::Text => 1,
        Kind::Binary => 2,
    };
    let length = message.payload.len();
    let mut frame = BytesMut::with_capacity(10 + length);
    frame.put_u8(FINAL | opcode);
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
    frame.put_slice(&message.payload);
    frame.freeze()
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
}
