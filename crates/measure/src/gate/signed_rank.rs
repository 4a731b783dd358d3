//! How large the difference is: the Hodges–Lehmann estimate, and bounds from the exact signed-rank distribution.
//!
//! The estimate is the median of the averages of all pairs, each with itself too (Walsh averages). A one-sided bound is
//! one of these averages, counted off by the critical value of Wilcoxon's signed-rank statistic (Hodges and Lehmann,
//! 1963; Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, section 3.3). The bounds hold
//! for differences that are symmetric around their centre, as differences of two alike arms are.

use serde::{Deserialize, Serialize};

/// Where the difference lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Hodges–Lehmann.
    pub centre: f64,
    /// With the confidence asked for, the difference is not below this. `None` when there are too few blocks:
    /// fewer than five at 95 %.
    pub lower: Option<f64>,
    /// With the confidence asked for, the difference is not above this.
    pub upper: Option<f64>,
}

/// The chance of each value of the signed-rank statistic, from 0 to n(n + 1)/2, when each sign is a fair coin.
pub fn distribution(n: usize) -> Vec<f64> {
    let mut chance = vec![0.0; n * (n + 1) / 2 + 1];
    chance[0] = 1.0;
    let mut top = 0;
    for rank in 1..=n {
        top += rank;
        // Downwards, so that each rank counts once.
        for value in (0..=top).rev() {
            let without = if value + rank <= top { chance[value] } else { 0.0 };
            let with = if value >= rank { chance[value - rank] } else { 0.0 };
            chance[value] = (without + with) / 2.0;
        }
    }
    chance
}

/// The largest value that the statistic stays at or below with a chance of at most `alpha`; `None` when even zero is
/// likelier than that (2⁻ⁿ > alpha).
pub fn critical(n: usize, alpha: f64) -> Option<usize> {
    let mut sum = 0.0;
    let mut largest = None;
    for (value, chance) in distribution(n).into_iter().enumerate() {
        sum += chance;
        if sum > alpha {
            break;
        }
        largest = Some(value);
    }
    largest
}

/// The estimate over `d`, with one-sided bounds of confidence 1 − `alpha` each. `None` without any difference.
pub fn estimate(d: &[f64], alpha: f64) -> Option<Estimate> {
    let n = d.len();
    let mut walsh: Vec<f64> = (0..n)
        .flat_map(|k| (k..n).map(move |l| (d[k] + d[l]) / 2.0))
        .collect();
    walsh.sort_unstable_by(f64::total_cmp);
    let centre = match walsh.len() {
        0 => return None,
        m if m % 2 == 1 => walsh[m / 2],
        m => (walsh[m / 2 - 1] + walsh[m / 2]) / 2.0,
    };
    let c = critical(n, alpha);
    Some(Estimate {
        centre,
        lower: c.and_then(|c| walsh.get(c).copied()),
        upper: c.and_then(|c| walsh.get(walsh.len().checked_sub(c + 1)?).copied()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_chance_by_counting() {
        for n in 0..=12usize {
            let mut counts = vec![0u32; n * (n + 1) / 2 + 1];
            for signs in 0..1usize << n {
                counts[(0..n)
                    .filter(|k| signs >> k & 1 == 1)
                    .map(|k| k + 1)
                    .sum::<usize>()] += 1;
            }
            let counted: Vec<f64> = counts
                .iter()
                .map(|c| f64::from(*c) / (1u64 << n) as f64)
                .collect();
            assert_eq!(distribution(n), counted);
        }
    }

    #[test]
    fn no_bound_below_five_blocks() {
        for n in 1..5 {
            assert_eq!(critical(n, 0.05), None);
            let found = estimate(&vec![0.1; n], 0.05).unwrap();
            assert_eq!((found.lower, found.upper), (None, None));
        }
        // Critical values of the tables, one-sided at 5 %.
        for (n, c) in [(5, 0), (6, 2), (8, 5), (10, 10), (20, 60), (30, 151)] {
            assert_eq!(critical(n, 0.05), Some(c));
        }
        assert_eq!(estimate(&[], 0.05), None);
    }

    proptest! {
        #[test]
        fn in_order_and_mirrored(d in prop::collection::vec(-1.0..1.0f64, 5..25)) {
            let found = estimate(&d, 0.05).unwrap();
            let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap());
            prop_assert!(lower <= found.centre && found.centre <= upper);
            let negated: Vec<f64> = d.iter().map(|d| -d).collect();
            let mirrored = estimate(&negated, 0.05).unwrap();
            prop_assert_eq!(mirrored.lower, Some(-upper));
            prop_assert_eq!(mirrored.upper, Some(-lower));
            prop_assert_eq!(mirrored.centre, -found.centre);
        }

        #[test]
        fn moves_with_the_data_and_narrows_with_less_confidence(d in prop::collection::vec(-1.0..1.0f64, 5..25), by in 0.0..2.0f64) {
            let found = estimate(&d, 0.05).unwrap();
            let moved: Vec<f64> = d.iter().map(|d| d + by).collect();
            let moved = estimate(&moved, 0.05).unwrap();
            prop_assert!((moved.centre - found.centre - by).abs() < 1e-12);
            prop_assert!((moved.upper.unwrap() - found.upper.unwrap() - by).abs() < 1e-12);
            prop_assert!(estimate(&d, 0.2).unwrap().upper <= found.upper);
        }
    }

    #[test]
    fn the_bounds_hold_as_often_as_they_say() {
        let mut random = crate::gate::random::Random::new(3);
        let many = 4_000;
        let held = (0..many)
            .filter(|_| {
                let d: Vec<f64> = (0..10).map(|_| random.heavy()).collect();
                estimate(&d, 0.05).unwrap().upper.unwrap() >= 0.0
            })
            .count();
        let share = held as f64 / f64::from(many);
        // The exact confidence at ten blocks is 1 − 43/1024 = 95.8 %.
        assert!((0.948..0.968).contains(&share), "{share}");
    }
}
