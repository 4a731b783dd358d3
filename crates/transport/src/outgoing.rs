//! What goes out of an outbox, what it goes through on its way, and what became of it.

use bytes::Bytes;
use pushmark_measure::Nanos;
use serde::{Deserialize, Serialize};

/// A message, encoded for the session's transport, on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What the transport writes.
    pub encoded: Bytes,
    /// When the message was published or handed over.
    pub sent: Nanos,
    /// No message, but a frame of the transport's own, which is not counted.
    pub control: bool,
    /// It is as it goes out: a session's [`Coder`] has had it, or is not to have it.
    pub(crate) coded: bool,
}

/// What a session's messages go through on their way out, in their order, for as long as the session lives: what comes out
/// depends on all that came before. One that is dropped while it waits has not gone through it.
pub trait Coder: Send {
    /// What goes out for `encoded`.
    ///
    /// # Errors
    /// It could not be made. The session ends without the transport's own ending.
    fn code(&mut self, encoded: &Bytes, control: bool) -> Result<Bytes, CodingFailed>;

    /// What goes out after everything else, if anything does.
    ///
    /// # Errors
    /// As those of [`Coder::code`].
    fn finish(&mut self) -> Result<Option<Bytes>, CodingFailed> {
        Ok(None)
    }
}

/// A [`Coder`] could not make what was to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingFailed;

impl Outgoing {
    pub(crate) fn control(frame: &[u8]) -> Self {
        Self {
            encoded: Bytes::copy_from_slice(frame),
            sent: Nanos::default(),
            control: true,
            coded: false,
        }
    }

    /// One that is as it goes out.
    pub(crate) fn plain(frame: &[u8]) -> Self {
        Self {
            coded: true,
            ..Self::control(frame)
        }
    }

    /// A message.
    pub fn message(encoded: Bytes, sent: Nanos) -> Self {
        Self {
            encoded,
            sent,
            control: false,
            coded: false,
        }
    }
}

/// What happens to a message for a session whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest waiting message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The session is closed.
    Disconnect,
}

/// What became of a message that was put in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was handed to the socket there and then (see [`Outbox::write_to`]). The host counts it as written.
    Written,
    /// It waits for the connection.
    Queued,
    /// It waits; the oldest was dropped for it.
    DroppedOldest,
    /// It was dropped.
    DroppedNewest,
    /// The outbox was full and is now closed: the session shall end.
    Overflowed,
    /// The session had ended before.
    Closed,
}

/// What is to go out is as it goes out from now on.
pub(crate) fn code(coder: &mut Box<dyn Coder>, message: &mut Outgoing) -> Result<(), CodingFailed> {
    if !message.coded {
        message.encoded = coder.code(&message.encoded, message.control)?;
        message.coded = true;
    }
    Ok(())
}
