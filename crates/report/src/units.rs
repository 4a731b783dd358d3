//! Numbers as people read them: one unit for a whole row, three significant digits, thousands apart.

use serde::Serialize;

/// What a number is, and therefore which units it may be shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// A time in nanoseconds, shown in ns, µs, ms or s.
    Nanoseconds,
    /// A cost in microseconds of CPU, always shown in µs.
    Microseconds,
    /// Bytes, shown in B, KiB, MiB or GiB.
    Bytes,
    /// Bytes of one message or one handshake, always shown in B: a few dozen make the difference.
    WireBytes,
    /// So many a second.
    PerSecond,
    /// How many times as much.
    Ratio,
    /// A plain count.
    Count,
}

/// A unit, and how much of the quantity's base unit one of it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// As printed: `ms`. Empty for a plain count.
    pub label: &'static str,
    /// Base units in one of these.
    pub size: f64,
}

const TIMES: [Unit; 4] = [unit("s", 1e9), unit("ms", 1e6), unit("µs", 1e3), unit("ns", 1.0)];
const SIZES: [Unit; 4] = [
    unit("GiB", 1_073_741_824.0),
    unit("MiB", 1_048_576.0),
    unit("KiB", 1024.0),
    unit("B", 1.0),
];

const fn unit(label: &'static str, size: f64) -> Unit {
    Unit { label, size }
}

impl Unit {
    /// The one unit in which all of `values` read well: the largest in which the smallest value that is not zero is
    /// at least a tenth (a whole one for seconds: nobody says 0.2 s for 200 ms).
    pub fn fitting(quantity: Quantity, values: impl IntoIterator<Item = f64>) -> Unit {
        Self::down_to(0.1, quantity, values)
    }

    /// Like [`Unit::fitting`], for rows that are read against one another: a hundredth will do, so that they keep one
    /// unit longer.
    pub fn fitting_together(quantity: Quantity, values: impl IntoIterator<Item = f64>) -> Unit {
        Self::down_to(0.01, quantity, values)
    }

    fn down_to(least: f64, quantity: Quantity, values: impl IntoIterator<Item = f64>) -> Unit {
        let smallest = values
            .into_iter()
            .filter(|v| v.is_finite() && *v > 0.0)
            .fold(f64::INFINITY, f64::min);
        let pick = |units: &[Unit; 4], usual: usize| {
            if smallest.is_infinite() {
                return units[usual];
            }
            let fits = |(at, u): &(usize, &Unit)| smallest >= if *at == 0 { u.size } else { u.size * least };
            units.iter().enumerate().find(fits).map_or(units[3], |(_, u)| *u)
        };
        match quantity {
            Quantity::Nanoseconds => pick(&TIMES, 1),
            Quantity::Bytes => pick(&SIZES, 2),
            Quantity::Microseconds => unit("µs", 1.0),
            Quantity::WireBytes => unit("B", 1.0),
            Quantity::PerSecond => unit("/s", 1.0),
            Quantity::Ratio => unit("×", 1.0),
            Quantity::Count => unit("", 1.0),
        }
    }

    /// `value` (in the base unit) in this unit, with three significant digits and without the unit's name.
    pub fn show(&self, value: f64) -> String {
        let number = three_digits(value / self.size);
        // Counts are whole, but for the middle of two.
        if self.label.is_empty() {
            return without_zeros(&number).to_owned();
        }
        number
    }
}

/// A value in a unit of its own choice: `3.10 ms`, `12,000/s`.
pub fn show_alone(quantity: Quantity, value: f64) -> String {
    let unit = Unit::fitting(quantity, [value]);
    with_unit(&unit.show(value), unit.label)
}

/// A number followed by its unit, with a space unless the unit starts with a slash.
pub fn with_unit(number: &str, unit: &str) -> String {
    match unit {
        "" => number.to_owned(),
        _ if unit.starts_with('/') => format!("{number}{unit}"),
        _ => format!("{number} {unit}"),
    }
}

/// A span in seconds without needless zeros: `5 s`, `0.5 s`.
pub fn seconds(s: f64) -> String {
    format!("{} s", without_zeros(&three_digits(s)))
}

/// A number as shown, without zeros behind the point that say nothing.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') && !number.contains('e') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

/// Three significant digits, thousands apart: `0.0123`, `4.50`, `41,200`.
pub fn three_digits(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "∞".to_owned()
        } else {
            "−∞".to_owned()
        };
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let Some(places) = decimals(value) else {
        return format!("{value:.2e}");
    };
    if places > 0 {
        return format!("{value:.places$}");
    }
    // Through the scientific form, so that digits past the third become zeros: 41,237 -> 41,200.
    let rounded = format!("{value:.2e}").parse().unwrap_or(value);
    group(&format!("{rounded:.0}"))
}

/// An exact count, thousands apart.
pub fn whole(count: u64) -> String {
    group(&count.to_string())
}

/// A share as a percentage with as many digits as tell it from zero and from all.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.01 {
        "under 0.01 %".to_owned()
    } else {
        format!("{} %", three_digits(percent))
    }
}

/// Decimal places that leave three significant digits; `None` where only the scientific form is readable.
fn decimals(value: f64) -> Option<usize> {
    if value == 0.0 {
        return Some(0);
    }
    let scientific = format!("{value:.2e}");
    let exponent: i32 = scientific.rsplit('e').next().and_then(|e| e.parse().ok())?;
    (-7..=15)
        .contains(&exponent)
        .then(|| usize::try_from(2 - exponent).unwrap_or(0))
}

/// Commas between thousands of the whole part.
fn group(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |d| ("−", d));
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (0.1, "0.100"),
            (1.005, "1.00"),
            (9.996, "10.0"),
            (99.96, "100"),
            (412.4, "412"),
            (999.9, "1,000"),
            (41_237.0, "41,200"),
            (1_234_567.0, "1,230,000"),
            (-5.0, "-5.00"),
            (1e20, "1.00e20"),
            (1e-12, "1.00e-12"),
            (f64::NAN, "–"),
            (f64::INFINITY, "∞"),
        ];
        for (value, expected) in cases {
            assert_eq!(three_digits(value), expected, "{value}");
        }
    }

    #[test]
    fn a_row_has_one_unit() {
        let cases: &[(Quantity, &[f64], &str, &[&str])] = &[
            (Quantity::Nanoseconds, &[3.1e6, 41.2e6], "ms", &["3.10", "41.2"]),
            (Quantity::Nanoseconds, &[0.12e6, 41.2e6], "ms", &["0.120", "41.2"]),
            (
                Quantity::Nanoseconds,
                &[0.05e6, 41.2e6],
                "µs",
                &["50.0", "41,200"],
            ),
            (Quantity::Nanoseconds, &[0.5e9], "ms", &["500"]),
            (Quantity::Nanoseconds, &[1.5e9, 12e9], "s", &["1.50", "12.0"]),
            (Quantity::Nanoseconds, &[40.0, 0.0], "ns", &["40.0", "0"]),
            (Quantity::Nanoseconds, &[], "ms", &[]),
            (Quantity::Nanoseconds, &[0.0], "ms", &["0"]),
            (Quantity::Bytes, &[7168.0, 138_240.0], "KiB", &["7.00", "135"]),
            (Quantity::Microseconds, &[0.4, 5000.0], "µs", &["0.400", "5,000"]),
            (Quantity::PerSecond, &[19_998.4], "/s", &["20,000"]),
        ];
        for (quantity, values, label, shown) in cases {
            let unit = Unit::fitting(*quantity, values.iter().copied());
            assert_eq!(unit.label, *label, "{values:?}");
            assert_eq!(values.iter().map(|v| unit.show(*v)).collect::<Vec<_>>(), *shown);
        }
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!(
            (whole(0), whole(999), whole(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (percent(0.5), percent(0.000_06), percent(0.0006)),
            ("50.0 %".into(), "under 0.01 %".into(), "0.0600 %".into())
        );
        assert_eq!(show_alone(Quantity::PerSecond, 12_000.0), "12,000/s");
        assert_eq!(show_alone(Quantity::Nanoseconds, 3.1e6), "3.10 ms");
    }
}
