//! The logs, read by others: HdrHistogram's own Rust reader, and the Python package when it is there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use pushmark_measure::{Histogram, Metric, clock};
use pushmark_results::{Run, RunWriter};
use serde_json::Value;

use crate::support::*;

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// A trial of 10,000 latencies from 1 ns to 60 s over ten seconds, and its log.
fn trial(parent: &Path) -> (PathBuf, Histogram) {
    let mut run = RunWriter::create(parent, manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    for second in 0..10u32 {
        // Powers spread the values over every magnitude; the last is the largest the histogram keeps apart.
        let values: Vec<u64> = (0..1_000u32)
            .map(|n| 60e9f64.powf(f64::from(n * 10 + second + 1) / 10_000.0).ceil() as u64)
            .map(|v| v.min(60_000_000_000))
            .collect();
        trial.interval(&interval(second, &values)).unwrap();
    }
    let log = trial.dir().join("latency.hlog");
    trial.finish(summary(10_000), None).unwrap();
    let read = Run::open(run.dir()).unwrap();
    (
        log,
        read.trials[0].histograms.get(Metric::Latency).cloned().unwrap(),
    )
}

#[test]
fn the_log_is_read_by_hdrhistograms_own_reader() {
    let parent = tempfile::tempdir().unwrap();
    let (log, ours) = trial(parent.path());
    let bytes = std::fs::read(log).unwrap();
    let (mut merged, mut starts, mut headers) = (
        Hdr::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap(),
        vec![],
        0,
    );
    for entry in IntervalLogIterator::new(&bytes) {
        match entry.unwrap() {
            LogEntry::Interval(interval) => {
                use base64::Engine;
                let encoded = base64::engine::general_purpose::STANDARD
                    .decode(interval.encoded_histogram())
                    .unwrap();
                let histogram: Hdr<u64> = Deserializer::new().deserialize(&mut encoded.as_slice()).unwrap();
                assert_eq!((interval.duration().as_secs(), histogram.len()), (1, 1_000));
                assert!(
                    (interval.max() - histogram.max() as f64 / 1e6).abs() < 0.001,
                    "milliseconds: {}",
                    interval.max()
                );
                starts.push(interval.start_timestamp().as_secs());
                merged.add(&histogram).unwrap();
            }
            LogEntry::StartTime(start) | LogEntry::BaseTime(start) => {
                assert!(
                    start.as_secs().abs_diff(clock::unix_seconds()) < clock::now().0 / 1_000_000_000 + 60
                );
                headers += 1;
            }
        }
    }
    assert_eq!((starts, headers), ((0..10).collect(), 2));
    assert_eq!(&merged, ours.hdr());
}

/// The interpreter with the package in it. One that was named for this must work; any other may be missing.
fn python() -> Option<(PathBuf, bool)> {
    let named = std::env::var_os("PUSHMARK_TEST_PYTHON").map(PathBuf::from);
    let is_named = named.is_some();
    let python = named.unwrap_or_else(|| "python3".into());
    let has_package = Command::new(&python)
        .args(["-c", "import hdrh.log"])
        .output()
        .is_ok_and(|o| o.status.success());
    (is_named || has_package).then_some((python, is_named))
}

/// Says that a test was skipped and why, also where `scripts/test` collects it.
fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("PUSHMARK_TEST_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "skipped: {test}: {why}").unwrap();
    }
}

#[test]
fn the_log_is_read_by_the_python_package() {
    let Some((python, is_named)) = python() else {
        skipped(
            "the_log_is_read_by_the_python_package",
            "no python3 with the package hdrhistogram",
        );
        return;
    };
    let parent = tempfile::tempdir().unwrap();
    let (log, ours) = trial(parent.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_hlog.py");
    let output = Command::new(&python).arg(script).arg(log).output();
    let output = output.unwrap_or_else(|e| {
        panic!(
            "{} (named by PUSHMARK_TEST_PYTHON: {is_named}): {e}",
            python.display()
        )
    });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(theirs["count"], 10_000);
    assert_eq!(theirs["min"].as_u64(), ours.min());
    assert_eq!(theirs["max"].as_u64(), ours.max());
    for (theirs, q) in theirs["percentiles"].as_array().unwrap().iter().zip(QUANTILES) {
        assert_eq!(theirs.as_u64(), ours.quantile(q), "quantile {q}");
    }
    let slots = ours
        .hdr()
        .iter_recorded()
        .map(|slot| serde_json::json!([slot.value_iterated_to(), slot.count_at_value()]));
    assert_eq!(theirs["slots"], Value::Array(slots.collect()));
    let intervals = theirs["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 10);
    for (n, interval) in intervals.iter().enumerate() {
        assert!(
            (interval["start_s"].as_f64().unwrap() - n as f64).abs() < 0.001,
            "{interval}"
        );
        assert!(
            (interval["length_s"].as_f64().unwrap() - 1.0).abs() < 0.001,
            "{interval}"
        );
        assert_eq!(interval["count"], 1_000);
    }
}
