//! TLS on the client: whom it trusts, what it offers, what was agreed, and what its errors mean.
//!
//! TLS 1.2 and 1.3 by rustls with ring. A cold connect is a cold one: sessions are not resumed unless asked for, though the
//! library would by default.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    SignatureScheme, SupportedProtocolVersion, version,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Http;
use crate::error::{ErrorClass, Step, TransportError};
use crate::tcp::Stamped;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls1_2,
    /// TLS 1.3 (RFC 8446).
    Tls1_3,
}

impl Version {
    /// As it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Tls1_2 => "TLS 1.2",
            Version::Tls1_3 => "TLS 1.3",
        }
    }
}

/// What a handshake settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version.
    pub version: Version,
    /// The cipher suite, as IANA names it.
    pub cipher: &'static str,
    /// Keys came from an earlier session of this client.
    pub resumed: bool,
    /// The certificate was held against those that are trusted.
    pub verified: bool,
}

/// Whom a client believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Certificates that these have signed, or that are among them.
    Roots(Vec<CertificateDer<'static>>),
    /// Anybody: the peer is not authenticated.
    Anybody,
}

/// What a client offers and whom it trusts.
#[derive(Debug)]
pub struct Settings {
    /// Whom it believes.
    pub trust: Trust,
    /// The one version that it offers; `None`: both.
    pub version: Option<Version>,
    /// The name that the certificate must have and that is sent (SNI, RFC 6066, section 3); `None`: the address, which is not
    /// sent.
    pub server_name: Option<String>,
    /// What it shows of itself: certificate chain and key.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Later connections take up the keys of earlier ones.
    pub resumption: bool,
}

impl Settings {
    /// Trusts `trust`, offers both versions, resumes nothing.
    pub fn trusting(trust: Trust) -> Self {
        Self {
            trust,
            version: None,
            server_name: None,
            identity: None,
            resumption: false,
        }
    }
}

/// The settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {0}")]
pub struct BadSettings(String);

fn bad(e: impl std::fmt::Display) -> BadSettings {
    BadSettings(e.to_string())
}

/// Secures a client's connections. Made once, shared by all of them.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    version: Option<Version>,
    verifies: bool,
    asks_to_resume: bool,
}

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn versions(only: Option<Version>) -> &'static [&'static SupportedProtocolVersion] {
    static TLS_1_2: &[&SupportedProtocolVersion] = &[&version::TLS12];
    static TLS_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match only {
        None => rustls::ALL_VERSIONS,
        Some(Version::Tls1_2) => TLS_1_2,
        Some(Version::Tls1_3) => TLS_1_3,
    }
}

impl Client {
    /// Prepares connections.
    ///
    /// # Errors
    /// A root, the identity or the name is nothing that can be used.
    pub fn new(settings: Settings) -> Result<Self, BadSettings> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(settings.version))
            .map_err(bad)?;
        let verifies = matches!(settings.trust, Trust::Roots(_));
        let builder = match settings.trust {
            Trust::Roots(certificates) => {
                let mut roots = RootCertStore::empty();
                let mut refused = None;
                for certificate in certificates {
                    refused = roots.add(certificate).err().or(refused);
                }
                // A system's collection may hold one that is too odd; it vouches for nobody.
                if let (true, Some(why)) = (roots.is_empty(), refused) {
                    return Err(bad(why));
                }
                builder.with_root_certificates(roots)
            }
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut config = match settings.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(bad)?,
            None => builder.with_no_client_auth(),
        };
        if !settings.resumption {
            config.resumption = Resumption::disabled();
        }
        let server_name = settings.server_name.map(ServerName::try_from).transpose();
        Ok(Self {
            config: Arc::new(config),
            server_name: server_name.map_err(bad)?,
            version: settings.version,
            verifies,
            asks_to_resume: settings.resumption,
        })
    }

    /// Whether connections take up the keys of earlier ones, where the peer has given what they need for it.
    pub fn asks_to_resume(&self) -> bool {
        self.asks_to_resume
    }

    /// What an error of the handshake means, and what to do about it.
    fn refused(&self, error: &io::Error, address: SocketAddr, http: Http) -> TransportError {
        let mut refused = TransportError::from_io(Step::Secure, error);
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let words = match (refused.class, inner) {
            (_, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))) => format!(
                "the server speaks no {} here (it refused ALPN {}); use a carrier that it speaks",
                http.as_str(),
                http.alpn()
            ),
            (_, Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion))) => format!(
                "the server takes no {}; offer another version (carrier.tls)",
                self.version.map_or("TLS 1.2 or 1.3", Version::as_str)
            ),
            (_, Some(rustls::Error::InvalidMessage(why))) => format!(
                "what came is no TLS ({why:?}); if the server speaks none on this port, use h1 or h2c"
            ),
            (ErrorClass::CertificateExpired, _) => {
                "the certificate is not valid at this time; have the server \
                 show a current one (or --insecure, which verifies nothing)"
                    .to_owned()
            }
            (ErrorClass::CertificateName, _) => format!(
                "the certificate is for another name than {}; ask for the one it has (--sni NAME)",
                self.name(address).to_str()
            ),
            (ErrorClass::CertificateUntrusted, _) => {
                format!(
                    "nobody who is trusted vouches for the certificate; give its issuer (--cacert FILE): {error}"
                )
            }
            _ => return refused,
        };
        refused.detail = TransportError::new(Step::Secure, refused.class, words).detail;
        refused
    }

    fn name(&self, address: SocketAddr) -> ServerName<'static> {
        let named = self.server_name.clone();
        named.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()))
    }

    /// Secures `stream` to `address` for `http`. What ALPN settled on is told beside the stream.
    pub(super) async fn connect(
        &self,
        stream: Stamped,
        address: SocketAddr,
        http: Http,
    ) -> Result<(Box<TlsStream<Stamped>>, Agreed, Option<&'static str>), TransportError> {
        let connector = TlsConnector::from(self.config.clone());
        let offered = vec![http.alpn().as_bytes().to_vec()];
        let connected = connector
            .with_alpn(offered)
            .connect(self.name(address), stream)
            .await;
        let stream = connected.map_err(|e| self.refused(&e, address, http))?;
        let connection = stream.get_ref().1;
        // A server without ALPN speaks HTTP/1.1; one with it has said what it speaks.
        let alpn = match (connection.alpn_protocol(), http) {
            (Some(name), _) if name == http.alpn().as_bytes() => Some(http.alpn()),
            (None, Http::Http1_1) => None,
            (got, _) => {
                let got = got.map_or("nothing".into(), String::from_utf8_lossy);
                let words = format_args!(
                    "ALPN settled on {got} where {} was needed; use a carrier that the server speaks",
                    http.alpn()
                );
                return Err(TransportError::new(Step::Secure, ErrorClass::Negotiation, words));
            }
        };
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls1_2,
            Some(ProtocolVersion::TLSv1_3) => Version::Tls1_3,
            other => {
                let words = format_args!("{other:?} is no version that was offered");
                return Err(TransportError::new(Step::Secure, ErrorClass::Negotiation, words));
            }
        };
        let suite = connection.negotiated_cipher_suite();
        let agreed = Agreed {
            version,
            cipher: suite.and_then(|s| s.suite().as_str()).unwrap_or("unknown"),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            verified: self.verifies,
        };
        Ok((Box::new(stream), agreed, alpn))
    }
}

/// What to do about a server that gave a connection up for what it was shown, or was not.
pub(crate) fn advice(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::AlertReceived(alert) = error else {
        return None;
    };
    match alert {
        AlertDescription::CertificateRequired => {
            Some("the server requires a client certificate; give one (--client-cert FILE --client-key FILE)")
        }
        AlertDescription::HandshakeFailure => Some(
            "the server has no version and cipher suite in common with what was offered, or requires a client certificate \
             (--client-cert FILE --client-key FILE)",
        ),
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::DecryptError => {
            Some("the server does not take the client certificate that it was shown")
        }
        _ => None,
    }
}

/// The class that an error of TLS belongs to.
pub(crate) fn class_of(error: &rustls::Error) -> ErrorClass {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ErrorClass::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ErrorClass::CertificateName
            }
            _ => ErrorClass::CertificateUntrusted,
        },
        Error::NoApplicationProtocol
        | Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
            | AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure,
        ) => ErrorClass::Negotiation,
        _ => ErrorClass::Tls,
    }
}

/// Believes every certificate. Signatures are checked all the same: whoever shows a certificate has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
