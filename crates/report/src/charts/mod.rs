//! Charts: pictures of a comparison and of its trials over time, as SVG text; and the same as PNG.

mod cost;
mod frame;
mod over_time;
mod palette;
mod percentiles;
mod png;
mod scale;
mod series;
mod split;
mod sweep;
mod text;

use plotters::style::RGBColor;
use pushmark_measure::{Grade, Metric};
use pushmark_results::run::Run;

pub use png::Rasterizer;

pub(crate) use palette::variant_hex;

use crate::comparison::{Comparison, Point, WorkloadKind};
use crate::files::ReportError;
use crate::plan_words;
use frame::{Key, Look};

/// A chart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Chart {
    /// Fit for a file name: `latency-percentiles`.
    pub name: &'static str,
    /// What is shown, as a phrase.
    pub title: &'static str,
    /// The picture, a whole `<svg>` element.
    pub svg: String,
}

/// Every chart that applies to `run`. For a sweep: first how the measures move with what is swept, then the largest
/// point in detail.
///
/// # Errors
/// When the drawing backend fails, which it does not in memory.
pub fn charts(run: &Run, comparison: &Comparison) -> Result<Vec<Chart>, ReportError> {
    let Some(point) = comparison.last_point() else {
        return Ok(Vec::new());
    };
    let scene = Scene {
        run,
        comparison,
        point,
    };
    let mut charts = Vec::new();
    let mut add = |name, title, svg: Option<String>| charts.extend(svg.map(|svg| Chart { name, title, svg }));
    if comparison.workload == WorkloadKind::Connect {
        if comparison.is_sweep() {
            let title = "Connect time as the load grows";
            add(
                "sweep-connect-time",
                title,
                sweep::times(&scene, title, ["connect_time_ns_p50", "connect_time_ns_p99"])?,
            );
        }
        let title = "Connect time by percentile";
        add(
            "connect-time-percentiles",
            title,
            percentiles::draw(&scene, title, Metric::ConnectTime)?,
        );
        return Ok(charts);
    }
    let title = "Latency by percentile";
    let percentiles = percentiles::draw(&scene, title, Metric::Latency)?;
    if comparison.is_sweep() {
        let title = match comparison.axis {
            Some(pushmark_results::plan::Axis::PayloadBytes) => "Latency as messages grow",
            Some(pushmark_results::plan::Axis::Condition) => "Latency by condition",
            Some(pushmark_results::plan::Axis::RatePerSecond) => "Latency as the rate grows",
            _ => "Latency as connections grow",
        };
        add(
            "sweep-latency",
            title,
            sweep::times(&scene, title, ["latency_ns_p50", "latency_ns_p99"])?,
        );
        let title = "CPU per delivery";
        add("sweep-cpu", title, sweep::costs(&scene, title)?);
    }
    add("latency-percentiles", title, percentiles);
    if comparison.workload == WorkloadKind::Push {
        let title = "Where the latency went";
        add("latency-split", title, split::draw(&scene, title)?);
    }
    let title = "Latency over time";
    add("latency-over-time", title, over_time::latency(&scene, title)?);
    let title = "Deliveries per second over time";
    add(
        "deliveries-over-time",
        title,
        over_time::deliveries(&scene, title)?,
    );
    let title = "What a delivery and a connection cost";
    add("cost", title, cost::draw(&scene, title)?);
    Ok(charts)
}

/// What a chart is drawn from: a run, and the one point that is looked at.
struct Scene<'a> {
    run: &'a Run,
    comparison: &'a Comparison,
    point: &'a Point,
}

impl Scene<'_> {
    /// The scenario and the load at the point.
    fn subtitle(&self, more: &str) -> String {
        let cell = self
            .point
            .columns
            .iter()
            .find_map(|c| self.run.manifest.plan.cells.get(c.cell?));
        let load = cell.map(plan_words::load).unwrap_or_default();
        [self.comparison.scenario.as_str(), &load, more]
            .iter()
            .filter(|p| !p.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("  ·  ")
    }

    /// The scenario alone: for charts over all points.
    fn subtitle_of_all(&self, more: &str) -> String {
        format!("{}  ·  {more}", self.comparison.scenario)
    }

    /// One entry for each variant; those without data say so.
    fn legend(&self, look: Look, has_data: impl Fn(usize) -> bool) -> Vec<Key> {
        let variants = self.comparison.variants.iter().enumerate();
        variants
            .map(|(i, v)| {
                let grade = self
                    .point
                    .columns
                    .get(i)
                    .and_then(|c| c.grade)
                    .filter(|g| *g > Grade::Valid);
                let mut label = v.label.clone();
                if let Some(grade) = grade {
                    label.push_str(&format!(" ({})", grade.as_str()));
                }
                if !has_data(i) {
                    label.push_str(": no data");
                }
                Key {
                    label,
                    color: palette::variant(i),
                    look,
                }
            })
            .collect()
    }

    /// The verdict and what else must be known before the picture is believed. Empty when there is nothing.
    fn note(&self) -> String {
        let quality = &self.comparison.quality;
        let mut parts = quality.caveats.clone();
        if quality.grade > Grade::Valid {
            parts.insert(0, format!("{} (reasons in the report)", quality.headline()));
        }
        parts.join("  ·  ")
    }

    fn doubt(&self) -> Option<(&'static str, RGBColor)> {
        match self.comparison.quality.grade {
            Grade::Invalid => Some(("invalid", palette::INVALID)),
            Grade::Suspect => Some(("suspect", palette::SUSPECT)),
            Grade::Valid => self.comparison.quick.then_some(("quick", palette::SUSPECT)),
        }
    }

    /// How the repeats show in a chart.
    fn repeats_words(&self, shaded: &str) -> String {
        match self.comparison.repeats {
            0 | 1 => "one repeat".to_owned(),
            n => format!("median over {n} repeats, {shaded} from least to most"),
        }
    }
}
