//! RFC 7692's own examples, round trips, and what must not inflate.

use proptest::prelude::*;

use super::*;

fn window(takeover: bool, bits: u8) -> Window {
    Window { takeover, bits }
}

fn deflated(compressor: &mut Compressor, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(compressor.message(payload, &mut out));
    out
}

fn inflated(decompressor: &mut Decompressor, compressed: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut out = b"left over".to_vec();
    decompressor.message(compressed, 1 << 20, &mut out)?;
    Ok(out)
}

/// Sections 7.2.3.1 and 7.2.3.2: as the standard writes them, payloads of frames, with and without what came before.
#[test]
fn the_standards_hello_and_its_repetition() {
    let first = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let again = [0xF2, 0x00, 0x11, 0x00, 0x00];
    let mut keeps = Compressor::new(window(true, 15), 6);
    assert_eq!(deflated(&mut keeps, b"Hello"), first);
    assert_eq!(deflated(&mut keeps, b"Hello"), again);
    let mut forgets = Compressor::new(window(false, 15), 6);
    assert_eq!(deflated(&mut forgets, b"Hello"), first);
    assert_eq!(deflated(&mut forgets, b"Hello"), first);

    let mut keeps = Decompressor::new(window(true, 15));
    assert_eq!(inflated(&mut keeps, &first).unwrap(), b"Hello");
    assert_eq!(inflated(&mut keeps, &again).unwrap(), b"Hello");
    let mut forgets = Decompressor::new(window(false, 15));
    assert_eq!(inflated(&mut forgets, &first).unwrap(), b"Hello");
    assert_eq!(inflated(&mut forgets, &again), Err(Corrupt::Data));
    assert_eq!(
        inflated(&mut forgets, &first).unwrap(),
        b"Hello",
        "one that failed leaves nothing behind"
    );
}

/// Sections 7.2.3.3 to 7.2.3.6.
#[test]
fn the_standards_other_blocks() {
    for takeover in [true, false] {
        for (payload, words) in [
            (
                &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00][..],
                &b"Hello"[..],
            ),
            (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], b"Hello"),
            (
                &[
                    0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
                ],
                b"Hello",
            ),
            (&[0x00], b""),
            // Nothing after the last block: not as the standard has it, and clear all the same.
            (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], b"Hello"),
        ] {
            let mut decompressor = Decompressor::new(window(takeover, 15));
            for _ in 0..2 {
                assert_eq!(
                    inflated(&mut decompressor, payload).unwrap(),
                    words,
                    "{payload:x?}"
                );
            }
        }
    }
    assert_eq!(deflated(&mut Compressor::new(window(true, 15), 6), b""), [0x00]);
}

#[test]
fn a_bomb_is_not_inflated_past_the_limit() {
    let zeros = vec![0; 64 << 20];
    for takeover in [true, false] {
        let bomb = deflated(&mut Compressor::new(window(takeover, 15), 9), &zeros);
        assert!(bomb.len() < 100_000);
        let mut decompressor = Decompressor::new(window(takeover, 15));
        let mut out = Vec::new();
        for most in [0, 1, 1_000, PIECE_BYTES, 1 << 20] {
            assert_eq!(
                Decompressor::new(window(takeover, 15)).message(&bomb, most, &mut out),
                Err(Corrupt::TooLarge(most))
            );
            assert_eq!(out.len(), most + 1);
        }
        decompressor.message(&bomb, zeros.len(), &mut out).unwrap();
        assert_eq!(out.len(), zeros.len());
    }
}

#[test]
fn what_is_cut_short_or_no_deflate_is_corrupt() {
    let text = b"words, words, words, and other words".repeat(20);
    let whole = deflated(&mut Compressor::new(window(false, 15), 6), &text);
    for end in 0..whole.len() - 1 {
        let mut forgets = Decompressor::new(window(false, 15));
        // What a cut leaves may be a whole message of its own, if not this one.
        if let Ok(other) = inflated(&mut forgets, &whole[..end]) {
            assert!(text.starts_with(&other) && other.len() < text.len(), "{end}");
        }
    }
    for garbage in [&[0xFF; 9][..], &[0x07], b"\x00\x05\x00\x00\x00Hello"] {
        for takeover in [true, false] {
            let mut decompressor = Decompressor::new(window(takeover, 15));
            assert_eq!(
                inflated(&mut decompressor, garbage),
                Err(Corrupt::Data),
                "{garbage:x?}"
            );
        }
    }
}

#[test]
fn a_window_is_as_wide_as_was_said() {
    // A repetition too far back for the narrow window.
    let mut text: Vec<u8> = (0..2_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    text.extend_from_within(..1_000);
    let size = |bits| deflated(&mut Compressor::new(window(false, bits), 9), &text).len();
    assert!(size(9) > size(15) + 500, "{} {}", size(9), size(15));
    for bits in 9..=15 {
        let narrow = deflated(&mut Compressor::new(window(true, bits), 9), &text);
        assert_eq!(
            inflated(&mut Decompressor::new(window(true, bits)), &narrow).unwrap(),
            text
        );
    }
}

proptest! {
    #[test]
    fn messages_come_back(
        payloads in proptest::collection::vec((0usize..40_000, any::<u8>(), 1usize..300), 1..8),
        takeover: bool,
        bits in 9u8..=15,
        level in 1u8..=9,
    ) {
        let mut compressor = Compressor::new(window(takeover, bits), level);
        let mut decompressor = Decompressor::new(window(takeover, bits));
        for (length, seed, period) in payloads {
            let payload: Vec<u8> = (0..length)
                .map(|i| ((i % period) as u8).wrapping_mul(seed) ^ (i / period) as u8)
                .collect();
            let compressed = deflated(&mut compressor, &payload);
            prop_assert!(!compressed.ends_with(&TAIL));
            prop_assert_eq!(inflated(&mut decompressor, &compressed).unwrap(), payload);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), takeover: bool) {
        let mut out = Vec::new();
        let _ = Decompressor::new(window(takeover, 15)).message(&bytes, 5_000, &mut out);
        prop_assert!(out.len() <= 5_001);
    }
}
