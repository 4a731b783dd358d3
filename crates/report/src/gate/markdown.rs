//! A gate as Markdown, for a CI job's summary.

use std::fmt::Write;

use pushmark_measure::gate::{Role, Standing};
use pushmark_results::gate::Gate;

use super::text::scenarios;
use super::{COLUMNS, Line, headline, lines, method, promises, remarks};
use crate::escape::markdown as escape;

/// A table for each scenario, and what follows from each of its metrics.
pub(super) fn tables(out: &mut String, lines: &[Line], columns: [&str; 2]) {
    for scenario in scenarios(lines) {
        let _ = writeln!(
            out,
            "\n### {}\n\n| metric | {} | {} | change | bounds (95 %) | p | floor / budget | verdict |\n|---|--:|--:|--:|--:|--:|--:|---|",
            escape(&scenario),
            columns[0],
            columns[1]
        );
        let mine = || lines.iter().filter(|l| l.scenario == scenario);
        for l in mine() {
            let strong = l.standing == Standing::Regression && l.role != Role::Advisory;
            let verdict = if strong {
                format!("**{}**", l.verdict)
            } else {
                l.verdict.to_owned()
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {verdict} |",
                l.metric, l.baseline, l.candidate, l.change, l.bounds, l.p, l.limits
            );
        }
        out.push('\n');
        for l in mine().filter(|l| l.role != Role::Advisory) {
            let _ = writeln!(out, "- {}", escape(&l.sentence));
        }
    }
}

/// The verdict, every metric, what is ruled out, and what was left out.
pub(super) fn markdown(gate: &Gate) -> String {
    let mut out = format!("## Gate: {}\n\n", gate.verdict.as_str());
    let _ = writeln!(out, "{}\n", escape(&headline(gate)));
    for failure in &gate.failures {
        let _ = writeln!(out, "- **{}**", escape(failure));
    }
    tables(&mut out, &lines(gate), COLUMNS);
    let promises = promises(gate);
    if !promises.is_empty() {
        out.push_str("\n| promise of delivery | scenario | broken by the baseline | by the candidate |\n|---|---|--:|--:|\n");
        for (scenario, what, baseline, candidate) in promises {
            let _ = writeln!(
                out,
                "| {what} | {} | {baseline} | {candidate} |",
                escape(&scenario)
            );
        }
    }
    out.push('\n');
    for remark in remarks(gate) {
        let _ = writeln!(out, "- {}", escape(&remark));
    }
    let (baseline, candidate) = (escape(&gate.baseline), escape(&gate.candidate));
    let _ = writeln!(
        out,
        "\n{}\n\nBaseline: {baseline}. Candidate: {candidate}. Plus is worse.",
        method(gate)
    );
    out
}
