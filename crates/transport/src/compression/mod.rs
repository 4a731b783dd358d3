//! Compression: permessage-deflate (RFC 7692) for a transport with messages of its own, a content coding (RFC 9110, section 8.4.1)
//! for those that send bodies.
//!
//! The WebSocket library has no extension, so it lies here, beside our own frames: messages are deflated when they leave the
//! outbox and not when they are put there, since one that is dropped must not be part of what the next refer back to. What refers
//! back to nothing is deflated once a thread and shared by all its sessions, as every other encoding is.

pub(crate) mod coding;
pub(crate) mod deflate;
pub mod extension;
pub(crate) mod shared;

use std::fmt;

pub use extension::Parameters;

/// How what one side sends is deflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// What was sent before may be referred to: each connection needs a compressor of its own.
    pub takeover: bool,
    /// The logarithm of how far back, in bytes: 9 to 15.
    pub bits: u8,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            takeover: true,
            bits: WIDEST_BITS,
        }
    }
}

/// The widest window of DEFLATE (RFC 1951): 32 KiB.
pub const WIDEST_BITS: u8 = 15;
/// The narrowest that the compressor can have. RFC 7692 knows one of 8 bits too, which zlib does not make (its own answer to 8
/// is 9, and the peer would not expect that).
pub const NARROWEST_BITS: u8 = 9;

/// What is asked for, or what a server is ready to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compression {
    /// Of what the server sends.
    pub down: Window,
    /// Of what the client sends; where that goes up in requests of its own, it is not compressed.
    pub up: Window,
    /// How hard our own compressors try: 1 to 9.
    pub level: u8,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            down: Window::default(),
            up: Window::default(),
            level: 6,
        }
    }
}

/// What was agreed on with the peer, from its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// permessage-deflate, with these parameters.
    Extension(Parameters),
    /// The coding of what the server sends, from its `Content-Encoding`.
    Coding(&'static str),
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Agreed::Extension(parameters) => parameters.fmt(f),
            Agreed::Coding(coding) => write!(f, "content-encoding {coding}"),
        }
    }
}

/// The inflated bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Not DEFLATE, or cut short.
    #[error("the compressed data are corrupt")]
    Data,
    /// More comes out than may.
    #[error("the compressed data inflate to more than {0} bytes")]
    TooLarge(usize),
}

impl Corrupt {
    pub(crate) fn into_error(self) -> crate::TransportError {
        let class = match self {
            Corrupt::Data => crate::ErrorClass::Protocol,
            Corrupt::TooLarge(_) => crate::ErrorClass::TooLarge,
        };
        crate::TransportError::new(crate::Step::Receive, class, self)
    }
}
