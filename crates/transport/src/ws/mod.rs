//! WebSocket (RFC 6455), by tokio-tungstenite.
//!
//! `GET /ws` opens a session; `GET /ws?resume=N` opens one that first gets what the server has kept of the messages numbered N
//! and above. The server's heartbeat is a ping for a client that was not heard of for a while; anything that comes from it,
//! the pong included, is a sign of life.

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

/// The server's read buffer: clients send little, and there are many of them.
const SERVER_READ_BYTES: usize = 1024;

/// The client's read buffer for messages of usually `usual_message_bytes`. The library fills it with zeros before every read
/// and keeps one for each connection, so its default of 128 KiB costs 135 KiB a connection; a small message must fit with its
/// header, and a large one should not take many reads.
fn client_read_bytes(usual_message_bytes: usize) -> usize {
    const HEADER_BYTES: usize = 14;
    (usual_message_bytes + HEADER_BYTES)
        .next_power_of_two()
        .clamp(512, 16 * 1024)
}

/// No buffering of writes, and caps on everything a peer can make grow.
fn config(max_message_bytes: usize, read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .write_buffer_size(0)
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
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ErrorClass::TooLarge,
        // Messages of our own are flushed one by one: what fills the room are answers to pings.
        Error::WriteBufferFull(_) => ErrorClass::Flooded,
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
