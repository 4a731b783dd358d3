//! Exit codes: what a program that runs pushmark learns from how it ended.

use std::fmt::Display;
use std::process::ExitCode;

/// How pushmark ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All is well.
    Fine = 0,
    /// A threshold was missed, or the gate found the candidate worse.
    Missed = 1,
    /// Bad usage, a bad scenario, or pushmark itself could not do its work.
    Usage = 2,
    /// The gate could neither find nor rule out a regression (with `--strict`).
    Inconclusive = 3,
    /// The run is not valid, or not complete: its numbers do not count.
    NotValid = 4,
}

impl End {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// An end with words for the person.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: End,
    pub(crate) words: String,
}

impl Failure {
    pub(crate) fn usage(words: impl Display) -> Self {
        Self {
            code: End::Usage,
            words: words.to_string(),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: End::Usage,
            words: format!("{:#}", error.into()),
        }
    }
}

/// What every command gives.
pub(crate) type Outcome = Result<End, Failure>;
