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
