//! Small runs to write and read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pushmark_measure::{
    Books, ConnectionEvent, Counters, EventKind, Histograms, Interval, Metric, Nanos, Phase, TrialSummary,
};
use pushmark_results::{GitState, Host, Manifest, RunStatus, RunWriter, TrialWriter};
use pushmark_scenario::plan::*;

/// The instant all trials of these tests begin at.
pub(crate) const ORIGIN: u64 = 5_000_000_000;
const SECOND: u64 = 1_000_000_000;

pub(crate) fn cell(id: &str, transport: &str) -> Cell {
    let second = Duration::from_secs(1);
    Cell {
        id: id.to_owned(),
        carriage: Default::default(),
        variant: Variant {
            transport: transport.to_owned(),
            carrier: "h1".to_owned(),
        },
        point: Some(0.1),
        load: Load {
            connections: 2,
            arrival: Arrival::Stages(vec![Stage {
                connections: 2,
                over: second,
            }]),
            warmup: Duration::ZERO,
            measure: Duration::from_millis(2_500),
            drain: second,
            workers: None,
            kernel_stamps: 1.0,
        },
        workload: Workload::Push(Messages {
            rate: Rate {
                count: 10,
                per: second,
            },
            pattern: Pattern::Bursts { size: 2 },
            payload_bytes: 128,
            encoding: Encoding::Text,
        }),
        server: ServerSetup {
            threads: None,
            outbox_messages: 16,
            when_full: WhenFull::DropOldest,
            history_messages: 0,
            retry: None,
        },
        target: TargetPlan::Embedded,
        target_tls: Default::default(),
        condition: String::new(),
        heartbeat: None,
        tcp: Default::default(),
        reconnect: Default::default(),
        faults: Vec::new(),
        slow_readers: None,
        deadlines: Deadlines {
            connect: second,
            open: second,
            close: second,
        },
    }
}

pub(crate) fn manifest(name: &str) -> Manifest {
    Manifest {
        format_version: 0,
        status: RunStatus::Complete,
        status_reason: Some("not yet".to_owned()),
        started_unix_s: 1_795_154_999,
        pushmark_version: "0.1.0".to_owned(),
        plan: Plan {
            name: name.to_owned(),
            question: "Which one? <script>=1+1".to_owned(),
            source: "question = \"Which one?\"\n".to_owned(),
            quick: false,
            seed: u64::MAX,
            repeats: 2,
            axis: None,
            cells: vec![cell("sse-h1", "sse"), cell("ws-h1", "ws")],
            expect: vec![Expectation {
                metric: ExpectMetric::Latency(0.999),
                comparison: Comparison::Less,
                limit: 0.1 + 0.2,
                text: "latency.p99.9 < 50ms".to_owned(),
            }],
            gate: Vec::new(),
        },
        host: Host {
            load_average: (0.1, 0.7, 1e-7),
            open_files_hard: u64::MAX,
            ..Host::default()
        },
        git: Some(GitState {
            commit: "c0ffee".to_owned(),
            dirty: true,
        }),
        calibration: Some(pushmark_measure::Calibration {
            clock_read_ns: 40.5,
            ..Default::default()
        }),
        notes: vec!["a note".to_owned()],
    }
}

/// One second that recorded these latencies, in nanoseconds; each took half as long from its send, and each comes with
/// an unmeasured one of a second.
pub(crate) fn interval(index: u32, latencies: &[u64]) -> Interval {
    let (mut measured, mut unmeasured) = (Histograms::default(), Histograms::default());
    for latency in latencies {
        measured.record(Metric::Latency, *latency);
        measured.record(Metric::ServiceTime, latency / 2);
        measured.record(Metric::SendDelay, latency - latency / 2);
        unmeasured.record(Metric::Latency, SECOND);
    }
    if index == 1 {
        measured.record(Metric::ConnectTime, 1_234_567);
    }
    let start = ORIGIN + u64::from(index) * SECOND;
    Interval {
        index,
        phase: if index == 0 { Phase::WarmUp } else { Phase::Measure },
        start: Nanos(start),
        end: Nanos(start + SECOND),
        counters: Counters {
            attempted: 2,
            open_sessions: 2,
            delivered: 2 * latencies.len() as u64,
            cpu_user_ns: 3,
            cpu_system_ns: 4,
            rss_bytes: 5,
            ..Counters::default()
        },
        measured,
        unmeasured,
    }
}

pub(crate) fn summary(delivered: u64) -> TrialSummary {
    TrialSummary {
        sessions_planned: 2,
        expects_messages: true,
        measured: Duration::new(2, 500_000_001),
        books: Books {
            expected: delivered,
            delivered_once: delivered,
            ..Books::default()
        },
        counters: Counters {
            attempted: 2,
            established: 2,
            ..Counters::default()
        },
        generator_busy_share: Some(0.1 + 0.2),
        latency_p99_ns: Some(7),
        ..TrialSummary::default()
    }
}

pub(crate) fn event(session: u32, detail: &str) -> ConnectionEvent {
    let at = Nanos(ORIGIN + u64::from(session));
    ConnectionEvent {
        at,
        session,
        kind: EventKind::Failed,
        detail: detail.to_owned(),
    }
}

/// The latencies of second `n` of a trial.
pub(crate) fn latencies(n: u64) -> Vec<u64> {
    (0..20).map(|i| (n + 1) * 1_000_003 + i * i * 7_919).collect()
}

/// Three intervals, 60 latencies.
pub(crate) fn write_intervals(trial: &mut TrialWriter) -> u64 {
    for n in 0..3 {
        trial.interval(&interval(n, &latencies(u64::from(n)))).unwrap();
    }
    60
}

/// The same with two metrics only, for tests that read a run thousands of times.
fn write_thin_intervals(trial: &mut TrialWriter) -> u64 {
    for n in 0..3 {
        let mut thin = interval(n, &latencies(u64::from(n)));
        let all = std::mem::take(&mut thin.measured);
        for metric in [Metric::Latency, Metric::ConnectTime] {
            if let Some(histogram) = all.get(metric) {
                thin.measured.insert(metric, histogram.clone());
            }
        }
        trial.interval(&thin).unwrap();
    }
    60
}

/// A whole run in `parent`.
pub(crate) fn complete_run(parent: &Path) -> PathBuf {
    run_of(parent, manifest("feed"), write_intervals)
}

/// A whole run of one thin trial.
pub(crate) fn small_run(parent: &Path) -> PathBuf {
    let mut small = manifest("feed");
    (small.plan.repeats, small.plan.cells) = (1, vec![cell("sse-h1", "sse")]);
    run_of(parent, small, write_thin_intervals)
}

fn run_of(parent: &Path, manifest: Manifest, write: fn(&mut TrialWriter) -> u64) -> PathBuf {
    let mut run = RunWriter::create(parent, manifest).unwrap();
    let order: Vec<_> = run.manifest().plan.trials().collect();
    for (index, (repeat, cell_index)) in (0..).zip(order) {
        let mut trial = run.begin_trial(index, repeat, cell_index).unwrap();
        trial.events(&[event(1, "connect: refused")]).unwrap();
        let delivered = write(&mut trial);
        trial
            .finish(summary(delivered), Some(serde_json::json!({ "connections": 2 })))
            .unwrap();
    }
    run.finish(RunStatus::Complete, None).unwrap();
    run.dir().to_owned()
}

/// A run in `parent` that was killed in its first trial.
pub(crate) fn killed_run(parent: &Path) -> PathBuf {
    let mut run = RunWriter::create(parent, manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    write_thin_intervals(&mut trial);
    run.dir().to_owned()
}

/// The trial directory that comes first by name.
pub(crate) fn first_trial(run: &Path) -> PathBuf {
    let mut dirs: Vec<_> = std::fs::read_dir(run.join("trials"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    dirs.sort();
    dirs.remove(0)
}
