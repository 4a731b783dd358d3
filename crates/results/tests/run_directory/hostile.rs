//! Names, cells and directories that somebody chose to do harm, and two runs at a time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use pushmark_results::{ResultsError, Run, RunStatus, RunWriter};

use crate::support::*;

#[test]
fn nothing_is_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (0..3).map(|_| complete_run(parent.path())).collect();
    let names: Vec<_> = dirs
        .iter()
        .map(|d| d.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "20261120T060959Z-feed",
            "20261120T060959Z-feed-2",
            "20261120T060959Z-feed-3"
        ]
    );
    assert!(dirs.iter().all(|d| Run::open(d).unwrap().is_complete()));
    let before = fs::read(dirs[0].join("manifest.json")).unwrap();
    let error = RunWriter::create_at(&dirs[0], manifest("feed")).unwrap_err();
    assert!(
        matches!(error, ResultsError::Unusable { .. }) && error.to_string().contains("not empty"),
        "{error}"
    );
    assert_eq!(fs::read(dirs[0].join("manifest.json")).unwrap(), before);
}

#[test]
fn two_writers_never_share_a_directory() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let created = |f: &(dyn Fn() -> Result<RunWriter, ResultsError> + Sync)| -> Vec<_> {
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|_| s.spawn(f)).collect();
            threads
                .into_iter()
                .filter_map(|t| t.join().unwrap().ok())
                .map(|w| w.dir().to_owned())
                .collect()
        })
    };
    let mut dirs = created(&|| RunWriter::create(parent.path(), manifest("feed")));
    dirs.sort();
    dirs.dedup();
    assert_eq!(dirs.len(), 8);
    // Given by name, one of them gets it.
    assert_eq!(
        created(&|| RunWriter::create_at(&out, manifest("feed"))),
        std::slice::from_ref(&out)
    );
    assert_eq!(Run::open(&out).unwrap().manifest.status, RunStatus::Running);
}

#[test]
fn a_directory_given_by_name_may_be_missing_or_empty() {
    let parent = tempfile::tempdir().unwrap();
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for dir in [empty, parent.path().join("a/b/missing")] {
        let mut run = RunWriter::create_at(&dir, manifest("feed")).unwrap();
        assert_eq!(run.dir(), dir);
        run.finish(RunStatus::Partial, None).unwrap();
        assert!(Run::open(&dir).is_ok());
    }
}

#[test]
fn links_and_files_are_not_written_through() {
    let parent = tempfile::tempdir().unwrap();
    let (elsewhere, link, file) = (
        parent.path().join("elsewhere"),
        parent.path().join("link"),
        parent.path().join("file"),
    );
    fs::create_dir(&elsewhere).unwrap();
    fs::write(&file, "x").unwrap();
    symlink(&elsewhere, &link).unwrap();
    let dangling = parent.path().join("dangling");
    symlink(parent.path().join("nowhere"), &dangling).unwrap();
    let with_slash = parent.path().join("link/");
    for (path, word) in [
        (&link, "symbolic link"),
        (&with_slash, "symbolic link"),
        (&dangling, "symbolic link"),
        (&file, "not a directory"),
    ] {
        for error in [
            RunWriter::create(path, manifest("feed")).unwrap_err(),
            RunWriter::create_at(path, manifest("feed")).unwrap_err(),
        ] {
            assert!(
                matches!(error, ResultsError::Unusable { .. }) && error.to_string().contains(word),
                "{error}"
            );
        }
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(!parent.path().join("nowhere").exists());

    // A link in the place of the run directory is stepped around.
    symlink(&elsewhere, parent.path().join("20261120T060959Z-feed")).unwrap();
    let run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    assert!(run.dir().ends_with("20261120T060959Z-feed-2"));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    // Links in a run directory are not read through either.
    let run = complete_run(&parent.path().join("runs"));
    let trial = first_trial(&run);
    fs::rename(&trial, elsewhere.join("moved")).unwrap();
    symlink(elsewhere.join("moved"), &trial).unwrap();
    assert!(!Run::open(&run).unwrap().is_complete());
}

#[test]
fn no_name_leaves_the_parent_directory() {
    let outer = tempfile::tempdir().unwrap();
    let parent = outer.path().join("a/b/results");
    let long = "x".repeat(300);
    for name in [
        "../../x",
        "a/b",
        "a\0b",
        &long,
        "\u{1b}[2J",
        "..",
        "",
        "/etc/passwd",
        "<script>",
        "=cmd()",
    ] {
        let mut hostile = manifest(name);
        hostile.plan.cells[0].id = name.to_owned();
        let mut run = RunWriter::create(&parent, hostile).unwrap();
        assert_eq!(run.dir().parent().unwrap(), parent);
        let mut trial = run.begin_trial(0, 0, 0).unwrap();
        assert_eq!(trial.dir().parent().unwrap(), run.dir().join("trials"));
        for dir in [run.dir(), trial.dir()] {
            let name = dir.file_name().unwrap().to_str().unwrap();
            assert!(
                name.len() < 150
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
                "{name}"
            );
        }
        let delivered = write_intervals(&mut trial);
        trial.finish(summary(delivered), None).unwrap();
        assert_eq!(Run::open(run.dir()).unwrap().manifest.plan.name, name);
    }
    assert_eq!(fs::read_dir(outer.path().join("a/b")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
}

fn records(file: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(file)
        .unwrap();
    reader
        .records()
        .map(|r| r.unwrap().iter().map(str::to_owned).collect())
        .collect()
}

#[test]
fn no_cell_of_a_table_is_a_formula() {
    let parent = tempfile::tempdir().unwrap();
    let mut hostile = manifest("feed");
    hostile.plan.cells[0].id = "=HYPERLINK(\"http://example.org\")".to_owned();
    hostile.plan.cells[0].variant.transport = "@SUM(1)".to_owned();
    hostile.plan.cells[0].variant.carrier = "-2+3".to_owned();
    hostile.plan.cells[0].point = Some(-2.5);
    let mut run = RunWriter::create(parent.path(), hostile).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    let delivered = write_intervals(&mut trial);
    let details = [
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\t=1",
        "\r=1",
        "a \"quoted\", b",
        "line\nbreak",
        "\u{1b}[31m",
        "plain",
    ];
    let events: Vec<_> = (0..).zip(details).map(|(n, detail)| event(n, detail)).collect();
    trial.events(&events).unwrap();
    let mut early = event(99, "early");
    early.at = pushmark_measure::Nanos(ORIGIN - 1_500_000_000);
    trial.events(&[early]).unwrap();
    let dir = trial.dir().to_owned();
    trial.finish(summary(delivered), None).unwrap();

    let text = fs::read_to_string(dir.join("events.csv")).unwrap();
    assert_eq!(
        text.lines().count(),
        1 + details.len() + 1,
        "one line each: {text}"
    );
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let events = records(&dir.join("events.csv"));
    let details: Vec<_> = events[1..].iter().map(|r| r[3].as_str()).collect();
    assert_eq!(
        details,
        [
            "'=1+1",
            "'+1",
            "'-1",
            "'@x",
            "'\\t=1",
            "'\\r=1",
            "a \"quoted\", b",
            "line\\nbreak",
            "\\u{1b}[31m",
            "plain",
            "early"
        ]
    );
    assert_eq!(events.last().unwrap()[1], "-1.500000", "a time may be negative");

    let row = &records(&run.dir().join("summary.csv"))[1];
    assert_eq!(
        row[2..6],
        ["'=HYPERLINK(\"http://example.org\")", "'@SUM(1)", "'-2+3", "-2.5"]
    );
}

#[test]
fn events_beyond_the_limit_are_counted() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    let many: Vec<_> = (0..60_000).map(|n| event(n, "dropped")).collect();
    // Some before it is known when the trial began: held, within the same limit.
    trial.events(&many).unwrap();
    trial.events(&many).unwrap();
    trial.interval(&interval(0, &[1])).unwrap();
    trial.events(&many[..7]).unwrap();
    let dir = trial.dir().to_owned();
    trial.finish(summary(1), None).unwrap();
    let rows = records(&dir.join("events.csv"));
    assert_eq!(rows.len(), 1 + 100_000 + 1);
    assert_eq!(
        rows.last().unwrap(),
        &["", "", "not-written", "20007 more events"]
    );
    assert!(fs::metadata(dir.join("events.csv")).unwrap().len() < 4 << 20);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_leaves_the_run_readable() {
    let parent = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(parent.path(), manifest("feed")).unwrap();
    let mut trial = run.begin_trial(0, 0, 0).unwrap();
    write_intervals(&mut trial);
    // Nothing can be replaced any more: the name of the temporary file is taken by a directory.
    fs::create_dir(trial.dir().join("trial.json.tmp")).unwrap();
    let error = trial.finish(summary(60), None).unwrap_err();
    assert!(
        matches!(error, ResultsError::Io { .. }) && error.to_string().contains("trial.json.tmp"),
        "{error}"
    );
    fs::create_dir(run.dir().join("manifest.json.tmp")).unwrap();
    assert!(run.finish(RunStatus::Complete, None).is_err());
    let read = Run::open(run.dir()).unwrap();
    assert!(!read.is_complete());
    assert_eq!(
        (read.trials[0].intervals.len(), read.manifest.status),
        (3, RunStatus::Running)
    );
}

#[test]
fn an_error_cannot_drive_a_terminal_and_says_what_to_do() {
    let error = Run::open(Path::new("\u{1b}[2Jrun")).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
    let full = ResultsError::Io {
        action: "write",
        path: "intervals.csv".into(),
        cause: std::io::Error::from(std::io::ErrorKind::StorageFull),
    };
    assert!(
        full.to_string()
            .ends_with("free some space, or choose another directory"),
        "{full}"
    );
}
