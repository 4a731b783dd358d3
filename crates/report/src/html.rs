//! The page: one file that holds everything, for readers without any other tool. No script, nothing loaded from outside.

use minijinja::{AutoEscape, Environment};
use pushmark_measure::{Books, Grade};
use pushmark_results::run::Run;
use serde::Serialize;

use crate::answer::answer;
use crate::charts::{Chart, MATRIX, variant_hex};
use crate::comparison::{Comparison, finished};
use crate::escape::{visible, visible_block};
use crate::expectations::Check;
use crate::grid::{self, Grid, Tone};
use crate::trials::{self, TrialRow};
use crate::units::{Quantity, show_alone, whole};
use crate::{files::ReportError, plan_words, words};

const TEMPLATE: &str = include_str!("../assets/report.html");
const STYLE: &str = include_str!("../assets/report.css");

#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    comparison: &'a Comparison,
    started: String,
    answer: String,
    banner: &'static str,
    verdict: String,
    findings: Vec<[String; 3]>,
    aftermath: Vec<Table>,
    tables: Vec<Table>,
    legend: Vec<String>,
    checks: &'a [Check],
    checks_missed: usize,
    matrix: Vec<&'a Chart>,
    charts: Vec<&'a Chart>,
    trials: Vec<TrialRow>,
    books: Vec<[String; 12]>,
    bias: Vec<&'static str>,
    setup: Vec<[String; 2]>,
    host: Vec<[String; 2]>,
    source: String,
    glossary: Vec<(&'static str, &'static str)>,
}

#[derive(Serialize)]
struct Table {
    title: String,
    corner: String,
    numeric: bool,
    headed: bool,
    heads: Vec<Head>,
    sections: Vec<Section>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Head {
    label: String,
    remark: String,
    grade: &'static str,
    color: String,
}

#[derive(Serialize)]
struct Section {
    title: String,
    rows: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    label: String,
    unit: &'static str,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    spread: String,
    winner: bool,
    thin: bool,
    tone: &'static str,
}

/// The page of a run.
///
/// # Errors
/// When the template fails.
pub(crate) fn page(
    run: &Run,
    comparison: &Comparison,
    checks: &[Check],
    charts: &[Chart],
) -> Result<String, ReportError> {
    let grids = grid::all(comparison);
    let aftermath = grid::aftermath(comparison);
    let legend = words::legend(comparison, &[aftermath.clone(), grids.clone()].concat());
    let quality = &comparison.quality;
    let findings = quality
        .findings
        .iter()
        .map(|f| [f.grade.as_str().to_owned(), f.place(), f.reason.clone()]);
    let (matrix, charts) = charts.iter().partition(|chart| chart.name == MATRIX);
    let page = Page {
        style: STYLE,
        comparison,
        started: utc(run.manifest.started_unix_s),
        answer: answer(comparison),
        // The banner of a smoke run is not green.
        banner: if quality.caveats.is_empty() {
            quality.grade
        } else {
            quality.grade.max(Grade::Suspect)
        }
        .as_str(),
        verdict: quality.headline(),
        findings: findings.collect(),
        legend,
        aftermath: aftermath.into_iter().map(table).collect(),
        tables: grids.into_iter().map(table).collect(),
        checks,
        checks_missed: checks.iter().filter(|c| !c.held).count(),
        matrix,
        charts,
        trials: trials::rows(run),
        books: books(run),
        bias: words::bias(comparison),
        setup: setup(run),
        host: host(run),
        source: visible_block(&run.manifest.plan.source),
        glossary: words::glossary(comparison),
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("report.html", TEMPLATE)?;
    Ok(environment.get_template("report.html")?.render(&page)?)
}

fn table(grid: Grid) -> Table {
    let heads = grid.heads.into_iter().enumerate().map(|(i, h)| Head {
        label: h.label,
        remark: h.remark,
        grade: h.grade.map_or("none", Grade::as_str),
        color: variant_hex(i),
    });
    let cell = |c: grid::Cell| Cell {
        tone: match c.tone {
            Tone::Plain => "plain",
            Tone::Missing => "missing",
            Tone::Grade(grade) => grade.as_str(),
        },
        text: c.text,
        spread: c.spread,
        winner: c.winner,
        thin: c.thin,
    };
    let line = |l: grid::Line| Line {
        label: l.label,
        unit: l.unit,
        cells: l.cells.into_iter().map(cell).collect(),
    };
    let sections = grid.sections.into_iter().map(|s| Section {
        title: s.title,
        rows: s.rows.into_iter().map(line).collect(),
    });
    Table {
        title: grid.title,
        corner: grid.corner,
        numeric: grid.numeric,
        headed: grid.headed,
        notes: grid.notes,
        heads: heads.collect(),
        sections: sections.collect(),
    }
}

/// Delivery accounting, a line for each cell that expects messages, summed over its finished trials.
fn books(run: &Run) -> Vec<[String; 12]> {
    let line = |(index, cell): (usize, &pushmark_results::plan::Cell)| {
        let mut sum = [0_u64; 11];
        let mut balanced = true;
        let mut any = false;
        for (_, summary) in finished(run, index).filter(|(_, s)| s.expects_messages) {
            any = true;
            balanced &= summary.imbalances.is_empty();
            for (total, count) in sum.iter_mut().zip(entries(&summary.books)) {
                *total = total.saturating_add(count);
            }
        }
        any.then(|| {
            let [
                scheduled,
                sent,
                not_sent,
                expected,
                delivered,
                lost,
                dropped,
                duplicated,
                reordered,
                late,
                strange,
            ] = sum.map(whole);
            let balance = if balanced { "yes" } else { "no" }.to_owned();
            let id = visible(&cell.id);
            let lost = if dropped == "0" {
                lost
            } else {
                format!("{lost} ({dropped} by the server)")
            };
            [
                id, scheduled, sent, not_sent, expected, delivered, lost, duplicated, reordered, late,
                strange, balance,
            ]
        })
    };
    run.manifest
        .plan
        .cells
        .iter()
        .enumerate()
        .filter_map(line)
        .collect()
}

fn entries(b: &Books) -> [u64; 11] {
    let strange = b.foreign.saturating_add(b.corrupt);
    [
        b.scheduled,
        b.sent,
        b.not_sent,
        b.expected,
        b.delivered_once,
        b.lost,
        b.lost_dropped_by_server,
        b.duplicated,
        b.reordered,
        b.late,
        strange,
    ]
}

/// Something of a cell, in words.
type Words = fn(&pushmark_results::plan::Cell) -> String;

fn setup(run: &Run) -> Vec<[String; 2]> {
    let plan = &run.manifest.plan;
    let mut lines = Vec::new();
    let mut add = |name: &str, value: String| lines.push([name.to_owned(), value]);
    if let Some(cell) = plan.cells.first() {
        add("load", plan_words::load(cell));
        add("each trial", plan_words::windows(cell));
        add("target", plan_words::target(cell));
    }
    let of_faults: [(&str, Words); 4] = [
        ("HTTP/2", plan_words::sharing),
        ("what breaks", plan_words::breaks),
        ("heartbeat", plan_words::heartbeat),
        ("slow readers", plan_words::slow_readers),
    ];
    for (name, words) in of_faults {
        // Cells differ in what varies; each way is named once.
        let mut ways: Vec<String> = Vec::new();
        for way in plan.cells.iter().map(words) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        if ways.iter().any(|w| !w.is_empty()) {
            let or_none = |w: String| if w.is_empty() { "none".to_owned() } else { w };
            add(
                name,
                ways.into_iter().map(or_none).collect::<Vec<_>>().join(" / "),
            );
        }
    }
    add(
        "trials",
        format!(
            "{} cells × {} repeats, interleaved",
            plan.cells.len(),
            plan.repeats
        ),
    );
    add("seed", plan.seed.to_string());
    add("pushmark", visible(&run.manifest.pushmark_version));
    if let Some(git) = &run.manifest.git {
        let dirty = if git.dirty { ", with changes" } else { "" };
        add("commit", format!("{}{dirty}", visible(&git.commit)));
    }
    lines
}

fn host(run: &Run) -> Vec<[String; 2]> {
    let host = &run.manifest.host;
    let (one, five, fifteen) = host.load_average;
    let (first, last) = host.ephemeral_ports;
    let mut lines = vec![
        ("kernel", visible(&host.kernel)),
        ("processor", visible(&host.cpu_model)),
        ("cores", host.cores.to_string()),
        ("memory", show_alone(Quantity::Bytes, host.memory_bytes as f64)),
        (
            "open files",
            format!(
                "{} soft, {} hard",
                whole(host.open_files_soft),
                whole(host.open_files_hard)
            ),
        ),
        ("ephemeral ports", format!("{first}–{last}")),
        ("listen backlog", whole(u64::from(host.listen_backlog))),
        ("clock source", visible(&host.clock_source)),
        (
            "load average",
            format!("{one:.2}, {five:.2}, {fifteen:.2} over 1, 5 and 15 minutes before the run"),
        ),
    ];
    if let Some(c) = &run.manifest.calibration {
        let time = |ns: u64| show_alone(Quantity::Nanoseconds, ns as f64);
        lines.extend([
            ("clock", format!("{:.0} ns a read", c.clock_read_ns)),
            (
                "timer",
                format!(
                    "late by {} (p50), {} (p99)",
                    time(c.timer_late_ns_p50),
                    time(c.timer_late_ns_p99)
                ),
            ),
            (
                "harness alone",
                format!(
                    "{:.0} ns of processor time a delivery; latency {} (p50), {} (p99) without any network",
                    c.engine_ns_per_delivery,
                    time(c.engine_latency_ns_p50),
                    time(c.engine_latency_ns_p99)
                ),
            ),
        ]);
    }
    lines
        .into_iter()
        .map(|(name, value)| {
            [
                name.to_owned(),
                if value.is_empty() { "–".to_owned() } else { value },
            ]
        })
        .collect()
}

/// Seconds since the Unix epoch as `2026-11-20 06:12 UTC`.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date after Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        rest / 3600,
        rest % 3600 / 60
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_155_145), "2026-11-20 06:12 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
    }
}
