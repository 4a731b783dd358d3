//! Tables before they are text: cells shown in their units, laid out the same for terminal, Markdown and HTML.

mod aftermath;

use pushmark_measure::Grade;
use pushmark_results::plan::Axis;

pub(crate) use aftermath::aftermath;

use crate::comparison::{Comparison, Point, Row, Value, axis_name};
use crate::matrix::{self, Matrix, matrices};
use crate::units::{Quantity, Unit, whole};

/// A table: variants across, rows in sections down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    /// What the table is about, when there are several: `1,000 connections`.
    pub(crate) title: String,
    /// Head of the rows' labels.
    pub(crate) corner: String,
    /// The rows' labels are numbers.
    pub(crate) numeric: bool,
    /// Each section's title stands on a line of its own: it is longer than a word or two.
    pub(crate) headed: bool,
    /// One for each column.
    pub(crate) heads: Vec<Head>,
    /// Rows that belong together.
    pub(crate) sections: Vec<Section>,
    /// What must be known beside it.
    pub(crate) notes: Vec<String>,
}

/// A column's head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) label: String,
    /// Said beneath the label when it is not the usual: `suspect`, `2 of 3 repeats`.
    pub(crate) remark: String,
    pub(crate) grade: Option<Grade>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) rows: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) unit: &'static str,
    pub(crate) cells: Vec<Cell>,
}

/// One value, shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// `3.02…3.26`, when there are repeats that differ.
    pub(crate) spread: String,
    pub(crate) winner: bool,
    pub(crate) thin: bool,
    pub(crate) tone: Tone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Missing,
    Grade(Grade),
}

/// Every table of a comparison: for a sweep one over all points first, then one for each point. None when no trial
/// finished: a table of dashes says nothing.
pub(crate) fn all(comparison: &Comparison) -> Vec<Grid> {
    let mut grids = Vec::new();
    if comparison.quality.trials_finished == 0 {
        return grids;
    }
    if comparison.is_sweep() {
        grids.push(over_points(comparison));
    }
    grids.extend(comparison.points.iter().map(|p| at_point(comparison, p)));
    grids
}

/// The table that answers the question: over all points of a sweep, or the only one.
pub(crate) fn headline(comparison: &Comparison) -> Option<Grid> {
    all(comparison).into_iter().next()
}

/// The matrices of a run of several transports over several carriers, as tables; no table otherwise.
pub(crate) fn matrix(comparison: &Comparison) -> Vec<Grid> {
    matrices(comparison).iter().map(of_matrix).collect()
}

fn of_matrix(matrix: &Matrix) -> Grid {
    let head = |carrier: &String| Head {
        label: carrier.clone(),
        remark: String::new(),
        grade: None,
    };
    let shown = |cell: &matrix::Cell| {
        let plain = Cell {
            text: matrix.show(cell),
            ..Cell::default()
        };
        match cell {
            matrix::Cell::Missing => Cell {
                tone: Tone::Missing,
                ..plain
            },
            matrix::Cell::Measured(m) => Cell {
                winner: m.winner,
                tone: if m.grade > Grade::Valid {
                    Tone::Grade(m.grade)
                } else {
                    Tone::Plain
                },
                ..plain
            },
        }
    };
    let rows = matrix.transports.iter().zip(&matrix.cells);
    let rows = rows.map(|(transport, cells)| Line {
        label: transport.clone(),
        unit: "",
        cells: cells.iter().map(shown).collect(),
    });
    Grid {
        title: matrix.to_string(),
        corner: String::new(),
        numeric: false,
        headed: false,
        heads: matrix.carriers.iter().map(head).collect(),
        sections: vec![Section {
            title: String::new(),
            rows: rows.collect(),
        }],
        notes: Vec::new(),
    }
}

/// A table of all pairs as one for each carrier, when there are several: too many columns are not read side by side.
pub(crate) fn by_carrier(comparison: &Comparison, grid: Grid) -> Vec<Grid> {
    if matrices(comparison).is_empty() {
        return vec![grid];
    }
    let mut carriers: Vec<&String> = Vec::new();
    for variant in &comparison.variants {
        if !carriers.contains(&&variant.carrier) {
            carriers.push(&variant.carrier);
        }
    }
    let part = |carrier: &String| {
        let kept = |i: usize| comparison.variants.get(i).is_some_and(|v| &v.carrier == carrier);
        let over = format!("over {carrier}");
        let mut part = grid.clone();
        part.title = match grid.title.as_str() {
            "" => over,
            title => format!("{title}, {over}"),
        };
        retain(&mut part.heads, kept);
        for (i, head) in part.heads.iter_mut().enumerate() {
            let mine = comparison.variants.iter().filter(|v| &v.carrier == carrier);
            if let Some(variant) = mine.into_iter().nth(i) {
                head.label.clone_from(&variant.transport);
            }
        }
        for row in part.sections.iter_mut().flat_map(|s| &mut s.rows) {
            retain(&mut row.cells, kept);
        }
        part
    };
    carriers.into_iter().map(part).collect()
}

/// Keeps what stands at the places that `kept` holds for.
fn retain<T>(all: &mut Vec<T>, kept: impl Fn(usize) -> bool) {
    let mut at = 0;
    all.retain(|_| {
        at += 1;
        kept(at - 1)
    });
}

/// Groups that are read against one another, in one unit: a service time far below the latency says that messages left
/// late.
const SIDE_BY_SIDE: [&[&str]; 3] = [
    &["latency", "service time"],
    &["outage", "reconnected after"],
    &["stayed: p99"],
];

/// All measures of one point.
fn at_point(comparison: &Comparison, point: &Point) -> Grid {
    let rows: Vec<&Row> = point.rows.iter().collect();
    Grid {
        title: point.label.clone(),
        corner: String::new(),
        numeric: false,
        headed: false,
        heads: heads(comparison, Some(point)),
        sections: sections(&rows),
        notes: Vec::new(),
    }
}

/// Rows in their groups.
fn sections(rows: &[&Row]) -> Vec<Section> {
    let together = |group: &str| {
        let set = SIDE_BY_SIDE.iter().find(|set| set.contains(&group))?;
        let beside = rows.iter().filter(|r| set.contains(&r.group));
        let medians = beside
            .flat_map(|r| &r.values)
            .filter_map(|v| v.spread().map(|s| s.median));
        Some(Unit::fitting_together(Quantity::Nanoseconds, medians))
    };
    let mut sections: Vec<Section> = Vec::new();
    for row in rows {
        let unit = together(row.group).unwrap_or_else(|| unit_of([*row]));
        let line = line(row.name.to_owned(), row, unit);
        match sections.last_mut().filter(|s| s.title == row.group) {
            Some(section) => section.rows.push(line),
            None => sections.push(Section {
                title: row.group.to_owned(),
                rows: vec![line],
            }),
        }
    }
    sections
}

/// The measures shown over the points of a sweep, and whether each is shown only when something is amiss.
const OVER_POINTS: &[(&str, &str, bool)] = &[
    ("latency_ns_p50", "latency p50", false),
    ("latency_ns_p99", "latency p99", false),
    ("connect_time_ns_p50", "connect p50", true),
    ("connect_time_ns_p99", "connect p99", true),
    ("tls_connect_time_ns_p50", "of it TLS, p50", true),
    ("server_cpu_us_per_connect", "server CPU", true),
    ("handshake_received_bytes", "handshake down", true),
    ("round_trips", "round trips", true),
    ("compression_ratio", "compression ratio", false),
    ("server_cpu_us_per_delivery", "server CPU", false),
    ("deliveries_per_second", "deliveries", false),
    ("tcp_connections", "TCP connections", false),
    (
        "server_rss_bytes_per_connection",
        "server memory per session",
        false,
    ),
    ("lost", "lost", true),
    ("sessions_failed", "failed", true),
    ("grade", "verdict", true),
];

/// Headline measures of a sweep: a section for each measure, a row for each point.
fn over_points(comparison: &Comparison) -> Grid {
    let mut sections = Vec::new();
    let shares = comparison.points.iter().any(shares_connections);
    let compresses = comparison
        .points
        .iter()
        .any(|p| p.row("compression_ratio").is_some());
    for (key, title, conditional) in OVER_POINTS {
        let rows: Vec<(&Point, &Row)> = comparison
            .points
            .iter()
            .filter_map(|p| p.row(key).map(|row| (p, row)))
            .collect();
        // Connecting is the headline only where there is nothing else to time.
        let connects = key.contains("connect_time")
            || key.ends_with("per_connect")
            || matches!(*key, "handshake_received_bytes" | "round_trips");
        // Memory is what sharing saves, and what compression with a context costs.
        let of_memory = *key == "server_rss_bytes_per_connection";
        let of_sharing = *key == "tcp_connections";
        let shown = match (connects, conditional) {
            _ if of_memory => shares || compresses,
            _ if of_sharing => shares,
            (true, _) => comparison
                .points
                .iter()
                .all(|p| p.row("latency_ns_p50").is_none()),
            (false, true) => rows.iter().any(|(point, row)| {
                // What no variant was asked for is not amiss.
                let mut asked = row
                    .values
                    .iter()
                    .zip(&point.columns)
                    .filter(|(_, c)| c.cell.is_some());
                asked.any(|(value, _)| amiss(value))
            }),
            (false, false) => true,
        };
        if rows.is_empty() || !shown {
            continue;
        }
        let unit = unit_of(rows.iter().map(|(_, row)| *row));
        let lines = rows
            .iter()
            .map(|(point, row)| line(point.short.clone(), row, unit))
            .collect();
        sections.push(Section {
            title: (*title).to_owned(),
            rows: lines,
        });
    }
    Grid {
        title: String::new(),
        corner: axis_name(comparison.axis).to_owned(),
        numeric: comparison.axis != Some(Axis::Condition),
        headed: comparison.axis == Some(Axis::Condition),
        heads: heads(comparison, None),
        sections,
        notes: Vec::new(),
    }
}

/// Whether anywhere at this point sessions shared connections.
fn shares_connections(point: &Point) -> bool {
    let (Some(made), Some(opened)) = (point.row("tcp_connections"), point.row("sessions_established")) else {
        return false;
    };
    made.values.iter().zip(&opened.values).any(|pair| match pair {
        (Value::Spread { spread, .. }, Value::Part { part, .. }) => spread.median < *part as f64,
        _ => false,
    })
}

fn amiss(value: &Value) -> bool {
    match value {
        Value::Missing => true,
        Value::Total { total } => *total > 0,
        Value::Graded { grade } => *grade > Grade::Valid,
        Value::Spread { .. } | Value::Part { .. } => false,
    }
}

/// Heads of one point's columns, or of all points' together.
fn heads(comparison: &Comparison, point: Option<&Point>) -> Vec<Head> {
    let points: Vec<&Point> = point.map_or_else(|| comparison.points.iter().collect(), |p| vec![p]);
    comparison
        .variants
        .iter()
        .enumerate()
        .map(|(i, variant)| {
            let columns: Vec<_> = points
                .iter()
                .filter_map(|p| p.columns.get(i))
                .filter(|c| c.cell.is_some())
                .collect();
            let grade = columns.iter().filter_map(|c| c.grade).max();
            let fewest = columns.iter().map(|c| c.finished).min().unwrap_or(0);
            let mut remarks = Vec::new();
            match grade {
                Some(grade) if grade > Grade::Valid => remarks.push(grade.as_str().to_owned()),
                _ => (),
            }
            if columns.is_empty() {
                remarks.push("not run".to_owned());
            } else if fewest < comparison.repeats {
                let repeats = if remarks.is_empty() { " repeats" } else { "" };
                remarks.push(format!("{fewest} of {}{repeats}", comparison.repeats));
            }
            Head {
                label: variant.label.clone(),
                remark: remarks.join(", "),
                grade,
            }
        })
        .collect()
}

fn unit_of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Unit {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let quantity = rows.first().map_or(Quantity::Count, |r| r.quantity);
    Unit::fitting(
        quantity,
        rows.iter()
            .flat_map(|r| &r.values)
            .filter_map(|v| v.spread().map(|s| s.median)),
    )
}

fn line(label: String, row: &Row, unit: Unit) -> Line {
    let cells = row.values.iter().enumerate().map(|(i, v)| Cell {
        winner: row.winner == Some(i),
        ..cell(v, unit)
    });
    Line {
        label,
        unit: unit.label,
        cells: cells.collect(),
    }
}

fn cell(value: &Value, unit: Unit) -> Cell {
    let plain = |text: String| Cell {
        text,
        ..Cell::default()
    };
    match value {
        Value::Missing => Cell {
            tone: Tone::Missing,
            ..plain("–".to_owned())
        },
        Value::Spread { spread, thin } => {
            let (least, most) = (unit.show(spread.min), unit.show(spread.max));
            // Repeats that all show as the same number need not say so.
            let beside = if spread.repeats > 1 && least != most {
                format!("{least}…{most}")
            } else {
                String::new()
            };
            Cell {
                spread: beside,
                thin: *thin,
                ..plain(unit.show(spread.median))
            }
        }
        Value::Total { total } => plain(whole(*total)),
        Value::Part { part, whole: all } => plain(format!("{} of {}", whole(*part), whole(*all))),
        Value::Graded { grade } => Cell {
            tone: Tone::Grade(*grade),
            ..plain(grade.as_str().to_owned())
        },
    }
}
