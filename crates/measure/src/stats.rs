//! Small statistics for repeats: median, spread, and whether one variant is really ahead of another.

use serde::Serialize;

/// Median of repeats with the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest repeat.
    pub min: f64,
    /// Median over repeats (mean of the middle two for an even number).
    pub median: f64,
    /// Largest repeat.
    pub max: f64,
    /// How many repeats.
    pub repeats: usize,
}

/// The spread of `values`; `None` for none, or when any is not a number.
pub fn spread(values: &[f64]) -> Option<Spread> {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let median = if n % 2 == 1 {
        sorted[n / 2]
    } else {
        (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0
    };
    Some(Spread {
        min: sorted[0],
        median,
        max: sorted[n - 1],
        repeats: n,
    })
}

/// The one variant that is ahead of every other by more than the spread between repeats: its worst repeat is better
/// than the best repeat of each other. `None` when there is no such variant, when there are fewer than two variants,
/// or when any has fewer than two repeats (no spread is known then).
pub fn clear_winner(variants: &[Option<Spread>], smaller_is_better: bool) -> Option<usize> {
    if variants.iter().flatten().count() < 2 || variants.iter().flatten().any(|s| s.repeats < 2) {
        return None;
    }
    let beats = |a: &Spread, b: &Spread| {
        if smaller_is_better {
            a.max < b.min
        } else {
            a.min > b.max
        }
    };
    variants.iter().position(|candidate| {
        candidate.is_some_and(|c| {
            variants
                .iter()
                .flatten()
                .filter(|o| *o != &c)
                .all(|o| beats(&c, o))
        }) && variants
            .iter()
            .flatten()
            .filter(|o| Some(**o) == *candidate)
            .count()
            == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(
            spread(&[3.0, 1.0, 2.0]).map(|s| (s.min, s.median, s.max)),
            Some((1.0, 2.0, 3.0))
        );
        assert_eq!(spread(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_winner_must_stand_clear_of_the_spread() {
        let s = |v: &[f64]| spread(v);
        type Case<'a> = (&'a [&'a [f64]], bool, Option<usize>);
        let cases: [Case<'_>; 7] = [
            (&[&[1.0, 2.0], &[3.0, 4.0]], true, Some(0)),
            (&[&[1.0, 2.0], &[3.0, 4.0]], false, Some(1)),
            (&[&[1.0, 3.5], &[3.0, 4.0]], true, None),
            (&[&[1.0], &[3.0]], true, None),
            (&[&[1.0, 1.0], &[1.0, 1.0]], true, None),
            (&[&[1.0, 1.1]], true, None),
            (&[&[5.0, 6.0], &[1.0, 2.0], &[3.0, 4.0]], true, Some(1)),
        ];
        for (variants, smaller, winner) in cases {
            let spreads: Vec<_> = variants.iter().map(|v| s(v)).collect();
            assert_eq!(clear_winner(&spreads, smaller), winner, "{variants:?}");
        }
    }
}
