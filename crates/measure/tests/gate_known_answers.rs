//! The gate's statistics against scipy, and against a second implementation from the definitions.
//!
//! `fixtures/gate.py` made the answers and says how to make them again.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use pushmark_measure::gate::maxt::{data_hash, max_t};
use pushmark_measure::gate::signed_rank::estimate;
use pushmark_measure::gate::student::{critical, tail};
use pushmark_measure::gate::{Creep, HistoryStanding, Share, change_points, predict};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("fixtures/gate.json")).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn close(got: f64, want: f64, relative: f64) -> bool {
    (got - want).abs() <= relative * want.abs().max(1e-300)
}

#[test]
fn max_t_of_a_second_implementation() {
    for case in cases("max_t") {
        let rows: Vec<Vec<Option<f64>>> = case["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(Value::as_f64).collect())
            .collect();
        let rows: Vec<&[Option<f64>]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(
            format!("{:016x}", data_hash(&rows)),
            case["seed"].as_str().unwrap()
        );
        let found = max_t(&rows, 0.01);
        // Shares of the same flips: equal, not only close.
        assert_eq!(found.p, numbers(&case["p"]), "{rows:?}");
        for (t, want) in found.t.iter().zip(case["t"].as_array().unwrap()) {
            // Infinite where the fixture has null.
            assert!(
                want.as_f64()
                    .map_or(t.is_infinite(), |want| (t - want).abs() < 1e-9),
                "{t} {want}"
            );
        }
    }
}

#[test]
fn estimates_and_bounds_of_scipys_exact_signed_rank_test() {
    for case in cases("bounds") {
        let d = numbers(&case["d"]);
        let found = estimate(&d, 0.05).unwrap();
        assert!(close(found.centre, case["centre"].as_f64().unwrap(), 1e-12));
        assert_eq!(found.lower, case["lower"].as_f64(), "{} blocks", d.len());
        assert_eq!(found.upper, case["upper"].as_f64(), "{} blocks", d.len());
    }
}

#[test]
fn student_of_scipy() {
    for case in cases("student") {
        let df = u32::try_from(case["df"].as_u64().unwrap()).unwrap();
        let (above, t) = (case["above"].as_f64().unwrap(), case["t"].as_f64().unwrap());
        let got = critical(above, df);
        assert!(
            close(got, t, 1e-9) || (got - t).abs() < 1e-12,
            "{df} {above}: {got} {t}"
        );
        let (got, want) = (tail(t + 1.0, df), case["tail_at_t_plus_1"].as_f64().unwrap());
        assert!(close(got, want, 1e-10), "{df} {t}: {got} {want}");
    }
}

#[test]
fn bounds_of_shares_of_scipy() {
    for case in cases("shares") {
        let share = Share {
            hits: case["hits"].as_u64().unwrap(),
            of: case["of"].as_u64().unwrap(),
        };
        let (low, high) = share.bounds(0.05);
        assert!(close(low, case["low"].as_f64().unwrap(), 1e-8), "{share:?} {low}");
        assert!(
            close(high, case["high"].as_f64().unwrap(), 1e-8),
            "{share:?} {high}"
        );
    }
}

#[test]
fn predictions_of_scipys_t() {
    for case in cases("predictions") {
        let (new, p) = (case["new"].as_f64().unwrap(), case["p"].as_f64().unwrap());
        let found = predict(&numbers(&case["earlier"]), new, 0.0, (0.01, 0.05), 20);
        assert!(close(found.z, case["z"].as_f64().unwrap(), 1e-9));
        assert!(close(found.p, p, 1e-8));
        assert_eq!(found.standing == HistoryStanding::Regression, p <= 0.01);
    }
}

#[test]
fn change_points_where_the_energy_distance_is_largest() {
    for case in cases("splits") {
        let found = change_points(&numbers(&case["series"]), &Creep::default());
        // The strongest is the one that the definition finds; one in a hundred series shows one more.
        let strongest = found
            .iter()
            .max_by(|a, b| (a.after - a.before).abs().total_cmp(&(b.after - b.before).abs()));
        assert_eq!(strongest.unwrap().at as u64, case["at"].as_u64().unwrap());
    }
}

#[test]
fn p_values_of_change_points_lie_around_those_of_all_orders() {
    let all: Value = serde_json::from_str(include_str!("fixtures/creep.json")).unwrap();
    let cases = all.as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        // At the level 1 every split counts, and the strongest is found first, in the whole series.
        let how = Creep {
            least: case["least"].as_u64().unwrap() as usize,
            orders: 9_999,
            level: 1.0,
        };
        let found = change_points(&numbers(&case["series"]), &how);
        let at = case["at"].as_u64().unwrap() as usize;
        let strongest = found.iter().find(|c| c.at == at).unwrap();
        let p = case["p"].as_f64().unwrap();
        // Five standard errors of a share of 10,000.
        let around = 5.0 * (p * (1.0 - p) / 10_000.0).sqrt() + 1e-3;
        assert!((strongest.p - p).abs() <= around, "{} against {p}", strongest.p);
    }
}
