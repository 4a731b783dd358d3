//! What is written is read back, and what stands in the files is what was asked for.

use std::fs;

use proptest::prelude::*;
use pushmark_measure::{Grade, Histogram, Histograms, Metric, Nanos};
use pushmark_results::{FORMAT_VERSION, IntervalRow, Run, RunStatus, RunWriter};

use crate::support::*;

#[test]
fn a_run_reads_as_it_was_written() {
    let parent = tempfile::tempdir().unwrap();
    let dir = complete_run(parent.path());
    assert_eq!(dir.file_name().unwrap(), "20261120T060959Z-feed");
    let run = Run::open(&dir).unwrap();
    let expected = pushmark_results::Manifest {
        format_version: FORMAT_VERSION,
        status: RunStatus::Complete,
        status_reason: None,
        ..manifest("feed")
    };
    assert_eq!(run.manifest, expected);
    assert!(run.is_complete());
    assert_eq!(
        fs::read_to_string(dir.join("scenario.toml")).unwrap(),
        expected.plan.source
    );

    let order: Vec<_> = run
        .trials
        .iter()
        .map(|t| (t.index, t.repeat, t.cell_index))
        .collect();
    assert_eq!(order, [(0, 0, 0), (1, 0, 1), (2, 1, 1), (3, 1, 0)]);
    let mut whole = Histograms::default();
    let intervals: Vec<_> = (0..3).map(|n| interval(n, &latencies(u64::from(n)))).collect();
    intervals.iter().for_each(|i| whole.merge(&i.measured));
    for trial in &run.trials {
        assert_eq!(trial.summary, Some(summary(60)));
        assert_eq!(trial.verdict.findings, []);
        assert_eq!(trial.histograms, whole);
        let rows: Vec<_> = intervals
            .iter()
            .map(|i| IntervalRow::of(i, Nanos(ORIGIN)))
            .collect();
        assert_eq!(trial.intervals, rows);
        assert_eq!(
            (rows[2].start_s, rows[2].length_s, rows[2].delivered),
            (2.0, 1.0, 40)
        );
        assert_eq!(
            rows[2].latency_ns_max, rows[1].latency_ns_max,
            "unmeasured samples are in the row"
        );
    }
    assert_eq!(run.trials_of(1).count(), 2);
    assert_eq!(run.cell(&run.trials[1]).unwrap().id, "ws-h1");
}

#[test]
fn a_distribution_that_came_as_a_whole_is_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let mut small = manifest("feed");
    (small.plan.repeats, small.plan.cells) = (1, vec![cell("sse-h1", "sse")]);
    let mut run = RunWriter::create(parent.path(), small).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    let delivered = write_intervals(&mut trial);
    let mut delays = Histogram::new();
    (1..=1_000).for_each(|i| delays.record(i * 1_000));
    trial.distribution(Metric::FanoutDelay, &delays).unwrap();
    trial.finish(summary(delivered), None).unwrap();
    run.finish(RunStatus::Complete, None).unwrap();
    let read = Run::open(run.dir()).unwrap();
    assert_eq!(read.trials[0].histograms.get(Metric::FanoutDelay), Some(&delays));
    assert_eq!(read.trials[0].verdict.findings, []);
    let log = fs::read_to_string(first_trial(run.dir()).join("fanout_delay.hlog")).unwrap();
    assert!(
        log.lines().any(|l| l.starts_with("0.000,3.000,")),
        "one line over the whole trial: {log}"
    );
}

#[test]
fn every_file_is_where_the_layout_says() {
    let parent = tempfile::tempdir().unwrap();
    let dir = complete_run(parent.path());
    let names = |dir: &std::path::Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&dir), "manifest.json scenario.toml summary.csv trials");
    assert_eq!(
        names(&dir.join("trials")),
        "000-sse-h1-r1 001-ws-h1-r1 002-ws-h1-r2 003-sse-h1-r2"
    );
    assert_eq!(
        names(&first_trial(&dir)),
        "connect_time.hlog events.csv intervals.csv latency.hlog send_delay.hlog server.json service_time.hlog trial.json"
    );

    let mut summary = csv::Reader::from_path(dir.join("summary.csv")).unwrap();
    let header = summary.headers().unwrap().clone();
    let rows: Vec<_> = summary.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    let value = |row: usize, name: &str| {
        let at = header
            .iter()
            .position(|h| h == name)
            .unwrap_or_else(|| panic!("no column {name}: {header:?}"));
        rows[row][at].to_owned()
    };
    let latency = Run::open(&dir).unwrap().trials[0]
        .histograms
        .get(Metric::Latency)
        .cloned()
        .unwrap();
    for (name, expected) in [
        ("index", "2".to_owned()),
        ("repeat", "1".to_owned()),
        ("cell", "ws-h1".to_owned()),
        ("transport", "ws".to_owned()),
        ("carrier", "h1".to_owned()),
        ("point", "0.1".to_owned()),
        ("grade", "valid".to_owned()),
        ("latency_ns_p50", latency.quantile(0.5).unwrap().to_string()),
        ("latency_ns_p999", latency.quantile(0.999).unwrap().to_string()),
        ("latency_ns_max", latency.max().unwrap().to_string()),
        ("connect_time_ns_p99", "1234943".to_owned()),
        ("delivered_once", "60".to_owned()),
        ("lost_dropped_by_server", "0".to_owned()),
        ("deliveries_per_s", "23.9999999904".to_owned()),
        ("generator_cpu_us_per_delivery", String::new()),
        ("sessions_established", "2".to_owned()),
    ] {
        assert_eq!(value(2, name), expected, "{name}");
    }
}

#[test]
fn a_killed_run_is_read_up_to_its_last_flush() {
    let parent = tempfile::tempdir().unwrap();
    let run = Run::open(&killed_run(parent.path())).unwrap();
    assert_eq!(run.manifest.status, RunStatus::Running);
    assert_eq!(run.manifest.status_reason, None);
    assert!(!run.is_complete());
    let trial = &run.trials[0];
    assert_eq!((trial.summary.as_ref(), trial.intervals.len()), (None, 3));
    assert_eq!(trial.histograms.count(Metric::Latency), 60);
    assert_eq!(trial.verdict.grade(), Grade::Invalid);
    assert!(
        trial.verdict.findings[0]
            .reason
            .starts_with("the trial never ended: "),
        "{:?}",
        trial.verdict
    );
}

#[test]
fn a_run_is_complete_only_with_all_its_trials() {
    let parent = tempfile::tempdir().unwrap();
    let dir = complete_run(parent.path());
    let complete = Run::open(&dir).unwrap();
    type Change = fn(&mut Run);
    let changes: [(&str, Change); 6] = [
        ("status", |r| r.manifest.status = RunStatus::Partial),
        ("a trial less", |r| drop(r.trials.pop())),
        ("a trial more", |r| r.manifest.plan.repeats = 1),
        ("a trial that never ended", |r| r.trials[1].summary = None),
        ("other trials", |r| r.trials[1].cell_index = 0),
        ("more repeats than can be counted", |r| {
            r.manifest.plan.repeats = u32::MAX
        }),
    ];
    for (what, change) in changes {
        let mut run = complete.clone();
        change(&mut run);
        assert!(!run.is_complete(), "{what}");
    }
    fs::remove_file(first_trial(&dir).join("trial.json")).unwrap();
    assert!(!Run::open(&dir).unwrap().is_complete());
}

#[test]
fn books_that_do_not_fit_the_latency_log_are_invalid() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    write_intervals(&mut trial);
    trial.finish(summary(61), None).unwrap();
    let verdict = &Run::open(run.dir()).unwrap().trials[0].verdict;
    assert_eq!(verdict.grade(), Grade::Invalid);
    assert!(verdict.findings[0].reason.contains("61 messages"), "{verdict:?}");
    assert!(
        fs::read_to_string(run.dir().join("summary.csv"))
            .unwrap()
            .contains(",invalid,")
    );
}

#[test]
fn notes_and_reasons_reach_the_manifest() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    run.add_note("few open files").unwrap();
    run.finish(RunStatus::Partial, Some("interrupted".to_owned()))
        .unwrap();
    let read = Run::open(run.dir()).unwrap();
    assert_eq!(&read.manifest, run.manifest());
    assert_eq!(read.manifest.status_reason.as_deref(), Some("interrupted"));
    assert_eq!(read.manifest.notes, ["a note", "few open files"]);
}

#[test]
fn a_trial_without_intervals_reads_as_one() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    trial.events(&[event(3, "early"), event(1, "earlier")]).unwrap();
    trial.finish(summary(0), None).unwrap();
    let trial = &Run::open(run.dir()).unwrap().trials[0];
    assert!(trial.intervals.is_empty() && trial.histograms.is_empty());
    assert_eq!(trial.verdict.grade(), Grade::Invalid);
    let events = fs::read_to_string(first_trial(run.dir()).join("events.csv")).unwrap();
    assert_eq!(
        events,
        "session,at_s,kind,detail\n3,0.000000,failed,early\n1,0.000000,failed,earlier\n"
    );
}

#[test]
fn a_trial_is_begun_once_and_of_a_cell_that_exists() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    let error = run.begin_trial(0, 0, 2).unwrap_err().to_string();
    assert!(
        error.contains("of cell 2") && error.contains("2 cells"),
        "{error}"
    );
    let _first = run.begin_trial(0, 0, 0).unwrap();
    assert!(run.begin_trial(0, 0, 0).is_err());
}

#[test]
fn writers_may_move_between_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<RunWriter>();
    is_send::<pushmark_results::TrialWriter>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn intervals_add_up_to_totals(seconds in proptest::collection::vec(proptest::collection::vec(0u64..60_000_000_000, 0..12), 0..8)) {
        let parent = tempfile::tempdir().unwrap();
        let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
        let mut trial = run.begin_trial(0, 0, 0).unwrap();
        let mut whole = Histogram::new();
        for (n, latencies) in (0..).zip(&seconds) {
            latencies.iter().for_each(|l| whole.record(*l));
            trial.interval(&interval(n, latencies)).unwrap();
        }
        trial.finish(summary(whole.count()), None).unwrap();
        let read = &Run::open(run.dir()).unwrap().trials[0];
        prop_assert_eq!(read.intervals.len(), seconds.len());
        prop_assert_eq!(read.intervals.iter().map(|i| i.delivered).sum::<u64>(), 2 * whole.count());
        prop_assert_eq!(read.histograms.get(Metric::Latency).cloned().unwrap_or_default(), whole);
        prop_assert_eq!(read.histograms.count(Metric::Latency), read.histograms.count(Metric::ServiceTime));
    }
}
