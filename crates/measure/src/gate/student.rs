//! Student's t and the binomial: tails, quantiles and exact bounds of a share.
//!
//! The tail of t is an incomplete beta function, computed by its continued fraction (Abramowitz and Stegun 26.5.8 and
//! 26.7.1; evaluated by Lentz's method). Degrees of freedom are whole numbers here, so that the gamma functions are
//! products.

use serde::{Deserialize, Serialize};

use super::exact::{exp, ln};

/// The chance that t with `df` degrees of freedom lies above `t`. Not a number when `df` is zero or `t` is none.
pub fn tail(t: f64, df: u32) -> f64 {
    if df == 0 || t.is_nan() {
        return f64::NAN;
    }
    if t < 0.0 {
        return 1.0 - tail(-t, df);
    }
    if t.is_infinite() {
        return 0.0;
    }
    let v = f64::from(df);
    let (a, x) = (v / 2.0, v / (v + t * t));
    let rest = t * t / (v + t * t);
    // x^a (1 − x)^½ / B(a, ½)
    let front = power(x, df) * rest.sqrt() * over_beta(df);
    let half = if x < (a + 1.0) / (a + 2.5) {
        front * fraction(a, 0.5, x) / a
    } else {
        1.0 - front * fraction(0.5, a, rest) / 0.5
    };
    half / 2.0
}

/// √x to the power `df`.
fn power(x: f64, df: u32) -> f64 {
    let (mut result, mut base, mut left) = (if df % 2 == 1 { x.sqrt() } else { 1.0 }, x, df / 2);
    while left > 0 {
        if left % 2 == 1 {
            result *= base;
        }
        base *= base;
        left /= 2;
    }
    result
}

/// 1 / B(df/2, ½) = Γ((df + 1)/2) / (Γ(df/2) √π).
fn over_beta(df: u32) -> f64 {
    let (mut value, mut k) = if df % 2 == 1 {
        (std::f64::consts::FRAC_1_PI, 1)
    } else {
        (0.5, 2)
    };
    while k < df {
        value *= f64::from(k + 1) / f64::from(k);
        k += 2;
    }
    value
}

/// The continued fraction of the incomplete beta function.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |x: f64| if x.abs() < TINY { TINY } else { x };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        value *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The value that t with `df` degrees of freedom exceeds with the chance `above`, which lies between 0 and 1.
/// Not a number outside.
pub fn critical(above: f64, df: u32) -> f64 {
    if df == 0 || !(above > 0.0 && above < 1.0) {
        return f64::NAN;
    }
    if above > 0.5 {
        return -critical(1.0 - above, df);
    }
    let mut high = 1.0;
    while tail(high, df) > above && high < 1e200 {
        high *= 2.0;
    }
    halved(0.0, high, |t| tail(t, df) > above)
}

/// Where `below` turns from true to false between `low` and `high`, to the last bit.
fn halved(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// So many out of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many had it.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
}

impl Share {
    /// The share itself; zero of none is zero.
    pub fn value(self) -> f64 {
        self.hits as f64 / self.of.max(1) as f64
    }

    /// Exact bounds of the chance behind it (Clopper and Pearson, 1934), each missed with a chance of at most `alpha`.
    pub fn bounds(self, alpha: f64) -> (f64, f64) {
        let low = if self.hits == 0 {
            0.0
        } else {
            halved(0.0, 1.0, |p| 1.0 - at_most(self.hits - 1, self.of, p) < alpha)
        };
        let high = if self.hits >= self.of {
            1.0
        } else {
            halved(0.0, 1.0, |p| at_most(self.hits, self.of, p) > alpha)
        };
        (low, high)
    }
}

/// The chance of at most `hits` out of `of`, when each has the chance `p`.
pub fn at_most(hits: u64, of: u64, p: f64) -> f64 {
    if hits >= of || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = ln(p) - ln(1.0 - p);
    let mut term = of as f64 * ln(1.0 - p);
    let mut sum = exp(term);
    for k in 1..=hits {
        term += odds + ln((of - k + 1) as f64) - ln(k as f64);
        sum += exp(term);
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        // One degree of freedom is Cauchy's; two has a root.
        for t in [0.0, 0.3, 1.0, 2.5, 40.0, 1e6] {
            assert!((tail(t, 1) - (1.0 / t).atan() / std::f64::consts::PI).abs() < 1e-12 || t == 0.0);
            assert!((tail(t, 2) - (0.5 - t / (2.0 * (2.0 + t * t).sqrt()))).abs() < 1e-12);
        }
        assert!((tail(0.0, 7) - 0.5).abs() < 1e-14);
        assert!(tail(1.0, 0).is_nan() && tail(f64::NAN, 3).is_nan());
        assert!(critical(0.0, 3).is_nan() && critical(1.0, 3).is_nan() && critical(f64::NAN, 3).is_nan());
        assert_eq!((tail(f64::INFINITY, 3), tail(f64::NEG_INFINITY, 3)), (0.0, 1.0));
    }

    #[test]
    fn shares_of_nothing_and_of_all() {
        assert_eq!(Share::default().bounds(0.05), (0.0, 1.0));
        assert_eq!(Share { hits: 7, of: 7 }.bounds(0.05).1, 1.0);
        // No alarm in 300 gates: below 1 % with 95 %.
        assert!(Share { hits: 0, of: 300 }.bounds(0.05).1 < 0.01);
    }

    proptest! {
        #[test]
        fn the_quantile_inverts_the_tail(above in 1e-9..0.999f64, df in 1..200u32) {
            let t = critical(above, df);
            prop_assert!((tail(t, df) - above).abs() < 1e-9 * above.max(1e-3), "{} {}", t, tail(t, df));
            prop_assert!(critical(above * 0.9, df) > t);
        }

        #[test]
        fn the_bounds_hold_the_share(hits in 0..500u64, more in 0..500u64) {
            let share = Share { hits, of: hits + more };
            let (low, high) = share.bounds(0.05);
            prop_assert!(low <= share.value() && share.value() <= high || share.of == 0);
        }
    }
}
