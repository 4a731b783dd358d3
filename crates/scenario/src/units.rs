//! Units in the text of a scenario: durations, sizes, rates, counts. Pure functions from text to value.

use std::time::Duration;

use crate::plan::Rate;

/// Why a text is not the value that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// What is wrong, short enough to stand under the value.
    pub(crate) wrong: String,
    /// What to write instead.
    pub(crate) hint: String,
}

fn complain<T>(wrong: impl Into<String>, hint: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint {
        wrong: wrong.into(),
        hint: hint.into(),
    })
}

const DURATION_UNITS_NS: &[(&str, u128)] = &[
    ("ns", 1),
    ("µs", 1_000),
    ("us", 1_000), // of two names the last is the one shown
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const SIZE_UNITS_BYTES: &[(&str, u128)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const COUNT_SUFFIXES: &[(&str, u128)] = &[("", 1), ("k", 1_000), ("M", 1_000_000)];

const DURATION_HINT: &str = r#"a duration is a number and one of ns, us, ms, s, m, h: "500ms", "2s", "1m""#;
const SIZE_HINT: &str = r#"a size is a number and one of B, kB, MB, KiB, MiB: "200 B", "16 KiB""#;
const RATE_HINT: &str = r#"a rate is a count, a slash and a time: "10/s", "600/m", "1/500ms""#;
const COUNT_HINT: &str = r#"a count is a whole number: 5000, or "5k""#;

/// A decimal number without rounding: `digits` / 10^`scale`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    /// The number times `factor`, when that is a whole number that fits.
    fn times(self, factor: u128) -> Option<u128> {
        let divisor = 10_u128.checked_pow(self.scale)?;
        let product = self.digits.checked_mul(factor)?;
        product.is_multiple_of(divisor).then_some(product / divisor)
    }
}

/// Splits `1.5 KiB` into the number and its unit.
fn number_and_unit<'t>(text: &'t str, hint: &str) -> Result<(Decimal, &'t str), Complaint> {
    let text = text.trim();
    if text.is_empty() {
        return complain("empty", hint);
    }
    if text.starts_with(['-', '\u{2212}']) {
        return complain("negative", hint);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let dangling = number.contains('.') && (whole.is_empty() || fraction.is_empty());
    if number.is_empty() || dangling || fraction.contains('.') {
        return complain("not a number", hint);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}").parse::<u128>();
    match (digits, u32::try_from(fraction.len())) {
        (Ok(digits), Ok(scale)) => Ok((Decimal { digits, scale }, unit.trim())),
        _ => complain("too large", hint),
    }
}

fn factor(unit: &str, units: &[(&str, u128)]) -> Option<u128> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
}

/// `500ms`, `2s`, `1.5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, Complaint> {
    let (number, unit) = number_and_unit(text, DURATION_HINT)?;
    if unit.is_empty() {
        return complain("no unit", DURATION_HINT);
    }
    let Some(unit_ns) = factor(unit, DURATION_UNITS_NS) else {
        return complain("unknown unit", duration_unit_hint(unit));
    };
    match number.times(unit_ns).map(u64::try_from) {
        Some(Ok(ns)) => Ok(Duration::from_nanos(ns)),
        None if number.digits.checked_mul(unit_ns).is_some() => {
            complain("finer than a nanosecond", DURATION_HINT)
        }
        _ => complain("too large", DURATION_HINT),
    }
}

fn duration_unit_hint(unit: &str) -> String {
    let meant = match unit.to_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" | "h" => "h",
        "msec" | "millis" | "milliseconds" | "ms" => "ms",
        "usec" | "micros" | "microseconds" | "\u{3bc}s" | "us" => "us",
        "d" | "day" | "days" => return "days are written in hours: \"24h\"".to_owned(),
        _ => return DURATION_HINT.to_owned(),
    };
    format!("the unit is `{meant}`")
}

/// `200 B`, `16 KiB`, `10 kB`.
pub(crate) fn size_bytes(text: &str) -> Result<u64, Complaint> {
    let (number, unit) = number_and_unit(text, SIZE_HINT)?;
    if unit.is_empty() {
        return complain("no unit", SIZE_HINT);
    }
    let Some(unit_bytes) = factor(unit, SIZE_UNITS_BYTES) else {
        return match unit.to_lowercase().as_str() {
            "kb" | "k" => complain("unknown unit", "write kB for 1,000 bytes or KiB for 1,024"),
            "mb" | "m" => complain(
                "unknown unit",
                "write MB for 1,000,000 bytes or MiB for 1,048,576",
            ),
            "kib" => complain("unknown unit", "the unit is `KiB`"),
            "mib" => complain("unknown unit", "the unit is `MiB`"),
            "b" | "byte" | "bytes" => complain("unknown unit", "the unit is `B`, for bytes"),
            _ => complain("unknown unit", SIZE_HINT),
        };
    };
    match number.times(unit_bytes).map(u64::try_from) {
        Some(Ok(bytes)) => Ok(bytes),
        None if number.digits.checked_mul(unit_bytes).is_some() => {
            complain("not a whole number of bytes", SIZE_HINT)
        }
        _ => complain("too large", SIZE_HINT),
    }
}

/// `5000`, `10k`, `1.5M`.
pub(crate) fn count(text: &str) -> Result<u64, Complaint> {
    let (number, suffix) = number_and_unit(text, COUNT_HINT)?;
    let Some(factor) = factor(suffix, COUNT_SUFFIXES) else {
        return complain("unknown suffix", "a count may end in k (thousand) or M (million)");
    };
    match number.times(factor).map(u64::try_from) {
        Some(Ok(count)) => Ok(count),
        None if number.digits.checked_mul(factor).is_some() => complain("not a whole number", COUNT_HINT),
        _ => complain("too large", COUNT_HINT),
    }
}

/// `10/s`, `1/10s`, `600/m`, `0.5/s`.
pub(crate) fn rate(text: &str) -> Result<Rate, Complaint> {
    let Some((many, time)) = text.split_once('/') else {
        return match number_and_unit(text, RATE_HINT) {
            Ok(_) => complain("no `/`: in how long?", RATE_HINT),
            Err(complaint) => Err(complaint),
        };
    };
    let (many, suffix) = number_and_unit(many, RATE_HINT)?;
    let Some(factor) = factor(suffix, COUNT_SUFFIXES) else {
        return complain("unknown suffix", "a count may end in k (thousand) or M (million)");
    };
    let time = time.trim();
    let per = match time.starts_with(|c: char| c.is_alphabetic()) {
        true => duration(&format!("1{time}"))?, // "/s" is "/1s"
        false => duration(time)?,
    };
    // A fraction of a message makes no sense, but half a message a second is one in two seconds.
    let stretch = 10_u32.checked_pow(many.scale);
    let count = many
        .digits
        .checked_mul(factor)
        .and_then(|count| u64::try_from(count).ok());
    let (Some(count), Some(per)) = (count, stretch.and_then(|stretch| per.checked_mul(stretch))) else {
        return complain("too large", RATE_HINT);
    };
    if count == 0 {
        return complain("zero", "a rate is more than zero");
    }
    if per.is_zero() {
        return complain("no time", RATE_HINT);
    }
    Ok(Rate { count, per })
}

/// A duration as an author would write it: `90s`, `1.5ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    // The largest unit that needs no fraction; every duration is a whole number of nanoseconds.
    let (unit, unit_ns) = DURATION_UNITS_NS
        .iter()
        .rev()
        .find(|(_, unit_ns)| ns.is_multiple_of(*unit_ns))
        .copied()
        .unwrap_or(("ns", 1));
    format!("{}{unit}", ns / unit_ns)
}

/// A count with its thousands grouped: `1,000,000`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("1ns", 1),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("500ms", 500_000_000),
            ("2s", 2_000_000_000),
            ("1.5s", 1_500_000_000),
            (" 2 s ", 2_000_000_000),
            ("0.25ms", 250_000),
            ("1m", 60_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0s", 0),
            ("1.000000000000s", 1_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("200 B", 200),
            ("200B", 200),
            ("16 KiB", 16_384),
            ("1 MiB", 1_048_576),
            ("10 kB", 10_000),
            ("1.5 KiB", 1_536),
            ("1 GB", 1_000_000_000),
        ] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, count, per_ms) in [
            ("10/s", 10, 1_000),
            ("1/10s", 1, 10_000),
            ("600/m", 600, 60_000),
            ("1/500ms", 1, 500),
            ("10k/s", 10_000, 1_000),
            ("0.5/s", 5, 10_000),
            ("2.50/s", 25, 10_000),
            (" 10 / s ", 10, 1_000),
        ] {
            assert_eq!(
                rate(text),
                Ok(Rate {
                    count,
                    per: Duration::from_millis(per_ms)
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn counts() {
        for (text, value) in [("0", 0), ("5000", 5_000), ("10k", 10_000), ("1.5M", 1_500_000)] {
            assert_eq!(count(text), Ok(value), "{text}");
        }
    }

    fn wrong<T: std::fmt::Debug>(parse: fn(&str) -> Result<T, Complaint>, text: &str) -> String {
        let complaint = parse(text).expect_err(text);
        assert!(!complaint.hint.is_empty(), "{text}");
        complaint.wrong
    }

    #[test]
    fn what_is_not_a_duration() {
        for (text, expected) in [
            ("", "empty"),
            ("2", "no unit"),
            ("-2s", "negative"),
            ("NaN", "not a number"),
            ("inf", "not a number"),
            ("1e3s", "unknown unit"),
            ("2 sec", "unknown unit"),
            ("2S", "unknown unit"),
            ("1.s", "not a number"),
            (".5s", "not a number"),
            ("1.2.3s", "not a number"),
            ("0.1ns", "finer than a nanosecond"),
            ("99999999999h", "too large"),
            ("999999999999999999999999999999999999999999s", "too large"),
        ] {
            assert_eq!(wrong(duration, text), expected, "{text}");
        }
        assert_eq!(duration("2 minutes").expect_err("unit").hint, "the unit is `m`");
    }

    #[test]
    fn what_is_not_a_size_a_rate_a_count() {
        for (text, expected) in [
            ("200", "no unit"),
            ("1 KB", "unknown unit"),
            ("1.0001 kB", "not a whole number of bytes"),
            ("-1 B", "negative"),
            ("99999999999999999999 GB", "too large"),
        ] {
            assert_eq!(wrong(size_bytes, text), expected, "{text}");
        }
        for (text, expected) in [
            ("10", "no `/`: in how long?"),
            ("10 per s", "no `/`: in how long?"),
            ("0/s", "zero"),
            ("10/0s", "no time"),
            ("10/", "empty"),
            ("10/5", "no unit"),
            ("/s", "empty"),
            ("-1/s", "negative"),
            ("10x/s", "unknown suffix"),
            ("99999999999999999999M/s", "too large"),
            ("0.00000000000001/s", "too large"),
        ] {
            assert_eq!(wrong(rate, text), expected, "{text}");
        }
        for (text, expected) in [
            ("1.5", "not a whole number"),
            ("10K", "unknown suffix"),
            ("∞", "not a number"),
        ] {
            assert_eq!(wrong(count, text), expected, "{text}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["1ns", "1500us", "500ms", "90s", "2m", "24h", "0s"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(show_count(value), text);
        }
    }
}
