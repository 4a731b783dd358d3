//! Random numbers that repeat: SplitMix64 counted on, and the distributions that the simulation draws from.

use super::exact::{exp, ln};
use crate::schedule::mix;

/// A stream of random numbers; the same seed gives the same stream on every machine.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    next: u64,
    spare: Option<f64>,
}

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            spare: None,
        }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let bits = mix(self.seed, self.next);
        self.next = self.next.wrapping_add(1);
        bits
    }

    /// Above 0, at most 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `end` (zero for none). Its bias is `end` in 2⁶⁴.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Standard normal (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = x * x + y * y;
            if s > 0.0 && s < 1.0 {
                let factor = (-2.0 * ln(s) / s).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// Student's t with four degrees of freedom, scaled to a standard deviation of one: heavy tails.
    pub fn heavy(&mut self) -> f64 {
        // Chi-square with four degrees of freedom is minus twice the logarithm of a product of two uniform numbers.
        let chi2 = -2.0 * ln(self.uniform() * self.uniform());
        self.normal() / (chi2 / 4.0).sqrt() / std::f64::consts::SQRT_2
    }

    /// Lognormal around `median`.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * exp(sigma * self.normal())
    }

    /// How often something happens that happens `mean` times on average (a few times at most).
    pub fn poisson(&mut self, mean: f64) -> usize {
        let limit = exp(-mean);
        let mut product = self.uniform();
        let mut count = 0;
        while product > limit && count < 1_000 {
            product *= self.uniform();
            count += 1;
        }
        count
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let mut random = Random::new(5);
        let many = 200_000;
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, variance)
        };
        let normal: Vec<f64> = (0..many).map(|_| random.normal()).collect();
        let heavy: Vec<f64> = (0..many).map(|_| random.heavy()).collect();
        let counts: Vec<f64> = (0..many).map(|_| random.poisson(0.7) as f64).collect();
        for (values, mean, variance, slack) in [
            (normal, 0.0, 1.0, 0.02),
            (heavy, 0.0, 1.0, 0.1),
            (counts, 0.7, 0.7, 0.02),
        ] {
            let got = moments(&values);
            assert!(
                (got.0 - mean).abs() < slack && (got.1 - variance).abs() < slack,
                "{got:?}"
            );
        }
        let mut seen = [0; 7];
        (0..many).for_each(|_| seen[random.below(7)] += 1);
        assert!(seen.iter().all(|s| (28_000..29_200).contains(s)), "{seen:?}");
    }
}
