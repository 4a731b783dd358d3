//! Files of a run directory: documents replaced as a whole, files that only grow, and the checks of both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ResultsError;
use crate::run::FORMAT_VERSION;

/// The largest document that is read, in bytes: a plan of 10,000 cells takes some 15 MB.
const LARGEST_DOCUMENT: u64 = 64 << 20;

/// Where a document's own check begins. It covers every byte before.
const SEAL: &str = ",\n  \"check\": \"crc32:";

/// Length and CRC-32 of a file: what it was when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileCheck {
    /// Length.
    pub(crate) bytes: u64,
    /// CRC-32 as zip and gzip compute it.
    pub(crate) crc32: u32,
}

/// Builds a [`FileCheck`] as bytes go by.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    bytes: u64,
    crc: Crc,
}

impl Checker {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc.update(bytes);
    }

    pub(crate) fn check(&self) -> FileCheck {
        FileCheck {
            bytes: self.bytes,
            crc32: self.crc.sum(),
        }
    }
}

/// A new file that only grows. Nothing is buffered: what was written is there after a kill.
#[derive(Debug)]
pub(crate) struct GrowingFile {
    file: File,
    checker: Checker,
    failed: bool,
}

impl GrowingFile {
    /// Creates the file; refuses one that exists, a symbolic link included.
    pub(crate) fn create(path: &Path) -> Result<Self, ResultsError> {
        let file = create_new(path)?;
        Ok(Self {
            file,
            checker: Checker::default(),
            failed: false,
        })
    }

    /// What was written so far.
    pub(crate) fn check(&self) -> FileCheck {
        self.checker.check()
    }
}

impl Write for GrowingFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.failed {
            // A row after a half-written one would turn a torn end, which is readable, into damage, which is not.
            return Err(io::Error::other("an earlier write to it failed"));
        }
        match self.file.write(buf) {
            Ok(n) => {
                self.checker.update(&buf[..n]);
                Ok(n)
            }
            Err(e) => {
                self.failed = e.kind() != io::ErrorKind::Interrupted;
                Err(e)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Creates a file to append to; refuses one that exists.
pub(crate) fn create_new(path: &Path) -> Result<File, ResultsError> {
    // `create_new` is O_EXCL: it neither truncates a file nor follows a symbolic link.
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)
        .map_err(ResultsError::io("create", path))
}

/// Writes a whole new file; refuses one that exists.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> Result<(), ResultsError> {
    create_new(path)?
        .write_all(contents)
        .map_err(ResultsError::io("write", path))
}

/// Replaces the JSON document at `path` as a whole: a reader finds the old one or the new one, also after a crash.
pub(crate) fn replace_document(path: &Path, document: &impl Serialize) -> Result<(), ResultsError> {
    let encoding = |e: serde_json::Error| ResultsError::Encode {
        path: path.to_owned(),
        what: e.to_string(),
    };
    let mut text = serde_json::to_string_pretty(document).map_err(encoding)?;
    if let Some(open) = text.strip_suffix("\n}") {
        let mut checker = Checker::default();
        checker.update(open.as_bytes());
        text = format!("{open}{SEAL}{:08x}\"\n}}\n", checker.check().crc32);
    }
    replace_whole(path, text.as_bytes())
}

/// Replaces the file at `path` as a whole: a reader finds the old one or the new one, also after a crash.
pub(crate) fn replace_whole(path: &Path, contents: &[u8]) -> Result<(), ResultsError> {
    let tmp = tmp_path(path);
    // Left behind by a crash; the run directory has one writer.
    match fs::remove_file(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(ResultsError::io("remove", &tmp)(e)),
        _ => {}
    }
    let mut file = create_new(&tmp)?;
    file.write_all(contents)
        .map_err(ResultsError::io("write", &tmp))?;
    // Without this a power cut can leave the new name on an empty file.
    file.sync_data().map_err(ResultsError::io("write", &tmp))?;
    fs::rename(&tmp, path).map_err(ResultsError::io("replace", path))
}

fn tmp_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Opens a regular file of at most `limit` bytes for reading; `None` when there is none.
pub(crate) fn open_to_read(path: &Path, limit: u64) -> Result<Option<File>, ResultsError> {
    // Looked at before it is opened: opening a pipe would wait for its other end for ever.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ResultsError::io("read", path)(e)),
    };
    if !metadata.is_file() {
        return Err(ResultsError::damaged(path, None, "not a regular file"));
    }
    if metadata.len() > limit {
        return Err(ResultsError::TooLarge {
            path: path.to_owned(),
            size: metadata.len(),
            unit: "bytes",
            limit,
        });
    }
    File::open(path).map(Some).map_err(ResultsError::io("read", path))
}

/// Reads a whole file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read_whole(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ResultsError> {
    let Some(file) = open_to_read(path, limit)? else {
        return Ok(None);
    };
    let mut contents = Vec::new();
    // The limit again: the file may still be growing.
    file.take(limit)
        .read_to_end(&mut contents)
        .map_err(ResultsError::io("read", path))?;
    Ok(Some(contents))
}

/// Reads a document that [`replace_document`] wrote; `None` when there is none.
///
/// The version is looked at first, so that a newer format is refused by name and not for a field it lacks.
pub(crate) fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ResultsError> {
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u64,
    }
    let Some(contents) = read_whole(path, LARGEST_DOCUMENT)? else {
        return Ok(None);
    };
    let damaged = |e: serde_json::Error| {
        let line = (e.line() > 0).then_some(e.line() as u64);
        let what = if contents.is_empty() {
            "it is empty".to_owned()
        } else {
            e.to_string()
        };
        ResultsError::damaged(path, line, what)
    };
    let Versioned {
        format_version: found,
    } = serde_json::from_slice(&contents).map_err(damaged)?;
    if found != u64::from(FORMAT_VERSION) {
        return Err(ResultsError::Version {
            path: path.to_owned(),
            found,
            known: FORMAT_VERSION,
        });
    }
    check_seal(&contents).map_err(|what| ResultsError::damaged(path, None, what))?;
    serde_json::from_slice(&contents).map(Some).map_err(damaged)
}

fn check_seal(contents: &[u8]) -> Result<(), &'static str> {
    let at = contents
        .windows(SEAL.len())
        .rposition(|window| window == SEAL.as_bytes())
        .ok_or("it does not end with the check value it was written with")?;
    let mut checker = Checker::default();
    checker.update(&contents[..at]);
    let expected = format!("{:08x}\"\n}}\n", checker.check().crc32);
    if contents[at + SEAL.len()..] == *expected.as_bytes() {
        Ok(())
    } else {
        Err("its check value does not fit: it was changed since it was written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_after_a_row_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut growing = GrowingFile::create(&path).unwrap();
        growing.write_all(b"a,b\n").unwrap();
        // A file that cannot be written to stands for a full disk.
        let sound = std::mem::replace(&mut growing.file, File::open(&path).unwrap());
        assert!(growing.write_all(b"c,d\n").is_err());
        growing.file = sound;
        let error = growing.write_all(b"e,f\n").unwrap_err();
        assert!(error.to_string().contains("earlier"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a,b\n");
        assert_eq!(growing.check().bytes, 4);
    }

    #[test]
    fn a_document_is_replaced_whatever_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trial.json");
        fs::write(dir.path().join("trial.json.tmp"), "half of one").unwrap();
        for value in [1, 2] {
            replace_document(
                &path,
                &serde_json::json!({ "format_version": FORMAT_VERSION, "value": value }),
            )
            .unwrap();
            let read: serde_json::Value = read_document(&path).unwrap().unwrap();
            assert_eq!(read["value"], value);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_check_is_the_usual_crc() {
        let mut checker = Checker::default();
        checker.update(b"1234");
        checker.update(b"56789");
        assert_eq!(
            checker.check(),
            FileCheck {
                bytes: 9,
                crc32: 0xcbf4_3926
            }
        );
    }
}
