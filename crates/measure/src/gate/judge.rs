//! The verdict: what each look says of each metric, and of the gate.
//!
//! A regression needs both: a p-value within the look's share of false alarms, adjusted for all metrics, and a median
//! difference of at least the metric's floor. A pass is proven, never assumed: the upper bound of every required metric
//! lies under its budget. What is neither is unproven, and a gate that ends so is inconclusive.

use serde::{Deserialize, Serialize};

use super::difference::{Kind, Role, Row, Table, TableError};
use super::exact::median;
use super::maxt::{MaxT, max_t, winsorised};
use super::plan::{Look, Plan, PlanError};
use super::signed_rank::{Estimate, estimate};
use super::student;
use super::validity::Machine;

/// A metric with differences in less than this share of its blocks is not tested.
pub const LEAST_PRESENT: f64 = 0.7;

/// What one look says of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Worse, surely and by more than the floor.
    Regression,
    /// Better, surely and by more than the floor.
    Improvement,
    /// Proven not to be worse than the budget.
    Pass,
    /// Neither worse nor proven.
    Unproven,
    /// Not tested; [`Reading::why`] says why.
    NotTested,
}

/// What one look found for one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub name: String,
    /// How its sides are compared.
    pub kind: Kind,
    /// What its test is good for.
    pub role: Role,
    /// The verdict on it.
    pub standing: Standing,
    /// Whether the upper bound lies under the budget.
    pub proven: bool,
    /// How many blocks have a difference.
    pub blocks: usize,
    /// Chance of as large a t anywhere in the family when nothing differs; `None` when not tested.
    pub p: Option<f64>,
    /// The same for the other direction; `None` when the median is not better by the floor.
    pub p_better: Option<f64>,
    /// Median difference.
    pub median: Option<f64>,
    /// Estimate with bounds, on the scale of differences.
    pub estimate: Option<Estimate>,
    /// A true difference of this size would be found at this look with about the confidence of the bounds, given the
    /// spread that was seen. `None` when not tested.
    pub detectable: Option<f64>,
    /// Why it was not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Reading {
    /// The regression that is ruled out, in words; `None` where no bound exists.
    pub fn ruled_out(&self, bound_alpha: f64) -> Option<String> {
        let upper = self.estimate?.upper?;
        Some(format!(
            "a {} regression above {} is ruled out ({:.0} %)",
            self.name,
            self.kind.words(upper),
            100.0 * (1.0 - bound_alpha)
        ))
    }
}

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every required metric is proven.
    Pass,
    /// A pass with at least one improvement.
    Improvement,
    /// At least one metric is worse.
    Regression,
    /// The last look, and not every required metric is proven.
    Inconclusive,
    /// Not the last look: run more blocks of the scenarios that are not settled.
    MoreBlocks,
    /// The sensors say that nothing can be told.
    Invalid,
}

impl Outcome {
    /// The exit code of a gate; in `strict` mode what is not proven is not zero. Two is for errors of use.
    pub fn exit_code(self, strict: bool) -> u8 {
        match self {
            Outcome::Pass | Outcome::Improvement => 0,
            Outcome::Regression => 1,
            Outcome::Inconclusive | Outcome::MoreBlocks => 3 * u8::from(strict),
            Outcome::Invalid => 4 * u8::from(strict),
        }
    }
}

/// What one look says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub outcome: Outcome,
    /// Which look, from zero.
    pub look: usize,
    /// The look itself.
    pub at: Look,
    /// Every metric, in the order of the table.
    pub readings: Vec<Reading>,
    /// Scenarios that need more blocks before the gate can pass.
    pub unsettled: Vec<String>,
    /// How many vectors of signs the test tried.
    pub flips: usize,
    /// What random ones were drawn from: a hash of the data.
    pub seed: u64,
}

/// There is nothing to judge, or no way to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgeError {
    /// The differences.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The first look lies beyond the data.
    #[error("{have} blocks are there, and the look needs {need}")]
    TooFew {
        /// Blocks in the table.
        have: usize,
        /// Blocks of the look.
        need: usize,
    },
    /// The plan has no such look.
    #[error("the plan has {0} looks")]
    NoSuchLook(usize),
}

/// Walks through the plan's looks as far as the data reach, and stops where the gate would have stopped. Given the same
/// table and plan, the judgement is the same, to the last bit, on every machine.
///
/// # Errors
/// When the table or the plan make no sense, or there are fewer blocks than the first look needs.
pub fn replay(table: &Table, plan: &Plan, machine: Machine) -> Result<Judgement, JudgeError> {
    let mut last = judge(table, plan, 0, machine)?;
    for look in 1..plan.looks.len() {
        if last.outcome != Outcome::MoreBlocks || table.blocks() < plan.looks[look].blocks {
            break;
        }
        last = judge(table, plan, look, machine)?;
    }
    Ok(last)
}

/// Judges the first blocks of the table, as many as look number `look` has.
///
/// # Errors
/// When the table or the plan make no sense, or there are fewer blocks than the look needs.
pub fn judge(table: &Table, plan: &Plan, look: usize, machine: Machine) -> Result<Judgement, JudgeError> {
    table.check()?;
    plan.check()?;
    let at = *plan
        .looks
        .get(look)
        .ok_or(JudgeError::NoSuchLook(plan.looks.len()))?;
    if table.blocks() < at.blocks {
        return Err(JudgeError::TooFew {
            have: table.blocks(),
            need: at.blocks,
        });
    }
    let mut readings: Vec<Reading> = table
        .rows
        .iter()
        .map(|row| reading(row, at, plan.bound_alpha, machine))
        .collect();
    let advisory = |r: &Reading| r.role == Role::Advisory;
    let found = test_family(table, plan, at, &mut readings, |r| !advisory(r));
    test_family(table, plan, at, &mut readings, advisory);

    let unsettled = unsettled(&readings, at);
    let regression = readings
        .iter()
        .any(|r| r.standing == Standing::Regression && !advisory(r));
    // With nothing required, nothing is proven.
    let proven = readings.iter().any(|r| r.role == Role::Required) && unsettled.is_empty();
    let outcome = if regression {
        Outcome::Regression
    } else if proven {
        match readings.iter().any(|r| r.standing == Standing::Improvement) {
            true => Outcome::Improvement,
            false => Outcome::Pass,
        }
    } else if look + 1 == plan.looks.len() {
        Outcome::Inconclusive
    } else {
        Outcome::MoreBlocks
    };
    Ok(Judgement {
        outcome,
        look,
        at,
        readings,
        unsettled,
        flips: found.flips,
        seed: found.seed,
    })
}

/// What can be said of a row by itself.
fn reading(row: &Row, at: Look, bound_alpha: f64, machine: Machine) -> Reading {
    let m = &row.metric;
    let (present, ran) = (row.present(at.blocks), row.d.len().min(at.blocks));
    let estimate = estimate(&present, bound_alpha);
    let upper = estimate.and_then(|e| e.upper);
    let why = if m.wants_quiet && machine == Machine::Saturated {
        Some("the machine had no processor free: times say nothing".to_owned())
    } else if present.len() < 2 || (present.len() as f64) < LEAST_PRESENT * ran as f64 {
        Some(format!(
            "only {} of {ran} blocks have a difference",
            present.len()
        ))
    } else {
        None
    };
    let proven = why.is_none() && upper.is_some_and(|upper| upper < m.kind.limit(m.budget));
    Reading {
        scenario: m.scenario.clone(),
        name: m.name.clone(),
        kind: m.kind,
        role: m.role,
        standing: match (&why, proven) {
            (Some(_), _) => Standing::NotTested,
            (None, true) => Standing::Pass,
            (None, false) => Standing::Unproven,
        },
        proven,
        blocks: present.len(),
        p: None,
        p_better: None,
        median: median(&present),
        estimate,
        detectable: None,
        why,
    }
}

/// Tests the metrics that `belongs` picks as one family, in both directions, and writes what it finds into them.
fn test_family(
    table: &Table,
    plan: &Plan,
    at: Look,
    readings: &mut [Reading],
    belongs: impl Fn(&Reading) -> bool,
) -> MaxT {
    let members: Vec<usize> = readings
        .iter()
        .enumerate()
        .filter(|(_, r)| r.why.is_none() && belongs(r))
        .map(|(j, _)| j)
        .collect();
    let rows: Vec<&[Option<f64>]> = members
        .iter()
        .map(|j| &table.rows[*j].d[..table.rows[*j].d.len().min(at.blocks)])
        .collect();
    let found = max_t(&rows, at.alpha);
    let beyond_floor = |j: usize, sign: f64| {
        let m = &table.rows[j].metric;
        readings[j]
            .median
            .is_some_and(|median| sign * median >= m.kind.limit(m.floor))
    };
    let worse: Vec<bool> = members.iter().map(|j| beyond_floor(*j, 1.0)).collect();
    let better: Vec<bool> = members.iter().map(|j| beyond_floor(*j, -1.0)).collect();
    // Rarely any is better by its floor, and only then is the other direction worth its time.
    let mirrored = better.contains(&true).then(|| {
        let negated: Vec<Vec<Option<f64>>> = rows
            .iter()
            .map(|row| row.iter().map(|d| d.map(|d| -d)).collect())
            .collect();
        let negated: Vec<&[Option<f64>]> = negated.iter().map(Vec::as_slice).collect();
        max_t(&negated, at.alpha).p
    });
    for (i, j) in members.iter().enumerate() {
        let r = &mut readings[*j];
        r.p = Some(found.p[i]);
        r.p_better = mirrored.as_ref().filter(|_| better[i]).map(|p| p[i]);
        r.detectable = detectable(rows[i], found.critical_t, plan.bound_alpha);
        if worse[i] && found.p[i] <= at.alpha {
            r.standing = Standing::Regression;
        } else if r.p_better.is_some_and(|p| p <= at.alpha) {
            r.standing = Standing::Improvement;
        }
    }
    found
}

/// The difference that would be found with the chance 1 − `miss`: as many standard errors away from zero as the
/// family's critical t and the t that is missed.
fn detectable(row: &[Option<f64>], critical_t: f64, miss: f64) -> Option<f64> {
    let w = winsorised(&row.iter().flatten().copied().collect::<Vec<_>>());
    let n = w.len() as f64;
    let df = u32::try_from(w.len()).ok()?.checked_sub(1).filter(|df| *df > 0)?;
    let mean = w.iter().sum::<f64>() / n;
    let variance = w.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>() / f64::from(df);
    let away = (critical_t + student::critical(miss, df)) * (variance / n).sqrt();
    away.is_finite().then_some(away)
}

/// Scenarios in which a required metric is not proven, or a metric that looks worse is still in doubt.
fn unsettled(readings: &[Reading], at: Look) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for r in readings {
        let unproven = r.role == Role::Required && !r.proven;
        let doubtful = r.role != Role::Advisory
            && r.p.is_some_and(|p| p <= at.doubt)
            && r.median.is_some_and(|median| median > 0.0);
        if (unproven || doubtful) && !names.contains(&r.scenario) {
            names.push(r.scenario.clone());
        }
    }
    names
}
