//! WebSocket (RFC 6455), by tokio-tungstenite.

mod client;
mod frame;
mod server;
mod socket;

pub use client::{WsConnector, WsRx, WsTx};
pub use server::WsServer;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::error::{ErrorClass, Step, TransportError};

/// A small read buffer, since a client holds thousands of connections (the library's 128 KiB default costs 135 KiB
/// each); no buffering of writes beyond one wake-up; caps on everything a peer can make grow.
fn config(max_message_bytes: usize, write_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(write_buffer_bytes)
        .max_write_buffer_size((2 * max_message_bytes).max(256 * 1024))
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
}

fn class_of(step: Step, error: Error) -> TransportError {
    let class = match &error {
        Error::Io(io) => return TransportError::from_io(step, io),
        Error::ConnectionClosed | Error::AlreadyClosed => ErrorClass::Closed,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ErrorClass::EndedEarly,
        Error::Protocol(ProtocolError::HandshakeIncomplete) => ErrorClass::EndedEarly,
        Error::Capacity(CapacityError::MessageTooLong { .. }) | Error::WriteBufferFull(_) => {
            ErrorClass::TooLarge
        }
        Error::Http(response) => {
            let status = response.status();
            let words = format!("the server answered {status} where 101 Switching Protocols was needed");
            return TransportError::new(step, ErrorClass::Status(status.as_u16()), words);
        }
        Error::Capacity(_)
        | Error::Protocol(_)
        | Error::Utf8(_)
        | Error::HttpFormat(_)
        | Error::AttackAttempt => ErrorClass::Protocol,
        _ => ErrorClass::Other,
    };
    TransportError::new(step, class, error)
}
