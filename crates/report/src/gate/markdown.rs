//! A gate as Markdown, for a CI job's summary.

use std::fmt::Write;

use pushmark_measure::gate::{Role, Standing};
use pushmark_results::gate::Gate;

use super::text::scenarios;
use super::{headline, lines, method, remarks};
use crate::escape::markdown as escape;

/// The verdict, every metric, what is ruled out, and what was left out.
pub(super) fn markdown(gate: &Gate) -> String {
    let mut out = format!("## Gate: {}\n\n", gate.verdict.as_str());
    let _ = writeln!(out, "{}\n", escape(&headline(gate)));
    for failure in &gate.failures {
        let _ = writeln!(out, "- **{}**", escape(failure));
    }
    let lines = lines(gate);
    for scenario in scenarios(&lines) {
        let _ = writeln!(
            out,
            "\n### {}\n\n| metric | baseline | candidate | change | bounds (95 %) | p | verdict |\n|---|--:|--:|--:|--:|--:|---|",
            escape(&scenario)
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
                "| {} | {} | {} | {} | {} | {} | {verdict} |",
                l.metric, l.baseline, l.candidate, l.change, l.bounds, l.p
            );
        }
        out.push('\n');
        for l in mine().filter(|l| l.role != Role::Advisory) {
            let _ = writeln!(out, "- {}", escape(&l.sentence));
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
