//! Answers about the server itself that a client asked for on one HTTP/2 connection and does not read.
//!
//! A client may have a hundred thousand streams open, and need not open the window of any: each answer would wait in memory. Messages
//! wait in a session's outbox, which has its bounds; these answers have theirs here.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use pushmark_transport::body::ServerBody;
use pushmark_transport::seam::ServerResponse;
use pushmark_transport::{CloseReason, Connection};

use crate::hub::Hub;

/// So much may wait on one connection, besides a single answer that is larger.
const MOST_BYTES: usize = 4 << 20;

/// The answers that wait on one connection.
#[derive(Clone)]
pub(crate) struct Unread(Arc<Waiting>);

struct Waiting {
    bytes: AtomicUsize,
    connection: Connection,
}

/// Bytes that are counted until they are let go of.
struct Counted {
    bytes: Bytes,
    among: Arc<Waiting>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.among.bytes.fetch_sub(self.bytes.len(), Relaxed);
    }
}

impl Unread {
    pub(crate) fn on(connection: Connection) -> Self {
        Self(Arc::new(Waiting {
            bytes: AtomicUsize::new(0),
            connection,
        }))
    }

    /// Counts an answer until it is on its way. One too many ends the connection, and is not given: others may be made before the
    /// connection has its turn to end.
    pub(crate) fn count(&self, mut answer: ServerResponse<Hub>) -> ServerResponse<Hub> {
        let ServerBody::Whole(Some(bytes)) = answer.body_mut() else {
            return answer;
        };
        let waiting = self.0.bytes.fetch_add(bytes.len(), Relaxed);
        let counted = Counted {
            bytes: std::mem::take(bytes),
            among: self.0.clone(),
        };
        if waiting > 0 && waiting + counted.bytes.len() > MOST_BYTES {
            self.0.connection.kill(CloseReason::SlowReader);
            *answer.body_mut() = ServerBody::empty();
            return answer;
        }
        *bytes = Bytes::from_owner(counted);
        answer
    }
}
