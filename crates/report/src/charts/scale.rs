//! Scales of axes: where a value lies, which ticks are drawn, how they are labelled.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::units::three_digits;

/// An axis: its range, its ticks and their labels.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
    minor: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Linear,
    Log,
    /// Quantiles, the tail drawn out: 0 %, 90 %, 99 %, 99.9 % are equally far apart.
    Tail,
}

/// The furthest quantile that the tail axis shows.
pub(super) const LAST_QUANTILE: f64 = 0.99999;

/// The least distance between labels above one another, in pixels.
const LINE: f64 = 17.0;

impl Scale {
    /// From zero to a little over the largest of `values`, in round steps.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>, label: impl Fn(f64) -> String) -> Self {
        let most = values
            .into_iter()
            .filter(|v| v.is_finite())
            .fold(0.0_f64, f64::max)
            .min(1e300);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_step(most / 4.5);
        let high = most * 1.06;
        let ticks = (0..=12)
            .map(|i| f64::from(i) * step)
            .filter(|v| *v <= high)
            .map(|v| (v, label(v)))
            .collect();
        Self {
            kind: Kind::Linear,
            low: 0.0,
            high,
            ticks,
            minor: Vec::new(),
        }
    }

    /// Exactly from `low` to `high` with ticks in round steps.
    pub(super) fn between(low: f64, high: f64, label: impl Fn(f64) -> String) -> Self {
        let (low, high) = (low.clamp(-1e300, 1e300), high.clamp(-1e300, 1e300));
        let high = if high > low { high } else { low + 1.0 };
        let step = round_step((high - low) / 8.0);
        let first = (low / step).ceil() * step;
        let ticks = (0..=20)
            .map(|i| first + f64::from(i) * step)
            .filter(|v| *v <= high)
            .map(|v| (v, label(v)))
            .collect();
        Self {
            kind: Kind::Linear,
            low,
            high,
            ticks,
            minor: Vec::new(),
        }
    }

    /// A range with these ticks alone.
    pub(super) fn named(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Self {
        Self {
            kind: Kind::Linear,
            low,
            high,
            ticks,
            minor: Vec::new(),
        }
    }

    /// Swept values, each a tick: logarithmic where they spread over more than a factor of five.
    pub(super) fn swept(ticks: Vec<(f64, String)>, room: f64) -> Self {
        let values = || ticks.iter().map(|(v, _)| *v);
        let (least, most) = (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        );
        let log = least > 0.0 && most / least > 5.0 && most.is_finite();
        let (kind, low, high) = if log {
            let pad = (most / least).powf(0.04);
            (Kind::Log, least / pad, most * pad)
        } else if least.is_finite() && most.is_finite() {
            let pad = ((most - least) * 0.05).max(most.abs() * 0.02).max(1e-9);
            (Kind::Linear, least - pad, most + pad)
        } else {
            (Kind::Linear, 0.0, 1.0)
        };
        let minor = values().collect();
        let scale = Self {
            kind,
            low,
            high,
            ticks,
            minor,
        };
        scale.thinned(room)
    }

    /// Without labels that would touch the one before, on an axis of `room` pixels across.
    pub(super) fn thinned(mut self, room: f64) -> Self {
        let mut free = f64::NEG_INFINITY;
        for (value, label) in std::mem::take(&mut self.ticks) {
            let (at, half) = (
                self.share(value) * room,
                super::text::width(&label, 11.5) / 2.0 + 5.0,
            );
            if at - half >= free {
                free = at + half;
                self.ticks.push((value, label));
            }
        }
        self
    }

    /// Logarithmic times in nanoseconds, between 1-2-5 steps that enclose all values above zero, on an axis of `room`
    /// pixels.
    pub(super) fn log_time(values: impl IntoIterator<Item = f64>, room: f64) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for v in values.into_iter().filter(|v| v.is_finite() && *v > 0.0) {
            (least, most) = (least.min(v), most.max(v));
        }
        if most == 0.0 {
            (least, most) = (1e5, 1e7);
        }
        let (low, high) = (round_down(least), round_up(most * 1.02));
        let high = if high > low { high } else { low * 10.0 };
        let decades = (high / low).log10();
        // Labels stand at least a line apart: 1, 2 and 5 of each decade where they fit, else its beginning alone.
        let decade = room / decades;
        let each: &[f64] = if decade * 2_f64.log10() >= LINE {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let every = (LINE / decade).ceil().max(1.0) as i32;
        let (mut ticks, mut minor) = (Vec::new(), Vec::new());
        let within = |v: f64| v >= low * 0.999 && v <= high * 1.001;
        for exponent in low.log10().floor() as i32..=high.log10().ceil() as i32 {
            let power = 10_f64.powi(exponent);
            if exponent % every == 0 {
                ticks.extend(
                    each.iter()
                        .map(|m| m * power)
                        .filter(|v| within(*v))
                        .map(|v| (v, time_label(v))),
                );
            }
            minor.extend((2..10).map(|m| f64::from(m) * power).filter(|v| within(*v)));
        }
        // An axis whose ends have no name is hard to read.
        for end in [low, high] {
            if ticks
                .iter()
                .all(|(v, _): &(f64, String)| (v / end).log10().abs() * decade >= LINE)
            {
                ticks.push((end, time_label(end)));
            }
        }
        Self {
            kind: Kind::Log,
            low,
            high,
            ticks,
            minor,
        }
    }

    /// Quantiles from 0 to `last`.
    pub(super) fn tail(last: f64) -> Self {
        let last = last.clamp(0.95, LAST_QUANTILE);
        let known = [
            (0.0, "0 %"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (LAST_QUANTILE, "99.999 %"),
        ];
        let ticks = known
            .iter()
            .filter(|(q, _)| *q <= last + 1e-9)
            .map(|(q, l)| (*q, (*l).to_owned()))
            .collect();
        let minor = vec![0.25, 0.75, 0.95, 0.995, 0.9995, 0.99995];
        Self {
            kind: Kind::Tail,
            low: 0.0,
            high: last,
            ticks,
            minor: minor.into_iter().filter(|q| *q < last).collect(),
        }
    }

    /// The label of a tick.
    pub(super) fn label(&self, value: f64) -> String {
        self.ticks
            .iter()
            .find(|(v, _)| *v == value)
            .map(|(_, l)| l.clone())
            .unwrap_or_default()
    }

    /// The widest label, in pixels at `size`.
    pub(super) fn widest_label(&self, size: f64) -> f64 {
        self.ticks
            .iter()
            .map(|(_, l)| super::text::width(l, size))
            .fold(0.0, f64::max)
    }

    /// How many ticks there are.
    pub(super) fn ticks(&self) -> usize {
        self.ticks.len()
    }

    /// The lower end.
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    /// The upper end.
    pub(super) fn high(&self) -> f64 {
        self.high
    }

    /// Where `value` lies between the ends, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |v: f64| match self.kind {
            Kind::Linear => v,
            Kind::Log => v.max(f64::MIN_POSITIVE).log10(),
            Kind::Tail => -(1.0 - v.clamp(0.0, 0.999_999_99)).log10(),
        };
        let (low, high) = (place(self.low), place(self.high));
        let share = (place(value) - low) / (high - low);
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (f64::from(limit.1 - limit.0) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.minor.clone()
        } else {
            self.ticks.iter().map(|(v, _)| *v).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// A time tick in the unit that leaves no zeros: `10 µs`, `1 ms`, `2 s`.
pub(super) fn time_label(ns: f64) -> String {
    let (unit, size) = match ns {
        v if v >= 0.999e9 => ("s", 1e9),
        v if v >= 0.999e6 => ("ms", 1e6),
        v if v >= 0.999e3 => ("µs", 1e3),
        _ => ("ns", 1.0),
    };
    format!("{} {unit}", plain_number(ns / size))
}

/// A tick's number without needless zeros: `0.5`, `20,000`.
pub(super) fn plain_number(value: f64) -> String {
    let text = three_digits((value * 1e9).round() / 1e9);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The step of 1, 2, 2.5 or 5 times a power of ten nearest above `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .iter()
        .map(|m| m * power)
        .find(|s| *s >= rough)
        .unwrap_or(10.0 * power)
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0]
        .iter()
        .map(|m| m * power)
        .find(|v| *v <= value)
        .unwrap_or(power)
}

fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|m| m * power)
        .find(|v| *v >= value)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, l)| l.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(labels(&Scale::log_time([1.2e6, 1.5e6], 300.0)), ["1 ms", "2 ms"]);
        assert_eq!(
            labels(&Scale::log_time([3e5, 4e7], 300.0)),
            [
                "200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms"
            ]
        );
        assert_eq!(
            labels(&Scale::log_time([3e3, 4e9], 300.0)),
            ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "2 µs", "5 s"]
        );
        assert_eq!(
            labels(&Scale::from_zero([20_000.0], plain_number)),
            ["0", "5,000", "10,000", "15,000", "20,000"]
        );
        assert_eq!(
            labels(&Scale::from_zero([0.0], plain_number)),
            ["0", "0.25", "0.5", "0.75", "1"]
        );
        assert_eq!(
            labels(&Scale::tail(0.9995)),
            ["0 %", "50 %", "90 %", "99 %", "99.9 %"]
        );
        assert!(labels(&Scale::log_time([0.0, f64::NAN], 300.0)).len() > 2);
    }

    #[test]
    fn the_tail_is_drawn_out_evenly() {
        let scale = Scale::tail(0.9999);
        let at = |q| scale.map(&q, (0, 4000));
        assert_eq!(
            [at(0.0), at(0.9), at(0.99), at(0.999), at(0.9999)],
            [0, 1000, 2000, 3000, 4000]
        );
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let ticks = |v: &[f64]| v.iter().map(|v| (*v, plain_number(*v))).collect::<Vec<_>>();
        assert_eq!(
            labels(&Scale::swept(ticks(&[100.0, 1000.0, 10_000.0]), 400.0)).len(),
            3
        );
        assert_eq!(
            labels(&Scale::swept(ticks(&[9000.0, 9100.0, 90_000.0]), 400.0)),
            ["9,000", "90,000"]
        );
    }
}
