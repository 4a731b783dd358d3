//! Derived files: tables, charts and pages that somebody made from a run, put beside it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::ResultsError;
use crate::write::refuse_link;

/// The folder of a run directory that holds what was derived from it. It may be deleted and made again.
const REPORT: &str = "report";

/// Writes `files` (relative names and bytes) under the run's `report` folder, over what an earlier report left there.
/// Gives their paths.
///
/// # Errors
/// When a name would leave the folder, a link stands in the way, or the disk refuses.
pub fn write_report(run_dir: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<PathBuf>, ResultsError> {
    let folder = run_dir.join(REPORT);
    refuse_link(&folder)?;
    let mut written = Vec::new();
    for (name, bytes) in files {
        let name = Path::new(name);
        let path = folder.join(name);
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            let outside = std::io::Error::other("a report's file would lie outside its folder");
            return Err(ResultsError::io("write", &path)(outside));
        }
        // Every step on the way down, and the file itself: none may be a link that leads elsewhere.
        let mut step = folder.clone();
        for part in name.components() {
            step.push(part);
            if fs::symlink_metadata(&step).is_ok_and(|m| m.is_symlink()) {
                return Err(ResultsError::io("write", &step)(std::io::Error::other(
                    "it is a symbolic link",
                )));
            }
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(ResultsError::io("create", parent))?;
        }
        fs::write(&path, bytes).map_err(ResultsError::io("write", &path))?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| vec![(name.to_owned(), b"x".to_vec())];
        for name in ["../x", "/etc/x", "a/../../x", "./x/../../../y"] {
            assert!(write_report(dir.path(), &file(name)).is_err(), "{name}");
        }
        let written = write_report(dir.path(), &file("charts/a.svg")).unwrap();
        assert_eq!(fs::read(&written[0]).unwrap(), b"x");
        std::os::unix::fs::symlink("/tmp", dir.path().join("report/link")).unwrap();
        assert!(
            write_report(dir.path(), &file("link/x")).is_err(),
            "a link is not followed"
        );
    }
}
