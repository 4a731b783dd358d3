//! Words shared by every form of a report: legends, the bias of the method, the glossary.

use crate::comparison::{Comparison, WorkloadKind};
use crate::grid::{Grid, Tone};
use crate::units::whole;

/// What marks in tables mean; only those that occur.
pub(crate) fn legend(comparison: &Comparison, grids: &[Grid]) -> Vec<String> {
    let cells = || {
        grids
            .iter()
            .flat_map(|g| &g.sections)
            .flat_map(|s| &s.rows)
            .flat_map(|r| &r.cells)
    };
    let mut lines = Vec::new();
    if grids.is_empty() {
        return lines;
    }
    if cells().any(|c| c.winner) {
        lines.push("* ahead: its worst repeat beats the best repeat of every other".to_owned());
    } else if comparison.variants.len() > 1 && comparison.is_interrupted() {
        lines.push("no * : sessions were cut off on purpose, so nobody is ahead where any were".to_owned());
    } else if comparison.variants.len() > 1 && comparison.repeats > 1 {
        lines.push("no * : nobody is ahead by more than the spread between repeats".to_owned());
    } else if comparison.variants.len() > 1 {
        lines.push("no * : a single repeat cannot tell a difference from noise".to_owned());
    }
    if cells().any(|c| c.spread.contains('…')) {
        lines.push(format!(
            "a…b: the least and the greatest of {} repeats, beside their median",
            comparison.repeats
        ));
    }
    let ends = |mark: char| cells().any(|c| matches!(c.tone, Tone::Grade(_)) && c.text.ends_with(mark));
    if ends('?') {
        lines.push("? suspect: the verdict says why".to_owned());
    }
    if ends('!') {
        lines.push("! invalid: takes no part in any comparison".to_owned());
    }
    if cells().any(|c| c.thin || c.text.starts_with('~')) {
        lines.push("~ too few samples for a steady value".to_owned());
    }
    if cells().any(|c| c.text == "–") {
        lines.push("– not measured".to_owned());
    }
    lines
}

/// What all pairs of a run came to together, where messages were sent: none may be lost among so many columns.
pub(crate) fn counts(comparison: &Comparison) -> Option<String> {
    let sum = |key: &str| {
        let rows = comparison.points.iter().filter_map(|p| p.row(key));
        let totals: Vec<u64> = rows.flat_map(|r| &r.values).filter_map(|v| v.total()).collect();
        (!totals.is_empty()).then(|| totals.into_iter().fold(0, u64::saturating_add))
    };
    let (delivered, lost) = (sum("delivered")?, sum("lost")?);
    let failed = sum("sessions_failed").unwrap_or(0);
    Some(format!(
        "all pairs: {} delivered, {} lost, {} sessions failed; every measure of each is in the report",
        whole(delivered),
        whole(lost),
        whole(failed)
    ))
}

/// What bends every number of this run, whichever way it came out.
pub(crate) fn bias(comparison: &Comparison) -> Vec<&'static str> {
    let mut lines = Vec::new();
    if comparison.embedded_server {
        lines.push(
            "Server and load generator share one machine and its loopback: the figures compare transports under equal \
             conditions; they do not predict a network.",
        );
        lines.push("The server is pushmark's own reference server: another implementation of the same transport may cost more or less.");
    } else {
        lines.push("The server is not pushmark's own: its CPU and memory are known only where its process could be read.");
    }
    if comparison.workload != WorkloadKind::Connect {
        lines.push(
            "Latency counts from the moment the schedule names, not from the send: a late sender makes it longer, never shorter.",
        );
    }
    if comparison.workload == WorkloadKind::Push {
        lines.push("A message to many connections is written to one after another: latency includes the wait for each connection's turn.");
    }
    if comparison.workload == WorkloadKind::Echo {
        lines.push("Latency is there and back: both directions, and the server's turn in between.");
    }
    lines.push(
        "Client CPU includes the load generator's own bookkeeping, which is the same for all variants.",
    );
    lines
}

/// The words that this report uses.
pub(crate) fn glossary(comparison: &Comparison) -> Vec<(&'static str, &'static str)> {
    let breaks = comparison.points.iter().any(|p| !p.aftermath.is_empty());
    let more: &[_] = if breaks { OF_FAULTS } else { &[] };
    [GLOSSARY, more].concat()
}

/// Words of runs in which something was to break.
const OF_FAULTS: &[(&str, &str)] = &[
    (
        "noticed",
        "A side noticed a fault when it acted on it: the session ended in its hands. Undetected is a count with the time for which it was watched.",
    ),
    (
        "outage",
        "From the last message before a session was cut off to the first one after it came back.",
    ),
    (
        "reconnected after",
        "From when service was available again (from the cut, where it was never gone) until the session was usable again.",
    ),
    (
        "gap",
        "Messages published while a session was cut off: made up for after it came back, or lost to it. Duplicated came a second time.",
    ),
    (
        "herd",
        "The most attempts to connect in any 100 ms: sessions that were cut off together and come back together.",
    ),
    (
        "stayed",
        "Sessions that were never cut off, and the latency of their messages before the first fault and from then on.",
    ),
];

/// What each word of every report means.
const GLOSSARY: &[(&str, &str)] = &[
    (
        "latency",
        "Time from when the schedule said a message should leave until the receiver had it. What a user feels: a sender that falls behind cannot hide it.",
    ),
    (
        "service time",
        "Time from when the message really left until the receiver had it. Far below latency means that messages left late.",
    ),
    (
        "send delay",
        "How late messages left, against the schedule. Large values say that the sender was short of time.",
    ),
    (
        "fan-out delay",
        "How long a message waited on the server between being published and being written to one connection, by the server's own count: the wait for its turn.",
    ),
    (
        "generator delay",
        "How long a message had been in the receiver's kernel before the load generator read it, by the kernel's own stamp. The receiver's queue, no server's and no transport's doing.",
    ),
    (
        "kernel latency",
        "Latency up to the receiver's kernel: without the time that a message then waited for the load generator.",
    ),
    (
        "p50, p99, p99.9",
        "Of 100 messages, 50 (99; of 1,000, 999) took at most this long. Taken within each repeat; the table shows the median over repeats.",
    ),
    (
        "delivered, lost",
        "Expected messages that arrived (counted once), and those that never did by the end of the drain.",
    ),
    (
        "duplicated, reordered",
        "Messages that arrived again, and those that arrived after a later one of the same stream.",
    ),
    (
        "deliveries/s",
        "Messages that arrived, over the length of the measured window.",
    ),
    (
        "CPU per delivery",
        "User and system CPU time of one side's process in the measured window, over the deliveries in it.",
    ),
    (
        "memory / session",
        "Growth of one side's resident memory from before the first connection to the end of the window, over the sessions: those that share a connection (HTTP/2) count each.",
    ),
    (
        "wire / delivery",
        "Bytes of the client's TCP streams for each message delivered: all that came (down) and was sent (up), with what HTTP, TLS and framing add, without the headers of TCP and IP. Overhead is what came beside the payload.",
    ),
    (
        "handshake",
        "Bytes that it took to open a session, each way, and how often the peer had to be waited for until it was usable.",
    ),
    (
        "connect time",
        "From the start of the TCP connect to a session that can carry messages.",
    ),
    (
        "negotiated",
        "What connections agreed on with their peer, from the connections themselves. One that got something else than what was asked for makes its trial invalid.",
    ),
    (
        "repeat",
        "Variants are measured in turn, several times over, so that a drift of the machine hits all alike. The spread between repeats is the noise that a difference must exceed.",
    ),
    (
        "verdict",
        "Valid: nothing speaks against the numbers. Suspect: something may have bent them. Invalid: they are wrong or incomplete, and take no part in any comparison.",
    ),
];
