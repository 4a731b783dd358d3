//! History mode: one new session against earlier ones, for those who cannot run both builds side by side.
//!
//! Absolute numbers of different sessions differ with the machine of the day. So each session measures a frozen
//! reference server along with the build, and h = ln(metric / reference) is what is kept. A new h is held against the
//! earlier ones by a prediction test: could the next of them lie there?

use serde::{Deserialize, Serialize};

use super::difference::{Metric, Role};
use super::judge::Outcome;
use super::student;

/// Fewer earlier sessions than this say nothing.
pub const LEAST_SESSIONS: usize = 10;
/// The spread of sessions is never taken for less than this part of the floor: a handful of sessions can look calmer than
/// they are, and a count that never varied has no spread at all. A wider spread only makes alarms rarer.
const LEAST_SPREAD: f64 = 0.25;

/// What history says of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryStanding {
    /// Worse than the earlier sessions' spread explains, by more than the floor.
    Regression,
    /// Nothing of the kind.
    NotWorse,
    /// Too few sessions, or neither a spread nor a floor.
    Inconclusive,
}

/// A metric of a new session against history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The verdict.
    pub standing: HistoryStanding,
    /// Earlier sessions.
    pub sessions: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub sd: f64,
    /// How far above the mean the new session lies, in the spread of a prediction.
    pub z: f64,
    /// Chance of such a z when nothing changed, times the number of metrics (Bonferroni), at most 1.
    pub p: f64,
    /// Bounds of the change, each missed with the chance that was asked for.
    pub lower: Option<f64>,
    /// The upper one: a larger change is ruled out.
    pub upper: Option<f64>,
    /// The smallest true change that is found with 95 %, on the scale of differences. What lies below it goes unseen.
    pub detectable: Option<f64>,
}

/// Holds `new` against `earlier` sessions since the last accepted change: one of `metrics` metrics whose false alarms
/// together stay within `alpha`. `floor` is the smallest excess that counts, on the scale of differences; `miss` the chance
/// that a bound is missed.
///
/// z = (x − mean)/(sd √(1 + 1/H)) follows t with H − 1 degrees of freedom when the sessions are alike and normal.
pub fn predict(
    earlier: &[f64],
    new: f64,
    floor: f64,
    (alpha, miss): (f64, f64),
    metrics: usize,
) -> Prediction {
    let sessions = earlier.len();
    let nothing = Prediction {
        standing: HistoryStanding::Inconclusive,
        sessions,
        mean: 0.0,
        sd: 0.0,
        z: 0.0,
        p: 1.0,
        lower: None,
        upper: None,
        detectable: None,
    };
    let finite = earlier.iter().chain([&new]).all(|h| h.is_finite());
    let Some(df) = u32::try_from(sessions).ok().and_then(|h| h.checked_sub(1)) else {
        return nothing;
    };
    if df == 0 || !finite {
        return nothing;
    }
    let count = sessions as f64;
    let mean = earlier.iter().sum::<f64>() / count;
    let sd = (earlier.iter().map(|h| (h - mean) * (h - mean)).sum::<f64>() / f64::from(df)).sqrt();
    let spread = sd.max(LEAST_SPREAD * floor) * (1.0 + 1.0 / count).sqrt();
    // What rounding leaves of equal numbers is no spread.
    if sessions < LEAST_SESSIONS || spread <= 1e-12 * (1.0 + mean.abs()) {
        return Prediction { mean, sd, ..nothing };
    }
    let each = alpha / metrics.max(1) as f64;
    let z = (new - mean) / spread;
    let p = (student::tail(z, df) * metrics.max(1) as f64).min(1.0);
    let bound = spread * student::critical(miss, df);
    let standing = if p <= alpha && new - mean >= floor {
        HistoryStanding::Regression
    } else {
        HistoryStanding::NotWorse
    };
    Prediction {
        standing,
        sessions,
        mean,
        sd,
        z,
        p,
        lower: Some(new - mean - bound),
        upper: Some(new - mean + bound),
        detectable: Some(spread * (student::critical(each, df) + student::critical(0.05, df))),
    }
}

/// One metric: its earlier sessions, and the new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Which metric, with its limits.
    pub metric: Metric,
    /// The sessions since the last accepted change, without those that were called worse.
    pub earlier: Vec<f64>,
    /// The new one.
    pub new: f64,
}

/// What history says of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryReading {
    /// Which metric, with its limits.
    pub metric: Metric,
    /// The new session's.
    pub new: f64,
    /// What the earlier ones say of it.
    pub prediction: Prediction,
    /// Whether the upper bound lies under the budget.
    pub proven: bool,
}

/// What history says of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryJudgement {
    /// Regression, pass or inconclusive.
    pub outcome: Outcome,
    /// Every metric.
    pub readings: Vec<HistoryReading>,
}

/// Judges a session: a regression by any metric that decides, a pass when every required one is proven, and inconclusive
/// otherwise. Metrics that decide nothing are a family of their own.
pub fn judge_session(series: &[Series], alpha: f64, miss: f64) -> HistoryJudgement {
    let advisory = |m: &Metric| m.role == Role::Advisory;
    let family = |told: bool| series.iter().filter(|s| advisory(&s.metric) == told).count();
    let readings: Vec<HistoryReading> = series
        .iter()
        .map(|s| {
            let m = &s.metric;
            let limits = (m.kind.limit(m.floor), m.kind.limit(m.budget));
            let prediction = predict(&s.earlier, s.new, limits.0, (alpha, miss), family(advisory(m)));
            HistoryReading {
                metric: m.clone(),
                new: s.new,
                prediction,
                proven: prediction.upper.is_some_and(|upper| upper < limits.1),
            }
        })
        .collect();
    let worse =
        |r: &HistoryReading| !advisory(&r.metric) && r.prediction.standing == HistoryStanding::Regression;
    let mut required = readings
        .iter()
        .filter(|r| r.metric.role == Role::Required)
        .peekable();
    let outcome = if readings.iter().any(worse) {
        Outcome::Regression
    } else if required.peek().is_some() && required.all(|r| r.proven) {
        Outcome::Pass
    } else {
        Outcome::Inconclusive
    };
    HistoryJudgement { outcome, readings }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of false alarms, and of missed bounds.
    const LEVELS: (f64, f64) = (0.01, 0.05);

    /// Thirty sessions with a standard deviation of about 2 %, made by hand.
    fn sessions(count: usize) -> Vec<f64> {
        (0..count)
            .map(|i| 0.02 * [1.2, -0.4, 0.3, -1.3, 0.8, -0.9, 0.1, 1.4, -1.1, -0.1][i % 10])
            .collect()
    }

    #[test]
    fn ten_sessions_or_nothing() {
        for few in 0..LEAST_SESSIONS {
            let said = predict(&sessions(few), 5.0, 0.03, LEVELS, 20);
            assert_eq!(said.standing, HistoryStanding::Inconclusive);
        }
        assert_eq!(
            predict(&sessions(10), 5.0, 0.03, LEVELS, 20).standing,
            HistoryStanding::Regression
        );
        let same = predict(&[0.1; 20], 5.0, 0.0, LEVELS, 20);
        assert_eq!(
            same.standing,
            HistoryStanding::Inconclusive,
            "no spread and no floor, no test"
        );
        let nan = predict(&sessions(10), f64::NAN, 0.03, LEVELS, 20);
        assert_eq!(nan.standing, HistoryStanding::Inconclusive);
    }

    #[test]
    fn what_it_says_it_detects_is_what_it_detects() {
        let earlier = sessions(30);
        let said = predict(&earlier, 0.0, 0.03, LEVELS, 20);
        assert_eq!(said.standing, HistoryStanding::NotWorse);
        // The simulated figure for a spread of 1.5 % and thirty sessions is about 11 %.
        let scaled = said.detectable.unwrap() / said.sd * 0.015;
        assert!((0.07..0.12).contains(&scaled), "{scaled}");
        let beyond = predict(&earlier, said.mean + said.detectable.unwrap(), 0.03, LEVELS, 20);
        assert_eq!(beyond.standing, HistoryStanding::Regression);
        assert!(beyond.p < 0.01);
        // Certain, but too small to matter.
        let small = predict(&earlier, said.mean + said.detectable.unwrap(), 0.5, LEVELS, 20);
        assert_eq!(small.standing, HistoryStanding::NotWorse);
        // Better is no regression.
        assert_eq!(
            predict(&earlier, -1.0, 0.03, LEVELS, 20).standing,
            HistoryStanding::NotWorse
        );
    }

    #[test]
    fn more_metrics_ask_for_more() {
        let earlier = sessions(20);
        let (one, many) = (
            predict(&earlier, 0.06, 0.0, LEVELS, 1),
            predict(&earlier, 0.06, 0.0, LEVELS, 100),
        );
        assert!((many.p - 100.0 * one.p).abs() < 1e-12);
        assert!(many.detectable.unwrap() > one.detectable.unwrap());
    }

    #[test]
    fn false_alarms_keep_to_their_level() {
        // Normal sessions, one new one each: the share of alarms is the level.
        let mut random = super::super::random::Random::new(11);
        let gates = 4_000;
        let alarms = (0..gates)
            .filter(|_| {
                let earlier: Vec<f64> = (0..12).map(|_| random.normal()).collect();
                predict(&earlier, random.normal(), 0.0, (0.05, 0.05), 1).standing
                    == HistoryStanding::Regression
            })
            .count();
        let (low, high) = student::Share {
            hits: alarms as u64,
            of: gates,
        }
        .bounds(0.001);
        assert!(low < 0.05 && 0.05 < high, "{alarms}");
    }

    #[test]
    fn what_never_varied_is_held_against_its_floor() {
        let never = |new| predict(&[0.0; 12], new, 0.03, LEVELS, 9);
        assert_eq!(never(0.0).standing, HistoryStanding::NotWorse);
        assert!(never(0.0).upper.unwrap() < 0.02);
        assert_eq!(never(0.03).standing, HistoryStanding::NotWorse);
        assert_eq!(never(0.05).standing, HistoryStanding::Regression);
    }

    fn series(metric: Metric, new: f64, count: usize) -> Series {
        let earlier = sessions(count).iter().map(|h| h / 4.0).collect();
        Series { metric, earlier, new }
    }

    #[test]
    fn a_session_passes_by_proof_and_fails_by_what_decides() {
        let judged = |cpu: f64, tail: f64, count| {
            let all = [
                series(Metric::resource("feed", "cpu"), cpu, count),
                series(Metric::latency("feed", "p999", 0.999), tail, count),
            ];
            judge_session(&all, 0.01, 0.05)
        };
        assert_eq!(judged(0.0, 0.0, 12).outcome, Outcome::Pass);
        // Surely worse, but a metric that decides nothing.
        assert_eq!(judged(0.0, 1.0, 12).outcome, Outcome::Pass);
        let worse = judged(0.2, 0.0, 12);
        assert_eq!(worse.outcome, Outcome::Regression);
        assert_eq!(worse.readings[0].prediction.standing, HistoryStanding::Regression);
        assert_eq!(
            judged(0.2, 0.0, 9).outcome,
            Outcome::Inconclusive,
            "nine sessions say nothing"
        );
        assert_eq!(judge_session(&[], 0.01, 0.05).outcome, Outcome::Inconclusive);
        // Neither surely worse nor proven.
        assert!(!judged(0.045, 0.0, 12).readings[0].proven);
    }
}
