//! WebSocket (RFC 6455): the server's reading half and its handshake by tokio-tungstenite, the client's frames by our own hand, for
//! what a message costs on its receive path (METHODOLOGY.md has the figures).
//!
//! `GET /ws` opens a session; `GET /ws?resume=N` opens one that first gets what the server has kept of the messages numbered N
//! and above. The server's heartbeat is a ping for a client that was not heard of for a while; anything that comes from it,
//! the pong included, is a sign of life.

mod client;
mod deflated;
mod frame;
mod frames;
mod handshake;
mod server;
mod socket;
mod writer;

pub use client::{WsConnector, WsRx, WsTx};
pub use server::WsServer;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The server's read buffer: clients send little, and there are many of them.
const SERVER_READ_BYTES: usize = 1024;

/// No buffering of writes, and caps on everything a peer can make grow.
fn config(max_message_bytes: usize, read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .write_buffer_size(0)
        .max_write_buffer_size((2 * max_message_bytes).max(256 * 1024))
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
}
