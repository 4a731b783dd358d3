//! A session against its history, as people and CI systems read it.

use std::fmt::Write;

use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::history::LEAST_SESSIONS;
use pushmark_measure::gate::{HistoryReading, HistoryStanding, Role, Standing};
use pushmark_results::gate::GateVerdict;
use pushmark_results::history::HistoryGate;

use super::{Line, junit, limits_words, markdown, p_words, remarks, text};
use crate::escape::{markdown as escape, visible};
use crate::files::ReportError;

/// What the columns hold.
pub(super) const COLUMNS: [&str; 2] = ["earlier / reference", "now / reference"];

/// What cannot be told from a history, whatever it says.
const BLIND: &str = "A history sees what is larger than the spread of its sessions, and nothing that came in slowly: look at \
    `pushmark trend` for that. It sees no change of the machine that hits build and reference unlike.";

/// Every metric in words.
fn lines(said: &HistoryGate) -> Vec<Line> {
    said.judgement.readings.iter().map(|r| line(said, r)).collect()
}

fn line(said: &HistoryGate, r: &HistoryReading) -> Line {
    let (m, p) = (&r.metric, &r.prediction);
    let known = p.sessions >= LEAST_SESSIONS;
    let none = || "–".to_owned();
    let shown = |d: f64| m.kind.words(d);
    let standing = match (p.standing, r.proven) {
        (HistoryStanding::Regression, _) => Standing::Regression,
        (HistoryStanding::NotWorse, true) => Standing::Pass,
        (HistoryStanding::NotWorse, false) => Standing::Unproven,
        (HistoryStanding::Inconclusive, _) => Standing::NotTested,
    };
    let bounds = match (p.lower, p.upper) {
        (Some(lower), Some(upper)) => format!("{} … {}", shown(lower), shown(upper)),
        _ => none(),
    };
    Line {
        scenario: m.scenario.clone(),
        metric: words(&m.name).to_owned(),
        baseline: if p.sessions > 1 { shown(p.mean) } else { none() },
        candidate: shown(r.new),
        change: if p.sessions > 1 {
            shown(r.new - p.mean)
        } else {
            none()
        },
        bounds,
        p: if known { p_words(p.p) } else { none() },
        limits: limits_words(m),
        verdict: match (standing, m.role) {
            (Standing::Regression, Role::Advisory) => "worse (told only)",
            (Standing::Regression, _) => "REGRESSION",
            (Standing::Pass, _) => "pass",
            (Standing::Unproven, Role::Required) => "unproven",
            (Standing::NotTested, _) => "not tested",
            _ => "not worse",
        },
        standing,
        role: m.role,
        sentence: sentence(said, r),
    }
}

fn sentence(said: &HistoryGate, r: &HistoryReading) -> String {
    let (m, p) = (&r.metric, &r.prediction);
    let (name, sure) = (
        words(&m.name),
        format!("{:.0} %", 100.0 * (1.0 - said.gate.plan.bound_alpha)),
    );
    let sees = p
        .detectable
        .map_or_else(String::new, |d| format!("; sees {} or more", m.kind.words(d)));
    match (p.standing, p.upper) {
        (HistoryStanding::Inconclusive, _) => format!(
            "{name} was not tested: {} earlier sessions have it, and {LEAST_SESSIONS} are needed",
            p.sessions
        ),
        (HistoryStanding::Regression, _) => {
            let change = m.kind.words(r.new - p.mean);
            format!(
                "{name} is worse by {change} than {} earlier sessions explain{sees}",
                p.sessions
            )
        }
        (_, Some(upper)) => format!(
            "a {name} regression above {} is ruled out ({sure}){sees}",
            m.kind.words(upper.max(0.0))
        ),
        _ => format!("nothing can be said of {name}"),
    }
}

fn decides_against(r: &HistoryReading) -> bool {
    r.prediction.standing == HistoryStanding::Regression && r.metric.role != Role::Advisory
}

/// The verdict in a sentence.
fn headline(said: &HistoryGate, lines: &[Line]) -> String {
    let after = format!(
        "{} against {} earlier sessions",
        said.session.label,
        said.earlier.len()
    );
    let named = |wanted: &dyn Fn(&Line) -> bool| {
        let names = lines.iter().filter(|l| wanted(l));
        let names: Vec<String> = names
            .map(|l| format!("{} of {} {}", l.metric, l.scenario, l.change))
            .collect();
        names.join(", ")
    };
    match said.verdict {
        GateVerdict::Pass | GateVerdict::Improvement => {
            format!("pass, {after}: nothing is worse than its budget")
        }
        GateVerdict::Regression => {
            let worse = |l: &Line| l.standing == Standing::Regression && l.role != Role::Advisory;
            format!("regression, {after}: {}", named(&worse))
        }
        GateVerdict::Failure => format!("failure, {after}: {}", said.gate.failures.join("; ")),
        GateVerdict::Invalid => format!("invalid, {after}: {}", remarks(&said.gate).join("; ")),
        GateVerdict::Inconclusive if said.earlier.len() < LEAST_SESSIONS => {
            format!("inconclusive, {after}: {LEAST_SESSIONS} are needed before anything can be said")
        }
        GateVerdict::Inconclusive if said.judgement.readings.iter().any(decides_against) => {
            let worse = |l: &Line| l.standing == Standing::Regression && l.role != Role::Advisory;
            format!(
                "inconclusive, {after}: none of them ran on such a machine, and by them worse: {}",
                named(&worse)
            )
        }
        GateVerdict::Inconclusive => {
            let open = |l: &Line| {
                l.role == Role::Required && matches!(l.standing, Standing::Unproven | Standing::NotTested)
            };
            format!(
                "inconclusive, {after}: nothing is surely worse; not proven: {}",
                named(&open)
            )
        }
    }
}

/// How it was done, in a sentence.
fn method(said: &HistoryGate) -> String {
    format!(
        "Each session loads the build and a frozen reference in turns, {} blocks; what is kept is ln(build / reference). A new one is \
         held against the mean and spread of the earlier ones (one-sided t of a prediction, Bonferroni over the metrics, {:.1} % false \
         alarms a session at most). {BLIND}",
        said.gate.plan.most_blocks(),
        100.0 * said.alpha
    )
}

/// Remarks on the session.
fn notes(said: &HistoryGate) -> Vec<String> {
    let own = said
        .notes
        .iter()
        .filter(|note| !said.gate.notes.contains(note))
        .cloned();
    let mut all: Vec<String> = remarks(&said.gate);
    all.extend(own);
    if said.session.accepted {
        all.push("accepted: a new series begins with this session".to_owned());
    }
    all
}

/// The table for a terminal.
pub fn history_text(said: &HistoryGate, color: bool) -> String {
    let lines = lines(said);
    let mut out = text::head(said.verdict, &headline(said, &lines), color);
    let _ = writeln!(
        out,
        "reference {}\nbuild     {}\n",
        visible(&said.gate.baseline),
        visible(&said.gate.candidate)
    );
    text::tables(&mut out, &lines, COLUMNS, color);
    for note in notes(said) {
        let _ = writeln!(out, "{}", visible(&note));
    }
    let _ = writeln!(out, "{}", method(said));
    out
}

/// All files of its report, by name.
///
/// # Errors
/// When one cannot be made.
pub fn render_history(said: &HistoryGate) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let lines = lines(said);
    let headline = headline(said, &lines);
    let mut page = format!("## Gate: {}\n\n{}\n", said.verdict.as_str(), escape(&headline));
    markdown::tables(&mut page, &lines, COLUMNS);
    page.push('\n');
    for note in notes(said) {
        let _ = writeln!(page, "- {}", escape(&note));
    }
    let _ = writeln!(
        page,
        "\n{}\n\nReference: {}. Build: {}. Plus is worse.",
        method(said),
        escape(&said.gate.baseline),
        escape(&said.gate.candidate)
    );
    // What is accepted, or may be the machine's, fails no case.
    let (mut verdict, mut cases) = (said.verdict, lines);
    if said.session.accepted && verdict == GateVerdict::Regression {
        verdict = GateVerdict::Pass;
    }
    if !matches!(verdict, GateVerdict::Regression | GateVerdict::Failure) {
        let worse = cases.iter_mut().filter(|l| l.standing == Standing::Regression);
        worse.for_each(|l| l.standing = Standing::Unproven);
    }
    let xml = junit::suites(verdict, &headline, said.gate.took_s, &cases);
    Ok(vec![
        ("table.txt".to_owned(), history_text(said, false).into_bytes()),
        ("report.md".to_owned(), page.into_bytes()),
        ("junit.xml".to_owned(), xml.into_bytes()),
    ])
}
