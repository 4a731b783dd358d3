//! Arguments: `VERB key=value …`.

use std::io;
use std::net::SocketAddr;

/// What is framed how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    WebSocket,
    EventStream,
}

#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) verb: String,
    pub(crate) address: SocketAddr,
    pub(crate) framing: Framing,
    pub(crate) connections: usize,
    pub(crate) rate_per_second: u64,
    pub(crate) seconds: u64,
    pub(crate) payload_bytes: usize,
    /// The reader asks a pushmark server to publish; otherwise the writer does so by itself.
    pub(crate) publish: bool,
    /// Connections are held this long without a message before anything else, and memory is read then.
    pub(crate) settle_ms: u64,
    /// Interleaved pairs of a comparison.
    pub(crate) pairs: usize,
}

pub(crate) fn parse() -> io::Result<Args> {
    let mut words = std::env::args().skip(1);
    let mut args = Args {
        verb: words.next().unwrap_or_default(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        framing: Framing::WebSocket,
        connections: 100,
        rate_per_second: 10,
        seconds: 5,
        payload_bytes: 200,
        publish: false,
        settle_ms: 300,
        pairs: 5,
    };
    for word in words {
        let bad = || io::Error::other(format!("not understood: {word}"));
        let (key, value) = word.split_once('=').ok_or_else(bad)?;
        let number = || value.parse::<u64>().map_err(|_| bad());
        match key {
            "address" => args.address = value.parse().map_err(|_| bad())?,
            "framing" if value == "websocket" => args.framing = Framing::WebSocket,
            "framing" if value == "event-stream" => args.framing = Framing::EventStream,
            "connections" => args.connections = number()? as usize,
            "rate" => args.rate_per_second = number()?,
            "seconds" => args.seconds = number()?,
            "payload" => args.payload_bytes = number()? as usize,
            "publish" => args.publish = value == "yes",
            "pairs" => args.pairs = number()? as usize,
            "settle_ms" => args.settle_ms = number()?,
            _ => return Err(bad()),
        }
    }
    Ok(args)
}
