//! Broken scenarios: what each is told, place and hint included. One file in `broken/` is one case.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{PUSH, catalogue, plan_of};
use pushmark_scenario::{Options, ScenarioText, plan};

#[test]
fn every_broken_file_is_told_what_is_wrong_and_where() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("broken")
        .map(|entry| entry.expect("entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 25);
    for path in paths {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("file");
        let error = ScenarioText::from_bytes(&format!("{name}.toml"), &bytes)
            .and_then(|text| plan(&text, &Options::default(), &catalogue()))
            .expect_err(&name);
        for problem in error.problems() {
            assert!(
                problem.help().is_some_and(|hint| !hint.is_empty()),
                "{name}: no hint: {problem:?}"
            );
            assert!(error.place(problem).is_some(), "{name}: no place: {problem:?}");
        }
        let shown = error.to_string();
        assert!(
            !shown.contains(|c: char| c.is_control() && c != '\n'),
            "{name}: {shown:?}"
        );
        insta::assert_snapshot!(name, shown);
    }
}

#[test]
fn color_is_asked_for() {
    let error = plan_of("x = 1").expect_err("unknown key");
    assert!(!error.render(false).contains('\u{1b}'));
    assert!(error.render(true).contains('\u{1b}'));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = ScenarioText::read(&folder.path().join("nowhere.toml"))
        .expect_err("missing")
        .to_string();
    assert!(
        missing.contains("nowhere.toml") && missing.contains("cannot read"),
        "{missing}"
    );

    let large = folder.path().join("large.toml");
    fs::write(&large, "#".repeat((1 << 20) + 1)).expect("write");
    let error = ScenarioText::read(&large).expect_err("large").to_string();
    assert!(
        error.contains("too large") && error.contains("1,048,576 bytes"),
        "{error}"
    );
    fs::write(&large, "#".repeat(1 << 20)).expect("write");
    assert!(ScenarioText::read(&large).is_ok());

    assert!(ScenarioText::read(folder.path()).is_err());
}

#[test]
fn line_ends_of_another_system() {
    let text = PUSH.replace('\n', "\r\n");
    assert!(plan_of(&text).is_ok());
    let error = plan_of(&text.replace("10/s", "10")).expect_err("rate");
    assert!(!error.to_string().contains('\r'));
    assert_eq!(error.place(&error.problems()[0]).expect("place").line, 9);
}

#[test]
fn hostile_texts_end_in_an_error() {
    let deep = format!("{}a = 1", "a.".repeat(100_000));
    let nested = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let headers = "[a.a]\n".repeat(20_000);
    let keys: String = (0..20_000).map(|n| format!("key{n} = {n}\n")).collect();
    let names = PUSH.replace(r#""sse""#, &vec![r#""quic""#; 20_000].join(", "));
    let long_line = PUSH.replace("How", &"How ".repeat(100_000));
    for (name, text) in [
        ("deep", deep),
        ("nested", nested),
        ("headers", headers),
        ("keys", keys),
        ("names", names),
        ("long", long_line),
    ] {
        let shown = plan_of(&text).expect_err(name).to_string();
        assert!(shown.len() < 100_000, "{name}: {} bytes", shown.len());
    }
}
