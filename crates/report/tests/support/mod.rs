//! Synthetic runs: plausible numbers without a clock or a random generator, so that snapshots hold.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    reason = "these helpers are tests, but for the attribute that clippy looks for"
)]

pub(crate) mod faults;
pub(crate) mod matrix;

use std::path::PathBuf;
use std::time::Duration;

use pushmark_measure::{
    Books, Cost, Counters, Grade, Histogram, Histograms, Metric, Phase, TrialSummary, Verdict,
};
use pushmark_results::plan::{
    Arrival, Axis, Cell, Comparison as Sign, Deadlines, Encoding, ExpectMetric, Expectation, Load, Messages,
    Pattern, Plan, Rate, ServerSetup, TargetPlan, Variant, WhenFull, Workload,
};
use pushmark_results::run::{FORMAT_VERSION, Host, IntervalRow, Manifest, Run, RunStatus, TrialRecord};

/// How one variant behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) transport: &'static str,
    pub(crate) carrier: &'static str,
    /// Median latency at 1,000 connections, in µs.
    pub(crate) p50_us: f64,
    /// Width of the body (of the logarithm).
    pub(crate) sigma: f64,
    /// How much further the last percent reaches.
    pub(crate) tail: f64,
    /// Half the relative difference between repeats.
    pub(crate) jitter: f64,
    pub(crate) server_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
    pub(crate) server_kib: f64,
    pub(crate) client_kib: f64,
    /// Lost in each trial.
    pub(crate) lost: u64,
}

pub(crate) const WS: Behaviour = Behaviour {
    transport: "ws",
    carrier: "h1",
    p50_us: 1210.0,
    sigma: 0.34,
    tail: 1.6,
    jitter: 0.03,
    server_cpu_us: 4.6,
    client_cpu_us: 6.3,
    server_kib: 7.1,
    client_kib: 7.4,
    lost: 0,
};
pub(crate) const SSE: Behaviour = Behaviour {
    transport: "sse",
    p50_us: 1480.0,
    sigma: 0.36,
    tail: 1.9,
    server_cpu_us: 4.1,
    client_cpu_us: 7.9,
    server_kib: 11.2,
    client_kib: 16.3,
    ..WS
};
pub(crate) const POLL: Behaviour = Behaviour {
    transport: "long-poll",
    p50_us: 3900.0,
    sigma: 0.5,
    tail: 2.6,
    jitter: 0.09,
    server_cpu_us: 21.5,
    client_cpu_us: 33.0,
    server_kib: 12.8,
    client_kib: 18.9,
    ..WS
};

/// A run of these variants at these connection counts; more than one count makes a sweep.
pub(crate) fn push_run(variants: &[Behaviour], connections: &[u32], repeats: u32) -> Run {
    let mut run = empty_run(
        "feed",
        "A feed pushes 10 events a second to its readers: who delivers sooner, and at what cost?",
        repeats,
    );
    let sweep = connections.len() > 1;
    run.manifest.plan.axis = sweep.then_some(Axis::Connections);
    for count in connections {
        for v in variants {
            let id = if sweep {
                format!("{}-{}-c{count}", v.transport, v.carrier)
            } else {
                format!("{}-{}", v.transport, v.carrier)
            };
            let point = sweep.then_some(f64::from(*count));
            run.manifest
                .plan
                .cells
                .push(cell(&id, v, *count, point, push(10, 200)));
        }
    }
    let order: Vec<(u32, usize)> = run.manifest.plan.trials().collect();
    for (index, (repeat, cell_index)) in order.into_iter().enumerate() {
        let count = connections[cell_index / variants.len()];
        let behaviour = &variants[cell_index % variants.len()];
        run.trials
            .push(trial(index as u32, repeat, cell_index, behaviour, count));
    }
    run
}

/// A run that only opens and closes.
pub(crate) fn connect_run(variants: &[Behaviour], repeats: u32) -> Run {
    let mut run = push_run(variants, &[500], repeats);
    let plan = &mut run.manifest.plan;
    plan.name = "connect".to_owned();
    plan.question = "How long until a session is usable?".to_owned();
    plan.source = "question = \"How long until a session is usable?\"\n\n[workload]\nkind = \"connect\"\nrate = \"200/s\"\n".to_owned();
    for cell in &mut plan.cells {
        cell.workload = Workload::Connect {
            rate: per_second(200),
        };
    }
    for trial in &mut run.trials {
        let behaviour = &variants[trial.cell_index];
        let scale = repeat_scale(trial.repeat, behaviour.jitter);
        let mut histograms = Histograms::default();
        histograms.insert(
            Metric::ConnectTime,
            spread_out(behaviour.p50_us * 0.4 * scale, 0.4, 1.8, 4000),
        );
        trial.histograms = histograms;
        for row in &mut trial.intervals {
            *row = IntervalRow {
                index: row.index,
                phase: row.phase,
                start_s: row.start_s,
                length_s: row.length_s,
                attempted: 200,
                ..no_row()
            };
        }
        let summary = trial.summary.as_mut().unwrap();
        summary.expects_messages = false;
        summary.books = Books::default();
        summary.sessions_planned = 4000;
        summary.counters = Counters {
            attempted: 4000,
            established: 4000,
            closed_by_us: 4000,
            ..Counters::default()
        };
    }
    run
}

/// A run without trials and without cells.
pub(crate) fn empty_run(name: &str, question: &str, repeats: u32) -> Run {
    let source = format!(
        "question = \"{question}\"\n\ntransports = [\"ws\", \"sse\", \"long-poll\"]\n\n[load]\nconnections = 1000\narrival = {{ over = \"2s\" }}\n\
         warmup = \"3s\"\nmeasure = \"20s\"\nrepeats = {repeats}\n\n[workload]\nkind = \"push\"\nrate = \"10/s\"\npayload = \"200 B\"\n"
    );
    let plan = Plan {
        name: name.to_owned(),
        question: question.to_owned(),
        source,
        quick: false,
        seed: 1,
        repeats,
        axis: None,
        cells: Vec::new(),
        expect: Vec::new(),
        gate: Vec::new(),
    };
    Run {
        dir: PathBuf::from("somewhere"),
        manifest: Manifest {
            format_version: FORMAT_VERSION,
            status: RunStatus::Complete,
            status_reason: None,
            started_unix_s: 1_795_155_145,
            pushmark_version: "0.1.0".to_owned(),
            plan,
            host: Host {
                kernel: "Linux 6.12.8".to_owned(),
                cpu_model: "Example Processor at 2.60GHz".to_owned(),
                cores: 2,
                memory_bytes: 8 << 30,
                open_files_soft: 1_048_576,
                open_files_hard: 1_048_576,
                ephemeral_ports: (32768, 60999),
                listen_backlog: 4096,
                clock_source: "tsc".to_owned(),
                load_average: (0.31, 0.52, 0.48),
            },
            git: None,
            calibration: None,
            notes: Vec::new(),
        },
        trials: Vec::new(),
    }
}

pub(crate) fn per_second(count: u64) -> Rate {
    Rate {
        count,
        per: Duration::from_secs(1),
    }
}

pub(crate) fn push(rate: u64, payload_bytes: u32) -> Workload {
    Workload::Push(Messages {
        rate: per_second(rate),
        pattern: Pattern::Uniform,
        payload_bytes,
        encoding: Encoding::Text,
    })
}

pub(crate) fn cell(
    id: &str,
    v: &Behaviour,
    connections: u32,
    point: Option<f64>,
    workload: Workload,
) -> Cell {
    Cell {
        id: id.to_owned(),
        carriage: Default::default(),
        target_tls: Default::default(),
        variant: Variant {
            transport: v.transport.to_owned(),
            carrier: v.carrier.to_owned(),
        },
        point,
        load: Load {
            connections,
            arrival: Arrival::Over(Duration::from_secs(2)),
            warmup: Duration::from_secs(3),
            measure: Duration::from_secs(20),
            drain: Duration::from_secs(2),
            workers: None,
            kernel_stamps: 1.0,
        },
        workload,
        server: ServerSetup {
            threads: None,
            outbox_messages: 1024,
            when_full: WhenFull::DropOldest,
            history_messages: 0,
            retry: None,
        },
        target: TargetPlan::Embedded,
        condition: String::new(),
        heartbeat: None,
        tcp: Default::default(),
        reconnect: Default::default(),
        faults: Vec::new(),
        slow_readers: None,
        deadlines: Deadlines {
            connect: Duration::from_secs(5),
            open: Duration::from_secs(5),
            close: Duration::from_secs(1),
        },
    }
}

fn repeat_scale(repeat: u32, jitter: f64) -> f64 {
    1.0 + jitter * [0.2, -1.0, 1.0, -0.4, 0.6][repeat as usize % 5]
}

fn trial(index: u32, repeat: u32, cell_index: usize, v: &Behaviour, connections: u32) -> TrialRecord {
    let scale = repeat_scale(repeat, v.jitter);
    // Latency of a fan-out grows with the receivers; beyond 5,000 the sender falls behind.
    let load = f64::from(connections) / 1000.0;
    let p50 = v.p50_us * (0.3 + 0.7 * load) * if load > 5.0 { load / 5.0 } else { 1.0 } * scale;
    let deliveries = u64::from(connections) * 200;
    let latency = spread_out(p50, v.sigma, v.tail, deliveries - v.lost);
    let mut histograms = Histograms::default();
    let p99 = latency.quantile(0.99).unwrap();
    let send_delay = spread_out(18.0 * scale, 0.4, 1.5, 200);
    let send_p99 = send_delay.quantile(0.99);
    histograms.insert(Metric::Latency, latency);
    histograms.insert(
        Metric::ServiceTime,
        spread_out(p50 - 20.0, v.sigma, v.tail, deliveries - v.lost),
    );
    histograms.insert(Metric::SendDelay, send_delay);
    histograms.insert(
        Metric::FanoutDelay,
        spread_out(p50 * 0.7, v.sigma, v.tail, deliveries),
    );
    histograms.insert(
        Metric::KernelLatency,
        spread_out(p50 * 0.92 - 9.0, v.sigma, v.tail, deliveries - v.lost),
    );
    histograms.insert(
        Metric::GeneratorDelay,
        spread_out(p50 * 0.08 + 9.0, 0.6, v.tail, deliveries - v.lost),
    );
    histograms.insert(
        Metric::ConnectTime,
        spread_out(v.p50_us * 0.3 * scale, 0.5, 1.8, u64::from(connections)),
    );
    let cost = |us: f64, kib: f64| Cost {
        cpu_user_ns: Some((us * 0.4 * scale * deliveries as f64 * 1e3) as u64),
        cpu_system_ns: Some((us * 0.6 * scale * deliveries as f64 * 1e3) as u64),
        rss_before_bytes: Some(9 << 20),
        rss_after_bytes: Some((9 << 20) + (kib * 1024.0 * f64::from(connections)) as u64),
    };
    let summary = TrialSummary {
        sessions_planned: u64::from(connections),
        expects_messages: true,
        measured: Duration::from_millis(20_000 + u64::from(repeat)),
        books: Books {
            scheduled: 200,
            sent: 200,
            expected: deliveries,
            delivered_once: deliveries - v.lost,
            lost: v.lost,
            ..Books::default()
        },
        counters: Counters {
            attempted: u64::from(connections),
            established: u64::from(connections),
            ..Counters::default()
        },
        generator: cost(v.client_cpu_us, v.client_kib),
        server: cost(v.server_cpu_us, v.server_kib),
        latency_p99_ns: Some(p99),
        send_delay_p99_ns: send_p99,
        ..TrialSummary::default()
    };
    let verdict = Verdict::of(&summary);
    let intervals = (0..27)
        .map(|i| interval(i, repeat, v, p50, connections))
        .collect();
    TrialRecord {
        index,
        repeat,
        cell_index,
        summary: Some(summary),
        verdict,
        intervals,
        histograms,
    }
}

fn interval(index: u32, repeat: u32, v: &Behaviour, p50_us: f64, connections: u32) -> IntervalRow {
    let phase = match index {
        0..2 => Phase::Ramp,
        2..5 => Phase::WarmUp,
        5..25 => Phase::Measure,
        _ => Phase::Drain,
    };
    let wobble = 1.0 + 0.05 * f64::from((index * 7 + repeat * 13) % 11).sin() + 0.01 * f64::from(repeat);
    let warm = if index < 4 {
        1.5 - 0.12 * f64::from(index)
    } else {
        1.0
    };
    let at = |factor: f64| {
        Some((p50_us * 1e3 * factor * wobble * warm) as u64).filter(|_| index > 0 && index < 26)
    };
    let delivered = match index {
        0 => 0,
        1 => u64::from(connections) * 4,
        25 => u64::from(connections) / 50,
        26 => 0,
        _ => u64::from(connections) * 10,
    };
    IntervalRow {
        index,
        phase,
        start_s: f64::from(index),
        length_s: 1.0,
        open_sessions: u64::from(connections),
        delivered,
        delivered_bytes: delivered * 200,
        latency_ns_p50: at(1.0),
        latency_ns_p90: at((v.sigma * 1.28).exp()),
        latency_ns_p99: at((v.sigma * 2.33).exp() * (1.0 + 0.3 * wobble * v.tail)),
        latency_ns_max: at((v.sigma * 3.4).exp() * v.tail),
        generator_rss_bytes: 40 << 20,
        ..no_row()
    }
}

fn no_row() -> IntervalRow {
    IntervalRow {
        index: 0,
        phase: Phase::Ramp,
        start_s: 0.0,
        length_s: 1.0,
        open_sessions: 0,
        attempted: 0,
        failed: 0,
        dropped: 0,
        sent: 0,
        delivered: 0,
        delivered_bytes: 0,
        latency_ns_p50: None,
        latency_ns_p90: None,
        latency_ns_p99: None,
        latency_ns_max: None,
        service_time_ns_p99: None,
        send_delay_ns_p99: None,
        generator_cpu_ns: 0,
        generator_rss_bytes: 0,
    }
}

/// A log-normal body whose last percent reaches `tail` times further, as `count` samples.
fn spread_out(median_us: f64, sigma: f64, tail: f64, count: u64) -> Histogram {
    let mut histogram = Histogram::new();
    let mut left = count;
    // Three stretches, so that the tail has as many steps as the body.
    for (from, to) in [(0.0, 0.99), (0.99, 0.9999), (0.9999, 1.0)] {
        let share = if to == 1.0 {
            left
        } else {
            (count as f64 * (to - from)).round() as u64
        };
        let steps = share.min(300);
        for step in 0..steps {
            let q: f64 = from + (to - from) * (step as f64 + 0.5) / steps as f64;
            let reach = if q > 0.99 {
                1.0 + (tail - 1.0) * (-(1.0 - q).log10() - 2.0) / 2.5
            } else {
                1.0
            };
            let ns = median_us * 1e3 * (sigma * probit(q)).exp() * reach;
            let n = share * (step + 1) / steps - share * step / steps;
            histogram.record_n(ns as u64, n);
        }
        left -= share.min(left);
    }
    histogram
}

/// The inverse of the normal distribution, near enough (Winitzki).
fn probit(q: f64) -> f64 {
    let x: f64 = 2.0 * q - 1.0;
    let (a, l) = (0.147, (1.0 - x * x).ln());
    let b = 2.0 / (std::f64::consts::PI * a) + l / 2.0;
    x.signum() * ((b * b - l / a).sqrt() - b).sqrt() * std::f64::consts::SQRT_2
}

pub(crate) fn expect(metric: ExpectMetric, comparison: Sign, limit: f64, text: &str) -> Expectation {
    Expectation {
        metric,
        comparison,
        limit,
        text: text.to_owned(),
    }
}

/// All well, with thresholds.
pub(crate) fn well() -> Run {
    let mut run = push_run(&[WS, SSE, POLL], &[1000], 3);
    run.manifest.plan.expect = vec![
        expect(ExpectMetric::Latency(0.99), Sign::Less, 5e6, "latency.p99 < 5ms"),
        expect(ExpectMetric::Lost, Sign::Equal, 0.0, "lost = 0"),
    ];
    run.manifest.notes = vec!["2 cores: server and load generator compete for them.".to_owned()];
    run
}

/// Two variants within each other's noise.
pub(crate) fn no_winner() -> Run {
    push_run(
        &[
            WS,
            Behaviour {
                p50_us: 1215.0,
                server_cpu_us: 4.62,
                jitter: 0.05,
                ..SSE
            },
        ],
        &[1000],
        3,
    )
}

/// One variant loses messages.
pub(crate) fn losses() -> Run {
    push_run(&[WS, Behaviour { lost: 412, ..SSE }, POLL], &[1000], 3)
}

/// One trial of the second variant is suspect, one of the third invalid.
pub(crate) fn invalid() -> Run {
    let mut run = push_run(&[WS, SSE, POLL], &[1000], 3);
    for trial in &mut run.trials {
        match (trial.cell_index, trial.repeat) {
            (1, 1) => trial.verdict.add(
                Grade::Suspect,
                "the load generator's workers were 94 % busy: latency may be their own",
            ),
            (2, _) => trial.verdict.add(
                Grade::Invalid,
                "the books do not balance: expected 200000 is not delivered 199977 + lost 0",
            ),
            _ => (),
        }
    }
    run
}

/// Ended by a signal in the third repeat.
pub(crate) fn partial() -> Run {
    let mut run = push_run(&[WS, SSE, POLL], &[1000], 3);
    run.manifest.status = RunStatus::Partial;
    run.manifest.status_reason = Some("interrupted".to_owned());
    run.trials.truncate(7);
    let last = run.trials.last_mut().unwrap();
    last.summary = None;
    last.verdict = Verdict::default();
    last.verdict.add(Grade::Invalid, "the trial never ended");
    last.intervals.truncate(9);
    run
}

/// Four points, two variants.
pub(crate) fn sweep() -> Run {
    let mut run = push_run(
        &[
            WS,
            Behaviour {
                p50_us: 1260.0,
                jitter: 0.04,
                ..SSE
            },
        ],
        &[100, 1000, 5000, 10_000],
        3,
    );
    run.manifest.plan.name = "fan-out".to_owned();
    run.manifest.plan.question = "How many readers can one feed have before it is late?".to_owned();
    run
}

/// A smoke run in which the second variant got nothing, and the server's cost is not known.
pub(crate) fn missing() -> Run {
    let mut run = push_run(&[WS, SSE, POLL], &[20], 1);
    run.manifest.plan.quick = true;
    for trial in &mut run.trials {
        let summary = trial.summary.as_mut().unwrap();
        summary.server = Cost::default();
        if trial.cell_index == 1 {
            trial.histograms = Histograms::default();
            trial.intervals.clear();
            summary.books.lost = summary.books.expected;
            summary.books.delivered_once = 0;
            trial.verdict = Verdict::of(summary);
        }
    }
    run
}

/// No trial finished.
pub(crate) fn nothing() -> Run {
    let mut run = push_run(&[WS, SSE], &[1000], 2);
    run.manifest.status = RunStatus::Running;
    run.trials.truncate(1);
    run.trials[0].summary = None;
    run.trials[0].histograms = Histograms::default();
    run.trials[0].intervals.truncate(4);
    run
}

/// Names that try to act.
pub(crate) fn hostile() -> Run {
    let mut run = push_run(&[WS, SSE], &[1000], 2);
    let evil = "<script>alert(1)</script>\x1b[31m\n| **x** `y` [l](javascript:0) \"'&\u{202e}";
    let plan = &mut run.manifest.plan;
    plan.name = evil.to_owned();
    plan.question = evil.to_owned();
    plan.source = format!("question = '{evil}'\n</pre><script>alert(2)</script>");
    plan.expect = vec![expect(ExpectMetric::Lost, Sign::Equal, 0.0, evil)];
    plan.cells[0].id = evil.to_owned();
    plan.cells[0].variant.transport = evil.to_owned();
    plan.cells[0].variant.carrier = evil.to_owned();
    run.manifest.status = RunStatus::Partial;
    run.manifest.status_reason = Some(evil.to_owned());
    run.manifest.notes = vec![evil.to_owned()];
    run.manifest.host.kernel = evil.to_owned();
    run.manifest.host.cpu_model = evil.to_owned();
    run.manifest.pushmark_version = evil.to_owned();
    run.trials[0].verdict.add(Grade::Suspect, evil);
    run
}

/// Every run of this file, by name.
pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("well", well()),
        ("no_winner", no_winner()),
        ("losses", losses()),
        ("invalid", invalid()),
        ("partial", partial()),
        ("sweep", sweep()),
        ("connect", connect_run(&[WS, SSE], 3)),
        ("missing", missing()),
        ("nothing", nothing()),
    ]
}

/// The same as [`WS`] in all but its name.
pub(crate) const WS_TWIN: Behaviour = Behaviour {
    transport: "sse",
    ..WS
};

/// A sweep whose winner changes with the load.
pub(crate) fn sweep_mixed() -> Run {
    let mut run = push_run(&[WS, SSE], &[100, 1000, 5000], 3);
    for trial in run.trials.iter_mut().filter(|t| t.cell_index < 2) {
        // Swapped at the smallest point.
        trial.cell_index = 1 - trial.cell_index;
    }
    run
}

/// Three transports over three carriers.
pub(crate) fn many() -> Run {
    let over = |carrier: &'static str, factor: f64| {
        [WS, SSE, POLL].map(|v| Behaviour {
            carrier,
            p50_us: v.p50_us * factor,
            server_cpu_us: v.server_cpu_us * factor,
            ..v
        })
    };
    push_run(
        &[over("h1", 1.0), over("h2c", 1.3), over("h1+tls", 1.2)].concat(),
        &[1000],
        3,
    )
}
