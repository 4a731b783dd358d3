//! Files cut off, changed, emptied or swapped: a typed error or a verdict, never a panic and never a pass.

use std::fs;
use std::io::Write;
use std::path::Path;

use pushmark_measure::{Grade, Metric};
use pushmark_results::{ResultsError, Run};

use crate::support::*;

/// Files that grow; torn, they are read up to their last whole line.
const GROWING: [&str; 5] = [
    "intervals.csv",
    "latency.hlog",
    "service_time.hlog",
    "send_delay.hlog",
    "connect_time.hlog",
];

/// One of each kind, for tests that read the run once for every byte.
const ONE_OF_EACH: [&str; 3] = ["intervals.csv", "latency.hlog", "connect_time.hlog"];

/// Puts `contents` in place of the file, reads the run, and puts the file back.
fn with(run: &Path, file: &Path, contents: &[u8]) -> Result<Run, ResultsError> {
    let before = fs::read(file).unwrap();
    overwrite(file, contents);
    let read = Run::open(run);
    overwrite(file, &before);
    read
}

/// Not `fs::write`: some file systems wait for the disk when a file is emptied first, and this is done by thousands.
fn overwrite(file: &Path, contents: &[u8]) {
    let mut open = fs::File::options().write(true).open(file).unwrap();
    open.write_all(contents).unwrap();
    open.set_len(contents.len() as u64).unwrap();
}

/// True when no gate would let the run pass.
fn is_refused(read: &Result<Run, ResultsError>) -> bool {
    match read {
        Ok(run) => !run.is_complete() || run.trials[0].verdict.grade() == Grade::Invalid,
        Err(error) => !matches!(error, ResultsError::Io { .. }),
    }
}

#[test]
fn a_kill_at_any_byte_leaves_a_readable_run() {
    let parent = tempfile::tempdir().unwrap();
    let run = killed_run(parent.path());
    let whole = Run::open(&run).unwrap();
    for name in ONE_OF_EACH {
        let file = first_trial(&run).join(name);
        let contents = fs::read(&file).unwrap();
        for length in 0..contents.len() {
            let read = with(&run, &file, &contents[..length])
                .unwrap_or_else(|e| panic!("{name} cut at {length}: {e}"));
            let (cut, all) = (&read.trials[0], &whole.trials[0]);
            assert!(all.intervals.starts_with(&cut.intervals));
            for metric in Metric::ALL {
                assert!(cut.histograms.count(metric) <= all.histograms.count(metric));
            }
            let is_torn = length > 0 && contents[length - 1] != b'\n';
            let noted = cut
                .verdict
                .findings
                .iter()
                .any(|f| f.reason.contains("cut off") && f.reason.contains(name));
            assert_eq!(noted, is_torn, "{name} cut at {length}: {:?}", cut.verdict);
            assert_eq!(cut.verdict.grade(), Grade::Invalid);
        }
    }
}

#[test]
fn a_finished_run_cut_at_any_byte_never_passes() {
    let parent = tempfile::tempdir().unwrap();
    let run = small_run(parent.path());
    let trial = first_trial(&run);
    let files = ONE_OF_EACH
        .map(|name| trial.join(name))
        .into_iter()
        .chain([trial.join("trial.json"), run.join("manifest.json")]);
    for file in files {
        let contents = fs::read(&file).unwrap();
        for length in 0..contents.len() {
            let read = with(&run, &file, &contents[..length]);
            assert!(is_refused(&read), "{} cut at {length}: {read:?}", file.display());
        }
    }
    assert!(!is_refused(&Run::open(&run)));
}

#[test]
fn a_finished_run_with_any_byte_changed_never_passes() {
    let parent = tempfile::tempdir().unwrap();
    let run = small_run(parent.path());
    let trial = first_trial(&run);
    let files = ONE_OF_EACH
        .map(|name| trial.join(name))
        .into_iter()
        .chain([trial.join("trial.json"), run.join("manifest.json")]);
    for file in files {
        let contents = fs::read(&file).unwrap();
        for at in 0..contents.len() {
            // In turn: one bit (a digit for another digit), a line break, a byte that is no text.
            let mut changed = contents.clone();
            changed[at] = [contents[at] ^ 1, contents[at] ^ 0x10, b'\n', 0xff][at % 4];
            if changed != contents {
                let read = with(&run, &file, &changed);
                assert!(
                    is_refused(&read),
                    "{}: byte {at} is {}: {read:?}",
                    file.display(),
                    changed[at]
                );
            }
        }
        let longer = [contents.as_slice(), b"\n"].concat();
        assert!(
            is_refused(&with(&run, &file, &longer)),
            "{} with a line more",
            file.display()
        );
    }
}

#[test]
fn a_missing_log_of_a_finished_trial_is_invalid() {
    let parent = tempfile::tempdir().unwrap();
    let run = complete_run(parent.path());
    for name in GROWING {
        let file = first_trial(&run).join(name);
        let contents = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let verdict = &Run::open(&run).unwrap().trials[0].verdict;
        assert!(
            verdict
                .findings
                .iter()
                .any(|f| f.grade == Grade::Invalid && f.reason.contains(name)),
            "{verdict:?}"
        );
        fs::write(&file, contents).unwrap();
    }
    let stray = first_trial(&run).join("first_message_time.hlog");
    fs::copy(first_trial(&run).join("latency.hlog"), stray).unwrap();
    assert_eq!(Run::open(&run).unwrap().trials[0].verdict.grade(), Grade::Invalid);
}

#[test]
fn damage_names_its_file_and_line() {
    let parent = tempfile::tempdir().unwrap();
    let run = killed_run(parent.path());
    let trial = first_trial(&run);
    let lines = |name: &str| {
        fs::read_to_string(trial.join(name))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (intervals, log) = (lines("intervals.csv"), lines("latency.hlog"));
    let changed = |lines: &[String], at: usize, line: &str| {
        let mut lines = lines.to_vec();
        lines[at] = line.to_owned();
        lines.join("\n") + "\n"
    };
    let oversized = "A".repeat(2 << 20);
    let cases = [
        ("intervals.csv", changed(&intervals, 2, "1,ramp"), 3, "fields"),
        (
            "intervals.csv",
            changed(&intervals, 2, &intervals[2].replace("measure", "me\u{1b}sure")),
            3,
            "me\\u{1b}sure",
        ),
        (
            "intervals.csv",
            changed(&intervals, 3, &intervals[3].replace(",2.0,", ",NaN,")),
            4,
            "start_s",
        ),
        (
            "intervals.csv",
            changed(&intervals, 0, &intervals[0].replace("delivered,", "dismissed,")),
            2,
            "delivered",
        ),
        ("latency.hlog", changed(&log, 6, "nonsense"), 7, "interval log"),
        (
            "latency.hlog",
            changed(&log, 6, "0.000,1.000,1.000,AAAA"),
            7,
            "V2",
        ),
        ("latency.hlog", changed(&log, 7, &oversized), 8, "longer than"),
        (
            "latency.hlog",
            changed(&log, 7, &oversized).trim_end().to_owned(),
            8,
            "longer than",
        ),
    ];
    for (name, contents, line, word) in cases {
        let error = with(&run, &trial.join(name), contents.as_bytes()).unwrap_err();
        assert!(
            matches!(&error, ResultsError::Damaged { line: Some(l), .. } if *l == line),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains(word) && text.contains(&format!("line {line}")),
            "{text}"
        );
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn a_version_that_is_not_known_is_refused_by_name() {
    let parent = tempfile::tempdir().unwrap();
    let run = complete_run(parent.path());
    for file in [run.join("manifest.json"), first_trial(&run).join("trial.json")] {
        let text = fs::read_to_string(&file).unwrap();
        for (version, word) in [("2", "newer"), ("0", "again"), ("4294967297", "newer")] {
            let other = text.replacen(
                "\"format_version\": 1",
                &format!("\"format_version\": {version}"),
                1,
            );
            let error = with(&run, &file, other.as_bytes()).unwrap_err();
            assert!(matches!(error, ResultsError::Version { .. }), "{error:?}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("version {version},"))
                    && text.contains("version 1")
                    && text.contains(word),
                "{text}"
            );
        }
        // A format of later days may look like nothing known, but for its version.
        let error = with(&run, &file, br#"{"format_version": 3}"#).unwrap_err();
        assert!(error.to_string().contains("version 3,"), "{error}");
    }
}

#[test]
fn what_is_no_run_is_said_to_be_none() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, word) in [
        (parent.path().join("missing"), "no such directory"),
        (file, "not a directory"),
        (parent.path().to_owned(), "no manifest.json"),
    ] {
        let error = Run::open(&path).unwrap_err();
        assert!(matches!(error, ResultsError::NotARun { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn empty_documents_and_wrong_kinds_of_files_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let run = complete_run(parent.path());
    let trial = first_trial(&run);
    for file in [run.join("manifest.json"), trial.join("trial.json")] {
        for (contents, word) in [
            ("", "empty"),
            ("{}", "format_version"),
            ("[]", ""),
            ("{\"format_version\": 1}", "check value"),
        ] {
            let error = with(&run, &file, contents.as_bytes()).unwrap_err();
            assert!(
                matches!(error, ResultsError::Damaged { .. }) && error.to_string().contains(word),
                "{error}"
            );
        }
        let deep = format!("{{\"format_version\": 1, \"x\": {}", "[".repeat(100_000));
        assert!(matches!(
            with(&run, &file, deep.as_bytes()),
            Err(ResultsError::Damaged { .. })
        ));
    }
    fs::remove_file(trial.join("latency.hlog")).unwrap();
    fs::create_dir(trial.join("latency.hlog")).unwrap();
    assert!(matches!(Run::open(&run), Err(ResultsError::Damaged { .. })));
}

#[test]
fn a_file_too_large_for_a_run_is_not_read() {
    let parent = tempfile::tempdir().unwrap();
    let run = complete_run(parent.path());
    let trial = first_trial(&run);
    for file in [
        run.join("manifest.json"),
        trial.join("trial.json"),
        trial.join("intervals.csv"),
        trial.join("latency.hlog"),
    ] {
        let contents = fs::read(&file).unwrap();
        // Sparse: it takes no space, and would take more memory than there is.
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let error = Run::open(&run).unwrap_err();
        assert!(matches!(error, ResultsError::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
        fs::write(&file, contents).unwrap();
    }
}

#[test]
fn two_trials_with_one_index_are_damage() {
    let parent = tempfile::tempdir().unwrap();
    let run = complete_run(parent.path());
    let (first, copy) = (first_trial(&run), run.join("trials/copy"));
    fs::create_dir(&copy).unwrap();
    fs::copy(first.join("trial.json"), copy.join("trial.json")).unwrap();
    let error = Run::open(&run).unwrap_err().to_string();
    assert!(error.contains("two trials have the index 0"), "{error}");
}
