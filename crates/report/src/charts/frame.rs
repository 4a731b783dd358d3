//! The frame around every chart: title, legend and the verdict on the face of it; and the panels drawn inside.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette;
use super::scale::Scale;
use super::text;
use crate::files::ReportError;

/// Drawn so many times larger than shown: the backend knows whole pixels only.
pub(super) const K: i32 = 4;
/// Width of every chart, in pixels.
pub(super) const WIDTH: i32 = 920;
/// Space at the left and right edge.
const EDGE: i32 = 24;
/// Size of labels.
pub(super) const LABEL: f64 = 11.5;
/// Typefaces, the embedded one first; a browser takes what it has.
pub(super) const FONT: &str = "Inter, Helvetica Neue, Arial, sans-serif";

/// A part of the picture.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A panel with its axes.
pub(super) type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;

/// What stands around the data.
pub(super) struct Frame {
    /// What is shown, as a phrase.
    pub(super) title: String,
    /// Where and how.
    pub(super) subtitle: String,
    /// What the colours mean.
    pub(super) legend: Vec<Key>,
    /// Why not to trust it, in a word and its colour.
    pub(super) doubt: Option<(&'static str, RGBColor)>,
    /// The same at length, and other remarks; empty when there is nothing to say.
    pub(super) note: String,
    /// Height of the whole, in pixels.
    pub(super) height: i32,
}

/// One entry of a legend.
pub(super) struct Key {
    pub(super) label: String,
    pub(super) color: RGBColor,
    pub(super) look: Look,
}

/// How a legend's entry looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Line,
    Dashed,
    /// A filled part of a bar.
    Block,
}

/// Draws a frame and what `body` puts into it; gives the SVG's text.
pub(super) fn draw(
    frame: &Frame,
    body: impl FnOnce(&Area<'_>) -> Result<(), ReportError>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, ((WIDTH * K) as u32, (frame.height * K) as u32))
            .into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut room = f64::from(WIDTH - 2 * EDGE);
        if let Some((word, color)) = frame.doubt {
            room -= pill(&root, word, color)?;
        }
        put(
            &root,
            &text::fit(&frame.title, 17.0, room),
            (EDGE, 22),
            &Style::new(17.0, palette::INK).bold(),
        )?;
        let subtitle = text::fit(&frame.subtitle, 12.0, f64::from(WIDTH - 2 * EDGE));
        put(&root, &subtitle, (EDGE, 46), &Style::new(12.0, palette::FAINT))?;
        let top = legend(&root, &frame.legend, 68)?;
        let mut bottom = 8;
        if !frame.note.is_empty() {
            let color = frame.doubt.map_or(palette::FAINT, |(_, color)| color);
            let note = text::fit(&frame.note, 11.5, f64::from(WIDTH - 2 * EDGE));
            put(&root, &note, (EDGE, frame.height - 22), &Style::new(11.5, color))?;
            bottom = 34;
        }
        body(&root.margin(top * K, bottom * K, (EDGE - 8) * K, EDGE * K))?;
        root.present().map_err(failed)?;
    }
    Ok(finish(&svg, frame))
}

/// The doubt at the top right. Gives the width it takes.
fn pill(root: &Area<'_>, word: &str, color: RGBColor) -> Result<f64, ReportError> {
    let label = word.to_uppercase();
    let width = text::width(&label, 11.0) as i32 + 22;
    let (left, top) = (WIDTH - EDGE - width, 18);
    let corners = [(left * K, top * K), ((left + width) * K, (top + 22) * K)];
    root.draw(&Rectangle::new(corners, color.filled()))
        .map_err(failed)?;
    let style = Style::new(11.0, WHITE).bold().anchor(HPos::Center, VPos::Center);
    put(root, &label, (left + width / 2, top + 11), &style)?;
    Ok(f64::from(width + 16))
}

/// The legend, in as many lines as it needs. Gives where the picture may begin.
fn legend(root: &Area<'_>, keys: &[Key], top: i32) -> Result<i32, ReportError> {
    let (mut x, mut y) = (EDGE, top + 8);
    for key in keys {
        let width = 24 + text::width(&key.label, 12.0) as i32 + 22;
        if x > EDGE && x + width > WIDTH - EDGE {
            (x, y) = (EDGE, y + 20);
        }
        let line = |from: i32, to: i32| {
            PathElement::new([(from * K, y * K), (to * K, y * K)], key.color.stroke_width(10))
        };
        match key.look {
            Look::Line => root.draw(&line(x, x + 18)).map_err(failed)?,
            Look::Block => {
                let corners = [((x + 6) * K, (y - 6) * K), ((x + 18) * K, (y + 6) * K)];
                root.draw(&Rectangle::new(corners, key.color.filled()))
                    .map_err(failed)?;
            }
            Look::Dashed => {
                for start in [x, x + 7, x + 14] {
                    root.draw(&line(start, start + 4)).map_err(failed)?;
                }
            }
        }
        let style = Style::new(12.0, palette::TEXT).anchor(HPos::Left, VPos::Center);
        put(root, &key.label, (x + 24, y), &style)?;
        x += width;
    }
    Ok(if keys.is_empty() { top } else { y + 18 })
}

/// Axes and their words.
pub(super) struct Axes<'s> {
    pub(super) title: &'s str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) x_words: &'s str,
    pub(super) y_words: &'s str,
    /// At least so much room for y's labels, in pixels: panels above one another stand flush.
    pub(super) y_room: f64,
    /// Gridlines; bars with a number beside them need none.
    pub(super) grid: bool,
}

/// Draws axes and a grid; `under` paints beneath the grid's lines.
pub(super) fn panel<'a, 'b>(
    area: &'a Area<'b>,
    axes: &Axes<'_>,
    under: impl FnOnce(&mut Panel<'a, 'b>) -> Result<(), ReportError>,
) -> Result<Panel<'a, 'b>, ReportError> {
    let title = if axes.title.is_empty() { 10 } else { 28 };
    if !axes.title.is_empty() {
        put(area, axes.title, (8, 4), &Style::new(12.5, palette::INK).bold())?;
    }
    let y_words = if axes.y_words.is_empty() { 0 } else { 22 };
    let left = axes.y.widest_label(LABEL).max(axes.y_room) as i32 + 16 + y_words;
    let bottom = if axes.x_words.is_empty() { 26 } else { 48 };
    let mut chart = ChartBuilder::on(area)
        .margin_top(title * K)
        .margin_right(14 * K)
        .set_label_area_size(LabelAreaPosition::Left, left * K)
        .set_label_area_size(LabelAreaPosition::Bottom, bottom * K)
        .build_cartesian_2d(axes.x.clone(), axes.y.clone())
        .map_err(failed)?;
    under(&mut chart)?;
    let (x, y) = (axes.x.clone(), axes.y.clone());
    let (x_label, y_label) = (move |v: &f64| x.label(*v), move |v: &f64| y.label(*v));
    let labels = Style::new(LABEL, palette::TEXT);
    let words = Style::new(12.0, palette::FAINT);
    let mut mesh = chart.configure_mesh();
    if !axes.grid {
        mesh.disable_mesh();
    }
    mesh.x_labels(axes.x.ticks().max(1))
        .y_labels(axes.y.ticks().max(1))
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label)
        .bold_line_style(palette::GRID.stroke_width(4))
        .light_line_style(palette::MINOR.stroke_width(4))
        .axis_style(palette::AXIS.stroke_width(4))
        .set_all_tick_mark_size(4 * K)
        .label_style(labels.to_plotters())
        .axis_desc_style(words.to_plotters())
        .x_desc(axes.x_words)
        .y_desc(axes.y_words)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

/// How text looks.
pub(super) struct Style {
    size: f64,
    color: RGBColor,
    bold: bool,
    at: Pos,
}

impl Style {
    pub(super) fn new(size: f64, color: RGBColor) -> Self {
        Self {
            size,
            color,
            bold: false,
            at: Pos::new(HPos::Left, VPos::Top),
        }
    }

    pub(super) fn bold(mut self) -> Self {
        self.bold = true;
        self
    }

    pub(super) fn anchor(mut self, across: HPos, down: VPos) -> Self {
        self.at = Pos::new(across, down);
        self
    }

    pub(super) fn to_plotters(&self) -> TextStyle<'static> {
        // The backend divides sizes by 1.24.
        let font = (FONT, self.size * 1.24 * f64::from(K)).into_font();
        let font = if self.bold {
            font.style(FontStyle::Bold)
        } else {
            font
        };
        TextStyle {
            color: self.color.to_backend_color(),
            pos: self.at,
            ..TextStyle::from(font)
        }
    }
}

/// Puts text at a place of `area`, in pixels as shown.
pub(super) fn put(area: &Area<'_>, text: &str, at: (i32, i32), style: &Style) -> Result<(), ReportError> {
    area.draw(&Text::new(
        text.to_owned(),
        (at.0 * K, at.1 * K),
        style.to_plotters(),
    ))
    .map_err(failed)
}

/// Any drawing error: the backend writes into memory, so none is expected.
pub(super) fn failed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Chart(error.to_string())
}

/// The head of the SVG as it is shown: real size, a name for readers who do not see it, round line ends.
fn finish(svg: &str, frame: &Frame) -> String {
    let body = svg.split_once('>').map_or(svg, |(_, rest)| rest);
    let title = escape_xml(&format!("{}. {}", frame.title, frame.subtitle));
    format!(
        "<svg width=\"{WIDTH}\" height=\"{}\" viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{title}</title>{body}",
        frame.height,
        WIDTH * K,
        frame.height * K
    )
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
