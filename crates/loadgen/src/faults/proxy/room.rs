//! What all connections of the proxy share, and the groups whose connections share their fate.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

use pushmark_measure::{Histogram, Nanos, clock};
use pushmark_scenario::plan::{FaultKind, FaultMeans};
use pushmark_transport::stamps;
use pushmark_transport::timer::Timer;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connection::Connection;
use super::protocol::{Answer, Cleared, Injected, Order, ProxyStats, Setup};
use super::shape::{Conditions, Direction, PIECE};
use crate::faults::FaultId;

/// Chance in a proxy is the same in every run; connections and directions draw apart.
const SEED: u64 = 0x0070_7573_686d_6172;

/// The proxy's state, on its one thread.
pub(super) struct Room {
    pub(super) upstream: Cell<SocketAddr>,
    pub(super) groups: Vec<Group>,
    pub(super) timer: Timer,
    /// Bytes between a read and the write that follows at once.
    pub(super) scratch: RefCell<Vec<u8>>,
    pub(super) delay: RefCell<Histogram>,
    pub(super) counts: Counts,
    pub(super) seed: u64,
    faults: RefCell<BTreeMap<FaultId, (FaultKind, Vec<u32>)>>,
}

/// Plain counts.
#[derive(Default)]
pub(super) struct Counts {
    accepted: Cell<u64>,
    accept_errors: Cell<u64>,
    unreachable: Cell<u64>,
    out_of_room: Cell<u64>,
    held_by_reader: Cell<u64>,
    to_server: Cell<u64>,
    to_client: Cell<u64>,
}

impl Counts {
    pub(super) fn passed(&self, direction: Direction, bytes: usize) {
        let count = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        count.set(count.get() + bytes as u64);
    }

    pub(super) fn held_by_reader(&self) {
        self.held_by_reader.set(self.held_by_reader.get() + 1);
    }

    pub(super) fn not_joined(&self, e: &io::Error) {
        let own = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE, Errno::MFILE, Errno::NFILE];
        let is_own = Errno::from_io_error(e).is_some_and(|errno| own.contains(&errno));
        let count = if is_own {
            &self.out_of_room
        } else {
            &self.unreachable
        };
        count.set(count.get() + 1);
    }

    pub(super) fn accept_error(&self) {
        self.accept_errors.set(self.accept_errors.get() + 1);
    }
}

/// Connections that share their fate.
pub(super) struct Group {
    conditions: watch::Sender<Conditions>,
    changed_at: Cell<Nanos>,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
}

impl Group {
    fn new() -> Self {
        Self {
            conditions: watch::Sender::new(Conditions::default()),
            changed_at: Cell::new(Nanos::default()),
            connections: RefCell::default(),
        }
    }

    pub(super) fn conditions(&self) -> Conditions {
        *self.conditions.borrow()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }

    pub(super) fn changed_at(&self) -> Nanos {
        self.changed_at.get()
    }

    /// Waits while the group is frozen.
    pub(super) async fn thawed(&self) {
        if self.conditions().frozen {
            // The sender is this group's own, so that this waits for nothing else.
            let _ = self.changes().wait_for(|conditions| !conditions.frozen).await;
        }
    }
}

impl Room {
    pub(super) fn new(setup: Setup, timer: Timer) -> Self {
        Self {
            upstream: Cell::new(setup.upstream),
            groups: (0..setup.groups).map(|_| Group::new()).collect(),
            timer,
            scratch: RefCell::new(vec![0; PIECE]),
            delay: RefCell::new(Histogram::new()),
            counts: Counts::default(),
            seed: SEED,
            faults: RefCell::default(),
        }
    }

    /// Asks the kernel for its stamps, where it has them.
    pub(super) fn stamp(&self, leg: &TcpStream) {
        let _ = stamps::switch_on(leg.as_fd());
    }

    /// Takes a connection into its group and lives its life.
    pub(super) async fn take(self: Rc<Self>, group: usize, client: TcpStream) {
        let Some(group) = self.groups.get(group) else {
            return;
        };
        let number = self.counts.accepted.get();
        self.counts.accepted.set(number + 1);
        if client.set_nodelay(true).is_err() {
            return;
        }
        self.stamp(&client);
        let connection = Rc::new(Connection::new(number, client));
        group.connections.borrow_mut().insert(number, connection.clone());
        connection.live(&self, group).await;
        group.connections.borrow_mut().remove(&number);
    }

    /// Does what it is told, and is done when it returns.
    pub(super) fn obey(&self, order: Order) -> Answer {
        let done = match order {
            Order::Inject { fault, kind, groups } => self.inject(fault, kind, groups),
            Order::Clear { fault } => self.clear(fault),
            Order::Upstream { address } => {
                self.upstream.set(address);
                Ok(Answer::Redirected)
            }
            Order::Stats => Ok(Answer::Stats(Box::new(self.stats()))),
        };
        done.unwrap_or_else(|reason| Answer::Refused { reason })
    }

    fn inject(&self, fault: FaultId, kind: FaultKind, mut groups: Vec<u32>) -> Result<Answer, String> {
        groups.sort_unstable();
        groups.dedup();
        if kind.means() != FaultMeans::Proxy {
            return Err(format!("a proxy cannot make the fault “{}”", kind.as_str()));
        }
        if let Some(none) = groups.iter().find(|g| **g as usize >= self.groups.len()) {
            return Err(format!(
                "there is no group {none}: the proxy has {}",
                self.groups.len()
            ));
        }
        if self.faults.borrow().contains_key(&fault) {
            return Err(format!("fault {fault} is already in force"));
        }
        self.faults.borrow_mut().insert(fault, (kind, groups.clone()));
        let (mut connections, mut server_side) = (0, Vec::new());
        for group in self.of(&groups) {
            self.recondition(group);
            for connection in group.connections.borrow().values().filter(|c| c.is_passing()) {
                connections += 1;
                server_side.extend(connection.server_side());
                match kind {
                    FaultKind::Fin => connection.end(),
                    FaultKind::Rst => connection.reset(),
                    FaultKind::HalfOpen => connection.half_open(fault),
                    _ => {}
                }
            }
        }
        // All of it happened within this turn of the one loop: no byte has passed since.
        Ok(Answer::Injected(Injected {
            fault,
            at: clock::now(),
            connections,
            server_side,
        }))
    }

    fn clear(&self, fault: FaultId) -> Result<Answer, String> {
        let known = self.faults.borrow_mut().remove(&fault);
        let (_, groups) = known.ok_or_else(|| format!("fault {fault} is not in force"))?;
        for group in self.of(&groups) {
            self.recondition(group);
            for connection in group.connections.borrow().values() {
                connection.clear(fault);
            }
        }
        Ok(Answer::Cleared(Cleared {
            fault,
            at: clock::now(),
        }))
    }

    fn of<'a>(&'a self, groups: &'a [u32]) -> impl Iterator<Item = &'a Group> {
        groups.iter().filter_map(|group| self.groups.get(*group as usize))
    }

    /// Works out what is in force for a group.
    fn recondition(&self, group: &Group) {
        let faults = self.faults.borrow();
        let own = faults
            .values()
            .filter(|(_, groups)| self.of(groups).any(|other| std::ptr::eq(other, group)));
        let conditions = Conditions::of(own.map(|(kind, _)| *kind));
        if group
            .conditions
            .send_if_modified(|now| std::mem::replace(now, conditions) != conditions)
        {
            group.changed_at.set(clock::now());
        }
    }

    fn stats(&self) -> ProxyStats {
        let open = self
            .groups
            .iter()
            .map(|group| group.connections.borrow().len() as u64);
        ProxyStats {
            delay: self.delay.borrow().clone(),
            held_by_reader: self.counts.held_by_reader.get(),
            accepted: self.counts.accepted.get(),
            open: open.sum(),
            unreachable: self.counts.unreachable.get(),
            out_of_room: self.counts.out_of_room.get(),
            accept_errors: self.counts.accept_errors.get(),
            bytes_to_server: self.counts.to_server.get(),
            bytes_to_client: self.counts.to_client.get(),
        }
    }
}
