//! `latency.hlog`, …: HdrHistogram's own interval log, one per metric, that other tools read too.
//!
//! Histograms stand in V2 encoding, deflated, in base64. Values are nanoseconds; only the column of maxima, which
//! readers do not decode from, is in milliseconds as HdrHistogram's own log writer has it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use pushmark_measure::histogram::HIGHEST_NS;
use pushmark_measure::{Histogram, Metric};

use crate::error::ResultsError;
use crate::files::{Checker, FileCheck, GrowingFile, open_to_read};

/// The largest log that is read, in bytes: it is read line by line, so this bounds time rather than memory.
const LARGEST: u64 = 1 << 30;
/// The longest line that is read, in bytes: a histogram with every slot in use and large counts takes some 400 kB.
const LONGEST_LINE: u64 = 1 << 20;
/// The largest histogram before deflation, in bytes; what claims more was made to fill memory.
const LARGEST_HISTOGRAM: u64 = 1 << 20;
/// Slots of the widest histogram of three digits: (64 − 10) halves of 1,024, rounded up.
const MOST_SLOTS: u64 = 1 << 16;
/// Values of one log, at the most: beyond it HdrHistogram's sums could overflow.
const MOST_VALUES: u64 = 1 << 53;
/// Significant digits of every histogram.
const DIGITS: u8 = 3;

/// V2 encoding: cookies as HdrHistogram defines them (word size 1 in the second digit), header lengths in bytes.
const DEFLATED_COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];
const DEFLATED_HEADER: usize = 8;
const V2_COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x13];
const V2_HEADER: usize = 40;

/// The name of a metric's log.
pub(crate) fn file_name(metric: Metric) -> String {
    format!("{}.hlog", metric.name())
}

/// Writes the log of one metric.
pub(crate) struct HlogWriter {
    file: GrowingFile,
    path: PathBuf,
    serializer: V2DeflateSerializer,
}

impl HlogWriter {
    /// Creates the log of a trial that began at `start_unix_s` (seconds since the Unix epoch).
    pub(crate) fn create(path: &Path, metric: Metric, start_unix_s: f64) -> Result<Self, ResultsError> {
        let mut file = GrowingFile::create(path)?;
        // With BaseTime equal to StartTime, the timestamps of the lines are seconds since the trial began.
        let header = format!(
            "#[Histogram log format version 1.3]\n\
             #[Logged with pushmark: {}, unit: nanoseconds; Interval_Max in milliseconds]\n\
             #[StartTime: {start_unix_s:.3} (seconds since epoch)]\n\
             #[BaseTime: {start_unix_s:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
            metric.name()
        );
        file.write_all(header.as_bytes())
            .map_err(ResultsError::io("write", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            serializer: V2DeflateSerializer::new(),
        })
    }

    /// Writes one interval: its start since the trial began and its length, in seconds.
    pub(crate) fn write(
        &mut self,
        start_s: f64,
        length_s: f64,
        histogram: &Histogram,
    ) -> Result<(), ResultsError> {
        let mut bytes = Vec::new();
        self.serializer
            .serialize(histogram.hdr(), &mut bytes)
            .map_err(|e| ResultsError::Encode {
                path: self.path.clone(),
                what: e.to_string(),
            })?;
        let max_ms = histogram.max().unwrap_or(0) as f64 / 1e6;
        let line = format!(
            "{start_s:.3},{length_s:.3},{max_ms:.3},{}\n",
            STANDARD.encode(bytes)
        );
        self.file
            .write_all(line.as_bytes())
            .map_err(ResultsError::io("write", &self.path))
    }

    pub(crate) fn check(&self) -> FileCheck {
        self.file.check()
    }
}

/// A log as it was found.
pub(crate) struct HlogFile {
    /// All its intervals, merged.
    pub(crate) histogram: Histogram,
    pub(crate) check: FileCheck,
    /// The last line had no end and was left out.
    pub(crate) torn: bool,
}

/// Reads a log; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<HlogFile>, ResultsError> {
    let Some(file) = open_to_read(path, LARGEST)? else {
        return Ok(None);
    };
    let mut merged = Hdr::<u64>::new_with_bounds(1, HIGHEST_NS, DIGITS)
        .map_err(|e| ResultsError::damaged(path, None, e.to_string()))?;
    let mut reader = BufReader::new(file.take(LARGEST));
    let (mut checker, mut line, mut number, mut torn) = (Checker::default(), Vec::new(), 0, false);
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(LONGEST_LINE + 1)
            .read_until(b'\n', &mut line);
        if read.map_err(ResultsError::io("read", path))? == 0 {
            break;
        }
        number += 1;
        if line.len() as u64 > LONGEST_LINE {
            return Err(ResultsError::damaged(
                path,
                Some(number),
                format!("longer than {LONGEST_LINE} bytes"),
            ));
        }
        checker.update(&line);
        torn = !line.ends_with(b"\n");
        if !torn {
            add_line(&line, &mut merged).map_err(|what| ResultsError::damaged(path, Some(number), what))?;
        }
    }
    Ok(Some(HlogFile {
        histogram: Histogram::from_hdr(&merged),
        check: checker.check(),
        torn,
    }))
}

fn add_line(line: &[u8], merged: &mut Hdr<u64>) -> Result<(), String> {
    // One line at a time, so that an error has its number.
    match IntervalLogIterator::new(line).next() {
        None | Some(Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_))) => Ok(()),
        Some(Err(_)) => Err("not a line of an HdrHistogram interval log".to_owned()),
        Some(Ok(LogEntry::Interval(interval))) => {
            let histogram = decode(interval.encoded_histogram())?;
            if merged.len().saturating_add(histogram.len()) > MOST_VALUES {
                return Err("it counts more values than a run can have".to_owned());
            }
            merged.add(&histogram).map_err(|e| e.to_string())
        }
    }
}

/// Decodes one histogram. Checked here first: HdrHistogram's decoder trusts the lengths and counts it reads.
fn decode(encoded: &str) -> Result<Hdr<u64>, String> {
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|e| format!("the histogram is not base64: {e}"))?;
    let deflated = bytes
        .split_at_checked(DEFLATED_HEADER)
        .filter(|(header, rest)| {
            header[..4] == DEFLATED_COOKIE && header[4..] == (rest.len() as u32).to_be_bytes()
        })
        .map(|(_, rest)| rest)
        .ok_or("the histogram is not in deflated V2 encoding")?;
    let mut v2 = Vec::new();
    // Read to its end, so that the Adler-32 at the end is checked too.
    let mut inflater = ZlibDecoder::new(deflated).take(LARGEST_HISTOGRAM + 1);
    inflater
        .read_to_end(&mut v2)
        .map_err(|e| format!("the histogram does not inflate: {e}"))?;
    if v2.len() as u64 > LARGEST_HISTOGRAM {
        return Err(format!(
            "the histogram inflates to more than {LARGEST_HISTOGRAM} bytes"
        ));
    }
    let (header, counts) = v2
        .split_at_checked(V2_HEADER)
        .ok_or("the histogram has no V2 header")?;
    let is_ours = header[..4] == V2_COOKIE
        && header[4..8] == (counts.len() as u32).to_be_bytes()
        && header[12..16] == u32::from(DIGITS).to_be_bytes()
        && header[16..24] == 1u64.to_be_bytes();
    if !is_ours {
        return Err(format!(
            "the histogram's header is not one of {DIGITS} digits from 1 ns"
        ));
    }
    check_counts(counts)?;
    Deserializer::new()
        .deserialize(&mut v2.as_slice())
        .map_err(|e| e.to_string())
}

/// Walks the counts (LEB128, zig-zag; a negative one is a run of empty slots) without acting on any.
fn check_counts(mut counts: &[u8]) -> Result<(), &'static str> {
    let (mut slots, mut values) = (0u64, 0u64);
    while !counts.is_empty() {
        let (mut encoded, mut used) = (0u64, 0);
        loop {
            let byte = *counts.get(used).ok_or("the histogram ends within a count")?;
            // The ninth byte, if there is one, holds eight bits.
            let bits = if used == 8 { byte } else { byte & 0x7f };
            encoded |= u64::from(bits) << (7 * used);
            used += 1;
            if byte < 0x80 || used == 9 {
                break;
            }
        }
        counts = &counts[used..];
        let count = (encoded >> 1) as i64 ^ -((encoded & 1) as i64);
        slots = slots.saturating_add(if count < 0 { count.unsigned_abs() } else { 1 });
        values = values.saturating_add(u64::try_from(count).unwrap_or(0));
        if slots > MOST_SLOTS || values > MOST_VALUES {
            return Err("the histogram counts more than a run can have");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(histogram: &Histogram) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram.hdr(), &mut bytes)
            .unwrap();
        bytes
    }

    /// A histogram around this V2 text, well deflated and of the right lengths.
    fn forged(header: impl FnOnce(&mut [u8]), counts: &[u8]) -> String {
        let mut v2 = vec![0; V2_HEADER];
        v2[..4].copy_from_slice(&V2_COOKIE);
        v2[4..8].copy_from_slice(&(counts.len() as u32).to_be_bytes());
        v2[12..16].copy_from_slice(&3u32.to_be_bytes());
        v2[16..24].copy_from_slice(&1u64.to_be_bytes());
        v2[24..32].copy_from_slice(&HIGHEST_NS.to_be_bytes());
        v2[32..40].copy_from_slice(&1f64.to_be_bytes());
        header(&mut v2);
        v2.extend_from_slice(counts);
        let mut deflater = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflater.write_all(&v2).unwrap();
        let deflated = deflater.finish().unwrap();
        let mut all = DEFLATED_COOKIE.to_vec();
        all.extend_from_slice(&(deflated.len() as u32).to_be_bytes());
        all.extend_from_slice(&deflated);
        STANDARD.encode(all)
    }

    #[test]
    fn forged_histograms_are_refused_before_they_cost_anything() {
        assert_eq!(decode(&forged(|_| (), &[2])).unwrap().len(), 1);
        let run_of_min = [0xff; 9];
        let many = |n: usize| vec![0u8; n];
        let cases: Vec<(String, &str)> = vec![
            (
                forged(|h| h[4..8].copy_from_slice(&u32::MAX.to_be_bytes()), &[2]),
                "header",
            ),
            (
                forged(|h| h[12..16].copy_from_slice(&5u32.to_be_bytes()), &[2]),
                "header",
            ),
            (
                forged(|h| h[16..24].copy_from_slice(&0u64.to_be_bytes()), &[2]),
                "header",
            ),
            (
                forged(|h| h[24..32].copy_from_slice(&0u64.to_be_bytes()), &[2]),
                "parameters",
            ),
            (
                forged(|h| h[32..40].copy_from_slice(&2f64.to_be_bytes()), &[2]),
                "support",
            ),
            (forged(|_| (), &run_of_min), "more than a run"),
            (forged(|_| (), &[0xfe; 9]), "more than a run"),
            (forged(|_| (), &[0x80]), "within a count"),
            (forged(|_| (), &many(1 << 17)), "more than a run"),
            (forged(|_| (), &many(2 << 20)), "inflates to more"),
            (
                forged(|_| (), &[many(60_000), vec![2]].concat()),
                "longer than it should",
            ),
            ("%%".to_owned(), "base64"),
            (String::new(), "V2"),
            ("AAAA".to_owned(), "V2"),
        ];
        for (encoded, word) in cases {
            let error = decode(&encoded).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(values in proptest::collection::vec((0u64..70_000_000_000, 1u64..1_000_000), 0..50)) {
            let mut histogram = Histogram::new();
            for (value, count) in values {
                histogram.record_n(value.min(HIGHEST_NS), count);
            }
            let decoded = decode(&STANDARD.encode(encode(&histogram))).unwrap();
            prop_assert_eq!(Histogram::from_hdr(&decoded), histogram);
        }

        #[test]
        fn a_flipped_byte_is_found(at in any::<proptest::sample::Index>(), with in 1u8..=255) {
            let mut histogram = Histogram::new();
            (0..500u64).for_each(|v| histogram.record(v * v * 1_000));
            let mut bytes = encode(&histogram);
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            // Either an error, or a byte that does not matter: two bits of zlib's header say how hard it tried.
            if let Ok(decoded) = decode(&STANDARD.encode(bytes)) {
                prop_assert_eq!(Histogram::from_hdr(&decoded), histogram);
            }
        }

        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut merged = Hdr::<u64>::new_with_bounds(1, HIGHEST_NS, DIGITS).unwrap();
            let _ = add_line(&line, &mut merged);
            let _ = add_line(&[b"1.0,1.0,1.0,".as_slice(), &line, b"\n"].concat(), &mut merged);
        }
    }
}
