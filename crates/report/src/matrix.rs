//! The matrix: transports down, carriers across, a measure at a time. What a run of many pairs is read by.

use std::fmt;

use pushmark_measure::Grade;

use crate::comparison::{Comparison, Point, Value};
use crate::escape::shorten;
use crate::units::Unit;

/// What is shown as a matrix, and how it is called: the dear things of a pair.
const MEASURES: &[(&str, &str)] = &[
    ("latency_ns_p99", "latency p99"),
    ("server_cpu_us_per_delivery", "server CPU per delivery"),
    ("generator_cpu_us_per_delivery", "client CPU per delivery"),
    ("wire_received_bytes_per_delivery", "wire per delivery, down"),
    ("wire_sent_bytes_per_delivery", "wire per delivery, up"),
    ("server_rss_bytes_per_connection", "server memory per session"),
    ("connect_time_ns_p50", "connect time p50"),
    ("connect_time_ns_p99", "connect time p99"),
];

/// The longest name that is shown whole.
const LONGEST_NAME: usize = 14;

/// One measure over all pairs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    /// What it is: `latency p99`.
    pub(crate) title: &'static str,
    /// The unit of all cells.
    pub(crate) unit: Unit,
    /// Down.
    pub(crate) transports: Vec<String>,
    /// Across.
    pub(crate) carriers: Vec<String>,
    /// A row for each transport.
    pub(crate) cells: Vec<Vec<Cell>>,
}

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    /// There is no such pair, or it was not measured.
    Missing,
    /// It was.
    Measured(Measured),
}

/// What a pair came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    /// The median over repeats, in the quantity's base unit.
    pub(crate) value: f64,
    /// How far it can be trusted.
    pub(crate) grade: Grade,
    /// It rests on too few samples.
    pub(crate) thin: bool,
    /// Clearly ahead of every other pair.
    pub(crate) winner: bool,
    /// How many times the least of its matrix it is. None for what takes no part in a comparison.
    pub(crate) times_least: Option<f64>,
}

impl Matrix {
    /// A cell as it is shown: `3.10`, `~3.10` for too few samples, `3.10?` for a suspect and `3.10!` for an invalid one.
    pub(crate) fn show(&self, cell: &Cell) -> String {
        match cell {
            Cell::Missing => "–".to_owned(),
            Cell::Measured(m) => {
                let (before, after) = (if m.thin { "~" } else { "" }, doubt(m.grade));
                format!("{before}{}{after}", self.unit.show(m.value))
            }
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)?;
        match self.unit.label {
            "" => Ok(()),
            unit => write!(f, ", {unit}"),
        }
    }
}

/// What stands behind a number in doubt.
pub(crate) fn doubt(grade: Grade) -> &'static str {
    match grade {
        Grade::Valid => "",
        Grade::Suspect => "?",
        Grade::Invalid => "!",
    }
}

/// The matrices of a run; none unless transports cross carriers in it. Of a sweep, those of its last point; of
/// conditions, which have no last, none.
pub(crate) fn matrices(comparison: &Comparison) -> Vec<Matrix> {
    let names = |of: fn(&crate::comparison::VariantName) -> &String| {
        let mut all: Vec<String> = Vec::new();
        for variant in &comparison.variants {
            if !all.contains(of(variant)) {
                all.push(of(variant).clone());
            }
        }
        all
    };
    let (transports, carriers) = (names(|v| &v.transport), names(|v| &v.carrier));
    // Where each has but its own, there is nothing to read across.
    let crossed = comparison.variants.len() > transports.len().max(carriers.len());
    let applies = transports.len() > 1 && carriers.len() > 1 && crossed && !comparison.varies_conditions();
    let Some(point) = comparison.last_point().filter(|_| applies) else {
        return Vec::new();
    };
    if comparison.quality.trials_finished == 0 {
        return Vec::new();
    }
    let of =
        |(key, title): &(&str, &'static str)| matrix(comparison, point, key, title, (&transports, &carriers));
    MEASURES.iter().filter_map(of).collect()
}

/// All pairs of one measure; none where nothing of it was measured.
fn matrix(
    comparison: &Comparison,
    point: &Point,
    key: &str,
    title: &'static str,
    (transports, carriers): (&[String], &[String]),
) -> Option<Matrix> {
    let row = point.row(key)?;
    let grade = |i: usize| point.columns.get(i).and_then(|c| c.grade);
    let medians = || row.values.iter().filter_map(|v| v.spread().map(|s| s.median));
    medians().next()?;
    // What is invalid is neither more nor less than anything.
    let taking_part = row.values.iter().enumerate().filter_map(|(i, v)| {
        let median = v.spread().map(|s| s.median)?;
        (grade(i)? < Grade::Invalid && median.is_finite()).then_some(median)
    });
    let least = taking_part.fold(f64::INFINITY, f64::min);
    let cell = |transport: &String, carrier: &String| {
        let is_it = |v: &crate::comparison::VariantName| &v.transport == transport && &v.carrier == carrier;
        let index = comparison.variants.iter().position(is_it);
        let Some((i, Value::Spread { spread, thin })) = index.and_then(|i| Some((i, row.values.get(i)?)))
        else {
            return Cell::Missing;
        };
        let Some(grade) = grade(i) else {
            return Cell::Missing;
        };
        Cell::Measured(Measured {
            value: spread.median,
            grade,
            thin: *thin,
            winner: row.winner == Some(i),
            times_least: (grade < Grade::Invalid).then(|| times(spread.median, least)),
        })
    };
    Some(Matrix {
        title,
        unit: Unit::fitting(row.quantity, medians()),
        transports: transports.iter().map(|t| shorten(t, LONGEST_NAME)).collect(),
        carriers: carriers.iter().map(|c| shorten(c, LONGEST_NAME)).collect(),
        cells: transports
            .iter()
            .map(|t| carriers.iter().map(|c| cell(t, c)).collect())
            .collect(),
    })
}

/// How many times `least` a value is: once at least, and without end over nothing.
fn times(value: f64, least: f64) -> f64 {
    if value <= least {
        1.0
    } else if least <= 0.0 {
        f64::INFINITY
    } else {
        value / least
    }
}

#[cfg(test)]
mod tests {
    use super::times;

    #[test]
    fn nothing_is_less_than_the_least() {
        assert_eq!(times(3.0, 3.0), 1.0);
        assert_eq!(times(12.0, 3.0), 4.0);
        assert_eq!(times(0.0, 0.0), 1.0);
        assert_eq!(times(140.0, 0.0), f64::INFINITY);
    }
}
