//! The trend of one metric: its sessions, the mean of each stretch, and where it changed.

use plotters::prelude::*;
use pushmark_measure::gate::evidence::words;

use super::frame::{Axes, Frame, K, Key, Look, draw, failed, panel};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series::dashed;
use crate::escape::visible;
use crate::files::ReportError;
use crate::gate::{MetricTrend, Trend};

/// The picture; `None` with fewer than two sessions.
pub(crate) fn trend(all: &Trend, m: &MetricTrend) -> Result<Option<String>, ReportError> {
    if m.points.len() < 2 {
        return Ok(None);
    }
    let percent = |d: f64| 100.0 * m.metric.kind.shown(d);
    let ends = m.points.iter().map(|(_, h)| percent(*h));
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    let room = 0.08 * (high - low).max(0.5);
    let (low, high) = (low - room, high + room);
    let color = match m.crept {
        true => palette::INVALID,
        false => palette::variant(0),
    };
    let entry = |label: &str, color, look| Key {
        label: label.to_owned(),
        color,
        look,
    };
    let named = |c: &crate::gate::Change| format!("session {} ({})", c.at + 1, visible(&c.label));
    let changes: Vec<String> = m.changes.iter().map(named).collect();
    let frame = Frame {
        title: format!("{}: {}", visible(&m.metric.scenario), words(&m.metric.name)),
        subtitle: match changes.is_empty() {
            true => format!("no change in {} sessions", m.points.len()),
            false => format!("changed at {}", changes.join(", ")),
        },
        legend: vec![
            entry("mean of a stretch", color, Look::Line),
            entry("change", palette::FAINT, Look::Dashed),
        ],
        doubt: m.crept.then_some(("crept in", palette::INVALID)),
        note: String::new(),
        height: 380,
    };
    let last = all.labels.len() as f64;
    let axes = Axes {
        title: "",
        x: Scale::between(0.5, last + 0.5, plain_number),
        y: Scale::between(low, high, |v| {
            let sign = if v > 1e-9 { "+" } else { "" };
            format!("{sign}{} %", plain_number(v)).replace('-', "−")
        }),
        x_words: "session",
        y_words: "against the reference; plus is worse",
        y_room: 0.0,
        grid: true,
    };
    draw(&frame, |area| {
        let mut panel = panel(area, &axes, |_| Ok(()))?;
        for c in &m.changes {
            let x = c.at as f64 + 0.5;
            dashed(&mut panel, vec![(x, low), (x, high)], palette::FAINT)?;
        }
        for (first, last, mean) in m.stretches() {
            let (from, to, y) = (first as f64 + 0.6, last as f64 + 1.4, percent(mean));
            panel
                .draw_series(LineSeries::new([(from, y), (to, y)], color.stroke_width(10)))
                .map_err(failed)?;
        }
        let dots = m
            .points
            .iter()
            .map(|(at, h)| Circle::new((*at as f64 + 1.0, percent(*h)), 4 * K, palette::AXIS.filled()));
        panel.draw_series(dots).map_err(failed)?;
        Ok(())
    })
    .map(Some)
}
