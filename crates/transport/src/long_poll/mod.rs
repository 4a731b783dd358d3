//! Long polling: GET down, each answered when there is something to say, POST up.
//!
//! | request | answer |
//! |---|---|
//! | `GET /long-poll` | 200, no body, at once. Opens a session: its name is in the header [`SESSION_HEADER`](crate::http::SESSION_HEADER), its first cursor, 0, in [`CURSOR_HEADER`] |
//! | `GET /long-poll?resume=N` | the same, and what the server has kept of the messages numbered N and above waits in the new session |
//! | `GET /long-poll?session=ID&cursor=N` | confirms all messages numbered below N, waits for one at or after it, and gives as many as wait, with the next cursor: 200 and [records](record). 204 and the same cursor when none came within the server's poll deadline |
//! | `POST /long-poll?session=ID` | takes the body up as one message: 204 |
//! | `DELETE /long-poll?session=ID` | ends the session: 204 |
//!
//! What a session cannot have: 404 when there is none of that name, 410 when it has ended and nothing is left to give, 409
//! for a poll that a newer one of the same session has taken over from (one reader at a time; the newer wins, since the
//! older may be a connection that nobody reads any more).
//!
//! The server keeps messages until a cursor confirms them, so a poll whose answer was lost is repeated with the same
//! cursor and nothing is lost between polls; a message counts as written the first time it is given out. A session
//! whose client stays away for the server's absence deadline ends: for the reason that its last poll was cut off for, else as idle, or for want of a heartbeat when the server asks
//! for one, in which case its two deadlines are the heartbeat's. A
//! client that comes back in time goes on where it was.

mod client;
mod presence;
pub mod record;
mod server;

pub use client::{LongPollConnector, LongPollRx, LongPollTx};
pub(crate) use presence::Presence;
pub use server::LongPollServer;

/// The header with the cursor for the next poll.
pub const CURSOR_HEADER: &str = "pushmark-cursor";

/// Most bytes of records in one answer, unless one message alone is larger.
pub const MOST_ANSWER_BYTES: usize = 1 << 20;
