//! Rows and columns of a comparison: each measure's values over the repeats, and who is clearly ahead.

use pushmark_measure::stats::{Spread, clear_winner, spread};
use pushmark_measure::{Grade, TrialSummary};
use pushmark_results::run::{Run, TrialRecord};

use super::measures::{Better, MEASURES, Measure, Read, opened};
use super::{Column, Row, Value, WorkloadKind};

/// A quantile with fewer samples than this beyond it moves by chance.
const SAMPLES_BEYOND: f64 = 10.0;
/// The schedule sets the rate of deliveries: a smaller difference is the clock's, not a transport's.
const RATE_MATTERS: f64 = 0.005;

/// The trials of a cell that have a summary, by repeat.
pub(crate) fn finished(run: &Run, cell: usize) -> impl Iterator<Item = (&TrialRecord, &TrialSummary)> {
    run.trials_of(cell)
        .filter_map(|t| t.summary.as_ref().map(|s| (t, s)))
}

/// What is known about one cell apart from its measures.
pub(super) fn column(run: &Run, cell: Option<usize>) -> Column {
    let trials: Vec<Grade> = cell
        .map(|c| finished(run, c).map(|(t, _)| t.verdict.grade()).collect())
        .unwrap_or_default();
    Column {
        cell,
        grade: trials.iter().max().copied(),
        finished: u32::try_from(trials.len()).unwrap_or(u32::MAX),
    }
}

/// Every measure that applies, over all columns.
pub(super) fn rows(run: &Run, columns: &[Column], workload: WorkloadKind) -> Vec<Row> {
    let applies = |m: &&Measure| workload != WorkloadKind::Connect || !m.of_messages;
    rows_from(run, columns, MEASURES.iter().filter(applies))
}

/// All of these measures, over all columns.
pub(super) fn rows_of(run: &Run, columns: &[Column], measures: &'static [Measure]) -> Vec<Row> {
    rows_from(run, columns, measures.iter())
}

fn rows_from(run: &Run, columns: &[Column], measures: impl Iterator<Item = &'static Measure>) -> Vec<Row> {
    measures
        .filter_map(|m| {
            let values: Vec<Value> = columns.iter().map(|c| value(run, c, m)).collect();
            if m.is_optional() && values.iter().all(|v| *v == Value::Missing) {
                return None;
            }
            let winner = winner(m, columns, &values);
            Some(Row {
                key: m.key,
                group: m.group,
                name: m.name,
                quantity: m.quantity,
                values,
                winner,
            })
        })
        .collect()
}

fn value(run: &Run, column: &Column, measure: &Measure) -> Value {
    let Some(cell) = column.cell else {
        return Value::Missing;
    };
    let trials = || finished(run, cell);
    match &measure.read {
        Read::Quantile(metric, q) => {
            let mut thin = false;
            let values: Vec<f64> = trials()
                .filter_map(|(t, _)| {
                    let histogram = t.histograms.get(*metric)?;
                    thin |= is_thin(*q, histogram.count());
                    histogram.quantile(*q).map(|ns| ns as f64)
                })
                .collect();
            spread_value(&values, thin)
        }
        Read::Each(read) => {
            let values: Vec<(f64, bool)> = trials().filter_map(|(_, s)| read(s)).collect();
            let thin = values.iter().any(|(_, thin)| *thin);
            spread_value(&values.into_iter().map(|(v, _)| v).collect::<Vec<_>>(), thin)
        }
        Read::Sum(read) => {
            let counts: Option<Vec<u64>> = trials().map(|(_, s)| read(s)).collect();
            match counts.filter(|c| !c.is_empty()) {
                Some(counts) => Value::Total {
                    total: counts.into_iter().fold(0, u64::saturating_add),
                },
                None => Value::Missing,
            }
        }
        Read::Sessions => trials()
            .map(|(_, s)| (opened(s), s.sessions_planned))
            .min()
            .map_or(Value::Missing, |(part, whole)| Value::Part { part, whole }),
        Read::Grade => column
            .grade
            .map_or(Value::Missing, |grade| Value::Graded { grade }),
    }
}

/// Whether fewer than ten samples lie beyond quantile `q`; the largest sample is always itself.
pub(crate) fn is_thin(q: f64, count: u64) -> bool {
    q < 1.0 && (count as f64) * (1.0 - q) < SAMPLES_BEYOND - 1e-6
}

fn spread_value(values: &[f64], thin: bool) -> Value {
    spread(values).map_or(Value::Missing, |spread| Value::Spread { spread, thin })
}

/// The column that is clearly ahead. An invalid one takes no part, neither ahead nor behind; and where a value rests
/// on too little, nobody is ahead.
fn winner(measure: &Measure, columns: &[Column], values: &[Value]) -> Option<usize> {
    if measure.better == Better::Neither {
        return None;
    }
    let taking_part: Vec<Option<Spread>> = columns
        .iter()
        .zip(values)
        .map(|(c, v)| v.spread().filter(|_| c.grade.is_some_and(|g| g < Grade::Invalid)))
        .collect();
    let thin =
        |(v, s): (&Value, &Option<Spread>)| s.is_some() && matches!(v, Value::Spread { thin: true, .. });
    if values.iter().zip(&taking_part).any(thin) {
        return None;
    }
    let winner = clear_winner(&taking_part, measure.better == Better::Smaller)?;
    if measure.better == Better::Larger {
        let best = taking_part.get(winner).copied().flatten()?;
        let others = taking_part
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != winner)
            .filter_map(|(_, s)| *s);
        let next = others.map(|s| s.max).fold(0.0, f64::max);
        return (best.min > next * (1.0 + RATE_MATTERS)).then_some(winner);
    }
    Some(winner)
}
