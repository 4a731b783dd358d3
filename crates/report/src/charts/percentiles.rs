//! Times by percentile, the tail drawn out as HdrHistogram draws it: where do variants part?

use pushmark_measure::stats::spread;
use pushmark_measure::{Histogram, Metric};

use super::Scene;
use super::frame::{Area, Axes, Frame, Look, draw as draw_frame, panel};
use super::palette;
use super::scale::{LAST_QUANTILE, Scale};
use super::series::{self, Knot};
use super::text::fit;
use crate::comparison::{Column, Point, finished, is_thin};
use crate::files::ReportError;

/// Steps along each decade of the tail.
const STEPS: u32 = 60;

/// Panels of conditions side by side, and how many there may be.
const ACROSS: usize = 2;
const MOST: usize = 12;

/// The chart, or none when no variant has a sample.
pub(super) fn draw(scene: &Scene<'_>, title: &str, metric: Metric) -> Result<Option<String>, ReportError> {
    let subtitle = scene.subtitle(&scene.repeats_words("shaded"));
    let words = "percentile; a line ends where fewer than ten samples lie beyond";
    grouped(scene, &[scene.point], title, metric, (subtitle, words))
}

/// A panel for each point, all on one scale; none when no variant has a sample anywhere.
pub(super) fn by_point(
    scene: &Scene<'_>,
    title: &str,
    metric: Metric,
) -> Result<Option<String>, ReportError> {
    let points: Vec<&Point> = scene.comparison.points.iter().take(MOST).collect();
    let mut more = scene.repeats_words("shaded");
    if scene.comparison.is_interrupted() && metric == Metric::Latency {
        more.push_str("; what never arrived is not in it");
    }
    let subtitle = scene.subtitle_of_all(&more);
    grouped(scene, &points, title, metric, (subtitle, "percentile"))
}

fn grouped(
    scene: &Scene<'_>,
    points: &[&Point],
    title: &str,
    metric: Metric,
    (subtitle, x_words): (String, &str),
) -> Result<Option<String>, ReportError> {
    let all: Vec<Vec<Vec<Knot>>> = points.iter().map(|p| lines(scene, p, metric)).collect();
    let knots = || all.iter().flatten().flatten();
    let last = knots().map(|k| k.x).fold(f64::NEG_INFINITY, f64::max);
    if last == f64::NEG_INFINITY {
        return Ok(None);
    }
    let alone = points.len() < 2;
    let has_data = |i: usize| all.iter().any(|l| l.get(i).is_some_and(|l| !l.is_empty()));
    let across = if alone { 1 } else { ACROSS };
    let down = points.len().div_ceil(across);
    let (height, room) = if alone {
        (500, 330.0)
    } else {
        (110 + 230 * down as i32, 150.0)
    };
    let frame = Frame {
        title: title.to_owned(),
        subtitle,
        legend: if alone {
            scene.legend(Look::Line, has_data)
        } else {
            scene.legend_of_all(Look::Line, has_data)
        },
        doubt: scene.doubt(),
        note: scene.note(),
        height,
    };
    let y = Scale::log_time(knots().flat_map(|k| [k.low, k.high]), room);
    draw_frame(&frame, |area| {
        let places = area.split_evenly((down, across));
        for (i, (place, lines)) in places.iter().zip(&all).enumerate() {
            let title = points.get(i).filter(|_| !alone).map_or("", |p| &p.label);
            let axes = Axes {
                title: &fit(title, 12.5, 900.0 / across as f64 - 30.0),
                x: Scale::tail(last).thinned(900.0 / across as f64 - 90.0),
                y: y.clone(),
                x_words: if i / across + 1 == down { x_words } else { "" },
                y_words: match (alone, metric) {
                    (_, Metric::ConnectTime) => "connect time",
                    (true, _) => "latency, from the intended send",
                    (false, _) => "latency",
                },
                y_room: 0.0,
                grid: true,
            };
            paint(place, &axes, lines)?;
        }
        Ok(())
    })
    .map(Some)
}

fn paint(area: &Area<'_>, axes: &Axes<'_>, lines: &[Vec<Knot>]) -> Result<(), ReportError> {
    let mut panel = panel(area, axes, |_| Ok(()))?;
    let colored = || lines.iter().enumerate().map(|(i, l)| (l, palette::variant(i)));
    for (line, color) in colored() {
        series::band(&mut panel, line, color)?;
    }
    for (line, color) in colored() {
        series::line(&mut panel, line, color)?;
    }
    Ok(())
}

/// One line a variant.
fn lines(scene: &Scene<'_>, point: &Point, metric: Metric) -> Vec<Vec<Knot>> {
    let line = |column: &Column| {
        let trials = column.cell.into_iter().flat_map(|c| finished(scene.run, c));
        knots(
            &trials
                .filter_map(|(t, _)| t.histograms.get(metric))
                .collect::<Vec<_>>(),
        )
    };
    point.columns.iter().map(line).collect()
}

/// Quantiles from 0 as far as every repeat has ten samples beyond.
fn knots(repeats: &[&Histogram]) -> Vec<Knot> {
    let Some(fewest) = repeats.iter().map(|h| h.count()).min() else {
        return Vec::new();
    };
    let quantile = |step: u32| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(STEPS));
    (0..=5 * STEPS)
        .map(quantile)
        .take_while(|q| *q <= LAST_QUANTILE + 1e-9 && (*q == 0.0 || !is_thin(*q, fewest)))
        .filter_map(|q| {
            let values: Vec<f64> = repeats
                .iter()
                .filter_map(|h| h.quantile(q))
                .map(|ns| ns as f64)
                .collect();
            spread(&values).map(|s| Knot {
                x: q,
                low: s.min,
                middle: s.median,
                high: s.max,
                thin: false,
            })
        })
        .collect()
}
