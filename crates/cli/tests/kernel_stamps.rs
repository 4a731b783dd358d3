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
use std::path::Path;

use pushmark_measure::{Histogram, Metric, clock};
use pushmark_results::Run;
use pushmark_transport::Stamp;
use pushmark_transport::stamp::{Found, STAMP_BYTES};
use support::capture::{PORT, Pair, packets, skipped};
use support::{Folder, at_once, measure, over_network, scenario};

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
    at_once(
        [("0.25", 5), ("\"none\"", 0), ("\"all\"", 20)],
        |(setting, stamped)| {
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
        },
    );
}

/// The wire's latency of every message in a capture, seen for the first time: from the intended instant to its packet.
fn wire_latency(capture: &Path) -> Histogram {
    let reading = clock::wall_reading();
    let (mut histogram, mut seen) = (Histogram::new(), BTreeSet::new());
    for packet in packets(capture).iter().filter(|packet| packet.down) {
        let at_ns = reading.before.0 - (reading.wall_ns - packet.wall_ns);
        // A packet may bring several messages.
        for window in packet.payload.windows(STAMP_BYTES) {
            if let Found::Stamp(stamp) = Stamp::find(window)
                && seen.insert((packet.client_port, stamp.sequence))
            {
                histogram.record(at_ns.saturating_sub(stamp.intended.0));
            }
        }
    }
    histogram
}

/// Runs one transport over `connections`; gives the run and the capture's latencies.
fn captured(pair: &Pair, folder: &Folder, transport: &str, connections: u32) -> (Run, Histogram) {
    let name = format!("{transport}-{connections}");
    let load =
        format!("connections = {connections}\narrival = \"at-once\"\nwarmup = \"0s\"\nmeasure = \"4s\"");
    let rest = format!(
        "[workload]\nkind = \"push\"\nrate = \"{}/s\"\npayload = \"200 B\"",
        500 / connections
    );
    let text = scenario(&[transport], &load, &rest);
    let (end, _) = pair.run(folder, &name, &text, &format!("tcp src port {PORT}"));
    end.with_code(0);
    let (out, pcap) = (folder.path(&name), folder.path(&format!("{name}.pcap")));
    (Run::open(&out).unwrap(), wire_latency(&pcap))
}

#[test]
fn latency_agrees_with_a_packet_capture() {
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(why) => return skipped("latency_agrees_with_a_packet_capture", &why),
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
