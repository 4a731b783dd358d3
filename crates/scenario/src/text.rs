//! The text of a scenario and the name that it goes by. The one place that reads a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::diagnose::{Origins, Problem, ScenarioError};
use crate::units::show_count;

/// Scenario files are read whole; a larger one is something else.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// A scenario's text, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioText {
    file_name: String,
    text: String,
}

impl ScenarioText {
    /// Reads a scenario file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            // One byte more than allowed tells a large file from a full one, and a device without an end stops there.
            File::open(path)?
                .take(LARGEST_FILE_BYTES + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => ScenarioText::from_bytes(&name, &bytes),
            Err(error) => {
                let problem = Problem::without_place(format!("cannot read {name}: {error}"))
                    .hint("a scenario is a TOML file; those that ship are in scenarios/");
                Err(ScenarioError::new(Origins::new(&name, ""), vec![problem]))
            }
        }
    }

    /// Takes a file's bytes; `file_name` is the name for errors and, without `.toml`, the scenario's name.
    pub fn from_bytes(file_name: &str, bytes: &[u8]) -> Result<Self, ScenarioError> {
        let fail =
            |text: &str, problem| Err(ScenarioError::new(Origins::new(file_name, text), vec![problem]));
        if bytes.len() as u64 > LARGEST_FILE_BYTES {
            let problem =
                Problem::without_place(format!("{file_name} is too large for a scenario")).hint(format!(
                    "a scenario has {} bytes at the most",
                    show_count(LARGEST_FILE_BYTES)
                ));
            return fail("", problem);
        }
        match str::from_utf8(bytes) {
            Ok(text) => Ok(ScenarioText {
                file_name: file_name.to_owned(),
                text: text.to_owned(),
            }),
            Err(error) => {
                // Up to the first bad byte the text is as it was, so its place is right.
                let (at, text) = (error.valid_up_to(), String::from_utf8_lossy(bytes));
                let problem = Problem::at(at..at + 3, "the file is not UTF-8 text", "not UTF-8")
                    .hint("save the file as UTF-8");
                fail(&text, problem)
            }
        }
    }

    /// Takes a text; `file_name` as in `from_bytes`.
    pub fn new(file_name: &str, text: &str) -> Result<Self, ScenarioError> {
        ScenarioText::from_bytes(file_name, text.as_bytes())
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the file as given.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The scenario's name: the file's without folders and `.toml`, fit to be a file name again.
    pub fn name(&self) -> String {
        let stem = Path::new(&self.file_name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let kept = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        };
        let name: String = stem.chars().take(80).map(kept).collect();
        match name.trim_start_matches('.') {
            "" => "scenario".to_owned(),
            name => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_files() {
        for (file_name, name) in [
            ("scenarios/feed.toml", "feed"),
            ("fan-out.toml", "fan-out"),
            ("../../x.toml", "x"),
            ("..", "scenario"),
            ("", "scenario"),
            (".toml", "toml"),
            ("a\u{1b}[31m/b c<script>.toml", "b-c-script-"),
        ] {
            assert_eq!(
                ScenarioText::new(file_name, "").expect(file_name).name(),
                name,
                "{file_name}"
            );
        }
    }
}
