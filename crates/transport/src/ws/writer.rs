//! Frames on their way out (RFC 6455, section 5.2): a client's are masked, and both sides' messages may be deflated.

use pushmark_measure::schedule::mix;

use super::frames::{CLOSE, COMPRESSED, FINAL, KEPT_PLAIN_BYTES, PLAIN, PONG, Role};
use crate::compression::deflate::Compressor;
use crate::error::{ErrorClass, Step, TransportError};

/// Bytes before a payload at the most: opcode, length, mask.
const MOST_HEADER_BYTES: usize = 14;

/// What one side has to send.
pub(super) struct Writer {
    /// Frames, and how many of their bytes were written.
    pub(super) unsent: Vec<u8>,
    pub(super) sent: usize,
    pub(super) most: usize,
    pub(super) mask_seed: u64,
    pub(super) masks: u64,
    pub(super) has_closed: bool,
    pub(super) role: Role,
    /// Where the extension was agreed on.
    pub(super) deflate: Option<Box<Compressor>>,
}

impl Writer {
    /// A pong for a ping.
    pub(super) fn answer(&mut self, ping: &[u8]) -> Result<(), TransportError> {
        if self.unsent.len() - self.sent + ping.len() + MOST_HEADER_BYTES > self.most {
            let words = "the peer asks for answers and reads none";
            return Err(TransportError::new(Step::Receive, ErrorClass::Flooded, words));
        }
        if !self.has_closed {
            self.frame(PONG, ping);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, code: &[u8]) {
        if !std::mem::replace(&mut self.has_closed, true) {
            self.frame(CLOSE, code);
        }
    }

    /// A message, deflated where that was agreed on.
    ///
    /// # Errors
    /// The compressor failed, and the peer could not read what comes after.
    pub(super) fn message(&mut self, opcode: u8, payload: &[u8]) -> Result<(), TransportError> {
        let Some(mut deflate) = self.deflate.take() else {
            self.frame(opcode, payload);
            return Ok(());
        };
        let made = PLAIN.with_borrow_mut(|deflated| {
            deflated.clear();
            let made = deflate.message(payload, deflated);
            if made {
                self.frame(COMPRESSED | opcode, deflated);
            }
            deflated.clear();
            deflated.shrink_to(KEPT_PLAIN_BYTES);
            made
        });
        self.deflate = Some(deflate);
        if made {
            return Ok(());
        }
        let words = "the message could not be compressed";
        Err(TransportError::new(Step::Send, ErrorClass::Other, words))
    }

    /// A whole frame, masked if a client's, as it has to (RFC 6455, section 5.3).
    pub(super) fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let masked = if self.role == Role::Client { 0x80 } else { 0 };
        self.unsent.reserve(MOST_HEADER_BYTES + payload.len());
        self.unsent.push(FINAL | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ 0..=125), _) => self.unsent.push(masked | short),
            (_, Ok(medium)) => {
                self.unsent.push(masked | 126);
                self.unsent.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                self.unsent.push(masked | 127);
                self.unsent
                    .extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        self.masks += 1;
        if self.role == Role::Server {
            self.unsent.extend_from_slice(payload);
            return;
        }
        let mask = (mix(self.mask_seed, self.masks) as u32).to_ne_bytes();
        self.unsent.extend_from_slice(&mask);
        let start = self.unsent.len();
        self.unsent.extend_from_slice(payload);
        apply(mask, &mut self.unsent[start..]);
    }
}

/// Masks or unmasks, eight bytes at a time.
pub(super) fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (k, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[k % 4];
    }
}
