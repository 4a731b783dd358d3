//! History mode: one new session against earlier ones, for those who cannot run both builds side by side.
//!
//! Absolute numbers of different sessions differ with the machine of the day. So each session measures a frozen
//! reference server along with the build, and h = ln(metric / reference) is what is kept. A new h is held against the
//! earlier ones by a prediction test: could the next of them lie there?

use serde::{Deserialize, Serialize};

use super::difference::Kind;
use super::student;

/// Fewer earlier sessions than this say nothing.
pub const LEAST_SESSIONS: usize = 10;

/// What history says of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryStanding {
    /// Worse than the earlier sessions' spread explains, by more than the floor.
    Regression,
    /// Nothing of the kind.
    NotWorse,
    /// Too few sessions, or sessions without any spread.
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
    /// The smallest true change that is found with 95 %, on the scale of differences. What lies below it goes unseen.
    pub detectable: f64,
}

/// One side's value in relation to the reference's, plus is worse; as [`Kind::difference`].
///
/// # Errors
/// When there is no such ratio.
pub fn relation(kind: Kind, reference: f64, value: f64) -> Result<f64, super::NoDifference> {
    kind.difference(reference, value)
}

/// Holds `new` against `earlier` sessions since the last accepted change: one of `metrics` metrics whose false alarms
/// together stay within `alpha`. `floor` is the smallest excess that counts, on the scale of differences.
///
/// z = (x − mean)/(sd √(1 + 1/H)) follows t with H − 1 degrees of freedom when the sessions are alike and normal.
pub fn predict(earlier: &[f64], new: f64, floor: f64, alpha: f64, metrics: usize) -> Prediction {
    let sessions = earlier.len();
    let nothing = Prediction {
        standing: HistoryStanding::Inconclusive,
        sessions,
        mean: 0.0,
        sd: 0.0,
        z: 0.0,
        p: 1.0,
        detectable: f64::INFINITY,
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
    let spread = sd * (1.0 + 1.0 / count).sqrt();
    // What rounding leaves of equal numbers is no spread.
    if sessions < LEAST_SESSIONS || spread <= 1e-12 * (1.0 + mean.abs()) {
        return Prediction { mean, sd, ..nothing };
    }
    let each = alpha / metrics.max(1) as f64;
    let z = (new - mean) / spread;
    let p = (student::tail(z, df) * metrics.max(1) as f64).min(1.0);
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
        detectable: spread * (student::critical(each, df) + student::critical(0.05, df)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thirty sessions with a standard deviation of about 2 %, made by hand.
    fn sessions(count: usize) -> Vec<f64> {
        (0..count)
            .map(|i| 0.02 * [1.2, -0.4, 0.3, -1.3, 0.8, -0.9, 0.1, 1.4, -1.1, -0.1][i % 10])
            .collect()
    }

    #[test]
    fn ten_sessions_or_nothing() {
        for few in 0..LEAST_SESSIONS {
            let said = predict(&sessions(few), 5.0, 0.03, 0.01, 20);
            assert_eq!(said.standing, HistoryStanding::Inconclusive);
        }
        assert_eq!(
            predict(&sessions(10), 5.0, 0.03, 0.01, 20).standing,
            HistoryStanding::Regression
        );
        let same = predict(&[0.1; 20], 5.0, 0.03, 0.01, 20);
        assert_eq!(same.standing, HistoryStanding::Inconclusive, "no spread, no test");
        let nan = predict(&sessions(10), f64::NAN, 0.03, 0.01, 20);
        assert_eq!(nan.standing, HistoryStanding::Inconclusive);
    }

    #[test]
    fn what_it_says_it_detects_is_what_it_detects() {
        let earlier = sessions(30);
        let said = predict(&earlier, 0.0, 0.03, 0.01, 20);
        assert_eq!(said.standing, HistoryStanding::NotWorse);
        // The simulated figure for a spread of 1.5 % and thirty sessions is about 11 %.
        let scaled = said.detectable / said.sd * 0.015;
        assert!((0.07..0.12).contains(&scaled), "{scaled}");
        let beyond = predict(&earlier, said.mean + said.detectable, 0.03, 0.01, 20);
        assert_eq!(beyond.standing, HistoryStanding::Regression);
        assert!(beyond.p < 0.01);
        // Certain, but too small to matter.
        let small = predict(&earlier, said.mean + said.detectable, 0.5, 0.01, 20);
        assert_eq!(small.standing, HistoryStanding::NotWorse);
        // Better is no regression.
        assert_eq!(
            predict(&earlier, -1.0, 0.03, 0.01, 20).standing,
            HistoryStanding::NotWorse
        );
    }

    #[test]
    fn more_metrics_ask_for_more() {
        let earlier = sessions(20);
        let (one, many) = (
            predict(&earlier, 0.06, 0.0, 0.01, 1),
            predict(&earlier, 0.06, 0.0, 0.01, 100),
        );
        assert!((many.p - 100.0 * one.p).abs() < 1e-12);
        assert!(many.detectable > one.detectable);
    }

    #[test]
    fn false_alarms_keep_to_their_level() {
        // Normal sessions, one new one each: the share of alarms is the level.
        let mut random = super::super::random::Random::new(11);
        let gates = 4_000;
        let alarms = (0..gates)
            .filter(|_| {
                let earlier: Vec<f64> = (0..12).map(|_| random.normal()).collect();
                predict(&earlier, random.normal(), 0.0, 0.05, 1).standing == HistoryStanding::Regression
            })
            .count();
        let (low, high) = student::Share {
            hits: alarms as u64,
            of: gates,
        }
        .bounds(0.001);
        assert!(low < 0.05 && 0.05 < high, "{alarms}");
    }
}
