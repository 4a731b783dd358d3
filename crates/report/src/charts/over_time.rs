//! Latency and deliveries second by second: does it hold steady, or drift, or stall?

use std::collections::BTreeMap;

use pushmark_measure::Phase;
use pushmark_measure::stats::spread;
use pushmark_results::run::{IntervalRow, TrialRecord};

use super::Scene;
use super::frame::{Area, Axes, Frame, K, Key, LABEL, Look, Panel, Style, draw as draw_frame, panel, put};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series::{self, Knot};
use super::text::width;
use crate::files::ReportError;
use crate::plan_words;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// An interval shorter than this says too little about a rate.
const SHORTEST_S: f64 = 0.25;
/// Panels side by side.
const ACROSS: usize = 3;

/// One variant's line.
type Lines = Vec<Vec<Knot>>;

/// p50 and p99 of the latency, one panel each; none when nothing arrived.
pub(super) fn latency(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let middle = lines(scene, |row| row.latency_ns_p50.map(|ns| ns as f64));
    let tail = lines(scene, |row| row.latency_ns_p99.map(|ns| ns as f64));
    if tail.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let frame = frame(scene, title, &tail, 600);
    let x = time_axis(scene);
    let y = |lines: &Lines| Scale::log_time(lines.iter().flatten().flat_map(|k| [k.low, k.high]), 160.0);
    let axes = |title, lines: &Lines, x_words| Axes {
        title,
        x: x.clone(),
        y: y(lines),
        x_words,
        y_words: "latency",
        y_room: [&tail, &middle]
            .map(|l| y(l).widest_label(LABEL))
            .into_iter()
            .fold(0.0, f64::max),
        grid: true,
    };
    draw_frame(&frame, |area| {
        let (_, height) = area.dim_in_pixel();
        let (above, below) = area.split_vertically(height as i32 / 2 - 10 * K);
        let upper = axes("p99", &tail, "");
        let lower = axes("p50", &middle, "seconds since the trial began");
        paint(scene, &above, &upper, &tail, |_| true)?;
        paint(scene, &below, &lower, &middle, |_| true)?;
        Ok(())
    })
    .map(Some)
}

/// Deliveries a second, with the planned rate: a panel for each variant, as lines that keep up lie upon one another.
/// None when there are no intervals.
pub(super) fn deliveries(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let lines = lines(scene, |row| {
        (row.length_s >= SHORTEST_S).then(|| row.delivered as f64 / row.length_s)
    });
    if lines.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let planned = planned_rate(scene);
    let across = lines.len().clamp(1, ACROSS);
    let down = lines.len().div_ceil(across);
    let mut frame = frame(scene, title, &lines, 100 + 240 * down as i32);
    if planned.is_some() {
        frame.legend.push(Key {
            label: "planned".to_owned(),
            color: palette::FAINT,
            look: Look::Dashed,
        });
    }
    let y = Scale::from_zero(
        lines.iter().flatten().map(|k| k.high).chain(planned),
        plain_number,
    );
    draw_frame(&frame, |area| {
        for (i, place) in area
            .split_evenly((down, across))
            .iter()
            .enumerate()
            .take(lines.len())
        {
            let title = scene.comparison.variants.get(i).map_or("", |v| &v.label);
            let y_words = if i % across == 0 {
                "deliveries per second"
            } else {
                ""
            };
            let axes = Axes {
                title,
                x: time_axis(scene),
                y: y.clone(),
                x_words: "seconds",
                y_words,
                y_room: 0.0,
                grid: true,
            };
            let mut panel = paint(scene, place, &axes, &lines, |column| column == i)?;
            if let (Some(rate), Some((from, to))) = (planned, measured_span(scene)) {
                series::dashed(&mut panel, vec![(from, rate), (to, rate)], palette::FAINT)?;
            }
        }
        Ok(())
    })
    .map(Some)
}

fn frame(scene: &Scene<'_>, title: &str, lines: &Lines, height: i32) -> Frame {
    Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&scene.repeats_words("shaded")),
        legend: scene.legend(Look::Line, |i| lines.get(i).is_some_and(|l| !l.is_empty())),
        doubt: scene.doubt(),
        note: scene.note(),
        height,
    }
}

fn paint<'a, 'b>(
    scene: &Scene<'_>,
    area: &'a Area<'b>,
    axes: &Axes<'_>,
    lines: &Lines,
    shows: impl Fn(usize) -> bool,
) -> Result<Panel<'a, 'b>, ReportError> {
    let mut panel = panel(area, axes, |panel| shade(scene, axes, panel))?;
    for (i, line) in lines.iter().enumerate().filter(|(i, _)| shows(*i)) {
        series::band(&mut panel, line, palette::variant(i))?;
    }
    for (i, line) in lines.iter().enumerate().filter(|(i, _)| shows(*i)) {
        series::line(&mut panel, line, palette::variant(i))?;
    }
    name_phases(scene, axes, &panel, area)?;
    Ok(panel)
}

/// Shades all phases but the measured window, and names those wide enough.
fn shade(scene: &Scene<'_>, axes: &Axes<'_>, panel: &mut Panel<'_, '_>) -> Result<(), ReportError> {
    let (low, high) = (axes.y.low(), axes.y.high());
    for (phase, from, to) in phases(scene) {
        if phase == Phase::Measure {
            continue;
        }
        series::fill(panel, [(from, low), (to, high)], palette::SHADE.filled())?;
    }
    Ok(())
}

/// Names the shaded phases above the panel, where there is room for the name.
fn name_phases(
    scene: &Scene<'_>,
    axes: &Axes<'_>,
    panel: &Panel<'_, '_>,
    area: &Area<'_>,
) -> Result<(), ReportError> {
    let (left, top) = area.get_base_pixel();
    let style = Style::new(10.5, palette::FAINT).anchor(HPos::Center, VPos::Bottom);
    for (phase, from, to) in phases(scene)
        .into_iter()
        .filter(|(phase, ..)| *phase != Phase::Measure)
    {
        let [a, b] = [from, to].map(|x| panel.backend_coord(&(x, axes.y.high())));
        if f64::from((b.0 - a.0) / K) >= width(phase.as_str(), 10.5) {
            put(
                area,
                phase.as_str(),
                (((a.0 + b.0) / 2 - left) / K, (a.1 - top) / K - 3),
                &style,
            )?;
        }
    }
    Ok(())
}

/// All trials of the point, those that did not finish as well: what they saw is sound.
fn trials<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a TrialRecord> {
    let cells = scene.point.columns.iter().filter_map(|c| c.cell);
    cells.flat_map(|cell| scene.run.trials_of(cell))
}

/// One line a variant: interval by interval, over repeats.
fn lines(scene: &Scene<'_>, read: impl Fn(&IntervalRow) -> Option<f64>) -> Lines {
    let line = |cell: usize| {
        let mut by_index: BTreeMap<u32, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for row in scene.run.trials_of(cell).flat_map(|t| &t.intervals) {
            let middle = row.start_s + row.length_s / 2.0;
            if let Some(value) = read(row).filter(|v| v.is_finite() && middle.is_finite()) {
                let (x, y) = by_index.entry(row.index).or_default();
                x.push(middle);
                y.push(value);
            }
        }
        let knot = |(x, y): &(Vec<f64>, Vec<f64>)| {
            let (x, y) = (spread(x)?, spread(y)?);
            Some(Knot {
                x: x.median,
                low: y.min,
                middle: y.median,
                high: y.max,
                thin: false,
            })
        };
        by_index.values().filter_map(knot).collect()
    };
    scene
        .point
        .columns
        .iter()
        .map(|c| c.cell.map(line).unwrap_or_default())
        .collect()
}

/// The phases of the trial with the most intervals, first to last.
fn phases(scene: &Scene<'_>) -> Vec<(Phase, f64, f64)> {
    let mut spans: Vec<(Phase, f64, f64)> = Vec::new();
    let longest = trials(scene).fold(None, |best: Option<&TrialRecord>, t| match best {
        Some(b) if b.intervals.len() >= t.intervals.len() => Some(b),
        _ => Some(t),
    });
    for row in longest.iter().flat_map(|t| &t.intervals) {
        let (from, to) = (row.start_s, row.start_s + row.length_s);
        match spans.last_mut().filter(|(phase, ..)| *phase == row.phase) {
            Some((_, _, end)) => *end = to,
            None => spans.push((row.phase, from, to)),
        }
    }
    spans
}

fn measured_span(scene: &Scene<'_>) -> Option<(f64, f64)> {
    phases(scene)
        .into_iter()
        .find(|(phase, ..)| *phase == Phase::Measure)
        .map(|(_, from, to)| (from, to))
}

fn time_axis(scene: &Scene<'_>) -> Scale {
    let ends = trials(scene)
        .flat_map(|t| &t.intervals)
        .map(|r| r.start_s + r.length_s)
        .filter(|e| e.is_finite());
    Scale::between(0.0, ends.fold(1.0, f64::max), plain_number)
}

/// What all receivers together should get a second.
fn planned_rate(scene: &Scene<'_>) -> Option<f64> {
    let cell = scene
        .point
        .columns
        .iter()
        .find_map(|c| scene.run.manifest.plan.cells.get(c.cell?))?;
    plan_words::messages_per_second(cell).map(|rate| rate * f64::from(cell.load.connections))
}
