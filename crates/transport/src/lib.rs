//! Transports: the seam they share, the stamp they carry, and one folder for each, both halves.
//!
//! A client half gives a pair ([`Tx`], [`Rx`]); a server half turns a request into a session that drains its
//! [`Outbox`]. A new transport is a folder and one row of [`registry`]; nothing else changes.

pub mod body;
pub mod carrier;
pub mod compression;
pub mod connection;
pub mod control;
pub mod error;
pub mod h1;
pub mod host;
pub mod http;
pub mod long_poll;
pub mod message;
pub mod meter;
pub mod null;
pub mod outbox;
pub mod outgoing;
pub mod process;
pub mod quotes;
pub mod registry;
pub mod seam;
pub mod sse;
pub mod stamp;
pub mod stamps;
pub mod takeover;
pub mod tcp;
pub mod timer;
pub mod wire;
pub mod ws;

pub use carrier::Carrier;
pub use connection::Connection;
pub use error::{ErrorClass, Step, TransportError};
pub use host::{CloseReason, Heartbeat, Host, Session, SessionId};
pub use message::{Kind, Message};
pub use outbox::{Outbox, Outgoing, WhenFull};
pub use seam::{Connected, Connector, Inbox, Received, Rx, ServerHalf, Target, Tx};
pub use stamp::Stamp;
