//! Tables of runs in which something was to break: who noticed, what came back, what slow sessions cost.

use super::{Cell, Grid, Head, Line, Section, Tone, heads, line, sections, unit_of};
use crate::comparison::{Aftermath, Comparison, FaultRow, Noticed, Point, Row, Value, fault_name};
use crate::units::{Quantity, seconds, show_alone, whole};

/// Beside a server that could not notice.
const DIED: &str = "†";

/// Every table that applies.
pub(crate) fn aftermath(comparison: &Comparison) -> Vec<Grid> {
    [detection(comparison), recovery(comparison), slow(comparison)]
        .into_iter()
        .flatten()
        .collect()
}

fn detection(comparison: &Comparison) -> Option<Grid> {
    let mut faults: Vec<(&Point, &FaultRow)> = Vec::new();
    for point in &comparison.points {
        faults.extend(point.aftermath.faults.iter().map(|f| (point, f)));
    }
    // Kinds together, in the plan's order.
    let mut kinds: Vec<&str> = Vec::new();
    for (_, fault) in &faults {
        if !kinds.contains(&fault.kind.as_str()) {
            kinds.push(&fault.kind);
        }
    }
    faults.sort_by_key(|(_, f)| kinds.iter().position(|k| *k == f.kind));
    let section = |(point, fault): &(&Point, &FaultRow)| {
        let mut rows = side("client", &fault.client, false);
        rows.extend(side("server", &fault.server, fault.server_died));
        Section {
            title: fault_name(fault, comparison.axis, &point.label),
            rows,
        }
    };
    let sections: Vec<Section> = faults.iter().map(section).collect();
    if sections.is_empty() {
        return None;
    }
    let mut notes = vec!["from the fault to the noticing: p50 (max), over all repeats".to_owned()];
    if faults.iter().any(|(_, f)| f.server_died) {
        notes.push(format!("{DIED} the server is what died"));
    }
    Some(Grid {
        title: "Who noticed, and when".to_owned(),
        headed: true,
        notes,
        ..Grid::empty(any_heads(comparison), sections)
    })
}

/// One side's rows: when, told by what, and how many did not.
fn side(name: &str, variants: &[Option<Noticed>], died: bool) -> Vec<Line> {
    if variants.iter().all(Option::is_none) && !died {
        return Vec::new();
    }
    let row = |label: String, show: &dyn Fn(&Noticed) -> Cell| Line {
        label,
        unit: "",
        cells: variants
            .iter()
            .map(|v| match v {
                Some(noticed) => show(noticed),
                None if died => missing(DIED),
                None => missing("–"),
            })
            .collect(),
    };
    let seen = || variants.iter().flatten();
    let mut rows = vec![row(name.to_owned(), &when)];
    if seen().any(|n| !n.by_reason.is_empty()) {
        rows.push(row(format!("{name}, told by"), &told_by));
    }
    if seen().any(|n| n.undetected > 0 && n.detected > 0) {
        rows.push(row(format!("{name}, undetected"), &|n| match n.undetected {
            0 => plain("0".to_owned()),
            count => plain(format!(
                "{} of {} after {}",
                whole(count),
                whole(n.affected),
                seconds(n.watched_s)
            )),
        }));
    }
    rows
}

fn when(noticed: &Noticed) -> Cell {
    let time = |ns: u64| show_alone(Quantity::Nanoseconds, ns as f64);
    match (noticed.p50_ns, noticed.max_ns) {
        (Some(p50), Some(max)) => {
            let (p50, max) = (time(p50), time(max));
            // The unit is said once where it is the same.
            let unit = |shown: &str| shown.rsplit(' ').next().unwrap_or("").to_owned();
            let beside = match max.split_once(' ') {
                _ if p50 == max => String::new(),
                Some((number, _)) if unit(&p50) == unit(&max) => format!("(max {number})"),
                _ => format!("(max {max})"),
            };
            Cell {
                spread: beside,
                ..plain(p50)
            }
        }
        _ if noticed.undetected > 0 => plain(format!("undetected after {}", seconds(noticed.watched_s))),
        _ if noticed.affected == 0 => missing("none hit"),
        _ => missing("–"),
    }
}

/// The main reason: alone when there is no other.
fn told_by(noticed: &Noticed) -> Cell {
    let most = noticed.by_reason.iter().max_by_key(|(_, count)| **count);
    match most {
        None => missing("–"),
        Some((reason, _)) if noticed.by_reason.len() == 1 => plain(reason.clone()),
        Some((reason, _)) => plain(format!("mostly {reason}")),
    }
}

fn recovery(comparison: &Comparison) -> Option<Grid> {
    let mut grid = of_rows(comparison, "What came back", |a| &a.recovery, attempts)?;
    grid.notes.extend(policies(comparison));
    Some(grid)
}

fn slow(comparison: &Comparison) -> Option<Grid> {
    let mut grid = of_rows(
        comparison,
        "Slow readers, and what they cost",
        |a| &a.slow,
        |_| Vec::new(),
    )?;
    grid.notes
        .push("all other figures are of the sessions that kept up".to_owned());
    Some(grid)
}

/// A table of measures of the aftermath: in a sweep a section for each measure, else all of the one point.
fn of_rows(
    comparison: &Comparison,
    title: &str,
    rows: fn(&Aftermath) -> &Vec<Row>,
    more: fn(&Aftermath) -> Vec<Section>,
) -> Option<Grid> {
    let points: Vec<&Point> = comparison
        .points
        .iter()
        .filter(|p| !rows(&p.aftermath).is_empty())
        .collect();
    let shown = |row: &&Row| row.values.iter().any(|v| *v != Value::Missing);
    let (sections, headed) = match points.as_slice() {
        [] => return None,
        [only] if !comparison.is_sweep() => {
            let all: Vec<&Row> = rows(&only.aftermath).iter().filter(shown).collect();
            let mut all = sections(&all);
            // How it was tried stands before what it came to.
            let at = all.iter().position(|s| s.title == "gap").unwrap_or(all.len());
            all.splice(at..at, more(&only.aftermath));
            (all, false)
        }
        points => (over_points(points, rows, more), true),
    };
    Some(Grid {
        title: title.to_owned(),
        headed,
        ..Grid::empty(any_heads(comparison), sections)
    })
}

fn over_points(
    points: &[&Point],
    rows: fn(&Aftermath) -> &Vec<Row>,
    more: fn(&Aftermath) -> Vec<Section>,
) -> Vec<Section> {
    let mut all: Vec<Section> = Vec::new();
    let mut keys: Vec<(&str, String)> = Vec::new();
    for row in points.iter().flat_map(|p| rows(&p.aftermath)) {
        if !keys.iter().any(|(k, _)| *k == row.key) {
            keys.push((row.key, format!("{}: {}", row.group, row.name)));
        }
    }
    for (key, title) in keys {
        let found: Vec<(&Point, &Row)> = points
            .iter()
            .filter_map(|p| Some((*p, p.aftermath.row(key)?)))
            .collect();
        // A measure that is nothing everywhere is not worth a section, but for what came back of what was cut off.
        let says = |v: &Value| !matches!(v, Value::Missing | Value::Total { total: 0 });
        let kept = matches!(key, "cut_off" | "recovered");
        if !kept && !found.iter().flat_map(|(_, r)| &r.values).any(says) {
            continue;
        }
        let unit = unit_of(found.iter().map(|(_, row)| *row));
        let rows = found
            .iter()
            .map(|(point, row)| line(point.short.clone(), row, unit))
            .collect();
        all.push(Section { title, rows });
    }
    for point in points {
        for section in more(&point.aftermath) {
            let rows = section.rows.into_iter();
            let rows: Vec<Line> = rows.filter(|r| r.cells.iter().any(|c| c.text != "0")).collect();
            if !rows.is_empty() {
                all.push(Section {
                    title: format!("{}: {}", section.title, point.short),
                    rows,
                });
            }
        }
    }
    all
}

fn attempts(aftermath: &Aftermath) -> Vec<Section> {
    let cells = |totals: &[Option<u64>]| -> Vec<Cell> {
        let cell = |t: &Option<u64>| t.map_or_else(|| missing("–"), |n| plain(whole(n)));
        totals.iter().map(cell).collect()
    };
    let rows: Vec<Line> = aftermath
        .attempts
        .iter()
        .map(|a| Line {
            label: a.outcome.clone(),
            unit: "",
            cells: cells(&a.totals),
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    vec![Section {
        title: "attempts".to_owned(),
        rows,
    }]
}

/// When sessions try again: once when it is the same everywhere, else by point and by variant.
fn policies(comparison: &Comparison) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for point in &comparison.points {
        let named = point.aftermath.policies.iter().zip(&comparison.variants);
        let named: Vec<(&String, &str)> = named
            .filter_map(|(p, v)| Some((p.as_ref()?, v.label.as_str())))
            .collect();
        let words = match named.as_slice() {
            [] => continue,
            [(first, _), rest @ ..] if rest.iter().all(|(p, _)| p == first) => (*first).clone(),
            all => {
                let each: Vec<String> = all.iter().map(|(p, v)| format!("{v} {p}")).collect();
                each.join("; ")
            }
        };
        lines.push((point.short.clone(), words));
    }
    let Some((_, first)) = lines.first() else {
        return Vec::new();
    };
    if lines.iter().all(|(_, words)| words == first) {
        return vec![format!("tried again: {first}")];
    }
    let line = |(at, words): &(String, String)| format!("tried again ({at}): {words}");
    lines.iter().filter(|(at, words)| at != words).map(line).collect()
}

fn any_heads(comparison: &Comparison) -> Vec<Head> {
    heads(comparison, None)
}

fn plain(text: String) -> Cell {
    Cell {
        text,
        ..Cell::default()
    }
}

fn missing(text: &str) -> Cell {
    Cell {
        tone: Tone::Missing,
        ..plain(text.to_owned())
    }
}

impl Grid {
    /// A table without a title.
    fn empty(heads: Vec<Head>, sections: Vec<Section>) -> Self {
        Grid {
            title: String::new(),
            corner: String::new(),
            numeric: false,
            headed: false,
            heads,
            sections,
            notes: Vec::new(),
        }
    }
}
