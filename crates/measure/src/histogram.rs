//! Latency histogram: HdrHistogram with three significant digits from 1 ns to 60 s, plus what fell outside.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

/// The largest value that is kept apart, in nanoseconds; larger ones are clamped to it and counted.
pub const HIGHEST_NS: u64 = 60_000_000_000;

/// A histogram of nanoseconds. Values above [`HIGHEST_NS`] are recorded as [`HIGHEST_NS`] and counted in
/// [`Histogram::out_of_range`], so that none is ever left out of the count.
#[derive(Clone)]
pub struct Histogram {
    inner: hdrhistogram::Histogram<u64>,
    out_of_range: u64,
}

/// The bytes do not hold a histogram in HdrHistogram's V2 encoding.
#[derive(Debug, thiserror::Error)]
#[error("not a histogram in HdrHistogram V2 encoding: {0}")]
pub struct DecodeError(String);

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram.
    #[allow(
        clippy::expect_used,
        reason = "constant bounds that HdrHistogram accepts: 1 ≤ low, 2·low ≤ high, digits ≤ 5"
    )]
    pub fn new() -> Self {
        let inner =
            hdrhistogram::Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("constant bounds are valid");
        Self {
            inner,
            out_of_range: 0,
        }
    }

    /// Records one value in nanoseconds.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.record_n(value_ns, 1);
    }

    /// Records one value, `count` times.
    #[inline]
    pub fn record_n(&mut self, value_ns: u64, count: u64) {
        if value_ns > HIGHEST_NS {
            self.out_of_range += count;
        }
        self.inner.saturating_record_n(value_ns.min(HIGHEST_NS), count);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        // Same bounds on both sides, so `add` cannot fail; were it ever to, the values are re-recorded one by one.
        if self.inner.add(&other.inner).is_err() {
            for step in other.inner.iter_recorded() {
                self.inner
                    .saturating_record_n(step.value_iterated_to(), step.count_at_value());
            }
        }
        self.out_of_range = self.out_of_range.saturating_add(other.out_of_range);
    }

    /// Empties the histogram, keeping its memory.
    pub fn clear(&mut self) {
        self.inner.reset();
        self.out_of_range = 0;
    }

    /// How many values were recorded, those out of range included.
    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// How many values lay above [`HIGHEST_NS`].
    pub fn out_of_range(&self) -> u64 {
        self.out_of_range
    }

    /// The value at quantile `q` in `0.0..=1.0`, in nanoseconds (highest equivalent value, as HdrHistogram
    /// defines it); `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        (!self.is_empty()).then(|| self.inner.value_at_quantile(q))
    }

    /// The largest value recorded, in nanoseconds; `None` when empty.
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.inner.max())
    }

    /// The smallest value recorded, in nanoseconds; `None` when empty.
    pub fn min(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.inner.min())
    }

    /// The mean, in nanoseconds; `None` when empty.
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.inner.mean())
    }

    /// How many values are at most `value_ns` (within the histogram's three digits).
    pub fn count_at_most(&self, value_ns: u64) -> u64 {
        self.inner.count_between(0, value_ns.min(HIGHEST_NS))
    }

    /// The histogram itself, for HdrHistogram's own log format.
    pub fn hdr(&self) -> &hdrhistogram::Histogram<u64> {
        &self.inner
    }

    /// A histogram from one that was read from HdrHistogram's own log format. Counts of clamped values are not part
    /// of that format and start at zero.
    pub fn from_hdr(other: &hdrhistogram::Histogram<u64>) -> Self {
        let mut own = Self::new();
        for step in other.iter_recorded() {
            own.inner
                .saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
        own
    }

    /// HdrHistogram V2 bytes in base64, for messages between processes. `None` only if the encoder itself fails.
    pub fn to_base64(&self) -> Option<String> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.inner, &mut bytes).ok()?;
        Some(STANDARD.encode(bytes))
    }

    /// The inverse of [`Histogram::to_base64`].
    ///
    /// # Errors
    /// When the text is not base64 or the bytes are not HdrHistogram V2.
    pub fn from_base64(text: &str) -> Result<Self, DecodeError> {
        let bytes = STANDARD.decode(text).map_err(|e| DecodeError(e.to_string()))?;
        let inner: hdrhistogram::Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|e| DecodeError(e.to_string()))?;
        if inner.high() != HIGHEST_NS || inner.sigfig() != 3 {
            return Ok(Self::from_hdr(&inner));
        }
        Ok(Self {
            inner,
            out_of_range: 0,
        })
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = |q| self.quantile(q).unwrap_or(0);
        write!(
            f,
            "Histogram {{ count: {}, p50: {}, p99: {}, max: {} }}",
            self.count(),
            p(0.5),
            p(0.99),
            p(1.0)
        )
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.out_of_range == other.out_of_range
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v2: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    out_of_range: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let v2 = if self.is_empty() {
            String::new()
        } else {
            self.to_base64()
                .ok_or_else(|| serde::ser::Error::custom("histogram could not be encoded"))?
        };
        Wire {
            v2,
            out_of_range: self.out_of_range,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut histogram = if wire.v2.is_empty() {
            Self::new()
        } else {
            Self::from_base64(&wire.v2).map_err(serde::de::Error::custom)?
        };
        histogram.out_of_range = wire.out_of_range;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_parts_equal_the_whole() {
        let (mut a, mut b, mut whole) = (Histogram::new(), Histogram::new(), Histogram::new());
        for i in 0..10_000u64 {
            let v = i * i;
            if i % 3 == 0 { &mut a } else { &mut b }.record(v);
            whole.record(v);
        }
        a.merge(&b);
        assert_eq!(a, whole);
        assert_eq!(whole.count(), 10_000);
    }

    #[test]
    fn a_value_out_of_range_is_counted_and_kept() {
        let mut h = Histogram::new();
        h.record(HIGHEST_NS + 1);
        h.record(u64::MAX);
        h.record(5);
        assert_eq!((h.count(), h.out_of_range()), (3, 2));
    }

    #[test]
    fn survives_the_wire() {
        let mut h = Histogram::new();
        assert_eq!(Histogram::from_base64(&h.to_base64().unwrap()).unwrap(), h);
        for v in [1, 2, 1_000, 1_234_567, 59_999_999_999] {
            h.record_n(v, v % 7 + 1);
        }
        assert_eq!(Histogram::from_base64(&h.to_base64().unwrap()).unwrap(), h);
        assert!(Histogram::from_base64("%%").is_err());
        assert!(Histogram::from_base64("AAAA").is_err());
    }

    #[test]
    fn empty_has_no_quantiles() {
        let h = Histogram::new();
        assert_eq!(
            (h.quantile(0.5), h.max(), h.min(), h.mean()),
            (None, None, None, None)
        );
    }
}
