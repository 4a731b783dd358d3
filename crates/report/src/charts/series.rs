//! What is drawn into panels: lines, bands between repeats, dots with whiskers.

use plotters::prelude::*;

use super::frame::{Area, K, Panel, failed};
use crate::files::ReportError;

/// A place along x with the median over repeats and its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knot {
    pub(super) x: f64,
    pub(super) low: f64,
    pub(super) middle: f64,
    pub(super) high: f64,
    /// It rests on too few samples.
    pub(super) thin: bool,
}

/// The range between repeats, as a pale band.
pub(super) fn band(panel: &mut Panel<'_, '_>, knots: &[Knot], color: RGBColor) -> Result<(), ReportError> {
    if knots.len() < 2 || knots.iter().all(|k| k.low == k.high) {
        return Ok(());
    }
    let there = knots.iter().map(|k| (k.x, k.high));
    let back = knots.iter().rev().map(|k| (k.x, k.low));
    let outline: Vec<(f64, f64)> = there.chain(back).collect();
    panel
        .draw_series([Polygon::new(outline, color.mix(0.14).filled())])
        .map_err(failed)?;
    Ok(())
}

/// The medians, as a line. A single one is a dot, as a line would not be seen.
pub(super) fn line(panel: &mut Panel<'_, '_>, knots: &[Knot], color: RGBColor) -> Result<(), ReportError> {
    if let [only] = knots {
        return dot(panel, *only, color);
    }
    let points = knots.iter().map(|k| (k.x, k.middle));
    panel
        .draw_series(LineSeries::new(points, color.stroke_width(8)))
        .map_err(failed)?;
    Ok(())
}

/// The width of line `index` of `count` that may lie upon one another: the lower are wider, so that they show.
pub(super) fn width_of(index: usize, count: usize) -> u32 {
    7 + 6 * count.saturating_sub(index + 1).min(3) as u32
}

/// A line through these places.
pub(super) fn path(
    panel: &mut Panel<'_, '_>,
    places: Vec<(f64, f64)>,
    color: RGBColor,
    width: u32,
) -> Result<(), ReportError> {
    panel
        .draw_series(LineSeries::new(places, color.stroke_width(width)))
        .map_err(failed)?;
    Ok(())
}

/// A dashed line through these places.
pub(super) fn dashed(
    panel: &mut Panel<'_, '_>,
    places: Vec<(f64, f64)>,
    color: RGBColor,
) -> Result<(), ReportError> {
    let dashes = DashedLineSeries::new(places, 6 * K, 4 * K, color.stroke_width(5));
    panel.draw_series(dashes).map_err(failed)?;
    Ok(())
}

/// One median, as a dot; hollow when it rests on too few samples.
pub(super) fn dot(panel: &mut Panel<'_, '_>, knot: Knot, color: RGBColor) -> Result<(), ReportError> {
    let place = (knot.x, knot.middle);
    panel
        .draw_series([Circle::new(place, 5 * K, WHITE.filled())])
        .map_err(failed)?;
    panel
        .draw_series([Circle::new(place, 4 * K, color.filled())])
        .map_err(failed)?;
    if knot.thin {
        panel
            .draw_series([Circle::new(place, 9, WHITE.filled())])
            .map_err(failed)?;
    }
    Ok(())
}

/// The range between repeats, as an upright stroke.
pub(super) fn whisker(panel: &mut Panel<'_, '_>, knot: Knot, color: RGBColor) -> Result<(), ReportError> {
    let stroke = color.mix(0.5).stroke_width(6);
    panel
        .draw_series([PathElement::new(
            [(knot.x, knot.low), (knot.x, knot.high)],
            stroke,
        )])
        .map_err(failed)?;
    Ok(())
}

/// A filled box between two corners.
pub(super) fn fill(
    panel: &mut Panel<'_, '_>,
    corners: [(f64, f64); 2],
    style: ShapeStyle,
) -> Result<(), ReportError> {
    panel
        .draw_series([Rectangle::new(corners, style)])
        .map_err(failed)?;
    Ok(())
}

/// Two equal parts, side by side.
pub(super) fn halves<'a>(area: &Area<'a>) -> (Area<'a>, Area<'a>) {
    let (width, _) = area.dim_in_pixel();
    let (left, right) = area.split_horizontally(width / 2);
    (left.margin(0, 0, 0, 8 * K), right.margin(0, 0, 8 * K, 0))
}
