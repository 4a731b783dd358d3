//! The plan of a gate: when it looks at the data, and how much of its false alarms it spends on each look.

use serde::{Deserialize, Serialize};

use super::exact::{exp, ln};
use super::maxt::smallest_p;
use crate::schedule::mix;

/// One look at the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// After so many blocks.
    pub blocks: usize,
    /// A p-value of at most this is a regression; its share of the gate's false alarms.
    pub alpha: f64,
    /// No early pass while a metric that looks worse has a p-value of at most this.
    pub doubt: f64,
    /// So many blocks more may be run for this look, to stand in for blocks that are left out.
    #[serde(default)]
    pub spare: usize,
}

impl Look {
    fn new(blocks: usize, alpha: f64, doubt: f64) -> Self {
        Self {
            blocks,
            alpha,
            doubt,
            // As many as may be left out.
            spare: 3 * blocks / 10,
        }
    }

    /// Most blocks that are run for it.
    pub fn most_run(&self) -> usize {
        self.blocks + self.spare
    }
}

/// When to look, and how sure to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In order.
    pub looks: Vec<Look>,
    /// One-sided chance that a bound is missed: 0.05 for bounds of 95 %.
    pub bound_alpha: f64,
}

/// The plan cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No looks.
    #[error("a gate needs at least one look")]
    NoLooks,
    /// Out of order, or without blocks.
    #[error("looks must come after more and more blocks, from 1 on")]
    Order,
    /// A level outside 0 to 1.
    #[error("levels must lie above 0 and below 1")]
    Level,
    /// No look could ever find anything.
    #[error(
        "no look can find a regression: at {blocks} blocks no p-value is below {smallest:.4}, and the look asks for {alpha:.4}"
    )]
    Blind {
        /// At the last look.
        blocks: usize,
        /// The smallest p-value it can give.
        smallest: f64,
        /// What it asks for.
        alpha: f64,
    },
}

impl Default for Plan {
    /// Looks at 10, 20 and 30 blocks that spend 0.2, 0.3 and 0.5 %: one gate in a hundred at most raises a false alarm.
    fn default() -> Self {
        let looks = [(10, 0.002, 0.3), (20, 0.003, 0.1), (30, 0.005, 0.0)];
        Self {
            looks: looks
                .map(|(blocks, alpha, doubt)| Look::new(blocks, alpha, doubt))
                .into(),
            bound_alpha: 0.05,
        }
    }
}

impl Plan {
    /// A plan for other looks that spends `total` false alarms over them: up to n of N blocks, total·(n/N)^1.5 (the
    /// power family of Kim and DeMets, Biometrika 1987). A look too early to find anything at its level (2⁻ⁿ above
    /// it) spends nothing on regressions; its share goes to the next.
    ///
    /// # Errors
    /// When no look could find a regression, or the looks are out of order.
    pub fn spending(blocks: &[usize], total: f64) -> Result<Self, PlanError> {
        let last = *blocks.last().ok_or(PlanError::NoLooks)?;
        if !(total > 0.0 && total < 1.0) {
            return Err(PlanError::Level);
        }
        let mut spent = 0.0;
        let mut looks = Vec::new();
        for (i, n) in blocks.iter().enumerate() {
            let may = if i + 1 == blocks.len() {
                total
            } else {
                total * exp(1.5 * ln(*n as f64 / last as f64))
            };
            let free = may - spent;
            let alpha = if smallest_p(*n) <= free { free } else { 0.0 };
            spent += alpha;
            let doubt = match i {
                _ if i + 1 == blocks.len() => 0.0,
                0 => 0.3,
                _ => 0.1,
            };
            looks.push(Look::new(*n, alpha, doubt));
        }
        let plan = Self {
            looks,
            ..Self::default()
        };
        plan.check()?;
        Ok(plan)
    }

    /// How many false alarms the plan spends in all.
    pub fn total_alpha(&self) -> f64 {
        self.looks.iter().map(|l| l.alpha).sum()
    }

    /// Blocks of the last look.
    pub fn most_blocks(&self) -> usize {
        self.looks.last().map_or(0, |l| l.blocks)
    }

    /// Most blocks that the gate runs, with those that stand in for others.
    pub fn most_run(&self) -> usize {
        self.looks.iter().map(Look::most_run).max().unwrap_or(0)
    }

    /// The same without blocks beyond those of the last look: it takes no longer on a machine that is disturbed.
    pub fn without_spare(mut self) -> Self {
        let most = self.most_blocks();
        for at in &mut self.looks {
            at.spare = at.spare.min(most - at.blocks);
        }
        self
    }

    /// Looks for what could not work.
    ///
    /// # Errors
    /// Says what.
    pub fn check(&self) -> Result<(), PlanError> {
        let last = self.looks.last().ok_or(PlanError::NoLooks)?;
        let increasing = self.looks.windows(2).all(|w| w[0].blocks < w[1].blocks);
        if !increasing || self.looks.iter().any(|l| l.blocks == 0) {
            return Err(PlanError::Order);
        }
        let inside = |x: f64| (0.0..1.0).contains(&x);
        let levels = self.looks.iter().all(|l| inside(l.alpha) && inside(l.doubt));
        if !levels || !inside(self.bound_alpha) || self.bound_alpha == 0.0 || !inside(self.total_alpha()) {
            return Err(PlanError::Level);
        }
        let smallest = smallest_p(last.blocks);
        if smallest > last.alpha {
            return Err(PlanError::Blind {
                blocks: last.blocks,
                smallest,
                alpha: last.alpha,
            });
        }
        Ok(())
    }
}

/// The coin of one block: whether the candidate goes first. The seed comes from the system's randomness and is recorded.
pub fn candidate_first(seed: u64, block: u64) -> bool {
    mix(seed, block) >> 63 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_spends_one_in_a_hundred() {
        let plan = Plan::default();
        assert_eq!(plan.check(), Ok(()));
        assert!((plan.total_alpha() - 0.01).abs() < 1e-15);
        let same = Plan::spending(&[10, 20, 30], 0.01).unwrap();
        assert!((same.total_alpha() - 0.01).abs() < 1e-15);
        assert!(same.looks.windows(2).all(|w| w[0].alpha < w[1].alpha));
    }

    #[test]
    fn short_plans() {
        // At six blocks no p-value is below 1/64: the look can only pass.
        let plan = Plan::spending(&[6, 12], 0.01).unwrap();
        assert_eq!(plan.looks[0].alpha, 0.0);
        assert_eq!(plan.looks[1].alpha, 0.01);
        assert!(matches!(
            Plan::spending(&[6], 0.01),
            Err(PlanError::Blind { blocks: 6, .. })
        ));
        assert_eq!(Plan::spending(&[7], 0.01).unwrap().looks[0].alpha, 0.01);
        assert_eq!(Plan::spending(&[], 0.01), Err(PlanError::NoLooks));
        assert_eq!(Plan::spending(&[8, 8], 0.01), Err(PlanError::Order));
        assert_eq!(Plan::spending(&[0, 8], 0.01), Err(PlanError::Order));
        assert_eq!(Plan::spending(&[8], f64::NAN), Err(PlanError::Level));
        assert_eq!(Plan::spending(&[8], 1.0), Err(PlanError::Level));
    }

    #[test]
    fn the_coin_is_fair_and_repeats() {
        let heads = (0..10_000).filter(|b| candidate_first(7, *b)).count();
        assert!((4_800..5_200).contains(&heads), "{heads}");
        assert_eq!(candidate_first(7, 3), candidate_first(7, 3));
    }
}
