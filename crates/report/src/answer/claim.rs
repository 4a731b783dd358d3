//! A claim: one measure at one point, in words that its numbers back.

use pushmark_measure::Grade;

use crate::comparison::{Comparison, Point, Row, Value};
use crate::units::{Unit, with_unit};

/// How many of the others are named one by one.
const NAMED: usize = 4;

/// One measure at one point, of those that take part: invalid variants do not.
pub(super) struct Claim<'a> {
    comparison: &'a Comparison,
    point: &'a Point,
    pub(super) row: &'a Row,
    /// Each variant's median, in the order of columns.
    pub(super) medians: Vec<(usize, f64)>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(comparison: &'a Comparison, point: &'a Point, key: &str) -> Option<Self> {
        let row = point.row(key)?;
        let values = row
            .values
            .iter()
            .enumerate()
            .filter(|(i, _)| takes_part(point, *i));
        let medians = values
            .filter_map(|(i, v)| v.spread().map(|s| (i, s.median)))
            .collect();
        Some(Self {
            comparison,
            point,
            row,
            medians,
        })
    }

    /// `x delivered soonest: p99 3.1 ms against …`, and where else that holds when it holds everywhere.
    pub(super) fn won(&self, winner: usize, verb: &str, before: &str, after: &str) -> String {
        let everywhere = undisturbed(self.comparison)
            .all(|p| p.row(self.row.key).is_some_and(|r| r.winner == Some(winner)));
        let (who, at, figures) = (
            name(self.comparison, winner),
            place(self.comparison, self.point),
            self.figures(),
        );
        if self.comparison.is_sweep() && everywhere {
            let every = if self.comparison.varies_conditions() {
                "under every condition"
            } else {
                "at every point"
            };
            format!("{who} {verb} {every}; {at}{before}{figures}{after}")
        } else {
            format!("{at}{who} {verb}: {before}{figures}{after}")
        }
    }

    /// Why nobody is ahead.
    pub(super) fn undecided(&self, noun: &str) -> String {
        let values = || self.medians.iter().filter_map(|(i, _)| self.row.values.get(*i));
        if values().any(|v| matches!(v, Value::Spread { thin: true, .. })) {
            format!("too few samples tell a difference in {noun}")
        } else if values().filter_map(Value::spread).any(|s| s.repeats < 2) {
            format!("a single repeat cannot tell a difference in {noun} from noise")
        } else if values().filter_map(Value::spread).any(|one| {
            values()
                .filter_map(Value::spread)
                .any(|other| one.max < other.min)
        }) {
            // Some differ; the best of them do not.
            format!("nobody is ahead of all others in {noun} by more than the spread between repeats")
        } else {
            format!("there is no difference in {noun} beyond the spread between repeats")
        }
    }

    /// Medians in one unit: the winner's first, then the others with their names.
    pub(super) fn figures(&self) -> String {
        let unit = Unit::fitting(self.row.quantity, self.medians.iter().map(|(_, m)| *m));
        let alone = |m: f64| with_unit(&unit.show(m), unit.label);
        let named = |(i, m): &(usize, f64)| format!("{} ({})", unit.show(*m), name(self.comparison, *i));
        let is_winner = |(i, _): &&(usize, f64)| Some(*i) == self.row.winner;
        let best = self.medians.iter().find(is_winner).map(|(_, m)| alone(*m));
        let mut others: Vec<(usize, f64)> = self.medians.iter().filter(|m| !is_winner(m)).copied().collect();
        others.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        match (best, others.as_slice()) {
            (Some(best), []) => best,
            (Some(best), all) if all.len() <= NAMED => {
                format!(
                    "{best} against {}",
                    and(&all.iter().map(named).collect::<Vec<_>>())
                )
            }
            (Some(best), [least, .., most]) => {
                let (least, most) = (unit.show(least.1), unit.show(most.1));
                format!("{best} against {least} to {most} with the other {}", others.len())
            }
            (None, [first, rest @ ..]) if rest.len() < NAMED => {
                let first = format!("{} ({})", alone(first.1), name(self.comparison, first.0));
                and(&[first]
                    .into_iter()
                    .chain(rest.iter().map(named))
                    .collect::<Vec<_>>())
            }
            (None, [least, .., most]) => format!("{} to {}", unit.show(least.1), alone(most.1)),
            (_, _) => String::new(),
        }
    }
}

/// The points at which nobody was cut off, so that variants can be compared.
pub(super) fn undisturbed(comparison: &Comparison) -> impl DoubleEndedIterator<Item = &Point> {
    comparison.points.iter().filter(|p| !p.aftermath.interrupted)
}

/// Whether claims may rest on a column: it has a finished trial, and none of them is invalid.
pub(super) fn takes_part(point: &Point, column: usize) -> bool {
    point
        .columns
        .get(column)
        .and_then(|c| c.grade)
        .is_some_and(|g| g < Grade::Invalid)
}

/// `At 5,000 connections ` in a sweep.
pub(super) fn place(comparison: &Comparison, point: &Point) -> String {
    if comparison.is_sweep() {
        format!("{} ", spot(comparison, &point.label))
    } else {
        String::new()
    }
}

/// `at 5,000 connections`, or `with “fin, no heartbeat”`.
pub(super) fn spot(comparison: &Comparison, label: &str) -> String {
    if comparison.varies_conditions() {
        format!("with {}", quoted(label))
    } else {
        format!("at {label}")
    }
}

/// A condition's words within a sentence: quoted where their commas would be taken for the sentence's.
pub(super) fn quoted(label: &str) -> String {
    if label.contains(", ") {
        format!("“{label}”")
    } else {
        label.to_owned()
    }
}

pub(super) fn name(comparison: &Comparison, variant: usize) -> &str {
    comparison.variants.get(variant).map_or("?", |v| &v.label)
}

pub(super) fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
