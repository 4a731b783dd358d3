//! The trend of a history: change points of every metric, and what has crept in since the last accepted change.

use std::fmt::Write;

use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::{ChangePoint, Creep, Kind, Metric, Role, change_points};
use pushmark_results::history::{History, Session};
use serde::Serialize;

use crate::charts::{self, Rasterizer};
use crate::escape::visible;
use crate::files::ReportError;

/// False alarms of a whole trend, as a share.
const ALPHA: f64 = 0.01;
/// More sessions than this are not looked at: the search takes the square of them.
const MOST_SESSIONS: usize = 200;

/// One change of one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The first session after it, from zero among those that are looked at.
    pub at: usize,
    /// Its label.
    pub label: String,
    /// How much worse the sessions after it are than those before it, as shown: 0.02 is 2 % more.
    pub change: f64,
    /// Share of random orders that split as well.
    pub p: f64,
}

/// One metric over the sessions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricTrend {
    /// Which, with its limits.
    pub metric: Metric,
    /// The sessions that have it, by their number, and ln(build / reference).
    pub points: Vec<(usize, f64)>,
    /// Where it changed.
    pub changes: Vec<Change>,
    /// From the first stretch to the last, as shown; none without a change.
    pub total: Option<f64>,
    /// Enough sessions have it for a change of it to be seen.
    pub enough: bool,
    /// It decides something, has changed, and is worse by its floor or more.
    pub crept: bool,
}

impl MetricTrend {
    /// Whether a change of it decides anything.
    fn decides(&self) -> bool {
        self.metric.role != Role::Advisory
    }

    /// The mean of each stretch between changes: (first and last session, mean).
    pub(crate) fn stretches(&self) -> Vec<(usize, usize, f64)> {
        let mut all = Vec::new();
        let mut rest = &self.points[..];
        for end in self.changes.iter().map(|c| c.at).chain([usize::MAX]) {
            let count = rest.iter().take_while(|(at, _)| *at < end).count();
            let (stretch, after) = rest.split_at(count);
            if let (Some((first, _)), Some((last, _))) = (stretch.first(), stretch.last()) {
                let sum: f64 = stretch.iter().map(|(_, h)| h).sum();
                all.push((*first, *last, sum / count as f64));
            }
            rest = after;
        }
        all
    }
}

/// A history's trend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// The labels of the sessions that were looked at.
    pub labels: Vec<String>,
    /// Earlier ones that were not: before the last accepted change, or too many.
    pub left_out: usize,
    /// Random orders that each split was held against.
    pub orders: usize,
    /// Most of them, as a share, that may split as well.
    pub level: f64,
    /// Every metric.
    pub metrics: Vec<MetricTrend>,
}

impl Trend {
    /// Looks for changes since the last accepted one.
    pub fn of(history: &History) -> Self {
        let since = history.measure();
        let sessions = &since[since.len().saturating_sub(MOST_SESSIONS)..];
        let mut metrics: Vec<&Metric> = Vec::new();
        for v in sessions.iter().flat_map(|s| &s.values) {
            if !metrics
                .iter()
                .any(|m| (&m.scenario, &m.name) == (&v.metric.scenario, &v.metric.name))
            {
                metrics.push(&v.metric);
            }
        }
        // All metrics share the false alarms, and the orders must be enough to tell so small a share.
        let level = ALPHA / metrics.len().max(1) as f64;
        let how = Creep {
            orders: (2.0 / level).ceil() as usize - 1,
            level,
            ..Creep::default()
        };
        Self {
            labels: sessions.iter().map(|s| s.label.clone()).collect(),
            left_out: history.sessions.len() - sessions.len(),
            orders: how.orders,
            level,
            metrics: metrics.into_iter().map(|m| trend(m, sessions, &how)).collect(),
        }
    }

    /// Whether a change of anything that decides would be seen. Sessions alone do not say so: a metric may stand in few of them.
    pub fn can_tell(&self) -> bool {
        let mut deciding = self.metrics.iter().filter(|m| m.decides()).peekable();
        deciding.peek().is_some() && deciding.all(|m| m.enough)
    }

    /// Whether anything that decides has crept in.
    pub fn crept(&self) -> bool {
        self.metrics.iter().any(|m| m.crept)
    }
}

/// Fewer sessions have no change: so many must lie on each side of one.
fn least() -> usize {
    2 * Creep::default().least
}

fn trend(metric: &Metric, sessions: &[Session], how: &Creep) -> MetricTrend {
    let points: Vec<(usize, f64)> = sessions
        .iter()
        .enumerate()
        .filter_map(|(at, s)| Some((at, s.value(&metric.scenario, &metric.name)?.h)))
        .collect();
    let values: Vec<f64> = points.iter().map(|(_, h)| *h).collect();
    let found: Vec<ChangePoint> = change_points(&values, how);
    let changes: Vec<Change> = found
        .iter()
        .map(|c| Change {
            at: points[c.at].0,
            label: sessions[points[c.at].0].label.clone(),
            change: metric.kind.shown(c.after - c.before),
            p: c.p,
        })
        .collect();
    let total = found.first().zip(found.last()).map(|(a, b)| b.after - a.before);
    MetricTrend {
        metric: metric.clone(),
        enough: points.len() >= least(),
        points,
        changes,
        total: total.map(|d| metric.kind.shown(d)),
        crept: metric.role != Role::Advisory && total.is_some_and(|d| d >= metric.kind.limit(metric.floor)),
    }
}

/// A shown change in words.
fn shown(kind: Kind, change: f64) -> String {
    match kind {
        Kind::Cost | Kind::Rate => format!("{:+.1} %", 100.0 * change),
        Kind::Fraction => format!("{:+.2} pp", 100.0 * change),
    }
}

/// Every change, and what has crept in.
pub fn trend_text(trend: &Trend) -> String {
    let mut out = String::new();
    let count = trend.labels.len();
    let changed: Vec<&MetricTrend> = trend.metrics.iter().filter(|m| !m.changes.is_empty()).collect();
    let crept: Vec<String> = changed
        .iter()
        .filter(|m| m.crept)
        .map(|m| {
            let total = m.total.unwrap_or(0.0);
            format!(
                "{} of {} {}",
                words(&m.metric.name),
                m.metric.scenario,
                shown(m.metric.kind, total)
            )
        })
        .collect();
    let deciding = || trend.metrics.iter().filter(|m| m.decides());
    let untold: Vec<String> = deciding()
        .filter(|m| !m.enough)
        .map(|m| {
            let (name, scenario) = (words(&m.metric.name), &m.metric.scenario);
            format!("{name} of {scenario} ({} of {count})", m.points.len())
        })
        .collect();
    let needs = format!(
        "a change needs {} sessions, {} on each side",
        least(),
        Creep::default().least
    );
    let _ = match crept.is_empty() {
        true if count < least() => writeln!(out, "nothing can be said of {count} sessions: {needs}\n"),
        true if deciding().next().is_none() => writeln!(
            out,
            "nothing can be said of {count} sessions: they have nothing that decides\n"
        ),
        true if deciding().all(|m| !m.enough) => writeln!(
            out,
            "nothing can be said of {count} sessions: too few of them have what decides\n"
        ),
        true if !untold.is_empty() => writeln!(
            out,
            "nothing has crept in over {count} sessions, of what can be told\n"
        ),
        true => writeln!(out, "nothing has crept in over {count} sessions\n"),
        false => writeln!(
            out,
            "crept in over {count} sessions: {}\n",
            visible(&crept.join(", "))
        ),
    };
    if count >= least() && !untold.is_empty() {
        let untold = visible(&untold.join(", "));
        let _ = writeln!(
            out,
            "nothing can be said of what too few sessions have: {untold}; {needs}\n"
        );
    }
    for m in &changed {
        let _ = writeln!(
            out,
            "  {}: {}",
            visible(&m.metric.scenario),
            words(&m.metric.name)
        );
        for c in &m.changes {
            let _ = writeln!(
                out,
                "    from session {} ({}) on: {} (p = {:.4})",
                c.at + 1,
                visible(&c.label),
                shown(m.metric.kind, c.change),
                c.p
            );
        }
    }
    if !changed.is_empty() {
        out.push('\n');
    }
    if trend.left_out > 0 {
        let _ = writeln!(
            out,
            "{} earlier sessions are not looked at: they lie before the last accepted change, or beyond the last {MOST_SESSIONS}",
            trend.left_out
        );
    }
    let _ = writeln!(
        out,
        "E-divisive: a change counts when at most {:.3} % of {} random orders of the same sessions split as well ({:.0} % over all \
         {} metrics). A change of the last four sessions is not seen yet; one session alone is the gate's to judge.",
        100.0 * trend.level,
        trend.orders,
        100.0 * ALPHA,
        trend.metrics.len()
    );
    out
}

/// All files of its report, by name: the table, and a chart for each metric that changed, or for all that are required where
/// none did.
///
/// # Errors
/// When a chart cannot be made.
pub fn render_trend(trend: &Trend) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let mut files = vec![
        ("trend.txt".to_owned(), trend_text(trend).into_bytes()),
        (
            "trend.json".to_owned(),
            (serde_json::to_string_pretty(trend)? + "\n").into_bytes(),
        ),
    ];
    let any = trend.metrics.iter().any(|m| !m.changes.is_empty());
    for (number, m) in trend.metrics.iter().enumerate() {
        let wanted = match any {
            true => !m.changes.is_empty(),
            false => m.metric.role == Role::Required,
        };
        let Some(svg) = wanted.then(|| charts::trend(trend, m)).transpose()?.flatten() else {
            continue;
        };
        let name = format!("trend-{:02}-{}", number + 1, m.metric.name.replace('_', "-"));
        files.push((format!("{name}.png"), Rasterizer::new().png(&svg)?));
        files.push((format!("{name}.svg"), svg.into_bytes()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
