//! What breaks, and what both sides do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rate;
use crate::units::show_duration;

/// A heartbeat: the same promise for every transport, kept in the way each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// After this long without a word, one is asked for or given.
    pub every: Duration,
    /// After this long without an answer, or without the word that was due, the other side is dead.
    pub timeout: Duration,
}

/// What the kernel does to find out that a peer is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpOptions {
    /// Keepalive probes on idle connections; off unless given.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482).
    pub user_timeout: Option<Duration>,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection is dead.
    pub probes: u32,
}

/// What a session does that was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// When it tries again.
    pub policy: ReconnectPolicy,
    /// It says what it has seen, so that the server can give what it missed.
    pub resume: bool,
}

/// When a session tries again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReconnectPolicy {
    /// Never.
    #[default]
    None,
    /// As the transport's own standard has it, if it says anything.
    Native,
    /// Always after the same time.
    Fixed {
        /// That time.
        delay: Duration,
    },
    /// After a time that doubles with each failure.
    Exponential {
        /// The first.
        base: Duration,
        /// The longest.
        max: Duration,
        /// What chance does to it.
        jitter: Jitter,
    },
}

impl fmt::Display for ReconnectPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReconnectPolicy::None => f.write_str("no reconnection"),
            ReconnectPolicy::Native => f.write_str("native"),
            ReconnectPolicy::Fixed { delay } => write!(f, "fixed {}", show_duration(*delay)),
            ReconnectPolicy::Exponential { jitter, .. } => {
                let jitter = match jitter {
                    Jitter::None => "no",
                    Jitter::Full => "full",
                    Jitter::Equal => "equal",
                    Jitter::Decorrelated => "decorrelated",
                };
                write!(f, "exponential, {jitter} jitter")
            }
        }
    }
}

/// How chance spreads waiting times, so that those who were cut off together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// Not at all.
    None,
    /// Anything from zero to the whole time.
    #[default]
    Full,
    /// Half of the time, and anything up to the other half.
    Equal,
    /// Anything from the base to three times the last wait.
    Decorrelated,
}

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When, counted from the start of the measured window.
    pub at: Duration,
    /// What.
    pub kind: FaultKind,
    /// For how long; `None`: to the end of the trial.
    pub lasts: Option<Duration>,
    /// On which share of the connections, from 0 to 1.
    pub share: f64,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Both sides see an orderly end of the TCP connection.
    Fin,
    /// Both sides see a reset.
    Rst,
    /// Nothing passes any more in either direction; kernels still acknowledge.
    Freeze,
    /// The server's side is reset; the client is told nothing.
    HalfOpen,
    /// Bytes are held back, each way.
    Delay {
        /// That long.
        delay: Duration,
        /// And up to this much longer, by chance.
        jitter: Duration,
    },
    /// No more bytes a second pass to the client, on each connection.
    Bandwidth {
        /// That many.
        bytes_per_second: u64,
    },
    /// Bytes to the client pass one by one.
    SlowDrip {
        /// One in this time.
        every: Duration,
    },
    /// Bytes to the client are changed by chance.
    Corrupt {
        /// Chance of each byte, from 0 to 1.
        chance: f64,
    },
    /// The server process is killed; after the fault's length a new one takes its port.
    Crash,
    /// The server process is stopped, and continued after the fault's length; its kernel still acknowledges.
    Stop,
    /// The server process ends in good order; after the fault's length a new one takes its port.
    Restart,
    /// The server takes no new connections: they are refused.
    Refuse,
    /// The kernel drops every packet, both ways: nothing is acknowledged.
    Blackhole,
    /// The kernel drops packets by chance, both ways.
    Loss {
        /// Chance of each packet, from 0 to 1.
        chance: f64,
    },
    /// The network link goes down.
    LinkDown,
}

/// By what means a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMeans {
    /// A proxy between generator and server; no right is needed.
    Proxy,
    /// The server's own process.
    Process,
    /// The kernel, in a network namespace of the run's own: needs root.
    Kernel,
}

impl FaultKind {
    /// The word in scenario files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Fin => "fin",
            FaultKind::Rst => "rst",
            FaultKind::Freeze => "freeze",
            FaultKind::HalfOpen => "half-open",
            FaultKind::Delay { .. } => "delay",
            FaultKind::Bandwidth { .. } => "bandwidth",
            FaultKind::SlowDrip { .. } => "slow-drip",
            FaultKind::Corrupt { .. } => "corrupt",
            FaultKind::Crash => "crash",
            FaultKind::Stop => "stop",
            FaultKind::Restart => "restart",
            FaultKind::Refuse => "refuse",
            FaultKind::Blackhole => "blackhole",
            FaultKind::Loss { .. } => "loss",
            FaultKind::LinkDown => "link-down",
        }
    }

    /// By what means it is made.
    pub fn means(self) -> FaultMeans {
        match self {
            FaultKind::Fin
            | FaultKind::Rst
            | FaultKind::Freeze
            | FaultKind::HalfOpen
            | FaultKind::Delay { .. }
            | FaultKind::Bandwidth { .. }
            | FaultKind::SlowDrip { .. }
            | FaultKind::Corrupt { .. } => FaultMeans::Proxy,
            FaultKind::Crash | FaultKind::Stop | FaultKind::Restart | FaultKind::Refuse => {
                FaultMeans::Process
            }
            FaultKind::Blackhole | FaultKind::Loss { .. } | FaultKind::LinkDown => FaultMeans::Kernel,
        }
    }

    /// Whether a side can notice it as the death of its peer, so that its detection is measured.
    pub fn is_a_death(self) -> bool {
        !matches!(
            self,
            FaultKind::Delay { .. }
                | FaultKind::Bandwidth { .. }
                | FaultKind::SlowDrip { .. }
                | FaultKind::Corrupt { .. }
                | FaultKind::Refuse
                | FaultKind::Loss { .. }
        )
    }

    /// Whether the server that would notice is the one that died.
    pub fn takes_the_server(self) -> bool {
        matches!(self, FaultKind::Crash | FaultKind::Stop | FaultKind::Restart)
    }
}

/// Sessions that do not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowReaders {
    /// Share of the sessions, from 0 to 1.
    pub share: f64,
    /// Messages they take in a second; `None`: none at all.
    pub rate: Option<Rate>,
}
