//! Where the latency of a push went: the sender, the fan-out's turn, the wire, the receiver's queue.
//!
//! Upper panel: the parts of the mean, which add up exactly (latency is the sum of its parts for every message, and so for
//! their means). Lower panel: median and 99th percentile of what was measured as a distribution; those do not add up, and are not
//! stacked. The wire is what the others leave of the mean, so it has no distribution.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use pushmark_measure::stats::spread;
use pushmark_measure::{Histograms, Metric};

use super::Scene;
use super::cost::label;
use super::frame::{Area, Axes, Frame, K, Key, LABEL, Look, Panel, Style, draw as draw_frame, failed, panel};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series;
use crate::comparison::finished;
use crate::files::ReportError;
use crate::units::{Quantity, Unit, with_unit};

/// The parts, in the order in which a message meets them; the wire is what is left.
const PARTS: [(&str, Option<Metric>); 4] = [
    ("send delay (the server was late)", Some(Metric::SendDelay)),
    ("fan-out delay (waiting for its turn)", Some(Metric::FanoutDelay)),
    ("wire (the rest)", None),
    (
        "generator delay (waiting to be read)",
        Some(Metric::GeneratorDelay),
    ),
];

/// The lines of the lower panel.
const SPREADS: [(&str, Metric); 4] = [
    ("latency", Metric::Latency),
    ("send delay", Metric::SendDelay),
    ("fan-out delay", Metric::FanoutDelay),
    ("generator delay", Metric::GeneratorDelay),
];

/// One variant's means, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Split {
    latency: f64,
    /// As [`PARTS`]; `None` where it was not measured and is part of the rest.
    parts: [Option<f64>; 4],
}

/// The parts of one trial's mean latency.
fn split(histograms: &Histograms) -> Option<Split> {
    let mean = |metric| histograms.get(metric).and_then(|h| h.mean());
    let latency = mean(Metric::Latency)?;
    let mut parts = PARTS.map(|(_, metric)| metric.and_then(mean));
    let measured: f64 = parts.iter().flatten().sum();
    // Over fewer messages, or to three digits, the others may come to a little more than the whole.
    parts[2] = Some((latency - measured).max(0.0));
    Some(Split { latency, parts })
}

/// The mean over repeats of each part, so that they still add up.
fn over_repeats(repeats: &[Split]) -> Option<Split> {
    let n = repeats.len() as f64;
    let mut sum = Split::default();
    if repeats.is_empty() {
        return None;
    }
    for repeat in repeats {
        sum.latency += repeat.latency / n;
        for (total, part) in sum.parts.iter_mut().zip(repeat.parts) {
            *total = part.map_or(*total, |p| Some(total.unwrap_or(0.0) + p / n));
        }
    }
    Some(sum)
}

/// The chart, or none when no variant's latency can be taken apart.
pub(super) fn draw(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let trials = |i: usize| {
        let cell = scene.point.columns.get(i).and_then(|c| c.cell);
        cell.into_iter()
            .flat_map(|cell| finished(scene.run, cell))
            .map(|(t, _)| &t.histograms)
    };
    let n = scene.comparison.variants.len();
    let splits: Vec<Option<Split>> = (0..n)
        .map(|i| over_repeats(&trials(i).filter_map(split).collect::<Vec<_>>()))
        .collect();
    // A rest alone is no split.
    let has = |part: usize| splits.iter().flatten().any(|s| s.parts[part].is_some());
    if !has(1) && !has(3) {
        return Ok(None);
    }
    // Of each repeat its own, then the median over repeats.
    let quantile = |i: usize, metric, q| {
        let values: Vec<f64> = trials(i)
            .filter_map(|h| h.get(metric)?.quantile(q))
            .map(|ns| ns as f64)
            .collect();
        spread(&values).map(|s| s.median)
    };
    let of =
        |i: usize| SPREADS.map(|(_, metric)| Some([quantile(i, metric, 0.5)?, quantile(i, metric, 0.99)?]));
    let spreads: Vec<Vec<Option<[f64; 2]>>> = (0..n).map(|i| of(i).to_vec()).collect();

    let note = scene.note();
    let lines = lines(scene, &spreads);
    let lower_rows = lines.last().map_or(0.0, |l| l.down) + 1.0;
    let (upper, lower) = (62 + 40 * n as i32, 62 + (19.0 * lower_rows) as i32);
    // Both panels' labels take the same room, so that they stand flush.
    let y_room = scene
        .comparison
        .variants
        .iter()
        .map(|v| super::text::fit(&v.label, LABEL, 150.0))
        .chain(lines.iter().map(|l| l.name.clone()))
        .map(|name| super::text::width(&name, LABEL))
        .fold(0.0, f64::max);
    let legend: Vec<Key> = PARTS
        .iter()
        .enumerate()
        .filter(|(i, _)| has(*i))
        .map(|(i, (label, _))| Key {
            label: if i == 2 && !(has(1) && has(3)) {
                "the rest".to_owned()
            } else {
                (*label).to_owned()
            },
            color: palette::part(i),
            look: Look::Block,
        })
        .collect();
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&repeats_words(scene)),
        // Two lines of keys at the most.
        height: 112 + upper + lower + if note.is_empty() { 8 } else { 34 },
        legend,
        doubt: scene.doubt(),
        note,
    };
    draw_frame(&frame, |area| {
        let (above, below) = area.split_vertically(upper * K);
        stacks(scene, &above, &splits, y_room)?;
        dumbbells(&below, &lines, y_room)
    })
    .map(Some)
}

fn repeats_words(scene: &Scene<'_>) -> String {
    match scene.comparison.repeats {
        0 | 1 => "one repeat".to_owned(),
        n => format!("over {n} repeats: means above, medians below"),
    }
}

fn stacks(
    scene: &Scene<'_>,
    area: &Area<'_>,
    splits: &[Option<Split>],
    y_room: f64,
) -> Result<(), ReportError> {
    let n = splits.len() as f64;
    let totals = || splits.iter().flatten().map(|s| s.latency);
    let unit = Unit::fitting(Quantity::Nanoseconds, totals());
    let most = totals().fold(0.0_f64, f64::max);
    let names = scene.comparison.variants.iter().enumerate();
    let title = format!("Mean latency and its parts, which add up, {}", unit.label);
    let axes = Axes {
        title: &title,
        // Room at the right for the mean.
        x: if most > 0.0 {
            Scale::from_zero([most / unit.size * 1.12], plain_number)
        } else {
            Scale::named(0.0, 1.0, Vec::new())
        },
        y: Scale::named(
            0.0,
            n,
            names
                .map(|(i, v)| (n - 0.5 - i as f64, super::text::fit(&v.label, LABEL, 150.0)))
                .collect(),
        ),
        x_words: "",
        y_words: "",
        y_room,
        grid: false,
    };
    let across = axes.x.high();
    let mut panel = panel(area, &axes, |_| Ok(()))?;
    let (width, _) = panel.plotting_area().dim_in_pixel();
    let pixels = f64::from(width) / f64::from(K) / across;
    for (i, split) in splits.iter().enumerate() {
        let y = n - 0.5 - i as f64;
        let Some(split) = split else {
            label(&mut panel, (0.0, y), "not measured", palette::FAINT)?;
            continue;
        };
        let mut from = 0.0;
        for (part, value) in split.parts.iter().enumerate() {
            let Some(value) = value.filter(|v| *v > 0.0) else {
                continue;
            };
            let to = from + value / unit.size;
            series::fill(
                &mut panel,
                [(from, y - 0.33), (to, y + 0.33)],
                palette::part(part).filled(),
            )?;
            let number = unit.show(value);
            if super::text::width(&number, 11.0) + 10.0 < (to - from) * pixels {
                inside(
                    &mut panel,
                    ((from + to) / 2.0, y),
                    &number,
                    palette::on_part(part),
                )?;
            }
            from = to;
        }
        let words = with_unit(&unit.show(split.latency), unit.label);
        label(&mut panel, (from, y), &words, palette::INK)?;
    }
    Ok(())
}

/// One line of the lower panel.
struct Line {
    name: String,
    /// Lines from the top; variants stand a little apart.
    down: f64,
    color: RGBColor,
    p50: f64,
    p99: f64,
}

fn lines(scene: &Scene<'_>, spreads: &[Vec<Option<[f64; 2]>>]) -> Vec<Line> {
    let colors = [palette::INK, palette::part(0), palette::part(1), palette::part(3)];
    let mut lines: Vec<Line> = Vec::new();
    for (variant, spreads) in scene.comparison.variants.iter().zip(spreads) {
        let mut gap = if lines.is_empty() { 0.0 } else { 0.55 };
        let parts = spreads.iter().zip(SPREADS).zip(colors);
        for ((spread, (what, _)), color) in parts {
            let Some([p50, p99]) = *spread else { continue };
            let name = match what {
                "latency" => format!("{}: latency", super::text::fit(&variant.label, LABEL, 100.0)),
                other => other.to_owned(),
            };
            let down = lines.last().map_or(0.0, |l| l.down + 1.0) + gap;
            gap = 0.0;
            lines.push(Line {
                name,
                down,
                color,
                p50,
                p99,
            });
        }
    }
    lines
}

fn dumbbells(area: &Area<'_>, lines: &[Line], y_room: f64) -> Result<(), ReportError> {
    let n = lines.last().map_or(0.0, |l| l.down) + 1.0;
    let height = |line: &Line| n - 0.5 - line.down;
    // A time of nothing has no place on a logarithmic axis.
    let ends = || lines.iter().flat_map(|l| [l.p50, l.p99]).map(|v| v.max(100.0));
    // Room at the right for the numbers beside a dot.
    let most = ends().fold(0.0_f64, f64::max);
    let axes = Axes {
        title: "p50 (full dot) and p99 (hollow) of each, which do not add up",
        x: Scale::log_time(ends().chain([most * 2.2]), 700.0),
        y: Scale::named(
            0.0,
            n,
            lines.iter().map(|l| (height(l), l.name.clone())).collect(),
        ),
        x_words: "",
        y_words: "",
        y_room,
        grid: false,
    };
    let low = axes.x.low();
    let mut panel = panel(area, &axes, |_| Ok(()))?;
    for line in lines {
        let (y, color) = (height(line), line.color);
        let (from, to) = (line.p50.max(low), line.p99.max(low));
        panel
            .draw_series([PathElement::new(
                [(from, y), (to, y)],
                color.mix(0.55).stroke_width(8),
            )])
            .map_err(failed)?;
        let dot = |at: f64, inner: RGBColor| {
            [
                Circle::new((at, y), 4 * K, color.filled()),
                Circle::new((at, y), 4 * K - 8, inner.filled()),
            ]
        };
        panel.draw_series(dot(from, color)).map_err(failed)?;
        panel.draw_series(dot(to, WHITE)).map_err(failed)?;
        let unit = Unit::fitting(Quantity::Nanoseconds, [line.p50, line.p99]);
        let words = format!(
            "{} · {}",
            unit.show(line.p50),
            with_unit(&unit.show(line.p99), unit.label)
        );
        label(&mut panel, (to, y), &words, palette::TEXT)?;
    }
    Ok(())
}

fn inside(panel: &mut Panel<'_, '_>, at: (f64, f64), text: &str, color: RGBColor) -> Result<(), ReportError> {
    let style = Style::new(11.0, color).anchor(HPos::Center, VPos::Center);
    let text = EmptyElement::at(at) + Text::new(text.to_owned(), (0, 0), style.to_plotters());
    panel.draw_series([text]).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(Metric, u64)]) -> Histograms {
        let mut histograms = Histograms::default();
        for (metric, value) in values {
            histograms.record(*metric, *value);
        }
        histograms
    }

    #[test]
    fn the_parts_add_up() {
        let whole = split(&of(&[
            (Metric::Latency, 1_000),
            (Metric::SendDelay, 100),
            (Metric::FanoutDelay, 600),
            (Metric::GeneratorDelay, 200),
        ]))
        .unwrap();
        assert_eq!(whole.parts, [Some(100.0), Some(600.0), Some(100.0), Some(200.0)]);
        let other = split(&of(&[(Metric::Latency, 2_000), (Metric::SendDelay, 500)])).unwrap();
        assert_eq!(other.parts, [Some(500.0), None, Some(1_500.0), None]);
        let mean = over_repeats(&[whole, whole]).unwrap();
        assert_eq!(mean, whole);
        assert_eq!(mean.parts.iter().flatten().sum::<f64>(), mean.latency);
        assert_eq!(over_repeats(&[]), None);
        assert_eq!(split(&Histograms::default()), None);
    }
}
