//! Kernel receive stamps from end to end: who has them, what they split off, and whether they agree with a packet capture.
//!
//! The comparison with a capture needs root, `ip` with network namespaces and veth, and `tcpdump`; where one is missing it is
//! skipped by name. It makes two namespaces of its own, which it removes however it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pushmark_measure::{Histogram, Metric, clock};
use pushmark_results::Run;
use pushmark_transport::Stamp;
use pushmark_transport::stamp::{Found, STAMP_BYTES};
use rustix::process::Signal;
use support::{Folder, ended, eventually, kill, measure, over_network, scenario};

fn names() -> Vec<&'static str> {
    over_network().map(|row| row.name).collect()
}

#[test]
fn every_transport_tells_where_its_latency_went() {
    let load = "connections = 20\narrival = \"at-once\"\nwarmup = \"500ms\"\nmeasure = \"1s\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"50/s\"\npayload = \"100 B\"";
    let (run, _) = measure(&Folder::new(), "all", &scenario(&names(), load, rest));
    for trial in &run.trials {
        let who = &run.cell(trial).unwrap().variant.transport;
        let of = |metric| trial.histograms.get(metric).unwrap();
        let all = trial.summary.as_ref().unwrap().books.delivered_once;
        assert_eq!(all, 1_000, "{who}");
        assert_eq!(of(Metric::Latency).count(), all);
        assert_eq!(of(Metric::GeneratorDelay).count(), all, "{who}: all are stamped");
        assert_eq!(
            of(Metric::FanoutDelay).count(),
            all,
            "{who}: of the window, and no other"
        );
        let mean = |metric| of(metric).mean().unwrap();
        let wire = mean(Metric::ServiceTime) - mean(Metric::FanoutDelay) - mean(Metric::GeneratorDelay);
        println!(
            "{who}: service time {:.1} µs = fan-out {:.1} + wire {:.1} + generator {:.1} (means)",
            mean(Metric::ServiceTime) / 1e3,
            mean(Metric::FanoutDelay) / 1e3,
            wire / 1e3,
            mean(Metric::GeneratorDelay) / 1e3
        );
        // Over loopback the kernel may have the bytes before the call that writes them is over.
        assert!(
            wire > -0.3 * mean(Metric::ServiceTime),
            "{who}: the parts are more than the whole"
        );
    }
}

#[test]
fn a_share_of_the_connections_is_stamped_where_that_is_asked_for() {
    let rest = "[workload]\nkind = \"echo\"\nrate = \"20/s\"\npayload = \"100 B\"";
    for (setting, stamped) in [("0.25", 5), ("\"none\"", 0), ("\"all\"", 20)] {
        let load = format!(
            "connections = 20\narrival = \"at-once\"\nwarmup = \"500ms\"\nmeasure = \"1s\"\nkernel-stamps = {setting}"
        );
        let (run, _) = measure(&Folder::new(), "share", &scenario(&names(), &load, rest));
        for trial in &run.trials {
            let who = &run.cell(trial).unwrap().variant.transport;
            assert_eq!(trial.histograms.count(Metric::Latency), 400, "{who}");
            let count = trial.histograms.count(Metric::GeneratorDelay);
            assert_eq!(count, stamped * 20, "{who}, {setting}");
            assert!(
                trial.histograms.get(Metric::FanoutDelay).is_none(),
                "an echo is no fan-out"
            );
        }
    }
}

/// Says that a test was skipped and why, also where `scripts/test` collects it.
fn skipped(why: &str) {
    let line = format!("skipped: latency_agrees_with_a_packet_capture: {why}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PUSHMARK_TEST_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

const SERVER: &str = "10.231.77.1";
const CLIENT: &str = "10.231.77.2";
const PORT: u16 = 8080;

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|e| format!("ip cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("ip {arguments}: {words}"))
}

/// Two network namespaces joined by a pair of virtual devices. Dropped, they are removed.
struct Pair {
    server: String,
    client: String,
}

impl Pair {
    fn make() -> Result<Self, String> {
        let id = std::process::id() % 1_000_000;
        let pair = Self {
            server: format!("pushmark-s{id}"),
            client: format!("pushmark-c{id}"),
        };
        let (s, c) = (&pair.server, &pair.client);
        for step in [
            format!("netns add {s}"),
            format!("netns add {c}"),
            // Both ends are made where they belong, so that they are never seen outside.
            format!("-n {s} link add pm0 type veth peer name pm1 netns {c}"),
            format!("-n {s} addr add {SERVER}/30 dev pm0"),
            format!("-n {c} addr add {CLIENT}/30 dev pm1"),
            format!("-n {s} link set pm0 up"),
            format!("-n {c} link set pm1 up"),
            format!("-n {s} link set lo up"),
            format!("-n {c} link set lo up"),
        ] {
            ip(&step)?;
        }
        Ok(pair)
    }

    fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

/// A capture of what comes from the server, with the instants at which it came.
struct Capture(Child);

impl Capture {
    fn start(pair: &Pair, to: &Path) -> Self {
        let child = Pair::command(&pair.client, "tcpdump")
            .args(["-i", "pm1", "-n", "-s", "0", "-U", "-B", "65536"])
            .args(["--time-stamp-precision=nano", "-w"])
            .arg(to)
            .arg(format!("tcp src port {PORT}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its file's head is written once it listens.
        eventually("tcpdump listens", || {
            (std::fs::metadata(to).ok()?.len() >= 24).then_some(())
        });
        Self(child)
    }

    fn stop(mut self) {
        // What is captured last is handed over within a second.
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        kill(self.0.id(), Signal::INT);
        self.0.wait().unwrap();
    }
}

/// The wire's latency of every message in a capture, seen for the first time: from the intended instant to its packet.
fn wire_latency(capture: &Path) -> Histogram {
    let bytes = std::fs::read(capture).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d, "a capture with nanoseconds");
    let reading = clock::wall_reading();
    let (mut histogram, mut seen, mut at) = (Histogram::new(), BTreeSet::new(), 24);
    while at + 16 <= bytes.len() {
        let wall_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let packet = &bytes[at + 16..at + 16 + length];
        at += 16 + length;
        // Ethernet, IPv4 without options, TCP.
        let tcp = 14 + usize::from(packet[14] & 0x0f) * 4;
        let client_port = u16::from_be_bytes([packet[tcp + 2], packet[tcp + 3]]);
        let payload = &packet[tcp + usize::from(packet[tcp + 12] >> 4) * 4..];
        let at_ns = reading.before.0 - (reading.wall_ns - wall_ns);
        // A packet may bring several messages.
        for window in payload.windows(STAMP_BYTES) {
            if let Found::Stamp(stamp) = Stamp::find(window)
                && seen.insert((client_port, stamp.sequence))
            {
                histogram.record(at_ns.saturating_sub(stamp.intended.0));
            }
        }
    }
    histogram
}

/// Runs one transport over `connections`; gives the run and the capture's latencies.
fn captured(pair: &Pair, folder: &Folder, transport: &str, connections: u32) -> (Run, Histogram) {
    let mut command = Pair::command(&pair.server, env!("CARGO_BIN_EXE_pushmark"));
    command
        .args(["serve", "--threads", "1", "--exit-with-stdin", "--listen"])
        .arg(format!("{SERVER}:{PORT}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut server = command.spawn().unwrap();
    // No `arp`, no slow start of anything within the window.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let name = format!("{transport}-{connections}");
    let load =
        format!("connections = {connections}\narrival = \"at-once\"\nwarmup = \"0s\"\nmeasure = \"4s\"");
    let rest = format!(
        "[workload]\nkind = \"push\"\nrate = \"{}/s\"\npayload = \"200 B\"\n[target]\naddress = \"{SERVER}:{PORT}\"",
        500 / connections
    );
    let file = folder.write(&format!("{name}.toml"), &scenario(&[transport], &load, &rest));
    let (out, pcap) = (folder.path(&name), folder.path(&format!("{name}.pcap")));
    let capture = Capture::start(pair, &pcap);
    let mut command = Pair::command(&pair.client, env!("CARGO_BIN_EXE_pushmark"));
    command
        .arg("run")
        .arg(&file)
        .arg("--allow-remote")
        .arg("--out")
        .arg(&out);
    command.stdin(Stdio::null());
    let end = ended(command);
    capture.stop();
    drop(server.stdin.take());
    server.wait().unwrap();
    end.with_code(0);
    (Run::open(&out).unwrap(), wire_latency(&pcap))
}

#[test]
fn latency_agrees_with_a_packet_capture() {
    if !rustix::process::geteuid().is_root() {
        return skipped("it needs root for network namespaces");
    }
    if Command::new("tcpdump").arg("--version").output().is_err() {
        return skipped("there is no tcpdump");
    }
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(why) => return skipped(&why),
    };
    let folder = Folder::new();
    for transport in names() {
        for connections in [1, 100] {
            let (run, wire) = captured(&pair, &folder, transport, connections);
            let trial = &run.trials[0];
            let of = |metric| trial.histograms.get(metric).unwrap();
            let (latency, waited) = (of(Metric::Latency), of(Metric::GeneratorDelay));
            let (captured, all) = (wire.count(), latency.count());
            // A message that was cut between two packets is not found in either.
            assert!(
                captured * 100 >= all * 95,
                "{captured} of {all} messages were captured"
            );
            for (word, q, wanted_us) in [("p50", 0.5, 60.0), ("p99", 0.99, 300.0)] {
                let us = |h: &Histogram| h.quantile(q).unwrap() as f64 / 1e3;
                // Quantiles of differences are not differences of quantiles: the recorded difference is compared.
                let (reported, queued, wire) = (us(of(Metric::KernelLatency)), us(waited), us(&wire));
                let apart = reported - wire;
                println!(
                    "{transport}, {connections} connections, {word}: latency {:.1} µs, without generator_delay ({queued:.1}) \
                     {reported:.1} µs, wire {wire:.1} µs: {apart:+.1} µs apart (goal {wanted_us} µs)",
                    us(latency)
                );
                // A busy machine bends both; only what no noise explains fails.
                let gross = wanted_us * 50.0 + wire;
                assert!(
                    apart.abs() < gross,
                    "{transport}, {connections}, {word}: {apart} µs apart"
                );
            }
            // The kernel's stamp and the capture's are made in the same receive path, sample by sample: their means agree.
            let mean = |h: &Histogram| h.mean().unwrap() / 1e3;
            println!(
                "{transport}, {connections} connections, mean: {:+.1} µs apart",
                mean(latency) - mean(waited) - mean(&wire)
            );
        }
    }
}
