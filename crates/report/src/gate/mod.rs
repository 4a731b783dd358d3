//! A gate as people and CI systems read it: text, Markdown, JUnit XML, SARIF and a forest plot. Pure functions of a gate
//! that was read back.

mod history;
mod junit;
mod markdown;
mod method;
mod sarif;
mod self_test;
mod text;
mod trend;

use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::validity::Validity;
use pushmark_measure::gate::{Block, Course, Figures, Kind, Metric, Promises, Reading, Role, Standing};
use pushmark_results::gate::{Gate, GateVerdict};

pub use history::{history_text, render_history};
pub(crate) use method::method;
pub use self_test::self_test;
pub use text::text;
pub use trend::{Change, MetricTrend, Trend, render_trend, trend_text};

use crate::charts::{self, Rasterizer};
use crate::files::ReportError;
use crate::units::{Quantity, percent, show_alone};

/// What is compared.
const COLUMNS: [&str; 2] = ["baseline", "candidate"];
/// As many metrics are named in a sentence.
const MOST_NAMES: usize = 4;

/// One metric of one scenario, in words.
pub(crate) struct Line {
    pub(crate) scenario: String,
    /// The metric's name.
    pub(crate) metric: String,
    /// The medians over the blocks that the look used.
    pub(crate) baseline: String,
    pub(crate) candidate: String,
    /// The estimate: plus is worse.
    pub(crate) change: String,
    /// Its bounds.
    pub(crate) bounds: String,
    pub(crate) p: String,
    /// Floor and budget.
    pub(crate) limits: String,
    pub(crate) verdict: &'static str,
    pub(crate) standing: Standing,
    pub(crate) role: Role,
    /// What follows, in a sentence.
    pub(crate) sentence: String,
}

/// Every metric, in the order of the table. A gate that failed before its first look has no statistics, and still has
/// what both sides did.
pub(crate) fn lines(gate: &Gate) -> Vec<Line> {
    match &gate.found {
        Some(found) => found.judgement.readings.iter().map(|r| line(gate, r)).collect(),
        None => gate.courses.iter().flat_map(|c| bare_lines(gate, c)).collect(),
    }
}

/// The figures of a gate that never looked at them.
fn bare_lines(gate: &Gate, course: &Course) -> Vec<Line> {
    let mut metrics = course.clone();
    metrics.choose_metrics();
    let line = |m: Metric| {
        let why = "the gate ended before its first look";
        let untested = Reading::untested(&m, course.blocks.len(), why);
        line(gate, &untested)
    };
    metrics.metrics.into_iter().map(line).collect()
}

/// What was promised and not kept, by scenario: the promise, the baseline's count, the candidate's.
pub(crate) fn promises(gate: &Gate) -> Vec<(String, &'static str, u64, u64)> {
    let mut rows = Vec::new();
    for course in &gate.courses {
        let sum = |arm: fn(&Block) -> &Figures| {
            let each = course.blocks.iter().map(|b| arm(b).promises.each());
            each.fold(Promises::default().each(), |mut all, block| {
                for (sum, (_, count)) in all.iter_mut().zip(block) {
                    sum.1 += count;
                }
                all
            })
        };
        let (b, c) = (sum(|b| &b.baseline), sum(|b| &b.candidate));
        for ((what, baseline), (_, candidate)) in b.into_iter().zip(c) {
            if baseline > 0 || candidate > 0 {
                rows.push((course.scenario.clone(), what, baseline, candidate));
            }
        }
    }
    rows
}

fn line(gate: &Gate, r: &Reading) -> Line {
    let none = || "–".to_owned();
    let shown = |d: Option<f64>| d.map_or_else(none, |d| r.kind.words(d));
    let estimate = r.estimate;
    let bounds = match estimate.map(|e| (e.lower, e.upper)) {
        Some((Some(lower), Some(upper))) => format!("{} … {}", r.kind.words(lower), r.kind.words(upper)),
        _ => none(),
    };
    Line {
        scenario: r.scenario.clone(),
        metric: words(&r.name).to_owned(),
        baseline: middle(gate, r, |b| &b.baseline),
        candidate: middle(gate, r, |b| &b.candidate),
        change: shown(estimate.map(|e| e.centre)),
        bounds,
        p: r.p.map_or_else(none, p_words),
        limits: limits(gate, r),
        verdict: match (r.standing, r.role) {
            (Standing::Regression, Role::Advisory) => "worse (told only)",
            (Standing::Regression, _) => "REGRESSION",
            (Standing::Improvement, _) => "improvement",
            (Standing::Pass, _) => "pass",
            (Standing::Unproven, Role::Required) => "unproven",
            (Standing::Unproven, _) => "not worse",
            (Standing::NotTested, _) => "not tested",
        },
        standing: r.standing,
        role: r.role,
        sentence: sentence(gate, r),
    }
}

/// Floor and budget of a metric, as its file has them.
fn limits(gate: &Gate, r: &Reading) -> String {
    let course = gate.courses.iter().find(|c| c.scenario == r.scenario);
    let metric = course.and_then(|c| c.metrics.iter().find(|m| m.name == r.name));
    metric.map_or_else(|| "–".to_owned(), limits_words)
}

/// Floor and budget in words.
fn limits_words(m: &Metric) -> String {
    let percent = |share: f64| {
        let text = format!("{:.2}", 100.0 * share);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let unit = if m.kind == Kind::Fraction { "pp" } else { "%" };
    format!("{} / {} {unit}", percent(m.floor), percent(m.budget))
}

/// A p-value.
fn p_words(p: f64) -> String {
    if p < 0.0005 {
        "<.001".to_owned()
    } else {
        format!("{p:.3}")
    }
}

/// What follows from a reading.
fn sentence(gate: &Gate, r: &Reading) -> String {
    let (name, sure) = (
        words(&r.name),
        format!("{:.0} %", 100.0 * (1.0 - gate.plan.bound_alpha)),
    );
    if let Some(why) = &r.why {
        return format!("{name} was not tested: {why}");
    }
    let upper = r.estimate.and_then(|e| e.upper);
    // Without any spread there is nothing to say of what it hides.
    let could = r.detectable.filter(|d| *d > 1e-6).map_or_else(String::new, |d| {
        format!("; {} or more would have been found", r.kind.words(d))
    });
    match (r.standing, r.estimate, upper) {
        (Standing::Regression, Some(e), _) => {
            let least = e.lower.map_or_else(String::new, |l| {
                format!(", by {} at least ({sure})", r.kind.words(l))
            });
            format!("{name} is worse by {}{least}", r.kind.words(e.centre))
        }
        (_, _, Some(upper)) => format!(
            "a {name} regression above {} is ruled out ({sure}){could}",
            r.kind.words(upper.max(0.0))
        ),
        _ => format!("too few blocks to bound {name}{could}"),
    }
}

/// The blocks of a scenario that the last look used: those it is for, without what the sensors left out, and what stands in
/// for that. All of them, when there was no look.
fn used<'a>(gate: &Gate, course: &'a Course) -> Vec<&'a Block> {
    let look = gate.found.as_ref().and_then(|found| {
        // The last that it ran to: settled scenarios end before the others.
        let looks = gate.plan.looks.get(..=found.judgement.look)?;
        let at = looks.iter().rev().find(|at| at.blocks <= course.blocks.len())?;
        let mut of = found.validity.iter();
        let (_, validity) = of.find(|(scenario, _)| *scenario == course.scenario)?;
        Some((at.blocks, validity))
    });
    let blocks = course.blocks.iter().enumerate();
    let in_it = |k: usize| match look {
        None => true,
        Some((of, v)) if k < of => v.dropped.iter().all(|d| d.block != k),
        Some((_, v)) => v.standing_in.contains(&k),
    };
    blocks.filter(|(k, _)| in_it(*k)).map(|(_, b)| b).collect()
}

/// The median over the blocks of one arm that the look used, in its unit.
fn middle(gate: &Gate, r: &Reading, arm: fn(&Block) -> &Figures) -> String {
    let course = gate.courses.iter().find(|c| c.scenario == r.scenario);
    let values: Vec<f64> = course
        .into_iter()
        .flat_map(|c| used(gate, c))
        .filter_map(|b| arm(b).values.get(&r.name).copied())
        .collect();
    let Some(value) = pushmark_measure::gate::exact::median(&values) else {
        return "–".to_owned();
    };
    match r.name.as_str() {
        _ if r.kind == Kind::Fraction => percent(value),
        "server_cpu_us_per_delivery" => show_alone(Quantity::Microseconds, value),
        "server_rss_bytes_per_session" => show_alone(Quantity::Bytes, value),
        "deliveries_per_second" => show_alone(Quantity::PerSecond, value),
        _ => show_alone(Quantity::Nanoseconds, value),
    }
}

/// The verdict in a sentence.
pub fn headline(gate: &Gate) -> String {
    let blocks = gate.courses.iter().map(|c| c.blocks.len()).max().unwrap_or(0);
    let look = gate.found.as_ref().map_or_else(String::new, |f| {
        format!(", look {} of {}", f.judgement.look + 1, gate.plan.looks.len())
    });
    let after = format!("after {blocks} block{}{look}", if blocks == 1 { "" } else { "s" });
    match gate.verdict {
        GateVerdict::Pass => format!("pass {after}: nothing is worse than its budget"),
        GateVerdict::Improvement => {
            format!("improvement {after}: better, and nothing is worse than its budget")
        }
        GateVerdict::Regression => {
            let worse: Vec<String> = lines(gate)
                .iter()
                .filter(|l| l.standing == Standing::Regression && l.role != Role::Advisory)
                .map(|l| format!("{} of {} {}", l.metric, l.scenario, l.change))
                .collect();
            format!("regression {after}: {}", worse.join(", "))
        }
        GateVerdict::Failure => format!("failure {after}: {}", gate.failures.join("; ")),
        GateVerdict::Inconclusive => {
            let open = |l: &Line| matches!(l.standing, Standing::Unproven | Standing::NotTested);
            let mut names: Vec<String> = lines(gate)
                .iter()
                .filter(|l| l.role == Role::Required && open(l))
                .map(|l| format!("{} of {}", l.metric, l.scenario))
                .collect();
            let more = names.len().saturating_sub(MOST_NAMES);
            names.truncate(MOST_NAMES);
            if more > 0 {
                names.push(format!("and {more} more"));
            }
            let names = match names.is_empty() {
                true => String::new(),
                false => format!("; not proven: {}", names.join(", ")),
            };
            format!("inconclusive {after}: nothing is surely worse{names}")
        }
        GateVerdict::Invalid => {
            let why = gate
                .found
                .iter()
                .flat_map(|f| &f.validity)
                .flat_map(|(s, v)| v.findings.iter().map(move |finding| format!("{s}: {finding}")));
            let why: Vec<String> = why.collect();
            format!("invalid {after}: {}", why.join("; "))
        }
    }
}

/// Remarks: what was left out, what the sensors saw.
pub(crate) fn remarks(gate: &Gate) -> Vec<String> {
    let mut all = gate.notes.clone();
    if gate.courses.iter().all(|c| c.blocks.is_empty()) {
        all.push("no block was completed: there are no figures".to_owned());
    }
    for (scenario, v) in gate.found.iter().flat_map(|f| &f.validity) {
        all.extend(v.findings.iter().map(|finding| format!("{scenario}: {finding}")));
        if !v.dropped.is_empty() {
            all.push(format!("{scenario}: left out as pairs: {}", left_out(v)));
        }
    }
    all
}

/// The blocks that were left out, those of one reason together, and how many others stand in for them.
fn left_out(v: &Validity) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for dropped in &v.dropped {
        let (why, block) = (dropped.why.join(", "), (dropped.block + 1).to_string());
        match groups.iter_mut().find(|(other, _)| *other == why) {
            Some((_, blocks)) => blocks.push(block),
            None => groups.push((why, vec![block])),
        }
    }
    let group = |(why, blocks): &(String, Vec<String>)| {
        let s = if blocks.len() == 1 { "" } else { "s" };
        format!("block{s} {} ({why})", blocks.join(", "))
    };
    let groups: Vec<String> = groups.iter().map(group).collect();
    let for_them = match (v.standing_in.len(), v.dropped.len()) {
        (0, _) => String::new(),
        (1, 1) => "; one more block stands in for it".to_owned(),
        (1, _) => "; one more block stands in for one of them".to_owned(),
        (n, of) if n == of => format!("; {n} more blocks stand in for them"),
        (n, _) => format!("; {n} more blocks stand in for {n} of them"),
    };
    groups.join(", ") + &for_them
}

/// All files of a gate's report, by name.
///
/// # Errors
/// When the plot or JSON cannot be made.
pub fn render(gate: &Gate) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let mut files = vec![
        ("table.txt".to_owned(), text(gate, false).into_bytes()),
        ("report.md".to_owned(), markdown::markdown(gate).into_bytes()),
        ("junit.xml".to_owned(), junit::junit(gate).into_bytes()),
        ("gate.sarif".to_owned(), sarif::sarif(gate)?.into_bytes()),
    ];
    if let Some(svg) = charts::forest(gate)? {
        files.push(("forest.png".to_owned(), Rasterizer::new().png(&svg)?));
        files.push(("forest.svg".to_owned(), svg.into_bytes()));
    }
    Ok(files)
}
