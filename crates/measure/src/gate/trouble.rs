//! Scenarios that break something on purpose: what is compared is how soon it was noticed, and who came back.
//!
//! Two servers cannot be broken in turns of a tenth of a second, so each has a whole trial of its own within the block,
//! one after the other, in the order of the coin. What a fault takes with it is no broken promise.

use std::collections::BTreeMap;

use super::difference::{Metric, Role};
use super::evidence::Side;
use crate::fault::Detection;
use crate::histogram::Histogram;
use crate::summary::TrialSummary;

/// How soon clients noticed.
const DETECTION: &str = "detection_time_p50";
const SERVER_DETECTION: &str = "server_detection_time_p50";
const UNDETECTED: &str = "undetected";
const SERVER_UNDETECTED: &str = "server_undetected";
/// How soon sessions were usable again once there was a server.
const RECONNECT: &str = "time_to_reconnect_p50";
const RECONNECT_P99: &str = "time_to_reconnect_p99";
const NOT_RECOVERED: &str = "not_recovered";
/// Shares of what a scenario with faults is written for.
pub(super) const SHARES: [&str; 3] = [UNDETECTED, SERVER_UNDETECTED, NOT_RECOVERED];
/// The kind of fault that damages what is on its way.
pub(super) const CORRUPT: &str = "corrupt";
/// Shorter times count as this one, in nanoseconds: who is back before the server was gone for good is back in no time.
const SHORTEST: f64 = 1e6;
/// A 99th percentile of fewer says nothing.
const LEAST_FOR_P99: u64 = 1_000;

/// Metrics of a scenario with faults: what it was written for is to be proven, the rest is tested.
pub(super) fn metrics(scenario: &str) -> Vec<Metric> {
    let required = |metric: Metric| Metric {
        role: Role::Required,
        ..metric
    };
    let tested = |metric: Metric| Metric {
        role: Role::Tested,
        ..metric
    };
    vec![
        required(Metric::time(scenario, DETECTION)),
        Metric::time(scenario, SERVER_DETECTION),
        required(Metric::fraction(scenario, UNDETECTED)),
        required(Metric::fraction(scenario, SERVER_UNDETECTED)),
        required(Metric::time(scenario, RECONNECT)),
        Metric::time(scenario, RECONNECT_P99),
        required(Metric::fraction(scenario, NOT_RECOVERED)),
        tested(Metric::fraction(scenario, "loss")),
    ]
}

/// Whether these figures are those of a scenario with faults.
pub(super) fn are_of_faults(values: &BTreeMap<String, f64>) -> bool {
    SHARES.iter().any(|name| values.contains_key(*name))
}

/// Whether something was broken on purpose.
pub(super) fn breaks(s: &TrialSummary) -> bool {
    !s.faults.is_empty() || s.recovery.is_some()
}

/// A metric's name as people read it; `None` when it is none of these.
pub(super) fn words(name: &str) -> Option<&'static str> {
    Some(match name {
        DETECTION => "detection time p50",
        SERVER_DETECTION => "server's detection time p50",
        UNDETECTED => "deaths not noticed",
        SERVER_UNDETECTED => "deaths that the server did not notice",
        RECONNECT => "time to reconnect p50",
        RECONNECT_P99 => "time to reconnect p99",
        NOT_RECOVERED => "sessions not recovered",
        _ => return None,
    })
}

/// The middle of what a trial timed in which something broke: of coming back, else of noticing.
pub(super) fn timed_ns(s: &TrialSummary) -> Option<u64> {
    let back = s
        .recovery
        .as_ref()
        .and_then(|r| r.time_to_reconnect.quantile(0.5));
    let noticed = || {
        s.faults
            .iter()
            .filter_map(|f| f.client.as_ref()?.time.quantile(0.5))
            .max()
    };
    back.or_else(noticed)
}

fn at_least_the_shortest(ns: u64) -> f64 {
    (ns as f64).max(SHORTEST)
}

/// One side's figures; `None` where nobody was to die and nobody to come back: what a lossy or slow line makes of a server
/// shows in the ordinary figures. Beside each share, of how many it is.
pub(super) fn figures(side: &Side) -> Option<(BTreeMap<String, f64>, BTreeMap<String, u64>)> {
    let s = &side.summary;
    if !breaks(s) {
        return None;
    }
    let (mut values, mut shares_of) = (BTreeMap::new(), BTreeMap::new());
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            values.insert(name.to_owned(), value);
        }
    };
    let share = |part: u64, of: u64| (of > 0).then(|| part.min(of) as f64 / of as f64);
    let of = |which: fn(&crate::fault::FaultOutcome) -> Option<&Detection>| -> Vec<&Detection> {
        s.faults.iter().filter_map(which).collect()
    };
    let middle = |all: &[&Detection]| {
        let mut time = Histogram::default();
        all.iter().for_each(|d| time.merge(&d.time));
        time.quantile(0.5).map(at_least_the_shortest)
    };
    let (client, server) = (of(|f| f.client.as_ref()), of(|f| f.server.as_ref()));
    put(DETECTION, middle(&client));
    put(SERVER_DETECTION, middle(&server));
    for (name, all) in [(UNDETECTED, &client), (SERVER_UNDETECTED, &server)] {
        let sum = |f: fn(&Detection) -> u64| all.iter().map(|d| f(d)).sum();
        put(name, share(sum(|d| d.undetected), sum(|d| d.affected)));
        shares_of.insert(name.to_owned(), sum(|d| d.affected));
    }
    if let Some(r) = &s.recovery {
        let time = &r.time_to_reconnect;
        put(RECONNECT, time.quantile(0.5).map(at_least_the_shortest));
        let p99 = time.quantile(0.99).filter(|_| time.count() >= LEAST_FOR_P99);
        put(RECONNECT_P99, p99.map(at_least_the_shortest));
        put(
            NOT_RECOVERED,
            share(r.cut_off.saturating_sub(r.recovered), r.cut_off),
        );
        shares_of.insert(NOT_RECOVERED.to_owned(), r.cut_off);
    }
    if s.expects_messages {
        put("loss", share(s.books.lost, s.books.expected));
        shares_of.insert("loss".to_owned(), s.books.expected);
    }
    are_of_faults(&values).then_some((values, shares_of))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Block, Course, Figures, Promises, walk};
    use super::super::{Machine, Outcome, Plan, SensorLimits, Standing};
    use super::*;
    use crate::fault::{FaultOutcome, Recovery};

    /// A trial in which 100 sessions were cut off, noticed after `noticed_ms`, and `back` of them came back after `back_ms`.
    fn side(noticed_ms: u64, back_ms: u64, back: u64) -> Side {
        let mut side = Side {
            alone: true,
            ..Side::default()
        };
        let s = &mut side.summary;
        let mut client = Detection {
            affected: 100,
            ..Detection::default()
        };
        let mut recovery = Recovery {
            cut_off: 100,
            recovered: back,
            ..Recovery::default()
        };
        for i in 0..100 {
            client.time.record(noticed_ms * 1_000_000 + i);
            recovery.time_to_reconnect.record(back_ms * 1_000_000 + i);
        }
        s.expects_messages = true;
        (s.books.expected, s.books.lost) = (1_000, 100);
        (s.books.scheduled, s.books.sent) = (10, 5);
        s.sessions_ended_early = 100;
        s.faults = vec![FaultOutcome {
            client: Some(client),
            ..FaultOutcome::default()
        }];
        s.recovery = Some(recovery);
        side
    }

    fn found(candidate: impl Fn(u64) -> Side) -> super::super::Found {
        let mut course = Course {
            scenario: "herd".into(),
            ..Course::default()
        };
        for k in 0..10 {
            let noise = k * 7 % 5;
            course.blocks.push(Block::of(
                k % 2 == 0,
                &side(500 + noise, 800 + noise, 100),
                &candidate(k),
            ));
        }
        course.choose_metrics();
        assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
        walk(
            &[course],
            &Plan::spending(&[10], 0.01).unwrap(),
            &SensorLimits::default(),
        )
        .unwrap()
    }

    #[test]
    fn alike_arms_pass_though_sessions_are_cut_off_and_messages_lost() {
        let found = found(|k| side(500 + k * 3 % 5, 800 + k * 3 % 5, 100));
        assert_eq!(found.judgement.outcome, Outcome::Pass, "{found:#?}");
        let names: Vec<_> = found.judgement.readings.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, [DETECTION, UNDETECTED, RECONNECT, NOT_RECOVERED, "loss"]);
    }

    #[test]
    fn loops_that_are_late_beside_nothing_but_a_second_still_time_seconds() {
        let late = |mut side: Side| {
            side.summary.loop_delay_p99_ns = Some(3_000_000);
            side
        };
        let mut course = Course {
            scenario: "herd".into(),
            ..Course::default()
        };
        for k in 0..10 {
            let (b, c) = (side(500, 800 + k, 100), side(500, 5_000 + k, 100));
            course.blocks.push(Block::of(k % 2 == 0, &late(b), &late(c)));
        }
        course.choose_metrics();
        let plan = Plan::spending(&[10], 0.01).unwrap();
        let found = walk(&[course], &plan, &SensorLimits::default()).unwrap();
        assert_eq!(found.machine, Machine::Fit);
        assert_eq!(found.judgement.outcome, Outcome::Regression);
    }

    #[test]
    fn what_the_server_did_not_notice_is_a_regression_and_no_word_of_it_no_pass() {
        let with = |undetected: Option<u64>, k: u64| {
            let mut side = side(500 + k * 3 % 5, 800 + k * 3 % 5, 100);
            side.summary.faults[0].server = undetected.map(|undetected| Detection {
                affected: 100,
                undetected,
                ..Detection::default()
            });
            side
        };
        let course = |candidate: Option<u64>| {
            let mut course = Course {
                scenario: "dead".into(),
                ..Course::default()
            };
            for k in 0..10 {
                let (b, c) = (with(Some(0), k), with(candidate, k));
                course.blocks.push(Block::of(k % 2 == 0, &b, &c));
            }
            let notes = course.choose_metrics().join("\n");
            (course, notes)
        };
        let said = |course: &Course| {
            let plan = Plan::spending(&[10], 0.01).unwrap();
            let found = walk(std::slice::from_ref(course), &plan, &SensorLimits::default());
            found.unwrap().judgement.outcome
        };
        let (alike, _) = course(Some(0));
        assert_eq!(said(&alike), Outcome::Pass);
        let (some, _) = course(Some(3));
        assert_eq!(
            (said(&some), some.broken(&SensorLimits::default())),
            (Outcome::Regression, vec![])
        );
        let (all, _) = course(Some(100));
        assert!(all.broken(&SensorLimits::default())[0].contains("the server did not notice: 100 %"));
        let (silent, notes) = course(None);
        assert_eq!(said(&silent), Outcome::Inconclusive);
        assert!(
            notes.contains("did not notice cannot be proven: the candidate does not tell it"),
            "{notes}"
        );
    }

    #[test]
    fn where_nobody_dies_the_ordinary_figures_are_judged() {
        let lossy = |kind: &str| {
            let mut side = Side::default();
            for i in 0..1_000 {
                side.latency.record(1_000_000 + i);
            }
            side.summary.expects_messages = true;
            (side.summary.books.expected, side.summary.books.lost) = (1_000, 7);
            (side.summary.books.corrupt, side.summary.sessions_ended_early) = (3, 4);
            side.summary.faults = vec![FaultOutcome {
                kind: kind.into(),
                ..FaultOutcome::default()
            }];
            Figures::of(&side)
        };
        let figures = lossy("loss");
        assert!(!are_of_faults(&figures.values));
        assert!(figures.values.contains_key("latency_p50"));
        // A line that loses does not damage what it brings.
        let damaged = Promises {
            corrupt: 3,
            ..Promises::default()
        };
        assert_eq!(figures.promises, damaged);
        assert_eq!(lossy(CORRUPT).promises, Promises::default());
    }

    #[test]
    fn coming_back_later_or_not_at_all_is_a_regression_by_name() {
        for (name, candidate) in [
            (DETECTION, [600, 800, 100]),
            (RECONNECT, [500, 1_000, 100]),
            (NOT_RECOVERED, [500, 800, 98]),
        ] {
            let [noticed, back, recovered] = candidate;
            let found = found(|k| side(noticed + k * 3 % 5, back + k * 3 % 5, recovered));
            assert_eq!(found.judgement.outcome, Outcome::Regression, "{name}");
            for r in &found.judgement.readings {
                assert_eq!(r.standing == Standing::Regression, r.name == name, "{r:?}");
            }
        }
    }
}
