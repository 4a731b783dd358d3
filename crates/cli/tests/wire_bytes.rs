//! Bytes on the wire from end to end: every pair tells them, and they agree with a packet capture.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pushmark_measure::Wire;
use pushmark_results::Run;
use pushmark_transport::Stamp;
use pushmark_transport::stamp::{Found, MAGIC, STAMP_BYTES};
use support::capture::{Packet, Pair, packets, skipped};
use support::{Folder, at_once, measure, over_network, scenario};

#[test]
fn every_pair_tells_what_went_over_the_wire() {
    let names: Vec<&str> = over_network().map(|row| row.name).collect();
    let load = "connections = 12\narrival = \"at-once\"\nwarmup = \"200ms\"\nmeasure = \"1s\"";
    let push = "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"200 B\"";
    let echo = push.replace("push", "echo");
    let carriers = "carriers = [\"h1\", \"h1+tls\", \"h2c\", \"h2+tls\"]\n";
    at_once([("push", push), ("echo", &echo)], |(kind, workload)| {
        let text = carriers.to_owned() + &scenario(&names, load, workload);
        let (run, _) = measure(&Folder::new(), kind, &text);
        assert_eq!(run.trials.len(), names.len() * 4);
        for trial in &run.trials {
            let who = &run.cell(trial).unwrap().id;
            let summary = trial.summary.as_ref().unwrap();
            let wire = summary.wire.unwrap_or_else(|| panic!("{who} tells nothing"));
            // Those of the warm-up as well.
            assert!(wire.deliveries > summary.books.delivered_once, "{who}: {wire:?}");
            assert_eq!(wire.payload_bytes, 200 * wire.deliveries, "{who}");
            assert_eq!((wire.sessions, wire.untold), (12, 0), "{who}: {wire:?}");
            let down = wire.received_bytes_per_delivery().unwrap();
            let up = wire.sent_bytes_per_delivery().unwrap();
            // A frame's head at least, and no more than a response's and TLS's.
            assert!((202.0..800.0).contains(&down), "{who}: {down} B down");
            let sent_too = if kind == "echo" { 200.0 } else { 0.0 };
            assert!((sent_too..sent_too + 600.0).contains(&up), "{who}: {up} B up");
            let round_trips = wire.round_trips_per_session().unwrap();
            assert!((2.0..=6.0).contains(&round_trips), "{who}: {round_trips}");
            assert!(wire.opening_received_bytes_per_session().unwrap() > 60.0, "{who}");
        }
    });
}

/// Bytes of one connection's stream, each once however often it was sent.
#[derive(Default)]
struct Bytes(Vec<(u32, u32)>);

impl Bytes {
    fn add(&mut self, packet: &Packet) {
        let end = packet.sequence.wrapping_add(packet.payload.len() as u32);
        self.0.push((packet.sequence, end));
    }

    fn count(&self) -> u64 {
        // Counted from the first, so that the numbers may wrap around.
        let first = self.0.first().map_or(0, |(from, _)| from.wrapping_sub(1 << 20));
        let mut all: Vec<(u32, u32)> = self
            .0
            .iter()
            .map(|(from, to)| (from.wrapping_sub(first), to.wrapping_sub(first)))
            .collect();
        all.sort_unstable();
        let (mut count, mut seen) = (0, 0);
        for (from, to) in all {
            count += u64::from(to.saturating_sub(from.max(seen)));
            seen = seen.max(to);
        }
        count
    }
}

/// What a capture holds of one connection, before its first message and from then on: down, up.
#[derive(Default)]
struct Seen {
    opening: (Bytes, Bytes),
    carried: (Bytes, Bytes),
    /// Their numbers.
    messages: BTreeSet<u64>,
}

/// The connections of a capture on which messages came.
fn seen(capture: &Path) -> Vec<Seen> {
    let mut all: BTreeMap<u16, Seen> = BTreeMap::new();
    for packet in packets(capture) {
        let connection = all.entry(packet.client_port).or_default();
        if packet.payload.is_empty() {
            continue;
        }
        let windows = packet.payload.windows(STAMP_BYTES);
        for window in windows.filter(|w| packet.down && w.starts_with(MAGIC)) {
            if let Found::Stamp(stamp) = Stamp::find(window) {
                connection.messages.insert(stamp.sequence);
            }
        }
        let part = if !connection.messages.is_empty() {
            &mut connection.carried
        } else {
            &mut connection.opening
        };
        let way = if packet.down { &mut part.0 } else { &mut part.1 };
        way.add(&packet);
    }
    all.into_values().filter(|c| !c.messages.is_empty()).collect()
}

/// How far two figures are apart, as a share of the second; less than `least` apart is nothing.
fn apart(ours: f64, theirs: f64, least: f64) -> f64 {
    if (ours - theirs).abs() < least {
        return 0.0;
    }
    (ours - theirs).abs() / theirs
}

const CONNECTIONS: u32 = 20;
const NAME: &str = "wire_bytes_agree_with_a_packet_capture";

#[test]
fn wire_bytes_agree_with_a_packet_capture() {
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(why) => return skipped(NAME, &why),
    };
    let folder = Folder::new();
    for row in over_network() {
        let load = format!(
            "connections = {CONNECTIONS}\narrival = \"at-once\"\nwarmup = \"500ms\"\nmeasure = \"2s\""
        );
        let workload = "[workload]\nkind = \"push\"\nrate = \"50/s\"\npayload = \"200 B\"";
        let mut tries = 0;
        let (wire, captured) = loop {
            let name = format!("{}-{tries}", row.name);
            let (end, missed) = pair.run(
                &folder,
                &name,
                &scenario(&[row.name], &load, workload),
                &format!("tcp port {}", support::capture::PORT),
            );
            end.with_code(0);
            let run = Run::open(&folder.path(&name)).unwrap();
            let wire = run.trials[0].summary.as_ref().unwrap().wire.unwrap();
            if missed == 0 {
                break (wire, seen(&folder.path(&format!("{name}.pcap"))));
            }
            tries += 1;
            if tries == 3 {
                return skipped(
                    NAME,
                    &format!("each capture missed packets, the last one {missed}"),
                );
            }
        };
        compare(row.name, &wire, &captured);
    }
}

fn compare(who: &str, wire: &Wire, captured: &[Seen]) {
    assert_eq!(
        captured.len(),
        CONNECTIONS as usize,
        "{who}: connections with messages"
    );
    let messages: usize = captured.iter().map(|c| c.messages.len()).sum();
    // A server that is told late to stop publishes one more after the counts were read; a message that is cut between two packets
    // would not be found.
    let (messages, told) = (messages as f64, wire.deliveries as f64);
    assert!(
        apart(messages, told, 0.0) <= 0.05,
        "{who}: {messages} of {told} messages were captured"
    );
    let sum = |of: fn(&Seen) -> &Bytes| captured.iter().map(|c| of(c).count()).sum::<u64>() as f64;
    let sessions = f64::from(CONNECTIONS);
    for (what, ours, theirs, least) in [
        // Closing a session is a few bytes of its own, which are in the capture: less than a tenth of a byte a delivery.
        (
            "down per delivery",
            wire.received_bytes_per_delivery().unwrap(),
            sum(|c| &c.carried.0) / messages,
            0.1,
        ),
        (
            "up per delivery",
            wire.sent_bytes_per_delivery().unwrap(),
            sum(|c| &c.carried.1) / messages,
            0.1,
        ),
        (
            "down per handshake",
            wire.opening_received_bytes_per_session().unwrap(),
            sum(|c| &c.opening.0) / sessions,
            0.0,
        ),
        (
            "up per handshake",
            wire.opening_sent_bytes_per_session().unwrap(),
            sum(|c| &c.opening.1) / sessions,
            0.0,
        ),
    ] {
        let apart = apart(ours, theirs, least);
        println!(
            "{who}: {what}: {ours:.3} B, captured {theirs:.3} B: {:.3} % apart",
            apart * 100.0
        );
        assert!(apart <= 0.02, "{who}: {what}: {ours} B, captured {theirs} B");
    }
}
