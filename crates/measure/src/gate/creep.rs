//! Slow creep: change points in the series of sessions, by E-divisive.
//!
//! A loss of 2 % each week passes every gate and halves a server in a year. The series of [`super::history`] shows it:
//! a change point is where the sessions before and after differ most in energy distance, and it counts when no more than a
//! small share of random orders of the same sessions show as large a difference. The search goes on within the parts
//! until none counts (Matteson and James, A Nonparametric Approach for Multiple Change Point Analysis, JASA 2014; with
//! the exponent 1, and each candidate split over its whole part).

use serde::{Deserialize, Serialize};

use super::maxt::data_hash;
use super::random::Random;

/// How change points are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Creep {
    /// Fewest sessions on each side of a change.
    pub least: usize,
    /// Random orders to hold a split against.
    pub orders: usize,
    /// Most of them, as a share, that may split as well as the true order does.
    pub level: f64,
}

impl Default for Creep {
    fn default() -> Self {
        Self {
            least: 5,
            orders: 999,
            level: 0.01,
        }
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// The first session after the change, from zero.
    pub at: usize,
    /// Mean of the sessions since the change before it.
    pub before: f64,
    /// Mean of the sessions until the change after it.
    pub after: f64,
    /// Share of random orders that split as well.
    pub p: f64,
}

/// The best split of `values`: (energy, sessions before it), with at least `least` on each side.
fn split(values: &[f64], least: usize) -> Option<(f64, usize)> {
    let n = values.len();
    if least == 0 || n < 2 * least {
        return None;
    }
    let distance = |i: usize, j: usize| (values[i] - values[j]).abs();
    let within_all: f64 = (0..n).map(|i| (0..i).map(|j| distance(i, j)).sum::<f64>()).sum();
    // Sums of distances over pairs: both before, both after, across.
    let (mut before, mut after) = (0.0, within_all);
    let mut best: Option<(f64, usize)> = None;
    for at in 1..n {
        let moved = at - 1;
        before += (0..moved).map(|j| distance(moved, j)).sum::<f64>();
        after -= (at..n).map(|j| distance(moved, j)).sum::<f64>();
        if at < least || n - at < least {
            continue;
        }
        let across = within_all - before - after;
        let (m, k) = (at as f64, (n - at) as f64);
        let pairs = |count: f64| (count * (count - 1.0) / 2.0).max(1.0);
        let energy = m * k / (m + k) * (2.0 * across / (m * k) - before / pairs(m) - after / pairs(k));
        if best.is_none_or(|(most, _)| energy > most) {
            best = Some((energy, at));
        }
    }
    best
}

/// The best split over all parts between `cuts`: (energy, session).
fn best_split(values: &[f64], cuts: &[usize], least: usize) -> Option<(f64, usize)> {
    cuts.windows(2)
        .filter_map(|part| split(&values[part[0]..part[1]], least).map(|(energy, at)| (energy, part[0] + at)))
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
}

/// The changes of a series, in its order. The same series gives the same changes on every machine: the random orders
/// come from a hash of it. Values that are not finite make no change points at all.
pub fn change_points(series: &[f64], how: &Creep) -> Vec<ChangePoint> {
    if series.iter().any(|v| !v.is_finite()) {
        return Vec::new();
    }
    let whole: Vec<Option<f64>> = series.iter().copied().map(Some).collect();
    let mut random = Random::new(data_hash(&[&whole]));
    let mut cuts = vec![0, series.len()];
    let mut found: Vec<(usize, f64)> = Vec::new();
    while let Some((energy, at)) = best_split(series, &cuts, how.least) {
        // Equal energies may differ in their last bits.
        let least_energy = energy - 1e-9 * energy.abs();
        let mut shuffled = series.to_vec();
        let mut as_good = 1;
        let most = (how.level * (how.orders + 1) as f64 + 1e-9) as usize;
        for _ in 0..how.orders {
            for part in cuts.windows(2) {
                random.shuffle(&mut shuffled[part[0]..part[1]]);
            }
            as_good += usize::from(
                best_split(&shuffled, &cuts, how.least).is_some_and(|(other, _)| other >= least_energy),
            );
            // Too many already: the rest cannot change the answer.
            if as_good > most {
                break;
            }
        }
        if as_good > most || energy <= 0.0 {
            break;
        }
        found.push((at, as_good as f64 / (how.orders + 1) as f64));
        cuts.push(at);
        cuts.sort_unstable();
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    let mean = |from: usize, to: usize| series[from..to].iter().sum::<f64>() / (to - from) as f64;
    found
        .iter()
        .enumerate()
        .map(|(i, (at, p))| ChangePoint {
            at: *at,
            before: mean(cuts[i], *at),
            after: mean(*at, cuts[i + 2]),
            p: *p,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions with a spread of 1.5 %, and what `shift` adds to each.
    fn series(seed: u64, count: usize, shift: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..count).map(|i| 0.015 * random.normal() + shift(i)).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let steps = series(1, 60, |i| if i >= 25 { 0.06 } else { 0.0 });
        let found = change_points(&steps, &Creep::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((24..=26).contains(&found[0].at), "{found:?}");
        assert!((found[0].after - found[0].before - 0.06).abs() < 0.015);
        assert_eq!(found, change_points(&steps, &Creep::default()));
    }

    #[test]
    fn two_steps_up_and_down() {
        let steps = series(2, 75, |i| if (25..50).contains(&i) { 0.08 } else { 0.0 });
        let at: Vec<usize> = change_points(&steps, &Creep::default())
            .iter()
            .map(|c| c.at)
            .collect();
        assert_eq!(at.len(), 2, "{at:?}");
        assert!(at[0].abs_diff(25) <= 1 && at[1].abs_diff(50) <= 1, "{at:?}");
    }

    #[test]
    fn two_percent_a_week_do_not_creep_past() {
        let creeping = series(3, 26, |i| 0.02 * i as f64);
        let found = change_points(&creeping, &Creep::default());
        assert!(!found.is_empty());
        assert!(found.iter().all(|c| c.after > c.before), "{found:?}");
    }

    #[test]
    fn nothing_in_what_does_not_change() {
        let how = Creep {
            orders: 199,
            level: 0.05,
            ..Creep::default()
        };
        let series_count = 300;
        let alarms = (0..series_count)
            .filter(|seed| !change_points(&series(1_000 + seed, 30, |_| 0.0), &how).is_empty())
            .count();
        let (low, high) = super::super::student::Share {
            hits: alarms as u64,
            of: series_count,
        }
        .bounds(0.001);
        assert!(
            low < 0.05 && 0.05 < high,
            "{alarms} of {series_count} at a level of 5 %"
        );
    }

    #[test]
    fn what_cannot_be_split_is_not() {
        for short in [&[][..], &[1.0; 9], &[0.3; 40], &[0.0, f64::NAN, 1.0]] {
            assert_eq!(change_points(short, &Creep::default()), []);
        }
    }
}
