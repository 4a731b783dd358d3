//! Thresholds: every `[expect]` of the plan held against every cell, over all its repeats.

use pushmark_measure::stats::spread;
use pushmark_measure::{Grade, Metric, TrialSummary};
use pushmark_results::plan::{Cell, Comparison, ExpectMetric, Expectation, Plan};
use pushmark_results::run::{Run, TrialRecord};
use serde::Serialize;

use crate::comparison::finished;
use crate::escape::visible;
use crate::units::{Quantity, show_alone, three_digits, whole};

/// One threshold held against one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The cell's id.
    pub cell: String,
    /// The threshold as its author wrote it.
    pub text: String,
    /// The median over repeats of a quantile or a rate, or the count of the worst repeat; in the limit's unit.
    pub measured: Option<f64>,
    /// The same for people.
    pub measured_text: String,
    /// Whether it holds. What was not measured never does.
    pub held: bool,
    /// For a quantile or a rate: how sure it is that the true median over repeats lies on the side of the limit that `held`
    /// says, by the sign test: 0.875 where three of three repeats do.
    pub confidence: Option<f64>,
    /// Why it does not hold where the number alone does not say it, or what qualifies that it does.
    pub remark: Option<String>,
}

/// Every threshold of the plan against every cell, in the plan's order.
pub fn check_expectations(run: &Run) -> Vec<Check> {
    let plan = &run.manifest.plan;
    let cells = || plan.cells.iter().enumerate();
    plan.expect
        .iter()
        .flat_map(|e| cells().map(move |(i, cell)| check(run, plan, e, i, cell)))
        .collect()
}

fn check(run: &Run, plan: &Plan, expectation: &Expectation, index: usize, cell: &Cell) -> Check {
    let trials: Vec<(&TrialRecord, &TrialSummary)> = finished(run, index).collect();
    let measured = measure(expectation, &trials);
    let grade = trials
        .iter()
        .map(|(t, _)| t.verdict.grade())
        .max()
        .unwrap_or_default();
    let (value, trouble) = match measured {
        Ok(value) => (Some(value), None),
        Err(why) => (None, Some(why)),
    };
    let trouble = if trials.is_empty() {
        Some("no trial finished".to_owned())
    } else if trials.len() < plan.repeats as usize {
        Some(format!("{} of {} repeats finished", trials.len(), plan.repeats))
    } else if grade == Grade::Invalid {
        Some("a trial is invalid".to_owned())
    } else {
        trouble
    };
    let within = value.is_some_and(|v| holds(expectation, v));
    let each = value.and_then(|_| repeats(expectation, &trials));
    let agree = each.as_ref().map(|each| {
        let agree = each.iter().filter(|v| holds(expectation, **v) == within).count();
        (agree, each.len())
    });
    let split = agree.filter(|(agree, of)| agree < of).map(|(agree, of)| {
        let side = if within { "within" } else { "beyond" };
        format!(
            "{agree} of {of} repeats are {side}, {:.0} % sure",
            100.0 * sign_test(agree, of)
        )
    });
    Check {
        cell: visible(&cell.id),
        text: visible(&expectation.text),
        measured: value,
        measured_text: value.map_or_else(|| "–".to_owned(), |v| show(expectation.metric, v)),
        held: within && trouble.is_none(),
        confidence: agree.map(|(agree, of)| sign_test(agree, of)),
        remark: trouble
            .or_else(|| (grade == Grade::Suspect).then(|| "a trial is suspect".to_owned()))
            .or(split),
    }
}

/// The value that is held against the limit, or why there is none.
fn measure(expectation: &Expectation, trials: &[(&TrialRecord, &TrialSummary)]) -> Result<f64, String> {
    match expectation.metric {
        ExpectMetric::Latency(q) => quantile(trials, Metric::Latency, q),
        ExpectMetric::ServiceTime(q) => quantile(trials, Metric::ServiceTime, q),
        ExpectMetric::ConnectTime(q) => quantile(trials, Metric::ConnectTime, q),
        ExpectMetric::Lost => count(expectation, trials, |s| s.books.lost),
        ExpectMetric::Duplicated => count(expectation, trials, |s| s.books.duplicated),
        ExpectMetric::Reordered => count(expectation, trials, |s| s.books.reordered),
        ExpectMetric::FailedConnects => {
            let values = trials.iter().map(|(t, s)| {
                (s.counters.attempted > 0)
                    .then_some(s.counters.failed)
                    .ok_or_else(|| nothing(t, "attempted"))
            });
            worst(expectation, values.collect::<Result<_, _>>()?)
        }
        ExpectMetric::DeliveriesPerSecond => {
            let values = trials.iter().map(|(t, s)| {
                let rate = s.deliveries_per_second();
                (rate > 0.0)
                    .then_some(rate)
                    .ok_or_else(|| nothing(t, "delivered"))
            });
            median(&values.collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// The value of each repeat, for what is held against the limit by its median.
fn repeats(expectation: &Expectation, trials: &[(&TrialRecord, &TrialSummary)]) -> Option<Vec<f64>> {
    let of = |metric: Metric, q: f64| {
        let value = |t: &TrialRecord| t.histograms.get(metric)?.quantile(q).map(|ns| ns as f64);
        trials.iter().map(|(t, _)| value(t)).collect()
    };
    match expectation.metric {
        ExpectMetric::Latency(q) => of(Metric::Latency, q),
        ExpectMetric::ServiceTime(q) => of(Metric::ServiceTime, q),
        ExpectMetric::ConnectTime(q) => of(Metric::ConnectTime, q),
        ExpectMetric::DeliveriesPerSecond => {
            Some(trials.iter().map(|(_, s)| s.deliveries_per_second()).collect())
        }
        // Counts hold when the worst repeat does.
        ExpectMetric::Lost
        | ExpectMetric::Duplicated
        | ExpectMetric::Reordered
        | ExpectMetric::FailedConnects => None,
    }
}

/// How sure it is that the true median lies where `agree` of `of` values do: one less the chance that as few or fewer lie on
/// the other side of a median that is the limit itself.
fn sign_test(agree: usize, of: usize) -> f64 {
    let others = of.saturating_sub(agree);
    let (mut term, mut sum) = (0.5_f64.powi(of.min(1_000) as i32), 0.0);
    for k in 0..=others {
        sum += term;
        term *= of.saturating_sub(k) as f64 / (k + 1) as f64;
    }
    (1.0 - sum).clamp(0.0, 1.0)
}

fn quantile(trials: &[(&TrialRecord, &TrialSummary)], metric: Metric, q: f64) -> Result<f64, String> {
    if !(0.0..=1.0).contains(&q) {
        return Err("the quantile is not between 0 and 1".to_owned());
    }
    let values = trials.iter().map(|(t, _)| {
        let value = t
            .histograms
            .get(metric)
            .and_then(|h| h.quantile(q))
            .map(|ns| ns as f64);
        value.ok_or_else(|| {
            format!(
                "repeat {} has no sample of {}",
                t.repeat.saturating_add(1),
                metric.name()
            )
        })
    });
    median(&values.collect::<Result<Vec<_>, _>>()?)
}

fn median(values: &[f64]) -> Result<f64, String> {
    spread(values)
        .map(|s| s.median)
        .ok_or_else(|| "not measured".to_owned())
}

/// A count of messages: without any expected, none can be lost, and that proves nothing.
fn count(
    expectation: &Expectation,
    trials: &[(&TrialRecord, &TrialSummary)],
    read: fn(&TrialSummary) -> u64,
) -> Result<f64, String> {
    let values = trials.iter().map(|(t, s)| {
        let any = s.expects_messages && s.books.expected > 0;
        any.then(|| read(s)).ok_or_else(|| nothing(t, "expected"))
    });
    worst(expectation, values.collect::<Result<_, _>>()?)
}

/// The repeat that is furthest from holding, so that it holds exactly when every repeat does.
fn worst(expectation: &Expectation, values: Vec<u64>) -> Result<f64, String> {
    let values = values.into_iter().map(|v| v as f64);
    let worst = match expectation.comparison {
        Comparison::Less | Comparison::AtMost => values.max_by(f64::total_cmp),
        Comparison::AtLeast | Comparison::Greater => values.min_by(f64::total_cmp),
        Comparison::Equal => {
            let off = |v: &f64| (v - expectation.limit).abs();
            values.max_by(|a, b| off(a).total_cmp(&off(b)))
        }
    };
    worst.ok_or_else(|| "not measured".to_owned())
}

fn nothing(trial: &TrialRecord, what: &str) -> String {
    format!("in repeat {} nothing was {what}", trial.repeat.saturating_add(1))
}

fn holds(expectation: &Expectation, value: f64) -> bool {
    match expectation.comparison {
        Comparison::Less => value < expectation.limit,
        Comparison::AtMost => value <= expectation.limit,
        Comparison::Equal => value == expectation.limit,
        Comparison::AtLeast => value >= expectation.limit,
        Comparison::Greater => value > expectation.limit,
    }
}

fn show(metric: ExpectMetric, value: f64) -> String {
    match metric {
        ExpectMetric::Latency(_) | ExpectMetric::ServiceTime(_) | ExpectMetric::ConnectTime(_) => {
            show_alone(Quantity::Nanoseconds, value)
        }
        ExpectMetric::DeliveriesPerSecond => show_alone(Quantity::PerSecond, value),
        ExpectMetric::Lost
        | ExpectMetric::Duplicated
        | ExpectMetric::Reordered
        | ExpectMetric::FailedConnects => {
            if (0.0..1e15).contains(&value) {
                whole(value as u64)
            } else {
                three_digits(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_that_agree_make_sure() {
        for (agree, of, sure) in [
            (1, 1, 0.5),
            (3, 3, 0.875),
            (2, 3, 0.5),
            (5, 5, 0.96875),
            (4, 5, 0.8125),
            (0, 0, 0.0),
        ] {
            assert!((sign_test(agree, of) - sure).abs() < 1e-12, "{agree} of {of}");
        }
    }
}
