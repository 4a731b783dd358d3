//! The engine without a network: workers on the in-process transport, conducted here as a coordinator would.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use pushmark_loadgen::assignment::{Assignment, Begin, Stop, Totals, schedule};
use pushmark_loadgen::merge::Merger;
use pushmark_loadgen::worker::{self, Control, FromWorker, WorkerError};
use pushmark_measure::{
    ConnectionEvent, Counters, EventKind, Histograms, Interval, Metric, Nanos, Schedule, clock,
};
use pushmark_scenario::plan::{Arrival, Deadlines, Encoding, Messages, Pattern, Rate, Workload};
use pushmark_transport::registry;
use tokio::sync::watch;

/// Whatever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);
const WARMUP: Duration = Duration::from_millis(100);
const MEASURE: Duration = Duration::from_millis(400);

const PATTERNS: [Pattern; 3] = [Pattern::Uniform, Pattern::Poisson, Pattern::Bursts { size: 5 }];

fn messages(pattern: Pattern) -> Messages {
    let rate = Rate {
        count: 200,
        per: Duration::from_secs(1),
    };
    Messages {
        rate,
        pattern,
        payload_bytes: 100,
        encoding: Encoding::Text,
    }
}

fn assignment(workload: Workload, sessions: u32, threads: u32, seed: u64) -> Assignment {
    let long = Duration::from_secs(10);
    Assignment {
        sources: Vec::new(),
        first_port: 0,
        run: 7,
        transport: registry::ROWS
            .iter()
            .find(|row| row.in_process)
            .unwrap()
            .name
            .to_owned(),
        carrier: pushmark_transport::null::CARRIER.to_owned(),
        carriage: Default::default(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        sessions: 0..sessions,
        total_sessions: sessions,
        process: Default::default(),
        arrival: Arrival::AtOnce,
        workload,
        seed,
        threads,
        deadlines: Deadlines {
            connect: long,
            open: long,
            close: long,
        },
        kernel_stamps: 1.0,
        open_at: clock::now(),
        trouble: Default::default(),
    }
}

/// How a trial is to be conducted.
#[derive(Clone, Copy)]
enum Until {
    /// Its planned end.
    End,
    /// A stop in the middle of the measured window, which the workers learn of this much too late.
    Middle(Duration),
    /// A stop before the load began.
    Ramp,
}

/// All that came of a trial.
struct Outcome {
    begin: Begin,
    intervals: Vec<Interval>,
    events: Vec<ConnectionEvent>,
    /// Of each worker.
    totals: Vec<Totals>,
    opened: (u32, u32),
}

impl Outcome {
    fn merged(&self) -> Totals {
        let mut merged = Totals::default();
        self.totals.iter().for_each(|totals| merged.merge(totals));
        merged
    }

    fn histograms(&self) -> Histograms {
        let mut all = Histograms::default();
        self.intervals
            .iter()
            .for_each(|interval| all.merge(&interval.measured));
        all
    }

    fn counters(&self) -> Counters {
        let mut all = Counters::default();
        self.intervals
            .iter()
            .for_each(|interval| all.merge(&interval.counters));
        all
    }

    /// What must hold of every trial.
    fn assert_sound(&self) {
        let totals = self.merged();
        let histograms = self.histograms();
        let counters = self.counters();
        assert_eq!(totals.negative_samples, 0);
        assert_eq!(
            (totals.ended_early, totals.books.foreign, totals.books.corrupt),
            (0, 0, 0)
        );
        assert_eq!(counters.attempted, counters.established + counters.failed);
        assert_eq!(
            counters.established, counters.closed_by_us,
            "everything is closed in the end"
        );
        for metric in [Metric::Latency, Metric::ServiceTime, Metric::SendDelay] {
            assert_eq!(
                histograms.count(metric),
                totals.books.delivered_once,
                "{metric:?}"
            );
        }
        assert_eq!(totals.measured_payload_bytes, 100 * totals.books.delivered_once);
        for (index, interval) in self.intervals.iter().enumerate() {
            assert_eq!(interval.index as usize, index, "no gap between intervals");
            assert!(interval.start <= interval.end);
        }
        let count = |kind| self.events.iter().filter(|event| event.kind == kind).count() as u64;
        assert_eq!(count(EventKind::Established), counters.established);
        assert_eq!(count(EventKind::ClosedByUs), counters.closed_by_us);
    }

    /// How many messages of the measured window the schedule of `stream` asked for before `end`.
    fn due(&self, plan: &Schedule, end: Nanos) -> u64 {
        plan.count_before(end) - plan.count_before(self.begin.measured.start)
    }
}

fn next(from: &Receiver<FromWorker>) -> Option<FromWorker> {
    match from.recv_timeout(DEADLINE) {
        Ok(message) => Some(message),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the workers hang"),
    }
}

fn sleep_until(at: Nanos) {
    std::thread::sleep(at.duration_since(clock::now()));
}

fn conduct(assignment: &Assignment, until: Until) -> Outcome {
    let control = watch::Sender::new(Control::default());
    let (out, from) = sync_channel(64);
    let threads: Vec<_> = (0..assignment.threads)
        .map(|thread| {
            let (assignment, control, out) = (assignment.clone(), control.subscribe(), out.clone());
            std::thread::spawn(move || worker::run(assignment, thread, control, out))
        })
        .collect();
    drop(out);

    let mut opened = (0, 0);
    let mut reports = 0;
    let mut events = Vec::new();
    let mut merger = Merger::new(threads.len());
    let mut intervals = Vec::new();
    while reports < threads.len() && !matches!(until, Until::Ramp) {
        match next(&from).unwrap() {
            FromWorker::Opened(established, failed) => {
                opened = (opened.0 + established, opened.1 + failed);
                reports += 1;
            }
            FromWorker::Interval(interval) => intervals.extend(merger.push(*interval)),
            FromWorker::Events(more) => events.extend(more),
            FromWorker::Done(_) => panic!("done before it began"),
        }
    }
    let start = clock::now() + Duration::from_millis(20);
    let measured = start + WARMUP..start + WARMUP + MEASURE;
    let published = match &assignment.workload {
        Workload::Push(m) => Some(schedule(
            m.rate,
            m.pattern,
            start..measured.end,
            assignment.seed,
            0,
            false,
        )),
        _ => None,
    };
    let begin = Begin {
        start,
        measured: measured.clone(),
        published,
        slots: None,
    };
    if !matches!(until, Until::Ramp) {
        control.send_modify(|control| control.begin = Some(begin.clone()));
    }
    let at = match until {
        Until::End => measured.end,
        Until::Middle(_) => measured.start + MEASURE / 2,
        Until::Ramp => start,
    };
    sleep_until(at);
    if let Until::Middle(late) = until {
        std::thread::sleep(late);
    }
    let drain_end = clock::now() + DEADLINE;
    let stop = Stop {
        at,
        published: None,
        drain_end,
    };
    control.send_modify(|control| control.stop = Some(stop));

    let mut totals = Vec::new();
    while let Some(message) = next(&from) {
        match message {
            FromWorker::Opened(..) => panic!("opened twice"),
            FromWorker::Interval(interval) => intervals.extend(merger.push(*interval)),
            FromWorker::Events(more) => events.extend(more),
            FromWorker::Done(done) => totals.push(*done),
        }
    }
    intervals.extend(merger.finish());
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    Outcome {
        begin,
        intervals,
        events,
        totals,
        opened,
    }
}

#[test]
fn echo_comes_back_once_whatever_the_pattern() {
    for pattern in PATTERNS {
        let messages = messages(pattern);
        let assignment = assignment(Workload::Echo(messages.clone()), 10, 1, 3);
        let outcome = conduct(&assignment, Until::End);
        outcome.assert_sound();
        assert_eq!(outcome.opened, (10, 0));
        let span = outcome.begin.start..outcome.begin.measured.end;
        let due: u64 = (0..10)
            .map(|stream| schedule(messages.rate, pattern, span.clone(), 3, stream, true))
            .map(|plan| outcome.due(&plan, outcome.begin.measured.end))
            .sum();
        let books = outcome.merged().books;
        assert!(due > 0, "{pattern:?}");
        assert_eq!(books.scheduled, due, "{pattern:?}: {books:?}");
        assert_eq!((books.sent, books.not_sent), (due, 0), "{pattern:?}: {books:?}");
        assert_eq!(
            (books.expected, books.delivered_once, books.lost),
            (due, due, 0),
            "{pattern:?}"
        );
        assert_eq!(
            (books.duplicated, books.reordered),
            (0, 0),
            "{pattern:?}: {books:?}"
        );
        assert_eq!(books.imbalances(due), Vec::<String>::new(), "{pattern:?}");
    }
}

#[test]
fn a_publication_reaches_every_session_once_whatever_the_pattern() {
    for pattern in PATTERNS {
        let assignment = assignment(Workload::Push(messages(pattern)), 10, 2, 3);
        let outcome = conduct(&assignment, Until::End);
        outcome.assert_sound();
        let plan = outcome.begin.published.as_ref().unwrap();
        let due = 10 * outcome.due(plan, outcome.begin.measured.end);
        let books = outcome.merged().books;
        assert!(due > 0, "{pattern:?}");
        assert_eq!(
            (books.expected, books.delivered_once, books.lost),
            (due, due, 0),
            "{pattern:?}"
        );
        assert_eq!(
            (books.duplicated, books.reordered),
            (0, 0),
            "{pattern:?}: {books:?}"
        );
        // The warm-up came too, and stands apart.
        let all = 10 * plan.count_before(plan.end);
        assert_eq!(outcome.counters().delivered, all, "{pattern:?}");
    }
}

#[test]
fn merged_workers_are_their_sum() {
    let assignment = assignment(Workload::Echo(messages(Pattern::Poisson)), 11, 3, 5);
    let outcome = conduct(&assignment, Until::End);
    outcome.assert_sound();
    assert_eq!(outcome.totals.len(), 3);
    assert!(
        outcome
            .totals
            .iter()
            .all(|totals| totals.books.delivered_once > 0),
        "each has its share"
    );
    assert_eq!(outcome.opened, (11, 0));
    let sum = outcome
        .totals
        .iter()
        .map(|totals| totals.books.delivered_once)
        .sum::<u64>();
    assert_eq!(outcome.histograms().count(Metric::Latency), sum);
    assert_eq!(outcome.histograms().count(Metric::ConnectTime), 11);
    // Every session is in exactly one worker.
    let mut opened: Vec<u32> = Vec::new();
    opened.extend(
        outcome
            .events
            .iter()
            .filter(|e| e.kind == EventKind::Established)
            .map(|e| e.session),
    );
    opened.sort_unstable();
    assert_eq!(opened, (0..11).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let scheduled = |seed, threads| {
        let assignment = assignment(Workload::Echo(messages(Pattern::Poisson)), 10, threads, seed);
        let outcome = conduct(&assignment, Until::End);
        outcome.assert_sound();
        outcome.merged().books.scheduled
    };
    let first = scheduled(3, 1);
    assert_eq!(scheduled(3, 1), first);
    assert_eq!(scheduled(3, 2), first, "however many threads");
    assert_ne!(scheduled(4, 1), first);
}

#[test]
fn a_load_that_is_cut_short_keeps_its_books_balanced() {
    // The word to stop is always late, by a little or by a lot: what was sent until it came was sent.
    for late in [0, 3, 50] {
        for pattern in PATTERNS {
            for workload in [
                Workload::Echo(messages(pattern)),
                Workload::Push(messages(pattern)),
            ] {
                let sent_by_us = matches!(workload, Workload::Echo(_));
                let assignment = assignment(workload, 10, 2, 3);
                let outcome = conduct(&assignment, Until::Middle(Duration::from_millis(late)));
                outcome.assert_sound();
                let books = outcome.merged().books;
                let case = format!("{late} ms late, {pattern:?}: {books:?}");
                assert_eq!(
                    books.imbalances(books.delivered_once),
                    Vec::<String>::new(),
                    "{case}"
                );
                assert_eq!((books.lost, books.not_sent), (0, 0), "{case}");
                assert!(books.delivered_once > 0, "{case}");
                if sent_by_us {
                    assert_eq!(books.sent, books.delivered_once, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_load_that_never_began_leaves_empty_books() {
    let mut assignment = assignment(Workload::Echo(messages(Pattern::Uniform)), 10, 2, 3);
    assignment.arrival = Arrival::Over(DEADLINE);
    let outcome = conduct(&assignment, Until::Ramp);
    assert_eq!(outcome.merged().books, Totals::default().books);
    assert_eq!(outcome.histograms().count(Metric::Latency), 0);
    assert_eq!(outcome.counters().sent, 0);
}

#[test]
fn latency_counts_from_the_intended_instant() {
    // A sender that is woken too late is late from the user's point of view as well: latency is service time and send
    // delay together, sample by sample, so their means add up.
    let assignment = assignment(Workload::Echo(messages(Pattern::Uniform)), 10, 1, 3);
    let histograms = conduct(&assignment, Until::End).histograms();
    let mean = |metric| histograms.get(metric).unwrap().mean().unwrap();
    let (latency, parts) = (
        mean(Metric::Latency),
        mean(Metric::ServiceTime) + mean(Metric::SendDelay),
    );
    // Three digits are kept of each.
    assert!(
        (latency - parts).abs() <= 0.003 * latency,
        "{latency} ns, {parts} ns"
    );
}

#[test]
fn opens_at_a_rate_are_all_accounted_for() {
    let rate = Rate {
        count: 500,
        per: Duration::from_secs(1),
    };
    let assignment = assignment(Workload::Connect { rate }, 100, 2, 3);
    let outcome = conduct(&assignment, Until::End);
    let (totals, counters) = (outcome.merged(), outcome.counters());
    // Each of both threads opens its half of 500 a second over half a second.
    assert!((248..=252).contains(&totals.opens_scheduled), "{totals:?}");
    assert_eq!(counters.attempted, totals.opens_scheduled - totals.opens_skipped);
    assert_eq!(counters.attempted, counters.established + counters.failed);
    assert_eq!(
        (counters.failed, counters.established),
        (0, counters.closed_by_us)
    );
}

#[test]
fn a_transport_that_does_not_exist_is_refused() {
    let mut assignment = assignment(Workload::Echo(messages(Pattern::Uniform)), 1, 1, 3);
    assignment.transport = "carrier-pigeon".to_owned();
    let (out, _from) = sync_channel(1);
    let ended = worker::run(
        assignment,
        0,
        watch::Sender::new(Control::default()).subscribe(),
        out,
    );
    assert!(matches!(ended, Err(WorkerError::UnknownTransport(name)) if name == "carrier-pigeon"));
}

#[test]
fn a_worker_whose_coordinator_is_gone_ends() {
    let assignment = assignment(Workload::Echo(messages(Pattern::Uniform)), 5, 1, 3);
    let control = watch::Sender::new(Control::default());
    let (out, from) = sync_channel(64);
    let listening = control.subscribe();
    let worker = std::thread::spawn(move || worker::run(assignment, 0, listening, out));
    while !matches!(next(&from), Some(FromWorker::Opened(5, 0))) {}
    drop(control);
    while next(&from).is_some() {}
    // With or without an error: nobody is left to hear it.
    let _ = worker.join().unwrap();
}
