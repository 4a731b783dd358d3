//! The terminal's table: variants across, right-aligned, one unit a row, the winner marked.

use pushmark_measure::Grade;

use crate::answer::answer;
use crate::comparison::Comparison;
use crate::grid::{self, Grid, Line, Tone};
use crate::words;

/// The widest line. More variants than fit are shown in further blocks.
const WIDTH: usize = 100;
/// Findings shown; the page has all.
const MOST_FINDINGS: usize = 8;

/// The question, its answer, the table that backs it, and how far to trust it. For a sweep: the table over all points.
pub fn text(comparison: &Comparison, color: bool) -> String {
    let matrix = grid::matrix(comparison);
    // Of many pairs, a table of everything is not read at a glance: it is in the report.
    let grids = if matrix.is_empty() {
        grid::headline(comparison).into_iter().collect()
    } else {
        Vec::new()
    };
    write(
        comparison,
        &matrix,
        [grid::aftermath(comparison), grids].concat(),
        Paint { color },
    )
}

/// Like [`text`], and for a sweep also the table of each point.
pub fn full_text(comparison: &Comparison, color: bool) -> String {
    let all = grid::all(comparison).into_iter();
    let all = all.flat_map(|grid| grid::by_carrier(comparison, grid));
    let grids = [grid::aftermath(comparison), all.collect()].concat();
    write(comparison, &grid::matrix(comparison), grids, Paint { color })
}

fn write(comparison: &Comparison, matrix: &[Grid], grids: Vec<Grid>, paint: Paint) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    for part in wrap(
        &format!("{}: {}", comparison.scenario, comparison.question),
        WIDTH,
        0,
    ) {
        line(&paint.bold(&part));
    }
    for caveat in &comparison.quality.caveats {
        for part in wrap(caveat, WIDTH, 2) {
            line(&paint.grade(Grade::Suspect, &part));
        }
    }
    line("");
    for part in wrap(&answer(comparison), WIDTH, 0) {
        line(&part);
    }
    for row in side_by_side(matrix, paint) {
        line(&row);
    }
    if let Some(counts) = words::counts(comparison).filter(|_| !matrix.is_empty()) {
        line("");
        for part in wrap(&counts, WIDTH, 2) {
            line(&paint.dim(&part));
        }
    }
    for grid in &grids {
        line("");
        if !grid.title.is_empty() {
            line(&paint.bold(&grid.title));
        }
        for row in lay_out(grid, paint) {
            line(&row);
        }
        for part in grid.notes.iter().flat_map(|n| wrap(n, WIDTH, 2)) {
            line(&paint.dim(&part));
        }
    }
    line("");
    let mut legend = words::legend(comparison, &[matrix, &grids].concat());
    if comparison.embedded_server {
        legend.push("one machine over loopback: compares, does not predict a network".to_owned());
    }
    for part in pack(&legend) {
        line(&paint.dim(&part));
    }
    if !comparison.negotiated.is_empty() {
        line("negotiated, from the connections");
    }
    for agreed in &comparison.negotiated {
        for part in wrap(&format!("  {}", agreed.text), WIDTH, 4) {
            line(&part);
        }
    }
    let quality = &comparison.quality;
    for part in wrap(&format!("verdict {}", quality.headline()), WIDTH, 2) {
        line(&paint.grade(quality.grade, &part));
    }
    for finding in quality.findings.iter().take(MOST_FINDINGS) {
        let text = format!(
            "  {:<8}{}: {}",
            finding.grade.as_str(),
            finding.place(),
            finding.reason
        );
        for part in wrap(&text, WIDTH, 10) {
            line(&part);
        }
    }
    if let Some(more) = quality
        .findings
        .len()
        .checked_sub(MOST_FINDINGS)
        .filter(|n| *n > 0)
    {
        line(&format!("  and {more} more, in report.html"));
    }
    out
}

/// Small tables, as many beside one another as fit; an empty line before each line of them.
fn side_by_side(grids: &[Grid], paint: Paint) -> Vec<String> {
    let blocks: Vec<Vec<String>> = grids
        .iter()
        .map(|grid| {
            let mut lines = vec![paint.bold(&grid.title)];
            lines.extend(compact(grid, paint));
            lines
        })
        .collect();
    let widest = blocks.iter().flatten().map(|l| printed(l)).max().unwrap_or(0);
    let across = ((WIDTH + GAP) / (widest + GAP)).max(1);
    let mut lines = Vec::new();
    for together in blocks.chunks(across) {
        lines.push(String::new());
        for at in 0..together.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for (i, block) in together.iter().enumerate() {
                let text = block.get(at).map_or("", String::as_str);
                line.push_str(text);
                if i + 1 < together.len() {
                    line.push_str(&" ".repeat(widest + GAP - printed(text)));
                }
            }
            lines.push(line);
        }
    }
    lines
}

/// The lines of a small table without spreads: no wider than its numbers need, their marks right behind them.
fn compact(grid: &Grid, paint: Paint) -> Vec<String> {
    let rows = || grid.sections.iter().flat_map(|s| &s.rows);
    let label = rows().map(|r| width(&r.label)).max().unwrap_or(0);
    let mark = |cell: &grid::Cell| match cell.tone {
        Tone::Grade(_) => cell.text.chars().next_back().filter(|c| !c.is_ascii_digit()),
        Tone::Plain if cell.winner => Some('*'),
        Tone::Plain | Tone::Missing => None,
    };
    // A number and its mark apart, so that digits stand beneath digits.
    let parts = |cell: &grid::Cell| {
        let mark = mark(cell);
        // A mark of doubt is in the text, and who leads in doubt gets no other.
        let number = match (mark, cell.tone) {
            (Some(mark), Tone::Grade(_)) => cell.text.trim_end_matches(mark),
            _ => cell.text.as_str(),
        };
        (number.to_owned(), mark.map_or(" ".to_owned(), String::from))
    };
    let columns: Vec<usize> = (0..grid.heads.len())
        .map(|i| {
            let cells = rows().filter_map(|r| r.cells.get(i));
            let widest = cells.map(|c| width(&parts(c).0)).max().unwrap_or(0);
            widest.max(grid.heads.get(i).map_or(0, |h| width(&h.label)))
        })
        .collect();
    let mut head = left("", label);
    for (head_of, w) in grid.heads.iter().zip(&columns) {
        head.push_str(&format!("  {} ", paint.dim(&right(&head_of.label, *w))));
    }
    let mut lines = vec![head];
    for row in rows() {
        let mut text = left(&row.label, label);
        for (cell, w) in row.cells.iter().zip(&columns) {
            let (number, mark) = parts(cell);
            let shown = format!("{}{mark}", right(&number, *w));
            let shown = match cell.tone {
                Tone::Grade(grade) => paint.grade(grade, &shown),
                Tone::Missing => paint.dim(&shown),
                Tone::Plain if cell.winner => paint.bold(&shown),
                Tone::Plain => shown,
            };
            text.push_str(&format!("  {shown}"));
        }
        lines.push(text);
    }
    lines
}

/// What stands between tables side by side.
const GAP: usize = 4;

/// The width of a line as it is seen: colours take none.
fn printed(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().map_or(0, width);
    let rest = parts.map(|p| p.split_once('m').map_or(0, |(_, text)| width(text)));
    first + rest.sum::<usize>()
}

/// Widths of a column: value, spread.
#[derive(Clone, Copy)]
struct Widths {
    value: usize,
    spread: usize,
}

impl Widths {
    fn whole(self) -> usize {
        self.value + self.spread
    }
}

/// The lines of a table, in as many blocks as its width asks for.
fn lay_out(grid: &Grid, paint: Paint) -> Vec<String> {
    let rows = || grid.sections.iter().flat_map(|s| &s.rows);
    // A title on a line of its own takes no column; its rows are indented.
    let title = if grid.headed {
        0
    } else {
        let titles = grid.sections.iter().map(|s| width(&s.title));
        titles.max().unwrap_or(0)
    };
    let label = rows()
        .map(|r| width(&r.label))
        .chain([width(&grid.corner)])
        .max()
        .unwrap_or(0);
    let unit = rows().map(|r| width(r.unit)).max().unwrap_or(0);
    let widths: Vec<Widths> = (0..grid.heads.len())
        .map(|i| {
            let cells = |spread: bool| {
                rows()
                    .filter(move |r| has_spread(r) == spread)
                    .filter_map(move |r| r.cells.get(i))
            };
            let spread = cells(true)
                .filter(|c| !c.spread.is_empty())
                .map(|c| width(&c.spread) + 1)
                .max()
                .unwrap_or(0);
            // A cell without a spread takes the whole column when it has to.
            let value = cells(true).filter(|c| !c.spread.is_empty());
            let value = value.map(|c| width(&shown(c))).max().unwrap_or(0);
            let alone = cells(true).filter(|c| c.spread.is_empty());
            let whole = cells(false)
                .chain(alone)
                .map(|c| width(&shown(c)))
                .max()
                .unwrap_or(0);
            let head = grid
                .heads
                .get(i)
                .map_or(0, |h| width(&h.label).max(width(&h.remark)));
            Widths {
                value: value.max(whole.max(head).saturating_sub(spread)),
                spread,
            }
        })
        .collect();
    let names = title + 2 + label + 2 + unit;

    let mut lines = Vec::new();
    let mut first = 0;
    while first < widths.len() || (first == 0 && widths.is_empty()) {
        // Three spaces before a column, two for its mark where any has one.
        let mut used = names;
        let fits = widths[first..].iter().take_while(|w| {
            used += 3 + w.whole() + mark_width(grid);
            used <= WIDTH
        });
        let last = first + fits.count().max(1);
        if first > 0 {
            lines.push(String::new());
        }
        block(
            grid,
            &widths,
            first..last.min(widths.len()),
            (title, label, unit),
            paint,
            &mut lines,
        );
        first = last;
    }
    lines
}

/// Room for the mark of a column that is ahead: in tables of what broke nobody is.
fn mark_width(grid: &Grid) -> usize {
    let marked = grid
        .sections
        .iter()
        .flat_map(|s| &s.rows)
        .flat_map(|r| &r.cells)
        .any(|c| c.winner);
    if grid.headed && !marked { 0 } else { 2 }
}

fn block(
    grid: &Grid,
    widths: &[Widths],
    columns: std::ops::Range<usize>,
    (title, label, unit): (usize, usize, usize),
    paint: Paint,
    lines: &mut Vec<String>,
) {
    let apart = !grid.corner.is_empty();
    let name = |text: &str| {
        if grid.numeric {
            right(text, label)
        } else {
            left(text, label)
        }
    };
    let room = " ".repeat(mark_width(grid));
    let chosen = || columns.clone().filter_map(|i| Some((i, *widths.get(i)?)));

    let mut head = format!("{}  {}  {}", left("", title), name(&grid.corner), left("", unit));
    let mut remarks = left("", width(&head));
    for (i, w) in chosen() {
        let Some(h) = grid.heads.get(i) else { continue };
        let (label, remark) = (right(&h.label, w.whole()), right(&h.remark, w.whole()));
        head.push_str(&format!("   {}{room}", paint.bold(&label)));
        remarks.push_str(&format!("   {}{room}", paint.remark(h.grade, &remark)));
    }
    lines.push(head);
    if columns
        .clone()
        .any(|i| grid.heads.get(i).is_some_and(|h| !h.remark.is_empty()))
    {
        lines.push(remarks);
    }
    for (at, section) in grid.sections.iter().enumerate() {
        if apart && at > 0 {
            lines.push(String::new());
        }
        if grid.headed {
            lines.push(paint.bold(&section.title));
        }
        for (n, row) in section.rows.iter().enumerate() {
            let heading = if n == 0 && !grid.headed {
                section.title.as_str()
            } else {
                ""
            };
            let mut text = format!(
                "{}  {}  {}",
                left(heading, title),
                name(&row.label),
                paint.dim(&left(row.unit, unit))
            );
            for (i, w) in chosen() {
                let Some(cell) = row.cells.get(i) else { continue };
                let fits = !cell.spread.is_empty() || width(&shown(cell)) <= w.value;
                let spread = if has_spread(row) && fits { w.spread } else { 0 };
                let value = right(&shown(cell), w.whole() - spread);
                let spread = if spread == 0 {
                    String::new()
                } else {
                    left(&format!(" {}", cell.spread), spread)
                };
                let value = match cell.tone {
                    Tone::Grade(grade) => paint.grade(grade, &value),
                    Tone::Missing => paint.dim(&value),
                    Tone::Plain if cell.winner => paint.bold(&value),
                    Tone::Plain => value,
                };
                let spread = paint.dim(&spread);
                let mark = if cell.winner {
                    paint.bold(" *")
                } else {
                    room.clone()
                };
                text.push_str(&format!("   {value}{spread}{mark}"));
            }
            lines.push(text);
        }
    }
}

/// Whether a row's values have a spread beside them. Those of other rows, counts and words, take the whole column.
fn has_spread(row: &Line) -> bool {
    row.cells.iter().any(|c| !c.spread.is_empty())
}

fn shown(cell: &grid::Cell) -> String {
    if cell.thin {
        format!("~{}", cell.text)
    } else {
        cell.text.clone()
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn left(text: &str, to: usize) -> String {
    format!("{text:<to$}")
}

fn right(text: &str, to: usize) -> String {
    format!("{text:>to$}")
}

/// `text` in lines of at most `most` characters, broken between words; further lines indented.
fn wrap(text: &str, most: usize, indent: usize) -> Vec<String> {
    let start = text.len() - text.trim_start().len();
    let mut lines = Vec::new();
    let mut current = text[..start].to_owned();
    for word in text[start..].split(' ') {
        let empty = current.trim().is_empty();
        if !empty && width(&current) + 1 + width(word) > most {
            lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
        } else if !empty {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

/// Short remarks side by side, as many a line as fit.
fn pack(parts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut().filter(|l| width(l) + 3 + width(part) <= WIDTH) {
            Some(line) => {
                line.push_str("   ");
                line.push_str(part);
            }
            None => lines.push(part.clone()),
        }
    }
    lines
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.color && !text.trim().is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn grade(self, grade: Grade, text: &str) -> String {
        match grade {
            Grade::Valid => self.with("32", text),
            Grade::Suspect => self.with("33", text),
            Grade::Invalid => self.with("1;31", text),
        }
    }

    fn remark(self, grade: Option<Grade>, text: &str) -> String {
        match grade {
            Some(grade) if grade > Grade::Valid => self.grade(grade, text),
            _ => self.dim(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Cell, Head, Section};

    #[test]
    fn who_leads_in_doubt_has_one_mark_of_doubt_and_no_star() {
        let cell = |text: &str, winner, tone| Cell {
            text: text.to_owned(),
            winner,
            tone,
            ..Cell::default()
        };
        let row = |label: &str, cells| Line {
            label: label.to_owned(),
            unit: "",
            cells,
        };
        let doubt = Tone::Grade(Grade::Suspect);
        let grid = Grid {
            title: "wire".to_owned(),
            corner: String::new(),
            numeric: false,
            headed: false,
            heads: ["h1", "h2c"]
                .map(|label| Head {
                    label: label.to_owned(),
                    remark: String::new(),
                    grade: None,
                })
                .into(),
            sections: vec![Section {
                title: String::new(),
                rows: vec![
                    row("ws", vec![cell("204?", true, doubt), cell("213?", false, doubt)]),
                    row(
                        "sse",
                        vec![cell("214", false, Tone::Plain), cell("2.5", true, Tone::Plain)],
                    ),
                ],
            }],
            notes: Vec::new(),
        };
        let lines = compact(&grid, Paint { color: false });
        let shown: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        assert_eq!(shown, ["      h1   h2c", "ws   204?  213?", "sse  214   2.5*"]);
    }
}
