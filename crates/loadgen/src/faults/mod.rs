//! Faults: the means by which a run breaks something on purpose, each saying when it had taken effect.
//!
//! ```text
//! proxy   a process between generator and server      fin, rst, freeze, half-open, delay, bandwidth, slow-drip, corrupt
//! kernel  a network namespace of the run's own        blackhole, loss, link-down (needs root, `ip`, `iptables`)
//! server  the embedded server's processes             crash, stop, restart
//! ```
//! Whoever conducts a trial gives each fault a number, injects it, and clears it by that number. All instants are of the
//! clock that the stamps use, so a detection time is a difference.

pub mod kernel;
mod namespace;
pub mod proxy;
pub mod server;

use std::io;
use std::time::Duration;

pub use kernel::Namespace;
pub use proxy::Proxy;

/// The number that a fault goes by in its trial: its place in the plan.
pub type FaultId = u32;

/// Why a fault could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// A process that is needed could not be started.
    #[error("{what} could not be started: {source}")]
    Start {
        /// What.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A stream to or from a process broke.
    #[error("{what} cannot be spoken to: {source}")]
    Io {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended that should have lived.
    #[error("{0} has ended before its time; see its message above")]
    Gone(&'static str),
    /// Something took too long.
    #[error("{what} took longer than {after:?}")]
    Late {
        /// What.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// A message between processes is not in the protocol.
    #[error("a message between processes is not understood: {0}")]
    Protocol(#[from] serde_json::Error),
    /// The request makes no sense as things are: an unknown group, a number that is taken, a kind made by other means.
    #[error("{0}")]
    Refused(String),
    /// A right or a program is missing.
    #[error("{0}")]
    NotAllowed(String),
    /// A command failed.
    #[error("`{command}` failed: {words}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        words: String,
    },
    /// What a fault needs is not part of this trial.
    #[error("{0} is not there to make the fault")]
    Missing(&'static str),
    /// The server that a fault took away could not be started again.
    #[error("after the fault, {0}")]
    NotBack(crate::embedded::EmbeddedError),
    /// The server's control paths failed.
    #[error("the server's control paths failed: {0}")]
    Control(pushmark_transport::TransportError),
    /// The server did not end as it was asked to.
    #[error("the reference server did not end in good order")]
    NotInOrder,
    /// It was done, and yet it is not so.
    #[error("{0}")]
    NoEffect(String),
}

impl FaultError {
    /// Whether it is the server that did not do its part, and not what makes faults.
    pub fn is_the_servers(&self) -> bool {
        match self {
            Self::NotBack(_) | Self::NotInOrder | Self::Control(_) => true,
            Self::Gone(what) => *what == server::SERVER,
            _ => false,
        }
    }
}
