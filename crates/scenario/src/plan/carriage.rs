//! How sessions are carried, beyond the name of their carrier.

use serde::{Deserialize, Serialize};

/// What a cell's carrier is told beside its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriageSetup {
    /// How many sessions share a connection; one, where the carrier cannot carry several.
    pub streams_per_connection: StreamsPerConnection,
    /// How much each side takes unread, where the carrier shares connections. Plans of before it could be set have none and had
    /// the usual ones.
    pub windows: Option<Windows>,
    /// The one version of TLS that is offered, where the carrier has TLS; `None`: whatever both sides like best.
    pub tls: Option<TlsVersion>,
    /// Where the carrier has TLS, connections take up the keys of earlier ones of the same worker thread.
    pub resumption: bool,
    /// How what is sent is compressed; `None`: it is not.
    pub compression: Option<Compression>,
}

/// Compression as it is asked for: permessage-deflate (RFC 7692) where the transport has messages of its own, gzip where it sends
/// bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compression {
    /// Who keeps what it has sent, to refer back to it.
    pub context_takeover: Takeover,
    /// The logarithm of how far back, in bytes.
    pub window_bits: u8,
    /// How hard the compressors try: 1 to 9.
    pub level: u8,
}

/// Which side's messages refer back to its earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    /// Both.
    #[default]
    Both,
    /// The server's alone.
    Server,
    /// The client's alone.
    Client,
    /// Each message is compressed by itself.
    None,
}

impl Takeover {
    /// The server's do.
    pub fn of_server(self) -> bool {
        matches!(self, Takeover::Both | Takeover::Server)
    }

    /// The client's do.
    pub fn of_client(self) -> bool {
        matches!(self, Takeover::Both | Takeover::Client)
    }
}

/// How connections to a server that already runs are secured. Paths only: what is in the files is read when a trial begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetTls {
    /// A file with the certificates that are trusted; `None`: those that this system trusts.
    pub cacert: Option<String>,
    /// Every certificate is believed.
    pub insecure: bool,
    /// A file with the certificate that is shown to the server.
    pub client_cert: Option<String>,
    /// A file with its key.
    pub client_key: Option<String>,
    /// The name that the certificate must have and that is sent; `None`: the host of the address.
    pub sni: Option<String>,
}

/// How many sessions share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamsPerConnection {
    /// At most this many, at least one.
    AtMost(u32),
    /// All of the trial.
    All,
}

impl Default for StreamsPerConnection {
    fn default() -> Self {
        StreamsPerConnection::AtMost(1)
    }
}

/// How much one side of a shared connection takes that nobody has read yet (RFC 9113, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Of one stream, in bytes.
    pub stream_bytes: u32,
    /// Of all streams of a connection together, in bytes.
    pub connection_bytes: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            stream_bytes: 256 << 10,
            connection_bytes: 256 << 20,
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls1_3,
}
