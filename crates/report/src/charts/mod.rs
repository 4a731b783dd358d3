//! Charts: pictures of a comparison and of its trials over time, as SVG text; and the same as PNG.

mod cost;
mod detection;
mod forest;
mod frame;
mod heat;
mod outage;
mod over_time;
mod palette;
mod percentiles;
mod png;
mod scale;
mod series;
mod split;
mod sweep;
mod text;
mod trend;

use plotters::style::RGBColor;
use pushmark_measure::{Grade, Metric};
use pushmark_results::run::Run;

pub use png::Rasterizer;

pub(crate) use forest::forest;
pub(crate) use palette::variant_hex;
pub(crate) use trend::trend;

use crate::comparison::{Comparison, Point, WorkloadKind};
use crate::files::ReportError;
use crate::plan_words;
use frame::{Key, Look};

/// A chart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Chart {
    /// Fit for a file name: `latency-percentiles`.
    pub name: String,
    /// What is shown, as a phrase.
    pub title: String,
    /// The picture, a whole `<svg>` element.
    pub svg: String,
}

/// The name of the chart that a page of many pairs begins with.
pub(crate) const MATRIX: &str = "matrix";

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
    let mut charts = of_faults(&scene)?;
    let mut add = |name: &str, title: &str, svg: Option<String>| {
        charts.extend(svg.map(|svg| Chart {
            name: name.to_owned(),
            title: title.to_owned(),
            svg,
        }));
    };
    let title = "Every transport over every carrier";
    add(MATRIX, title, heat::draw(&scene, title)?);
    if comparison.varies_conditions() {
        // Conditions have no order: no line leads from one to the next, and none is the largest, to be shown in detail.
        let (name, title, metric) = match comparison.workload {
            WorkloadKind::Connect => (
                "connect-time-percentiles",
                "Connect time by percentile, under each condition",
                Metric::ConnectTime,
            ),
            WorkloadKind::Push | WorkloadKind::Echo => (
                "latency-percentiles",
                "Latency by percentile, under each condition",
                Metric::Latency,
            ),
        };
        add(name, title, percentiles::by_point(&scene, title, metric)?);
        return Ok(charts);
    }
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
    let title = "What a delivery and a session cost";
    add("cost", title, cost::draw(&scene, title)?);
    Ok(charts)
}

/// More points than this are not shown moment by moment.
const MOST_OUTAGES: usize = 6;

/// What broke and what became of it, over all points.
fn of_faults(scene: &Scene<'_>) -> Result<Vec<Chart>, ReportError> {
    let mut charts = Vec::new();
    let mut add = |name: String, title: &str, svg: Option<String>| {
        charts.extend(svg.map(|svg| Chart {
            name,
            title: title.to_owned(),
            svg,
        }));
    };
    let title = "Who had noticed by when";
    add("detection".to_owned(), title, detection::draw(scene, title)?);
    let title = "The outage, step by step";
    for (place, point) in scene.comparison.points.iter().take(MOST_OUTAGES).enumerate() {
        let name = match place {
            0 => "outage".to_owned(),
            _ => format!("outage-{}", place + 1),
        };
        let scene = Scene { point, ..*scene };
        add(name, title, outage::draw(&scene, title)?);
    }
    let title = "How many came at once";
    add("herd".to_owned(), title, outage::herd(scene, title)?);
    Ok(charts)
}

/// What a chart is drawn from: a run, and the one point that is looked at.
#[derive(Clone, Copy)]
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
        self.legend_at(std::slice::from_ref(self.point), look, has_data)
    }

    /// The same for a chart of all points: doubt at any of them is doubt.
    fn legend_of_all(&self, look: Look, has_data: impl Fn(usize) -> bool) -> Vec<Key> {
        self.legend_at(&self.comparison.points, look, has_data)
    }

    fn legend_at(&self, points: &[Point], look: Look, has_data: impl Fn(usize) -> bool) -> Vec<Key> {
        let variants = self.comparison.variants.iter().enumerate();
        variants
            .map(|(i, v)| {
                let columns = points.iter().filter_map(|p| p.columns.get(i));
                let grade = columns.filter_map(|c| c.grade).max();
                let grade = grade.filter(|g| *g > Grade::Valid);
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
