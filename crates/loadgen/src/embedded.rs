//! The embedded server: the reference server as a process of its own, for the length of one trial.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::{Cell, WhenFull};
use pushmark_transport::control::{CONTROL, READY};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::faults::FaultError;

/// How long a server may take until it listens.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// How often, and how many times, it is looked whether a process has taken a signal.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 2_000;

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

/// Where a server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it listens.
    pub listen: IpAddr,
    /// Where it listens for control.
    pub control: IpAddr,
    /// What its command is started by: `ip netns exec NAME`; empty to start it right here.
    pub prefix: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self {
            listen: loopback,
            control: loopback,
            prefix: Vec::new(),
        }
    }
}

/// A running server: one process, or several on one port when one cannot have as many descriptors as it needs.
pub struct Embedded {
    processes: Vec<ServerProcess>,
    program: PathBuf,
    place: Place,
    flags: Vec<String>,
    address: SocketAddr,
    count: u32,
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
    /// Starts `program serve` at `place` as the cell wants it, as `processes` processes on one port, and waits until all listen.
    ///
    /// # Errors
    /// When one cannot be started, ends at once, or does not listen within ten seconds.
    pub async fn start(
        program: &Path,
        cell: &Cell,
        place: Place,
        processes: u32,
    ) -> Result<Self, EmbeddedError> {
        let mut server = Self {
            processes: Vec::new(),
            program: program.to_owned(),
            address: SocketAddr::new(place.listen, 0),
            place,
            flags: flags(cell),
            count: processes.max(1),
        };
        server.start_processes().await?;
        Ok(server)
    }

    async fn start_processes(&mut self) -> Result<(), EmbeddedError> {
        for _ in 0..self.count {
            let process = ServerProcess::start(&self.program, &self.place, &self.flags, self.address).await?;
            self.address = process.address;
            self.processes.push(process);
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills every process; returns when none is left.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub async fn kill(&mut self) -> Result<(), FaultError> {
        // All are hit before any is waited for.
        for process in &mut self.processes {
            process.child.start_kill().map_err(FaultError::of_server)?;
        }
        for mut process in self.processes.drain(..) {
            process.child.wait().await.map_err(FaultError::of_server)?;
        }
        Ok(())
    }

    /// Ends every process in good order; returns when none is left.
    ///
    /// # Errors
    /// When one does not end in time: it is then killed.
    pub async fn shutdown(&mut self) -> Result<(), FaultError> {
        for process in &mut self.processes {
            drop(process.child.stdin.take());
        }
        for mut process in self.processes.drain(..) {
            let ended = tokio::time::timeout(STOP_DEADLINE, process.child.wait()).await;
            if ended.is_err() {
                return Err(FaultError::Late {
                    what: "the server's end in good order".to_owned(),
                    after: STOP_DEADLINE,
                });
            }
        }
        Ok(())
    }

    /// Starts the processes again on the same port; gives the instant when all listened.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub async fn start_again(&mut self) -> Result<Nanos, FaultError> {
        let started = self.start_processes().await;
        started.map_err(|e| FaultError::NoEffect(e.to_string()))?;
        Ok(clock::now())
    }

    /// Stops every process where it stands: its kernel still acknowledges. Gives the instant after which none runs.
    ///
    /// # Errors
    /// When one cannot be stopped.
    pub async fn pause(&mut self) -> Result<Nanos, FaultError> {
        self.signal(Signal::STOP)?;
        for process in &self.processes {
            process.wait_until(|state| state == 'T').await?;
        }
        Ok(clock::now())
    }

    /// Lets every process that was stopped go on. Gives the instant after which all run.
    ///
    /// # Errors
    /// When one cannot be continued.
    pub async fn resume(&mut self) -> Result<Nanos, FaultError> {
        self.signal(Signal::CONT)?;
        for process in &self.processes {
            process.wait_until(|state| state != 'T').await?;
        }
        Ok(clock::now())
    }

    fn signal(&self, signal: Signal) -> Result<(), FaultError> {
        for process in &self.processes {
            let id = process.child.id().and_then(|id| Pid::from_raw(id as i32));
            let id = id.ok_or(FaultError::Gone("the server"))?;
            rustix::process::kill_process(id, signal).map_err(|e| FaultError::of_server(e.into()))?;
        }
        Ok(())
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

/// The flags of `serve` that a cell's server is set up by.
fn flags(cell: &Cell) -> Vec<String> {
    let setup = &cell.server;
    let when_full = match setup.when_full {
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::DropNewest => "drop-newest",
        WhenFull::Disconnect => "disconnect",
    };
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
    flag(
        "--threads",
        setup.threads.unwrap_or_else(default_threads).to_string(),
    );
    flag("--when-full", when_full.to_owned());
    flag("--outbox", setup.outbox_messages.to_string());
    if setup.history_messages > 0 {
        flag("--history", setup.history_messages.to_string());
    }
    if let Some(retry) = setup.retry {
        flag("--retry", ms(retry));
    }
    if let Some(heartbeat) = cell.heartbeat {
        flag("--heartbeat-every", ms(heartbeat.every));
        flag("--heartbeat-timeout", ms(heartbeat.timeout));
    }
    if let Some(k) = cell.tcp.keepalive {
        flag(
            "--keepalive",
            format!("{}s,{}s,{}", k.idle.as_secs(), k.interval.as_secs(), k.probes),
        );
    }
    if let Some(timeout) = cell.tcp.user_timeout {
        flag("--user-timeout", ms(timeout));
    }
    flags
}

fn ms(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

impl ServerProcess {
    async fn start(
        program: &Path,
        place: &Place,
        flags: &[String],
        listen: SocketAddr,
    ) -> Result<Self, EmbeddedError> {
        let mut words = place.prefix.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        let mut child = command
            .args(words)
            .args(["serve", "--listen", &listen.to_string()])
            .args(["--control", &SocketAddr::new(place.control, 0).to_string()])
            .args(["--share-port", "--exit-with-stdin"])
            .args(flags)
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

    /// Waits until the kernel says that the process is in a state that is wanted.
    async fn wait_until(&self, wanted: impl Fn(char) -> bool) -> Result<(), FaultError> {
        let gone = || FaultError::Gone("the server");
        let id = self.child.id().ok_or_else(gone)? as i32;
        for _ in 0..LOOKS {
            let stat = procfs::process::Process::new(id).and_then(|process| process.stat());
            if wanted(stat.map_err(|_| gone())?.state) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(FaultError::NoEffect(
            "the server's process does not take its signals".to_owned(),
        ))
    }
}
