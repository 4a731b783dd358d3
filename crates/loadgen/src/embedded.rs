//! The embedded server: the reference server as a process of its own, for the length of one trial, and what a fault does to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::{ServerSetup, WhenFull};
use pushmark_transport::control::{CONTROL, READY};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::faults::FaultError;
use crate::faults::server::set_stopped;
use crate::halves::{self, Half};

/// How long a server may take until it listens.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It could not be started at all.
    #[error("the server could not be started: {0}")]
    Start(#[from] std::io::Error),
    /// It did not say that it listens.
    #[error("the server did not get ready: {0}")]
    NotReady(String),
}

/// Another server than our own: a program that takes the flags of `serve` and says when it is ready in the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerProgram {
    /// The program.
    pub program: PathBuf,
    /// What it is given before the flags.
    pub words: Vec<String>,
}

/// How the embedded server is started: also again, after a fault took it.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program that has `serve`.
    pub program: PathBuf,
    /// How the server is set up.
    pub setup: ServerSetup,
    /// Processes on its one port.
    pub processes: u32,
    /// The address it listens on for clients, on a free port.
    pub listen: IpAddr,
    /// The address it is controlled at, on a free port of each process.
    pub control: IpAddr,
    /// What is written before the program: a command that runs another, in a network namespace say. It must become that
    /// other (`exec`), since signals are sent to what was started.
    pub prefix: Vec<String>,
    /// What comes between the program and the flags: `serve`, with whatever else this server is to be given.
    pub verb: Vec<String>,
    /// Further flags of `serve`: see [`serve_flags`](crate::faults::server::serve_flags).
    pub flags: Vec<String>,
    /// The half of the processors that it is to keep to.
    pub half: Option<Half>,
}

impl Launch {
    /// On loopback, in `processes` processes, with nothing special.
    pub fn on_loopback(program: &Path, setup: &ServerSetup, processes: u32) -> Self {
        Self {
            program: program.to_owned(),
            setup: setup.clone(),
            processes,
            listen: Ipv4Addr::LOCALHOST.into(),
            control: Ipv4Addr::LOCALHOST.into(),
            prefix: Vec::new(),
            verb: vec!["serve".to_owned()],
            flags: Vec::new(),
            half: None,
        }
    }
}

/// A running server: one process, or several on one port when one cannot have as many descriptors as it needs.
pub struct Embedded {
    launch: Launch,
    address: SocketAddr,
    /// Keeps the port from being given to others while no process has it; connects to it are refused all the same. `None`
    /// where it is a port of another network namespace, in which nobody else asks for one.
    reserved: Option<OwnedFd>,
    /// Empty after a fault took them.
    processes: Vec<ServerProcess>,
    paused: bool,
}

/// A running server process. Dropped, it is killed.
struct ServerProcess {
    child: Child,
    /// Kept open: the server ends when it reads the end of its input, so that it never outlives us.
    _output: ChildStdout,
    address: SocketAddr,
    control: SocketAddr,
    /// When it had said that it listens.
    ready: Nanos,
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
        Self::launch(Launch::on_loopback(program, setup, processes)).await
    }

    /// Starts a server as `launch` says, on a free port, and waits until all its processes listen.
    ///
    /// # Errors
    /// When one cannot be started, ends at once, or does not listen within ten seconds.
    pub async fn launch(launch: Launch) -> Result<Self, EmbeddedError> {
        let mut server = Self {
            address: SocketAddr::new(launch.listen, 0),
            launch,
            reserved: None,
            processes: Vec::new(),
            paused: false,
        };
        server.start_again().await?;
        server.reserved = reserve(server.address).ok();
        Ok(server)
    }

    /// Starts new processes on the same address, after [`kill`](Self::kill) or [`shutdown`](Self::shutdown); their
    /// controls are new. Gives the instant at which the last of them had said that it listens. A server that runs is left alone.
    ///
    /// # Errors
    /// When one cannot be started, ends at once, or does not listen within ten seconds; then none is left.
    pub async fn start_again(&mut self) -> Result<Nanos, EmbeddedError> {
        let mut ready = clock::now();
        if self.processes.is_empty() {
            let mut started = Vec::new();
            for _ in 0..self.launch.processes.max(1) {
                let process = ServerProcess::start(&self.launch, self.address).await?;
                // The first one finds the port.
                self.address = process.address;
                ready = process.ready;
                started.push(process);
            }
            self.processes = started;
            self.paused = false;
        }
        Ok(ready)
    }

    /// Where it listens, or did and will again.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where each of its processes is controlled; nowhere while there are none.
    pub fn controls(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.control).collect()
    }

    /// Its processes' ids.
    pub fn ids(&self) -> Vec<u32> {
        self.processes
            .iter()
            .filter_map(|process| process.child.id())
            .collect()
    }

    /// Kills every process (`SIGKILL`) and waits until the kernel has taken them away, their sockets with them. Gives the instant
    /// after that.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn kill(&mut self) -> Result<Nanos, FaultError> {
        let failed = |source| FaultError::Start {
            what: "the killing of the reference server".into(),
            source,
        };
        // All are told before any is waited for.
        for process in &mut self.processes {
            match process.child.start_kill() {
                // It has ended by itself.
                Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {}
                told => told.map_err(failed)?,
            }
        }
        for process in &mut self.processes {
            process.child.wait().await.map_err(failed)?;
        }
        let at = clock::now();
        self.processes.clear();
        self.paused = false;
        Ok(at)
    }

    /// Stops every process where it stands (`SIGSTOP`). Gives the instant after which all of their threads were seen to
    /// stand.
    ///
    /// They stand until they are told to go on, or we are gone: they are a process group of their own in our session, which
    /// the kernel continues only when its last tie to the session ends. That tie is us; then it hangs them up too
    /// (`SIGHUP`), and so none is left standing for ever. (In a session of their own they would be left.)
    ///
    /// # Errors
    /// When there is none, one has ended, or one is not seen to stand within five seconds.
    pub async fn pause(&mut self) -> Result<Nanos, FaultError> {
        self.set_paused(true).await
    }

    /// Lets every process go on (`SIGCONT`). Gives the instant after which all were seen to.
    ///
    /// # Errors
    /// When there is none, one has ended, or one is not seen to go on within five seconds.
    pub async fn resume(&mut self) -> Result<Nanos, FaultError> {
        self.set_paused(false).await
    }

    async fn set_paused(&mut self, paused: bool) -> Result<Nanos, FaultError> {
        let ids = self.ids();
        if ids.is_empty() || ids.len() < self.processes.len() {
            return Err(FaultError::Gone(crate::faults::server::SERVER));
        }
        // Noted first, so that whoever ends it later lets it go on, however far this came.
        self.paused |= paused;
        set_stopped(&ids, paused).await?;
        self.paused = paused;
        Ok(clock::now())
    }

    /// Ends every process in good order: sessions are closed as their transports have it. Gives the instant at which all had
    /// ended. Those that do not within eight seconds are killed.
    ///
    /// # Errors
    /// When one did not end by itself; then, too, none is left.
    pub async fn shutdown(&mut self) -> Result<Nanos, FaultError> {
        let in_order = self.end().await;
        let at = clock::now();
        if in_order {
            Ok(at)
        } else {
            Err(FaultError::NotInOrder)
        }
    }

    /// Asks every process to end, and kills those that do not. True when all ended by themselves and had not died before,
    /// other than by [`kill`](Self::kill).
    pub async fn stop(mut self) -> bool {
        self.end().await
    }

    async fn end(&mut self) -> bool {
        if self.paused {
            // One that cannot go on is killed below.
            let _ = self.resume().await;
        }
        let mut processes = std::mem::take(&mut self.processes);
        let mut in_order = true;
        // All are asked before any is waited for.
        for process in &mut processes {
            in_order &= matches!(process.child.try_wait(), Ok(None));
            drop(process.child.stdin.take());
        }
        for process in &mut processes {
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

/// A socket that is bound beside the server's own and never listens.
fn reserve(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

impl ServerProcess {
    async fn start(launch: &Launch, listen: SocketAddr) -> Result<Self, EmbeddedError> {
        let setup = &launch.setup;
        let when_full = match setup.when_full {
            WhenFull::DropOldest => "drop-oldest",
            WhenFull::DropNewest => "drop-newest",
            WhenFull::Disconnect => "disconnect",
        };
        let threads = setup.threads.unwrap_or_else(default_threads).to_string();
        let mut command = match launch.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&launch.program);
                command
            }
            None => Command::new(&launch.program),
        };
        command
            .args(&launch.verb)
            .args([
                "--listen",
                &listen.to_string(),
                "--control",
                &SocketAddr::new(launch.control, 0).to_string(),
                "--share-port",
                "--exit-with-stdin",
            ])
            .args(["--threads", &threads, "--when-full", when_full])
            .args(["--outbox", &setup.outbox_messages.to_string()])
            .args(&launch.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // A Ctrl-C at the terminal is for the coordinator alone, which then ends its processes in order.
            .process_group(0);
        let mut child = halves::on(launch.half, || command.spawn())?;
        let Some(output) = child.stdout.take() else {
            return Err(EmbeddedError::NotReady("its output cannot be read".into()));
        };
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(READY_DEADLINE, lines.next_line())
            .await
            .map_err(|_| EmbeddedError::NotReady(format!("no word from it within {READY_DEADLINE:?}")))??
            .ok_or_else(|| EmbeddedError::NotReady("it ended at once; see its message above".into()))?;
        let ready = clock::now();
        let addresses = line.strip_prefix(READY).and_then(|rest| rest.split_once(CONTROL));
        let parsed = addresses.and_then(|(a, c)| Some((a.trim().parse().ok()?, c.trim().parse().ok()?)));
        let (address, control) =
            parsed.ok_or_else(|| EmbeddedError::NotReady(format!("it said “{}”", line.escape_debug())))?;
        Ok(Self {
            child,
            _output: lines.into_inner().into_inner(),
            address,
            control,
            ready,
        })
    }
}
