//! Frames as they are read and written (RFC 6455, section 5), on any stream of bytes: a client's, and a server's where an extension
//! was agreed on, which the library has none of.
//!
//! A library's reader keeps a buffer for each connection and copies every message out of it. Here one buffer serves all
//! connections of a thread, and a message that came whole is lent to its inbox from there: what a connection keeps is a frame
//! that has not come whole, and mostly nothing.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::compression::deflate::{Compressor, Decompressor};
use crate::compression::{Compression, Corrupt};
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::poll_read;
use crate::message::Kind;
use crate::process;
use crate::seam::{Inbox, Received};
use crate::tcp::Notes;
use crate::ws::writer::{Writer, apply};

/// Longest payload of a control frame (RFC 6455, section 5.5).
const MOST_CONTROL_BYTES: usize = 125;
/// Room for what was not written yet, at the least: answers to pings of a peer that does not read.
const LEAST_UNSENT_BYTES: usize = 256 * 1024;
/// Inflated in one go, beside the message that goes over it: what one read brings may inflate to a thousand times as much, and
/// the other sessions of the thread have to have their turn.
const MOST_INFLATED_BYTES: usize = 1 << 20;
/// Room that is kept for the next frame.
const KEPT_BYTES: usize = 1024;

/// Bits of a frame's first byte: the last of its message, compressed (RFC 7692, section 6).
pub(super) const FINAL: u8 = 0x80;
pub(super) const COMPRESSED: u8 = 0x40;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

thread_local! {
    /// A message on its way through a compressor or out of one.
    pub(super) static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
/// Room that is kept for it.
pub(super) const KEPT_PLAIN_BYTES: usize = 256 * 1024;

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, and so many whole messages.
    Messages(usize),
    /// The end of the connection.
    End,
}

/// Who reads here: it writes what the other side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads plain frames and writes masked ones.
    Client,
    /// The other way round.
    Server,
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
    /// The frames of one side over a stream whose handshake is done; `early` came with its last bytes. With `compression`, messages
    /// are deflated as it says, and those of the peer may be.
    pub(super) fn of(
        role: Role,
        stream: S,
        early: &[u8],
        max_message_bytes: usize,
        compression: Option<&Compression>,
    ) -> Self {
        let inflate = compression.map(|agreed| {
            let window = if role == Role::Client {
                agreed.down
            } else {
                agreed.up
            };
            Box::new(Decompressor::new(window))
        });
        // A server's messages are deflated where they leave their outbox.
        let deflate = compression.filter(|_| role == Role::Client);
        let deflate = deflate.map(|agreed| Box::new(Compressor::new(agreed.up, agreed.level)));
        Self {
            stream,
            reader: Reader {
                rest: early.to_vec(),
                fragments: None,
                // What does not compress grows by five bytes in some thousands.
                max_frames_bytes: match inflate {
                    Some(_) => max_message_bytes.saturating_add(max_message_bytes / 1_000 + 64),
                    None => max_message_bytes,
                },
                max_message_bytes,
                peer_has_closed: false,
                role,
                inflate,
                inflated: 0,
                holds_back: false,
            },
            writer: Writer {
                unsent: Vec::new(),
                sent: 0,
                most: (2 * max_message_bytes).max(LEAST_UNSENT_BYTES),
                // Fresh for each frame and hard to guess for a peer (section 5.3), without a system call for each.
                mask_seed: process::random_u128() as u64,
                masks: 0,
                has_closed: false,
                role,
                deflate,
            },
            failed: None,
        }
    }

    /// What they come on.
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
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

    /// Enough was inflated for one turn. More may be there, which needs no read: nobody will wake who waits for it.
    pub(super) fn holds_back(&self) -> bool {
        self.reader.holds_back
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
        if std::mem::take(&mut reader.holds_back) {
            reader.inflated = 0;
            // They came with the last read.
            let received = self.stream.last_read();
            fed = reader.feed(received, &[], inbox, writer, &mut count);
            return Poll::Ready(self.told(count, fed).map(Read::Messages));
        }
        let Poll::Ready(read) = poll_read(&mut self.stream, cx, |received, bytes| {
            fed = reader.feed(received, bytes, inbox, writer, &mut count);
        }) else {
            reader.inflated = 0;
            return Poll::Pending;
        };
        Poll::Ready(match read {
            Ok(0) => Ok(Read::End),
            Ok(_) => self.told(count, fed).map(Read::Messages),
            Err(e) => Err(TransportError::from_io(Step::Receive, &e)),
        })
    }

    /// Queues one message.
    ///
    /// # Errors
    /// It could not be compressed.
    pub(super) fn message(&mut self, kind: Kind, payload: &[u8]) -> Result<(), TransportError> {
        let opcode = match kind {
            Kind::Text => TEXT,
            Kind::Binary => BINARY,
        };
        self.writer.message(opcode, payload)
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
    fragments: Option<Fragments>,
    max_message_bytes: usize,
    /// The most that the frames of one message may have together.
    max_frames_bytes: usize,
    peer_has_closed: bool,
    role: Role,
    /// Where the extension was agreed on.
    inflate: Option<Box<Decompressor>>,
    /// Inflated since whoever reads last waited, in bytes.
    inflated: usize,
    /// Whole frames may be left in `rest` for the next turn.
    holds_back: bool,
}

struct Fragments {
    kind: Kind,
    is_compressed: bool,
    bytes: Vec<u8>,
}

/// A frame's first bytes, read.
struct Header {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
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
            if self.inflated > MOST_INFLATED_BYTES {
                self.holds_back = true;
                return Ok(used);
            }
            let Some(header) = self.header(&bytes[used..])? else {
                return Ok(used);
            };
            let end = header.payload.end;
            let Some(payload) = bytes[used..].get(header.payload.clone()) else {
                return Ok(used);
            };
            used += end;
            let unmasked;
            let payload = match header.mask {
                None => payload,
                Some(mask) => {
                    let mut bytes = payload.to_vec();
                    apply(mask, &mut bytes);
                    unmasked = bytes;
                    &unmasked[..]
                }
            };
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
                _ => *count += self.data(received, &header, payload, inbox)?,
            }
        }
        Ok(bytes.len())
    }

    /// A data frame; gives how many messages it completed.
    fn data<I: Inbox>(
        &mut self,
        received: Received,
        header: &Header,
        payload: &[u8],
        inbox: &mut I,
    ) -> Result<usize, TransportError> {
        let first = match header.opcode {
            TEXT => Some(Kind::Text),
            BINARY => Some(Kind::Binary),
            _ => None,
        };
        let (kind, is_compressed, joined);
        let whole = match (first, self.fragments.take()) {
            (Some(_), Some(_)) => return Err(broken("a message within another's fragments")),
            (None, None) => return Err(broken("a fragment of no message")),
            (Some(first), None) if header.is_final => {
                (kind, is_compressed) = (first, header.is_compressed);
                payload
            }
            (first, begun) => {
                let mut so_far = begun.unwrap_or(Fragments {
                    kind: first.unwrap_or(Kind::Binary),
                    is_compressed: header.is_compressed,
                    bytes: Vec::new(),
                });
                so_far.bytes.extend_from_slice(payload);
                if !header.is_final {
                    self.fragments = Some(so_far);
                    return Ok(0);
                }
                (kind, is_compressed, joined) = (so_far.kind, so_far.is_compressed, so_far.bytes);
                &joined[..]
            }
        };
        match &mut self.inflate {
            None => deliver(received, kind, whole, inbox)?,
            Some(inflate) => {
                let most = self.max_message_bytes;
                PLAIN.with_borrow_mut(|plain| {
                    let message = if is_compressed {
                        inflate.message(whole, most, plain).map_err(Corrupt::into_error)?;
                        self.inflated += plain.len();
                        &plain[..]
                    } else if whole.len() > most {
                        return Err(too_large(most));
                    } else {
                        whole
                    };
                    deliver(received, kind, message, inbox)?;
                    inbox.inflated(received, message.len(), whole.len());
                    inbox.agreed_deflate(received, is_compressed);
                    plain.clear();
                    plain.shrink_to(KEPT_PLAIN_BYTES);
                    Ok(())
                })?;
            }
        }
        Ok(1)
    }

    /// The header at the front of `bytes`; `None` while it has not come whole.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, TransportError> {
        let &[first, second, ref more @ ..] = bytes else {
            return Ok(None);
        };
        let (is_final, opcode) = (first & FINAL != 0, first & 0x0F);
        let is_compressed = first & 0x70 != 0;
        if is_compressed {
            self.check_reserved(first)?;
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(broken("a frame of an unknown kind"));
        }
        let is_masked = second & 0x80 != 0;
        match self.role {
            Role::Client if is_masked => return Err(broken("a masked frame from a server")),
            Role::Server if !is_masked => return Err(broken("a frame of a client without a mask")),
            _ => {}
        }
        let (length, start) = match second & 0x7F {
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
        let before = self.fragments.as_ref().map_or(0, |so_far| so_far.bytes.len());
        let room = self
            .max_frames_bytes
            .saturating_sub(if is_control { 0 } else { before });
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|length| is_control || *length <= room)
        else {
            return Err(too_large(self.max_message_bytes));
        };
        let (mask, start) = match is_masked {
            false => (None, start),
            true => match bytes.get(start..).and_then(<[u8]>::first_chunk::<4>) {
                Some(mask) => (Some(*mask), start + mask.len()),
                None => return Ok(None),
            },
        };
        Ok(Some(Header {
            is_final,
            is_compressed,
            opcode,
            mask,
            payload: start..start + length,
        }))
    }

    /// A reserved bit means something where the extension was agreed on: that a message, which this is the first frame of, is
    /// compressed (RFC 7692, section 6).
    fn check_reserved(&self, first: u8) -> Result<(), TransportError> {
        let words = match first & 0x0F {
            _ if self.inflate.is_none() => "a frame with a reserved bit, and no extension was agreed on",
            _ if first & 0x70 != COMPRESSED => {
                "a frame with a reserved bit that no extension gives a meaning"
            }
            TEXT | BINARY => return Ok(()),
            CONTINUATION => "a later fragment that says of itself that it is compressed",
            _ => "a compressed control frame",
        };
        Err(broken(words))
    }
}

fn deliver<I: Inbox>(
    received: Received,
    kind: Kind,
    message: &[u8],
    inbox: &mut I,
) -> Result<(), TransportError> {
    if !crate::host::is_valid(kind, message) {
        return Err(broken("a text message that is not UTF-8"));
    }
    inbox.deliver(received, kind, message);
    Ok(())
}

fn too_large(most: usize) -> TransportError {
    let words = format_args!("a message of more than {most} bytes");
    TransportError::new(Step::Receive, ErrorClass::TooLarge, words)
}

fn broken(words: &str) -> TransportError {
    TransportError::new(Step::Receive, ErrorClass::Protocol, words)
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
