//! Preflight: whether this machine can carry a plan, said before any traffic, with the remedy.

use pushmark_scenario::plan::{Plan, TargetPlan, Workload};
use pushmark_transport::registry;

/// Descriptors a process needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 100;

/// The limits that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files a process may have.
    pub open_files: u64,
    /// Ephemeral ports towards one address and port.
    pub ports: u64,
}

/// What one trial needs, and how it gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// TCP connections.
    pub connections: u64,
    /// Worker processes of the load generator, so that each stays within its open files.
    pub processes: u32,
}

/// What a cell of the plan needs on a machine with `limits`.
pub fn needs(plan: &Plan, cell: usize, limits: Limits) -> Needs {
    let Some(cell) = plan.cells.get(cell) else {
        return Needs {
            connections: 0,
            processes: 1,
        };
    };
    let sends = matches!(cell.workload, Workload::Echo(_));
    let per_session = match registry::row(&cell.variant.transport) {
        Some(row) if row.in_process => 0,
        Some(row) if sends => u64::from(row.connections_when_sending),
        _ => 1,
    };
    let connections = u64::from(cell.load.connections) * per_session;
    let room = limits.open_files.saturating_sub(SPARE_DESCRIPTORS).max(1);
    Needs {
        connections,
        processes: u32::try_from(connections.div_ceil(room).max(1)).unwrap_or(u32::MAX),
    }
}

/// Everything that will not work, each with its remedy. Empty when the machine can carry the plan.
pub fn obstacles(plan: &Plan, limits: Limits) -> Vec<String> {
    let mut found = Vec::new();
    for (index, cell) in plan.cells.iter().enumerate() {
        let Needs { connections, .. } = needs(plan, index, limits);
        let room = limits.open_files.saturating_sub(SPARE_DESCRIPTORS);
        if cell.target == TargetPlan::Embedded && connections > room {
            found.push(format!(
                "{}: {connections} connections need as many descriptors in the server's process, and this machine allows {} \
                 a process (`ulimit -Hn`). Raise the hard limit (LimitNOFILE=, /etc/security/limits.conf){}.",
                cell.id,
                limits.open_files,
                or_fewer(u64::from(cell.load.connections) * room / connections),
            ));
        }
        if connections > limits.ports {
            found.push(format!(
                "{}: {connections} connections to one address need as many ports, and net.ipv4.ip_local_port_range has {}. \
                 Widen it (sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"){}.",
                cell.id,
                limits.ports,
                or_fewer(u64::from(cell.load.connections) * limits.ports / connections),
            ));
        }
    }
    found
}

/// The other remedy, where it is one: a machine that carries no connection at all is not helped by fewer.
fn or_fewer(fits: u64) -> String {
    if fits == 0 {
        String::new()
    } else {
        format!(", or set load.connections to {fits} or less")
    }
}
