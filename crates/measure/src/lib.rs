//! What a measurement is: instants, schedules, samples, accounting, histograms, summaries and verdicts.
//!
//! Everything here is plain data and pure functions; the single exception is [`clock`], the only place in the
//! workspace that reads time. Words mean what METHODOLOGY.md says they mean.

pub mod books;
pub mod calibration;
pub mod clock;
pub mod event;
pub mod fault;
pub mod gate;
pub mod histogram;
pub mod interval;
pub mod negotiation;
pub mod recorder;
pub mod schedule;
pub mod stats;
pub mod summary;
pub mod tracker;
pub mod verdict;
pub mod wall;
pub mod wire;

pub use books::Books;
pub use calibration::Calibration;
pub use clock::Nanos;
pub use event::{ConnectionEvent, EventKind};
pub use fault::{Detection, FaultOutcome, Party, Recovery, SlowReading, Timeline};
pub use histogram::Histogram;
pub use interval::{Counters, Histograms, Interval, Metric, Phase};
pub use negotiation::Negotiation;
pub use recorder::{Recorder, Sample};
pub use schedule::{Pattern, Rate, Schedule, Slots};
pub use summary::{Compressed, Cost, TrialSummary};
pub use tracker::{Arrival, SequenceTracker};
pub use verdict::{Finding, Grade, Verdict};
pub use wire::Wire;
