//! Answers about the server itself that a client asked for on one HTTP/2 connection and does not read.
//!
//! A client may have a hundred thousand streams open, and need not open the window of any: each answer would wait in memory. Messages
//! wait in a session's outbox, which has its bounds; these answers have theirs here.

use std::sync::Arc;

use bytes::Bytes;
use pushmark_transport::body::ServerBody;
use pushmark_transport::seam::ServerResponse;
use pushmark_transport::{CloseReason, Connection};

use crate::hub::Hub;

/// Who asks for so many before it has read any is not asking.
const MOST: usize = 256;

/// The answers that wait on one connection.
#[derive(Clone)]
pub(crate) struct Unread(Arc<Waiting>);

struct Waiting {
    /// Held once by each, and once here.
    each: Arc<()>,
    connection: Connection,
}

/// Bytes that are counted until they are let go of.
struct Counted {
    bytes: Bytes,
    _waiting: Arc<()>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Unread {
    pub(crate) fn on(connection: Connection) -> Self {
        Self(Arc::new(Waiting {
            each: Arc::default(),
            connection,
        }))
    }

    /// Counts an answer until it is on its way; one too many ends the connection.
    pub(crate) fn count(&self, mut answer: ServerResponse<Hub>) -> ServerResponse<Hub> {
        if let ServerBody::Whole(Some(bytes)) = answer.body_mut() {
            let waiting = self.0.each.clone();
            if Arc::strong_count(&waiting) - 1 > MOST {
                self.0.connection.kill(CloseReason::SlowReader);
            }
            *bytes = Bytes::from_owner(Counted {
                bytes: std::mem::take(bytes),
                _waiting: waiting,
            });
        }
        answer
    }
}
