//! Single values: from what the author gave to a checked value, or a problem with its place.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_spanned::Spanned;

use crate::diagnose::{Origins, Problem, quoted};
use crate::plan::Rate;
use crate::raw::{Field, Given};
use crate::suggest::closest;
use crate::units::{self, Complaint, show_count, show_duration};

/// No single step of a trial is longer.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Faster than this no schedule is kept, and slower than one in `LONGEST` no trial is.
const FASTEST_PER_SECOND: f64 = 10e6;

/// A sweep of more points is a typing error.
pub(super) const MOST_POINTS: usize = 200;

/// The problems found so far. Every check adds what it finds and goes on.
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    /// Where something missing from the file is missed.
    pub(super) end_of_file: Range<usize>,
    /// Something in the file did not fit, so what seems to be missing may only be misspelt.
    has_misfits: bool,
}

/// The values of a key that may be swept.
#[derive(Debug)]
pub(super) struct Swept<T> {
    pub(super) values: Vec<T>,
    /// The place of the list, if a list was given.
    pub(super) list: Option<Range<usize>>,
}

impl<T> Swept<T> {
    pub(super) fn one(value: T) -> Self {
        Swept {
            values: vec![value],
            list: None,
        }
    }
}

impl Findings {
    pub(super) fn new(misfits: Vec<Problem>, origins: &Origins) -> Self {
        let has_misfits = !misfits.is_empty();
        Findings {
            problems: misfits,
            end_of_file: origins.end_of_file(),
            has_misfits,
        }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A section or a key that has to be there.
    pub(super) fn missing(&mut self, section: Option<Range<usize>>, what: &str, example: &str) {
        if self.has_misfits {
            return;
        }
        let place = section.unwrap_or_else(|| self.end_of_file.clone());
        self.add(Problem::at(place, format!("{what} is missing"), "missing").hint(format!("add {example}")));
    }

    fn unlike(&mut self, value: &Spanned<Given>, key: &str, kind: &str, example: &str) {
        let message = format!("`{key}` is not {kind}");
        self.add(
            Problem::at(value.span(), message, describe(value.get_ref())).hint(format!("write {example}")),
        );
    }

    /// A text.
    pub(super) fn text<'v>(
        &mut self,
        value: &'v Spanned<Given>,
        key: &str,
        kind: &str,
        example: &str,
    ) -> Option<&'v str> {
        match value.get_ref() {
            Given::Text(text) => Some(text),
            _ => {
                self.unlike(value, key, kind, example);
                None
            }
        }
    }

    pub(super) fn parsed<T>(
        &mut self,
        value: &Spanned<Given>,
        key: &str,
        kind: &str,
        parsed: Result<T, Complaint>,
    ) -> Option<T> {
        let complaint = match parsed {
            Ok(parsed) => return Some(parsed),
            Err(complaint) => complaint,
        };
        let problem = Problem::at(value.span(), format!("`{key}` is not {kind}"), complaint.wrong);
        self.add(problem.hint(complaint.hint));
        None
    }

    /// A duration, `least` at the least.
    pub(super) fn duration(
        &mut self,
        value: &Spanned<Given>,
        key: &str,
        least: Duration,
        zero_hint: &str,
    ) -> Option<Duration> {
        let text = self.text(
            value,
            key,
            "a duration",
            r#"a number and a unit in quotes: "500ms", "2s""#,
        )?;
        let duration = self.parsed(value, key, "a duration", units::duration(text))?;
        if duration < least {
            let problem = Problem::at(value.span(), format!("`{key}` is too short"), "too short");
            self.add(problem.hint(zero_hint));
            return None;
        }
        if duration > LONGEST {
            let longest = show_duration(LONGEST);
            let problem = Problem::at(value.span(), format!("`{key}` is too long"), "too long");
            self.add(problem.hint(format!("{longest} is the most")));
            return None;
        }
        Some(duration)
    }

    /// A duration that may be left out, of a millisecond or more.
    pub(super) fn duration_or(&mut self, field: &Field, key: &str, default: Duration) -> Duration {
        let least = Duration::from_millis(1);
        let read = |value| self.duration(value, key, least, "1ms is the least");
        field.as_ref().and_then(read).unwrap_or(default)
    }

    /// A whole number within a range.
    pub(super) fn count(
        &mut self,
        value: &Spanned<Given>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let count = match value.get_ref() {
            Given::Integer(number) => u64::try_from(*number).ok(),
            Given::Text(text) => Some(self.parsed(value, key, "a count", units::count(text))?),
            _ => {
                self.unlike(value, key, "a count", r#"a whole number: 5000, or "5k""#);
                return None;
            }
        };
        if let Some(count) = count.filter(|count| range.contains(count)) {
            return Some(count);
        }
        let small = matches!(value.get_ref(), Given::Integer(number) if *number < i128::from(*range.start()))
            || count.is_some_and(|count| count < *range.start());
        let amount = if small { "too small" } else { "too large" };
        let problem = Problem::at(value.span(), format!("`{key}` is {amount}"), amount);
        let (least, most) = (show_count(*range.start()), show_count(*range.end()));
        self.add(problem.hint(format!("from {least} to {most}")));
        None
    }

    /// A whole number that may be left out.
    pub(super) fn count_u32(&mut self, field: &Field, key: &str, range: RangeInclusive<u64>) -> Option<u32> {
        let count = field.as_ref().and_then(|value| self.count(value, key, range));
        count.and_then(|count| u32::try_from(count).ok())
    }

    /// A rate.
    pub(super) fn rate(&mut self, value: &Spanned<Given>, key: &str) -> Option<Rate> {
        let text = self.text(
            value,
            key,
            "a rate",
            r#"a count and a time in quotes: "10/s", "1/5s""#,
        )?;
        let rate = self.parsed(value, key, "a rate", units::rate(text))?;
        if rate.per > LONGEST || rate.per_second() > FASTEST_PER_SECOND {
            let amount = if rate.per > LONGEST {
                "too slow"
            } else {
                "too fast"
            };
            let problem = Problem::at(value.span(), format!("`{key}` is {amount}"), amount);
            self.add(problem.hint("from one in 24h to 10,000,000/s"));
            return None;
        }
        Some(rate)
    }

    /// A size within a range of bytes.
    pub(super) fn size_bytes(
        &mut self,
        value: &Spanned<Given>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let text = self.text(
            value,
            key,
            "a size",
            r#"a number and a unit in quotes: "200 B", "16 KiB""#,
        )?;
        let bytes = self.parsed(value, key, "a size", units::size_bytes(text))?;
        if bytes < u64::from(*range.start()) {
            let least = show_count((*range.start()).into());
            let problem = Problem::at(
                value.span(),
                format!("`{key}` has no room for a stamp"),
                "too small",
            );
            self.add(problem.hint(format!(
                "the least size is {least} B: a message that is measured carries a stamp"
            )));
            return None;
        }
        let fitting = u32::try_from(bytes).ok().filter(|bytes| bytes <= range.end());
        if fitting.is_none() {
            let most = show_count((*range.end()).into());
            let problem = Problem::at(value.span(), format!("`{key}` is too large"), "too large");
            self.add(problem.hint(format!(
                "the largest payload that every transport carries has {most} B"
            )));
        }
        fitting
    }

    /// All, none, or a share between them.
    pub(super) fn share(&mut self, value: &Spanned<Given>, key: &str) -> Option<f64> {
        let share = match value.get_ref() {
            Given::Text(text) => {
                return self.word(text, value.span(), key, &[("all", 1.0), ("none", 0.0)]);
            }
            Given::Integer(number) => *number as f64,
            Given::Float(number) => *number,
            _ => {
                self.unlike(value, key, "a share", r#""all", "none", or a number such as 0.1"#);
                return None;
            }
        };
        if (0.0..=1.0).contains(&share) {
            return Some(share);
        }
        let problem = Problem::at(value.span(), format!("`{key}` is not a share"), "out of range");
        self.add(problem.hint("from 0 to 1"));
        None
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        text: &str,
        span: Range<usize>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let problem = Problem::at(
            span,
            format!("{} is no value of `{key}`", quoted(text)),
            "unknown value",
        );
        self.add(match closest(text, names.iter().copied()) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None => problem.hint(format!("one of: {}", names.join(", "))),
        });
        None
    }

    /// True or false.
    pub(super) fn yes_or_no(&mut self, value: &Spanned<Given>, key: &str) -> Option<bool> {
        match value.get_ref() {
            Given::Bool(yes) => Some(*yes),
            _ => {
                let message = format!("`{key}` is neither true nor false");
                let word = key.rsplit('.').next().unwrap_or(key);
                let hint = format!("write {word} = true");
                self.add(Problem::at(value.span(), message, "neither").hint(hint));
                None
            }
        }
    }

    /// A value, or a list of different ones.
    pub(super) fn swept<T>(
        &mut self,
        value: &Spanned<Given>,
        key: &str,
        same: impl Fn(&T, &T) -> bool,
        read: impl Fn(&mut Self, &Spanned<Given>) -> Option<T>,
    ) -> Option<Swept<T>> {
        let Given::List(items) = value.get_ref() else {
            return read(self, value).map(Swept::one);
        };
        if items.is_empty() || items.len() > MOST_POINTS {
            let amount = if items.is_empty() {
                "is empty"
            } else {
                "is too long"
            };
            let problem = Problem::at(value.span(), format!("the list of `{key}` {amount}"), amount);
            self.add(problem.hint(format!("a sweep has from 1 to {MOST_POINTS} points")));
            return None;
        }
        let read: Vec<Option<T>> = items.iter().map(|item| read(self, item)).collect();
        let mut values: Vec<(T, Range<usize>)> = Vec::new();
        let mut twice = false;
        let mut bad = false;
        for (value, item) in read.into_iter().zip(items) {
            let Some(value) = value else {
                bad = true;
                continue;
            };
            match values.iter().find(|(earlier, _)| same(earlier, &value)) {
                Some((_, first)) => {
                    let problem = Problem::at(item.span(), format!("`{key}` names a value twice"), "again");
                    self.add(
                        problem
                            .also(first.clone(), "first here")
                            .hint("keep one of the two"),
                    );
                    twice = true;
                }
                None => values.push((value, item.span())),
            }
        }
        let values = values.into_iter().map(|(value, _)| value).collect();
        (!bad && !twice).then(|| Swept {
            values,
            list: Some(value.span()),
        })
    }
}

/// A value's kind, as it is called in messages.
fn describe(value: &Given) -> &'static str {
    match value {
        Given::Text(_) => "a text",
        Given::Integer(_) => "a bare number",
        Given::Float(number) if number.is_nan() => "not a number at all",
        Given::Float(number) if number.is_infinite() => "infinite",
        Given::Float(_) => "a number with a fraction",
        Given::Bool(_) => "true or false",
        Given::List(_) => "a list",
        Given::Table => "a table or a date",
    }
}
