//! Certificates: made for a run, read from and written as PEM (RFC 7468), and what a server secures its connections with.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use super::Http;
use super::tls::{Version, provider, versions};

/// A certificate or a key cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(String),
    /// What should be PEM is not.
    #[error("no {what} in PEM form: {why}")]
    Read {
        /// What was looked for.
        what: &'static str,
        /// Why it is none.
        why: String,
    },
    /// The certificate and the key cannot be used.
    #[error("the certificate and its key cannot be used: {0}")]
    Use(String),
}

/// A certificate, with those that vouch for it, and its key.
pub struct Identity {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    pem: String,
    key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key has no place in a log.
        f.write_str("Identity")
    }
}

/// When a certificate that is made is valid, in whole years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valid {
    /// From the first day of this year.
    pub from: i32,
    /// To the first day of this one.
    pub to: i32,
}

impl Default for Valid {
    /// For as long as anybody will run this: a certificate of one run expires with the run.
    fn default() -> Self {
        Self { from: 1975, to: 4096 }
    }
}

impl Identity {
    /// A new one that nobody vouches for but itself, for localhost, 127.0.0.1 and ::1, and for `addresses` and `names`.
    ///
    /// # Errors
    /// A name is none, or the system gives no randomness.
    pub fn make(addresses: &[IpAddr], names: &[String]) -> Result<Self, CertificateError> {
        let mut subjects = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let further = addresses.iter().filter(|a| !a.is_unspecified());
        subjects.extend(further.map(IpAddr::to_string));
        subjects.extend(names.iter().cloned());
        Self::for_subjects(subjects, Valid::default())
    }

    /// The same for `subjects` alone, names or addresses, and for a time.
    ///
    /// # Errors
    /// As [`Identity::make`].
    pub fn for_subjects(mut subjects: Vec<String>, valid: Valid) -> Result<Self, CertificateError> {
        let failed = |e: rcgen::Error| CertificateError::Make(e.to_string());
        subjects.sort();
        subjects.dedup();
        let mut params = CertificateParams::new(subjects).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "pushmark");
        params.not_before = rcgen::date_time_ymd(valid.from, 1, 1);
        params.not_after = rcgen::date_time_ymd(valid.to, 1, 1);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            pem: certificate.pem(),
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            key_pem: key.serialize_pem(),
        })
    }

    /// From PEM: the certificate first in `chain`, then those that vouch for it.
    ///
    /// # Errors
    /// There is no certificate, or no key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CertificateError> {
        let parsed = PrivateKeyDer::from_pem_slice(key.as_bytes());
        Ok(Self {
            chain: certificates(chain)?,
            key_pem: key.to_owned(),
            key: parsed.map_err(|e| CertificateError::Read {
                what: "private key",
                why: e.to_string(),
            })?,
            pem: chain.to_owned(),
        })
    }

    /// The certificates, as PEM: what a client is given to trust.
    pub fn certificates_pem(&self) -> &str {
        &self.pem
    }

    /// The key, as PEM: nobody's but the server's.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What a client shows of itself.
    pub fn shown(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

/// All certificates in a PEM text; at least one.
///
/// # Errors
/// There is none.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bad = |why: String| CertificateError::Read {
        what: "certificate",
        why,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| bad(e.to_string()))?;
    match found.is_empty() {
        true => Err(bad("the text has none".to_owned())),
        false => Ok(found),
    }
}

/// What a server offers beside its certificate.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Versions of HTTP, the one it likes best first.
    pub http: Vec<Http>,
    /// The one version of TLS; `None`: both.
    pub version: Option<Version>,
    /// Clients may take up the keys of earlier connections: the server gives tickets.
    pub resumption: bool,
    /// Clients must show a certificate that one of these has signed, or is; `None`: they are asked for none.
    pub client_ca: Option<Vec<CertificateDer<'static>>>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            http: vec![Http::Http2, Http::Http1_1],
            version: None,
            resumption: false,
            client_ca: None,
        }
    }
}

/// Secures a server's connections. Clones share what it knows.
#[derive(Clone)]
pub struct Acceptor(pub(super) TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Shows `identity`, and asks of clients what `offer` says.
    ///
    /// # Errors
    /// The certificate and the key do not fit, or are of a kind that is not known.
    pub fn new(identity: &Identity, offer: &Offer) -> Result<Self, CertificateError> {
        let failed = |e: rustls::Error| CertificateError::Use(e.to_string());
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(offer.version))
            .map_err(failed)?;
        let builder = match &offer.client_ca {
            None => builder.with_no_client_auth(),
            Some(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(failed)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| CertificateError::Use(e.to_string()))?)
            }
        };
        let mut config = builder
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(failed)?;
        config.alpn_protocols = offer
            .http
            .iter()
            .map(|http| http.alpn().as_bytes().to_vec())
            .collect();
        if offer.resumption {
            // As servers mostly do it: the keys lie with the client, sealed, and nothing is remembered here.
            config.ticketer = Ticketer::new().map_err(failed)?;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_written_and_read() {
        let made = Identity::make(&[[192, 0, 2, 7].into()], &["push.test".to_owned()]).unwrap();
        assert_eq!(certificates(made.certificates_pem()).unwrap(), made.chain);
        Acceptor::new(&made, &Offer::default()).unwrap();
    }

    #[test]
    fn what_is_no_pem_is_said_to_be_none() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA"] {
            assert!(
                matches!(
                    certificates(text),
                    Err(CertificateError::Read {
                        what: "certificate",
                        ..
                    })
                ),
                "{text:?}"
            );
        }
        let made = Identity::make(&[], &[]).unwrap();
        let no_key = Identity::from_pem(made.certificates_pem(), "").unwrap_err();
        assert!(no_key.to_string().contains("private key"), "{no_key}");
    }
}
