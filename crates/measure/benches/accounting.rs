//! What the accounting of one message costs: `cargo bench -p pushmark-measure`.
//!
//! To compare with: three records of a bare HdrHistogram, which is the least that three distributions can cost.
#![allow(missing_docs, reason = "criterion makes public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pushmark_measure::{Histogram, Nanos, Pattern, Rate, Recorder, Sample, Schedule, SequenceTracker};

fn sample(i: u64) -> Sample {
    Sample {
        intended: Nanos(i * 1_000),
        sent: Nanos(i * 1_000 + 40_000),
        received: Nanos(i * 1_000 + 100_000 + i % 5_000),
        kernel: None,
        payload_bytes: 200,
    }
}

fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let mut recorder = Recorder::new(Nanos(0));
    recorder.set_window(Nanos(0)..Nanos::MAX);
    let mut i = 0;
    group.bench_function("a sample", |b| {
        b.iter(|| {
            i += 1;
            recorder.record(black_box(&sample(i)))
        });
    });
    group.bench_function("a sample with a kernel stamp", |b| {
        b.iter(|| {
            i += 1;
            let sample = Sample {
                kernel: Some(Nanos(i * 1_000 + 60_000)),
                ..sample(i)
            };
            recorder.record(black_box(&sample))
        });
    });
    let mut histograms = [Histogram::default(), Histogram::default(), Histogram::default()];
    group.bench_function("three histograms alone", |b| {
        b.iter(|| {
            i += 1;
            let sample = black_box(sample(i));
            histograms[0].record(sample.received.since(sample.intended));
            histograms[1].record(sample.received.since(sample.sent));
            histograms[2].record(sample.sent.since(sample.intended));
        });
    });
    group.finish();
}

/// Against an increment: in order, it has to be little more.
fn tracking(c: &mut Criterion) {
    let mut tracker = SequenceTracker::default();
    let mut sequence = 0;
    c.bench_function("tracker, in order", |b| {
        b.iter(|| {
            sequence += 1;
            tracker.arrive(black_box(sequence - 1))
        });
    });
}

/// Against a send, which takes some microseconds: the next instant must not be seen beside it.
fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    for (name, pattern) in [
        ("uniform", Pattern::Uniform),
        ("poisson", Pattern::Poisson),
        ("bursts", Pattern::Bursts { size: 10 }),
    ] {
        let schedule = Schedule {
            start: Nanos(0),
            end: Nanos::MAX,
            rate: Rate::per_second(1_000_000),
            pattern,
            seed: 1,
            stream: 1,
            staggered: true,
            slots: None,
        };
        let mut cursor = schedule.cursor();
        group.bench_function(name, |b| b.iter(|| cursor.next()));
    }
    group.finish();
}

criterion_group!(benches, recording, tracking, schedules);
criterion_main!(benches);
