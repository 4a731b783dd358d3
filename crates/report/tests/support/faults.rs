//! Synthetic runs in which something breaks.

use std::collections::BTreeMap;
use std::time::Duration;

use pushmark_measure::{Detection, FaultOutcome, Grade, Histogram, Recovery, SlowReading, Timeline};
use pushmark_results::plan::{Axis, Fault, FaultKind, ReconnectPolicy};
use pushmark_results::run::Run;

use super::{Behaviour, POLL, SSE, WS, push_run};

const MS: u64 = 1_000_000;

/// `count` values from `least` to `most` milliseconds, evenly in their logarithm.
fn times(count: u64, least_ms: f64, most_ms: f64) -> Histogram {
    let mut histogram = Histogram::new();
    for i in 0..count {
        let share = (i as f64 + 0.5) / count as f64;
        histogram.record((least_ms * (most_ms / least_ms).powf(share) * MS as f64) as u64);
    }
    histogram
}

fn noticed(affected: u64, count: u64, (least, most): (f64, f64), reason: &str) -> Option<Detection> {
    let mut by_reason = BTreeMap::new();
    if count > 0 {
        by_reason.insert(reason.to_owned(), count);
    }
    Some(Detection {
        affected,
        time: times(count, least, most),
        by_reason,
        undetected: affected - count,
        watched: Duration::from_secs(5),
    })
}

/// A run of these variants under each of these conditions, one cell for each pair.
fn under(variants: &[Behaviour], conditions: &[&str], repeats: u32) -> Run {
    let one = push_run(variants, &[1000], 1);
    let mut run = push_run(variants, &[1000], repeats);
    run.trials.clear();
    run.manifest.plan.cells.clear();
    run.manifest.plan.axis = (conditions.len() > 1).then_some(Axis::Condition);
    for (place, condition) in conditions.iter().enumerate() {
        for cell in &one.manifest.plan.cells {
            let mut cell = cell.clone();
            if conditions.len() > 1 {
                cell.id = format!("{}-k{place}", cell.id);
                cell.condition = (*condition).to_owned();
                cell.point = Some(place as f64);
            }
            run.manifest.plan.cells.push(cell);
        }
    }
    let samples = push_run(variants, &[1000], repeats);
    for (index, (repeat, cell_index)) in run.manifest.plan.trials().enumerate() {
        let like = |t: &&pushmark_results::run::TrialRecord| {
            t.repeat == repeat && t.cell_index == cell_index % variants.len()
        };
        let mut trial = samples.trials.iter().find(like).unwrap().clone();
        trial.index = index as u32;
        trial.cell_index = cell_index;
        run.trials.push(trial);
    }
    run
}

fn name(run: &mut Run, name: &str, question: &str) {
    run.manifest.plan.name = name.to_owned();
    run.manifest.plan.question = question.to_owned();
}

fn fault(at_s: u64, kind: FaultKind, lasts_s: Option<u64>) -> Fault {
    Fault {
        at: Duration::from_secs(at_s),
        kind,
        lasts: lasts_s.map(Duration::from_secs),
        share: 1.0,
    }
}

fn outcome(planned: &Fault, client: Option<Detection>, server: Option<Detection>) -> FaultOutcome {
    let onset = planned.at + Duration::from_millis(2);
    let cleared = planned.lasts.map(|l| onset + l);
    FaultOutcome {
        kind: planned.kind.as_str().to_owned(),
        onset,
        cleared,
        available: cleared.map(|c| c + Duration::from_millis(40)),
        share: planned.share,
        client,
        server,
    }
}

/// An orderly end, a crash and a black hole, with and without heartbeats.
pub(crate) fn detection() -> Run {
    let conditions = [
        "fin, no heartbeat",
        "fin, heartbeat 2s + 2s",
        "crash, no heartbeat",
        "crash, heartbeat 2s + 2s",
        "blackhole, no heartbeat",
        "blackhole, heartbeat 2s + 2s",
    ];
    let kinds = [FaultKind::Fin, FaultKind::Crash, FaultKind::Blackhole];
    let mut run = under(&[WS, SSE, POLL], &conditions, 2);
    name(
        &mut run,
        "detection",
        "How long does a dead connection go unnoticed?",
    );
    for (index, cell) in run.manifest.plan.cells.iter_mut().enumerate() {
        cell.faults = vec![fault(3, kinds[index / 6], None)];
    }
    for trial in &mut run.trials {
        let (place, variant) = (trial.cell_index / 3, trial.cell_index % 3);
        let planned = run.manifest.plan.cells[trial.cell_index].faults[0];
        let slower = 1.0 + variant as f64 * 0.4 + f64::from(trial.repeat) * 0.1;
        let beat = place % 2 == 1;
        let (client, server) = match place / 2 {
            0 => (
                noticed(1000, 1000, (0.4 * slower, 5.1 * slower), "clean-end"),
                noticed(1000, 1000, (0.3 * slower, 3.0 * slower), "clean-end"),
            ),
            1 => (noticed(1000, 1000, (1.2 * slower, 9.0 * slower), "reset"), None),
            _ if beat && variant == 2 => (
                noticed(1000, 1000, (2010.0, 4090.0), "timed-out"),
                noticed(1000, 700, (2100.0, 4950.0), "heartbeat"),
            ),
            _ if beat => (
                noticed(1000, 1000, (2000.0 * slower.min(1.02), 4030.0), "heartbeat"),
                noticed(1000, 1000, (2050.0, 4060.0), "heartbeat"),
            ),
            _ => (noticed(1000, 0, (1.0, 1.0), ""), noticed(1000, 0, (1.0, 1.0), "")),
        };
        let summary = trial.summary.as_mut().unwrap();
        summary.faults = vec![outcome(&planned, client, server)];
    }
    run
}

/// Attempts that follow a cut at 3 s that lasts 2 s, step by step.
fn attempts(policy: usize, variant: usize, sessions: u64) -> Vec<u64> {
    let mut steps = vec![0; 200];
    match (policy, variant) {
        (_, 0) if policy == 2 => (),
        // All together, once a second; the last of them finds the server.
        (0, _) => {
            for at in [40, 50] {
                steps[at + variant] = sessions * 9 / 10;
                steps[at + variant + 1] = sessions / 10;
            }
        }
        // Spread more and more.
        (1, _) => {
            for (i, step) in steps.iter_mut().enumerate().skip(30).take(60) {
                let age = (i - 30) as f64;
                *step = (sessions as f64 * 0.11 * (-age / 18.0).exp()) as u64;
            }
        }
        (_, _) => {
            for step in steps.iter_mut().skip(60).take(4) {
                *step = sessions / 4;
            }
        }
    }
    steps
}

fn come_back(run: &mut Run, variants: usize, policies: &[(&str, usize)], resume: bool) {
    for trial in &mut run.trials {
        let (place, variant) = (trial.cell_index / variants, trial.cell_index % variants);
        let (policy, shape) = policies[place % policies.len()];
        let never = shape == 2 && variant == 0;
        let steps = attempts(shape, variant, 1000);
        let planned = run.manifest.plan.cells[trial.cell_index].faults[0];
        let all: u64 = steps.iter().sum();
        let back = if never { 0 } else { 1000 };
        let shift = f64::from(trial.repeat) * 12.0;
        let (soon, late) = [(20.0, 1010.0), (60.0, 4200.0), (950.0, 1400.0)][shape];
        let open = |i: usize| match i {
            0..30 => 1000,
            30..50 => 0,
            _ if never => 0,
            _ => {
                (steps[50..=i].iter().sum::<u64>() * 1000 / steps[50..].iter().sum::<u64>().max(1)).min(1000)
            }
        };
        let summary = trial.summary.as_mut().unwrap();
        summary.faults = vec![outcome(&planned, noticed(1000, 1000, (1.1, 8.0), "reset"), None)];
        let missed = if never { 170_000 } else { 24_000 };
        let made_up = if resume && variant != 0 { missed - 500 } else { 0 };
        summary.recovery = Some(Recovery {
            policy: policy.to_owned(),
            cut_off: 1000,
            recovered: back,
            gave_up: 1000 - back,
            outage: times(back, 2000.0 + soon + shift, 2000.0 + late + shift),
            time_to_reconnect: times(back, soon + shift, late + shift),
            attempts: [
                ("established".to_owned(), back),
                ("connect: refused".to_owned(), all.saturating_sub(back)),
            ]
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect(),
            attempts_per_recovery: [(2, back)].into_iter().collect(),
            missed,
            made_up,
            lost: missed - made_up,
            duplicated: u64::from(resume && variant == 2) * 40,
            not_offered: None,
            herd_peak: steps.iter().max().map_or(0, |n| {
                if *n > 0 {
                    n + u64::from(trial.repeat) * 7
                } else {
                    0
                }
            }),
            stayed_before_p99_ns: (!never).then_some(2 * MS + 300_000),
            stayed_after_p99_ns: (!never).then_some(if shape == 0 { 41 * MS } else { 6 * MS }),
        });
        let open: Vec<u64> = (0..200).map(open).collect();
        summary.timeline = Some(Timeline {
            step_ms: 100,
            deliveries: open.iter().map(|n| n * 97 / 100).collect(),
            attempts: steps,
            open,
        });
    }
}

/// A restart under two policies.
pub(crate) fn herd() -> Run {
    let mut run = under(&[WS, SSE, POLL], &["fixed 1s", "exponential, full jitter"], 2);
    name(
        &mut run,
        "herd",
        "A server restarts: do those who come back trample it?",
    );
    for cell in &mut run.manifest.plan.cells {
        cell.faults = vec![fault(3, FaultKind::Restart, Some(2))];
    }
    come_back(
        &mut run,
        3,
        &[
            ("fixed 1 s, resume", 0),
            ("exponential 100 ms to 10 s, full jitter, resume", 1),
        ],
        true,
    );
    run
}

/// A crash, and what each transport's own standard makes of it.
pub(crate) fn native() -> Run {
    let mut run = under(&[WS, SSE, POLL], &[""], 2);
    name(&mut run, "native", "Who comes back by itself?");
    for cell in &mut run.manifest.plan.cells {
        cell.faults = vec![fault(3, FaultKind::Crash, Some(2))];
        cell.reconnect.policy = ReconnectPolicy::Native;
    }
    come_back(&mut run, 3, &[("native", 2)], true);
    run
}

/// Two faults of one kind in each trial, and a server that is not told of.
pub(crate) fn twice() -> Run {
    let mut run = under(&[WS, SSE], &[""], 1);
    name(&mut run, "twice", "Does the second reset go as the first?");
    let faults = [fault(3, FaultKind::Rst, None), fault(9, FaultKind::Rst, None)];
    for cell in &mut run.manifest.plan.cells {
        cell.faults = faults.to_vec();
    }
    for trial in &mut run.trials {
        let seen = |n: u64| noticed(40, n, (0.4, 2.2), "reset");
        let missed = if trial.cell_index == 1 { 12 } else { 0 };
        trial.summary.as_mut().unwrap().faults = vec![
            outcome(&faults[0], seen(40), None),
            outcome(&faults[1], seen(40 - missed), None),
        ];
    }
    run
}

/// A tenth of the sessions does not keep up.
pub(crate) fn slow() -> Run {
    let conditions = ["drop-oldest", "drop-newest", "disconnect"];
    let mut run = under(&[WS, SSE], &conditions, 2);
    name(
        &mut run,
        "slow-readers",
        "What does a reader cost who does not keep up?",
    );
    for trial in &mut run.trials {
        let place = trial.cell_index / 2;
        let delivered = [3_100, 3_000, 900][place] + u64::from(trial.repeat) * 10;
        trial.summary.as_mut().unwrap().slow = Some(SlowReading {
            sessions: 100,
            expected: 20_000,
            delivered,
            undelivered: 20_000 - delivered,
            disconnected: if place == 2 { 100 } else { 0 },
            dropped_by_server: if place == 2 { 0 } else { 16_000 },
            server_rss_growth_bytes: Some(9_400_000 - (trial.cell_index as i64) * 2_000_000),
            kernel_tcp_growth_bytes: (place != 1).then_some(61_000_000),
            ..SlowReading::default()
        });
    }
    run
}

/// Words of a fault that try to act, and a grade in doubt.
pub(crate) fn hostile() -> Run {
    let mut run = herd();
    let evil = "<script>alert(1)</script>\x1b[31m\n| **x** `y` \"'&\u{202e}";
    for cell in run.manifest.plan.cells.iter_mut().take(3) {
        cell.condition = evil.to_owned();
    }
    for trial in &mut run.trials {
        let summary = trial.summary.as_mut().unwrap();
        summary.faults[0].kind = evil.to_owned();
        let client = summary.faults[0].client.as_mut().unwrap();
        client.by_reason = [(evil.to_owned(), 5)].into_iter().collect();
        let recovery = summary.recovery.as_mut().unwrap();
        recovery.policy = evil.to_owned();
        recovery.attempts.insert(evil.to_owned(), 3);
    }
    run.trials[0].verdict.add(Grade::Suspect, "busy");
    run
}

/// Every run of this file, by name.
pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("detection", detection()),
        ("herd", herd()),
        ("native", native()),
        ("twice", twice()),
        ("slow", slow()),
    ]
}
