//! Block differences: how much worse the candidate was than the baseline, for each metric in each block.
//!
//! One number for each metric and block, signed so that plus is worse. Ratios are compared as logarithms, because
//! noise on a shared machine multiplies and because a logarithm treats twice and half alike; shares of lost or failed
//! messages are compared as they are, because they may be zero.

use serde::{Deserialize, Serialize};

use super::exact::{exp, ln};

/// No difference is larger than a factor of 1,024: beyond it nothing more is learnt, and a side that measured zero has
/// a finite place at the end of the scale.
pub const LARGEST_RATIO: f64 = 1024.0;

/// How two numbers of one metric are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Smaller is better, compared as ln(candidate / baseline): latencies, times, CPU a message, bytes a connection.
    Cost,
    /// Larger is better, compared as ln(baseline / candidate): rates.
    Rate,
    /// A share of messages between 0 and 1, smaller is better, compared as candidate − baseline: loss, errors.
    Fraction,
}

impl Kind {
    /// The difference of one block, in the words of this module's head.
    ///
    /// A ratio with zero on one side stands at ± ln [`LARGEST_RATIO`]: a candidate whose rate fell to zero is as bad
    /// as can be, not missing.
    ///
    /// # Errors
    /// When the two numbers do not make a difference; the block is then missing for this metric, with the reason.
    pub fn difference(self, baseline: f64, candidate: f64) -> Result<f64, NoDifference> {
        if !baseline.is_finite() || !candidate.is_finite() {
            return Err(NoDifference::NotFinite);
        }
        if baseline < 0.0 || candidate < 0.0 {
            return Err(NoDifference::Negative);
        }
        let ratio = |worse: f64, better: f64| {
            if worse == 0.0 && better == 0.0 {
                Err(NoDifference::BothZero)
            } else {
                let most = ln(LARGEST_RATIO);
                Ok((ln(worse) - ln(better)).clamp(-most, most))
            }
        };
        match self {
            Kind::Cost => ratio(candidate, baseline),
            Kind::Rate => ratio(baseline, candidate),
            Kind::Fraction if baseline > 1.0 || candidate > 1.0 => Err(NoDifference::NotAShare),
            Kind::Fraction => Ok(candidate - baseline),
        }
    }

    /// A limit as people write it (0.05 for 5 %, or for 5 percentage points of a fraction) on the scale of differences.
    pub fn limit(self, written: f64) -> f64 {
        match self {
            Kind::Cost | Kind::Rate => ln(1.0 + written),
            Kind::Fraction => written,
        }
    }

    /// A difference as people read it, the inverse of [`Kind::limit`]: how much more the worse side costs, so that a
    /// rate that fell to a half shows as 1.0 (the baseline had 100 % more).
    pub fn shown(self, difference: f64) -> f64 {
        match self {
            Kind::Cost | Kind::Rate => exp(difference) - 1.0,
            Kind::Fraction => difference,
        }
    }

    /// A difference in words: `+6.2 %`, or `+0.12 pp` for a fraction.
    pub fn words(self, difference: f64) -> String {
        let shown = 100.0 * self.shown(difference);
        match self {
            Kind::Cost | Kind::Rate => format!("{shown:+.1} %"),
            Kind::Fraction => format!("{shown:+.2} pp"),
        }
    }
}

/// Why a block has no difference for a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NoDifference {
    /// One side is infinite or not a number.
    #[error("one side is not a finite number")]
    NotFinite,
    /// One side is below zero.
    #[error("one side is below zero")]
    Negative,
    /// Both sides of a ratio are zero.
    #[error("both sides are zero, which makes no ratio")]
    BothZero,
    /// A fraction above 1.
    #[error("one side is a share above 1")]
    NotAShare,
}

/// What a metric's test is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A regression fails the gate, and the gate passes only when this metric's budget is proven.
    Required,
    /// A regression fails the gate; no proof is asked for.
    Tested,
    /// Told, never decisive. Tested in a family of its own, so that it costs the others no power.
    Advisory,
}

/// One metric of one scenario, and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The scenario it was measured in.
    pub scenario: String,
    /// Its name, the same as in result files.
    pub name: String,
    /// How its two sides are compared.
    pub kind: Kind,
    /// What its test is good for.
    pub role: Role,
    /// Whether a machine without free processors bends it: latencies and other times, but not CPU, memory and loss.
    pub wants_quiet: bool,
    /// Materiality: a difference below it is never called a regression, however certain (0.03 for 3 %).
    pub floor: f64,
    /// What the metric may be worse by at most; a pass proves that it is not (0.05 for 5 %).
    pub budget: f64,
}

impl Metric {
    fn new(scenario: &str, name: &str, kind: Kind, role: Role, (floor, budget): (f64, f64)) -> Self {
        Self {
            scenario: scenario.to_owned(),
            name: name.to_owned(),
            kind,
            role,
            wants_quiet: false,
            floor,
            budget,
        }
    }

    /// A latency quantile by its usual name, with the limits of that quantile: p50 and p99 are required, p90 is
    /// tested, whatever lies beyond p99 is advisory.
    pub fn latency(scenario: &str, name: &str, quantile: f64) -> Self {
        let (role, limits) = match quantile {
            q if q <= 0.5 => (Role::Required, (0.03, 0.05)),
            q if q < 0.99 => (Role::Tested, (0.03, 0.10)),
            q if q <= 0.99 => (Role::Required, (0.05, 0.10)),
            _ => (Role::Advisory, (0.10, 0.25)),
        };
        Self {
            wants_quiet: true,
            ..Self::new(scenario, name, Kind::Cost, role, limits)
        }
    }

    /// A time that is not asked to be proven: connecting, detecting, reconnecting.
    pub fn time(scenario: &str, name: &str) -> Self {
        Self {
            wants_quiet: true,
            ..Self::new(scenario, name, Kind::Cost, Role::Tested, (0.05, 0.10))
        }
    }

    /// CPU a message or memory a connection.
    pub fn resource(scenario: &str, name: &str) -> Self {
        Self::new(scenario, name, Kind::Cost, Role::Required, (0.03, 0.05))
    }

    /// A rate.
    pub fn rate(scenario: &str, name: &str) -> Self {
        Self::new(scenario, name, Kind::Rate, Role::Required, (0.03, 0.05))
    }

    /// A share of messages lost or failed: floor 0.1 percentage points.
    pub fn fraction(scenario: &str, name: &str) -> Self {
        Self::new(scenario, name, Kind::Fraction, Role::Required, (0.001, 0.002))
    }
}

/// The differences of one metric, block by block.
///
/// The row ends where its scenario stopped being run; `None` within it is a block that has no difference for this
/// metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of what.
    pub metric: Metric,
    /// One for each block that the scenario ran, plus is worse.
    pub d: Vec<Option<f64>>,
}

impl Row {
    /// A row from both sides' numbers, and why blocks are missing: (block, reason).
    pub fn of(metric: Metric, sides: &[(f64, f64)]) -> (Self, Vec<(usize, NoDifference)>) {
        let mut missing = Vec::new();
        let d = sides
            .iter()
            .enumerate()
            .map(|(block, (baseline, candidate))| {
                metric
                    .kind
                    .difference(*baseline, *candidate)
                    .map_err(|why| missing.push((block, why)))
                    .ok()
            })
            .collect();
        (Self { metric, d }, missing)
    }

    /// The differences there are, among the first `blocks` blocks.
    pub fn present(&self, blocks: usize) -> Vec<f64> {
        self.d.iter().take(blocks).flatten().copied().collect()
    }
}

/// All differences of a gate: everything a verdict depends on besides the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// One row for each metric of each scenario.
    pub rows: Vec<Row>,
}

/// The table cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Nothing to judge.
    #[error("the table has no rows")]
    Empty,
    /// Two rows of one name.
    #[error("{0} stands in the table twice")]
    Twice(String),
    /// A difference that no two numbers make.
    #[error("{0}: the difference of block {1} is not a number, or larger than any can be")]
    NoDifference(String, usize),
    /// Limits that make no sense.
    #[error("{0}: the floor must be above zero and the budget above the floor")]
    Limits(String),
}

impl Table {
    /// How many blocks the longest row has.
    pub fn blocks(&self) -> usize {
        self.rows.iter().map(|r| r.d.len()).max().unwrap_or(0)
    }

    /// Looks for what would make a verdict meaningless.
    ///
    /// # Errors
    /// Names the first row that cannot be judged.
    pub fn check(&self) -> Result<(), TableError> {
        if self.rows.is_empty() {
            return Err(TableError::Empty);
        }
        let mut names = std::collections::BTreeSet::new();
        for row in &self.rows {
            let m = &row.metric;
            let name = format!("{} of {}", m.name, m.scenario);
            if !(m.floor > 0.0 && m.budget > m.floor && m.budget.is_finite()) {
                return Err(TableError::Limits(name));
            }
            // Both comparisons are false for what is no number.
            let most = match m.kind {
                Kind::Cost | Kind::Rate => ln(LARGEST_RATIO),
                Kind::Fraction => 1.0,
            };
            let fits = |d: &Option<f64>| d.is_none_or(|d| -most <= d && d <= most);
            if let Some(block) = row.d.iter().position(|d| !fits(d)) {
                return Err(TableError::NoDifference(name, block));
            }
            if !names.insert((&m.scenario, &m.name)) {
                return Err(TableError::Twice(name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plus_is_worse() {
        let d = |k: Kind, b, c| k.difference(b, c).unwrap();
        assert!((d(Kind::Cost, 100.0, 110.0) - 1.1f64.ln()).abs() < 1e-15);
        assert!((d(Kind::Rate, 110.0, 100.0) - 1.1f64.ln()).abs() < 1e-15);
        assert_eq!(d(Kind::Fraction, 0.0, 0.25), 0.25);
        assert_eq!(d(Kind::Fraction, 0.0, 0.0), 0.0);
    }

    #[test]
    fn zero_and_what_is_no_number() {
        let most = ln(LARGEST_RATIO);
        assert_eq!(Kind::Rate.difference(5.0, 0.0), Ok(most));
        assert_eq!(Kind::Cost.difference(0.0, 5.0), Ok(most));
        assert_eq!(Kind::Cost.difference(5.0, 0.0), Ok(-most));
        assert_eq!(Kind::Cost.difference(0.0, 0.0), Err(NoDifference::BothZero));
        assert_eq!(Kind::Cost.difference(f64::NAN, 1.0), Err(NoDifference::NotFinite));
        assert_eq!(
            Kind::Cost.difference(1.0, f64::INFINITY),
            Err(NoDifference::NotFinite)
        );
        assert_eq!(Kind::Rate.difference(1.0, -1.0), Err(NoDifference::Negative));
        assert_eq!(Kind::Fraction.difference(0.0, 1.5), Err(NoDifference::NotAShare));
        let (row, missing) = Row::of(
            Metric::latency("feed", "p50", 0.5),
            &[(1.0, 1.0), (0.0, 0.0), (1.0, 2.0)],
        );
        assert_eq!(row.present(9), [0.0, ln(2.0)]);
        assert_eq!(missing, [(1, NoDifference::BothZero)]);
    }

    #[test]
    fn tables_that_cannot_be_judged() {
        let row = Row {
            metric: Metric::rate("feed", "a"),
            d: vec![Some(0.0)],
        };
        let check = |rows: &[Row]| Table { rows: rows.to_vec() }.check();
        assert_eq!(check(&[]), Err(TableError::Empty));
        assert!(matches!(
            check(&[row.clone(), row.clone()]),
            Err(TableError::Twice(_))
        ));
        for d in [f64::NAN, f64::INFINITY, -7.0, 1e300] {
            let mut bad = row.clone();
            bad.d.push(Some(d));
            assert!(matches!(check(&[bad]), Err(TableError::NoDifference(_, 1))));
        }
        for (floor, budget) in [(0.0, 0.1), (0.2, 0.1), (0.1, f64::NAN), (f64::NAN, 0.1)] {
            let mut bad = row.clone();
            (bad.metric.floor, bad.metric.budget) = (floor, budget);
            assert!(matches!(check(&[bad]), Err(TableError::Limits(_))));
        }
    }

    proptest! {
        #[test]
        fn exchanging_the_arms_changes_the_sign(a in 0.0..1.0f64, b in 0.0..1.0f64) {
            for kind in [Kind::Cost, Kind::Rate, Kind::Fraction] {
                let (one, other) = (kind.difference(a, b), kind.difference(b, a));
                prop_assert_eq!(one.map(|d| -d), other);
            }
        }

        #[test]
        fn what_is_shown_is_what_was_written(x in -0.5..3.0f64) {
            for kind in [Kind::Cost, Kind::Rate, Kind::Fraction] {
                prop_assert!((kind.shown(kind.limit(x)) - x).abs() < 1e-14);
            }
        }
    }
}
