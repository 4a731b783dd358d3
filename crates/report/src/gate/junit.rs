//! A gate as JUnit XML: a case for each metric, so that CI systems list what is worse.

use std::fmt::Write;

use pushmark_measure::gate::{Role, Standing};
use pushmark_results::gate::{Gate, GateVerdict};

use super::text::scenarios;
use super::{Line, headline, lines};
use crate::escape::visible;

/// `text` as an attribute or as content.
fn xml(text: &str) -> String {
    visible(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A suite for the verdict and one for each scenario. Regressions and failures fail; what was not tested is skipped.
pub(super) fn junit(gate: &Gate) -> String {
    suites(gate.verdict, &headline(gate), gate.took_s, &lines(gate))
}

/// The suites of a verdict and its metrics.
pub(super) fn suites(verdict: GateVerdict, headline: &str, took_s: f64, lines: &[Line]) -> String {
    let mut suites = String::new();
    let (mut tests, mut failed, mut skipped) = (1, 0, 0);
    let mut body = String::new();
    if matches!(verdict, GateVerdict::Regression | GateVerdict::Failure) {
        failed += 1;
        let _ = write!(body, "<failure message=\"{}\"/>", xml(headline));
    } else {
        let _ = write!(body, "<system-out>{}</system-out>", xml(headline));
    }
    let _ = writeln!(
        suites,
        "  <testsuite name=\"gate\" tests=\"1\" failures=\"{failed}\" skipped=\"0\">\n    \
         <testcase classname=\"gate\" name=\"verdict\" time=\"{:.1}\">{body}</testcase>\n  </testsuite>",
        took_s
    );
    for scenario in scenarios(lines) {
        let (mut cases, mut bad, mut left, mut count) = (String::new(), 0, 0, 0);
        for l in lines.iter().filter(|l| l.scenario == scenario) {
            count += 1;
            let words = xml(&l.sentence);
            let body = match l.standing {
                Standing::Regression if l.role != Role::Advisory => {
                    bad += 1;
                    format!("<failure message=\"{words}\"/>")
                }
                Standing::NotTested => {
                    left += 1;
                    format!("<skipped message=\"{words}\"/>")
                }
                _ => format!("<system-out>{words}</system-out>"),
            };
            let _ = writeln!(
                cases,
                "    <testcase classname=\"{}\" name=\"{}\">{body}</testcase>",
                xml(&scenario),
                xml(&l.metric)
            );
        }
        let _ = writeln!(
            suites,
            "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{bad}\" skipped=\"{left}\">\n{cases}  </testsuite>",
            xml(&scenario)
        );
        (tests, failed, skipped) = (tests + count, failed + bad, skipped + left);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"pushmark gate\" tests=\"{tests}\" failures=\"{failed}\" skipped=\"{skipped}\" time=\"{:.1}\">\n\
         {suites}</testsuites>\n",
        took_s
    )
}
