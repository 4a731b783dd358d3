//! Reports: tables, charts, the page and thresholds. Pure functions of a run as it was read back, and of nothing else:
//! no clock, no environment, no file. The same run gives the same bytes.

pub mod answer;
pub mod charts;
pub mod comparison;
mod escape;
pub mod expectations;
pub mod files;
pub mod gate;
mod grid;
mod html;
pub mod markdown;
mod matrix;
mod plan_words;
pub mod table;
mod trials;
pub mod units;
mod words;

pub use answer::answer;
pub use charts::{Chart, Rasterizer, charts};
pub use comparison::Comparison;
pub use escape::visible;
pub use expectations::{Check, check_expectations};
pub use files::{ReportError, json, render};
pub use markdown::markdown;
