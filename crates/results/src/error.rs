//! What can go wrong with a run directory, in words for the person who has it.

use std::io;
use std::path::{Path, PathBuf};

/// A run directory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The operating system said no.
    #[error("could not {action} {}: {cause}{}", shown(path), hint(cause))]
    Io {
        /// What was tried: `write`, `read`, `create`, …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed. Part of the message, so not a `source` that would be printed a second time.
        cause: io::Error,
    },
    /// The directory given for a new run cannot be used.
    #[error("{} cannot take a new run: {why}", shown(path))]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// There is no run here.
    #[error("{} is not a run directory: {why}", shown(path))]
    NotARun {
        /// What was opened.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// There is no gate here.
    #[error("{} is not a gate's file: {why}", shown(path))]
    NotAGate {
        /// What was opened.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The file was written in a format this version does not read.
    #[error(
        "{} has format version {found}, and this pushmark reads version {known}: {}",
        shown(path),
        if *found > u64::from(*known) { "a newer pushmark wrote it, read it with that one" } else { "run the scenario again" }
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u64,
        /// The version that can be read: [`crate::FORMAT_VERSION`].
        known: u32,
    },
    /// The file is cut off or was changed since it was written.
    #[error("{}{} is damaged: {what}", shown(path), line.map(|n| format!(", line {n},")).unwrap_or_default())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from one, where it can be told.
        line: Option<u64>,
        /// What is wrong with it.
        what: String,
    },
    /// The file, or one line of it, is larger than any run makes it; it is not read, to spare memory.
    #[error(
        "{} is too large to be part of a run: {size} {unit}, and at most {limit} are read",
        shown(path)
    )]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// How large it is.
        size: u64,
        /// What is counted: bytes or trials.
        unit: &'static str,
        /// The most that is read.
        limit: u64,
    },
    /// A trial names a cell that its plan does not have.
    #[error(
        "{} is of cell {cell_index}, but the plan has {cells} cells (counted from 0)",
        shown(path)
    )]
    UnknownCell {
        /// The trial's file or directory.
        path: PathBuf,
        /// The cell it names.
        cell_index: usize,
        /// How many there are.
        cells: usize,
    },
    /// A histogram or a document could not be encoded.
    #[error("could not encode {}: {what}; nothing of it was written", shown(path))]
    Encode {
        /// The file it was for.
        path: PathBuf,
        /// What the encoder said.
        what: String,
    },
}

impl ResultsError {
    /// For `map_err`: the operating system's answer to `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResultsError {
        move |cause| ResultsError::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }

    /// For `map_err` over a CSV writer, whose errors are the file's own unless the row itself is wrong.
    pub(crate) fn csv(path: &Path) -> impl FnOnce(csv::Error) -> ResultsError {
        move |error| {
            let said = error.to_string();
            match error.into_kind() {
                csv::ErrorKind::Io(cause) => ResultsError::Io {
                    action: "write",
                    path: path.to_owned(),
                    cause,
                },
                _ => ResultsError::Encode {
                    path: path.to_owned(),
                    what: plain(&said),
                },
            }
        }
    }

    /// Damage in `path`; what is quoted from the file loses its control characters.
    pub(crate) fn damaged(path: &Path, line: Option<u64>, what: impl AsRef<str>) -> ResultsError {
        ResultsError::Damaged {
            path: path.to_owned(),
            line,
            what: plain(what.as_ref()),
        }
    }
}

/// The path without control characters, so that a file's name cannot drive a terminal.
fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// The text with control characters spelled out.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or choose another directory"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a directory you may write to"
        }
        _ => "",
    }
}
