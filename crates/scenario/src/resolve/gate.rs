//! `[gate]`: what the regression gate calls worse, by metric.

use serde_spanned::Spanned;

use super::values::Findings;
use crate::diagnose::{Problem, quoted};
use crate::plan::GateLimit;
use crate::raw::{Field, GateLimitSection, GateLimits, Given, Table};
use crate::suggest::closest;

/// Names in scenario files, and the same in result files.
const METRICS: [(&str, &str); 16] = [
    ("latency.p50", "latency_p50"),
    ("latency.p90", "latency_p90"),
    ("latency.p99", "latency_p99"),
    ("latency.p99.9", "latency_p999"),
    ("connect_time.p50", "connect_time_p50"),
    ("deliveries_per_second", "deliveries_per_second"),
    ("loss", "loss"),
    ("cpu_per_delivery", "server_cpu_us_per_delivery"),
    ("memory_per_connection", "server_rss_bytes_per_session"),
    ("time_to_reconnect.p50", "time_to_reconnect_p50"),
    ("time_to_reconnect.p99", "time_to_reconnect_p99"),
    ("detection_time.p50", "detection_time_p50"),
    ("server_detection_time.p50", "server_detection_time_p50"),
    ("undetected", "undetected"),
    ("server_undetected", "server_undetected"),
    ("not_recovered", "not_recovered"),
];

/// Beyond this, in percent, a limit is a typing error.
const MOST_PERCENT: f64 = 1_000.0;

const EXAMPLE: &str = r#"{ floor = "5 %", budget = "10 %" }"#;

/// Reads `[gate]`.
pub(super) fn limits(findings: &mut Findings, section: Option<&Spanned<GateLimits>>) -> Vec<GateLimit> {
    let Some(section) = section else { return Vec::new() };
    let mut entries: Vec<_> = section.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .filter_map(|(key, value)| limit(findings, key, value))
        .collect()
}

fn limit(
    findings: &mut Findings,
    key: &Spanned<String>,
    value: &Spanned<Table<GateLimitSection>>,
) -> Option<GateLimit> {
    let name = key.get_ref().as_str();
    let Some((_, metric)) = METRICS.iter().find(|(known, _)| *known == name) else {
        let known = || METRICS.iter().map(|(known, _)| *known);
        let hint = match closest(name, known()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the gate's metrics: {}", known().collect::<Vec<_>>().join(", ")),
        };
        let message = format!("the gate has no metric {}", quoted(name));
        findings.add(Problem::at(key.span(), message, "unknown metric").hint(hint));
        return None;
    };
    let section = &value.get_ref().0;
    let floor = share(findings, value, &section.floor, "floor");
    let budget = share(findings, value, &section.budget, "budget");
    let (floor, budget) = (floor?, budget?);
    if budget < 2.0 * floor - 1e-12 {
        let least = format!("{:.3}", 200.0 * floor);
        let least = least.trim_end_matches('0').trim_end_matches('.');
        let message = format!("the budget of `{name}` is less than twice its floor");
        let label = format!("{least} % at least");
        let span = section.budget.as_ref().map_or(value.span(), Spanned::span);
        findings.add(Problem::at(span, message, label).hint(
            "what lies between floor and budget may be a regression or not be proven: leave room for both",
        ));
        return None;
    }
    Some(GateLimit {
        metric: (*metric).to_owned(),
        floor,
        budget,
    })
}

/// A share written as a percentage: 0.05 for `5 %`. Nothing is proven to lie below zero, and any difference lies above.
fn share(
    findings: &mut Findings,
    table: &Spanned<Table<GateLimitSection>>,
    field: &Field,
    key: &str,
) -> Option<f64> {
    let Some(value) = field else {
        findings.missing(Some(table.span()), &format!("`{key}`"), EXAMPLE);
        return None;
    };
    let percent = match value.get_ref() {
        Given::Text(text) => text
            .trim()
            .strip_suffix('%')
            .map(str::trim)
            .filter(|number| number.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|percent| *percent > 0.0 && *percent <= MOST_PERCENT),
        _ => None,
    };
    if percent.is_none() {
        let message = format!("`{key}` is not a percentage above 0");
        let problem = Problem::at(
            value.span(),
            message,
            format!("above 0, {MOST_PERCENT} % at most"),
        );
        findings.add(problem.hint(format!("write {EXAMPLE}; for loss, percent of the messages")));
    }
    percent.map(|percent| percent / 100.0)
}
