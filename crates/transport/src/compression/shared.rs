//! What is deflated once for many: a message on its way to all the sessions of a thread that refer back to nothing.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::Crc;

use super::Window;
use super::deflate::Compressor;

/// Messages that are kept at a time. A fan-out gives one after another to all; more are only at work where readers fall behind,
/// and cost no more than they would alone.
const MOST_KEPT: usize = 8;

/// What a message is deflated for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A frame.
    Frame,
    /// A chunk of a gzip stream.
    Chunk,
    /// A whole gzip body.
    Body,
}

/// A message, deflated.
pub(crate) struct Deflated {
    pub(crate) bytes: Bytes,
    /// Of what it was before, where that is needed.
    pub(crate) crc: Option<Crc>,
}

struct Kept {
    of: (Form, u8, u8),
    /// Kept alive, so that nothing else comes to lie where it lies.
    original: Bytes,
    deflated: Deflated,
}

thread_local! {
    static KEPT: RefCell<(Vec<Kept>, usize)> = const { RefCell::new((Vec::new(), 0)) };
}

/// Lends `original` as `deflate` makes it, which is made once for as long as it is kept.
pub(crate) fn once<T>(
    form: Form,
    (bits, level): (u8, u8),
    original: &Bytes,
    deflate: impl FnOnce(&mut Compressor) -> Deflated,
    lend: impl FnOnce(&Deflated) -> T,
) -> T {
    let of = (form, bits, level);
    KEPT.with_borrow_mut(|(kept, next)| {
        let same = |kept: &Kept| {
            let (a, b) = (&kept.original, original);
            kept.of == of && a.len() == b.len() && std::ptr::eq(a.as_ptr(), b.as_ptr())
        };
        let at = kept.iter().position(same).unwrap_or_else(|| {
            let window = Window {
                takeover: false,
                bits,
            };
            let fresh = Kept {
                of,
                original: original.clone(),
                deflated: deflate(&mut Compressor::new(window, level)),
            };
            let at = std::mem::replace(next, (*next + 1) % MOST_KEPT);
            match kept.get_mut(at) {
                Some(oldest) => *oldest = fresh,
                None => kept.push(fresh),
            }
            at.min(kept.len() - 1)
        });
        lend(&kept[at].deflated)
    })
}
