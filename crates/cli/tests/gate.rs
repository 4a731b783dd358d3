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
    drained(folder, "5s")
}

/// The scenario `tiny` with so long a drain.
fn drained(folder: &Folder, drain: &str) -> PathBuf {
    let transport = over_network().next().unwrap().name;
    let load = format!(
        "connections = 20\narrival = {{ over = \"100ms\" }}\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"{drain}\""
    );
    let rest = "[workload]\nkind = \"push\"\nrate = \"200/s\"\npayload = \"100 B\"";
    folder.write("tiny.toml", &scenario(&[transport], &load, rest))
}

/// Three blocks of 200 + 600 ms.
const SHORT: [&str; 8] = [
    "--looks",
    "3",
    "--alpha",
    "0.2",
    "--warmup-ms",
    "200",
    "--measure-ms",
    "600",
];

/// The same with room for a block that the noise of one metric has put second: of three, the p-value is then 2/8 or 3/8, not 1/8.
const SHORT_AND_SURE: [&str; 8] = [
    "--looks",
    "3",
    "--alpha",
    "0.45",
    "--warmup-ms",
    "200",
    "--measure-ms",
    "600",
];

/// A gate of three blocks of 200 + 600 ms into `out`.
fn gate(folder: &Folder, out: &Path, baseline: &str, candidate: &str) -> Ended {
    gate_by(&SHORT, folder, out, baseline, candidate)
}

fn gate_by(plan: &[&str], folder: &Folder, out: &Path, baseline: &str, candidate: &str) -> Ended {
    // What is dropped never comes: each such drain goes on to its end.
    let drops = [baseline, candidate]
        .iter()
        .any(|arm| arm.contains("--inject-drop") || arm.contains("--inject-lose"));
    let mut command = pushmark();
    command
        .args(["gate", "--baseline", baseline, "--candidate", candidate])
        .args(plan)
        .arg("--out")
        .arg(out)
        .arg(drained(folder, if drops { "2s" } else { "5s" }));
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
    let heavy = serve("--inject-work-us 3000");
    let ended = gate_by(&SHORT_AND_SURE, &folder, &out, &serve(""), &heavy).with_code(1);
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
    // What both did is told, though nothing was tested.
    for part in ["CPU per delivery", "latency p50", "not tested"] {
        assert!(ended.stdout.contains(part), "{part}: {ended:#?}");
    }
    let page = std::fs::read_to_string(out.join("report/report.md")).unwrap();
    assert!(page.contains("| CPU per delivery |"), "{page}");
    assert!(
        page.contains("| deliveries lost without a word from the server | tiny/"),
        "{page}"
    );
    replay(&out, &[]).with_code(1);
}

#[test]
fn one_single_delivery_lost_is_enough() {
    let folder = Folder::new();
    let out = folder.path("out");
    // One of the 1,800 that each of three blocks has: however many there are, one is too many, and no share is asked for.
    let ended = gate(&folder, &out, &serve(""), &serve("--inject-lose-delivery 1000")).with_code(1);
    let words = "deliveries lost without a word from the server: 1 by the candidate, first in block 1, none by the baseline";
    assert!(ended.stdout.contains(words), "{ended:#?}");
    assert_eq!(Gate::read(&out).unwrap().verdict, GateVerdict::Failure);
    replay(&out, &[]).with_code(1);
}

#[test]
fn a_single_crash_in_a_later_block_is_a_failure_by_name() {
    let folder = Folder::new();
    let count = folder.path("starts");
    // It holds in its first two blocks, and is killed in the third.
    let once = format!(
        "sh -c 'echo >> {count}; if [ $(wc -l < {count}) = 3 ]; then (sleep 0.8; kill -9 $$) & fi; exec {PROGRAM} serve \"$@\"' sh",
        count = count.display()
    );
    let out = folder.path("out");
    let ended = gate(&folder, &out, &serve(""), &once).with_code(1);
    assert!(
        ended.stdout.contains("block 3: the candidate died")
            || ended.stdout.contains("block 3: the candidate did not hold"),
        "{ended:#?}"
    );
    assert_eq!(Gate::read(&out).unwrap().courses[0].blocks.len(), 2);
    assert!(ended.stdout.contains("not tested"), "{ended:#?}");
    replay(&out, &[]).with_code(1);
}

#[test]
fn what_a_self_test_came_to_is_told_again_from_its_log() {
    let folder = Folder::new();
    let line = |kind: &str, verdict: &str, percent: &str| {
        let seed = kind.len();
        format!(
            "{{\"kind\":\"{kind}\",\"injected_percent\":{percent},\"injected_us\":null,\"ended_unix_s\":1,\"took_s\":60.0,\
             \"load_average\":1.0,\"seed\":{seed},\"verdict\":\"{verdict}\",\"machine\":\"fit\",\"failures\":[],\"readings\":[]}}\n"
        )
    };
    let text = line("alike", "pass", "null") + &line("slower", "regression", "10.0");
    let summary = |text: &str| {
        let mut command = pushmark();
        command
            .args(["gate", "--self-test-summary"])
            .arg(folder.write("log", text));
        ended(command)
    };
    let told = summary(&text).with_code(0);
    assert!(
        told.stdout.contains("found, in anything                 1 of 1"),
        "{told:#?}"
    );
    assert!(told.stdout.starts_with("broken off after 2 gates"), "{told:#?}");
    let whole = summary(&(text.clone() + "{\"summary\":[]}\n")).with_code(0);
    assert!(!whole.stdout.contains("broken off"), "{whole:#?}");
    let twice = summary(&(text.clone() + &text)).with_code(2);
    assert!(
        twice.stderr.contains("line 3") && twice.stdout.is_empty(),
        "{twice:#?}"
    );
    let cut = summary(&text[..text.len() - 9]).with_code(2);
    assert!(cut.stderr.contains("line 2") && cut.stdout.is_empty(), "{cut:#?}");
    summary("").with_code(2);
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
            // As in `SHORT_AND_SURE`.
            "0.45",
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
        .find(|l| l.trim_start().starts_with("memory per session"));
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
    assert!(!ended.stdout.contains("both servers anew"), "{ended:#?}");
    let notes = read.notes.join("\n");
    assert!(notes.contains("memory per session is left out"), "{notes}");
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
fn a_file_cut_or_changed_anywhere_is_no_verdict() {
    let folder = Folder::new();
    let out = folder.path("out");
    gate(&folder, &out, &serve(""), &serve("--inject-drop 40")).with_code(1);
    let bytes = std::fs::read(out.join("gate.json")).unwrap();
    let at = folder.path("gate.json");
    let mut places: Vec<usize> = (0..bytes.len()).step_by(bytes.len() / 200).collect();
    places.push(bytes.len() - 1);
    for place in places {
        std::fs::write(&at, &bytes[..place]).unwrap();
        assert!(Gate::read(&at).is_err(), "cut at {place}");
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        std::fs::write(&at, &changed).unwrap();
        assert!(Gate::read(&at).is_err(), "changed at {place}");
    }
    // Sealed as it should be, and not what its own figures say.
    type Change = fn(&mut Gate);
    let changes: [(&str, bool, Change); 7] = [
        ("a pass", false, |g| g.verdict = GateVerdict::Pass),
        ("no failures", false, |g| {
            (g.failures, g.verdict) = (Vec::new(), GateVerdict::Pass);
        }),
        ("no failed block", false, |g| {
            g.courses[0].blocks.clear();
            (g.failures, g.verdict) = (Vec::new(), GateVerdict::Pass);
        }),
        ("no blocks", true, |g| g.courses[0].blocks.clear()),
        ("no courses", true, |g| {
            (g.courses, g.table) = Default::default();
            g.verdict = GateVerdict::Pass;
        }),
        ("no looks", true, |g| g.plan.looks.clear()),
        ("another scenario's", true, |g| {
            g.table.rows[0].metric.scenario = "other".into();
        }),
    ];
    let alike = folder.path("alike");
    gate(&folder, &alike, &serve(""), &serve(""));
    for (what, of_alike, change) in changes {
        let mut gate = Gate::read(if of_alike { &alike } else { &out }).unwrap();
        change(&mut gate);
        let dir = folder.path(&format!("altered {what}"));
        std::fs::create_dir(&dir).unwrap();
        gate.write_into(&dir).unwrap();
        let ended = replay(&dir, &[]);
        assert!(matches!(ended.code, Some(2 | 4)), "{what}: {ended:#?}");
        assert!(ended.stdout.is_empty(), "{what}: {ended:#?}");
    }
}

#[test]
fn floors_and_budgets_of_the_scenario_are_those_that_judge() {
    let folder = Folder::new();
    let out = folder.path("out");
    let transport = over_network().next().unwrap().name;
    let load = "connections = 20\narrival = { over = \"100ms\" }\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"5s\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"200/s\"\npayload = \"100 B\"\n\n\
                [gate]\n\"latency.p99\" = { floor = \"500 %\", budget = \"1000 %\" }\n\
                cpu_per_delivery = { floor = \"4.5 %\", budget = \"12 %\" }\n\
                \"detection_time.p50\" = { floor = \"1 %\", budget = \"2 %\" }";
    let file = folder.write("limits.toml", &scenario(&[transport], load, rest));
    let mut command = pushmark();
    command
        .args(["gate", "--baseline", &serve(""), "--candidate", &serve("")])
        .args(SHORT)
        .arg("--out")
        .arg(&out)
        .arg(file);
    let ended = ended(command);
    let read = Gate::read(&out).unwrap();
    assert_eq!(ended.code, Some(code(read.verdict, false)), "{ended:#?}");
    let metric = |name: &str| {
        let all = &read.courses[0].metrics;
        all.iter().find(|m| m.name == name).map(|m| (m.floor, m.budget))
    };
    assert_eq!(metric("server_cpu_us_per_delivery"), Some((0.045, 0.12)));
    assert_eq!(metric("latency_p50"), Some((0.03, 0.05)));
    assert!(ended.stdout.contains("4.5 / 12 %"), "{ended:#?}");
    let notes = read.notes.join("\n");
    assert!(
        notes.contains("limits detection time p50, which is not judged here"),
        "{notes}"
    );
    // The file's own limits, whatever the scenario says by then.
    let again = replay(&out, &[]);
    assert_eq!((again.code, &again.stdout), (ended.code, &ended.stdout));
}

#[test]
fn what_breaks_is_compared_in_phases() {
    let folder = Folder::new();
    let out = folder.path("out");
    let transport = over_network().next().unwrap().name;
    let load = "connections = 10\narrival = \"at-once\"\nwarmup = \"100ms\"\nmeasure = \"2500ms\"\ndrain = \"500ms\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"50/s\"\npayload = \"100 B\"\n\n\
                [reconnect]\npolicy = \"fixed\"\ndelay = \"100ms\"\n\n\
                [[fault]]\nat = \"200ms\"\nkind = [\"fin\", \"restart\"]\nlasts = \"200ms\"";
    let file = folder.write("breaks.toml", &scenario(&[transport], load, rest));
    let mut command = pushmark();
    command
        .args(["gate", "--baseline", &serve(""), "--candidate", &serve("")])
        .args([
            "--looks",
            "2",
            "--alpha",
            "0.3",
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
    // What a fault takes with it breaks no promise.
    assert_eq!(read.failures, [""; 0]);
    assert_eq!(read.courses.len(), 2);
    for block in read.courses.iter().flat_map(|c| &c.blocks) {
        for values in [&block.baseline.values, &block.candidate.values] {
            assert_eq!((values["undetected"], values["not_recovered"]), (0.0, 0.0));
            assert!(values["detection_time_p50"] > 0.0, "{values:?}");
            assert!(values["time_to_reconnect_p50"] > 0.0, "{values:?}");
            assert!(!values.contains_key("latency_p50"));
        }
    }
    assert!(ended.stdout.contains("time to reconnect p50"), "{ended:#?}");
    assert!(
        ended.stdout.contains("loads one after the other") && !ended.stdout.contains("in turns of"),
        "{ended:#?}"
    );
    replay(&out, &[]).with_code(code(read.verdict, false));
}

#[test]
fn a_candidate_that_does_not_come_back_from_a_restart_fails_by_name() {
    let folder = Folder::new();
    let (out, begun) = (folder.path("out"), folder.path("begun"));
    let once = format!(
        "sh -c 'if [ -e {begun} ]; then exit 1; fi; touch {begun}; exec {PROGRAM} serve \"$@\"' sh",
        begun = begun.display()
    );
    let transport = over_network().next().unwrap().name;
    let load =
        "connections = 10\narrival = \"at-once\"\nwarmup = \"100ms\"\nmeasure = \"1s\"\ndrain = \"500ms\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"50/s\"\npayload = \"100 B\"\n\n\
                [reconnect]\npolicy = \"fixed\"\ndelay = \"100ms\"\n\n\
                [[fault]]\nat = \"200ms\"\nkind = \"restart\"\nlasts = \"200ms\"";
    let file = folder.write("restarts.toml", &scenario(&[transport], load, rest));
    let mut command = pushmark();
    command
        .args(["gate", "--baseline", &serve(""), "--candidate", &once])
        .args(SHORT)
        .arg("--out")
        .arg(&out)
        .arg(file);
    let ended = ended(command).with_code(1);
    let words = "block 1: what was to break in the candidate could not be broken or mended";
    assert!(ended.stdout.contains(words), "{ended:#?}");
    assert_eq!(Gate::read(&out).unwrap().verdict, GateVerdict::Failure);
    replay(&out, &[]).with_code(1);
}

#[test]
fn a_history_judges_by_earlier_sessions_and_keeps_the_new_one() {
    use pushmark_results::history::{History, HistoryGate};
    let folder = Folder::new();
    let (file, path) = (tiny(&folder), folder.path("history.jsonl"));
    let session = |out: &Path, candidate: &str, more: &[&str]| {
        let mut command = pushmark();
        command
            .args(["gate", "--baseline", &serve(""), "--candidate", candidate])
            .args(SHORT)
            .args(more)
            .arg("--history")
            .arg(&path)
            .arg("--out")
            .arg(out)
            .arg(&file);
        ended(command)
    };
    let first = session(&folder.path("first"), &serve(""), &["--label", "c1"]).with_code(0);
    assert!(
        first
            .stdout
            .starts_with("inconclusive, c1 against 0 earlier sessions"),
        "{first:#?}"
    );
    replay(&folder.path("first"), &["--strict"]).with_code(3);
    let mut history = History::read(&path).unwrap().unwrap();
    assert_eq!(history.sessions.len(), 1);

    // Eleven more that differ by two percent to and fro: what a quiet machine would have made.
    for number in 1..12u64 {
        let mut another = history.sessions[0].clone();
        another.seed = another.seed.wrapping_add(number);
        for v in &mut another.values {
            v.h = 0.02 * ((number * 7 % 11) as f64 / 5.0 - 1.0);
        }
        history.sessions.push(another);
    }
    history.sessions[0].values.iter_mut().for_each(|v| v.h = 0.0);
    history.write(&path).unwrap();
    let heavy = serve("--inject-work-us 3000");
    let out = folder.path("worse");
    let worse = session(&out, &heavy, &["--judge-only"]).with_code(1);
    assert!(worse.stdout.starts_with("regression, "), "{worse:#?}");
    let line = worse
        .stdout
        .lines()
        .find(|l| l.trim_start().starts_with("CPU per delivery"));
    assert!(line.unwrap().ends_with("REGRESSION"), "{worse:#?}");
    assert_eq!(History::read(&path).unwrap().unwrap(), history, "only judged");
    let again = replay(&out, &[]).with_code(1);
    assert_eq!(again.stdout, worse.stdout);
    assert!(out.join("report/report.md").is_file() && out.join("report/junit.xml").is_file());
    // A file that says something else than its sessions is no verdict.
    let mut altered = HistoryGate::read(&out).unwrap().unwrap();
    altered.earlier.truncate(9);
    let dir = folder.path("altered");
    std::fs::create_dir(&dir).unwrap();
    altered.write_into(&dir).unwrap();
    replay(&dir, &[]).with_code(4);

    let accepted = folder.path("accepted");
    session(&accepted, &heavy, &["--accept"]).with_code(0);
    // The file and what is made for CI say the same as the exit code.
    let again = replay(&accepted, &[]).with_code(0);
    assert!(
        again.stdout.contains("accepted: a new series begins"),
        "{again:#?}"
    );
    let junit = std::fs::read_to_string(accepted.join("report/junit.xml")).unwrap();
    assert!(junit.contains("failures=\"0\""), "{junit}");
    let grown = History::read(&path).unwrap().unwrap();
    assert_eq!((grown.sessions.len(), grown.measure().len()), (13, 1));

    // What does not belong, or is not whole, is refused before any traffic.
    let refused = |more: &[&str], words: &str| {
        let ended = session(&folder.path(words), &serve(""), more).with_code(2);
        assert!(
            ended.stderr.contains(words) && ended.stdout.is_empty(),
            "{ended:#?}"
        );
    };
    refused(&["--set", "workload.rate=100/s"], "another text of tiny");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(&[], "cut off");
    std::fs::write(&path, "").unwrap();
    refused(&[], "empty");
    std::fs::copy(out.join("gate.json"), &path).unwrap();
    refused(&[], "first line");
    let mut command = pushmark();
    command.arg("trend").arg(&path);
    ended(command).with_code(2);
}

#[test]
fn what_crept_in_is_told_by_session() {
    use pushmark_measure::gate::Metric;
    use pushmark_results::history::{Head, History, Session, SessionValue};
    let folder = Folder::new();
    let session = |i: u64| Session {
        label: format!("c{i}"),
        started_unix_s: i,
        seed: i,
        pushmark_version: "0".into(),
        candidate: "build".into(),
        machine: ("cpu".into(), 2),
        fit: Default::default(),
        verdict: GateVerdict::Pass,
        accepted: false,
        values: vec![SessionValue {
            metric: Metric::resource("feed", "server_cpu_us_per_delivery"),
            h: 0.02 * (i / 8) as f64 + 0.001 * (i * 7 % 5) as f64,
        }],
    };
    let history = History {
        head: Head {
            format_version: 1,
            document: "pushmark-history".into(),
            reference_words: Vec::new(),
            reference_program: (1, 1),
            reference_files: None,
            profile: "quick".into(),
            blocks: 10,
            warmup_s: 1.0,
            measure_s: 1.0,
            scenarios: Vec::new(),
        },
        sessions: (0..24).map(session).collect(),
    };
    let path = folder.path("history.jsonl");
    history.write(&path).unwrap();
    let trend = |more: &[&str]| {
        let mut command = pushmark();
        command.arg("trend").arg(&path).args(more);
        ended(command)
    };
    let out = folder.path("trend");
    let told = trend(&["--out", out.to_str().unwrap()]).with_code(0);
    assert!(
        told.stdout
            .starts_with("crept in over 24 sessions: CPU per delivery of feed"),
        "{told:#?}"
    );
    assert!(told.stdout.contains("from session 9 (c8) on"), "{told:#?}");
    assert!(
        out.join("report/trend-01-server-cpu-us-per-delivery.svg")
            .is_file()
    );
    trend(&["--strict"]).with_code(1);
    let json = trend(&["--json"]).with_code(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["metrics"][0]["changes"][0]["label"], "c8");
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
    let transport = over_network().next().unwrap().name;
    let load = "connections = 4\nmeasure = \"1s\"";
    let crash = "[workload]\nkind = \"push\"\nrate = \"10/s\"\npayload = \"100 B\"\n\n\
                 [[fault]]\nat = \"100ms\"\nkind = \"crash\"";
    let crash = folder.write("crash.toml", &scenario(&[transport], load, crash));
    let crash = crash.to_str().unwrap();
    let addresses = ["--baseline", "127.0.0.1:9", "--candidate", "127.0.0.1:9", crash];
    refused(&addresses, "has the fault crash");
    refused(&[&both[..], &[file, "--accept"]].concat(), "--history");
    let history = folder.path("history.jsonl");
    let history = ["--history", history.to_str().unwrap(), file];
    let nowhere = folder.path("nowhere/history.jsonl");
    let nowhere = ["--history", nowhere.to_str().unwrap(), file];
    refused(&[&both[..], &nowhere].concat(), "which is no directory");
    // What changes a scenario changes that of a self-test.
    refused(
        &["--self-test", "1", "--set", "load.connections=none"],
        "load.connections",
    );
    // Nothing listens to what a server that is started here would have to trust; it is said before it is started.
    let gone = ["--baseline", "false", "--candidate", "false", file];
    refused(
        &[&gone[..], &["--insecure"]].concat(),
        "are for a server that runs already",
    );
    let running = [&["--baseline", "127.0.0.1:9", "--candidate", &arms][..], &history].concat();
    refused(&running, "frozen reference, and must be a command");
    refused(&[&both[..], &[file, "--quick"]].concat(), "--profile quick");
    refused(&[&both[..], &[file, "--looks", "2"]].concat(), "no look can find");
    refused(&[&both[..], &[file, file]].concat(), "same name");
}
