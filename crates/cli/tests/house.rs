//! House rules that a machine can check: arrows between crates, doc headers, names in their rooms, banned words.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, into);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                into.push(entry);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join("crates"), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "the sources are where they are looked for");
    paths
        .into_iter()
        .map(|p| {
            (
                p.strip_prefix(root()).unwrap().to_owned(),
                std::fs::read_to_string(&p).unwrap(),
            )
        })
        .collect()
}

/// A file's code without its unit tests, which stand last.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "benches") || path.file_name().unwrap() == "tests.rs"
}

#[test]
fn arrows_between_crates_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "cli",
            &[
                "server",
                "loadgen",
                "report",
                "results",
                "scenario",
                "transport",
                "measure",
            ][..],
        ),
        ("server", &["transport", "measure"]),
        ("loadgen", &["transport", "measure", "scenario"]),
        ("results", &["measure", "scenario"]),
        ("report", &["results", "measure"]),
        ("transport", &["measure"]),
        ("scenario", &[]),
        ("measure", &[]),
        ("floor", &[]),
    ]);
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    let mut seen = BTreeSet::new();
    for package in &metadata.packages {
        let name = package
            .name
            .strip_prefix("pushmark-")
            .expect("every crate of ours is called pushmark-…");
        seen.insert(name.to_owned());
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is a new crate: give it its arrows here"));
        for dependency in &package.dependencies {
            if let Some(to) = dependency.name.strip_prefix("pushmark-") {
                assert!(
                    may.contains(&to),
                    "{name} must not depend on {to}: see ARCHITECTURE.md"
                );
            }
        }
    }
    assert_eq!(seen, allowed.keys().map(|k| (*k).to_owned()).collect());
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! "),
            "{}: the first line says in //! what the file is",
            path.display()
        );
    }
}

#[test]
fn a_transports_name_stands_only_in_its_room() {
    let names: Vec<String> = pushmark_transport::registry::ROWS
        .iter()
        .map(|row| format!("\"{}\"", row.name))
        .collect();
    for (path, text) in sources() {
        // The floor speaks to no seam: it moves the bytes of two transports by hand.
        if path.starts_with("crates/transport") || path.starts_with("crates/floor") || is_test(&path) {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for name in &names {
                // `"null"` is also a JSON word; as a transport it would stand in a comparison or a table of names.
                assert!(
                    !line.contains(name),
                    "{}:{}: {name} belongs in the registry",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    for (path, text) in sources() {
        if path.starts_with("crates/cli") || is_test(&path) {
            continue;
        }
        for word in ["println!", "eprintln!", "process::exit"] {
            assert!(
                !without_tests(&text).contains(word),
                "{}: {word} belongs in the command line",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_stands_in_one_file_that_says_why() {
    let word = ["un", "safe "].concat();
    let argued = Path::new("crates/transport/src/stamps.rs");
    for (path, text) in sources() {
        if path == argued {
            assert!(text.contains("# Why this file may be unsafe"));
            continue;
        }
        let code = without_tests(&text)
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"));
        for line in code {
            let found = line.contains(&format!("{word}{{")) || line.contains(&format!("{word}fn"));
            assert!(!found || is_test(&path), "{}: {line}", path.display());
        }
    }
}

#[test]
fn files_stay_small_enough_to_hold_one_thing() {
    const MOST_LINES: usize = 600;
    for (path, text) in sources() {
        let lines = without_tests(&text).lines().count();
        assert!(
            lines <= MOST_LINES || is_test(&path),
            "{} has {lines} lines: look for the wall",
            path.display()
        );
    }
}

#[test]
fn nothing_unfinished_is_left() {
    let words = [
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
        ["FIX", "ME"].concat(),
    ];
    for (path, text) in sources() {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{}: {word}", path.display());
        }
    }
}

#[test]
fn the_lock_file_names_the_public_index_alone() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for line in lock.lines().filter(|l| l.starts_with("source = ")) {
        assert_eq!(
            line,
            "source = \"registry+https://github.com/rust-lang/crates.io-index\""
        );
    }
}

#[test]
fn the_committed_schema_is_current() {
    let committed = std::fs::read_to_string(root().join("schema/scenario.schema.json")).unwrap();
    let output = assert_cmd::Command::cargo_bin("pushmark")
        .unwrap()
        .arg("schema")
        .output()
        .unwrap();
    assert!(
        String::from_utf8(output.stdout).unwrap() == committed,
        "make it again: cargo run -- schema > schema/scenario.schema.json"
    );
}
