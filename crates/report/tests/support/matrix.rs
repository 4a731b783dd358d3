//! A run of every transport over every carrier: one pair in doubt, one that was not run.

use pushmark_measure::{Finding, Grade, Verdict, Wire};
use pushmark_results::run::Run;

use super::{Behaviour, POLL, SSE, WS, push_run};

/// What a carrier costs: a factor for processor time, and bytes for each delivery.
const CARRIERS: [(&str, f64, u64); 4] = [
    ("h1", 1.0, 0),
    ("h1+tls", 1.25, 22),
    ("h2c", 1.6, 9),
    ("h2+tls", 1.9, 31),
];

pub(crate) fn pairs() -> Run {
    let over = |(carrier, factor, _): (&'static str, f64, u64)| {
        [WS, SSE, POLL].map(|v| Behaviour {
            carrier,
            p50_us: v.p50_us * factor,
            server_cpu_us: v.server_cpu_us * factor,
            client_cpu_us: v.client_cpu_us * factor,
            server_kib: v.server_kib * factor,
            ..v
        })
    };
    let behaviours = CARRIERS.map(over).concat();
    let mut run = push_run(&behaviours, &[1000], 3);
    for trial in &mut run.trials {
        let (row, column) = (trial.cell_index % 3, trial.cell_index / 3);
        let (_, factor, more) = CARRIERS[column];
        let (down, up) = [(204, 0), (216, 0), (389, 146)][row];
        let summary = trial.summary.as_mut().unwrap();
        let deliveries = summary.books.delivered_once;
        summary.wire = Some(Wire {
            deliveries,
            payload_bytes: 200 * deliveries,
            received_bytes: (down + more) * deliveries,
            sent_bytes: if up > 0 { (up + more) * deliveries } else { 0 },
            sessions: 1_000,
            opening_received_bytes: (160.0 * factor * factor * factor) as u64 * 1_000,
            opening_sent_bytes: (190.0 * factor) as u64 * 1_000,
            round_trips: 1_000 * (2 + column as u64 % 2),
            ..Wire::default()
        });
        if trial.cell_index == 7 {
            trial.verdict = doubtful("others used 31 % of the processors");
        }
    }
    // Polling over HTTP/2 under TLS was never begun.
    run.trials.retain(|trial| trial.cell_index != 11);
    run
}

fn doubtful(reason: &str) -> Verdict {
    Verdict {
        findings: vec![Finding {
            grade: Grade::Suspect,
            reason: reason.to_owned(),
        }],
    }
}
