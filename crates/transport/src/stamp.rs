//! The stamp: a token inside the payload that says which message this is and when it left.
//!
//! It is 48 bytes of letters, digits, `-` and `_`, so it passes unchanged through JSON, URLs and event streams, and it
//! starts with a fixed word, so it is found by a substring search wherever a server has put our bytes. Any server that
//! relays payloads can be measured that way, with no rule that says where to look.
//!
//! ```text
//! PMk1 rrrr ssss nnnnnnn iiiiiiiiiii ttttttttttt cccc + padding
//!   4    4    4      7        11          11       4    (+3: reserved, "---")
//! ```
//! `r` run, `s` stream, `n` sequence number, `i` intended and `t` sent time (CLOCK_MONOTONIC nanoseconds), `c` check
//! value; six bits a character, most significant first, in the URL-safe base64 alphabet (RFC 4648, section 5).

use pushmark_measure::Nanos;

/// Bytes of a stamp: also the least size of a payload that is measured.
pub const STAMP_BYTES: usize = 48;
/// The word that a stamp starts with.
pub const MAGIC: &[u8; 4] = b"PMk1";

const RESERVED: &[u8; 3] = b"---";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DECODE: [u8; 256] = decode_table();

const fn decode_table() -> [u8; 256] {
    let mut table = [0xFF; 256];
    let mut i = 0;
    while i < 64 {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
}

/// Which message, and when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A number that this trial drew at random (24 bits), so that another run's messages are told apart.
    pub run: u32,
    /// The stream (24 bits).
    pub stream: u32,
    /// The message's number in its stream, from zero (42 bits).
    pub sequence: u64,
    /// When the schedule said it leaves.
    pub intended: Nanos,
    /// When it was handed to the transport, or published.
    pub sent: Nanos,
}

/// What a payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A sound stamp.
    Stamp(Stamp),
    /// The magic word, but what follows is cut short, uses other characters, or fails its check.
    Damaged,
    /// No magic word.
    None,
}

/// Largest run and stream numbers.
pub const MAX_24_BIT: u32 = (1 << 24) - 1;

impl Stamp {
    /// Writes the stamp over the first [`STAMP_BYTES`] of `out`. Numbers wider than their fields lose their top bits.
    pub fn write(&self, out: &mut [u8; STAMP_BYTES]) {
        out[..4].copy_from_slice(MAGIC);
        put(&mut out[4..8], u64::from(self.run & MAX_24_BIT));
        put(&mut out[8..12], u64::from(self.stream & MAX_24_BIT));
        put(&mut out[12..19], self.sequence & ((1 << 42) - 1));
        put(&mut out[19..30], self.intended.0);
        put(&mut out[30..41], self.sent.0);
        let check = check_value(&out[4..41]);
        put(&mut out[41..45], u64::from(check));
        out[45..].copy_from_slice(RESERVED);
    }

    /// Looks for a stamp anywhere in `payload`. The usual place, its start, is tried first.
    #[inline]
    pub fn find(payload: &[u8]) -> Found {
        let at = if payload.starts_with(MAGIC) {
            Some(0)
        } else {
            memchr::memmem::find(payload, MAGIC)
        };
        let Some(mut at) = at else { return Found::None };
        loop {
            if let Some(stamp) = payload.get(at..at + STAMP_BYTES).and_then(Self::parse) {
                return Found::Stamp(stamp);
            }
            // The word may stand there by chance: look further before calling it damaged.
            match memchr::memmem::find(&payload[at + 4..], MAGIC) {
                Some(next) => at += 4 + next,
                None => return Found::Damaged,
            }
        }
    }

    fn parse(token: &[u8]) -> Option<Stamp> {
        let check = u64::from(check_value(&token[4..41]));
        if get(&token[41..45])? != check || &token[45..48] != RESERVED {
            return None;
        }
        Some(Stamp {
            run: get(&token[4..8])? as u32,
            stream: get(&token[8..12])? as u32,
            sequence: get(&token[12..19])?,
            intended: Nanos(get(&token[19..30])?),
            sent: Nanos(get(&token[30..41])?),
        })
    }
}

fn put(out: &mut [u8], value: u64) {
    let mut rest = value;
    for byte in out.iter_mut().rev() {
        *byte = ALPHABET[(rest & 63) as usize];
        rest >>= 6;
    }
}

#[inline]
fn get(token: &[u8]) -> Option<u64> {
    let (mut value, mut bad) = (0u64, 0u8);
    for byte in token {
        let six = DECODE[usize::from(*byte)];
        bad |= six & 0xC0;
        value = value << 6 | u64::from(six & 63);
    }
    (bad == 0).then_some(value)
}

/// FNV-1a folded to 24 bits: catches damage and chance, not malice.
fn check_value(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3)
    });
    ((hash ^ hash >> 24 ^ hash >> 48) as u32) & MAX_24_BIT
}

/// A payload of a given size, padded around its stamp; made once, stamped for each message.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: bytes::BytesMut,
    /// Payloads are quotes, made anew for each message from this seed.
    quotes: Option<u64>,
}

/// What stands around a stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The same for every message: letters, or all byte values, in turn.
    #[default]
    Filler,
    /// JSON as a feed has it, of other values in each message: see [`quotes`](crate::quotes).
    Quotes,
}

impl Template {
    /// A template of `size` bytes, raised to [`STAMP_BYTES`] when smaller. Text is padded with letters; binary with
    /// all byte values in turn, so that a transport that cannot carry some of them shows it.
    pub fn new(kind: crate::Kind, size: usize) -> Self {
        let padding = |i: usize| match kind {
            crate::Kind::Text => b'a' + (i % 26) as u8,
            crate::Kind::Binary => (i % 256) as u8,
        };
        let size = size.max(STAMP_BYTES);
        Self {
            bytes: (0..size)
                .map(|i| if i < STAMP_BYTES { 0 } else { padding(i) })
                .collect(),
            quotes: None,
        }
    }

    /// A template of `content`; what is drawn at random is drawn from `seed`. Quotes are text.
    pub fn of(content: Content, kind: crate::Kind, size: usize, seed: u64) -> Self {
        Self {
            quotes: (content == Content::Quotes && size >= crate::quotes::LEAST_BYTES).then_some(seed),
            ..Self::new(kind, size)
        }
    }

    /// The payload with `stamp` at its start, or near it.
    pub fn stamped(&self, stamp: &Stamp) -> bytes::Bytes {
        let mut token = [0; STAMP_BYTES];
        stamp.write(&mut token);
        if let Some(seed) = self.quotes {
            return crate::quotes::payload(seed, stamp.sequence, &token, self.bytes.len()).into();
        }
        let mut payload = self.bytes.clone();
        payload[..STAMP_BYTES].copy_from_slice(&token);
        payload.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: 0xABCDEF,
            stream: 77,
            sequence: 123_456_789,
            intended: Nanos(u64::MAX),
            sent: Nanos(1),
        }
    }

    fn token() -> [u8; STAMP_BYTES] {
        let mut t = [0; STAMP_BYTES];
        stamp().write(&mut t);
        t
    }

    #[test]
    fn is_found_wherever_it_stands() {
        let t = String::from_utf8(token().to_vec()).unwrap();
        for wrapped in [
            t.clone(),
            format!("{{\"data\":\"{t}\"}}"),
            format!("PMk1 PMk1PMk1{t}xyz"),
            format!("?q={t}&r"),
        ] {
            assert_eq!(
                Stamp::find(wrapped.as_bytes()),
                Found::Stamp(stamp()),
                "{wrapped}"
            );
        }
        assert!(
            t.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'),
            "safe in URLs and JSON: {t}"
        );
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        for at in 4..45 {
            let mut t = token();
            t[at] = if t[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Stamp::find(&t), Found::Damaged, "byte {at}");
        }
        assert_eq!(Stamp::find(&token()[..40]), Found::Damaged);
        assert_eq!(Stamp::find(b"PMk"), Found::None);
        assert_eq!(Stamp::find(b""), Found::None);
    }

    #[test]
    fn a_template_has_the_size_that_was_asked_for() {
        for kind in [crate::Kind::Text, crate::Kind::Binary] {
            let payload = Template::new(kind, 200).stamped(&stamp());
            assert_eq!(payload.len(), 200);
            assert_eq!(Stamp::find(&payload), Found::Stamp(stamp()));
        }
        assert_eq!(
            Template::new(crate::Kind::Text, 0).stamped(&stamp()).len(),
            STAMP_BYTES
        );
    }

    proptest! {
        #[test]
        fn round_trip(run in 0u32..1 << 24, stream in 0u32..1 << 24, sequence in 0u64..1 << 42, intended: u64, sent: u64) {
            let stamp = Stamp { run, stream, sequence, intended: Nanos(intended), sent: Nanos(sent) };
            let mut t = [0; STAMP_BYTES];
            stamp.write(&mut t);
            prop_assert_eq!(Stamp::find(&t), Found::Stamp(stamp));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Stamp::find(&bytes);
        }
    }
}
