//! Carriers: what a transport's bytes travel in. HTTP/1.1 or HTTP/2, in the clear or under TLS, as a value.
//!
//! A transport asks a [`Dialer`] for a connection that takes requests ([`Kept`]), or for a stream of bytes for a protocol of its
//! own ([`Channel`]), and never learns what is below. Whatever is below, the time of the last read is that of the socket.
//! What was really agreed with the peer is told ([`Negotiated`]); anything other than what was asked for is an error of class
//! [`Negotiation`](crate::ErrorClass::Negotiation), never a fallback.

pub mod arrival;
pub mod certificates;
mod exchange;
pub mod h2;
mod kept;
mod stream;
mod streams;
pub mod tls;
mod tunnel;

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use hyper::HeaderMap;
use pushmark_measure::{Nanos, clock};

use crate::compression::{self, Compression};
use crate::error::{ErrorClass, Step, TransportError};
use crate::meter::Meter;
use crate::seam::{ConnectTimes, Target};
use crate::tcp::{self, Stamped};

pub use exchange::Exchange;
pub use h2::Windows;
pub use kept::{Headers, Kept, MOST_PLAIN_BYTES, check_version, header, parsed_header, status_of, too_large};
pub use stream::Stream;

/// What carries a transport's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// HTTP/1.1 (RFC 9112) over TCP.
    #[default]
    H1,
    /// The same under TLS.
    H1Tls,
    /// HTTP/2 (RFC 9113) over TCP, with prior knowledge (section 3.3).
    H2c,
    /// HTTP/2 under TLS, agreed on by ALPN (RFC 7301).
    H2Tls,
}

impl Carrier {
    /// All of them.
    pub const ALL: &'static [Carrier] = &[Carrier::H1, Carrier::H1Tls, Carrier::H2c, Carrier::H2Tls];

    /// As written in scenario files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Carrier::H1 => "h1",
            Carrier::H1Tls => "h1+tls",
            Carrier::H2c => "h2c",
            Carrier::H2Tls => "h2+tls",
        }
    }

    /// Under TLS.
    pub fn is_secured(self) -> bool {
        matches!(self, Carrier::H1Tls | Carrier::H2Tls)
    }

    /// The version of HTTP.
    pub fn http(self) -> Http {
        match self {
            Carrier::H1 | Carrier::H1Tls => Http::Http1_1,
            Carrier::H2c | Carrier::H2Tls => Http::Http2,
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No carrier has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no carrier is called {0:?}")]
pub struct UnknownCarrier(pub String);

impl FromStr for Carrier {
    type Err = UnknownCarrier;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Carrier::ALL.iter().find(|carrier| carrier.name() == name);
        found.copied().ok_or_else(|| UnknownCarrier(name.to_owned()))
    }
}

/// How a session's bytes are carried: the part of a [`Target`] that this room reads.
#[derive(Clone, Debug, Default)]
pub struct Carriage {
    /// In what.
    pub carrier: Carrier,
    /// Whom a client trusts and what it offers, where the carrier is secured.
    pub tls: Option<Arc<tls::Client>>,
    /// Sessions that share one HTTP/2 connection, of those of one dialer that go to the same address.
    pub streams_per_connection: Streams,
    /// What is asked of the server's compression; `None`: nothing is compressed.
    pub compression: Option<Compression>,
    /// Those that shall share one have the same number here; `None`: whichever has room.
    pub group: Option<u32>,
    /// How much this side takes unread on an HTTP/2 connection.
    pub windows: Windows,
}

/// How many sessions share one HTTP/2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// At most this many.
    AtMost(NonZeroU32),
    /// All that go to the same address.
    All,
}

impl Default for Streams {
    fn default() -> Self {
        Streams::AtMost(NonZeroU32::MIN)
    }
}

impl Streams {
    fn most(self) -> u32 {
        match self {
            Streams::AtMost(most) => most.get(),
            Streams::All => u32::MAX,
        }
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Http {
    /// HTTP/1.1 (RFC 9112).
    Http1_1,
    /// HTTP/2 (RFC 9113).
    Http2,
}

impl Http {
    /// As it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Http::Http1_1 => "HTTP/1.1",
            Http::Http2 => "HTTP/2",
        }
    }

    /// Its name in ALPN (RFC 7301, section 6; RFC 9113, section 3.2).
    pub fn alpn(self) -> &'static str {
        match self {
            Http::Http1_1 => "http/1.1",
            Http::Http2 => "h2",
        }
    }
}

/// What a connection and its peer really agreed on, from the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The version of HTTP that the peer spoke.
    pub http: Http,
    /// The protocol that ALPN settled on; `None` where the peer has no ALPN, or there is no TLS.
    pub alpn: Option<&'static str>,
    /// Version and cipher suite of TLS; `None` in the clear.
    pub tls: Option<tls::Agreed>,
    /// Sessions that may share the connection; `None` where none can.
    pub streams_per_connection: Option<Streams>,
    /// How what the server sends is compressed; `None` where nothing is.
    pub compression: Option<compression::Agreed>,
}

impl Negotiated {
    /// HTTP/1.1 in the clear.
    pub const PLAIN: Self = Self {
        http: Http::Http1_1,
        alpn: None,
        tls: None,
        streams_per_connection: None,
        compression: None,
    };

    /// HTTP and what secures it are the same as the other's.
    fn is_same(&self, other: &Self) -> bool {
        let of = |n: &Self| (n.http, n.alpn, n.tls.map(|tls| (tls.version, tls.cipher)));
        of(self) == of(other)
    }
}

/// What was agreed on, but for what differs from one connection to the next while all is well: whether it was resumed, and how
/// many sessions share it, which is counted.
impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.http.as_str())?;
        match self.tls {
            None => f.write_str(" in the clear")?,
            Some(agreed) => {
                let alpn = self.alpn.unwrap_or("none");
                write!(f, ", ALPN {alpn}, {} {}", agreed.version.as_str(), agreed.cipher)?;
                if !agreed.verified {
                    f.write_str(", certificate not verified")?;
                }
            }
        }
        match self.compression {
            None => Ok(()),
            Some(agreed) => write!(f, ", {agreed}"),
        }
    }
}

/// How a session was opened, for the counts of it.
pub(crate) struct Opening {
    /// How often the peer was waited for beside what is seen on the session's own connection.
    waits: u32,
    on: On,
}

/// Where the rest is seen.
enum On {
    /// A connection of its own.
    Own(Meter),
    /// A part in one that may be shared.
    Shared(h2::Lease),
    /// Nowhere: it stood already, for the same session.
    Standing,
}

impl Opening {
    fn round_trips(&self) -> u32 {
        self.waits
            + match &self.on {
                On::Own(meter) => meter.turns(),
                On::Shared(lease) => lease.waits(),
                On::Standing => 0,
            }
    }

    /// Other sessions may join the connection.
    fn is_shared(&self) -> bool {
        matches!(&self.on, On::Shared(lease) if lease.is_shared())
    }

    fn meter(&self) -> Option<Meter> {
        match &self.on {
            On::Own(meter) => Some(meter.clone()),
            On::Shared(lease) => Some(lease.meter()),
            On::Standing => None,
        }
    }
}

/// Something that was made over a new connection, or over one that other sessions share.
pub struct Dialed<T> {
    /// It.
    pub made: T,
    /// Before anything was done for it.
    pub started: Nanos,
    /// Before the TCP connect: later than `started` where another's attempt at the same connection was waited for and failed.
    pub dialed: Nanos,
    /// TCP connected; on a connection that stood already, the same as `started`.
    pub tcp_connected: Nanos,
    /// TLS done; without TLS, the same as `tcp_connected`.
    pub secured: Nanos,
    /// Another session had made the connection.
    pub joined: bool,
    /// What the connection is.
    pub negotiated: Negotiated,
    opening: Opening,
}

impl<T> Dialed<T> {
    /// The times of a session that can be used from now on, which its connection takes note of.
    pub fn usable_now(&self) -> ConnectTimes {
        let usable = clock::now();
        let round_trips = self.opening.round_trips();
        if let Some(meter) = self.opening.meter() {
            meter.usable(Some(round_trips), self.opening.is_shared());
        }
        let first = match &self.opening.on {
            On::Own(_) => true,
            On::Shared(lease) => lease.is_first(),
            On::Standing => false,
        };
        ConnectTimes {
            started: self.started,
            dialed: self.dialed,
            tcp_connected: self.tcp_connected,
            secured: self.secured,
            usable,
            joined: self.joined,
            first,
            round_trips,
        }
    }

    /// A further connection of the same session, made after this one: what it took counts for the session.
    ///
    /// # Errors
    /// [`Negotiation`](ErrorClass::Negotiation): it is something else than the first.
    pub fn with<U>(&mut self, further: Dialed<U>) -> Result<U, TransportError> {
        if !self.negotiated.is_same(&further.negotiated) {
            let words = format_args!(
                "the session's further connection agreed on {}, its first on {}",
                further.negotiated, self.negotiated
            );
            return Err(TransportError::new(Step::Secure, ErrorClass::Negotiation, words));
        }
        self.opening.waits += further.opening.round_trips();
        if let Some(meter) = further.opening.meter() {
            meter.usable(None, further.opening.is_shared());
        }
        Ok(further.made)
    }

    /// What was made, apart from how.
    pub fn apart(self) -> (T, Dialed<()>) {
        let (started, tcp_connected) = (self.started, self.tcp_connected);
        let rest = Dialed {
            made: (),
            started,
            dialed: self.dialed,
            tcp_connected,
            secured: self.secured,
            joined: self.joined,
            negotiated: self.negotiated,
            opening: self.opening,
        };
        (self.made, rest)
    }

    /// The same connection, with something else made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Dialed<U> {
        Dialed {
            made: make(self.made),
            started: self.started,
            dialed: self.dialed,
            tcp_connected: self.tcp_connected,
            secured: self.secured,
            joined: self.joined,
            negotiated: self.negotiated,
            opening: self.opening,
        }
    }
}

/// A stream of bytes for a protocol of its own.
pub enum Channel {
    /// A connection on which nothing was said yet: the protocol opens itself by an upgrade (RFC 9110, section 7.8).
    Fresh(Stream),
    /// A tunnel that the peer has opened already (extended CONNECT, RFC 8441), and the headers of its answer.
    Open(Stream, Box<HeaderMap>),
}

/// Connects, and shares connections among the sessions of one thread where the carrier can. Clones share them.
#[derive(Clone, Default)]
pub struct Dialer {
    pool: h2::Pool,
}

impl Dialer {
    /// A connection for requests whose answers are measured.
    ///
    /// # Errors
    /// With the step that failed and the class of its cause.
    pub async fn requests(&self, target: &Target) -> Result<Dialed<Kept>, TransportError> {
        match target.carriage.carrier.http() {
            Http::Http1_1 => {
                let dialed = connect(target, target.kernel_stamps).await?;
                Ok(dialed.map(|stream| Kept::over(stream, target)))
            }
            Http::Http2 => {
                let dialed = Box::pin(self.pool.lease(target)).await?;
                Ok(dialed.map(|lease| Kept::on(lease, target)))
            }
        }
    }

    /// A connection for further requests of the same session, beside those of another: the same connection where it can carry
    /// both, which is where it has a [`Kept::lease`], and a new one otherwise.
    ///
    /// # Errors
    /// With the step that failed and the class of its cause.
    pub async fn beside(
        &self,
        lease: Option<&h2::Lease>,
        target: &Target,
    ) -> Result<Dialed<Kept>, TransportError> {
        match lease {
            Some(lease) => Ok(lease.standing(Kept::on(lease.clone(), target))),
            None => Ok(connect(target, false)
                .await?
                .map(|stream| Kept::over(stream, target))),
        }
    }

    /// A stream of bytes to `path` for `protocol`, as it is called in an upgrade. `headers` go with the request where the carrier
    /// makes one itself: lines, each ended by CR LF.
    ///
    /// # Errors
    /// With the step that failed and the class of its cause.
    pub async fn channel(
        &self,
        target: &Target,
        path: &str,
        (protocol, headers): (&'static str, &str),
    ) -> Result<Dialed<Channel>, TransportError> {
        match target.carriage.carrier.http() {
            Http::Http1_1 => Ok(connect(target, target.kernel_stamps).await?.map(Channel::Fresh)),
            Http::Http2 => Box::pin(tunnel::open(&self.pool, target, path, (protocol, headers))).await,
        }
    }
}

thread_local! {
    /// TCP connections that this thread has made and not told of.
    static CONNECTED: Cell<u64> = const { Cell::new(0) };
}

/// How many TCP connections this thread has made for sessions since it was last asked.
pub fn take_connected() -> u64 {
    CONNECTED.take()
}

/// Connects, and secures the connection where the carrier says so. `stamped`: the kernel stamps what arrives.
async fn connect(target: &Target, stamped: bool) -> Result<Dialed<Stream>, TransportError> {
    let started = clock::now();
    let stream = tcp::connect(target).await?;
    let tcp_connected = clock::now();
    CONNECTED.set(CONNECTED.get() + 1);
    let mut stream = Stamped::new(stream, stamped);
    let opening = Opening {
        // That of the TCP connect.
        waits: 1,
        on: On::Own(stream.metered()),
    };
    let carriage = &target.carriage;
    if !carriage.carrier.is_secured() {
        return Ok(Dialed {
            made: Stream::Plain(stream),
            started,
            dialed: started,
            tcp_connected,
            secured: tcp_connected,
            joined: false,
            negotiated: Negotiated {
                http: carriage.carrier.http(),
                ..Negotiated::PLAIN
            },
            opening,
        });
    }
    let Some(tls) = &carriage.tls else {
        let words = "a secured carrier needs to know whom to trust";
        return Err(TransportError::new(Step::Secure, ErrorClass::Other, words));
    };
    // In a box of its own: a session in the clear need not have room for a handshake.
    let secured = Box::pin(tls.connect(stream, target.address, carriage.carrier.http()));
    let (stream, agreed, alpn) = tokio::time::timeout(target.open_deadline, secured)
        .await
        .map_err(|_| TransportError::timed_out(Step::Secure, target.open_deadline))??;
    Ok(Dialed {
        made: Stream::Tls(stream, false),
        started,
        dialed: started,
        tcp_connected,
        secured: clock::now(),
        joined: false,
        negotiated: Negotiated {
            http: carriage.carrier.http(),
            alpn,
            tls: Some(agreed),
            streams_per_connection: None,
            compression: None,
        },
        opening,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_connection_agrees_to_the_same_or_is_an_error_that_names_both() {
        let dialed = |cipher| {
            let now = clock::now();
            let agreed = tls::Agreed {
                version: tls::Version::Tls1_3,
                cipher,
                resumed: cipher == "A",
                verified: true,
            };
            Dialed {
                made: (),
                started: now,
                dialed: now,
                tcp_connected: now,
                secured: now,
                joined: false,
                negotiated: Negotiated {
                    tls: Some(agreed),
                    compression: Some(compression::Agreed::Coding("gzip")).filter(|_| cipher == "A"),
                    ..Negotiated::PLAIN
                },
                opening: Opening {
                    waits: 0,
                    on: On::Standing,
                },
            }
        };
        let mut first = dialed("A");
        let mut same = dialed("A");
        // That it was not resumed or not compressed is another matter.
        same.negotiated.tls = dialed("A").negotiated.tls.map(|tls| tls::Agreed {
            resumed: false,
            ..tls
        });
        same.negotiated.compression = None;
        assert!(first.with(same).is_ok());
        let error = first.with(dialed("B")).unwrap_err();
        assert_eq!(error.class, ErrorClass::Negotiation);
        assert!(
            error.detail.contains("TLS 1.3 A") && error.detail.contains("TLS 1.3 B"),
            "{error}"
        );
    }

    #[test]
    fn every_carrier_is_found_by_its_name() {
        for carrier in Carrier::ALL {
            assert_eq!(carrier.name().parse(), Ok(*carrier));
        }
        assert_eq!("h3".parse::<Carrier>(), Err(UnknownCarrier("h3".to_owned())));
    }
}
