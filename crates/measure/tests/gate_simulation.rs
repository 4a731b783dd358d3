//! How often the gate is wrong and how often it finds what is there, over thousands of simulated gates.
//!
//! The noise model is described in `gate::simulate`. Seeds are fixed, so a figure that moves was moved by a change.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails, and one that passes shows its figures when asked"
)]

use pushmark_measure::gate::maxt::max_t;
use pushmark_measure::gate::simulate::{
    Experiment, METRICS, NASTY, QUIET, Rates, SHARED_CI, Simulation, simulate,
};
use pushmark_measure::gate::{Look, Plan, Role, Share};

const P50: usize = 0;
const P99: usize = 2;
const CPU: usize = 4;

fn run(experiment: &Experiment) -> Rates {
    let rates = simulate(experiment).unwrap();
    println!(
        "{:?} settle {} tail {:?}: regression {:.2} % pass {:.2} % inconclusive {:.2} % wrongly blamed {:.2} %, \
         {:.1} blocks, {:.1} a scenario",
        experiment.effect.map(|e| (METRICS[e.metric], e.factor)),
        experiment.settle,
        experiment.tail_role,
        100.0 * rates.regression.value(),
        100.0 * rates.pass.value(),
        100.0 * rates.inconclusive.value(),
        100.0 * rates.wrongly_blamed.value(),
        rates.mean_blocks,
        rates.mean_scenario_blocks,
    );
    rates
}

/// With a chance of 99.9 % on each side, the share does not contradict `chance`.
fn agrees(share: Share, chance: f64) -> bool {
    let (low, high) = share.bounds(0.001);
    low <= chance && chance <= high
}

/// Standard deviation of the logarithmic ratio of two alike arms.
fn spreads(noise: pushmark_measure::gate::simulate::Noise) -> [f64; 5] {
    let experiment = Experiment {
        noise,
        ..Experiment::new(1, 1)
    };
    let mut machine = Simulation::new(&experiment, 3);
    (0..2_000).for_each(|_| machine.block(&[false, true, true, true]));
    std::array::from_fn(|metric| {
        let d = machine.table.rows[metric].present(usize::MAX);
        let mean = d.iter().sum::<f64>() / d.len() as f64;
        (d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / d.len() as f64).sqrt()
    })
}

#[test]
fn the_noise_is_what_the_documentation_says() {
    for (noise, p50, p99, p999, cpu) in [
        (QUIET, 0.012, 0.051, 0.21, 0.006),
        (SHARED_CI, 0.022, 0.070, 0.43, 0.011),
        (NASTY, 0.042, 0.16, 0.94, 0.023),
    ] {
        let got = spreads(noise);
        println!("spreads {got:.4?}");
        for (got, want) in [got[0], got[2], got[3], got[4]]
            .into_iter()
            .zip([p50, p99, p999, cpu])
        {
            assert!((got / want - 1.0).abs() < 0.06, "{got} {want}");
        }
    }
}

#[test]
fn without_floors_the_test_alarms_exactly_as_often_as_it_says() {
    // One look at ten blocks, twenty metrics, heavy tails, drift: 10 of 1,024 flips.
    let experiment = Experiment::new(1, 1);
    let gates = 4_000;
    let alarms = (0..gates)
        .filter(|gate| {
            let mut machine = Simulation::new(&experiment, 1_000 + gate);
            (0..10).for_each(|_| machine.block(&[false; 4]));
            let rows: Vec<&[Option<f64>]> = machine.table.rows.iter().map(|r| r.d.as_slice()).collect();
            max_t(&rows, 0.01).p.iter().any(|p| *p <= 0.01)
        })
        .count() as u64;
    let share = Share {
        hits: alarms,
        of: gates,
    };
    println!("{alarms} alarms in {gates} gates");
    assert!(agrees(share, 10.0 / 1024.0), "{alarms} of {gates}");
}

#[test]
fn alike_arms_raise_no_more_alarms_than_the_plan_spends() {
    let base = Experiment::new(2_000, 42);
    for experiment in [
        base.clone(),
        Experiment {
            settle: true,
            tail_role: Role::Advisory,
            ..base.clone()
        },
    ] {
        let rates = run(&experiment);
        // Nominal 1 %; the floors and the stop on a pass keep it far below.
        assert!(rates.regression.bounds(0.05).1 < 0.01, "{rates:?}");
        assert!(rates.pass.value() > 0.948, "{rates:?}");
        assert!((9.2..19.2).contains(&rates.mean_blocks), "{rates:?}");
    }
}

#[test]
fn without_floors_and_passes_three_looks_spend_one_in_a_hundred() {
    // Floors next to nothing and budgets that are never proven: every gate goes on to the last look or to an alarm. The
    // flips of the later looks are many, so the gates are of one scenario.
    let mut alarms = Share { hits: 0, of: 2_000 };
    let plan = Plan::default();
    let experiment = Experiment {
        scenarios: 1,
        ..Experiment::new(1, 1)
    };
    for gate in 0..alarms.of {
        let mut machine = Simulation::new(&experiment, 50_000 + gate);
        (0..plan.most_blocks()).for_each(|_| machine.block(&[false]));
        alarms.hits += u64::from(plan.looks.iter().any(|Look { blocks, alpha, .. }| {
            let rows: Vec<&[Option<f64>]> = machine.table.rows.iter().map(|r| &r.d[..*blocks]).collect();
            max_t(&rows, *alpha).p.iter().any(|p| p <= alpha)
        }));
    }
    println!("{} alarms in {} gates", alarms.hits, alarms.of);
    let (low, high) = alarms.bounds(0.001);
    // Looks share data, so the sum of their levels is a bound and the sum less what they share is what is reached.
    assert!(low <= 0.01 && high >= 0.005, "{alarms:?}");
}

#[test]
fn detection_is_that_of_the_recommended_row() {
    let gates = 500;
    let expected = [
        (P50, 1.05, 1.00),
        (P50, 1.10, 1.00),
        (P99, 1.05, 0.32),
        (P99, 1.10, 0.977),
        (P99, 1.20, 1.00),
        (CPU, 1.05, 1.00),
    ];
    for (metric, factor, detected) in expected {
        let rates = run(&Experiment::new(gates, 7).with(metric, factor));
        assert!(
            (rates.regression.value() - detected).abs() <= 0.05,
            "{} ×{factor}: {rates:?}",
            METRICS[metric]
        );
        assert!(rates.wrongly_blamed.value() <= 0.02, "{rates:?}");
        if metric == P99 && factor == 1.10 {
            assert!(rates.pass.value() <= 0.05, "a false pass: {rates:?}");
            assert!(rates.mean_blocks <= 20.0, "{rates:?}");
        }
    }
}

#[test]
fn ending_settled_scenarios_costs_no_detection() {
    for (factor, detected) in [(1.05, 0.32), (1.10, 0.977)] {
        let rates = run(&Experiment {
            settle: true,
            tail_role: Role::Advisory,
            ..Experiment::new(500, 7).with(P99, factor)
        });
        assert!((rates.regression.value() - detected).abs() <= 0.05, "{rates:?}");
        assert!(rates.mean_scenario_blocks < 0.85 * rates.mean_blocks, "{rates:?}");
    }
}

#[test]
fn a_bad_machine_says_so_and_raises_no_alarms() {
    let nasty = Experiment {
        noise: NASTY,
        settle: true,
        ..Experiment::new(300, 5)
    };
    let alike = run(&nasty);
    assert!(agrees(alike.regression, 0.01), "{alike:?}");
    let worse = run(&nasty.with(P99, 1.10));
    assert!(worse.pass.value() < 0.15, "{worse:?}");
}
