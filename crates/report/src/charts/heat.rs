//! The matrix as heat tables: a panel for each measure, a cell for each pair, darker for how many times the least it is.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use pushmark_measure::Grade;

use super::Scene;
use super::frame::{Area, Frame, K, Style, WIDTH, draw as draw_frame, failed, put};
use super::palette;
use super::text;
use crate::files::ReportError;
use crate::matrix::{Cell, Matrix, matrices};

/// Height of a cell, of a panel's title and of its carriers' names, and what stands between panels, in pixels.
const CELL: i32 = 34;
const TITLE: i32 = 26;
const NAMES: i32 = 22;
const BETWEEN: i32 = 22;
/// Height of the colours' scale at the top.
const SCALE: i32 = 40;
/// So many times the least is as dark as it gets.
const DARKEST: f64 = 8.0;
/// Panels side by side.
const ACROSS: i32 = 2;

/// All matrices; none where the run has none.
pub(super) fn draw(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let all = matrices(scene.comparison);
    let Some(first) = all.first() else {
        return Ok(None);
    };
    let panel = TITLE + NAMES + CELL * first.transports.len() as i32 + BETWEEN;
    let lines = (all.len() as i32 + ACROSS - 1) / ACROSS;
    let note = scene.note();
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&repeats(scene)),
        legend: Vec::new(),
        doubt: scene.doubt(),
        height: 68 + SCALE + lines * panel + if note.is_empty() { 8 } else { 34 },
        note,
    };
    draw_frame(&frame, |area| {
        scale(area, &all)?;
        let width = (WIDTH - 48) / ACROSS;
        for (i, matrix) in (0..).zip(&all) {
            let at = (8 + (i % ACROSS) * (width + 8), SCALE + (i / ACROSS) * panel);
            table(area, matrix, at, width - 16)?;
        }
        Ok(())
    })
    .map(Some)
}

fn repeats(scene: &Scene<'_>) -> String {
    match scene.comparison.repeats {
        0 | 1 => "one repeat".to_owned(),
        n => format!("median over {n} repeats"),
    }
}

/// What the colours and marks mean.
fn scale(area: &Area<'_>, all: &[Matrix]) -> Result<(), ReportError> {
    let steps = [1.0, 2.0, 4.0, DARKEST];
    let (mut x, y) = (8, 4);
    for times in steps {
        let color = color_of(times);
        rectangle(area, (x, y), (52, 20), color)?;
        let label = match times {
            1.0 => "least".to_owned(),
            DARKEST => format!("{times} × +"),
            _ => format!("{times} ×"),
        };
        let style = Style::new(11.0, ink_on(color)).anchor(HPos::Center, VPos::Center);
        put(area, &label, (x + 26, y + 10), &style)?;
        x += 52;
    }
    let cells = || all.iter().flat_map(|m| m.cells.iter().flatten());
    let any = |wanted: fn(&crate::matrix::Measured) -> bool| {
        cells().any(|c| matches!(c, Cell::Measured(m) if wanted(m)))
    };
    let mut words = vec!["shade: times the least of its table"];
    if any(|m| m.winner) {
        words.push("bold: clearly ahead");
    }
    if any(|m| m.grade == Grade::Suspect) {
        words.push("? suspect");
    }
    if any(|m| m.grade == Grade::Invalid) {
        words.push("! invalid, not compared");
    }
    if any(|m| m.thin) {
        words.push("~ few samples");
    }
    if cells().any(|c| *c == Cell::Missing) {
        words.push("– not measured");
    }
    let room = f64::from(WIDTH - 48 - x);
    let words = text::fit(&words.join("  ·  "), 11.5, room);
    let style = Style::new(11.5, palette::FAINT).anchor(HPos::Left, VPos::Center);
    put(area, &words, (x + 16, y + 10), &style)
}

/// One panel, with its upper left corner at `at`, in pixels.
fn table(area: &Area<'_>, matrix: &Matrix, at: (i32, i32), width: i32) -> Result<(), ReportError> {
    let (left, top) = at;
    put(
        area,
        &matrix.to_string(),
        (left, top + 2),
        &Style::new(12.5, palette::INK).bold(),
    )?;
    let longest = matrix.transports.iter().map(|t| text::width(t, 12.0));
    let names = longest.fold(40.0, f64::max).min(120.0) as i32 + 12;
    let each = (width - names) / (matrix.carriers.len() as i32).max(1);
    for (i, carrier) in (0..).zip(&matrix.carriers) {
        let place = (left + names + i * each + each / 2, top + TITLE + NAMES / 2);
        let style = Style::new(12.0, palette::TEXT).anchor(HPos::Center, VPos::Center);
        put(
            area,
            &text::fit(carrier, 12.0, f64::from(each - 4)),
            place,
            &style,
        )?;
    }
    for (row, (transport, cells)) in (0..).zip(matrix.transports.iter().zip(&matrix.cells)) {
        let y = top + TITLE + NAMES + row * CELL;
        let style = Style::new(12.0, palette::TEXT).anchor(HPos::Left, VPos::Center);
        put(
            area,
            &text::fit(transport, 12.0, 120.0),
            (left, y + CELL / 2),
            &style,
        )?;
        for (i, cell) in (0..).zip(cells) {
            let corner = (left + names + i * each, y);
            one(area, matrix, cell, corner, each)?;
        }
    }
    Ok(())
}

fn one(
    area: &Area<'_>,
    matrix: &Matrix,
    cell: &Cell,
    (x, y): (i32, i32),
    each: i32,
) -> Result<(), ReportError> {
    let (fill, edge, bold) = match cell {
        Cell::Missing => (palette::MINOR, None, false),
        Cell::Measured(m) => (
            m.times_least.map_or(palette::MINOR, color_of),
            match m.grade {
                Grade::Valid => None,
                Grade::Suspect => Some(palette::SUSPECT),
                Grade::Invalid => Some(palette::INVALID),
            },
            m.winner,
        ),
    };
    let size = (each - 2, CELL - 2);
    rectangle(area, (x, y), size, edge.unwrap_or(fill))?;
    if edge.is_some() {
        rectangle(area, (x + 2, y + 2), (size.0 - 4, size.1 - 4), fill)?;
    }
    let ink = match cell {
        Cell::Missing => palette::FAINT,
        Cell::Measured(m) if m.grade == Grade::Invalid => palette::INVALID,
        Cell::Measured(_) => ink_on(fill),
    };
    let style = Style::new(12.5, ink).anchor(HPos::Center, VPos::Center);
    let style = if bold { style.bold() } else { style };
    put(
        area,
        &matrix.show(cell),
        (x + each / 2 - 1, y + CELL / 2 - 1),
        &style,
    )
}

fn rectangle(
    area: &Area<'_>,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    color: RGBColor,
) -> Result<(), ReportError> {
    let corners = [(x * K, y * K), ((x + width) * K, (y + height) * K)];
    area.draw(&Rectangle::new(corners, color.filled()))
        .map_err(failed)
}

/// The colour of so many times the least: equal ratios are equal steps.
fn color_of(times: f64) -> RGBColor {
    palette::heat(times.max(1.0).log2() / DARKEST.log2())
}

/// Ink that is read on a colour, by the colour's luminance (WCAG 2.2, contrast ratio): black or white, whichever stands out more.
/// One of them always does by 4.5 to 1.
fn ink_on(back: RGBColor) -> RGBColor {
    if contrast(BLACK, back) >= contrast(WHITE, back) {
        BLACK
    } else {
        WHITE
    }
}

fn contrast(a: RGBColor, b: RGBColor) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
    let part = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_out_from_its_cell() {
        for step in 0..=100 {
            let back = color_of(f64::from(step).mul_add(0.08, 1.0));
            let ratio = contrast(ink_on(back), back);
            assert!(ratio >= 4.5, "{back:?}: {ratio}");
        }
        assert_eq!(color_of(f64::INFINITY), color_of(DARKEST));
    }
}
