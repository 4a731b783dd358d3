//! Every trial on a line of its own: what the medians are made of.

use pushmark_measure::{Metric, TrialSummary};
use pushmark_results::run::{Run, TrialRecord};
use serde::Serialize;

use crate::comparison::opened;
use crate::escape::visible;
use crate::units::{Quantity, show_alone, three_digits, whole};

/// One trial, shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TrialRow {
    number: String,
    cell: String,
    repeat: String,
    grade: &'static str,
    /// The reasons for a grade stand at the top of the page; here only what is said nowhere else.
    remark: Option<&'static str>,
    /// p50, p99, service p99, send delay p99, delivered, lost, deliveries/s, server CPU, client CPU, sessions.
    values: Vec<String>,
}

/// Every trial that was begun, in the order they ran.
pub(crate) fn rows(run: &Run) -> Vec<TrialRow> {
    run.trials.iter().map(|t| row(run, t)).collect()
}

fn row(run: &Run, trial: &TrialRecord) -> TrialRow {
    let values = match &trial.summary {
        Some(summary) => values(trial, summary),
        None => vec!["–".to_owned(); 10],
    };
    TrialRow {
        number: trial.index.saturating_add(1).to_string(),
        cell: run
            .cell(trial)
            .map_or_else(|| "unknown cell".to_owned(), |c| visible(&c.id)),
        repeat: trial.repeat.saturating_add(1).to_string(),
        grade: trial.verdict.grade().as_str(),
        remark: trial.summary.is_none().then_some("did not finish"),
        values,
    }
}

fn values(trial: &TrialRecord, summary: &TrialSummary) -> Vec<String> {
    let missing = || "–".to_owned();
    let time = |metric: Metric, q: f64| {
        let value = trial.histograms.get(metric).and_then(|h| h.quantile(q));
        value.map_or_else(missing, |ns| show_alone(Quantity::Nanoseconds, ns as f64))
    };
    let books = &summary.books;
    let of_messages = |text: String| if summary.expects_messages { text } else { missing() };
    let cpu = |side: &pushmark_measure::Cost| {
        let known = side
            .cpu_user_ns
            .zip(side.cpu_system_ns)
            .and_then(|(u, s)| u.checked_add(s))
            .is_some();
        let value = known
            .then(|| side.cpu_us_per_delivery(books.delivered_once))
            .flatten();
        value.map_or_else(missing, |us| show_alone(Quantity::Microseconds, us))
    };
    vec![
        time(
            if summary.expects_messages {
                Metric::Latency
            } else {
                Metric::ConnectTime
            },
            0.5,
        ),
        time(
            if summary.expects_messages {
                Metric::Latency
            } else {
                Metric::ConnectTime
            },
            0.99,
        ),
        time(Metric::ServiceTime, 0.99),
        time(Metric::SendDelay, 0.99),
        of_messages(whole(books.delivered_once)),
        of_messages(whole(books.lost)),
        of_messages(three_digits(summary.deliveries_per_second())),
        cpu(&summary.server),
        cpu(&summary.generator),
        format!(
            "{} of {}",
            whole(opened(summary)),
            whole(summary.sessions_planned)
        ),
    ]
}
