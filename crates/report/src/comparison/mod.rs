//! The comparison: variants side by side, measure by measure, with the spread between repeats. What every table, chart
//! and sentence of a report is made of.

mod aftermath;
mod measures;
mod measures_of_faults;
mod negotiated;
mod quality;
mod rows;

use pushmark_measure::Grade;
use pushmark_measure::stats::Spread;
use pushmark_results::plan::{Axis, Cell, Plan, TargetPlan, Variant, Workload};
use pushmark_results::run::{Run, RunStatus};
use serde::Serialize;

pub use aftermath::{Aftermath, Attempts, FaultRow, Noticed};
pub(crate) use aftermath::{beside_the_kind, fault_name};
pub(crate) use measures::opened;
pub use negotiated::Agreed;
pub use quality::{PlacedFinding, Quality};
pub(crate) use rows::{finished, is_thin};

use crate::escape::{shorten, visible};
use crate::units::{Quantity, three_digits, whole};

/// The version of [`Comparison`]'s JSON form. It grows whenever a reader could misunderstand the new form.
pub const COMPARISON_VERSION: u32 = 1;

/// The longest variant's name that is shown whole.
const LONGEST_LABEL: usize = 24;

/// The longest condition that is shown whole: where there is room, and in a table's column.
const LONGEST_CONDITION: usize = 120;
const LONGEST_SHORT: usize = 44;

/// A run, compared. All strings are free of control characters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Always `pushmark-comparison`.
    pub format: &'static str,
    /// [`COMPARISON_VERSION`].
    pub version: u32,
    /// The version of pushmark that measured.
    pub pushmark_version: String,
    /// The scenario's name.
    pub scenario: String,
    /// The question it answers.
    pub question: String,
    /// How the run ended.
    pub status: RunStatus,
    /// A smoke run, not a measurement.
    pub quick: bool,
    /// What the sessions did.
    pub workload: WorkloadKind,
    /// The reference server ran on this machine, beside the load generator.
    pub embedded_server: bool,
    /// Repeats planned for each variant at each point.
    pub repeats: u32,
    /// What the sweep varies, if the run is a sweep.
    pub axis: Option<Axis>,
    /// The columns, in the plan's order.
    pub variants: Vec<VariantName>,
    /// The carrier, when all variants share one.
    pub carrier: Option<String>,
    /// One for each point of the sweep, ascending; a single one without a sweep.
    pub points: Vec<Point>,
    /// What connections agreed on with their peer; left out of the JSON form where that was not kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub negotiated: Vec<Agreed>,
    /// How far all of it can be trusted.
    pub quality: Quality,
}

/// What the sessions did, without the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// The server publishes, all receive.
    Push,
    /// Each session sends and gets it back.
    Echo,
    /// Sessions open and close; there are no messages.
    Connect,
}

/// One variant's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VariantName {
    /// As shown: the transport alone when all share a carrier.
    pub label: String,
    /// The transport.
    pub transport: String,
    /// Its carrier.
    pub carrier: String,
}

/// All variants at one point of the sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The swept value; none without a sweep.
    pub value: Option<f64>,
    /// The value alone: `1,000`, `4 KiB`. Empty without a sweep.
    pub short: String,
    /// The value with what it counts: `1,000 connections`. Empty without a sweep.
    pub label: String,
    /// One for each of [`Comparison::variants`].
    pub columns: Vec<Column>,
    /// One for each measure that applies.
    pub rows: Vec<Row>,
    /// What broke here and what became of it; left out of the JSON form where nothing was to break.
    #[serde(skip_serializing_if = "Aftermath::is_empty")]
    pub aftermath: Aftermath,
}

/// One variant at one point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// The cell's index in the plan; none when the plan has no such pair.
    pub cell: Option<usize>,
    /// The worst grade of its finished trials; none when none finished.
    pub grade: Option<Grade>,
    /// Trials that finished.
    pub finished: u32,
}

/// One measure over all variants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The name in files: `latency_ns_p99`.
    pub key: &'static str,
    /// Rows that belong together.
    pub group: &'static str,
    /// The name within the group.
    pub name: &'static str,
    /// What the values are, in the quantity's base unit.
    pub quantity: Quantity,
    /// One for each column.
    pub values: Vec<Value>,
    /// The column ahead of every other by more than the spread between repeats.
    pub winner: Option<usize>,
}

/// What one variant came to in one measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Value {
    /// Not measured, or nothing to measure. Never the same as zero.
    Missing,
    /// Median, smallest and largest over repeats.
    Spread {
        /// The three, and how many repeats.
        #[serde(flatten)]
        spread: Spread,
        /// A repeat had too few samples for a steady value.
        thin: bool,
    },
    /// A count, summed over repeats.
    Total {
        /// The sum.
        total: u64,
    },
    /// Part of a whole, of the repeat with the smallest part.
    Part {
        /// The part.
        part: u64,
        /// The whole.
        whole: u64,
    },
    /// How far the numbers above can be trusted.
    Graded {
        /// The worst grade of the repeats.
        grade: Grade,
    },
}

impl Value {
    /// The spread, when it is one.
    pub fn spread(&self) -> Option<Spread> {
        match self {
            Value::Spread { spread, .. } => Some(*spread),
            _ => None,
        }
    }

    /// The sum, when it is one.
    pub fn total(&self) -> Option<u64> {
        match self {
            Value::Total { total } => Some(*total),
            _ => None,
        }
    }
}

impl Comparison {
    /// Compares the variants of `run`.
    pub fn of(run: &Run) -> Self {
        let plan = &run.manifest.plan;
        let carrier = shared_carrier(plan);
        let mut pairs = Vec::new();
        for cell in &plan.cells {
            if !pairs.contains(&&cell.variant) {
                pairs.push(&cell.variant);
            }
        }
        let variants: Vec<VariantName> = pairs
            .iter()
            .map(|v| VariantName {
                label: shorten(
                    &visible(&match &carrier {
                        Some(_) => v.transport.clone(),
                        None => format!("{}-{}", v.transport, v.carrier),
                    }),
                    LONGEST_LABEL,
                ),
                transport: visible(&v.transport),
                carrier: visible(&v.carrier),
            })
            .collect();
        let workload = match plan.cells.first().map(|c| &c.workload) {
            Some(Workload::Connect { .. }) => WorkloadKind::Connect,
            Some(Workload::Echo(_)) => WorkloadKind::Echo,
            Some(Workload::Push(_)) | None => WorkloadKind::Push,
        };
        let cells_at = |value: Option<f64>| -> Vec<Option<usize>> {
            let at = |v: &&Variant| {
                let here = |c: &Cell| c.variant == **v && same_point(c.point, value);
                plan.cells.iter().position(here)
            };
            pairs.iter().map(at).collect()
        };
        let values = swept_values(plan);
        let columns: Vec<_> = values.iter().map(|value| cells_at(*value)).collect();
        let negotiated = negotiated::lines(run, &variants, &columns);
        let points = values.into_iter().map(|value| {
            let cells = cells_at(value);
            let (short, label) = value.map_or_else(Default::default, |v| names_of(plan, v, &cells));
            let columns = cells
                .iter()
                .map(|cell| rows::column(run, *cell))
                .collect::<Vec<_>>();
            let aftermath = Aftermath::of(run, &columns);
            let mut rows = rows::rows(run, &columns, workload);
            if aftermath.interrupted {
                // Who serves fewer sessions is not ahead for it.
                for row in &mut rows {
                    row.winner = None;
                }
            }
            Point {
                value,
                short,
                label,
                columns,
                rows,
                aftermath,
            }
        });
        Comparison {
            format: "pushmark-comparison",
            version: COMPARISON_VERSION,
            pushmark_version: visible(&run.manifest.pushmark_version),
            scenario: visible(&plan.name),
            question: visible(&plan.question),
            status: run.manifest.status,
            quick: plan.quick,
            workload,
            embedded_server: plan.cells.iter().all(|c| c.target == TargetPlan::Embedded),
            repeats: plan.repeats,
            axis: plan.axis,
            points: points.collect(),
            negotiated,
            quality: Quality::of(run),
            variants,
            carrier: carrier.map(|c| visible(&c)),
        }
    }

    /// Whether what varies has no numbers, only names.
    pub fn varies_conditions(&self) -> bool {
        self.axis == Some(Axis::Condition) && self.is_sweep()
    }

    /// Whether sessions were cut off on purpose anywhere.
    pub fn is_interrupted(&self) -> bool {
        self.points.iter().any(|p| p.aftermath.interrupted)
    }

    /// The point where differences show most: the largest. Conditions have no order: of those, the last in the plan.
    pub fn last_point(&self) -> Option<&Point> {
        self.points.last()
    }

    /// Whether it is a sweep of at least two points.
    pub fn is_sweep(&self) -> bool {
        self.points.len() > 1
    }
}

impl Point {
    /// The row of measure `key`, if it applies to this run.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.key == key)
    }
}

/// What a sweep varies, in words: the head of a table's first column, or of a chart's axis.
pub fn axis_name(axis: Option<Axis>) -> &'static str {
    match axis {
        Some(Axis::Connections) => "connections",
        Some(Axis::PayloadBytes) => "payload",
        Some(Axis::RatePerSecond) => "rate",
        Some(Axis::Condition) => "condition",
        None => "",
    }
}

/// A swept value, alone and with what it counts.
pub fn point_names(axis: Option<Axis>, value: f64) -> (String, String) {
    let number = if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        whole(value as u64)
    } else {
        three_digits(value)
    };
    match axis {
        Some(Axis::PayloadBytes) => {
            let short = match value {
                v if v >= 1_048_576.0 && v % 1_048_576.0 == 0.0 => format!("{} MiB", v / 1_048_576.0),
                v if v >= 1024.0 && v % 1024.0 == 0.0 => format!("{} KiB", v / 1024.0),
                _ => format!("{number} B"),
            };
            (short.clone(), format!("{short} a message"))
        }
        Some(Axis::Condition) => (number.clone(), number),
        Some(Axis::RatePerSecond) => (format!("{number}/s"), format!("{number} messages/s")),
        Some(Axis::Connections) => (number.clone(), format!("{number} connections")),
        None => (number.clone(), number),
    }
}

/// The names of a point: a condition's are its words, anything else is a number with what it counts.
fn names_of(plan: &Plan, value: f64, cells: &[Option<usize>]) -> (String, String) {
    let words = || {
        let cell = cells.iter().find_map(|c| plan.cells.get((*c)?))?;
        Some(visible(&cell.condition)).filter(|words| !words.is_empty())
    };
    match (plan.axis, words()) {
        (Some(Axis::Condition), Some(words)) => {
            (shorten(&words, LONGEST_SHORT), shorten(&words, LONGEST_CONDITION))
        }
        _ => point_names(plan.axis, value),
    }
}

fn shared_carrier(plan: &Plan) -> Option<String> {
    let first = &plan.cells.first()?.variant.carrier;
    plan.cells
        .iter()
        .all(|c| &c.variant.carrier == first)
        .then(|| first.clone())
}

/// Every swept value once, ascending; a single none without a sweep.
fn swept_values(plan: &Plan) -> Vec<Option<f64>> {
    let mut values: Vec<Option<f64>> = Vec::new();
    for Cell { point, .. } in &plan.cells {
        if !values.iter().any(|v| same_point(*v, *point)) {
            values.push(*point);
        }
    }
    values.sort_by(|a, b| {
        a.unwrap_or(f64::NEG_INFINITY)
            .total_cmp(&b.unwrap_or(f64::NEG_INFINITY))
    });
    values
}

/// Bit by bit, so that not even a damaged NaN is unlike itself.
fn same_point(a: Option<f64>, b: Option<f64>) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits)
}
