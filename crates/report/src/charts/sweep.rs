//! How measures move with what is swept: where does a variant stop keeping up?

use super::Scene;
use super::frame::{Area, Axes, Frame, K, Look, draw as draw_frame, panel};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series::{self, Knot};
use crate::comparison::{Value, axis_name};
use crate::files::ReportError;

/// One line a variant.
type Lines = Vec<Vec<Knot>>;

/// Two panels of times, p50 and p99, on logarithmic axes; none when neither was measured.
pub(super) fn times(scene: &Scene<'_>, title: &str, keys: [&str; 2]) -> Result<Option<String>, ReportError> {
    let all = keys.map(|key| lines(scene, key));
    let values = || all.iter().flatten().flatten();
    if values().next().is_none() {
        return Ok(None);
    }
    // One scale for both, so that the eye can carry a height across.
    let y = Scale::log_time(values().flat_map(|k| [k.low, k.high]), 250.0);
    two_panels(scene, title, &all, ["p50", "p99"], |_| y.clone())
}

/// Two panels of CPU per delivery, server and client; none when neither was measured.
pub(super) fn costs(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let all = ["server_cpu_us_per_delivery", "generator_cpu_us_per_delivery"].map(|key| lines(scene, key));
    if all.iter().flatten().flatten().next().is_none() {
        return Ok(None);
    }
    let y = |lines: &Lines| {
        Scale::from_zero(lines.iter().flatten().map(|k| k.high), |v| {
            format!("{} µs", plain_number(v))
        })
    };
    two_panels(scene, title, &all, ["Server", "Client"], y)
}

fn two_panels(
    scene: &Scene<'_>,
    title: &str,
    all: &[Lines; 2],
    titles: [&str; 2],
    y: impl Fn(&Lines) -> Scale,
) -> Result<Option<String>, ReportError> {
    let mut words = scene.repeats_words("strokes");
    if all.iter().flatten().flatten().any(|k| k.thin) {
        words.push_str("; hollow: too few samples for a steady value");
    }
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle_of_all(&words),
        legend: scene.legend(Look::Line, |i| {
            all.iter()
                .any(|lines| lines.get(i).is_some_and(|l| !l.is_empty()))
        }),
        doubt: scene.doubt(),
        note: scene.note(),
        height: 430,
    };
    draw_frame(&frame, |area| {
        let (left, right) = series::halves(area);
        for ((place, lines), title) in [left, right].iter().zip(all).zip(titles) {
            let (width, _) = place.dim_in_pixel();
            let ticks = scene
                .comparison
                .points
                .iter()
                .filter_map(|p| Some((p.value?, p.short.clone())))
                .collect();
            let x = Scale::swept(ticks, f64::from(width) / f64::from(K) - 90.0);
            let x_words = axis_name(scene.comparison.axis);
            paint(
                place,
                &Axes {
                    title,
                    x,
                    y: y(lines),
                    x_words,
                    y_words: "",
                    y_room: 0.0,
                    grid: true,
                },
                lines,
            )?;
        }
        Ok(())
    })
    .map(Some)
}

fn paint(area: &Area<'_>, axes: &Axes<'_>, lines: &Lines) -> Result<(), ReportError> {
    let mut panel = panel(area, axes, |_| Ok(()))?;
    let colored = || lines.iter().enumerate().map(|(i, l)| (l, palette::variant(i)));
    for (line, color) in colored() {
        for knot in line.iter().filter(|k| k.high > k.low) {
            series::whisker(&mut panel, *knot, color)?;
        }
        series::line(&mut panel, line, color)?;
    }
    for (line, color) in colored() {
        for knot in line {
            series::dot(&mut panel, *knot, color)?;
        }
    }
    Ok(())
}

fn lines(scene: &Scene<'_>, key: &str) -> Lines {
    let knot = |variant: usize| {
        scene.comparison.points.iter().filter_map(move |p| {
            let value = p.row(key)?.values.get(variant)?;
            let s = value.spread()?;
            Some(Knot {
                x: p.value?,
                low: s.min,
                middle: s.median,
                high: s.max,
                thin: matches!(value, Value::Spread { thin: true, .. }),
            })
        })
    };
    (0..scene.comparison.variants.len())
        .map(|i| knot(i).collect())
        .collect()
}
