//! Messages deflated and inflated (RFC 7692, section 7.2).

use std::cell::RefCell;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Corrupt, Window};

/// What a flush ends with, and permessage-deflate leaves out.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// A last block with nothing in it: what is whole can be ended by it.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];
/// An empty message (section 7.2.3.6).
const EMPTY: u8 = 0x00;
/// Inflated at a time.
const PIECE_BYTES: usize = 16 * 1024;

thread_local! {
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What starts anew with each message serves all connections of a thread.
    static COMPRESSORS: RefCell<Vec<((u8, u8), Compress)>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSOR: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Deflates the messages of one connection.
pub(crate) struct Compressor {
    window: Window,
    level: u8,
    /// Made for the first message: who sends none needs none.
    own: Option<Compress>,
}

fn compress(window: Window, level: u8) -> Compress {
    Compress::new_with_window_bits(flate2::Compression::new(level.into()), false, window.bits)
}

impl Compressor {
    pub(crate) fn new(window: Window, level: u8) -> Self {
        Self {
            window,
            level,
            own: None,
        }
    }

    /// One that fails.
    #[cfg(test)]
    pub(crate) fn broken() -> Self {
        let window = Window {
            takeover: true,
            bits: 15,
        };
        let mut own = compress(window, 1);
        let ended = run(&mut own, b"the end", FlushCompress::Finish, &mut Vec::new());
        assert!(ended, "a stream that was ended takes nothing more");
        Self {
            window,
            level: 1,
            own: Some(own),
        }
    }

    /// Appends a message to `out`, without the flush's tail. False when the compressor failed: the session is over, for what it has taken is in its window and not in the peer's.
    pub(crate) fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if payload.is_empty() {
            out.push(EMPTY);
            return true;
        }
        let flushed = self.flush(payload, out);
        if flushed && out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        flushed
    }

    /// Appends blocks for `payload` that end at a byte, by [`TAIL`].
    pub(crate) fn flush(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let (window, level) = (self.window, self.level);
        if window.takeover {
            let own = self.own.get_or_insert_with(|| compress(window, level));
            return run(own, payload, FlushCompress::Sync, out);
        }
        COMPRESSORS.with_borrow_mut(|all| {
            let key = (window.bits, level);
            let at = all.iter().position(|(of, _)| *of == key).unwrap_or_else(|| {
                all.push((key, compress(window, level)));
                all.len() - 1
            });
            let compress = &mut all[at].1;
            compress.reset();
            run(compress, payload, FlushCompress::Sync, out)
        })
    }
}

/// Compresses all of `input`. False when the compressor failed.
pub(crate) fn run(compress: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> bool {
    let mut rest = input;
    out.reserve(input.len() / 4 + 64);
    loop {
        let (before, made) = (compress.total_in(), out.len());
        let Ok(status) = compress.compress_vec(rest, out, flush) else {
            return false;
        };
        rest = &rest[(compress.total_in() - before) as usize..];
        if status == Status::StreamEnd || (rest.is_empty() && out.len() < out.capacity()) {
            return true;
        }
        if status == Status::BufError && out.len() == made && out.len() < out.capacity() {
            return false;
        }
        out.reserve(rest.len() / 2 + 256);
    }
}

/// Inflates the messages of one connection.
pub(crate) struct Decompressor {
    window: Window,
    own: Option<Decompress>,
}

impl Decompressor {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, own: None }
    }

    /// Puts the message that `compressed` holds in place of what `out` held. Never inflates more than a byte past `most`.
    ///
    /// A block that says it is the last one (section 7.2.3.4) empties the window for what follows it: nothing that is known to
    /// send such blocks refers back over one.
    ///
    /// # Errors
    /// The data are corrupt, or the message is larger than `most` bytes.
    pub(crate) fn message(
        &mut self,
        compressed: &[u8],
        most: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Corrupt> {
        out.clear();
        if self.window.takeover {
            let bits = self.window.bits;
            let own = self
                .own
                .get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
            inflate(own, compressed, most, out).map(|_| ())
        } else {
            DECOMPRESSOR.with_borrow_mut(|shared| {
                let shared = shared.get_or_insert_with(|| Decompress::new(false));
                shared.reset(false);
                inflate_whole(shared, compressed, most, out)
            })
        }
    }
}

/// One message after which nothing refers back to it: then it can be seen whether it was whole.
fn inflate_whole(
    decompress: &mut Decompress,
    compressed: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> Result<(), Corrupt> {
    if inflate(decompress, compressed, most, out)? {
        return Ok(());
    }
    let mut nothing = [0; 1];
    let before = (decompress.total_in(), decompress.total_out());
    let status = decompress.decompress(&END, &mut nothing, FlushDecompress::Sync);
    let used = decompress.total_in() - before.0;
    let whole = matches!(status, Ok(Status::StreamEnd)) && used == END.len() as u64;
    if whole && decompress.total_out() == before.1 {
        Ok(())
    } else {
        Err(Corrupt::Data)
    }
}

/// Inflates a message and its tail. True when its last block said that it was one and nothing followed.
fn inflate(
    decompress: &mut Decompress,
    compressed: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> Result<bool, Corrupt> {
    if pieces(decompress, compressed, most, out)? {
        return Ok(true);
    }
    let before = out.len();
    pieces(decompress, &TAIL, most, out)?;
    // What is whole has said all it has to say before its tail.
    if out.len() > before {
        return Err(Corrupt::Data);
    }
    Ok(false)
}

/// Inflates all of `input`. True when it ended with a last block.
fn pieces(
    decompress: &mut Decompress,
    input: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> Result<bool, Corrupt> {
    PIECE.with_borrow_mut(|piece| {
        piece.resize(PIECE_BYTES, 0);
        let (mut rest, mut at_end) = (input, false);
        loop {
            // One byte over is enough to tell.
            let room = (most + 1 - out.len()).min(PIECE_BYTES);
            let before = (decompress.total_in(), decompress.total_out());
            let status = decompress
                .decompress(rest, &mut piece[..room], FlushDecompress::Sync)
                .map_err(|_| Corrupt::Data)?;
            let used = (decompress.total_in() - before.0) as usize;
            let made = (decompress.total_out() - before.1) as usize;
            rest = &rest[used..];
            out.extend_from_slice(&piece[..made]);
            if out.len() > most {
                return Err(Corrupt::TooLarge(most));
            }
            if used > 0 {
                at_end = status == Status::StreamEnd;
            }
            if status == Status::StreamEnd {
                decompress.reset(false);
            }
            match rest.is_empty() {
                true if made < room => return Ok(at_end),
                false if used == 0 && made == 0 => return Err(Corrupt::Data),
                _ => {}
            }
        }
    })
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
