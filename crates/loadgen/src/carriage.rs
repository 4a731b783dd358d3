//! How sessions are carried, from the plan to the connections: whom they trust, what they show, what they share.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use pushmark_scenario::plan::{CarriageSetup, Cell, TargetPlan, TlsVersion};
use pushmark_transport::carrier::Carrier;
use pushmark_transport::carrier::certificates::{Identity, certificates};
use pushmark_transport::carrier::tls::{Client, Settings, Trust, Version};
use serde::{Deserialize, Serialize};

/// Where systems keep the certificates that they trust, as one file. The environment's `SSL_CERT_FILE` goes before them.
const SYSTEM: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom sessions over a secured carrier trust, and how many share a connection where the carrier can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriagePlan {
    /// Certificates that are trusted, or that have signed what is, in PEM form.
    pub trusted: Option<String>,
    /// Every certificate is believed.
    pub insecure: bool,
    /// The name that the certificate must have and that is sent; `None`: the address, which is not sent.
    pub server_name: Option<String>,
    /// What is shown to the server.
    pub shown: Option<Shown>,
    /// What the plan says of the carrier.
    pub setup: CarriageSetup,
}

/// A client's certificate and its key, in PEM form. It goes to worker processes over a pipe, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The certificate, and those that vouch for it.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key has no place in a log.
        f.write_str("Shown")
    }
}

impl CarriagePlan {
    /// For sessions of `cell`, as far as its server is not the embedded one: files are read now.
    ///
    /// # Errors
    /// In words: a file cannot be read, or there is nobody to trust.
    pub(crate) fn of(cell: &Cell) -> Result<Self, String> {
        let mut plan = Self {
            setup: cell.carriage,
            ..Self::default()
        };
        let (TargetPlan::Address(address), true) = (&cell.target, is_secured(cell)) else {
            return Ok(plan);
        };
        let tls = &cell.target_tls;
        plan.insecure = tls.insecure;
        plan.trusted = match (&tls.cacert, tls.insecure) {
            (_, true) => None,
            (Some(path), _) => Some(read(path)?),
            (None, _) => Some(of_this_system()?),
        };
        plan.server_name = tls.sni.clone().or_else(|| host_name(address));
        plan.shown = match (&tls.client_cert, &tls.client_key) {
            (Some(certificate), Some(key)) => Some(Shown {
                certificate: read(certificate)?,
                key: read(key)?,
            }),
            (None, None) => None,
            _ => {
                return Err(
                    "a client certificate needs its key, and a key its certificate: give both".to_owned(),
                );
            }
        };
        // What is wrong with them is said before any traffic.
        plan.client()?;
        Ok(plan)
    }

    /// What secures the connections.
    ///
    /// # Errors
    /// In words: what was given cannot be used.
    pub(crate) fn client(&self) -> Result<Client, String> {
        let trust = match &self.trusted {
            _ if self.insecure => Trust::Anybody,
            Some(pem) => Trust::Roots(certificates(pem).map_err(|e| e.to_string())?),
            None => Trust::Roots(Vec::new()),
        };
        let shown = self.shown.as_ref();
        let shown = shown.map(|shown| Identity::from_pem(&shown.certificate, &shown.key));
        let shown = shown
            .transpose()
            .map_err(|e| format!("the client certificate: {e}"))?;
        let settings = Settings {
            server_name: self.server_name.clone(),
            identity: shown.as_ref().map(Identity::shown),
            resumption: self.setup.resumption,
            version: self.setup.tls.map(|version| match version {
                TlsVersion::Tls1_2 => Version::Tls1_2,
                TlsVersion::Tls1_3 => Version::Tls1_3,
            }),
            ..Settings::trusting(trust)
        };
        Client::new(settings).map_err(|e| e.to_string())
    }
}

/// Whether the connections of `cell` are under TLS.
pub(crate) fn is_secured(cell: &Cell) -> bool {
    let carrier: Option<Carrier> = cell.variant.carrier.parse().ok();
    carrier.is_some_and(Carrier::is_secured)
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {path:?}: {e}"))
}

fn of_this_system() -> Result<String, String> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return read(&path.to_string_lossy());
    }
    let found = SYSTEM.iter().find(|path| Path::new(path).is_file());
    found.map_or_else(
        || {
            Err("this system has no certificates that it trusts (ca-certificates); name those that vouch for the server \
                 (--cacert FILE)"
                .to_owned())
        },
        |path| read(path),
    )
}

/// The host of `host:port`, when it is a name: an address is not sent (RFC 6066, section 3).
fn host_name(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_err().then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sent_and_addresses_are_not() {
        assert_eq!(host_name("push.example:443").as_deref(), Some("push.example"));
        for address in ["127.0.0.1:8443", "[::1]:8443"] {
            assert_eq!(host_name(address), None);
        }
    }

    #[test]
    fn a_key_is_in_no_log() {
        let identity = Identity::make(&[], &[]).unwrap();
        let plan = CarriagePlan {
            shown: Some(Shown {
                certificate: identity.certificates_pem().to_owned(),
                key: identity.key_pem().to_owned(),
            }),
            insecure: true,
            ..CarriagePlan::default()
        };
        plan.client().unwrap();
        assert!(!format!("{plan:?}").contains("PRIVATE"));
    }
}
