//! The embedded server: the reference server as a process of its own, for the length of one trial.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushmark_scenario::plan::{ServerSetup, WhenFull};
use pushmark_transport::control::READY;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// How long a server may take until it listens.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It could not be started at all.
    #[error("the reference server could not be started: {0}")]
    Start(#[from] std::io::Error),
    /// It did not say that it listens.
    #[error("the reference server did not get ready: {0}")]
    NotReady(String),
}

/// A running server process. Dropped, it is killed.
pub struct Embedded {
    child: Child,
    /// Kept open: the server ends when it reads the end of its input, so that it never outlives us.
    _output: ChildStdout,
    address: SocketAddr,
}

/// Half of the cores this process may use, at least one: the other half is for the other side.
pub fn default_threads() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    (cores / 2).max(1)
}

impl Embedded {
    /// Starts `program serve` on a free port of loopback and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not listen within ten seconds.
    pub async fn start(program: &Path, setup: &ServerSetup) -> Result<Self, EmbeddedError> {
        let when_full = match setup.when_full {
            WhenFull::DropOldest => "drop-oldest",
            WhenFull::DropNewest => "drop-newest",
            WhenFull::Disconnect => "disconnect",
        };
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--exit-with-stdin",
                "--when-full",
                when_full,
            ])
            .args([
                "--threads",
                &setup.threads.unwrap_or_else(default_threads).to_string(),
            ])
            .args(["--outbox", &setup.outbox_messages.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // A Ctrl-C at the terminal is for the coordinator alone, which then ends its processes in order.
            .process_group(0)
            .spawn()?;
        let Some(output) = child.stdout.take() else {
            return Err(EmbeddedError::NotReady("its output cannot be read".into()));
        };
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(READY_DEADLINE, lines.next_line())
            .await
            .map_err(|_| EmbeddedError::NotReady(format!("no word from it within {READY_DEADLINE:?}")))??
            .ok_or_else(|| EmbeddedError::NotReady("it ended at once; see its message above".into()))?;
        let address = line
            .strip_prefix(READY)
            .and_then(|address| address.trim().parse().ok())
            .ok_or_else(|| EmbeddedError::NotReady(format!("it said “{}”", line.escape_debug())))?;
        Ok(Self {
            child,
            _output: lines.into_inner().into_inner(),
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end, and kills it when it does not. True when it ended by itself and had not died before.
    pub async fn stop(mut self) -> bool {
        if let Ok(Some(_)) = self.child.try_wait() {
            return false;
        }
        drop(self.child.stdin.take());
        match tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            _ => {
                let _ = self.child.kill().await;
                false
            }
        }
    }
}
