//! Message bodies (RFC 9112, sections 6 and 7): by length, in chunks, or until the connection ends.

/// Longest chunk extension or trailer section that is read past, in bytes: a peer must not hold us in one for ever.
const MOST_OVERHEAD_BYTES: usize = 16 * 1024;

/// Where in a body's framing the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes are left.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunk),
    /// Everything up to the end of the connection.
    UntilClose,
}

/// Where in a chunked body the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In a chunk's size: its value so far, and how many digits that is.
    Size(u64, u8),
    /// Past the size, before the end of its line; so many bytes of extension so far.
    Extension(u64, usize),
    /// In a chunk's data: so many bytes are left.
    Data(u64),
    /// Before the line end that closes a chunk's data.
    DataEnd,
    /// After the last chunk: bytes of trailer so far, and whether the current line is empty so far.
    Trailer(usize, bool),
    /// Past the end.
    Done,
}

/// The framing of a body is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk's size is not a hexadecimal number of at most 16 digits.
    #[error("a chunk's size is not a number")]
    Size,
    /// A chunk is not followed by a line end.
    #[error("a chunk is longer than its size says")]
    End,
    /// Extensions or trailers go on and on.
    #[error("a chunk's extension or the trailers exceed 16 KiB")]
    Overhead,
}

impl Body {
    /// A chunked body from its start.
    pub const CHUNKED: Body = Body::Chunked(Chunk::Size(0, 0));

    /// True when the body is complete: what follows belongs to the next response.
    pub fn is_done(self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::Done))
    }

    /// Takes bytes of the connection and lends the body's own to `sink`; gives how many bytes belonged to the body and
    /// its framing, which is all of them unless the body is done.
    ///
    /// # Errors
    /// When the framing is broken.
    pub fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<usize, BodyError> {
        match self {
            Body::UntilClose => {
                sink(input);
                Ok(input.len())
            }
            Body::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                if take > 0 {
                    sink(&input[..take]);
                }
                *left -= take as u64;
                Ok(take)
            }
            Body::Chunked(chunk) => chunk.feed(input, sink),
        }
    }
}

impl Chunk {
    fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < input.len() {
            if let Chunk::Data(left) = self {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len() - at);
                sink(&input[at..at + take]);
                at += take;
                *left -= take as u64;
                if *left == 0 {
                    *self = Chunk::DataEnd;
                }
                continue;
            }
            let byte = input[at];
            *self = match *self {
                Chunk::Done => return Ok(at),
                Chunk::Size(value, digits) => match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) if digits < 16 => Chunk::Size(value << 4 | u64::from(digit), digits + 1),
                    (None, b'\n') if digits > 0 => Self::after_size(value),
                    (None, b'\r' | b';' | b' ' | b'\t') if digits > 0 => Chunk::Extension(value, 0),
                    _ => return Err(BodyError::Size),
                },
                Chunk::Extension(value, _) if byte == b'\n' => Self::after_size(value),
                Chunk::Extension(_, seen) if seen >= MOST_OVERHEAD_BYTES => return Err(BodyError::Overhead),
                Chunk::Extension(value, seen) => Chunk::Extension(value, seen + 1),
                Chunk::DataEnd => match byte {
                    b'\r' => Chunk::DataEnd,
                    b'\n' => Chunk::Size(0, 0),
                    _ => return Err(BodyError::End),
                },
                Chunk::Trailer(_, true) if byte == b'\n' => Chunk::Done,
                Chunk::Trailer(seen, _) if seen >= MOST_OVERHEAD_BYTES => return Err(BodyError::Overhead),
                Chunk::Trailer(seen, empty) => {
                    Chunk::Trailer(seen + 1, byte == b'\n' || (empty && byte == b'\r'))
                }
                Chunk::Data(_) => return Err(BodyError::End),
            };
            at += 1;
        }
        Ok(at)
    }

    fn after_size(size: u64) -> Self {
        if size == 0 {
            Chunk::Trailer(0, true)
        } else {
            Chunk::Data(size)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(mut body: Body, input: &[u8], step: usize) -> Result<(Vec<u8>, Body, usize), BodyError> {
        let (mut out, mut used) = (Vec::new(), 0);
        for piece in input.chunks(step.max(1)) {
            let n = body.feed(piece, |bytes| out.extend_from_slice(bytes))?;
            used += n;
            if n < piece.len() {
                break;
            }
        }
        Ok((out, body, used))
    }

    #[test]
    fn chunks_however_they_are_cut() {
        let wire =
            b"4\r\nwiki\r\n5;ext=\"a b\"\r\npedia\r\nE \r\n in\r\n\r\nchunks.\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for step in 1..=wire.len() {
            let (out, body, used) = decode(Body::CHUNKED, wire, step).unwrap();
            assert_eq!(out, b"wikipedia in\r\n\r\nchunks.", "{step}");
            assert!(body.is_done());
            assert_eq!(used, wire.len() - 4, "what follows is the next response's");
        }
    }

    #[test]
    fn by_length_and_until_close() {
        let (out, body, used) = decode(Body::Length(3), b"abcdef", 2).unwrap();
        assert_eq!((out.as_slice(), body, used), (&b"abc"[..], Body::Length(0), 3));
        let (out, body, _) = decode(Body::UntilClose, b"abcdef", 2).unwrap();
        assert_eq!((out.as_slice(), body.is_done()), (&b"abcdef"[..], false));
        assert!(Body::Length(0).is_done());
    }

    #[test]
    fn broken_framing_is_told() {
        for (wire, error) in [
            (&b"xyz\r\n"[..], BodyError::Size),
            (b"\r\n", BodyError::Size),
            (b"-1\r\n", BodyError::Size),
            (b"11111111111111111\r\n", BodyError::Size),
            (b"2\r\nabc\r\n", BodyError::End),
        ] {
            assert_eq!(decode(Body::CHUNKED, wire, 1).unwrap_err(), error, "{wire:?}");
        }
        let endless = [b"4;".to_vec(), vec![b'a'; 20_000]].concat();
        assert_eq!(
            decode(Body::CHUNKED, &endless, 100).unwrap_err(),
            BodyError::Overhead
        );
        let endless = [b"0\r\n".to_vec(), vec![b'a'; 20_000]].concat();
        assert_eq!(
            decode(Body::CHUNKED, &endless, 100).unwrap_err(),
            BodyError::Overhead
        );
        // The largest size there is does not overflow anything; the data just never ends.
        assert!(decode(Body::CHUNKED, b"ffffffffffffffff\r\nabc", 1).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_at_any_cut_give_the_same(input: Vec<u8>, step in 1usize..9) {
            let whole = decode(Body::CHUNKED, &input, input.len().max(1));
            let cut = decode(Body::CHUNKED, &input, step);
            prop_assert_eq!(whole.map(|(out, body, _)| (out, body)), cut.map(|(out, body, _)| (out, body)));
        }

        #[test]
        fn what_is_written_in_chunks_is_read_back(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..9), step in 1usize..9) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                wire.extend(piece);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let (out, body, _) = decode(Body::CHUNKED, &wire, step).unwrap();
            prop_assert_eq!(out, pieces.concat());
            prop_assert!(body.is_done());
        }
    }
}
