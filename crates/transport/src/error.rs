//! Transport errors: at which step, of which class. Counted by class, printed with their detail.

use std::fmt;
use std::io;

/// The step of a connection's life in which something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// TCP connect.
    Connect,
    /// TLS handshake.
    Secure,
    /// From connected to a usable session.
    Open,
    /// Sending a message.
    Send,
    /// Receiving.
    Receive,
    /// Orderly close.
    Close,
}

/// What went wrong, coarse enough to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// Nobody listens there.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// A deadline of this step passed, be it the harness's or the kernel's.
    TimedOut,
    /// The connection ended without the transport's own ending.
    EndedEarly,
    /// No source port or address left: the load generator's own limit.
    LocalPorts,
    /// No descriptor left: the load generator's own limit.
    Descriptors,
    /// The peer answered with this HTTP status where another was needed.
    Status(u16),
    /// The peer broke the protocol.
    Protocol,
    /// A message or header larger than the configured limit.
    TooLarge,
    /// The session is closed.
    Closed,
    /// The peer ended the session in order and left the connection open.
    LeftOpen,
    /// The peer asks for answers and reads none: there is no more room for them.
    Flooded,
    /// Nothing was heard from the peer within the heartbeat's deadline.
    Heartbeat,
    /// The peer agreed to something else than what was asked for, or to nothing: another version of HTTP, no such tunnel.
    Negotiation,
    /// The certificate is not valid now.
    CertificateExpired,
    /// The certificate is somebody else's.
    CertificateName,
    /// The certificate is vouched for by nobody who is trusted.
    CertificateUntrusted,
    /// TLS failed otherwise: what came is no TLS, or the peer gave up.
    Tls,
    /// The peer ends the whole HTTP/2 connection (GOAWAY).
    GoAway,
    /// The peer ended this stream of the HTTP/2 connection (RST_STREAM).
    StreamReset,
    /// An HTTP/2 connection or stream was ended for its many small frames, by either side.
    EnhanceYourCalm,
    /// The server takes fewer streams at once on an HTTP/2 connection than are to share it.
    StreamLimit,
    /// Anything else.
    Other,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "connect",
            Step::Secure => "secure",
            Step::Open => "open",
            Step::Send => "send",
            Step::Receive => "receive",
            Step::Close => "close",
        })
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorClass::Refused => f.write_str("refused"),
            ErrorClass::Reset => f.write_str("reset"),
            ErrorClass::TimedOut => f.write_str("timed-out"),
            ErrorClass::EndedEarly => f.write_str("ended-early"),
            ErrorClass::LocalPorts => f.write_str("no-local-port"),
            ErrorClass::Descriptors => f.write_str("no-descriptor"),
            ErrorClass::Status(status) => write!(f, "status-{status}"),
            ErrorClass::Protocol => f.write_str("protocol"),
            ErrorClass::TooLarge => f.write_str("too-large"),
            ErrorClass::Closed => f.write_str("closed"),
            ErrorClass::LeftOpen => f.write_str("left-open"),
            ErrorClass::Flooded => f.write_str("flooded"),
            ErrorClass::Heartbeat => f.write_str("heartbeat"),
            ErrorClass::Negotiation => f.write_str("negotiation"),
            ErrorClass::CertificateExpired => f.write_str("certificate-expired"),
            ErrorClass::CertificateName => f.write_str("certificate-name"),
            ErrorClass::CertificateUntrusted => f.write_str("certificate-untrusted"),
            ErrorClass::Tls => f.write_str("tls"),
            ErrorClass::GoAway => f.write_str("go-away"),
            ErrorClass::StreamReset => f.write_str("stream-reset"),
            ErrorClass::EnhanceYourCalm => f.write_str("enhance-your-calm"),
            ErrorClass::StreamLimit => f.write_str("stream-limit"),
            ErrorClass::Other => f.write_str("other"),
        }
    }
}

impl ErrorClass {
    /// The peer, or what secures the connection to it, is not what was asked for: whatever could be measured would be something
    /// else. So it is with fewer streams on a connection than were to share it.
    pub fn is_other_than_asked(self) -> bool {
        matches!(
            self,
            ErrorClass::Negotiation
                | ErrorClass::CertificateExpired
                | ErrorClass::CertificateName
                | ErrorClass::CertificateUntrusted
                | ErrorClass::Tls
                | ErrorClass::StreamLimit
        )
    }
}

/// An error of one connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{step}: {class}{}{detail}", if detail.is_empty() { "" } else { ": " })]
pub struct TransportError {
    /// Where in its life.
    pub step: Step,
    /// What.
    pub class: ErrorClass,
    /// More words, possibly from the peer or a library; control characters escaped, bounded in length.
    pub detail: String,
}

/// Longest detail kept, in characters: a peer must not fill the event log.
const LONGEST_DETAIL: usize = 200;

impl TransportError {
    /// An error with a detail; control characters in it are escaped and its length is bounded.
    pub fn new(step: Step, class: ErrorClass, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let mut kept: String = detail.chars().take(LONGEST_DETAIL).flat_map(printable).collect();
        if detail.chars().nth(LONGEST_DETAIL).is_some() {
            kept.push('…');
        }
        Self {
            step,
            class,
            detail: kept,
        }
    }

    /// The class that an input or output error belongs to.
    pub fn from_io(step: Step, error: &io::Error) -> Self {
        use rustix::io::Errno;
        // What lies between a transport and the socket wraps its own errors in the system's.
        let inner = error.get_ref();
        if let Some(tls) = inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
            let class = crate::carrier::tls::class_of(tls);
            return match crate::carrier::tls::advice(tls) {
                Some(advice) => Self::new(step, class, format_args!("{advice} ({tls})")),
                None => Self::new(step, class, tls),
            };
        }
        if let Some(h2) = inner.and_then(|e| e.downcast_ref::<h2::Error>()) {
            return crate::carrier::h2::class_of(step, h2);
        }
        let class = match (error.kind(), error.raw_os_error().map(Errno::from_raw_os_error)) {
            (_, Some(Errno::MFILE | Errno::NFILE)) => ErrorClass::Descriptors,
            (_, Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE)) => ErrorClass::LocalPorts,
            (io::ErrorKind::ConnectionRefused, _) => ErrorClass::Refused,
            (
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted,
                _,
            ) => ErrorClass::Reset,
            (io::ErrorKind::TimedOut, _) => ErrorClass::TimedOut,
            // On a connection that stood, the kernel gave up too, and reports what it had last heard of the way there.
            (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable, _)
                if matches!(step, Step::Send | Step::Receive) =>
            {
                ErrorClass::TimedOut
            }
            (io::ErrorKind::UnexpectedEof, _) => ErrorClass::EndedEarly,
            // Not the system's words but a library's: the bytes are not what they should be.
            (io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput, None) => ErrorClass::Protocol,
            _ => ErrorClass::Other,
        };
        Self::new(step, class, error)
    }

    /// A deadline of `step` passed.
    pub fn timed_out(step: Step, deadline: std::time::Duration) -> Self {
        Self::new(
            step,
            ErrorClass::TimedOut,
            format_args!("no end within {deadline:?}"),
        )
    }

    /// `step: class`, without the detail: what is counted.
    pub fn key(&self) -> String {
        format!("{}: {}", self.step, self.class)
    }
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_write_on_the_terminal_or_fill_the_log() {
        let e = TransportError::new(
            Step::Open,
            ErrorClass::Protocol,
            "\x1b[31m".to_owned() + &"x".repeat(5_000),
        );
        assert!(e.to_string().starts_with("open: protocol: \\u{1b}[31m"), "{e}");
        assert!(e.detail.len() < 250);
    }

    #[test]
    fn the_generators_own_limits_have_classes_of_their_own() {
        for (errno, class) in [
            (24, ErrorClass::Descriptors),
            (99, ErrorClass::LocalPorts),
            (98, ErrorClass::LocalPorts),
            (111, ErrorClass::Refused),
            (104, ErrorClass::Reset),
            (110, ErrorClass::TimedOut),
        ] {
            assert_eq!(
                TransportError::from_io(Step::Connect, &io::Error::from_raw_os_error(errno)).class,
                class
            );
        }
        let unreachable = io::Error::from_raw_os_error(113);
        for (step, class) in [
            (Step::Connect, ErrorClass::Other),
            (Step::Receive, ErrorClass::TimedOut),
        ] {
            assert_eq!(TransportError::from_io(step, &unreachable).class, class);
        }
    }
}
