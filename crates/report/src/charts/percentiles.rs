//! Times by percentile, the tail drawn out as HdrHistogram draws it: where do variants part?

use pushmark_measure::stats::spread;
use pushmark_measure::{Histogram, Metric};

use super::Scene;
use super::frame::{Axes, Frame, Look, draw as draw_frame, panel};
use super::scale::{LAST_QUANTILE, Scale};
use super::series::{self, Knot};
use crate::comparison::{finished, is_thin};
use crate::files::ReportError;

/// Steps along each decade of the tail.
const STEPS: u32 = 60;

/// The chart, or none when no variant has a sample.
pub(super) fn draw(scene: &Scene<'_>, title: &str, metric: Metric) -> Result<Option<String>, ReportError> {
    let lines: Vec<Vec<Knot>> = scene
        .point
        .columns
        .iter()
        .map(|column| {
            let trials = column
                .cell
                .map(|cell| finished(scene.run, cell).collect::<Vec<_>>())
                .unwrap_or_default();
            knots(
                &trials
                    .iter()
                    .filter_map(|(t, _)| t.histograms.get(metric))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let last = lines
        .iter()
        .flatten()
        .map(|k| k.x)
        .fold(f64::NEG_INFINITY, f64::max);
    if last == f64::NEG_INFINITY {
        return Ok(None);
    }
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&scene.repeats_words("shaded")),
        legend: scene.legend(Look::Line, |i| lines.get(i).is_some_and(|l| !l.is_empty())),
        doubt: scene.doubt(),
        note: scene.note(),
        height: 500,
    };
    let axes = Axes {
        title: "",
        x: Scale::tail(last),
        y: Scale::log_time(lines.iter().flatten().flat_map(|k| [k.low, k.high]), 330.0),
        x_words: "percentile; a line ends where fewer than ten samples lie beyond",
        y_words: if metric == Metric::ConnectTime {
            "connect time"
        } else {
            "latency, from the intended send"
        },
        y_room: 0.0,
        grid: true,
    };
    draw_frame(&frame, |area| {
        let mut panel = panel(area, &axes, |_| Ok(()))?;
        let colored = || {
            lines
                .iter()
                .enumerate()
                .map(|(i, l)| (l, super::palette::variant(i)))
        };
        for (line, color) in colored() {
            series::band(&mut panel, line, color)?;
        }
        for (line, color) in colored() {
            series::line(&mut panel, line, color)?;
        }
        Ok(())
    })
    .map(Some)
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
