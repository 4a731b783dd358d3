//! Preflight: whether this machine can carry a plan, said before any traffic, with the remedy.

use std::net::{IpAddr, Ipv4Addr};

use pushmark_scenario::plan::{Cell, FaultMeans, Plan, StreamsPerConnection, TargetPlan, Workload};
use pushmark_transport::carrier::{Carrier, Http};
use pushmark_transport::registry;

use crate::carriage::CarriagePlan;
use crate::faults;

/// Descriptors a process needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 100;

/// The limits that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files a process may have.
    pub open_files: u64,
    /// Ephemeral ports towards one address and port.
    pub ports: u64,
    /// The first of them.
    pub first_port: u16,
}

/// What one trial needs, and how it gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// TCP connections.
    pub connections: u64,
    /// Worker processes of the load generator, so that each stays within its open files.
    pub processes: u32,
    /// Processes of the embedded server, for the same reason.
    pub server_processes: u32,
    /// Source addresses of loopback that connections are spread over, so that each stays within its ports; 0 leaves the
    /// address to the kernel.
    pub sources: u32,
}

/// Ports that are used of one source address, of those there are: some are in their final wait, or somebody else's.
const PORTS_USED: f64 = 0.7;
/// The kernel spreads connections over a server's processes by chance, so each gets fewer than it has room for.
const SERVER_ROOM_USED: f64 = 0.8;

/// What a cell of the plan needs on a machine with `limits`.
pub fn needs(plan: &Plan, cell: usize, limits: Limits) -> Needs {
    let Some(cell) = plan.cells.get(cell) else {
        return Needs {
            connections: 0,
            processes: 1,
            server_processes: 1,
            sources: 0,
        };
    };
    let per_session = connections_per_session(cell);
    let connections =
        (u64::from(cell.load.connections) * per_session).div_ceil(sessions_per_connection(cell));
    let room = limits.open_files.saturating_sub(SPARE_DESCRIPTORS).max(1);
    let parts = |each: u64| u32::try_from(connections.div_ceil(each.max(1)).max(1)).unwrap_or(u32::MAX);
    let share = |of: u64, used: f64| ((of as f64 * used) as u64).max(1);
    Needs {
        connections,
        processes: parts(room),
        server_processes: if connections <= room {
            1
        } else {
            parts(share(room, SERVER_ROOM_USED))
        },
        sources: match is_loopback(&cell.target) && !uses(cell, FaultMeans::Kernel) {
            true if connections > share(limits.ports, PORTS_USED) => parts(share(limits.ports, PORTS_USED)),
            _ => 0,
        },
    }
}

/// Whether a fault of the cell is made by these means.
fn uses(cell: &Cell, means: FaultMeans) -> bool {
    cell.faults.iter().any(|fault| fault.kind.means() == means)
}

/// How many sessions share a connection for certain. Where faults part them there may be a few connections more, one for each way
/// that is not full; the spare descriptors are for them.
pub(crate) fn sessions_per_connection(cell: &Cell) -> u64 {
    let carrier: Option<Carrier> = cell.variant.carrier.parse().ok();
    match cell.carriage.streams_per_connection {
        _ if carrier.is_none_or(|carrier| carrier.http() == Http::Http1_1) => 1,
        StreamsPerConnection::AtMost(most) => u64::from(most.max(1)),
        StreamsPerConnection::All => u64::from(cell.load.connections.max(1)),
    }
}

fn connections_per_session(cell: &Cell) -> u64 {
    let sends = matches!(cell.workload, Workload::Echo(_));
    let carrier: Option<Carrier> = cell.variant.carrier.parse().ok();
    match registry::row(&cell.variant.transport) {
        Some(row) if row.in_process => 0,
        // What a session sends goes up beside what comes down.
        Some(_) if carrier.is_some_and(|carrier| carrier.http() == Http::Http2) => 1,
        Some(row) if sends => u64::from(row.connections_when_sending),
        _ => 1,
    }
}

/// Whether all of 127.0.0.0/8 can be a source towards the target.
fn is_loopback(target: &TargetPlan) -> bool {
    match target {
        TargetPlan::Embedded => true,
        TargetPlan::Address(address) => address.starts_with("127.") || address.starts_with("localhost:"),
    }
}

/// The source addresses of trial number `trial`: others than the trial before used, whose ports are in their final wait.
pub(crate) fn sources(needs: Needs, trial: u32) -> Vec<IpAddr> {
    (0..needs.sources)
        .map(|k| {
            // 127.0.1.1 to 127.0.250.250: clear of 127.0.0.1, where the servers are.
            let n = (u64::from(trial) * u64::from(needs.sources) + u64::from(k)) % 62_500;
            Ipv4Addr::new(127, 0, 1 + (n / 250) as u8, 1 + (n % 250) as u8).into()
        })
        .collect()
}

/// Everything that will not work, each with its remedy. Empty when the machine can carry the plan.
pub fn obstacles(plan: &Plan, limits: Limits) -> Vec<String> {
    let (mut found, mut said) = (Vec::new(), false);
    let kernel_faults_allowed = &match plan.cells.iter().any(|cell| uses(cell, FaultMeans::Kernel)) {
        true => faults::kernel::allowed(),
        false => Ok(()),
    };
    for (index, cell) in plan.cells.iter().enumerate() {
        let Needs {
            connections,
            server_processes,
            sources,
            ..
        } = needs(plan, index, limits);
        let room = limits.open_files.saturating_sub(SPARE_DESCRIPTORS);
        let id = &cell.id;
        if uses(cell, FaultMeans::Proxy) && 2 * connections > room {
            found.push(format!(
                "{id}: the proxy that makes its faults holds two descriptors for each of {connections} connections, and has {room}. \
                 Raise the hard limit (`ulimit -Hn`), or set load.connections to {} or less.",
                u64::from(cell.load.connections) * (room / 2) / connections.max(1),
            ));
        }
        if let (true, Err(why), false) = (uses(cell, FaultMeans::Kernel), kernel_faults_allowed, said) {
            // Said once: it is the same for all cells.
            said = true;
            found.push(format!("{id}: {why}"));
        }
        if let Err(why) = CarriagePlan::of(cell) {
            found.push(format!("{id}: TLS to the target: {why}"));
        }
        let embedded = cell.target == TargetPlan::Embedded;
        if embedded && server_processes > 1 && connections_per_session(cell) > 1 {
            found.push(format!(
                "{}: {connections} connections need {server_processes} server processes ({} descriptors each, `ulimit -Hn`), and \
                 messages that come up on a connection of their own may reach another process than their session. Raise the \
                 hard limit (LimitNOFILE=, /etc/security/limits.conf), or set load.connections to {} or less.",
                cell.id,
                limits.open_files,
                u64::from(cell.load.connections) * room / connections.max(1),
            ));
        }
        if sources == 0 && connections > limits.ports {
            found.push(format!(
                "{}: {connections} connections to one address need as many ports, and net.ipv4.ip_local_port_range has {}. \
                 Widen it (sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"), or set load.connections to {} or less.",
                cell.id,
                limits.ports,
                u64::from(cell.load.connections) * limits.ports / connections,
            ));
        }
        if connections > 0 && room < 50 {
            found.push(format!(
                "{}: this process may have {} open files, too few for any load. Raise the limit (`ulimit -n`, LimitNOFILE=).",
                cell.id, limits.open_files,
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_are_never_those_of_the_trial_before() {
        let needs = Needs {
            connections: 50_000,
            processes: 3,
            server_processes: 4,
            sources: 3,
        };
        let (first, second): (HashSet<_>, HashSet<_>) = (
            sources(needs, 7).into_iter().collect(),
            sources(needs, 8).into_iter().collect(),
        );
        assert_eq!((first.len(), second.len()), (3, 3));
        assert!(first.is_disjoint(&second));
        assert!(
            first
                .iter()
                .all(|a| a.is_loopback() && a.to_string() != "127.0.0.1")
        );
    }
}
