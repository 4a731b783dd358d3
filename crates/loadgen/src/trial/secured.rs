//! The certificate of one trial: made for its server, trusted by its workers, gone with it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pushmark_transport::carrier::certificates::Identity;
use pushmark_transport::process;

/// A certificate and its key in files that only this user can read. Dropped, the files are removed.
///
/// They are files, and made by whoever conducts the trial, since a server may be several processes, and may be started again
/// within its trial: its clients shall know it again.
pub(super) struct Secured {
    dir: PathBuf,
    trusted: String,
}

impl Secured {
    /// A certificate for a server that listens at `listen`.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub(super) fn make(listen: IpAddr) -> io::Result<Self> {
        let identity = Identity::make(&[listen], &[]).map_err(io::Error::other)?;
        // Nobody can have made a directory of that name before.
        let dir = std::env::temp_dir().join(format!("pushmark-{:032x}", process::random_u128()));
        DirBuilder::new().mode(0o700).create(&dir)?;
        let secured = Self {
            dir,
            trusted: identity.certificates_pem().to_owned(),
        };
        write(&secured.certificate(), &secured.trusted)?;
        write(&secured.key(), identity.key_pem())?;
        Ok(secured)
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// Flags of `pushmark serve` that have it show this certificate.
    pub(super) fn serve_flags(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            "--tls-cert".to_owned(),
            path(self.certificate()),
            "--tls-key".to_owned(),
            path(self.key()),
        ]
    }

    /// The certificate, in PEM form: what workers trust.
    pub(super) fn trusted(&self) -> String {
        self.trusted.clone()
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

impl Drop for Secured {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("the certificate of a trial stays behind: {e}");
        }
    }
}
