//! The regression gate's statistics: from the numbers of two arms to a verdict, as pure functions.
//!
//! A gate runs blocks. In each, both servers start afresh, a recorded coin gives one of them the first place, and the
//! load alternates between them, so that what the machine does hits both alike. The block is the only replicate:
//! messages, seconds and windows of one start have one fate.
//!
//! [`difference`] makes one number of each metric in each block, [`maxt`] tests all of them together, [`signed_rank`]
//! says how large the difference is and how large it can be at most, and [`mod@judge`] holds both against the metric's
//! limits at the looks of a [`plan`]. [`mod@validity`] and [`sampling`] say beforehand what may be judged. [`history`] and
//! [`creep`] are for those who have only earlier sessions. [`simulate`] shows how often all of it is wrong.
//!
//! Same data, same verdict, to the last bit and on every machine: [`exact`] has the arithmetic for it, and randomness
//! is drawn from a hash of the data.

pub mod creep;
pub mod difference;
pub mod evidence;
pub mod exact;
pub mod history;
pub mod judge;
pub mod maxt;
pub mod plan;
pub mod random;
pub mod sampling;
pub mod signed_rank;
pub mod simulate;
mod stand_in;
pub mod student;
mod trouble;
pub mod validity;

pub use creep::{ChangePoint, Creep, change_points};
pub use difference::{Kind, Metric, NoDifference, Role, Row, Table, TableError};
pub use evidence::{Block, Course, Figures, Found, Promises, Side};
pub use history::{
    HistoryJudgement, HistoryReading, HistoryStanding, Prediction, Series, judge_session, predict,
};
pub use judge::{JudgeError, Judgement, Outcome, Reading, Standing, judge};
pub use plan::{Look, Plan, PlanError, candidate_first};
pub use sampling::{Sampling, median_of_seconds, quantile_rule};
pub use signed_rank::Estimate;
pub use student::Share;
pub use validity::{Machine, SensorLimits, Sensors, Validity, validity};
