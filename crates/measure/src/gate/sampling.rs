//! Whether a quantile rests on enough samples to be gated.
//!
//! A quantile q is set by the samples beyond it; ten of them, 10/(1 − q) in all, keep its own sampling error near a
//! tenth of the tail's scale. The gated p99 is the median over seconds of each second's p99: one stall, which spoils
//! the pooled p99 of a whole block, spoils one second of it.

use serde::{Deserialize, Serialize};

use super::exact::median;

/// Samples beyond a quantile that it needs to be gated.
pub const BEYOND: f64 = 10.0;

/// Gated, or told only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum Sampling {
    /// There are enough samples.
    Gated,
    /// There are not: the figure is reported and decides nothing.
    ReportOnly {
        /// How many there are.
        samples: u64,
        /// How many are needed.
        needed: u64,
    },
}

/// How many samples quantile `q` needs: 10/(1 − q), without the rounding error of the division. `None` for no quantile below 1.
pub fn samples_needed(q: f64) -> Option<u64> {
    (0.0..1.0)
        .contains(&q)
        .then(|| (BEYOND / (1.0 - q) - 1e-6).ceil() as u64)
}

/// Whether quantile `q` may be gated when the poorer arm of the poorest block has `samples` samples.
pub fn quantile_rule(q: f64, samples: u64) -> Sampling {
    match samples_needed(q) {
        Some(needed) if samples >= needed => Sampling::Gated,
        needed => Sampling::ReportOnly {
            samples,
            needed: needed.unwrap_or(u64::MAX),
        },
    }
}

/// The median over seconds of a quantile, from `(samples, value)` of each second of one arm in one block: 1,000 a second
/// for p99. Seconds with too few samples are left out; gated when at least half of the seconds remain.
pub fn median_of_seconds(q: f64, seconds: &[(u64, f64)]) -> (Option<f64>, Sampling) {
    let enough: Vec<f64> = seconds
        .iter()
        .filter(|(samples, value)| value.is_finite() && quantile_rule(q, *samples) == Sampling::Gated)
        .map(|(_, value)| *value)
        .collect();
    if !enough.is_empty() && 2 * enough.len() >= seconds.len() {
        return (median(&enough), Sampling::Gated);
    }
    let mut counts: Vec<u64> = seconds.iter().map(|(samples, _)| *samples).collect();
    counts.sort_unstable();
    let all: Vec<f64> = seconds
        .iter()
        .map(|(_, v)| *v)
        .filter(|v| v.is_finite())
        .collect();
    (
        median(&all),
        Sampling::ReportOnly {
            samples: counts.get(counts.len() / 2).copied().unwrap_or(0),
            needed: samples_needed(q).unwrap_or(u64::MAX),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_samples_beyond_the_quantile() {
        for (q, needed) in [
            (0.5, 20),
            (0.9, 100),
            (0.99, 1_000),
            (0.999, 10_000),
            (0.9999, 100_000),
        ] {
            assert_eq!(samples_needed(q), Some(needed));
            assert_eq!(quantile_rule(q, needed), Sampling::Gated);
            let samples = needed - 1;
            assert_eq!(
                quantile_rule(q, samples),
                Sampling::ReportOnly { samples, needed }
            );
        }
        assert_eq!(samples_needed(1.0), None);
        assert!(matches!(quantile_rule(f64::NAN, 9), Sampling::ReportOnly { .. }));
    }

    #[test]
    fn one_bad_second_does_not_count() {
        let mut seconds = [(1_000, 5.0); 9];
        seconds[3].1 = 500.0;
        assert_eq!(median_of_seconds(0.99, &seconds), (Some(5.0), Sampling::Gated));
        // Poor seconds are left out …
        seconds[0] = (10, 900.0);
        assert_eq!(median_of_seconds(0.99, &seconds).0, Some(5.0));
        // … until they are the most.
        let poor = [(999, 5.0), (999, 7.0), (1_000, 6.0)];
        let (value, rule) = median_of_seconds(0.99, &poor);
        assert_eq!(
            (value, rule),
            (
                Some(6.0),
                Sampling::ReportOnly {
                    samples: 999,
                    needed: 1_000
                }
            )
        );
        assert_eq!(median_of_seconds(0.99, &[]).0, None);
    }
}
