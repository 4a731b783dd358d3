//! The coordinator's hold on a proxy process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushmark_scenario::plan::FaultKind;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::protocol::{Answer, Cleared, Injected, Numbered, Order, ProxyStats, Ready, Setup};
use crate::faults::{FaultError, FaultId};

/// How long a proxy may take until it listens, and for an answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to end after its input ended.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Its name in errors.
const PROXY: &str = "the proxy";

/// A running proxy process. Dropped, it is killed.
pub struct Proxy {
    child: Child,
    /// It ends when it reads the end of this, so that it never outlives us.
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    addresses: Vec<SocketAddr>,
    number: u64,
}

impl Proxy {
    /// Starts `program proxy` before the server at `upstream`, and waits until it listens for each of `groups`.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not listen within ten seconds.
    pub async fn start(program: &Path, upstream: SocketAddr, groups: u32) -> Result<Self, FaultError> {
        let mut child = Command::new(program)
            .arg("proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // A Ctrl-C at the terminal is for the coordinator alone, which then ends its processes in order.
            .process_group(0)
            .spawn()
            .map_err(|source| FaultError::Start {
                what: PROXY.into(),
                source,
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(FaultError::Gone(PROXY));
        };
        let mut proxy = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            addresses: Vec::new(),
            number: 0,
        };
        proxy.say(&Setup { upstream, groups }).await?;
        let ready: Ready = serde_json::from_str(&proxy.hear().await?)?;
        proxy.addresses = ready.addresses;
        Ok(proxy)
    }

    /// Where it listens, in the order of the groups.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its process id, while it runs: for whoever accounts for what it uses.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Breaks something for `groups`; says when it had taken effect, and for whom.
    ///
    /// # Errors
    /// When the proxy has ended or does not answer within ten seconds; when there is no such group, the number is taken, or
    /// a proxy cannot make this kind.
    pub async fn inject(
        &mut self,
        fault: FaultId,
        kind: FaultKind,
        groups: &[u32],
    ) -> Result<Injected, FaultError> {
        let order = Order::Inject {
            fault,
            kind,
            groups: groups.to_vec(),
        };
        match self.ask(order).await? {
            Answer::Injected(injected) => Ok(injected),
            other => Err(unexpected(other)),
        }
    }

    /// Ends a fault; says when it was over.
    ///
    /// # Errors
    /// When the proxy has ended or does not answer within ten seconds; when the fault is not in force.
    pub async fn clear(&mut self, fault: FaultId) -> Result<Cleared, FaultError> {
        match self.ask(Order::Clear { fault }).await? {
            Answer::Cleared(cleared) => Ok(cleared),
            other => Err(unexpected(other)),
        }
    }

    /// New connections go to the server at `address` from now on.
    ///
    /// # Errors
    /// When the proxy has ended or does not answer within ten seconds.
    pub async fn redirect(&mut self, address: SocketAddr) -> Result<(), FaultError> {
        match self.ask(Order::Upstream { address }).await? {
            Answer::Redirected => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// What it has seen since it started.
    ///
    /// # Errors
    /// When the proxy has ended or does not answer within ten seconds.
    pub async fn stats(&mut self) -> Result<ProxyStats, FaultError> {
        match self.ask(Order::Stats).await? {
            Answer::Stats(stats) => Ok(*stats),
            other => Err(unexpected(other)),
        }
    }

    /// Asks it to end, and kills it when it does not; what is connected is cut off. True when it ended by itself and had
    /// not died before.
    pub async fn stop(self) -> bool {
        let Self { mut child, input, .. } = self;
        let lived = matches!(child.try_wait(), Ok(None));
        drop(input);
        match tokio::time::timeout(STOP_DEADLINE, child.wait()).await {
            Ok(Ok(status)) => lived && status.success(),
            _ => {
                let _ = child.kill().await;
                false
            }
        }
    }

    async fn ask(&mut self, what: Order) -> Result<Answer, FaultError> {
        self.number += 1;
        let number = self.number;
        self.say(&Numbered { number, what }).await?;
        loop {
            let answer: Numbered<Answer> = serde_json::from_str(&self.hear().await?)?;
            // An earlier number answers a question whose asker went away.
            if answer.number == number {
                return Ok(answer.what);
            }
        }
    }

    async fn say(&mut self, what: &impl serde::Serialize) -> Result<(), FaultError> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        // A pipe without a reader: the process is gone.
        self.input
            .write_all(&line)
            .await
            .map_err(|_| FaultError::Gone(PROXY))
    }

    async fn hear(&mut self) -> Result<String, FaultError> {
        match tokio::time::timeout(ANSWER_DEADLINE, self.output.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(FaultError::Gone(PROXY)),
            Ok(Err(source)) => Err(FaultError::Io { what: PROXY, source }),
            Err(_) => Err(FaultError::Late {
                what: format!("an answer of {PROXY}"),
                after: ANSWER_DEADLINE,
            }),
        }
    }
}

fn unexpected(answer: Answer) -> FaultError {
    match answer {
        Answer::Refused { reason } => FaultError::Refused(reason),
        other => FaultError::Refused(format!("{PROXY} gave an answer to another question: {other:?}")),
    }
}
