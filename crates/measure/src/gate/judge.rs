//! The verdict: what each look says of each metric, and of the gate.
//!
//! A regression needs both: a p-value within the look's share of false alarms, adjusted for all metrics, and a median
//! difference of at least the metric's floor. A pass is proven, never assumed: the upper bound of every required metric
//! lies under its budget. What is neither is unproven, and a gate that ends so is inconclusive.

use serde::{Deserialize, Serialize};

use super::difference::{Kind, Metric, Role, Row, Table, TableError};
use super::exact::{mean, median};
use super::maxt::{MaxT, max_t, winsorised};
use super::plan::{Look, Plan, PlanError};
use super::signed_rank::{Estimate, estimate};
use super::student;
use super::validity::Machine;
use crate::schedule::mix;

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
    /// Chance of as large a t anywhere in the gate when nothing differs; `None` when not tested.
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
    /// Of a metric that was not tested, after so many blocks.
    pub fn untested(m: &Metric, blocks: usize, why: &str) -> Self {
        Self {
            scenario: m.scenario.clone(),
            name: m.name.clone(),
            kind: m.kind,
            role: m.role,
            standing: Standing::NotTested,
            proven: false,
            blocks,
            p: None,
            p_better: None,
            median: None,
            estimate: None,
            detectable: None,
            why: Some(why.to_owned()),
        }
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
    /// A hash of the data that was tested, which the random ones were drawn from.
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

/// Judges the next look after `before`, the first when there was none, over as many blocks of the table as it has.
///
/// `machine` says what may be judged of a scenario: one that cannot be judged takes nothing from the others, but it is not proven.
///
/// A scenario that was settled before may have ended there: its readings stand as they were. One that was not settled
/// and ended all the same is not tested, so that the gate cannot pass.
///
/// # Errors
/// When the table or the plan make no sense, or there are fewer blocks than the look needs.
pub fn judge(
    table: &Table,
    plan: &Plan,
    before: Option<&Judgement>,
    machine: &dyn Fn(&str) -> Machine,
) -> Result<Judgement, JudgeError> {
    table.check()?;
    plan.check()?;
    let look = before.map_or(0, |b| b.look + 1);
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
    let mut readings = Vec::with_capacity(table.rows.len());
    let mut live = Vec::with_capacity(table.rows.len());
    for (j, row) in table.rows.iter().enumerate() {
        let m = &row.metric;
        let settled = before
            .filter(|b| row.d.len() < at.blocks && !b.unsettled.contains(&m.scenario))
            .and_then(|b| b.readings.get(j))
            .filter(|r| (&r.scenario, &r.name) == (&m.scenario, &m.name));
        live.push(settled.is_none());
        readings.push(match settled {
            Some(settled) => settled.clone(),
            None => reading(row, at, plan.bound_alpha, machine(&m.scenario)),
        });
    }
    let (mut flips, mut tested) = (0, Vec::new());
    for advisory in [false, true] {
        let families = families(&readings, &live, advisory);
        for family in &families {
            // Families that stand for one share its false alarms.
            let found = test_family(table, plan, at, &mut readings, family);
            flips = flips.max(found.flips);
            if !advisory {
                tested.push(found.seed);
            }
        }
    }
    let seed = tested.iter().fold(0, |hash, seed| mix(hash, *seed));

    let gated = |r: &Reading| r.role != Role::Advisory;
    let unsettled = unsettled(&readings, &live, at);
    let regression = readings
        .iter()
        .any(|r| r.standing == Standing::Regression && gated(r));
    // With nothing required, nothing is proven.
    let proven = readings.iter().any(|r| r.role == Role::Required) && unsettled.is_empty();
    let unfit = |row: &Row| machine(&row.metric.scenario) == Machine::Unfit;
    let outcome = if table.rows.iter().all(unfit) {
        Outcome::Invalid
    } else if regression {
        Outcome::Regression
    } else if proven {
        match readings
            .iter()
            .any(|r| r.standing == Standing::Improvement && gated(r))
        {
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
        flips,
        seed,
    })
}

/// Rows that are tested together, and how many such families share the look's false alarms.
struct Family {
    members: Vec<usize>,
    of: usize,
}

/// All rows are one family while all scenarios run. Once some have ended, because they looked well, the rest is a choice
/// made with a view of the data, and its joint p-value would be too small. Then each scenario that still runs is a
/// family of its own with an equal part of the false alarms, the ended ones' parts unspent (Bonferroni): a bound that
/// holds however the choice was made.
fn families(readings: &[Reading], live: &[bool], advisory: bool) -> Vec<Family> {
    let belongs = |r: &Reading| (r.role == Role::Advisory) == advisory;
    let members: Vec<usize> = (0..readings.len())
        .filter(|j| live[*j] && readings[*j].why.is_none() && belongs(&readings[*j]))
        .collect();
    if live.iter().all(|live| *live) {
        return vec![Family { members, of: 1 }];
    }
    let scenarios = |rows: &mut dyn Iterator<Item = usize>| {
        let mut names: Vec<&str> = Vec::new();
        for j in rows {
            let name = readings[j].scenario.as_str();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let of = scenarios(&mut (0..readings.len()).filter(|j| belongs(&readings[*j]))).len();
    scenarios(&mut members.iter().copied())
        .into_iter()
        .map(|name| Family {
            members: members
                .iter()
                .copied()
                .filter(|j| readings[*j].scenario == name)
                .collect(),
            of,
        })
        .collect()
}

/// What can be said of a row by itself.
fn reading(row: &Row, at: Look, bound_alpha: f64, machine: Machine) -> Reading {
    let m = &row.metric;
    let (present, ran) = (row.present(at.blocks), row.d.len().min(at.blocks));
    let estimate = estimate(&present, bound_alpha);
    let upper = estimate.and_then(|e| e.upper);
    let why = if machine == Machine::Unfit {
        Some("the sensors say that nothing can be judged".to_owned())
    } else if m.wants_quiet && machine == Machine::Saturated {
        Some("the machine had no processor free: times say nothing".to_owned())
    } else if ran < at.blocks {
        Some(format!("its scenario ended after {ran} of {} blocks", at.blocks))
    } else if present.len() < 2 || (present.len() as f64) < LEAST_PRESENT * ran as f64 {
        Some(format!(
            "only {} of {ran} blocks have a difference",
            present.len()
        ))
    } else {
        None
    };
    // Shares are not symmetric: one block that lost everything moves no rank. Their mean counts too.
    let mean_holds =
        m.kind != Kind::Fraction || mean(&present).is_some_and(|mean| mean < m.kind.limit(m.budget));
    let proven = why.is_none() && mean_holds && upper.is_some_and(|upper| upper < m.kind.limit(m.budget));
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

/// Tests a family, in both directions, and writes what it finds into the readings.
fn test_family(table: &Table, plan: &Plan, at: Look, readings: &mut [Reading], family: &Family) -> MaxT {
    let Family { members, of } = family;
    let of = *of as f64;
    let rows: Vec<&[Option<f64>]> = members
        .iter()
        .map(|j| &table.rows[*j].d[..table.rows[*j].d.len().min(at.blocks)])
        .collect();
    let found = max_t(&rows, at.alpha / of);
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
        r.p = Some((found.p[i] * of).min(1.0));
        r.p_better = mirrored
            .as_ref()
            .filter(|_| better[i])
            .map(|p| (p[i] * of).min(1.0));
        r.detectable = detectable(rows[i], found.critical_t, plan.bound_alpha);
        if worse[i] && r.p.is_some_and(|p| p <= at.alpha) {
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
fn unsettled(readings: &[Reading], live: &[bool], at: Look) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (r, live) in readings.iter().zip(live) {
        let unproven = r.role == Role::Required && !r.proven;
        let doubtful = r.role != Role::Advisory
            && r.p.is_some_and(|p| p <= at.doubt)
            && r.median.is_some_and(|median| median > 0.0);
        if *live && (unproven || doubtful) && !names.contains(&r.scenario) {
            names.push(r.scenario.clone());
        }
    }
    names
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
