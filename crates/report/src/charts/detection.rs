//! Who had noticed by when: the share of the sessions a fault hit on which each side knew, over the time since.

use std::time::Duration;

use plotters::style::text_anchor::{HPos, VPos};
use pushmark_measure::{Detection, Histogram};

use super::Scene;
use super::frame::{Area, Axes, Frame, K, Key, LABEL, Look, Style, draw as draw_frame, panel, put};
use super::palette;
use super::scale::Scale;
use super::series;
use super::text::fit;
use crate::comparison::{FaultRow, Point, fault_name, finished};
use crate::files::ReportError;
use crate::plan_words;

/// Panels side by side.
const ACROSS: usize = 3;
/// More panels than this are not read.
const MOST: usize = 12;
/// Below this, in nanoseconds, the axis has no room to spare.
const SHORTEST: f64 = 1e5;
/// A curve's step that is smaller than this share is not seen.
const SEEN: f64 = 0.01;
/// The room a label takes across, against the line that it takes down an axis.
const ACROSS_TO_DOWN: f64 = 17.0 / 44.0;

/// One side of one variant: the share that knew, step by step.
struct Curve {
    variant: usize,
    server: bool,
    steps: Vec<(f64, f64)>,
    watched: f64,
}

impl Curve {
    /// Its steps, from the left end of an axis that begins at `low`.
    fn stair(&self, low: f64) -> Vec<(f64, f64)> {
        let mut places = vec![(low, 0.0)];
        let mut before = 0.0;
        for (time, share) in &self.steps {
            let time = time.max(low);
            places.extend([(time, before), (time, *share)]);
            before = *share;
        }
        places.push((self.watched.max(low), before));
        places
    }
}

/// One fault at one point.
struct Panel {
    title: String,
    curves: Vec<Curve>,
    /// Nobody noticed anything, for this long.
    unseen: Option<Duration>,
}

/// A panel for each fault and condition; none when no death was watched.
pub(super) fn draw(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let mut panels: Vec<Panel> = Vec::new();
    for point in &scene.comparison.points {
        panels.extend(point.aftermath.faults.iter().map(|f| of(scene, point, f)));
    }
    panels.retain(|p| !p.curves.is_empty());
    let left_out = panels.len().saturating_sub(MOST);
    panels.truncate(MOST);
    if panels.is_empty() {
        return Ok(None);
    }
    let curves = || panels.iter().flat_map(|p| &p.curves);
    let mut legend = scene.legend_of_all(Look::Line, |i| curves().any(|c| c.variant == i));
    if curves().any(|c| c.server) {
        for (label, look) in [("client", Look::Line), ("server", Look::Dashed)] {
            legend.push(Key {
                label: label.to_owned(),
                color: palette::FAINT,
                look,
            });
        }
    }
    let mut more = "all repeats together; a curve that stays below 100 % ends where watching did".to_owned();
    if left_out > 0 {
        more.push_str(&format!("; {left_out} more in the table"));
    }
    let across = if panels.len() == 4 {
        2
    } else {
        panels.len().min(ACROSS)
    };
    let down = panels.len().div_ceil(across);
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle_of_all(&more),
        legend,
        doubt: scene.doubt(),
        note: scene.note(),
        height: 120 + 210 * down as i32 + if down == 1 { 60 } else { 0 },
    };
    let times = curves().flat_map(|c| c.steps.iter().map(|(t, _)| *t).chain([c.watched]));
    let room = 920.0 / across as f64 - 90.0;
    let x = Scale::log_time(times.map(|t| t.max(SHORTEST)), room * ACROSS_TO_DOWN);
    let percents = [0.0, 0.25, 0.5, 0.75, 1.0];
    let y = Scale::named(
        0.0,
        1.05,
        percents.map(|v| (v, format!("{:.0} %", v * 100.0))).to_vec(),
    );
    draw_frame(&frame, |area| {
        let places = area.split_evenly((down, across));
        for (i, (place, shown)) in places.iter().zip(&panels).enumerate() {
            let axes = Axes {
                title: &fit(&shown.title, 12.5, room + 60.0),
                x: x.clone(),
                y: y.clone(),
                x_words: if i / across + 1 == down {
                    "time since the fault"
                } else {
                    ""
                },
                y_words: if i % across == 0 { "sessions" } else { "" },
                y_room: 0.0,
                grid: true,
            };
            paint(place, &axes, shown)?;
        }
        Ok(())
    })
    .map(Some)
}

fn paint(area: &Area<'_>, axes: &Axes<'_>, shown: &Panel) -> Result<(), ReportError> {
    let mut panel = panel(area, axes, |_| Ok(()))?;
    let (server, client): (Vec<&Curve>, Vec<&Curve>) = shown.curves.iter().partition(|c| c.server);
    let low = axes.x.low();
    let drawn = client.iter().map(|c| (c.stair(low), palette::variant(c.variant)));
    series::together(area, &mut panel, &drawn.collect::<Vec<_>>())?;
    for curve in server {
        series::dashed(&mut panel, curve.stair(low), palette::variant(curve.variant))?;
    }
    if let Some(watched) = shown.unseen {
        let middle = (axes.x.low() * axes.x.high()).sqrt();
        let at = panel.backend_coord(&(middle, 0.5));
        let (left, top) = area.get_base_pixel();
        let style = Style::new(LABEL, palette::FAINT).anchor(HPos::Center, VPos::Center);
        let text = format!("nobody noticed in {}", plan_words::duration(watched));
        put(area, &text, ((at.0 - left) / K, (at.1 - top) / K), &style)?;
    }
    Ok(())
}

fn of(scene: &Scene<'_>, point: &Point, fault: &FaultRow) -> Panel {
    let mut curves = Vec::new();
    let mut watched = None;
    for (variant, column) in point.columns.iter().enumerate() {
        let faults: Vec<_> = column
            .cell
            .into_iter()
            .flat_map(|c| finished(scene.run, c))
            .filter_map(|(_, s)| s.faults.get(fault.index))
            .collect();
        for server in [false, true] {
            let seen: Vec<&Detection> = faults
                .iter()
                .filter_map(|f| if server { &f.server } else { &f.client }.as_ref())
                .collect();
            curves.extend(curve(&seen, variant, server));
            watched = watched.max(seen.iter().map(|d| d.watched).max());
        }
    }
    Panel {
        title: fault_name(fault, scene.comparison.axis, &point.label),
        unseen: watched.filter(|_| !curves.is_empty() && curves.iter().all(|c| c.steps.is_empty())),
        curves,
    }
}

/// The share of all that were hit, from step to step; none where none was hit.
fn curve(seen: &[&Detection], variant: usize, server: bool) -> Option<Curve> {
    let affected: f64 = seen.iter().map(|d| d.affected as f64).sum();
    let watched = seen.iter().map(|d| d.watched.as_nanos() as f64);
    let watched = watched.reduce(f64::max).filter(|_| affected > 0.0)?;
    let mut time = Histogram::new();
    for detection in seen {
        time.merge(&detection.time);
    }
    let (mut steps, mut known, mut shown) = (Vec::new(), 0.0_f64, 0.0);
    let all = time.count() as f64;
    for step in time.hdr().iter_recorded() {
        known += step.count_at_value() as f64;
        let share = (known / affected).min(1.0);
        if share - shown >= SEEN || known >= all {
            steps.push((step.value_iterated_to() as f64, share));
            shown = share;
        }
    }
    Some(Curve {
        variant,
        server,
        watched: steps.last().map_or(watched, |(last, _)| watched.max(*last)),
        steps,
    })
}
