//! The files of a report, as names and bytes: a pure function of a run. The caller writes them.

use pushmark_results::run::Run;
use serde::Serialize;

use crate::answer::answer;
use crate::charts::{Rasterizer, charts};
use crate::comparison::Comparison;
use crate::expectations::{Check, check_expectations};
use crate::{html, markdown, table};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart could not be drawn.
    #[error("a chart could not be drawn: {0}")]
    Chart(String),
    /// A chart could not be turned into a PNG.
    #[error("a chart could not be turned into a PNG: {0}")]
    Png(String),
    /// The page's template failed.
    #[error("the page could not be made: {0}")]
    Page(#[from] minijinja::Error),
    /// The comparison could not be written as JSON.
    #[error("the comparison could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// `comparison.json`: the comparison, its answer and the thresholds.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    answer: String,
    expectations: &'a [Check],
}

/// All files of the report of `run`, by their path relative to the report's directory: `report.html`, `report.md`,
/// `comparison.json`, `table.txt`, and `charts/*.svg` with the same as `.png`. The same run gives the same bytes.
///
/// # Errors
/// When a chart, the page or the JSON cannot be made. A run without a finished trial is no error: its report says so.
pub fn render(run: &Run) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let comparison = Comparison::of(run);
    let checks = check_expectations(run);
    let charts = charts(run, &comparison)?;
    let mut files = vec![
        (
            "report.html".to_owned(),
            html::page(run, &comparison, &checks, &charts)?.into_bytes(),
        ),
        (
            "report.md".to_owned(),
            markdown::markdown(&comparison, &checks).into_bytes(),
        ),
        (
            "comparison.json".to_owned(),
            json(&comparison, &checks)?.into_bytes(),
        ),
        (
            "table.txt".to_owned(),
            table::full_text(&comparison, false).into_bytes(),
        ),
    ];
    let rasterizer = Rasterizer::new();
    for chart in charts {
        files.push((format!("charts/{}.png", chart.name), rasterizer.png(&chart.svg)?));
        files.push((format!("charts/{}.svg", chart.name), chart.svg.into_bytes()));
    }
    Ok(files)
}

/// The comparison as versioned JSON, with its answer and the thresholds.
///
/// # Errors
/// Only when the encoder itself fails.
pub fn json(comparison: &Comparison, checks: &[Check]) -> Result<String, ReportError> {
    let document = Document {
        comparison,
        answer: answer(comparison),
        expectations: checks,
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
