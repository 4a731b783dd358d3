//! The report as Markdown, for a CI job's summary or a pull request.

use crate::answer::answer;
use crate::comparison::Comparison;
use crate::escape::markdown as escape;
use crate::expectations::Check;
use crate::grid::{self, Grid};
use crate::words;

/// The question, its answer, thresholds, every table, and how far to trust them.
pub fn markdown(comparison: &Comparison, checks: &[Check]) -> String {
    let mut out = format!(
        "## {}: {}\n\n",
        escape(&comparison.scenario),
        escape(&comparison.question)
    );
    for caveat in &comparison.quality.caveats {
        out.push_str(&format!("> **{}**\n\n", escape(caveat)));
    }
    out.push_str(&format!("{}\n\n", escape(&answer(comparison))));
    out.push_str(&format!(
        "**Verdict** {}\n\n",
        escape(&comparison.quality.headline())
    ));
    for finding in &comparison.quality.findings {
        let text = format!("{}: {}", finding.place(), finding.reason);
        out.push_str(&format!("- **{}** {}\n", finding.grade.as_str(), escape(&text)));
    }
    if !comparison.quality.findings.is_empty() {
        out.push('\n');
    }
    if !checks.is_empty() {
        out.push_str("| threshold | variant | measured | |\n|---|---|--:|---|\n");
        for check in checks {
            let (mark, why) = (
                if check.held { "held" } else { "**missed**" },
                check.remark.as_deref().unwrap_or(""),
            );
            let (text, cell, measured) = (
                escape(&check.text),
                escape(&check.cell),
                escape(&check.measured_text),
            );
            out.push_str(&format!(
                "| {text} | {cell} | {measured} | {mark} {} |\n",
                escape(why)
            ));
        }
        out.push('\n');
    }
    let grids = grid::all(comparison);
    let grids = [grid::aftermath(comparison), grids].concat();
    let matrices = grid::matrix(comparison);
    for grid in matrices.iter().chain(&grids) {
        table(grid, &mut out);
    }
    if !comparison.negotiated.is_empty() {
        out.push_str("Negotiated, from the connections themselves:\n\n");
        for agreed in &comparison.negotiated {
            out.push_str(&format!("- {}\n", escape(&agreed.text)));
        }
        out.push('\n');
    }
    for line in words::legend(comparison, &[matrices, grids].concat()) {
        out.push_str(&format!("- {}\n", escape(&line)));
    }
    for line in words::bias(comparison) {
        out.push_str(&format!("- {}\n", escape(line)));
    }
    out
}

fn table(grid: &Grid, out: &mut String) {
    if !grid.title.is_empty() {
        out.push_str(&format!("### {}\n\n", escape(&grid.title)));
    }
    out.push_str(&format!("| {} | |", escape(&grid.corner)));
    for head in &grid.heads {
        let remark = if head.remark.is_empty() {
            String::new()
        } else {
            format!(" ({})", escape(&head.remark))
        };
        out.push_str(&format!(" {}{remark} |", escape(&head.label)));
    }
    out.push_str("\n|---|---|");
    out.push_str(&"--:|".repeat(grid.heads.len()));
    out.push('\n');
    let between = if grid.headed { ": " } else { " " };
    for section in &grid.sections {
        for row in &section.rows {
            out.push_str(&format!(
                "| {} | {} |",
                escape(format!("{}{between}{}", section.title, row.label).trim()),
                row.unit
            ));
            for cell in &row.cells {
                let thin = if cell.thin { "\\~" } else { "" };
                let value = format!("{thin}{}", escape(&cell.text));
                let value = if cell.winner {
                    format!("**{value}** \\*")
                } else {
                    value
                };
                let spread = if cell.spread.is_empty() {
                    String::new()
                } else {
                    format!(" {}", cell.spread)
                };
                out.push_str(&format!(" {value}{spread} |"));
            }
            out.push('\n');
        }
    }
    out.push('\n');
    for note in &grid.notes {
        out.push_str(&format!("- {}\n", escape(note)));
    }
    if !grid.notes.is_empty() {
        out.push('\n');
    }
}
