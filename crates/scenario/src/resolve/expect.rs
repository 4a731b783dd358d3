//! `[expect]`: thresholds that a run is judged by.

use std::collections::BTreeMap;

use serde_spanned::Spanned;

use super::values::Findings;
use super::workload::Kind;
use crate::diagnose::{Problem, quoted};
use crate::plan::{Comparison, ExpectMetric, Expectation};
use crate::raw::Given;
use crate::suggest::closest;
use crate::units;

type MetricOfQuantile = fn(f64) -> ExpectMetric;

const TIMES: [(&str, MetricOfQuantile); 3] = [
    ("latency", ExpectMetric::Latency),
    ("service_time", ExpectMetric::ServiceTime),
    ("connect_time", ExpectMetric::ConnectTime),
];

const NUMBERS: [(&str, ExpectMetric); 5] = [
    ("lost", ExpectMetric::Lost),
    ("duplicated", ExpectMetric::Duplicated),
    ("reordered", ExpectMetric::Reordered),
    ("failed_connects", ExpectMetric::FailedConnects),
    ("deliveries_per_second", ExpectMetric::DeliveriesPerSecond),
];

/// Longer signs first: `<=` begins with `<`.
const SIGNS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

const QUANTILE_HINT: &str = "a quantile is written p50, p99, p99.9, or max";

/// Reads `[expect]`.
pub(super) fn expectations(
    findings: &mut Findings,
    section: Option<&Spanned<BTreeMap<Spanned<String>, Spanned<Given>>>>,
    kind: Option<Kind>,
) -> Vec<Expectation> {
    let Some(section) = section else { return Vec::new() };
    let mut entries: Vec<_> = section.get_ref().iter().collect();
    // The author's order; the map sorts by name.
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .filter_map(|(key, value)| expectation(findings, key, value, kind))
        .collect()
}

fn expectation(
    findings: &mut Findings,
    key: &Spanned<String>,
    value: &Spanned<Given>,
    kind: Option<Kind>,
) -> Option<Expectation> {
    let name = key.get_ref().as_str();
    if matches!(value.get_ref(), Given::Table) && TIMES.iter().any(|(time, _)| *time == name) {
        let problem = Problem::at(
            key.span(),
            format!("`{name}` alone is no metric"),
            "which quantile?",
        );
        findings.add(problem.hint(format!("the dot belongs in quotes: \"{name}.p99\" = \"< 50ms\"")));
        return None;
    }
    let metric = match metric(name) {
        Ok(metric) => metric,
        Err(hint) => {
            let message = format!("unknown metric {}", quoted(name));
            findings.add(Problem::at(key.span(), message, "unknown metric").hint(hint));
            return None;
        }
    };
    let of_connections = matches!(
        metric,
        ExpectMetric::ConnectTime(_) | ExpectMetric::FailedConnects
    );
    if kind == Some(Kind::Connect) && !of_connections {
        let message = format!("a `connect` workload sends nothing, so there is no `{name}`");
        let hint = "it has connect_time.pXX, connect_time.max and failed_connects";
        findings.add(Problem::at(key.span(), message, "not for `connect`").hint(hint));
        return None;
    }
    threshold(findings, name, metric, value)
}

fn metric(name: &str) -> Result<ExpectMetric, String> {
    if let Some((_, metric)) = NUMBERS.iter().find(|(number, _)| *number == name) {
        return Ok(*metric);
    }
    if let Some((time, quantile)) = name.split_once('.')
        && let Some((_, metric)) = TIMES.iter().find(|(known, _)| *known == time)
    {
        return quantile_of(quantile)
            .map(metric)
            .ok_or_else(|| QUANTILE_HINT.to_owned());
    }
    let times = TIMES.iter().map(|(time, _)| format!("{time}.p99"));
    let known: Vec<String> = times
        .chain(NUMBERS.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    Err(match closest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("metrics: {}", known.join(", ")),
    })
}

/// `p99.9` as 0.999, read digit by digit so that no rounding creeps in.
fn quantile_of(text: &str) -> Option<f64> {
    if text == "max" {
        return Some(1.0);
    }
    let percent = text.strip_prefix('p')?;
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 2) || !digits(fraction, 6) {
        return None;
    }
    format!("0.{whole:0>2}{fraction}")
        .parse()
        .ok()
        .filter(|quantile| *quantile > 0.0)
}

fn threshold(
    findings: &mut Findings,
    name: &str,
    metric: ExpectMetric,
    value: &Spanned<Given>,
) -> Option<Expectation> {
    use ExpectMetric::{ConnectTime, DeliveriesPerSecond, Latency, ServiceTime};
    let is_time = matches!(metric, Latency(_) | ServiceTime(_) | ConnectTime(_));
    let example = match metric {
        _ if is_time => r#""< 50ms""#,
        DeliveriesPerSecond => r#"">= 1000""#,
        _ => r#"0, or "< 10""#,
    };
    let (sign, amount) = match value.get_ref() {
        Given::Integer(number) if !is_time => ("=", number.to_string()),
        Given::Text(text) => {
            let text = text.trim();
            let sign = SIGNS
                .iter()
                .map(|(sign, _)| *sign)
                .find(|sign| text.starts_with(sign));
            (
                sign.unwrap_or("="),
                text.trim_start_matches(sign.unwrap_or("")).trim().to_owned(),
            )
        }
        _ => {
            let problem = Problem::at(
                value.span(),
                format!("`{name}` is not a threshold"),
                "not a threshold",
            );
            findings.add(problem.hint(format!("write {example}")));
            return None;
        }
    };
    let comparison = SIGNS
        .iter()
        .find(|(known, _)| *known == sign)
        .map(|(_, comparison)| *comparison)?;
    let limit = match is_time {
        true => units::duration(&amount).map(|limit| limit.as_nanos() as f64),
        false => units::count(&amount).map(|limit| limit as f64),
    };
    let limit = match limit {
        Ok(limit) => limit,
        Err(complaint) => {
            let problem = Problem::at(
                value.span(),
                format!("`{name}` is not a threshold"),
                complaint.wrong,
            );
            findings.add(problem.hint(complaint.hint));
            return None;
        }
    };
    let measured = is_time || matches!(metric, DeliveriesPerSecond);
    let senseless = match comparison {
        Comparison::Equal if measured => Some("a measured value is never exactly equal"),
        Comparison::Less if limit == 0.0 => Some("nothing is less than zero"),
        Comparison::AtLeast if limit == 0.0 => Some("always true"),
        _ => None,
    };
    if let Some(why) = senseless {
        let problem = Problem::at(
            value.span(),
            format!("`{name}` makes no sense as a threshold"),
            why,
        );
        findings.add(problem.hint(format!("write {example}")));
        return None;
    }
    let sign = if comparison == Comparison::Equal {
        "="
    } else {
        sign
    };
    Some(Expectation {
        metric,
        comparison,
        limit,
        text: format!("{name} {sign} {amount}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        for (text, quantile) in [
            ("p50", Some(0.5)),
            ("p5", Some(0.05)),
            ("p99", Some(0.99)),
            ("p99.9", Some(0.999)),
            ("p99.99", Some(0.9999)),
            ("max", Some(1.0)),
            ("p0", None),
            ("p100", None),
            ("p99.", None),
            ("p-1", None),
            ("p", None),
            ("99", None),
            ("p99.1234567", None),
        ] {
            assert_eq!(quantile_of(text), quantile, "{text}");
        }
    }
}
