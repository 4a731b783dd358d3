//! Logarithm and exponential with the same last bit on every machine.
//!
//! The functions of the standard library come from the platform's C library, whose last bit differs between systems.
//! A verdict that hangs on a comparison, and a seed that is a hash of the data, must not. These use additions,
//! multiplications and divisions alone, which IEEE 754 fixes to the bit and Rust neither reorders nor fuses.

/// ln 2 in two parts: the first has 33 bits, so that its product with any exponent is exact (as in FreeBSD's `e_log.c`).
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Natural logarithm, within two units in the last place: ln m = 2 artanh((m − 1)/(m + 1)) for m around 1.
/// Not a number below zero, minus infinity at zero.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_infinite() {
        return x;
    }
    // A subnormal number is brought into the normal range first.
    let (x, shift) = if x < f64::MIN_POSITIVE {
        (x * 18_014_398_509_481_984.0, -54)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i32) - 1023 + shift;
    let mut m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m /= 2.0;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    // |s| ≤ 0.172, so the term s²²/23 is below half a unit in the last place.
    let mut sum = 0.0;
    for odd in (3..=23).rev().step_by(2) {
        sum = (sum + 1.0 / f64::from(odd)) * s2;
    }
    let exponent = f64::from(exponent);
    exponent * LN2_HIGH + (2.0 * s + (2.0 * s * sum + exponent * LN2_LOW))
}

/// The exponential, within two units in the last place; zero and infinity where the range of numbers ends.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -700.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // |r| ≤ 0.347, so the term r¹⁵/15! is below half a unit in the last place.
    let mut sum = 1.0;
    for i in (1..=15).rev() {
        sum = 1.0 + sum * r / f64::from(i);
    }
    let exponent = (1023 + k as i64).clamp(1, 2046) as u64;
    sum * f64::from_bits(exponent << 52)
}

/// The median of `values` (the mean of the middle two for an even number); `None` for none. All must be numbers.
pub fn median(values: &[f64]) -> Option<f64> {
    crate::stats::spread(values).map(|s| s.median)
}

/// The mean of `values`, added up in their order; `None` for none.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_good_as_the_platforms(x in 1e-300..1e300f64, y in -690.0..700.0f64, near in 0.5..2.0f64) {
            prop_assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs());
            prop_assert!((ln(near) - near.ln()).abs() <= 4e-16 * near.ln().abs());
            prop_assert!((exp(y) - y.exp()).abs() <= 6e-16 * y.exp());
            prop_assert!((exp(ln(near)) - near).abs() <= 1e-15);
        }
    }

    #[test]
    fn edges() {
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan() && exp(f64::NAN).is_nan());
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert_eq!((exp(1e9), exp(-1e9)), (f64::INFINITY, 0.0));
        assert!((ln(5e-324) - 5e-324f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_last_bits_are_the_same_on_every_machine() {
        // A hash over bits: it changes when any last bit does. The value was made once and holds everywhere.
        let mut hash = 0;
        for i in 1..20_000u64 {
            let x = i as f64 / 977.0;
            hash = crate::schedule::mix(hash ^ ln(x).to_bits() ^ exp(x - 9.0).to_bits().rotate_left(7), i);
        }
        assert_eq!(hash, PINNED, "{hash:#x}");
    }
    const PINNED: u64 = 0x9c5f_17cb_ba02_2444;
}
