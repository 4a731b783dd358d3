//! gzip (RFC 1952) as a content coding: of a body that is whole, and of one that goes on.

use std::cell::RefCell;

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::deflate::{Compressor, run};
use super::{Agreed, Compression, Corrupt, WIDEST_BITS, Window};
use crate::error::{ErrorClass, Step, TransportError};

/// The coding's name.
pub(crate) const GZIP: &str = "gzip";
/// A member's header: deflate, no name, no time, an unknown system.
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// A last block with nothing in it, in the fixed code.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];
/// Inflated at a time.
const PIECE_BYTES: usize = 16 * 1024;

thread_local! {
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether the value of `Accept-Encoding` takes gzip (RFC 9110, section 12.5.3). Only what names it does: a client that takes
/// anything has not asked for it.
pub(crate) fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(GZIP));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        named && weight.is_none_or(|q| q.trim().parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// What a client says of codings, as a line of its request.
pub(crate) fn accept_line(compressed: bool) -> &'static str {
    if compressed {
        "accept-encoding: gzip\r\n"
    } else {
        "accept-encoding: identity\r\n"
    }
}

/// Whether the coding of an answer, the value of its `Content-Encoding`, is the one that was asked for; gives what it is.
///
/// # Errors
/// Negotiation, when it is less than that; protocol, when it is more.
pub(crate) fn agreed(
    step: Step,
    compressed: bool,
    coding: Option<&[u8]>,
) -> Result<Option<Agreed>, TransportError> {
    let coding = coding.filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let is_gzip =
        coding.is_some_and(|c| c.eq_ignore_ascii_case(b"gzip") || c.eq_ignore_ascii_case(b"x-gzip"));
    match (compressed, coding.map(String::from_utf8_lossy)) {
        (true, _) if is_gzip => Ok(Some(Agreed::Coding(GZIP))),
        (true, coding) => {
            let got = coding.map_or("none".to_owned(), |coding| format!("{coding:?}"));
            let words = format_args!("asked for content-encoding {GZIP}, and the server answered with {got}");
            Err(TransportError::new(step, ErrorClass::Negotiation, words))
        }
        (false, None) => Ok(None),
        // Bytes that are not text would be read as a stream without events.
        (false, Some(coding)) => {
            let words = format_args!("the content coding is {coding:?}, which was not asked for");
            Err(TransportError::new(step, ErrorClass::Protocol, words))
        }
    }
}

/// A whole body; `None` when the compressor failed.
pub(crate) fn whole(body: &[u8], compression: &Compression) -> Option<Vec<u8>> {
    let window = Window {
        takeover: false,
        ..compression.down
    };
    let mut out = HEADER.to_vec();
    if !body.is_empty() && !Compressor::new(window, compression.level).flush(body, &mut out) {
        return None;
    }
    let mut crc = Crc::new();
    crc.update(body);
    end(&mut out, &crc);
    Some(out)
}

fn end(out: &mut Vec<u8>, crc: &Crc) {
    out.extend_from_slice(&LAST_BLOCK);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
}

/// A stream that refers back to what came before.
pub(crate) struct Stream(Compress);

impl Stream {
    pub(crate) fn new(compression: &Compression) -> Self {
        let level = flate2::Compression::new(compression.level.into());
        Self(Compress::new_gzip(level, compression.down.bits))
    }

    /// Appends what a reader needs to have all of `piece`. False when the compressor failed.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> bool {
        run(&mut self.0, piece, FlushCompress::Sync, out)
    }

    /// Appends the end.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        run(&mut self.0, &[], FlushCompress::Finish, out)
    }
}

/// A stream of pieces that were deflated alone, for many streams at once. Of its own it keeps a check sum.
#[derive(Default)]
pub(crate) struct Pieces {
    begun: bool,
    crc: Crc,
}

impl Pieces {
    /// What comes before the next piece.
    pub(crate) fn begin(&mut self) -> &'static [u8] {
        if std::mem::replace(&mut self.begun, true) {
            &[]
        } else {
            &HEADER
        }
    }

    /// The next piece has this check sum.
    pub(crate) fn count(&mut self, piece: &Crc) {
        self.crc.combine(piece);
    }

    /// Appends the end.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.begin());
        end(out, &self.crc);
    }
}

/// Reads a gzip body, piece by piece.
pub(crate) struct Reader {
    decompress: Decompress,
    ended: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            decompress: Decompress::new_gzip(WIDEST_BITS),
            ended: false,
        }
    }

    /// The body has ended as the coding has it, with the right check sum.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Inflates all of `input` and lends it piece by piece to `sink`, which says whether it wants more.
    ///
    /// # Errors
    /// The data are corrupt, or go on after their end.
    pub(crate) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8]) -> bool) -> Result<(), Corrupt> {
        let Self { decompress, ended } = self;
        // Taken and put back: whoever is lent a piece may feed another reader.
        let mut piece = PIECE.take();
        piece.resize(PIECE_BYTES, 0);
        let mut rest = input;
        let fed = loop {
            if *ended {
                break if rest.is_empty() {
                    Ok(())
                } else {
                    Err(Corrupt::Data)
                };
            }
            let before = (decompress.total_in(), decompress.total_out());
            let Ok(status) = decompress.decompress(rest, &mut piece, FlushDecompress::Sync) else {
                break Err(Corrupt::Data);
            };
            let used = (decompress.total_in() - before.0) as usize;
            let made = (decompress.total_out() - before.1) as usize;
            rest = &rest[used..];
            *ended = status == Status::StreamEnd;
            if made > 0 && !sink(&piece[..made]) {
                break Ok(());
            }
            if !*ended {
                match rest.is_empty() {
                    true if made < PIECE_BYTES => break Ok(()),
                    false if used == 0 && made == 0 => break Err(Corrupt::Data),
                    _ => {}
                }
            }
        };
        PIECE.set(piece);
        fed
    }
}

/// Inflates a whole body of at most `most` bytes into `out`.
///
/// # Errors
/// The data are corrupt, cut short, or more.
pub(crate) fn inflate(body: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    out.clear();
    let mut reader = Reader::new();
    let mut over = false;
    reader.feed(body, |piece| {
        over = piece.len() > most - out.len();
        if !over {
            out.extend_from_slice(piece);
        }
        !over
    })?;
    if over {
        return Err(Corrupt::TooLarge(most));
    }
    if reader.has_ended() {
        Ok(())
    } else {
        Err(Corrupt::Data)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn settings(takeover: bool, bits: u8) -> Compression {
        let window = Window { takeover, bits };
        Compression {
            down: window,
            up: window,
            level: 6,
        }
    }

    /// What a library makes of it.
    fn by_library(gzip: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn gzip_is_taken_where_it_is_named() {
        for (value, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip; q=1", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("identity", false),
            ("x-gzip", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(value), taken, "{value}");
        }
    }

    #[test]
    fn a_whole_body_is_read_by_a_library_and_here() {
        for length in [0, 1, 100, 100_000] {
            let body = vec![b'x'; length];
            let gzip = whole(&body, &settings(true, 15)).unwrap();
            assert_eq!(by_library(&gzip), body);
            let mut out = vec![1];
            inflate(&gzip, length, &mut out).unwrap();
            assert_eq!(out, body);
            for end in 0..gzip.len() {
                assert_eq!(
                    inflate(&gzip[..end], length, &mut out),
                    Err(Corrupt::Data),
                    "{end}"
                );
            }
        }
    }

    #[test]
    fn bombs_damage_and_what_follows_the_end_are_told() {
        let bomb = whole(&vec![0; 32 << 20], &settings(true, 15)).unwrap();
        let mut out = Vec::new();
        assert_eq!(inflate(&bomb, 5_000, &mut out), Err(Corrupt::TooLarge(5_000)));
        assert!(out.len() <= 5_000);
        let mut damaged = whole(b"some words", &settings(true, 15)).unwrap();
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        assert_eq!(inflate(&damaged, 100, &mut out), Err(Corrupt::Data), "check sum");
        let mut twice = whole(b"some words", &settings(true, 15)).unwrap();
        twice.extend_from_within(..);
        assert_eq!(inflate(&twice, 100, &mut out), Err(Corrupt::Data));
    }

    proptest! {
        #[test]
        fn a_stream_comes_piece_by_piece(
            pieces in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..3_000), 1..8),
            bits in 9u8..=15,
            takeover: bool,
            step in 1usize..500,
        ) {
            let mut reader = Reader::new();
            let (mut gzip, mut read) = (Vec::new(), Vec::new());
            let (mut stream, mut shared) = (Stream::new(&settings(true, bits)), Pieces::default());
            for piece in &pieces {
                let from = gzip.len();
                if takeover {
                    prop_assert!(stream.push(piece, &mut gzip));
                } else {
                    gzip.extend_from_slice(shared.begin());
                    let alone = Window { takeover: false, bits };
                    prop_assert!(Compressor::new(alone, 6).flush(piece, &mut gzip));
                    let mut crc = Crc::new();
                    crc.update(piece);
                    shared.count(&crc);
                }
                for cut in gzip[from..].chunks(step) {
                    reader.feed(cut, |bytes| { read.extend_from_slice(bytes); true }).unwrap();
                }
                // A flush leaves nothing behind.
                prop_assert!(read.ends_with(piece));
                prop_assert!(!reader.has_ended());
            }
            let from = gzip.len();
            if takeover { prop_assert!(stream.end(&mut gzip)); } else { shared.end(&mut gzip); }
            reader.feed(&gzip[from..], |bytes| { read.extend_from_slice(bytes); true }).unwrap();
            prop_assert!(reader.has_ended());
            prop_assert_eq!(&read, &pieces.concat());
            prop_assert_eq!(by_library(&gzip), read);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut out = Vec::new();
            let _ = inflate(&bytes, 1_000, &mut out);
            let _ = inflate(&[&HEADER[..], &bytes].concat(), 1_000, &mut out);
        }
    }
}
