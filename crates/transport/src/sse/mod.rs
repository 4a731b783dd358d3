//! Server-sent events (WHATWG HTML, section 9.2) down, POST up.
//!
//! `GET /sse` opens a session: 200, `content-type: text/event-stream`, the session's name in the header
//! [`SESSION_HEADER`](crate::http::SESSION_HEADER), and a stream that ends with the session. `POST /sse?session=…`
//! takes one message up. A text message is an event of the default type, each of its lines a `data` field.
//!
//! A server that keeps messages for clients that come back numbers them: each event carries its message's number as its id, and a
//! client that names the last one in `Last-Event-ID` gets those after it. The server's heartbeat is a comment, and it may say with
//! a `retry` field at the start of the stream when it wants to be asked again.
//!
//! # What base64 costs
//! An event stream is UTF-8 text, and a reader turns every line end into a line feed. So binary messages, and texts
//! with a carriage return, go as base64 (RFC 4648, section 4) under an event type of their own ([`writer::BINARY_TYPE`],
//! [`writer::TEXT_TYPE`]): four bytes for every three, so a third more on the wire, 11 or 12 bytes for the type, and the
//! CPU time of coding once per fan-out on the server and once per delivery on the client. The registry's
//! [`Binary`](crate::registry::Binary) tells a report that this transport pays it.
//!
//! # How it ends
//! The server ends a session with the end of the response's body. A client has no such word: all it can do is close the
//! connection, which the server cannot tell from a crash and reports as
//! [`CloseReason::EndedEarly`](crate::CloseReason::EndedEarly).

mod chunk;
mod client;
mod gzip;
pub mod parser;
mod server;
pub mod writer;

/// The request header with the id of the last event that a client has got (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

pub use client::{SseConnector, SseRx, SseTx};
pub use server::SseServer;
