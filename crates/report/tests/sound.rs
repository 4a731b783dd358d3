//! What must hold of every report: the same bytes again, names that cannot act, no claim without a clear winner, no
//! panic whatever the numbers.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use pushmark_measure::{Books, Cost, Counters, Grade, Histograms, Metric, TrialSummary, Verdict};
use pushmark_report::comparison::Value;
use pushmark_report::{Check, Comparison, answer, check_expectations, render};
use pushmark_results::plan::{Comparison as Sign, ExpectMetric};
use pushmark_results::run::{Run, RunStatus};

fn file<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> &'a str {
    let (_, bytes) = files.iter().find(|(path, _)| path == name).unwrap();
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    for (name, run) in support::all() {
        let mut elsewhere = run.clone();
        elsewhere.dir = "another/place".into();
        assert!(render(&run).unwrap() == render(&elsewhere).unwrap(), "{name}");
    }
}

#[test]
fn every_file_is_there() {
    let names = |run: &Run| {
        render(run)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect::<Vec<_>>()
    };
    insta::assert_snapshot!(
        "files",
        [
            format!("well: {}", names(&support::well()).join(" ")),
            format!("sweep: {}", names(&support::sweep()).join(" ")),
            format!(
                "connect: {}",
                names(&support::connect_run(&[support::WS, support::SSE], 2)).join(" ")
            ),
            format!(
                "no cells: {}",
                names(&support::empty_run("empty", "?", 1)).join(" ")
            ),
        ]
        .join("\n")
    );
}

#[test]
fn names_cannot_act() {
    let files = render(&support::hostile()).unwrap();
    for (path, bytes) in &files {
        let Ok(text) = std::str::from_utf8(bytes) else {
            continue;
        };
        let acting = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(acting), "{path}");
        if path != "table.txt" && !path.ends_with(".json") {
            assert!(!text.contains("<script"), "{path}");
        }
    }
    let page = file(&files, "report.html");
    assert_eq!(page.matches("</pre>").count(), 1);
    assert!(
        page.contains("&lt;script&gt;") || page.contains("&lt;script&#x2f;") || page.contains("&lt;script")
    );
    // A name in a table's cell neither ends the row nor starts another cell.
    let markdown = file(&files, "report.md");
    let widths: Vec<usize> = markdown
        .lines()
        .filter(|l| l.starts_with("| latency"))
        .map(|l| l.replace("\\|", "").matches('|').count())
        .collect();
    assert!(!widths.is_empty() && widths.iter().all(|w| *w == 5), "{widths:?}");
}

#[test]
fn the_page_stands_alone() {
    for (name, run) in support::all() {
        let files = render(&run).unwrap();
        let page = file(&files, "report.html").replace("http://www.w3.org/2000/svg", "");
        for outside in [
            "http://", "https://", "src=", "href=", "<script", "@import", "url(",
        ] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
    }
}

fn winner(run: &Run, key: &str) -> Option<usize> {
    Comparison::of(run).last_point().unwrap().row(key).unwrap().winner
}

#[test]
fn winners() {
    let well = support::well();
    assert_eq!(winner(&well, "latency_ns_p99"), Some(0));
    assert_eq!(winner(&well, "server_cpu_us_per_delivery"), Some(1));
    // A rate set by the schedule is won by nobody, however exactly it repeats.
    assert_eq!(winner(&well, "deliveries_per_second"), None);
    // Counts have no winner, nor has what rests on too few samples.
    assert_eq!(winner(&support::losses(), "lost"), None);
    assert_eq!(winner(&well, "send_delay_ns_p99"), None);
    assert_eq!(winner(&support::no_winner(), "latency_ns_p99"), None);
    // One repeat shows no spread to beat.
    assert_eq!(
        winner(
            &support::push_run(&[support::WS, support::POLL], &[1000], 1),
            "latency_ns_p99"
        ),
        None
    );

    // An invalid variant neither wins nor is beaten.
    let mut run = support::push_run(&[support::WS, support::SSE], &[1000], 3);
    for trial in run.trials.iter_mut().filter(|t| t.cell_index == 0) {
        trial.verdict.add(Grade::Invalid, "wrong");
    }
    assert_eq!(winner(&run, "latency_ns_p99"), None);
    assert_eq!(winner(&support::invalid(), "latency_ns_p99"), Some(0));

    // A rate that falls short by more than the clock's share is behind.
    let mut run = support::push_run(&[support::WS, support::SSE], &[1000], 3);
    for trial in run.trials.iter_mut().filter(|t| t.cell_index == 1) {
        trial.summary.as_mut().unwrap().books.delivered_once /= 2;
    }
    assert_eq!(winner(&run, "deliveries_per_second"), Some(0));
}

#[test]
fn missing_is_not_zero() {
    let comparison = Comparison::of(&support::missing());
    let point = comparison.last_point().unwrap();
    for key in [
        "latency_ns_p99",
        "connect_time_ns_p50",
        "server_cpu_us_per_delivery",
    ] {
        assert_eq!(point.row(key).unwrap().values[1], Value::Missing, "{key}");
    }
    assert!(matches!(
        point.row("latency_ns_p999").unwrap().values[0],
        Value::Spread { thin: true, .. }
    ));
    assert!(matches!(
        point.row("latency_ns_p50").unwrap().values[0],
        Value::Spread { thin: false, .. }
    ));
}

#[test]
fn doubt_is_on_the_face_of_everything() {
    for (run, word) in [
        (support::invalid(), "invalid"),
        (support::partial(), "suspect"),
        (support::missing(), "quick"),
    ] {
        for (path, bytes) in render(&run).unwrap() {
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(text.contains(word), "{path} does not say {word}");
        }
    }
}

fn checks(run: &mut Run, metric: ExpectMetric, sign: Sign, limit: f64) -> Vec<Check> {
    run.manifest.plan.expect = vec![support::expect(metric, sign, limit, "…")];
    check_expectations(run)
}

#[test]
fn thresholds() {
    let held = |checks: &[Check]| checks.iter().map(|c| c.held).collect::<Vec<_>>();
    let p99 = ExpectMetric::Latency(0.99);
    let mut well = support::well();
    assert_eq!(
        held(&checks(&mut well, p99, Sign::Less, 5e6)),
        [true, true, false]
    );
    assert_eq!(
        held(&checks(&mut well, ExpectMetric::Lost, Sign::Equal, 0.0)),
        [true; 3]
    );
    assert_eq!(
        held(&checks(
            &mut well,
            ExpectMetric::FailedConnects,
            Sign::AtMost,
            0.0
        )),
        [true; 3]
    );
    assert_eq!(
        held(&checks(
            &mut well,
            ExpectMetric::DeliveriesPerSecond,
            Sign::AtLeast,
            9_990.0
        )),
        [true; 3]
    );
    assert_eq!(held(&checks(&mut well, p99, Sign::Less, f64::NAN)), [false; 3]);
    assert_eq!(
        held(&checks(&mut well, ExpectMetric::Latency(7.0), Sign::Greater, 0.0)),
        [false; 3]
    );

    // Counts must hold in every repeat.
    let mut one_bad = support::well();
    one_bad.trials[0].summary.as_mut().unwrap().books.lost = 3;
    let result = checks(&mut one_bad, ExpectMetric::Lost, Sign::AtMost, 2.0);
    assert_eq!(
        (held(&result), result[0].measured),
        (vec![false, true, true], Some(3.0))
    );

    // What was not measured never holds, and says why.
    let mut missing = support::missing();
    let result = checks(&mut missing, p99, Sign::Less, 1e12);
    assert_eq!(held(&result), [true, false, true]);
    assert!(result[1].remark.is_some());
    let mut connect = support::connect_run(&[support::WS], 2);
    assert_eq!(
        held(&checks(&mut connect, ExpectMetric::Lost, Sign::Equal, 0.0)),
        [false]
    );
    assert_eq!(
        held(&checks(
            &mut connect,
            ExpectMetric::ConnectTime(0.5),
            Sign::Less,
            1e9
        )),
        [true]
    );

    // Neither an unfinished repeat nor an invalid one can hold; a suspect one says so.
    let result = checks(&mut support::partial(), p99, Sign::Less, 1e12);
    assert_eq!(held(&result), [false; 3]);
    assert_eq!(result[0].remark.as_deref(), Some("2 of 3 repeats finished"));
    let result = checks(&mut support::invalid(), p99, Sign::Less, 1e12);
    assert_eq!(held(&result), [true, true, false]);
    assert_eq!(result[1].remark.as_deref(), Some("a trial is suspect"));
}

#[test]
fn a_run_without_a_finished_trial_says_so() {
    for run in [support::nothing(), support::empty_run("empty", "?", 3)] {
        let comparison = Comparison::of(&run);
        assert_eq!(comparison.quality.grade, Grade::Invalid);
        assert!(answer(&comparison).contains("No trial finished"));
        assert!(file(&render(&run).unwrap(), "report.html").contains("No trial finished"));
    }
}

prop_compose! {
    fn number()(small in 0_u64..5, any in any::<u64>(), pick in 0..4) -> u64 {
        match pick { 0 => 0, 1 => small, 2 => u64::MAX, _ => any }
    }
}

prop_compose! {
    fn maybe()(some in any::<bool>(), n in number()) -> Option<u64> { some.then_some(n) }
}

prop_compose! {
    fn seconds()(pick in 0..6, any in any::<f64>()) -> f64 {
        match pick { 0 => 0.0, 1 => f64::NAN, 2 => f64::INFINITY, 3 => 1.0, 4 => -1.0, _ => any }
    }
}

prop_compose! {
    fn cost()(user in maybe(), system in maybe(), before in maybe(), after in maybe()) -> Cost {
        Cost { cpu_user_ns: user, cpu_system_ns: system, rss_before_bytes: before, rss_after_bytes: after }
    }
}

prop_compose! {
    fn summary()(n in prop::collection::vec(number(), 14), server in cost(), generator in cost(), messages in any::<bool>(), ms in 0_u64..10) -> TrialSummary {
        TrialSummary {
            sessions_planned: n[0],
            expects_messages: messages,
            measured: Duration::from_millis(ms),
            books: Books {
                scheduled: n[1], sent: n[2], not_sent: n[3], expected: n[4], delivered_once: n[5], lost: n[6],
                lost_dropped_by_server: n[7], duplicated: n[8], reordered: n[9], late: n[10], foreign: n[11],
                corrupt: n[12], overflowed_trackers: 0,
            },
            counters: Counters { attempted: n[13], established: n[0], failed: n[6], ..Counters::default() },
            server,
            generator,
            ..TrialSummary::default()
        }
    }
}

prop_compose! {
    fn any_run()(
        points in prop::collection::vec(seconds(), 1..4),
        repeats in prop::sample::select(vec![0_u32, 1, 2, 3, u32::MAX]),
        trials in prop::collection::vec(
            (prop::option::weighted(0.8, summary()), prop::collection::vec((number(), 0_usize..6), 0..8),
             prop::collection::vec((seconds(), seconds(), maybe(), number()), 0..4), 0_usize..9, 0_usize..3),
            0..8),
        status in 0_usize..3,
        connect in any::<bool>(),
    ) -> Run {
        let mut run = if connect {
            support::connect_run(&[support::WS, support::SSE], 1)
        } else {
            support::push_run(&[support::WS, support::SSE], &[10], 1)
        };
        let rows = run.trials[0].intervals.clone();
        let cells = run.manifest.plan.cells.clone();
        run.manifest.plan.cells = points.iter().flat_map(|p| cells.iter().cloned().map(|mut c| { c.point = Some(*p); c })).collect();
        run.manifest.plan.repeats = repeats;
        run.manifest.status = [RunStatus::Running, RunStatus::Complete, RunStatus::Partial][status];
        let template = run.trials.remove(0);
        run.trials = trials.into_iter().enumerate().map(|(index, (summary, samples, intervals, cell, grade))| {
            let mut trial = template.clone();
            trial.index = index as u32;
            trial.repeat = if index == 3 { u32::MAX } else { index as u32 };
            trial.cell_index = cell;
            trial.summary = summary;
            trial.histograms = Histograms::default();
            for (value, metric) in samples {
                trial.histograms.record(Metric::ALL[metric], value);
            }
            trial.verdict = Verdict::default();
            if grade > 0 {
                trial.verdict.add([Grade::Valid, Grade::Suspect, Grade::Invalid][grade], "reason");
            }
            trial.intervals = intervals.into_iter().zip(&rows).map(|((start, length, latency, delivered), row)| {
                let mut row = row.clone();
                (row.start_s, row.length_s, row.delivered) = (start, length, delivered);
                (row.latency_ns_p50, row.latency_ns_p99) = (latency, latency);
                row
            }).collect();
            trial
        }).collect();
        run
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_number_makes_it_panic(run in any_run()) {
        let files = render(&run).unwrap();
        prop_assert!(files.len() >= 4);
        check_expectations(&run);
        pushmark_report::table::text(&Comparison::of(&run), true);
    }
}
