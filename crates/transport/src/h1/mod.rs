//! HTTP/1.1 for the client's receive path: one exchange at a time on one connection, no task and no buffer of its own.
//!
//! A general library drives a connection by a task, hands bodies over a channel, and keeps a read buffer for each
//! connection. On the path that a load generator takes for every message that is a second wake-up and 8 KiB a
//! connection; METHODOLOGY.md has the figures. Here all connections of a thread read into one buffer, and bodies are
//! lent from it.

mod body;
mod connection;

pub use body::{Body, BodyError};
pub(crate) use connection::poll_read;
pub use connection::{Exchange, Head, Progress};
