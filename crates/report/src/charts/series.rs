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

/// How long each line is on top where several lie upon one another, in pixels as drawn.
const STRIPE: i32 = 16 * K;

/// Lines through their places. Where they lie upon one another they take turns, so that none is hidden.
pub(super) fn together(
    area: &Area<'_>,
    panel: &mut Panel<'_, '_>,
    lines: &[(Vec<(f64, f64)>, RGBColor)],
) -> Result<(), ReportError> {
    for (places, color) in lines {
        let line = LineSeries::new(places.iter().copied(), color.stroke_width(8));
        panel.draw_series(line).map_err(failed)?;
    }
    // The last is on top already.
    for (turn, (places, color)) in lines.iter().enumerate().rev().skip(1) {
        let (left, top) = area.get_base_pixel();
        let pixels = places.iter().map(|p| panel.backend_coord(p));
        let pixels: Vec<(i32, i32)> = pixels.map(|(x, y)| (x - left, y - top)).collect();
        for ends in pixels.windows(2) {
            if let [a, b] = ends {
                for part in turns(*a, *b, turn, lines.len()) {
                    area.draw(&PathElement::new(part, color.stroke_width(8)))
                        .map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

/// The parts of a stretch on which it is this line's turn. Whose turn it is depends on the place alone, so that it is the
/// same for all that pass there.
fn turns(a: (i32, i32), b: (i32, i32), turn: usize, lines: usize) -> Vec<[(i32, i32); 2]> {
    let (along_a, along_b) = (i64::from(a.0) + i64::from(a.1), i64::from(b.0) + i64::from(b.1));
    let (stripe, lines) = (i64::from(STRIPE), lines.max(1) as i64);
    let owns = |index: i64| index.rem_euclid(lines) == turn as i64;
    let at = |along: i64| {
        let share = (along - along_a) as f64 / (along_b - along_a) as f64;
        let between = |from: i32, to: i32| from + (f64::from(to - from) * share).round() as i32;
        (between(a.0, b.0), between(a.1, b.1))
    };
    let (low, high) = (along_a.min(along_b), along_a.max(along_b));
    let indices = low.div_euclid(stripe)..=high.div_euclid(stripe);
    if low == high {
        return indices.filter(|i| owns(*i)).map(|_| [a, b]).collect();
    }
    indices
        .filter(|i| owns(*i))
        .map(|i| [at((i * stripe).max(low)), at(((i + 1) * stripe).min(high))])
        .collect()
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
