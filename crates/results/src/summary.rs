//! `summary.csv`: a row per finished trial, for spreadsheets and scripts.

use std::fmt::Display;

use pushmark_measure::{Books, Cost, Histograms, Metric, TrialSummary, Verdict};
use pushmark_scenario::plan::Cell;

use crate::table::text_cell;

/// What a row is made of.
pub(crate) struct FinishedTrial<'a> {
    pub(crate) index: u32,
    pub(crate) repeat: u32,
    pub(crate) cell: &'a Cell,
    pub(crate) verdict: &'a Verdict,
    pub(crate) summary: &'a TrialSummary,
    pub(crate) histograms: &'a Histograms,
}

/// Names and cells side by side, so that the header cannot drift from the rows.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    pub(crate) cells: Vec<String>,
}

impl Columns {
    fn text(&mut self, name: &str, value: &str) {
        self.names.push(name.to_owned());
        self.cells.push(text_cell(value).into_owned());
    }

    /// A number; an empty cell where there is none.
    fn number(&mut self, name: impl Into<String>, value: impl Into<Option<f64>>) {
        self.names.push(name.into());
        self.cells.push(
            value
                .into()
                .filter(|v| v.is_finite())
                .map_or_else(String::new, |v| v.to_string()),
        );
    }

    fn count(&mut self, name: impl Into<String>, value: impl Display) {
        self.names.push(name.into());
        self.cells.push(value.to_string());
    }

    /// Quantiles of one metric, in nanoseconds.
    fn quantiles(&mut self, histograms: &Histograms, metric: Metric, wanted: &[(&str, f64)]) {
        for (label, q) in wanted {
            let value = histograms
                .get(metric)
                .and_then(|h| if *q == 1.0 { h.max() } else { h.quantile(*q) });
            self.names.push(format!("{}_ns_{label}", metric.name()));
            self.cells.push(value.map_or_else(String::new, |v| v.to_string()));
        }
    }

    fn books(&mut self, books: &Books) {
        // Taken apart by name, so that a new field cannot be forgotten here.
        let Books {
            scheduled,
            sent,
            not_sent,
            expected,
            delivered_once,
            lost,
            lost_dropped_by_server,
            duplicated,
            reordered,
            late,
            foreign,
            corrupt,
            overflowed_trackers,
        } = books;
        for (name, value) in [
            ("scheduled", scheduled),
            ("sent", sent),
            ("not_sent", not_sent),
            ("expected", expected),
            ("delivered_once", delivered_once),
            ("lost", lost),
            ("lost_dropped_by_server", lost_dropped_by_server),
            ("duplicated", duplicated),
            ("reordered", reordered),
            ("late", late),
            ("foreign", foreign),
            ("corrupt", corrupt),
            ("overflowed_trackers", overflowed_trackers),
        ] {
            self.count(name, value);
        }
    }

    fn cost(&mut self, side: &str, cost: &Cost, deliveries: u64, sessions: u64) {
        let per_delivery = |ns: Option<u64>| {
            ns.filter(|_| deliveries > 0)
                .map(|ns| ns as f64 / 1e3 / deliveries as f64)
        };
        self.number(
            format!("{side}_cpu_us_per_delivery"),
            cost.cpu_us_per_delivery(deliveries),
        );
        self.number(
            format!("{side}_cpu_user_us_per_delivery"),
            per_delivery(cost.cpu_user_ns),
        );
        self.number(
            format!("{side}_cpu_system_us_per_delivery"),
            per_delivery(cost.cpu_system_ns),
        );
        self.number(
            format!("{side}_rss_bytes_per_session"),
            cost.rss_bytes_per_session(sessions),
        );
    }
}

/// The row of one trial, with its header.
pub(crate) fn columns(trial: &FinishedTrial<'_>) -> Columns {
    const ALL: [(&str, f64); 5] = [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p999", 0.999),
        ("max", 1.0),
    ];
    let (summary, histograms) = (trial.summary, trial.histograms);
    let (deliveries, counters) = (summary.books.delivered_once, &summary.counters);
    let mut c = Columns::default();
    c.count("index", trial.index);
    c.count("repeat", trial.repeat);
    c.text("cell", &trial.cell.id);
    c.text("transport", &trial.cell.variant.transport);
    c.text("carrier", &trial.cell.variant.carrier);
    c.number("point", trial.cell.point);
    c.text("grade", trial.verdict.grade().as_str());
    c.number("measured_s", summary.measured.as_secs_f64());
    c.quantiles(histograms, Metric::Latency, &ALL);
    c.quantiles(histograms, Metric::ServiceTime, &ALL);
    c.quantiles(histograms, Metric::SendDelay, &ALL[2..3]);
    c.quantiles(histograms, Metric::GeneratorDelay, &[ALL[0], ALL[2]]);
    c.quantiles(histograms, Metric::KernelLatency, &[ALL[0], ALL[2]]);
    c.quantiles(histograms, Metric::FanoutDelay, &[ALL[0], ALL[2]]);
    c.quantiles(histograms, Metric::ConnectTime, &[ALL[0], ALL[2]]);
    c.books(&summary.books);
    c.number("deliveries_per_s", summary.deliveries_per_second());
    c.number("compression_ratio", summary.compressed.ratio());
    // Sessions held at once: where they come and go, more are established than are ever open together.
    let sessions = counters.established.min(summary.sessions_planned);
    c.cost("generator", &summary.generator, deliveries, sessions);
    c.cost("server", &summary.server, deliveries, sessions);
    c.count("sessions_planned", summary.sessions_planned);
    c.count("sessions_established", counters.established);
    c.count("sessions_failed", counters.failed);
    c.count("sessions_ended_early", summary.sessions_ended_early);
    let wire = summary.wire.unwrap_or_default();
    for (name, value) in [
        (
            "wire_received_bytes_per_delivery",
            wire.received_bytes_per_delivery(),
        ),
        ("wire_sent_bytes_per_delivery", wire.sent_bytes_per_delivery()),
        (
            "wire_overhead_bytes_per_delivery",
            wire.overhead_bytes_per_delivery(),
        ),
        (
            "handshake_received_bytes_per_session",
            wire.opening_received_bytes_per_session(),
        ),
        (
            "handshake_sent_bytes_per_session",
            wire.opening_sent_bytes_per_session(),
        ),
        ("round_trips_per_session", wire.round_trips_per_session()),
    ] {
        c.number(name, value);
    }
    c
}

/// One line of CSV, with its line break.
pub(crate) fn line(cells: &[String]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|e| e.into_error().into())
}
