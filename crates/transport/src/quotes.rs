//! Payloads that are like what is really sent, so that the question what compression saves has an answer: JSON with the same names in
//! each message and other values, as a feed of prices has it.
//!
//! ```text
//! {"id":"(stamp)","quotes":[{"symbol":"KDQA","bid":417.32,"ask":417.41,"size":2300,"venue":"east"},…],"note":"…"}
//! ```
//! A pure function of seed, message number and size. What can be had by compression: METHODOLOGY.md has the figures.

use std::fmt::Write;

use pushmark_measure::schedule::mix;

use crate::stamp::STAMP_BYTES;

const BEGIN: &str = "{\"id\":\"";
const QUOTES: &str = "\",\"quotes\":[";
const NOTE: &str = "],\"note\":\"";
const END: &str = "\"}";
const VENUES: [&str; 4] = ["north", "east", "south", "west"];
/// How many symbols there are.
const SYMBOLS: u64 = 200;

/// The smallest payload of this kind.
pub const LEAST_BYTES: usize = BEGIN.len() + STAMP_BYTES + QUOTES.len() + NOTE.len() + END.len();

/// The payload of message number `sequence`, of `size` bytes, around its stamp.
pub fn payload(seed: u64, sequence: u64, token: &[u8; STAMP_BYTES], size: usize) -> Vec<u8> {
    let mut draws = Draws {
        state: mix(seed, sequence),
        count: 0,
    };
    let mut out = String::with_capacity(size + 128);
    out.push_str(BEGIN);
    out.extend(token.iter().map(|byte| char::from(*byte)));
    out.push_str(QUOTES);
    let (first, most) = (out.len(), size.saturating_sub(NOTE.len() + END.len()));
    loop {
        let before = out.len();
        if before > first {
            out.push(',');
        }
        draws.quote(seed, &mut out);
        if out.len() > most {
            out.truncate(before);
            break;
        }
    }
    out.push_str(NOTE);
    while out.len() + END.len() < size {
        out.push(char::from(b'a' + draws.below(26) as u8));
    }
    out.push_str(END);
    out.into_bytes()
}

/// What chance gives, one after another.
struct Draws {
    state: u64,
    count: u64,
}

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.count += 1;
        mix(self.state, self.count) % bound
    }

    fn quote(&mut self, seed: u64, out: &mut String) {
        let symbol = mix(!seed, self.below(SYMBOLS));
        let letter = |k: u32| char::from(b'A' + ((symbol >> (8 * k)) % 26) as u8);
        // A price of its own for each symbol, about which it moves.
        let bid = 1_000 + (symbol >> 32) % 90_000 + self.below(200);
        let ask = bid + 1 + self.below(20);
        let size = 100 * (1 + self.below(50));
        let venue = VENUES[self.below(VENUES.len() as u64) as usize];
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "{{\"symbol\":\"{}{}{}{}\",\"bid\":{}.{:02},\"ask\":{}.{:02},\"size\":{size},\"venue\":\"{venue}\"}}",
            letter(0),
            letter(1),
            letter(2),
            letter(3),
            bid / 100,
            bid % 100,
            ask / 100,
            ask % 100,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Window;
    use crate::compression::deflate::Compressor;
    use crate::stamp::{Content, Found, Template};
    use crate::{Kind, Stamp};

    fn stamped(seed: u64, sequence: u64, size: usize) -> bytes::Bytes {
        let stamp = Stamp {
            run: 7,
            stream: 0,
            sequence,
            intended: pushmark_measure::Nanos(sequence * 100_000_000),
            sent: pushmark_measure::Nanos(sequence * 100_000_000 + 12_345),
        };
        let payload = Template::of(Content::Quotes, Kind::Text, size, seed).stamped(&stamp);
        assert_eq!(Stamp::find(&payload), Found::Stamp(stamp));
        payload
    }

    #[test]
    fn a_payload_is_json_of_the_size_that_was_asked_for() {
        for size in (LEAST_BYTES..400).chain([1_024, 65_536]) {
            let payload = stamped(1, 5, size);
            assert_eq!(payload.len(), size);
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert!(json["quotes"].is_array());
        }
        // Too small for that, it is a stamp and filler.
        assert_eq!(stamped(1, 5, STAMP_BYTES).len(), STAMP_BYTES);
        assert_eq!(stamped(1, 5, LEAST_BYTES - 1).len(), LEAST_BYTES - 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_payloads_and_no_two_messages_are_alike() {
        assert_eq!(stamped(1, 5, 1_024), stamped(1, 5, 1_024));
        assert_ne!(stamped(1, 5, 1_024)[64..], stamped(1, 6, 1_024)[64..]);
        assert_ne!(stamped(1, 5, 1_024)[64..], stamped(2, 5, 1_024)[64..]);
    }

    /// What METHODOLOGY.md says of how redundant they are.
    #[test]
    fn they_compress_as_such_messages_do() {
        let ratio = |takeover, size: usize| {
            let window = Window { takeover, bits: 15 };
            let mut compressor = Compressor::new(window, 6);
            let (mut out, mut compressed) = (Vec::new(), 0);
            for sequence in 0..200 {
                out.clear();
                assert!(compressor.message(&stamped(1, sequence, size), &mut out));
                compressed += out.len();
            }
            (200 * size) as f64 / compressed as f64
        };
        let all = [256, 1_024, 8_192].map(|size| (size, ratio(false, size), ratio(true, size)));
        println!("{all:.1?}");
        for (size, alone, together) in all {
            assert!((1.2..5.0).contains(&alone), "{size} {alone}");
            assert!(
                (2.0..6.0).contains(&together) && together > alone,
                "{size} {together}"
            );
        }
    }
}
