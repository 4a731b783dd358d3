//! The embedded server: the reference server as a process of its own, for the length of one trial.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushmark_scenario::plan::{ServerSetup, WhenFull};
use pushmark_transport::control::{CONTROL, READY};
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

/// A running server: one process, or several on one port when one cannot have as many descriptors as it needs.
pub struct Embedded {
    processes: Vec<ServerProcess>,
}

/// A running server process. Dropped, it is killed.
struct ServerProcess {
    child: Child,
    /// Kept open: the server ends when it reads the end of its input, so that it never outlives us.
    _output: ChildStdout,
    address: SocketAddr,
    control: SocketAddr,
}

/// Half of the cores this process may use, at least one: the other half is for the other side.
pub fn default_threads() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    (cores / 2).max(1)
}

impl Embedded {
    /// Starts `program serve` on a free port of loopback, as `processes` processes on that one port, and waits until all listen.
    ///
    /// # Errors
    /// When one cannot be started, ends at once, or does not listen within ten seconds.
    pub async fn start(program: &Path, setup: &ServerSetup, processes: u32) -> Result<Self, EmbeddedError> {
        let mut started: Vec<ServerProcess> = Vec::new();
        for _ in 0..processes.max(1) {
            let listen = started
                .first()
                .map_or(SocketAddr::from(([127, 0, 0, 1], 0)), |first| first.address);
            started.push(ServerProcess::start(program, setup, listen).await?);
        }
        Ok(Self { processes: started })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.processes
            .first()
            .map_or(SocketAddr::from(([127, 0, 0, 1], 0)), |first| first.address)
    }

    /// Where each of its processes is controlled.
    pub fn controls(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.control).collect()
    }

    /// Asks every process to end, and kills those that do not. True when all ended by themselves and had not died before.
    pub async fn stop(mut self) -> bool {
        let mut in_order = true;
        // All are asked before any is waited for.
        for process in &mut self.processes {
            in_order &= matches!(process.child.try_wait(), Ok(None));
            drop(process.child.stdin.take());
        }
        for process in &mut self.processes {
            match tokio::time::timeout(STOP_DEADLINE, process.child.wait()).await {
                Ok(Ok(status)) => in_order &= status.success(),
                _ => {
                    let _ = process.child.kill().await;
                    in_order = false;
                }
            }
        }
        in_order
    }
}

impl ServerProcess {
    async fn start(program: &Path, setup: &ServerSetup, listen: SocketAddr) -> Result<Self, EmbeddedError> {
        let when_full = match setup.when_full {
            WhenFull::DropOldest => "drop-oldest",
            WhenFull::DropNewest => "drop-newest",
            WhenFull::Disconnect => "disconnect",
        };
        let threads = setup.threads.unwrap_or_else(default_threads).to_string();
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                &listen.to_string(),
                "--control",
                "127.0.0.1:0",
                "--share-port",
                "--exit-with-stdin",
            ])
            .args(["--threads", &threads, "--when-full", when_full])
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
        let addresses = line.strip_prefix(READY).and_then(|rest| rest.split_once(CONTROL));
        let parsed = addresses.and_then(|(a, c)| Some((a.trim().parse().ok()?, c.trim().parse().ok()?)));
        let (address, control) =
            parsed.ok_or_else(|| EmbeddedError::NotReady(format!("it said “{}”", line.escape_debug())))?;
        Ok(Self {
            child,
            _output: lines.into_inner().into_inner(),
            address,
            control,
        })
    }
}
