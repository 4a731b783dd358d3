//! The breaker: makes a trial's faults when they are due, unmakes them, and notes what was done when.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::{Cell, Fault, FaultKind, FaultMeans, ReconnectPolicy, is_in_share};
use pushmark_transport::control::ServerStats;

use crate::assignment::TroublePlan;
use crate::controls::Controls;
use crate::embedded::{Embedded, Launch};
use crate::faults::{FaultError, Namespace, Proxy, kernel};
use crate::outcome::{self, Made};

/// Something to be done at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    /// Counted from the start of the measured window.
    pub(super) at: Duration,
    /// Which fault of the cell.
    pub(super) fault: usize,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Begin,
    End,
}

/// Makes the faults of one trial.
pub(super) struct Breaker {
    program: PathBuf,
    faults: Vec<Fault>,
    shares: Vec<f64>,
    actions: VecDeque<Action>,
    proxy: Option<Proxy>,
    namespace: Option<Namespace>,
    made: Vec<Made>,
    /// Places in `made` of the faults that are on, by fault.
    on: Vec<Option<usize>>,
    server_is_gone: bool,
    /// The server's port for clients.
    port: u16,
    /// Number of the first message that nobody has published.
    from: u64,
    from_is_known: bool,
}

impl Breaker {
    /// Makes what is needed before there is a server: a network namespace for faults of the kernel.
    pub(super) async fn prepare(cell: &Cell, program: &Path) -> Result<Self, FaultError> {
        let needs = |means| cell.faults.iter().any(|fault| fault.kind.means() == means);
        let namespace = match needs(FaultMeans::Kernel) {
            true => {
                kernel::sweep_leftovers().await?;
                Some(Namespace::create().await?)
            }
            false => None,
        };
        let mut actions = Vec::new();
        for (fault, Fault { at, lasts, .. }) in cell.faults.iter().enumerate() {
            let action = |at, what| Action { at, fault, what };
            actions.push(action(*at, What::Begin));
            actions.extend(lasts.map(|lasts| action(*at + lasts, What::End)));
        }
        actions.sort_by_key(|action| action.at);
        Ok(Self {
            program: program.to_owned(),
            faults: cell.faults.clone(),
            shares: outcome::shares(&cell.faults),
            actions: actions.into(),
            proxy: None,
            namespace,
            made: Vec::new(),
            on: vec![None; cell.faults.len()],
            server_is_gone: false,
            port: 0,
            from: 0,
            from_is_known: false,
        })
    }

    /// Where the server is to listen.
    pub(super) fn place(&self, launch: &mut Launch) {
        if let Some(namespace) = &self.namespace {
            launch.listen = namespace.address();
            launch.control = namespace.control_address();
            launch.prefix = namespace.prefix();
        }
    }

    /// Puts a proxy before the server at `address` where a fault needs one.
    pub(super) async fn stand_before(&mut self, address: SocketAddr) -> Result<(), FaultError> {
        self.port = address.port();
        if self
            .faults
            .iter()
            .any(|fault| fault.kind.means() == FaultMeans::Proxy)
        {
            let groups = 1 << self.shares.len();
            self.proxy = Some(Proxy::start(&self.program, address, groups).await?);
        }
        Ok(())
    }

    /// What sessions have to know.
    pub(super) fn trouble(&self, cell: &Cell) -> TroublePlan {
        TroublePlan {
            heartbeat: cell.heartbeat,
            tcp: cell.tcp,
            reconnect: cell.reconnect,
            first_fault: cell.faults.iter().map(|fault| fault.at).min(),
            shares: self.shares.clone(),
            routes: self
                .proxy
                .as_ref()
                .map_or_else(Vec::new, |proxy| proxy.addresses().to_vec()),
            slow_readers: cell.slow_readers,
        }
    }

    /// True when nothing is to break.
    pub(super) fn is_idle(&self) -> bool {
        self.faults.is_empty()
    }

    /// What is to be done next.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether a fault has taken the server away, and it has not come back.
    pub(super) fn took_the_server(&self) -> bool {
        self.server_is_gone
    }

    pub(super) fn is_restart(&self, fault: usize) -> bool {
        self.faults[fault].kind == FaultKind::Restart
    }

    /// How many sessions the faults hit, when the trial has nothing left to show once all of them and their server have
    /// noticed; `None` when it has.
    pub(super) fn ends_when_noticed(&self, cell: &Cell) -> Option<u64> {
        let once = |fault: &Fault| fault.kind.is_a_death() && fault.lasts.is_none();
        let [fault] = &self.faults[..] else { return None };
        if !once(fault) || cell.reconnect.policy != ReconnectPolicy::None || self.made.is_empty() {
            return None;
        }
        let hit = (0..cell.load.connections).filter(|session| is_in_share(fault.share, *session));
        Some(hit.count() as u64)
    }

    /// A server that ends in order has said how far it came.
    pub(super) fn published_by(&mut self, stats: Option<&ServerStats>) {
        if let Some(stats) = stats {
            self.from = stats.published;
            self.from_is_known = true;
        }
    }

    /// A server that is killed says nothing: what was due by then has been published, or is lost with it.
    pub(super) fn next_unpublished(&mut self, due: u64) {
        if !std::mem::take(&mut self.from_is_known) && !self.server_is_gone {
            self.from = due;
        }
    }

    /// Number of the first message for a new server to publish.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    /// Begins a fault.
    pub(super) async fn begin(
        &mut self,
        fault: usize,
        server: Option<&mut Embedded>,
        control: Option<&mut Controls>,
    ) -> Result<(), FaultError> {
        let wanted = self.faults[fault];
        let before = clock::now();
        let mut made = Made {
            fault: wanted,
            onset: before,
            cleared: None,
            available: None,
            routes: outcome::routes(&self.shares, &wanted),
            peers: None,
        };
        match wanted.kind.means() {
            FaultMeans::Proxy => {
                let proxy = self.proxy.as_mut().ok_or(FaultError::Missing("the proxy"))?;
                let all = (0..1 << self.shares.len()).collect();
                let groups = made.routes.clone().unwrap_or(all);
                let groups: Vec<u32> = groups.into_iter().map(|group: usize| group as u32).collect();
                let injected = proxy.inject(fault as u32, wanted.kind, &groups).await?;
                // A connection that is ended may be seen to end before all are: the order was given before.
                let ends = matches!(wanted.kind, FaultKind::Fin | FaultKind::Rst | FaultKind::HalfOpen);
                made.onset = if ends { before } else { injected.at };
                made.peers = Some(injected.server_side.into_iter().collect());
            }
            FaultMeans::Process => {
                let server = server.ok_or(FaultError::Missing("the server's process"))?;
                match wanted.kind {
                    FaultKind::Crash => {
                        server.kill().await?;
                        self.server_is_gone = true;
                    }
                    FaultKind::Restart => {
                        server.shutdown().await?;
                        self.server_is_gone = true;
                    }
                    FaultKind::Stop => made.onset = server.pause().await?,
                    _ => {
                        let control = control.ok_or(FaultError::Missing("the server's control paths"))?;
                        control.accept(false).await.map_err(FaultError::Control)?;
                        made.onset = clock::now();
                    }
                }
            }
            FaultMeans::Kernel => {
                let namespace = self
                    .namespace
                    .as_mut()
                    .ok_or(FaultError::Missing("the network namespace"))?;
                made.onset = namespace.inject(fault as u32, wanted.kind, self.port).await?;
            }
        }
        self.on[fault] = Some(self.made.len());
        self.made.push(made);
        Ok(())
    }

    /// Ends a fault that was begun.
    pub(super) async fn end(
        &mut self,
        fault: usize,
        server: Option<&mut Embedded>,
        control: Option<&mut Controls>,
    ) -> Result<(), FaultError> {
        let Some(at) = self.on[fault].take() else {
            return Ok(());
        };
        let kind = self.faults[fault].kind;
        let (cleared, available) = self.undo(fault, kind, server, control).await?;
        self.made[at].cleared = Some(cleared);
        self.made[at].available = available;
        Ok(())
    }

    /// Undoes a fault; gives when it was over, and when a server was there again that it had taken away.
    async fn undo(
        &mut self,
        fault: usize,
        kind: FaultKind,
        server: Option<&mut Embedded>,
        control: Option<&mut Controls>,
    ) -> Result<(Nanos, Option<Nanos>), FaultError> {
        Ok(match kind.means() {
            FaultMeans::Proxy => {
                let proxy = self.proxy.as_mut().ok_or(FaultError::Missing("the proxy"))?;
                (proxy.clear(fault as u32).await?.at, None)
            }
            FaultMeans::Process => {
                let server = server.ok_or(FaultError::Missing("the server's process"))?;
                match kind {
                    FaultKind::Stop => (server.resume().await?, None),
                    FaultKind::Refuse => {
                        let control = control.ok_or(FaultError::Missing("the server's control paths"))?;
                        control.accept(true).await.map_err(FaultError::Control)?;
                        let now = clock::now();
                        (now, Some(now))
                    }
                    _ => {
                        let ready = server.start_again().await.map_err(FaultError::NotBack)?;
                        self.server_is_gone = false;
                        (ready, Some(ready))
                    }
                }
            }
            FaultMeans::Kernel => {
                let namespace = self
                    .namespace
                    .as_mut()
                    .ok_or(FaultError::Missing("the network namespace"))?;
                (namespace.clear(fault as u32).await?, None)
            }
        })
    }

    /// Undoes whatever is still on, without calling it cleared: it lasted to the end. A server that is dead stays dead.
    pub(super) async fn let_go(
        &mut self,
        mut server: Option<&mut Embedded>,
        mut control: Option<&mut Controls>,
    ) -> Result<(), FaultError> {
        for fault in 0..self.faults.len() {
            let kind = self.faults[fault].kind;
            let stays = matches!(kind, FaultKind::Crash | FaultKind::Restart);
            if self.on[fault].take().is_some() && !stays {
                self.undo(fault, kind, server.as_deref_mut(), control.as_deref_mut())
                    .await?;
            }
        }
        Ok(())
    }

    /// What was made.
    pub(super) fn made(&mut self) -> Vec<Made> {
        std::mem::take(&mut self.made)
    }

    /// Takes proxy and namespace away; gives the 99th percentile of what the proxy added each way, in nanoseconds.
    ///
    /// # Errors
    /// The proxy had not lived to this end, or the namespace is still there.
    pub(super) async fn put_away(&mut self) -> Result<Option<u64>, FaultError> {
        let mut delay = Ok(None);
        if let Some(mut proxy) = self.proxy.take() {
            delay = proxy.stats().await.map(|stats| stats.delay.quantile(0.99));
            proxy.stop().await;
        }
        if let Some(namespace) = self.namespace.take() {
            namespace.remove().await?;
        }
        delay
    }
}
