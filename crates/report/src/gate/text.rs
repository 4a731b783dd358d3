//! The table of a gate for a terminal.

use std::fmt::Write;

use pushmark_measure::gate::{Role, Standing};
use pushmark_results::gate::{Gate, GateVerdict};

use super::{COLUMNS, Line, headline, lines, method, promises, remarks};
use crate::escape::visible;

fn paint(text: &str, code: &str, color: bool) -> String {
    match color {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// The verdict in a line of its own.
pub(super) fn head(verdict: GateVerdict, headline: &str, color: bool) -> String {
    let code = match verdict {
        GateVerdict::Pass | GateVerdict::Improvement => "1;32",
        GateVerdict::Regression | GateVerdict::Failure => "1;31",
        GateVerdict::Inconclusive | GateVerdict::Invalid => "1;33",
    };
    paint(&visible(headline), code, color) + "\n"
}

/// A table for each scenario, and what follows from each of its metrics.
pub(super) fn tables(out: &mut String, lines: &[Line], columns: [&str; 2], color: bool) {
    for scenario in scenarios(lines) {
        let mine: Vec<&Line> = lines.iter().filter(|l| l.scenario == scenario).collect();
        let mut rows = vec![[
            visible(&scenario),
            columns[0].into(),
            columns[1].into(),
            "change".into(),
            "bounds (95 %)".into(),
            "p".into(),
            "floor / budget".into(),
            "verdict".into(),
        ]];
        let cells = |l: &Line| {
            [
                l.metric.clone(),
                l.baseline.clone(),
                l.candidate.clone(),
                l.change.clone(),
                l.bounds.clone(),
                l.p.clone(),
                l.limits.clone(),
                l.verdict.to_owned(),
            ]
        };
        rows.extend(mine.iter().map(|l| cells(l)));
        let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..8).map(width).collect();
        for (place, row) in rows.iter().enumerate() {
            let mut text = format!("  {:<w$}", row[0], w = widths[0]);
            for column in 1..7 {
                let _ = write!(text, "  {:>w$}", row[column], w = widths[column]);
            }
            let verdict = &row[7];
            let standing = place
                .checked_sub(1)
                .and_then(|i| mine.get(i))
                .map(|l| (l.standing, l.role));
            let verdict = match standing {
                Some((Standing::Regression, role)) if role != Role::Advisory => paint(verdict, "1;31", color),
                Some((Standing::Improvement, _)) => paint(verdict, "32", color),
                _ => verdict.clone(),
            };
            let _ = writeln!(out, "{text}  {verdict}");
        }
        out.push('\n');
        for l in mine.iter().filter(|l| l.role != Role::Advisory) {
            let _ = writeln!(out, "  {}", l.sentence);
        }
        out.push('\n');
    }
}

/// The verdict, every metric, what is ruled out, and what was left out.
pub fn text(gate: &Gate, color: bool) -> String {
    let mut out = head(gate.verdict, &headline(gate), color);
    let _ = writeln!(
        out,
        "baseline  {}\ncandidate {}\n",
        visible(&gate.baseline),
        visible(&gate.candidate)
    );
    tables(&mut out, &lines(gate), COLUMNS, color);
    let promises = promises(gate);
    if !promises.is_empty() {
        let _ = writeln!(
            out,
            "  promises of delivery that were not kept (baseline, candidate):"
        );
        for (scenario, what, baseline, candidate) in promises {
            let _ = writeln!(out, "  {}: {what}: {baseline}, {candidate}", visible(&scenario));
        }
        out.push('\n');
    }
    for remark in remarks(gate) {
        let _ = writeln!(out, "{}", visible(&remark));
    }
    let _ = writeln!(out, "{}", method(gate));
    out
}

/// Scenarios in their order.
pub(super) fn scenarios(lines: &[Line]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in lines {
        if !names.contains(&line.scenario) {
            names.push(line.scenario.clone());
        }
    }
    names
}
