//! The forest plot of a gate: each metric's estimate and bounds against zero and its budget.

use plotters::prelude::*;
use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::{Kind, Reading, Role, Standing};
use pushmark_results::gate::{Gate, GateVerdict};

use super::frame::{Axes, Frame, K, Key, Look, draw, failed, panel};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series::{dashed, fill};
use crate::escape::visible;
use crate::files::ReportError;
use crate::gate::headline;

/// Height of one metric's row, in pixels.
const ROW: usize = 24;
/// More rows than this are not read.
const MOST: usize = 60;
/// The axis ends here, in percent, however wild a bound is.
const WIDEST: f64 = 60.0;

const WORSE: RGBColor = palette::INVALID;
const BETTER: RGBColor = RGBColor(0, 120, 90);

/// One metric, in percent: fractions of messages are left to the table.
struct Row {
    label: String,
    low: f64,
    centre: f64,
    high: f64,
    budget: f64,
    color: RGBColor,
}

fn row(gate: &Gate, r: &Reading) -> Option<Row> {
    if r.kind == Kind::Fraction {
        return None;
    }
    let percent = |d: f64| (100.0 * r.kind.shown(d)).clamp(-WIDEST, WIDEST);
    let (e, many) = (r.estimate?, gate.courses.len() > 1);
    let metric = gate
        .courses
        .iter()
        .flat_map(|c| &c.metrics)
        .find(|m| (&m.scenario, &m.name) == (&r.scenario, &r.name))?;
    let color = match (r.standing, r.role) {
        (_, Role::Advisory) | (Standing::NotTested, _) => palette::AXIS,
        (Standing::Regression, _) => WORSE,
        (Standing::Improvement, _) => BETTER,
        (Standing::Pass, _) => palette::variant(0),
        (Standing::Unproven, _) => palette::SUSPECT,
    };
    let name = words(&r.name);
    Some(Row {
        label: if many {
            visible(&format!("{}: {name}", r.scenario))
        } else {
            name.to_owned()
        },
        low: e.lower.map_or(-WIDEST, percent),
        centre: percent(e.centre),
        high: e.upper.map_or(WIDEST, percent),
        budget: 100.0 * metric.budget,
        color,
    })
}

/// The plot; `None` when nothing was estimated.
pub(crate) fn forest(gate: &Gate) -> Result<Option<String>, ReportError> {
    let readings = gate.found.iter().flat_map(|f| &f.judgement.readings);
    let mut rows: Vec<Row> = readings.filter_map(|r| row(gate, r)).collect();
    let left_out = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    if rows.is_empty() {
        return Ok(None);
    }
    let entry = |label: &str, color, look| Key {
        label: label.to_owned(),
        color,
        look,
    };
    let frame = Frame {
        title: "Candidate against baseline: estimate, and where the truth lies".to_owned(),
        subtitle: visible(&headline(gate)),
        legend: vec![
            entry("pass", palette::variant(0), Look::Line),
            entry("regression", WORSE, Look::Line),
            entry("improvement", BETTER, Look::Line),
            entry("unproven", palette::SUSPECT, Look::Line),
            entry("decides nothing", palette::AXIS, Look::Line),
            entry("budget", palette::FAINT, Look::Dashed),
        ],
        doubt: match gate.verdict {
            GateVerdict::Regression | GateVerdict::Failure => Some((gate.verdict.as_str(), palette::INVALID)),
            GateVerdict::Inconclusive | GateVerdict::Invalid => {
                Some((gate.verdict.as_str(), palette::SUSPECT))
            }
            GateVerdict::Pass | GateVerdict::Improvement => None,
        },
        note: match left_out {
            0 => String::new(),
            n => format!("{n} more in the table"),
        },
        height: 190 + (ROW * rows.len()) as i32,
    };
    let ends = rows.iter().flat_map(|r| [r.low, r.high, r.budget]);
    let far = ends.map(f64::abs).fold(5.0, f64::max).min(WIDEST) * 1.05;
    let count = rows.len() as f64;
    let places: Vec<f64> = (0..rows.len()).map(|i| count - 1.0 - i as f64).collect();
    let names = places.iter().zip(&rows).map(|(y, r)| (*y, r.label.clone()));
    let axes = Axes {
        title: "",
        x: Scale::between(-far, far, |v| {
            let sign = if v > 1e-9 { "+" } else { "" };
            format!("{sign}{} %", plain_number(v)).replace('-', "−")
        }),
        y: Scale::named(-0.7, count - 0.3, names.rev().collect()),
        x_words: "worse to the right; the line is the range of 95 % bounds each side",
        y_words: "",
        y_room: 0.0,
        grid: true,
    };
    draw(&frame, |area| {
        let mut panel = panel(area, &axes, |panel| {
            fill(panel, [(-far, -0.7), (0.0, count - 0.3)], palette::SHADE.filled())
        })?;
        let zero = LineSeries::new([(0.0, -0.7), (0.0, count - 0.3)], palette::AXIS.stroke_width(6));
        panel.draw_series(zero).map_err(failed)?;
        for (y, r) in places.iter().zip(&rows) {
            dashed(
                &mut panel,
                vec![(r.budget, y - 0.4), (r.budget, y + 0.4)],
                palette::FAINT,
            )?;
            let range = LineSeries::new([(r.low, *y), (r.high, *y)], r.color.stroke_width(10));
            panel.draw_series(range).map_err(failed)?;
            panel
                .draw_series([Circle::new((r.centre, *y), 5 * K, r.color.filled())])
                .map_err(failed)?;
        }
        Ok(())
    })
    .map(Some)
}
