//! In-process pair: no socket, no server. The harness's own floor, and the engine's test double.
//!
//! A session talks to a [`Peer`] on its own thread. The peer echoes, or publishes what it is told to, so that the
//! worker, the recorder and the books can be run and timed without a network.

mod client;
mod peer;

pub use client::{NullConnector, NullRx, NullTx};
pub use peer::Peer;

/// The name of this transport's only carrier.
pub const CARRIER: &str = "in-process";
