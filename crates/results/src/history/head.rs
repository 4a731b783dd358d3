//! What all sessions of a history have in common, and why one does not belong.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HISTORY, crc32};
use crate::error::ResultsError;
use crate::gate::GateScenario;
use crate::run::FORMAT_VERSION;

/// A scenario that every session ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryScenario {
    /// Its name.
    pub name: String,
    /// CRC-32 of its text as run.
    pub crc32: u32,
}

/// What all sessions of a history have in common. Sessions that differ in any of it cannot be held against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Tells it from other documents.
    pub document: String,
    /// The words that the reference is started with, after its program.
    pub reference_words: Vec<String>,
    /// Length and CRC-32 of the reference's program: frozen means the same bytes.
    pub reference_program: (u64, u32),
    /// The same of the files among its words (a script, a configuration, a jar), by their words: of those that were there before
    /// it was started, and that no run of it has changed. `None` in histories of before they were kept by name.
    #[serde(
        default,
        rename = "reference_frozen_files",
        skip_serializing_if = "Option::is_none"
    )]
    pub reference_files: Option<Vec<(String, u64, u32)>>,
    /// The profile's name.
    pub profile: String,
    /// Blocks of a session.
    pub blocks: usize,
    /// Warm-up of a block, in seconds.
    pub warmup_s: f64,
    /// Measured window of a block, in seconds.
    pub measure_s: f64,
    /// What is run.
    pub scenarios: Vec<HistoryScenario>,
}

impl Head {
    /// A head for sessions of these scenarios: the reference's program and words, the profile's name, and its lengths
    /// (blocks, warm-up and measured window in seconds). Made before the reference is started, which may write some of the files
    /// among its words.
    ///
    /// # Errors
    /// When the reference's program cannot be read.
    pub fn new(
        (program, words): (&Path, &[String]),
        profile: &str,
        (blocks, warmup_s, measure_s): (usize, f64, f64),
        scenarios: &[GateScenario],
    ) -> Result<Self, ResultsError> {
        let named =
            |word: &String| frozen(Path::new(word)).map(|(length, crc32)| (word.clone(), length, crc32));
        let files = words.iter().filter(|word| Path::new(word).is_file());
        Ok(Self {
            format_version: FORMAT_VERSION,
            document: HISTORY.to_owned(),
            reference_words: words.to_vec(),
            reference_program: frozen(program)?,
            reference_files: Some(files.map(named).collect::<Result<_, _>>()?),
            profile: profile.to_owned(),
            blocks,
            warmup_s,
            measure_s,
            scenarios: scenarios
                .iter()
                .map(|s| HistoryScenario {
                    name: s.name.clone(),
                    crc32: crc32(s.source.as_bytes()),
                })
                .collect(),
        })
    }

    /// Why sessions of `other` do not belong here, in words; `None` when they do.
    pub fn differs(&self, other: &Head) -> Option<String> {
        let lengths = |h: &Head| (h.blocks, h.warmup_s, h.measure_s);
        let mine = |name: &str| self.scenarios.iter().find(|s| s.name == name);
        if self.reference_program != other.reference_program {
            return Some(
                "its reference is another program: a reference is frozen, and this one's bytes differ".into(),
            );
        }
        if self.reference_words != other.reference_words {
            return Some(format!(
                "its reference was started with {:?}, and not with {:?}",
                self.reference_words.join(" "),
                other.reference_words.join(" ")
            ));
        }
        // One that was not there one of the times is the reference's own work.
        let theirs = other.reference_files.iter().flatten();
        let is_other = |file: &&(String, u64, u32)| {
            let mut mine = self.reference_files.iter().flatten();
            mine.any(|known| known.0 == file.0 && known != *file)
        };
        if let Some((name, ..)) = theirs.clone().find(is_other) {
            return Some(format!(
                "{name}, a file among its reference's words, is another: a reference is frozen, and these bytes differ"
            ));
        }
        if self.profile != other.profile || lengths(self) != lengths(other) {
            return Some(format!(
                "its sessions have profile {} ({} blocks of {} + {} s), and this one {} ({} of {} + {} s)",
                self.profile,
                self.blocks,
                self.warmup_s,
                self.measure_s,
                other.profile,
                other.blocks,
                other.warmup_s,
                other.measure_s
            ));
        }
        for s in &other.scenarios {
            match mine(&s.name) {
                None => return Some(format!("its sessions did not run {}", s.name)),
                Some(known) if known.crc32 != s.crc32 => {
                    return Some(format!("its sessions ran another text of {}", s.name));
                }
                Some(_) => {}
            }
        }
        (self.scenarios.len() != other.scenarios.len())
            .then(|| "its sessions ran other scenarios besides".to_owned())
    }

    /// Takes over which files stayed as they were over a run that `run` was made before. What the reference itself writes (a
    /// certificate, a log, a database) is not frozen, and would refuse every later session.
    pub(super) fn settle(&mut self, run: &Head) {
        let Some(before) = &run.reference_files else {
            return;
        };
        let stayed = |(name, length, crc32): &(String, u64, u32)| {
            frozen(Path::new(name)).is_ok_and(|now| now == (*length, *crc32))
        };
        let changed: Vec<&String> = before
            .iter()
            .filter(|file| !stayed(file))
            .map(|(name, ..)| name)
            .collect();
        let known = self.reference_files.get_or_insert_with(|| before.clone());
        known.retain(|(name, ..)| !changed.contains(&name));
    }
}

/// Length and CRC-32 of a file.
fn frozen(file: &Path) -> Result<(u64, u32), ResultsError> {
    let bytes = fs::read(file).map_err(ResultsError::io("read", file))?;
    Ok((bytes.len() as u64, crc32(&bytes)))
}
