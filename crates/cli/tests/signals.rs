//! Signals: a run that is asked to stop, killed, or loses a server or a worker, in each of its phases.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::path::Path;

use pushmark_measure::{Grade, clock};
use pushmark_results::{Run, RunStatus};
use rustix::process::Signal;
use support::{
    Folder, Running, Server, all_gone, at_once, ended, freeze, kill, over_network, pushmark, scenario,
    with_open_files,
};

const PHASES: [&str; 4] = ["ramp", "warm-up", "measure", "drain"];

/// A scenario of two cells whose first trial stays in `phase` for much longer than any test waits, but for the drain,
/// which nothing cuts short once it has begun.
fn lasting(phase: &str, kind: &str, server: Option<&Server>) -> String {
    let (arrival, warmup, measure) = match phase {
        "ramp" => ("300s", "1s", "1s"),
        "warm-up" => ("100ms", "300s", "1s"),
        "measure" => ("100ms", "100ms", "300s"),
        _ => ("100ms", "100ms", "1s"),
    };
    let load = format!(
        "connections = 20\narrival = {{ over = \"{arrival}\" }}\nwarmup = \"{warmup}\"\nmeasure = \"{measure}\"\ndrain = \"3s\""
    );
    let names: Vec<_> = over_network().map(|row| row.name).take(2).collect();
    let target = server.map(Server::target).unwrap_or_default();
    scenario(
        &names,
        &load,
        &format!("[workload]\nkind = \"{kind}\"\nrate = \"100/s\"\npayload = \"100 B\"\n{target}"),
    )
}

/// What a run left behind when it was stopped in its first trial.
fn partial(out: &Path) -> Run {
    let run = Run::open(out).unwrap();
    assert!(!run.is_complete());
    assert_eq!(run.trials.len(), 1, "no further trial is begun");
    run
}

#[test]
fn a_run_that_is_asked_to_stop_reports_what_there_is() {
    let mut cases = Vec::new();
    for signal in [Signal::INT, Signal::TERM] {
        for phase in PHASES {
            // Both workloads meet every phase and both signals.
            let kind = if (phase == "ramp" || phase == "measure") == (signal == Signal::INT) {
                "push"
            } else {
                "echo"
            };
            cases.push((signal, phase, kind));
        }
    }
    at_once(cases, |(signal, phase, kind)| {
        let case = format!("{signal:?} in {phase} of {kind}");
        // A message that never comes keeps the drain going to its end.
        let server = (phase == "drain").then(|| Server::start(&["--threads", "1", "--inject-drop", "20"]));
        let folder = Folder::new();
        let file = folder.write("lasting.toml", &lasting(phase, kind, server.as_ref()));
        let out = folder.path("out");
        let running = Running::start(support::run(&file, &out));
        let mark = running.mark();
        // By the second report of the measured window, messages were measured for a second.
        let reports = if phase == "measure" { 2 } else { 1 };
        running.wait_for_lines(reports, &["[1/2]", &format!(": {phase}")]);
        running.signal(signal);
        let ended = running.wait().with_code(4);
        all_gone(&mark);

        let run = partial(&out);
        assert_eq!(run.manifest.status, RunStatus::Partial, "{case}");
        assert_eq!(
            run.manifest.status_reason.as_deref(),
            Some("interrupted by a signal"),
            "{case}"
        );
        let summary = run.trials[0]
            .summary
            .as_ref()
            .unwrap_or_else(|| panic!("{case}: {ended:#?}"));
        assert_eq!(summary.imbalances, Vec::<String>::new(), "{case}");
        assert_eq!(summary.partial, phase != "drain", "{case}");
        let books = &summary.books;
        assert_eq!(
            books.lost,
            if phase == "drain" { 20 } else { 0 },
            "{case}: {books:?}"
        );
        assert_eq!(
            (books.duplicated, books.reordered, books.corrupt),
            (0, 0, 0),
            "{case}: {books:?}"
        );
        assert_eq!(
            books.delivered_once > 0,
            phase == "measure" || phase == "drain",
            "{case}: {books:?}"
        );
        assert_eq!(summary.negative_samples, 0, "{case}");
        let page = std::fs::read_to_string(out.join("report/report.html")).unwrap();
        assert!(page.contains("partial"), "{case}: the page says so");
        assert!(ended.stdout.contains("partial"), "{case}: {ended:#?}");
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    at_once(
        [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)],
        |(first, second)| {
            let server = Server::start(&["--threads", "1", "--inject-drop", "20"]);
            let folder = Folder::new();
            // The message that never comes would keep the drain going for five minutes.
            let text = lasting("measure", "push", Some(&server)).replace("drain = \"3s\"", "drain = \"60s\"");
            let file = folder.write("lasting.toml", &text);
            let out = folder.path("out");
            let running = Running::start(support::run(&file, &out));
            let mark = running.mark();
            // By the second report, an interval is written.
            running.wait_for_lines(2, &[": measure"]);
            running.signal(first);
            running.wait_for_line(&[": drain"]);
            let asked = clock::now();
            running.signal(second);
            let ended = running.wait().with_code(4);
            assert!(clock::now().duration_since(asked).as_secs() < 30, "{ended:#?}");
            assert!(ended.stderr.contains("ended at once"), "{ended:#?}");
            all_gone(&mark);
            let run = partial(&out);
            assert_eq!(run.manifest.status, RunStatus::Partial);
            assert!(run.trials[0].summary.is_none(), "nobody closed the books");
            assert_eq!(run.trials[0].verdict.grade(), Grade::Invalid);
            assert!(!run.trials[0].intervals.is_empty());
        },
    );
}

#[test]
fn a_killed_run_is_readable_to_its_last_flush() {
    let folder = Folder::new();
    let file = folder.write("lasting.toml", &lasting("measure", "push", None));
    let out = folder.path("out");
    let running = Running::start(support::run(&file, &out));
    let mark = running.mark();
    running.wait_for_lines(2, &[": measure"]);
    running.signal(Signal::KILL);
    let killed = running.wait();
    assert_eq!(killed.signal, Some(9), "{killed:#?}");
    all_gone(&mark);

    let run = partial(&out);
    assert_eq!(
        run.manifest.status,
        RunStatus::Running,
        "nobody wrote how it ended"
    );
    let trial = &run.trials[0];
    assert!(trial.intervals.iter().any(|row| row.delivered > 0));
    assert!(!trial.histograms.is_empty());
    assert_eq!(trial.verdict.grade(), Grade::Invalid);

    let mut report = pushmark();
    report.arg("report").arg(&out);
    let report = ended(report).with_code(4);
    assert!(report.stdout.contains("never ended"), "{report:#?}");
}

/// Loses the server in the middle of a trial, by `lose`, on every transport with every workload.
fn lose_the_server(lose: impl Fn(u32) + Sync) {
    let cases = over_network().flat_map(|row| ["push", "echo"].map(|kind| (row.name, kind)));
    at_once(cases, |(name, kind)| {
        let load =
            "connections = 20\narrival = \"at-once\"\nwarmup = \"100ms\"\nmeasure = \"4s\"\ndrain = \"1s\"";
        let rest = format!("[workload]\nkind = \"{kind}\"\nrate = \"20/s\"\npayload = \"100 B\"");
        let folder = Folder::new();
        let file = folder.write("lost.toml", &scenario(&[name], load, &rest));
        let out = folder.path("out");
        let running = Running::start(support::run(&file, &out));
        let mark = running.mark();
        running.wait_for_lines(2, &[": measure"]);
        lose(running.process("serve"));
        let ended = running.wait().with_code(4);
        all_gone(&mark);
        let run = Run::open(&out).unwrap();
        let trial = &run.trials[0];
        let summary = trial.summary.as_ref().unwrap();
        assert_eq!(trial.verdict.grade(), Grade::Invalid, "{name} {kind}: {ended:#?}");
        assert!(summary.partial, "{name} {kind}: {ended:#?}");
        // What the load generator counted itself still adds up; all that is missing is the server's word.
        let [imbalance] = summary.imbalances.as_slice() else {
            panic!("{name} {kind}: {summary:#?}")
        };
        assert!(imbalance.contains("the server died or hung"), "{imbalance}");
        assert!(summary.books.delivered_once > 0, "{name} {kind}: {summary:#?}");
        for shown in [&ended.stdout, &ended.stderr] {
            assert!(shown.contains("invalid"), "{name} {kind}: {ended:#?}");
        }
    });
}

#[test]
fn a_server_that_is_killed_makes_the_run_invalid() {
    lose_the_server(|pid| kill(pid, Signal::KILL));
}

#[test]
fn a_server_that_freezes_does_not_hang_the_run() {
    lose_the_server(freeze);
}

#[test]
fn a_run_without_workers_ends_and_says_so() {
    let folder = Folder::new();
    let file = folder.write("lasting.toml", &lasting("measure", "push", None));
    let out = folder.path("out");
    let running = Running::start(support::run(&file, &out));
    let mark = running.mark();
    running.wait_for_line(&[": measure"]);
    kill(running.process("worker"), Signal::KILL);
    let ended = running.wait().with_code(2);
    all_gone(&mark);
    assert!(
        ended
            .stderr
            .contains("every load generator process has ended before its time"),
        "{ended:#?}"
    );
    let run = partial(&out);
    assert_eq!(run.manifest.status, RunStatus::Partial);
    assert!(run.manifest.status_reason.is_some());
    assert_eq!(run.trials[0].verdict.grade(), Grade::Invalid);
}

#[test]
fn a_worker_that_dies_makes_the_run_invalid() {
    let server = Server::start(&["--threads", "1"]);
    let load =
        "connections = 100\narrival = \"at-once\"\nwarmup = \"100ms\"\nmeasure = \"4s\"\ndrain = \"1s\"";
    let rest = format!(
        "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n{}",
        server.target()
    );
    let folder = Folder::new();
    let name = over_network().next().unwrap().name;
    let file = folder.write("two.toml", &scenario(&[name], load, &rest));
    let out = folder.path("out");
    // With few descriptors a process, the load takes two of them.
    let running = Running::start(with_open_files(164, &support::run(&file, &out)));
    let mark = running.mark();
    running.wait_for_line(&[": measure"]);
    let verbs = running.processes().into_iter().map(|(_, verb)| verb);
    assert_eq!(verbs.filter(|verb| verb == "worker").count(), 2);
    kill(running.process("worker"), Signal::KILL);
    let ended = running.wait().with_code(4);
    all_gone(&mark);
    let run = Run::open(&out).unwrap();
    assert_eq!(run.trials[0].verdict.grade(), Grade::Invalid);
    let summary = run.trials[0].summary.as_ref().unwrap();
    assert!(summary.partial);
    assert!(
        summary.imbalances.iter().any(|words| words.contains("died")),
        "{summary:#?}"
    );
    // The other half went on: its 50 sessions got everything.
    let books = &summary.books;
    assert_eq!(
        (books.lost, books.delivered_once),
        (0, 50 * 80),
        "{books:?} {ended:#?}"
    );
}
