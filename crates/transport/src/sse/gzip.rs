//! A compressed event stream: one gzip body (RFC 1952), with a flush after each event, so that it leaves at once.

use bytes::Bytes;
use flate2::Crc;

use crate::compression::Compression;
use crate::compression::coding::{Pieces, Stream};
use crate::compression::deflate::Compressor;
use crate::compression::shared::{self, Deflated, Form};
use crate::outbox::{Coder, CodingFailed};
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

/// An event deflated alone, as a chunk; nothing, not even that, when the compressor failed.
fn alone(event: &[u8], compressor: &mut Compressor) -> Deflated {
    let (mut out, mut crc) = (Vec::new(), Crc::new());
    let flushed = compressor.flush(event, &mut out);
    crc.update(event);
    Deflated {
        bytes: chunked(flushed, &out).unwrap_or_default(),
        crc: Some(crc),
    }
}

/// A chunk with nothing in it would be the last one of a body (RFC 9112, section 7.1): an end that looks orderly.
fn chunked(made: bool, out: &[u8]) -> Result<Bytes, CodingFailed> {
    if made && !out.is_empty() {
        Ok(chunk::wrap(out))
    } else {
        Err(CodingFailed)
    }
}

impl Coder for Gzipping {
    fn code(&mut self, encoded: &Bytes, _control: bool) -> Result<Bytes, CodingFailed> {
        let event = chunk::unwrap(encoded);
        match self {
            Gzipping::Alone(stream) => {
                let mut out = Vec::new();
                let pushed = stream.push(&event, &mut out);
                chunked(pushed, &out)
            }
            Gzipping::Shared(of, pieces) => {
                let make = |compressor: &mut Compressor| alone(&event, compressor);
                shared::once(Form::Chunk, *of, encoded, make, |made| {
                    if made.bytes.is_empty() {
                        return Err(CodingFailed);
                    }
                    if let Some(crc) = &made.crc {
                        pieces.count(crc);
                    }
                    Ok(match pieces.begin() {
                        [] => made.bytes.clone(),
                        header => chunk::wrap(&[header, &chunk::unwrap(&made.bytes)].concat()),
                    })
                })
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>, CodingFailed> {
        let mut out = Vec::new();
        let made = match self {
            Gzipping::Alone(stream) => stream.end(&mut out),
            Gzipping::Shared(_, pieces) => {
                pieces.end(&mut out);
                true
            }
        };
        chunked(made, &out).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_end_of_a_body_is_a_chunk_with_nothing_in_it() {
        assert_eq!(chunked(true, b""), Err(CodingFailed));
        assert_eq!(chunked(false, b"half"), Err(CodingFailed));
        for takeover in [false, true] {
            let window = crate::compression::Window { takeover, bits: 15 };
            let settings = Compression {
                down: window,
                up: window,
                level: 6,
            };
            let mut gzipping = Gzipping::of(&settings);
            for event in [&b"data: x\n\n"[..], b"data: x\n\n", b":\n\n"] {
                let coded = gzipping.code(&chunk::wrap(event), false).unwrap();
                assert!(!chunk::unwrap(&coded).is_empty());
            }
            let end = gzipping.finish().unwrap().unwrap();
            assert!(!chunk::unwrap(&end).is_empty());
        }
    }
}
