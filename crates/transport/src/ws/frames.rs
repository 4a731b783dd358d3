//! Frames as a client reads and writes them (RFC 6455, section 5), on any stream of bytes.
//!
//! A library's reader keeps a buffer for each connection and copies every message out of it. Here one buffer serves all
//! connections of a thread, and a message that came whole is lent to its inbox from there: what a connection keeps is a frame
//! that has not come whole, and mostly nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pushmark_measure::schedule::mix;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::poll_read;
use crate::message::Kind;
use crate::process;
use crate::seam::{Inbox, Received};
use crate::tcp::Notes;

/// Longest payload of a control frame (RFC 6455, section 5.5).
const MOST_CONTROL_BYTES: usize = 125;
/// Room for what was not written yet, at the least: answers to pings of a peer that does not read.
const LEAST_UNSENT_BYTES: usize = 256 * 1024;
/// Room that is kept for the next frame.
const KEPT_BYTES: usize = 1024;
/// Bytes before a payload at the most: opcode, length, mask.
const MOST_HEADER_BYTES: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, and so many whole messages.
    Messages(usize),
    /// The end of the connection.
    End,
}

/// One connection's frames.
pub(super) struct Frames<S> {
    stream: S,
    reader: Reader,
    writer: Writer,
    /// What ends the session, where messages of the same read came before it.
    failed: Option<TransportError>,
}

impl<S: AsyncRead + AsyncWrite + Notes + Unpin> Frames<S> {
    /// Frames over a stream whose handshake is done; `early` came with its last bytes.
    pub(super) fn over(stream: S, early: &[u8], max_message_bytes: usize) -> Self {
        Self {
            stream,
            reader: Reader {
                rest: early.to_vec(),
                fragments: None,
                max_message_bytes,
                peer_has_closed: false,
            },
            writer: Writer {
                unsent: Vec::new(),
                sent: 0,
                most: (2 * max_message_bytes).max(LEAST_UNSENT_BYTES),
                // Fresh for each frame and hard to guess for a peer (section 5.3), without a system call for each.
                mask_seed: process::random_u128() as u64,
                masks: 0,
                has_closed: false,
            },
            failed: None,
        }
    }

    /// The last read that brought bytes.
    pub(super) fn last_read(&self) -> Received {
        self.stream.last_read()
    }

    /// The peer's close frame has come.
    pub(super) fn peer_has_closed(&self) -> bool {
        self.reader.peer_has_closed
    }

    /// Nothing more may be sent: a close frame was.
    pub(super) fn has_closed(&self) -> bool {
        self.writer.has_closed
    }

    /// Something waits to be written.
    pub(super) fn has_unsent(&self) -> bool {
        !self.writer.unsent.is_empty()
    }

    /// Takes what came with the handshake.
    ///
    /// # Errors
    /// As [`Frames::poll_read`].
    pub(super) fn read_early<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        let received = self.stream.last_read();
        let mut count = 0;
        let fed = self
            .reader
            .feed(received, &[], inbox, &mut self.writer, &mut count);
        self.told(count, fed)
    }

    /// So many messages, and the failure after them by the next read.
    fn told(&mut self, count: usize, fed: Result<(), TransportError>) -> Result<usize, TransportError> {
        match fed {
            Err(e) if count > 0 => self.failed = Some(e),
            fed => fed?,
        }
        Ok(count)
    }

    /// Reads once; messages that are whole by then go to `inbox`. Pings and the peer's close frame are answered by the next
    /// [`Frames::poll_flush`].
    ///
    /// # Errors
    /// The peer broke the protocol, a message is too large, the connection failed, or answers find no room.
    pub(super) fn poll_read<I: Inbox>(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut I,
    ) -> Poll<Result<Read, TransportError>> {
        if let Some(e) = self.failed.take() {
            return Poll::Ready(Err(e));
        }
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let (mut count, mut fed) = (0, Ok(()));
        let read = ready!(poll_read(&mut self.stream, cx, |received, bytes| {
            fed = reader.feed(received, bytes, inbox, writer, &mut count);
        }));
        Poll::Ready(match read {
            Ok(0) => Ok(Read::End),
            Ok(_) => self.told(count, fed).map(Read::Messages),
            Err(e) => Err(TransportError::from_io(Step::Receive, &e)),
        })
    }

    /// Queues one message.
    pub(super) fn message(&mut self, kind: Kind, payload: &[u8]) {
        let opcode = match kind {
            Kind::Text => TEXT,
            Kind::Binary => BINARY,
        };
        self.writer.frame(opcode, payload);
    }

    /// Queues a ping, unless something waits before it: that is a sign of life as well.
    pub(super) fn ping(&mut self) {
        if !self.has_unsent() {
            self.writer.frame(PING, &[]);
        }
    }

    /// Queues a close frame, once.
    pub(super) fn close(&mut self) {
        self.writer.close(&[]);
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The connection's own.
    pub(super) fn poll_flush(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let writer = &mut self.writer;
        while writer.sent < writer.unsent.len() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &writer.unsent[writer.sent..]));
            match wrote {
                Ok(0) => {
                    let words = "nothing was taken";
                    return Poll::Ready(Err(TransportError::new(step, ErrorClass::EndedEarly, words)));
                }
                Ok(n) => writer.sent += n,
                Err(e) => return Poll::Ready(Err(TransportError::from_io(step, &e))),
            }
        }
        writer.unsent.clear();
        writer.unsent.shrink_to(KEPT_BYTES);
        writer.sent = 0;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        flushed.map_err(|e| TransportError::from_io(step, &e))
    }
}

struct Reader {
    /// A frame that has not come whole.
    rest: Vec<u8>,
    /// A message that has not come whole, of the frames before.
    fragments: Option<(Kind, Vec<u8>)>,
    max_message_bytes: usize,
    peer_has_closed: bool,
}

/// A frame's first bytes, read.
struct Header {
    is_final: bool,
    opcode: u8,
    /// Where the payload lies.
    payload: std::ops::Range<usize>,
}

impl Reader {
    fn feed<I: Inbox>(
        &mut self,
        received: Received,
        bytes: &[u8],
        inbox: &mut I,
        writer: &mut Writer,
        count: &mut usize,
    ) -> Result<(), TransportError> {
        if self.rest.is_empty() {
            let used = self.take(received, bytes, inbox, writer, count)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let used = self.take(received, &whole, inbox, writer, count)?;
        if used < whole.len() {
            whole.drain(..used);
            self.rest = whole;
        }
        Ok(())
    }

    /// Takes whole frames off the front of `bytes`; gives how many bytes they had.
    fn take<I: Inbox>(
        &mut self,
        received: Received,
        bytes: &[u8],
        inbox: &mut I,
        writer: &mut Writer,
        count: &mut usize,
    ) -> Result<usize, TransportError> {
        let mut used = 0;
        // What follows a close frame means nothing (RFC 6455, section 5.5.1).
        while !self.peer_has_closed {
            let Some(header) = self.header(&bytes[used..])? else {
                return Ok(used);
            };
            let end = header.payload.end;
            let Some(payload) = bytes[used..].get(header.payload.clone()) else {
                return Ok(used);
            };
            used += end;
            match header.opcode {
                PING => writer.answer(payload)?,
                PONG => {}
                CLOSE => {
                    if payload.len() == 1 {
                        return Err(broken("a close frame with half a code"));
                    }
                    self.peer_has_closed = true;
                    writer.close(payload.get(..2).unwrap_or_default());
                }
                opcode => *count += self.data(received, (opcode, header.is_final), payload, inbox)?,
            }
        }
        Ok(bytes.len())
    }

    /// A data frame; gives how many messages it completed.
    fn data<I: Inbox>(
        &mut self,
        received: Received,
        (opcode, is_final): (u8, bool),
        payload: &[u8],
        inbox: &mut I,
    ) -> Result<usize, TransportError> {
        let first = match opcode {
            TEXT => Some(Kind::Text),
            BINARY => Some(Kind::Binary),
            _ => None,
        };
        let (kind, joined);
        let whole = match (first, self.fragments.take()) {
            (Some(_), Some(_)) => return Err(broken("a message within another's fragments")),
            (None, None) => return Err(broken("a fragment of no message")),
            (Some(first), None) if is_final => {
                kind = first;
                payload
            }
            (first, begun) => {
                let (of, mut so_far) = match (first, begun) {
                    (_, Some(begun)) => begun,
                    (first, None) => (first.unwrap_or(Kind::Binary), Vec::new()),
                };
                so_far.extend_from_slice(payload);
                if !is_final {
                    self.fragments = Some((of, so_far));
                    return Ok(0);
                }
                (kind, joined) = (of, so_far);
                &joined[..]
            }
        };
        if !crate::host::is_valid(kind, whole) {
            return Err(broken("a text message that is not UTF-8"));
        }
        inbox.deliver(received, kind, whole);
        Ok(1)
    }

    /// The header at the front of `bytes`; `None` while it has not come whole.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, TransportError> {
        let &[first, second, ref more @ ..] = bytes else {
            return Ok(None);
        };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(broken(
                "a frame with a reserved bit, and no extension was agreed on",
            ));
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(broken("a frame of an unknown kind"));
        }
        if second & 0x80 != 0 {
            return Err(broken("a masked frame from a server"));
        }
        let (length, start) = match second {
            126 => match more.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match more.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let is_control = opcode & 0x8 != 0;
        if is_control && (!is_final || length > MOST_CONTROL_BYTES as u64) {
            return Err(broken("a control frame that is long or in fragments"));
        }
        let before = self.fragments.as_ref().map_or(0, |(_, so_far)| so_far.len());
        let room = self
            .max_message_bytes
            .saturating_sub(if is_control { 0 } else { before });
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|length| is_control || *length <= room)
        else {
            let words = format_args!("a message of more than {} bytes", self.max_message_bytes);
            return Err(TransportError::new(Step::Receive, ErrorClass::TooLarge, words));
        };
        Ok(Some(Header {
            is_final,
            opcode,
            payload: start..start + length,
        }))
    }
}

fn broken(words: &str) -> TransportError {
    TransportError::new(Step::Receive, ErrorClass::Protocol, words)
}

struct Writer {
    /// Frames, and how many of their bytes were written.
    unsent: Vec<u8>,
    sent: usize,
    most: usize,
    mask_seed: u64,
    masks: u64,
    has_closed: bool,
}

impl Writer {
    /// A pong for a ping.
    fn answer(&mut self, ping: &[u8]) -> Result<(), TransportError> {
        if self.unsent.len() - self.sent + ping.len() + MOST_HEADER_BYTES > self.most {
            let words = "the peer asks for answers and reads none";
            return Err(TransportError::new(Step::Receive, ErrorClass::Flooded, words));
        }
        if !self.has_closed {
            self.frame(PONG, ping);
        }
        Ok(())
    }

    fn close(&mut self, code: &[u8]) {
        if !std::mem::replace(&mut self.has_closed, true) {
            self.frame(CLOSE, code);
        }
    }

    /// A whole frame, masked as a client has to (RFC 6455, section 5.3).
    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        const FINAL: u8 = 0x80;
        const MASKED: u8 = 0x80;
        self.unsent.reserve(MOST_HEADER_BYTES + payload.len());
        self.unsent.push(FINAL | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ 0..=125), _) => self.unsent.push(MASKED | short),
            (_, Ok(medium)) => {
                self.unsent.push(MASKED | 126);
                self.unsent.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                self.unsent.push(MASKED | 127);
                self.unsent
                    .extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        self.masks += 1;
        let mask = (mix(self.mask_seed, self.masks) as u32).to_ne_bytes();
        self.unsent.extend_from_slice(&mask);
        let start = self.unsent.len();
        self.unsent.extend_from_slice(payload);
        apply(mask, &mut self.unsent[start..]);
    }
}

/// Masks or unmasks, eight bytes at a time.
fn apply(mask: [u8; 4], bytes: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Message as Ws, Utf8Bytes};

    use super::*;
    use crate::message::Message;
    use crate::seam::Collected;

    struct Plain(DuplexStream);

    impl Notes for Plain {
        fn last_read(&self) -> Received {
            Received::default()
        }
    }

    impl AsyncRead for Plain {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Plain {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[test]
    fn a_library_reads_what_is_written_here() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            for message in [
                Message::text("é".repeat(length / 2)),
                Message::binary(vec![0xA7; length]),
            ] {
                let mut frames = Frames::over(Plain(duplex(1).0), &[], 2 << 20);
                frames.message(message.kind, &message.payload);
                let wire = Cursor::new(frames.writer.unsent.clone());
                let config = WebSocketConfig::default().max_frame_size(None);
                let read = WebSocket::from_raw_socket(wire, Role::Server, Some(config))
                    .read()
                    .unwrap();
                assert_eq!(matches!(read, Ws::Text(_)), message.kind == Kind::Text);
                assert_eq!(read.into_data(), message.payload);
            }
        }
    }

    proptest! {
        /// What a library writes is read here, wherever the network cuts it.
        #[test]
        fn what_a_library_writes_is_read_however_it_is_cut(
            lengths in proptest::collection::vec(0usize..70_000, 1..6),
            cuts in proptest::collection::vec(1usize..5_000, 1..50),
            early in 0usize..100,
        ) {
            let messages: Vec<Ws> = lengths
                .iter()
                .enumerate()
                .map(|(k, length)| match k % 3 {
                    0 => Ws::Text(Utf8Bytes::from("x".repeat(*length))),
                    1 => Ws::Binary(vec![k as u8; *length].into()),
                    _ => Ws::Ping(vec![1; *length % 126].into()),
                })
                .collect();
            let mut library = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Server, None);
            for message in &messages {
                library.send(message.clone()).unwrap();
            }
            library.close(None).unwrap();
            let wire = library.get_ref().get_ref().clone();
            let early = early.min(wire.len());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (got, pongs) = runtime.block_on(async {
                let (ours, mut theirs) = duplex(1 << 20);
                let mut frames = Frames::over(Plain(ours), &wire[..early], 1 << 20);
                let mut got = Collected::default();
                frames.read_early(&mut got).unwrap();
                let mut at = early;
                for cut in cuts.iter().cycle() {
                    if at >= wire.len() { break; }
                    let end = (at + cut).min(wire.len());
                    theirs.write_all(&wire[at..end]).await.unwrap();
                    poll_fn(|cx| frames.poll_read(cx, &mut got)).await.unwrap();
                    at = end;
                }
                assert!(frames.peer_has_closed());
                (got.0, frames.writer.masks - 1)
            });
            let wanted: Vec<Vec<u8>> = messages.iter().filter(|m| !m.is_ping()).map(|m| m.clone().into_data().to_vec()).collect();
            let read: Vec<Vec<u8>> = got.into_iter().map(|(_, m)| m.payload.to_vec()).collect();
            prop_assert_eq!(read, wanted);
            prop_assert_eq!(pongs, messages.iter().filter(|m| m.is_ping()).count() as u64);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::over(Plain(duplex(1).0), &bytes, 1_000);
            let mut got = Collected::default();
            let _ = frames.read_early(&mut got);
            prop_assert!(frames.reader.rest.len() <= bytes.len());
        }
    }
}
