//! A compressed event stream: one gzip body (RFC 1952), with a flush after each event, so that it leaves at once.

use bytes::Bytes;
use flate2::Crc;

use crate::compression::Compression;
use crate::compression::coding::{Pieces, Stream};
use crate::compression::deflate::Compressor;
use crate::compression::shared::{self, Deflated, Form};
use crate::outbox::Coder;
use crate::sse::chunk;

/// Compresses a session's events on their way out, heartbeats too: they are part of the body.
pub(super) enum Gzipping {
    /// Events refer back to earlier ones: a compressor for each stream.
    Alone(Stream),
    /// They do not: one event is the same for all streams with these settings, bits of the window and level.
    Shared((u8, u8), Pieces),
}

impl Gzipping {
    pub(super) fn of(compression: &Compression) -> Box<Self> {
        let window = compression.down;
        Box::new(if window.takeover {
            Gzipping::Alone(Stream::new(compression))
        } else {
            Gzipping::Shared((window.bits, compression.level), Pieces::default())
        })
    }
}

/// An event deflated alone, as a chunk.
fn alone(event: &[u8], compressor: &mut Compressor) -> Deflated {
    let (mut out, mut crc) = (Vec::new(), Crc::new());
    compressor.flush(event, &mut out);
    crc.update(event);
    Deflated {
        bytes: chunk::wrap(&out),
        crc: Some(crc),
    }
}

impl Coder for Gzipping {
    fn code(&mut self, encoded: &Bytes, _control: bool) -> Bytes {
        let event = chunk::unwrap(encoded);
        match self {
            Gzipping::Alone(stream) => {
                let mut out = Vec::new();
                stream.push(&event, &mut out);
                chunk::wrap(&out)
            }
            Gzipping::Shared(of, pieces) => {
                let make = |compressor: &mut Compressor| alone(&event, compressor);
                shared::once(Form::Chunk, *of, encoded, make, |made| {
                    if let Some(crc) = &made.crc {
                        pieces.count(crc);
                    }
                    match pieces.begin() {
                        [] => made.bytes.clone(),
                        header => chunk::wrap(&[header, &chunk::unwrap(&made.bytes)].concat()),
                    }
                })
            }
        }
    }

    fn finish(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self {
            Gzipping::Alone(stream) => {
                stream.end(&mut out);
            }
            Gzipping::Shared(_, pieces) => pieces.end(&mut out),
        }
        Some(chunk::wrap(&out))
    }
}
