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
mod tests {
    use super::*;

    /// A row of `blocks` differences around `shift`, up to 1.2 % on both sides; rows of other `turn`s go other ways.
    fn row(metric: Metric, blocks: usize, shift: f64, turn: usize) -> Row {
        const AROUND: [f64; 10] = [0.5, -1.2, 0.3, -0.6, 1.1, -0.9, 0.2, -0.4, 0.8, -0.1];
        Row {
            metric,
            d: (0..blocks)
                .map(|k| Some(shift + 0.01 * AROUND[(k + 3 * turn) % 10]))
                .collect(),
        }
    }

    fn table(rows: Vec<Row>) -> Table {
        Table { rows }
    }

    /// Walks through the plan's looks as far as the data reach.
    fn replay(table: &Table, plan: &Plan, machine: Machine) -> Result<Judgement, JudgeError> {
        let mut last = judge(table, plan, None, &|_| machine)?;
        while last.outcome == Outcome::MoreBlocks
            && plan
                .looks
                .get(last.look + 1)
                .is_some_and(|next| next.blocks <= table.blocks())
        {
            last = judge(table, plan, Some(&last), &|_| machine)?;
        }
        Ok(last)
    }

    fn say(rows: Vec<Row>) -> Judgement {
        replay(&table(rows), &Plan::default(), Machine::Fit).unwrap()
    }

    fn p50(blocks: usize, shift: f64) -> Row {
        row(Metric::latency("feed", "p50", 0.5), blocks, shift, 1)
    }

    fn cpu(blocks: usize, shift: f64) -> Row {
        row(Metric::resource("feed", "CPU"), blocks, shift, 2)
    }

    #[test]
    fn the_four_ends() {
        let pass = say(vec![p50(10, 0.0), cpu(10, 0.0)]);
        assert_eq!((pass.outcome, pass.at.blocks), (Outcome::Pass, 10));
        assert!(pass.readings.iter().all(|r| r.standing == Standing::Pass));

        let worse = say(vec![p50(10, 0.0), cpu(10, 0.08)]);
        assert_eq!(worse.outcome, Outcome::Regression);
        assert_eq!(worse.readings[0].standing, Standing::Pass);
        assert_eq!(worse.readings[1].standing, Standing::Regression);
        assert_eq!(worse.readings[1].p, Some(1.0 / 1024.0));

        let better = say(vec![p50(10, 0.0), cpu(10, -0.08)]);
        assert_eq!(better.outcome, Outcome::Improvement);
        assert_eq!(better.readings[1].p_better, Some(1.0 / 1024.0));

        // Around the budget nothing is proven, and below the floor nothing is called worse.
        let mut wide = p50(30, 0.0);
        wide.d.iter_mut().for_each(|d| *d = d.map(|d| d * 50.0));
        let unknown = say(vec![wide, cpu(30, 0.0)]);
        assert_eq!((unknown.outcome, unknown.at.blocks), (Outcome::Inconclusive, 30));
        assert_eq!(unknown.unsettled, ["feed"]);
    }

    #[test]
    fn a_sure_difference_below_the_floor_is_no_regression() {
        let said = say(vec![p50(30, 0.0), cpu(30, 0.02)]);
        assert!(said.readings[1].p.unwrap() < 0.001);
        assert_eq!(said.readings[1].standing, Standing::Pass);
        // In doubt as long as there are looks to come; passed at the last.
        assert_eq!((said.outcome, said.at.blocks), (Outcome::Pass, 30));
    }

    #[test]
    fn roles() {
        let with = |role, shift| {
            let mut tail = row(Metric::latency("feed", "p99.9", 0.999), 10, shift, 3);
            tail.metric.role = role;
            say(vec![p50(10, 0.0), tail])
        };
        let told = with(Role::Advisory, 0.5);
        assert_eq!(
            (told.outcome, told.readings[1].standing),
            (Outcome::Pass, Standing::Regression)
        );
        assert_eq!(with(Role::Tested, 0.5).outcome, Outcome::Regression);
        // Not proven: decisive only where proof is asked for.
        assert_eq!(with(Role::Tested, 0.0).outcome, Outcome::Pass);
        let mut noisy = row(Metric::latency("feed", "p99.9", 0.999), 30, 0.0, 3);
        noisy.d.iter_mut().for_each(|d| *d = d.map(|d| d * 150.0));
        noisy.metric.role = Role::Required;
        assert_eq!(
            say(vec![p50(30, 0.0), noisy.clone()]).outcome,
            Outcome::Inconclusive
        );
        noisy.metric.role = Role::Advisory;
        assert_eq!(say(vec![p50(30, 0.0), noisy.clone()]).outcome, Outcome::Pass);
        // Nothing required, nothing proven.
        assert_eq!(say(vec![noisy]).outcome, Outcome::Inconclusive);
    }

    #[test]
    fn what_is_missing_never_passes() {
        let mut holes = cpu(30, 0.0);
        holes.d.iter_mut().take(4).for_each(|d| *d = None);
        let said = judge(
            &table(vec![p50(10, 0.0), holes.clone()]),
            &Plan::default(),
            None,
            &|_| Machine::Fit,
        )
        .unwrap();
        assert_eq!(said.outcome, Outcome::MoreBlocks);
        assert_eq!(said.readings[1].standing, Standing::NotTested);
        assert!(
            said.readings[1]
                .why
                .as_ref()
                .unwrap()
                .contains("only 6 of 10 blocks")
        );
        // Three of ten may be missing.
        holes.d[3] = Some(0.0);
        let said = judge(&table(vec![p50(10, 0.0), holes]), &Plan::default(), None, &|_| {
            Machine::Fit
        })
        .unwrap();
        assert_eq!(said.outcome, Outcome::Pass);
        // A row that ends before the first look.
        let short = say(vec![p50(30, 0.0), cpu(9, 0.0)]);
        assert_eq!(short.outcome, Outcome::Inconclusive);
        assert!(
            short.readings[1]
                .why
                .as_ref()
                .unwrap()
                .contains("ended after 9 of 30 blocks")
        );
        for rows in [vec![], vec![p50(0, 0.0)], vec![p50(9, 0.0)]] {
            assert!(replay(&table(rows), &Plan::default(), Machine::Fit).is_err());
        }
    }

    #[test]
    fn a_settled_scenario_may_end_and_an_unsettled_one_may_not() {
        let other = |name, blocks, shift| row(Metric::resource("echo", name), blocks, shift, 7);
        // The echo scenario is in doubt at the first look; the feed is settled and ends.
        let rows = |feed: usize, echo: usize| vec![p50(feed, 0.0), cpu(feed, 0.0), other("CPU", echo, 0.02)];
        let first = judge(&table(rows(10, 10)), &Plan::default(), None, &|_| Machine::Fit).unwrap();
        assert_eq!(
            (first.outcome, &first.unsettled[..]),
            (Outcome::MoreBlocks, &["echo".to_owned()][..])
        );
        let said = say(rows(10, 30));
        assert_eq!((said.outcome, said.at.blocks), (Outcome::Pass, 30));
        assert_eq!(said.readings[0], first.readings[0]);
        let twice = said.readings[2].p.unwrap() / 2.0;
        assert!(twice < 0.001, "two scenarios share the false alarms");
        let ended = say(rows(30, 10));
        assert_eq!(ended.outcome, Outcome::Inconclusive);
    }

    #[test]
    fn a_saturated_machine_judges_cpu_and_not_times() {
        let say = |shift| {
            let rows = vec![p50(30, 3.0), cpu(30, shift)];
            replay(&table(rows), &Plan::default(), Machine::Saturated).unwrap()
        };
        assert_eq!(say(0.0).outcome, Outcome::Inconclusive);
        assert_eq!(say(0.0).readings[1].standing, Standing::Pass);
        assert_eq!(say(0.08).outcome, Outcome::Regression);
        let unfit = replay(&table(vec![cpu(30, 3.0)]), &Plan::default(), Machine::Unfit).unwrap();
        assert_eq!(unfit.outcome, Outcome::Invalid);
    }

    #[test]
    fn a_scenario_that_cannot_be_judged_takes_nothing_from_another() {
        let other = |shift| row(Metric::resource("herd", "CPU"), 10, shift, 7);
        let with = |rows: Vec<Row>, herd: Machine| {
            let machine = |scenario: &str| if scenario == "herd" { herd } else { Machine::Fit };
            judge(&table(rows), &Plan::default(), None, &machine).unwrap()
        };
        let said = with(vec![p50(10, 0.08), other(0.0)], Machine::Saturated);
        assert_eq!(said.outcome, Outcome::Regression);
        let said = with(vec![p50(10, 0.08), other(0.0)], Machine::Unfit);
        assert_eq!(said.outcome, Outcome::Regression);
        assert_eq!(said.readings[1].standing, Standing::NotTested);
        // It is not proven either.
        let said = with(vec![p50(10, 0.0), other(0.0)], Machine::Unfit);
        assert_eq!(
            (said.outcome, &said.unsettled[..]),
            (Outcome::MoreBlocks, &["herd".to_owned()][..])
        );
        assert_eq!(with(vec![other(0.0)], Machine::Unfit).outcome, Outcome::Invalid);
    }

    #[test]
    fn a_rate_that_fell_and_messages_that_were_lost() {
        let (rate, _) = Row::of(Metric::rate("feed", "rate"), &[(100.0, 0.0); 10]);
        let said = say(vec![rate, cpu(10, 0.0)]);
        assert_eq!(said.readings[0].standing, Standing::Regression);
        let loss = |lost| Row::of(Metric::fraction("feed", "loss"), &[(0.0, lost); 10]).0;
        assert_eq!(say(vec![loss(0.0), cpu(10, 0.0)]).outcome, Outcome::Pass);
        let lossy = say(vec![loss(0.005), cpu(10, 0.0)]);
        assert_eq!(lossy.outcome, Outcome::Regression);
        // Sure, but below a tenth of a percentage point.
        assert_ne!(
            say(vec![loss(0.000_5), cpu(10, 0.0)]).outcome,
            Outcome::Regression
        );
    }

    #[test]
    fn one_block_that_lost_everything_is_no_proof_of_a_share() {
        let with = |worst: f64| {
            let mut sides = [(0.0, 0.0); 30];
            sides[4].1 = worst;
            let (lost, _) = Row::of(Metric::fraction("feed", "not_recovered"), &sides);
            say(vec![lost, cpu(30, 0.0)])
        };
        // The bound says that nothing happened: ranks do not see one of thirty.
        let all = with(1.0);
        assert_eq!(all.readings[0].estimate.unwrap().upper, Some(0.0));
        assert!(!all.readings[0].proven);
        assert_eq!(all.outcome, Outcome::Inconclusive);
        // Over thirty blocks, less than the budget.
        assert_eq!(with(0.05).outcome, Outcome::Pass);
    }

    #[test]
    fn a_replay_from_the_file_is_the_same_to_the_last_bit() {
        for shift in [0.0, 0.02, 0.035, 0.08] {
            let (table, plan) = (table(vec![p50(30, 0.0), cpu(30, shift)]), Plan::default());
            let written = (
                serde_json::to_string(&table).unwrap(),
                serde_json::to_string(&plan).unwrap(),
            );
            let read: (Table, Plan) = (
                serde_json::from_str(&written.0).unwrap(),
                serde_json::from_str(&written.1).unwrap(),
            );
            assert_eq!((&read.0, &read.1), (&table, &plan));
            let (first, again) = (
                replay(&table, &plan, Machine::Fit).unwrap(),
                replay(&read.0, &read.1, Machine::Fit).unwrap(),
            );
            assert_eq!(first, again);
            let said: Judgement = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
            assert_eq!(said, first);
        }
    }

    #[test]
    fn what_can_be_detected_shrinks_with_blocks() {
        let at = |look: usize| {
            let table = table(vec![p50(30, 0.0), cpu(30, 0.0)]);
            let mut said = judge(&table, &Plan::default(), None, &|_| Machine::Fit).unwrap();
            for _ in 0..look {
                said = judge(&table, &Plan::default(), Some(&said), &|_| Machine::Fit).unwrap();
            }
            said.readings[1].detectable.unwrap()
        };
        assert!(at(0) > at(1) && at(1) > at(2), "{} {} {}", at(0), at(1), at(2));
        assert!((0.005..0.05).contains(&at(2)), "{}", at(2));
    }
}
