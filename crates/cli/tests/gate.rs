//! The gate as a user runs it: small gates whose answer is known, their files, and what happens to damaged ones.
//!
//! Nothing here depends on how the machine feels: where alike servers are compared, it is asserted that the exit code is the
//! verdict's, whatever that is; where they differ, the difference is far beyond any noise.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::path::{Path, PathBuf};

use pushmark_results::gate::{Gate, GateVerdict};
use support::{Ended, Folder, Server, ended, over_network, pushmark, scenario};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pushmark");

fn tiny(folder: &Folder) -> PathBuf {
    let transport = over_network().next().unwrap().name;
    let load = "connections = 20\narrival = { over = \"100ms\" }\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"5s\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"200/s\"\npayload = \"100 B\"";
    folder.write("tiny.toml", &scenario(&[transport], load, rest))
}

/// A gate of three blocks of 200 + 600 ms into `out`.
fn gate(folder: &Folder, out: &Path, baseline: &str, candidate: &str) -> Ended {
    let mut command = pushmark();
    command
        .args(["gate", "--baseline", baseline, "--candidate", candidate])
        .args([
            "--looks",
            "3",
            "--alpha",
            "0.2",
            "--warmup-ms",
            "200",
            "--measure-ms",
            "600",
        ])
        .arg("--out")
        .arg(out)
        .arg(tiny(folder));
    ended(command)
}

fn replay(file: &Path, more: &[&str]) -> Ended {
    let mut command = pushmark();
    command.args(["gate", "--replay"]).arg(file).args(more);
    ended(command)
}

fn serve(more: &str) -> String {
    format!("'{PROGRAM}' serve {more}")
}

fn code(verdict: GateVerdict, strict: bool) -> i32 {
    match verdict {
        GateVerdict::Pass | GateVerdict::Improvement => 0,
        GateVerdict::Regression | GateVerdict::Failure => 1,
        GateVerdict::Inconclusive => 3 * i32::from(strict),
        GateVerdict::Invalid => 4 * i32::from(strict),
    }
}

#[test]
fn alike_servers_get_the_same_load_in_turns_and_the_verdict_can_be_reached_again() {
    let (folder, text) = (Folder::new(), serve(""));
    let out = folder.path("out");
    let first = gate(&folder, &out, &text, &text);
    let read = Gate::read(&out).unwrap();
    assert_eq!(first.code, Some(code(read.verdict, false)), "{first:#?}");
    assert_eq!(read.failures, [""; 0]);
    let course = &read.courses[0];
    assert_eq!(course.blocks.len(), 3);
    for block in &course.blocks {
        // 200 messages a second to 20 sessions, in 45 % of the time: the same for both, to the message.
        let rate = |values: &std::collections::BTreeMap<String, f64>| values["deliveries_per_second"];
        assert_eq!(rate(&block.baseline.values), 1_800.0);
        assert_eq!(rate(&block.candidate.values), 1_800.0);
        assert!(block.baseline.values["server_cpu_us_per_delivery"] > 0.0);
    }
    let coins: Vec<bool> = course.blocks.iter().map(|b| b.candidate_first).collect();
    let thrown = |k| pushmark_measure::gate::candidate_first(read.seed, k);
    assert_eq!(coins, (0..3).map(thrown).collect::<Vec<_>>());
    for file in [
        "report.md",
        "junit.xml",
        "gate.sarif",
        "table.txt",
        "forest.svg",
        "forest.png",
    ] {
        assert!(out.join("report").join(file).is_file(), "{file}");
    }
    // The same verdict, table and all, from the file alone.
    let again = replay(&out, &[]);
    assert_eq!((again.code, &again.stdout), (first.code, &first.stdout));
    let strict = replay(&out.join("gate.json"), &["--strict", "--json"]);
    assert_eq!(strict.code, Some(code(read.verdict, true)));
    assert!(strict.stdout.contains(&read.seed.to_string()));
}

#[test]
fn sessions_that_send_and_connections_that_come_and_go_take_turns_too() {
    let transport = over_network().next().unwrap().name;
    let load = "connections = 20\narrival = { over = \"100ms\" }\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"5s\"";
    for (workload, metric) in [
        (
            "kind = \"echo\"\nrate = \"20/s\"\npayload = \"100 B\"",
            "deliveries_per_second",
        ),
        ("kind = \"connect\"\nrate = \"100/s\"", "connect_time_p50"),
    ] {
        let folder = Folder::new();
        let out = folder.path("out");
        let load = match workload.contains("connect") {
            true => load.replace("arrival = { over = \"100ms\" }\n", ""),
            false => load.to_owned(),
        };
        let file = folder.write(
            "turns.toml",
            &scenario(&[transport], &load, &format!("[workload]\n{workload}")),
        );
        let mut command = pushmark();
        command
            .args(["gate", "--baseline", &serve(""), "--candidate", &serve("")])
            .args([
                "--looks",
                "3",
                "--alpha",
                "0.2",
                "--warmup-ms",
                "200",
                "--measure-ms",
                "600",
            ])
            .arg("--out")
            .arg(&out)
            .arg(file);
        let ended = ended(command);
        let read = Gate::read(&out).unwrap();
        assert_eq!(ended.code, Some(code(read.verdict, false)), "{ended:#?}");
        assert_eq!(read.failures, [""; 0]);
        for block in &read.courses[0].blocks {
            let (b, c) = (block.baseline.values[metric], block.candidate.values[metric]);
            if metric == "deliveries_per_second" {
                // 20 sessions send 20 messages a second each, in 45 % of the time.
                assert!(b == c && (150.0..210.0).contains(&b), "{b} {c}");
            } else {
                assert!(b > 0.0 && c > 0.0);
            }
        }
    }
}

#[test]
fn heavy_work_is_a_regression_in_processor_time() {
    let folder = Folder::new();
    let out = folder.path("out");
    let ended = gate(&folder, &out, &serve(""), &serve("--inject-work-us 3000")).with_code(1);
    assert!(ended.stdout.starts_with("regression"), "{ended:#?}");
    let line = ended
        .stdout
        .lines()
        .find(|l| l.trim_start().starts_with("CPU per delivery"));
    assert!(line.unwrap().ends_with("REGRESSION"), "{ended:#?}");
    let junit = std::fs::read_to_string(out.join("report/junit.xml")).unwrap();
    let sarif = std::fs::read_to_string(out.join("report/gate.sarif")).unwrap();
    assert!(
        junit.contains("<failure message=\"CPU per delivery is worse"),
        "{junit}"
    );
    assert!(sarif.contains("\"ruleId\": \"regression\""), "{sarif}");
}

#[test]
fn one_message_lost_is_a_failure_by_name() {
    let folder = Folder::new();
    let out = folder.path("out");
    let ended = gate(&folder, &out, &serve(""), &serve("--inject-drop 40")).with_code(1);
    let words = "deliveries lost without a word from the server: 20 by the candidate, first in block 1, none by the baseline";
    assert!(ended.stdout.contains(words), "{ended:#?}");
    let read = Gate::read(&out).unwrap();
    assert_eq!(
        (read.verdict, read.courses[0].blocks.len()),
        (GateVerdict::Failure, 1)
    );
    replay(&out, &[]).with_code(1);
}

#[test]
fn a_leak_of_a_kib_a_connection_is_a_regression_in_memory() {
    let folder = Folder::new();
    let transport = over_network().next().unwrap().name;
    // So many that what else a server's memory does is far below a KiB for each.
    let load = "connections = 400\narrival = { over = \"300ms\" }\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"5s\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"10/s\"\npayload = \"100 B\"";
    let file = folder.write("leak.toml", &scenario(&[transport], load, rest));
    let mut command = pushmark();
    command
        .args([
            "gate",
            "--baseline",
            &serve(""),
            "--candidate",
            &serve("--inject-leak-bytes 1024"),
        ])
        .args([
            "--looks",
            "3",
            "--alpha",
            "0.2",
            "--warmup-ms",
            "200",
            "--measure-ms",
            "400",
        ])
        .arg("--out")
        .arg(folder.path("out"))
        .arg(file);
    let ended = ended(command).with_code(1);
    let line = ended
        .stdout
        .lines()
        .find(|l| l.trim_start().starts_with("memory per connection"));
    assert!(line.unwrap().ends_with("REGRESSION"), "{ended:#?}");
}

#[test]
fn messages_twice_or_out_of_order_are_failures_and_a_baselines_are_not_the_candidates() {
    let folder = Folder::new();
    for (flag, words) in [
        ("--inject-duplicate 40", "messages delivered twice"),
        ("--inject-swap 40", "messages delivered out of order"),
    ] {
        let out = folder.path(flag);
        let ended = gate(&folder, &out, &serve(""), &serve(flag)).with_code(1);
        assert!(ended.stdout.contains(words), "{ended:#?}");
    }
    let out = folder.path("both");
    gate(
        &folder,
        &out,
        &serve("--inject-drop 40"),
        &serve("--inject-drop 40"),
    );
    assert_eq!(Gate::read(&out).unwrap().failures, [""; 0]);
}

#[test]
fn a_server_that_dies_fails_as_the_candidate_and_is_no_baseline() {
    let folder = Folder::new();
    let dies = "sh -c 'exit 7'";
    let ended = gate(&folder, &folder.path("candidate"), &serve(""), dies).with_code(1);
    assert!(ended.stdout.contains("the candidate did not hold"), "{ended:#?}");
    let ended = gate(&folder, &folder.path("baseline"), dies, &serve("")).with_code(2);
    assert!(ended.stderr.contains("the baseline did not hold"), "{ended:#?}");
    assert!(!folder.path("baseline").join("gate.json").exists());
    let ended = gate(
        &folder,
        &folder.path("none"),
        &serve(""),
        "no-such-program-at-all",
    )
    .with_code(2);
    assert!(ended.stderr.contains("there is no program"), "{ended:#?}");
}

#[test]
fn a_candidate_that_dies_under_load_fails_by_name() {
    let folder = Folder::new();
    // It is killed well after it said that it is ready, and before its window can end.
    let kills = format!("sh -c '(sleep 0.8; kill -9 $$) & exec {PROGRAM} serve \"$@\"' sh");
    let ended = gate(&folder, &folder.path("out"), &serve(""), &kills).with_code(1);
    assert!(
        ended.stdout.contains("the candidate died") || ended.stdout.contains("the candidate did not hold"),
        "{ended:#?}"
    );
}

#[test]
fn servers_that_run_already_are_compared_without_what_they_cannot_tell() {
    let folder = Folder::new();
    let (a, b) = (
        Server::start(&["--threads", "1"]),
        Server::start(&["--threads", "1"]),
    );
    let out = folder.path("out");
    let ended = gate(&folder, &out, a.address(), b.address());
    let read = Gate::read(&out).unwrap();
    assert_eq!(ended.code, Some(code(read.verdict, false)), "{ended:#?}");
    assert_eq!(read.failures, [""; 0]);
    let notes = read.notes.join("\n");
    assert!(notes.contains("memory per connection is left out"), "{notes}");
    assert!(
        read.courses[0]
            .metrics
            .iter()
            .any(|m| m.name == "server_cpu_us_per_delivery")
    );
    let ended = gate(&folder, &folder.path("far"), a.address(), "192.0.2.1:80").with_code(2);
    assert!(ended.stderr.contains("outside loopback"), "{ended:#?}");
}

#[test]
fn files_that_are_not_what_was_written_are_no_verdict() {
    let folder = Folder::new();
    let out = folder.path("out");
    gate(&folder, &out, &serve(""), &serve("--inject-drop 40")).with_code(1);
    let text = std::fs::read_to_string(out.join("gate.json")).unwrap();
    let manifest = "{\n  \"format_version\": 1\n}\n".to_owned();
    let cases = [
        ("empty", String::new()),
        ("cut", text[..text.len() / 2].to_owned()),
        ("without its end", text[..text.len() - 4].to_owned()),
        (
            "newer",
            text.replacen("\"format_version\": 1", "\"format_version\": 2", 1),
        ),
        (
            "older",
            text.replacen("\"format_version\": 1", "\"format_version\": 0", 1),
        ),
        ("altered", text.replacen("\"failure\"", "\"pass\"", 1)),
        ("foreign", manifest),
        ("not JSON", "pass\n".to_owned()),
    ];
    for (what, text) in cases {
        let ended = replay(&folder.write("gate.json", &text), &[]);
        assert!(matches!(ended.code, Some(2 | 4)), "{what}: {ended:#?}");
        assert!(
            !ended.stdout.contains("pass") && !ended.stderr.is_empty(),
            "{what}: {ended:#?}"
        );
    }
    replay(&folder.path("nowhere"), &[]).with_code(2);
}

#[test]
fn what_cannot_be_gated_is_refused_before_any_traffic() {
    let folder = Folder::new();
    let file = tiny(&folder);
    let refused = |arguments: &[&str], words: &str| {
        let mut command = pushmark();
        command.arg("gate").args(arguments);
        let ended = ended(command).with_code(2);
        assert!(ended.stderr.contains(words), "{words}: {ended:#?}");
    };
    let (file, arms) = (file.to_str().unwrap(), serve(""));
    let both = ["--baseline", &arms, "--candidate", &arms];
    refused(&[file], "--baseline");
    refused(
        &[&both[..], &["scenarios/stall.toml"]].concat(),
        "breaks something on purpose",
    );
    refused(&[&both[..], &[file, "--quick"]].concat(), "--profile quick");
    refused(&[&both[..], &[file, "--looks", "2"]].concat(), "no look can find");
    refused(&[&both[..], &[file, file]].concat(), "same name");
}
