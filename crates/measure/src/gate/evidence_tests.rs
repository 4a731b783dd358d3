//! What both arms did, made up, and what is said of it.

use super::*;

fn side(latency_ns: u64, cpu_ns: u64) -> Side {
    let mut side = Side::default();
    let s = &mut side.summary;
    s.expects_messages = true;
    s.sessions_planned = 10;
    s.counters.established = 10;
    s.measured = std::time::Duration::from_secs(4);
    (s.books.scheduled, s.books.sent) = (400, 400);
    (s.books.expected, s.books.delivered_once) = (4_000, 4_000);
    (s.server.cpu_user_ns, s.server.cpu_system_ns) = (Some(cpu_ns), Some(0));
    (s.server.rss_before_bytes, s.server.rss_after_bytes) = (Some(1 << 20), Some(2 << 20));
    s.loop_delay_p99_ns = Some(100_000);
    for i in 0..4_000 {
        side.latency.record(latency_ns + i);
        side.connect_time.record(1_000_000 + i);
    }
    side.seconds = vec![(1_000, latency_ns as f64 * 2.0); 4];
    side
}

fn course(blocks: usize, change: impl Fn(usize, &mut Side)) -> Course {
    let mut course = Course {
        scenario: "feed".into(),
        ..Course::default()
    };
    for k in 0..blocks {
        // A little noise, alike for both.
        let noise = 1_000 * (k as u64 * 7 % 5);
        let (b, mut c) = (
            side(900_000 + noise, 40_000_000 + noise),
            side(900_000 + noise, 40_000_000 + 2 * noise),
        );
        change(k, &mut c);
        course.blocks.push(Block::of(k % 2 == 0, &b, &c));
    }
    course
}

fn plan() -> Plan {
    Plan::spending(&[10], 0.01).unwrap()
}

#[test]
fn alike_arms_pass() {
    let mut course = course(10, |_, _| ());
    assert_eq!(course.choose_metrics(), [""; 0]);
    assert_eq!(course.metrics.len(), 9);
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
    let found = walk(&[course], &plan(), &SensorLimits::default()).unwrap();
    assert_eq!(found.judgement.outcome, Outcome::Pass, "{found:#?}");
}

#[test]
fn more_processor_time_is_a_regression_of_that_metric_alone() {
    let mut course = course(10, |_, c| c.summary.server.cpu_user_ns = Some(44_000_000));
    course.choose_metrics();
    let found = walk(&[course], &plan(), &SensorLimits::default()).unwrap();
    assert_eq!(found.judgement.outcome, Outcome::Regression);
    for r in &found.judgement.readings {
        assert_eq!(
            r.standing == super::super::Standing::Regression,
            r.name == CPU,
            "{r:?}"
        );
    }
}

#[test]
fn one_kib_more_a_connection_is_named() {
    let mut course = course(10, |_, c| {
        c.summary.server.rss_before_bytes = Some(1 << 20);
        c.summary.server.rss_after_bytes = Some((1 << 20) + 10 * 9 * 1024);
    });
    for block in &mut course.blocks {
        block.baseline.values.insert(MEMORY.into(), 8.0 * 1024.0);
    }
    course.choose_metrics();
    let found = walk(&[course], &plan(), &SensorLimits::default()).unwrap();
    let memory = found
        .judgement
        .readings
        .iter()
        .find(|r| r.name == MEMORY)
        .unwrap();
    assert_eq!(memory.standing, super::super::Standing::Regression);
}

#[test]
fn a_promise_is_broken_only_where_the_baseline_keeps_it() {
    let mut course = course(3, |k, c| c.summary.books.lost = u64::from(k == 1));
    let words = course.broken(&SensorLimits::default());
    assert_eq!(words.len(), 1);
    assert!(
        words[0].contains("lost") && words[0].contains("block 2"),
        "{words:?}"
    );
    assert!(!words[0].contains("in that block"), "{words:?}");
    course.blocks[1].sensors.steal = Some(0.9);
    let words = course.broken(&SensorLimits::default());
    assert!(
        words[0].ends_with("(in that block the hypervisor took 90 % away)"),
        "{words:?}"
    );
    // What a server drops by its own count is a matter of statistics.
    course.blocks[1].candidate.promises.lost = 0;
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
    course.blocks[0].candidate.promises.duplicated = 5;
    course.blocks[2].baseline.promises.duplicated = 1;
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
}

#[test]
fn what_is_missing_or_thin_is_left_out_by_name() {
    let mut course = course(10, |_, c| {
        c.summary.server.cpu_user_ns = Some(0);
        c.summary.server.rss_after_bytes = None;
        c.seconds = vec![(400, 1.0); 4];
    });
    let notes = course.choose_metrics().join("\n");
    for part in [
        "CPU per delivery cannot be proven: the candidate does not tell it",
        "memory per session cannot be proven: the candidate does not tell it",
        "latency p99 decides nothing: it needs 1000 samples a second",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    let names: Vec<&str> = course.metrics.iter().map(|m| m.name.as_str()).collect();
    assert!(names.contains(&CPU) && names.contains(&MEMORY) && names.contains(&P99));
    let found = walk(&[course.clone()], &plan(), &SensorLimits::default()).unwrap();
    assert_eq!(found.judgement.outcome, Outcome::Inconclusive);
    // What the baseline does not tell either cannot be asked for.
    for block in &mut course.blocks {
        block.baseline.values.remove(MEMORY);
        block.baseline.values.remove(CPU);
        block.candidate.values.insert(CPU.into(), 1.0);
    }
    let notes = course.choose_metrics().join("\n");
    for part in [
        "CPU per delivery is left out: the baseline does not tell it",
        "memory per session is left out: neither side tells it",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    assert!(course.metrics.iter().all(|m| m.name != CPU && m.name != MEMORY));
}

#[test]
fn half_of_everything_in_one_block_is_a_failure_by_name() {
    let mut course = course(10, |_, _| ());
    course.blocks[3].candidate.values.insert(LOSS.into(), 0.49);
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
    course.blocks[3].candidate.values.insert(LOSS.into(), 0.5);
    let words = course.broken(&SensorLimits::default()).join("\n");
    assert!(
        words.contains("loss: 50 %") && words.contains("block 4"),
        "{words}"
    );
    // Of one session, one is all.
    let of = |course: &mut Course, n: u64| course.blocks[3].candidate.shares_of.insert(LOSS.into(), n);
    of(&mut course, 9);
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
    of(&mut course, 10);
    assert_eq!(course.broken(&SensorLimits::default()).len(), 1);
    course.blocks[7].baseline.values.insert(LOSS.into(), 0.01);
    assert_eq!(course.broken(&SensorLimits::default()), [""; 0]);
}

#[test]
fn where_nothing_is_sent_connecting_is_what_is_proven() {
    let mut course = Course {
        scenario: "storm".into(),
        ..Course::default()
    };
    for k in 0..10u64 {
        let of = |extra: u64| {
            let mut s = side(0, 0);
            (s.summary.expects_messages, s.latency, s.seconds) = (false, Histogram::new(), Vec::new());
            s.connect_time.record(1_000_000 + extra);
            s
        };
        course.blocks.push(Block::of(k % 2 == 0, &of(k), &of(9 - k)));
    }
    assert_eq!(course.choose_metrics(), [""; 0]);
    let names: Vec<_> = course.metrics.iter().map(|m| (m.name.as_str(), m.role)).collect();
    assert_eq!(names, [(CONNECT, Role::Required)]);
    let found = walk(&[course], &plan(), &SensorLimits::default()).unwrap();
    assert_eq!(found.judgement.outcome, Outcome::Pass);
}

#[test]
fn a_server_that_does_not_know_slots_is_found_out() {
    let mut s = side(1, 1);
    s.planned = Some(400);
    assert_eq!(ignores_slots(&s), None);
    s.summary.books.sent = 900;
    assert!(ignores_slots(&s).unwrap().contains("900"));
}

#[test]
fn a_bad_block_is_missing_and_the_rest_is_judged() {
    let mut course = course(10, |_, _| ());
    course.blocks[3].sensors.loops[1].late_ns = 900_000_000;
    course.choose_metrics();
    let found = walk(&[course], &plan(), &SensorLimits::default()).unwrap();
    assert_eq!(found.validity[0].1.dropped_blocks(), [3]);
    assert!(found.judgement.readings.iter().all(|r| r.blocks == 9));
}

#[test]
fn the_same_evidence_gives_the_same_verdict_after_it_was_written() {
    let mut course = course(10, |k, c| {
        c.summary.server.cpu_user_ns = Some(41_000_000 + 300_000 * k as u64)
    });
    course.choose_metrics();
    let courses = [course];
    let found = walk(&courses, &plan(), &SensorLimits::default()).unwrap();
    let text = serde_json::to_string(&courses).unwrap();
    let again: [Course; 1] = serde_json::from_str(&text).unwrap();
    assert_eq!(table(&again), table(&courses));
    assert_eq!(walk(&again, &plan(), &SensorLimits::default()).unwrap(), found);
}
