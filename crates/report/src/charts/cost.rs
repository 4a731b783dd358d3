//! Costs as bars: CPU of a delivery and memory of a session, on each side.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::Scene;
use super::frame::{Area, Axes, Frame, K, LABEL, Style, draw as draw_frame, failed, panel};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series;
use crate::comparison::{Row, Value};
use crate::files::ReportError;
use crate::units::{Unit, with_unit};

const PANELS: [(&str, &str); 4] = [
    ("server_cpu_us_per_delivery", "Server: CPU per delivery"),
    ("generator_cpu_us_per_delivery", "Client: CPU per delivery"),
    ("server_rss_bytes_per_connection", "Server: memory per session"),
    ("generator_rss_bytes_per_connection", "Client: memory per session"),
];

/// Four panels of bars; none when nothing was measured.
pub(super) fn draw(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let rows: Vec<Option<&Row>> = PANELS.iter().map(|(key, _)| scene.point.row(key)).collect();
    if !rows
        .iter()
        .flatten()
        .flat_map(|r| &r.values)
        .any(|v| v.spread().is_some())
    {
        return Ok(None);
    }
    let variants = scene.comparison.variants.len() as i32;
    let each = 66 + 34 * variants;
    let note = scene.note();
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&scene.repeats_words("whiskers")),
        legend: Vec::new(),
        doubt: scene.doubt(),
        height: 68 + 2 * each + if note.is_empty() { 8 } else { 34 },
        note,
    };
    draw_frame(&frame, |area| {
        let (above, below) = area.split_vertically(each * K);
        let (a, b) = series::halves(&above);
        let (c, d) = series::halves(&below);
        for ((place, row), (_, title)) in [a, b, c, d].iter().zip(rows).zip(PANELS) {
            if let Some(row) = row {
                bars(scene, place, title, row)?;
            }
        }
        Ok(())
    })
    .map(Some)
}

fn bars(scene: &Scene<'_>, area: &Area<'_>, title: &str, row: &Row) -> Result<(), ReportError> {
    let spreads: Vec<_> = row.values.iter().map(Value::spread).collect();
    let unit = Unit::fitting(row.quantity, spreads.iter().flatten().map(|s| s.median));
    let n = spreads.len() as f64;
    let most = spreads
        .iter()
        .flatten()
        .map(|s| s.max)
        .filter(|v| v.is_finite())
        .fold(0.0_f64, f64::max);
    let names = scene.comparison.variants.iter().enumerate();
    let title = format!("{title}, {}", unit.label);
    let axes = Axes {
        title: &title,
        // Room at the right for the value that stands beside its bar.
        x: if most > 0.0 {
            Scale::from_zero([most / unit.size * 1.22], plain_number)
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
        y_room: 0.0,
        grid: false,
    };
    let mut panel = panel(area, &axes, |_| Ok(()))?;
    for (i, spread) in spreads.iter().enumerate() {
        let (y, color) = (n - 0.5 - i as f64, palette::variant(i));
        let Some(s) = spread else {
            label(&mut panel, (0.0, y), "not measured", palette::FAINT)?;
            continue;
        };
        let (low, middle, high) = (s.min / unit.size, s.median / unit.size, s.max / unit.size);
        series::fill(&mut panel, [(0.0, y - 0.31), (middle, y + 0.31)], color.filled())?;
        if s.repeats > 1 && high > low {
            let stroke = palette::INK.mix(0.7).stroke_width(5);
            let ends = [
                (low, high, y, y),
                (low, low, y - 0.12, y + 0.12),
                (high, high, y - 0.12, y + 0.12),
            ];
            let whisker = ends
                .iter()
                .map(|(x0, x1, y0, y1)| PathElement::new([(*x0, *y0), (*x1, *y1)], stroke));
            panel.draw_series(whisker).map_err(failed)?;
        }
        label(
            &mut panel,
            (high.max(middle), y),
            &with_unit(&unit.show(s.median), unit.label),
            palette::INK,
        )?;
    }
    Ok(())
}

pub(super) fn label(
    panel: &mut super::frame::Panel<'_, '_>,
    at: (f64, f64),
    text: &str,
    color: RGBColor,
) -> Result<(), ReportError> {
    let style = Style::new(11.5, color).anchor(HPos::Left, VPos::Center);
    let text = EmptyElement::at(at) + Text::new(text.to_owned(), (7 * K, 0), style.to_plotters());
    panel.draw_series([text]).map_err(failed)?;
    Ok(())
}
