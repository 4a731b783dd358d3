//! Connection events: what became of every connection, one line each.

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The session became usable.
    Established,
    /// The attempt failed; the detail names the step and the cause.
    Failed,
    /// The load generator closed it, as planned.
    ClosedByUs,
    /// The peer closed it in an orderly way.
    ClosedByPeer,
    /// It ended by an error; the detail names the cause.
    Dropped,
    /// The session that had ended was usable again.
    Reconnected,
    /// The attempt to come back failed; the detail names the step and the cause.
    ReconnectFailed,
    /// No further attempt will be made; the detail says why.
    GaveUp,
}

impl EventKind {
    /// The word used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Established => "established",
            EventKind::Failed => "failed",
            EventKind::ClosedByUs => "closed-by-us",
            EventKind::ClosedByPeer => "closed-by-peer",
            EventKind::Dropped => "dropped",
            EventKind::Reconnected => "reconnected",
            EventKind::ReconnectFailed => "reconnect-failed",
            EventKind::GaveUp => "gave-up",
        }
    }
}

/// One event of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEvent {
    /// When.
    pub at: Nanos,
    /// The session's number within the trial.
    pub session: u32,
    /// What.
    pub kind: EventKind,
    /// The error class and step, or how long the connect took; free of secrets.
    pub detail: String,
}
