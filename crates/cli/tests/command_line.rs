//! The command line as people and programs meet it: help, exit codes, streams, files, and every scenario that ships.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pushmark_results::Run;
use pushmark_transport::control::ServerStats;
use pushmark_transport::registry;
use support::{
    Ended, Folder, Running, Server, at_once, ended, files, over_network, pushmark, root, run, scenario,
    with_open_files,
};

/// Every command that a user is told of.
const VERBS: [&str; 7] = ["run", "check", "list", "report", "serve", "schema", "completions"];

fn call(arguments: &[&str]) -> Ended {
    let mut command = pushmark();
    command.args(arguments);
    ended(command)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn paths(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

/// A trial of a second, on the transport that needs no network unless told otherwise.
fn short(transports: &[&str], rest: &str) -> String {
    let load =
        "connections = 5\narrival = \"at-once\"\nwarmup = \"100ms\"\nmeasure = \"500ms\"\ndrain = \"1s\"";
    scenario(
        transports,
        load,
        &format!("[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n{rest}"),
    )
}

fn in_process() -> &'static str {
    registry::ROWS.iter().find(|row| row.in_process).unwrap().name
}

#[test]
fn every_command_has_help_that_teaches() {
    let help = call(&["--help"]).with_code(0);
    for verb in VERBS {
        assert!(help.stdout.contains(&format!("\n  {verb} ")), "{help:#?}");
        let of_verb = call(&[verb, "--help"]).with_code(0);
        assert!(
            of_verb.stdout.contains(&format!("Usage: pushmark {verb}")),
            "{of_verb:#?}"
        );
        assert!(of_verb.stderr.is_empty(), "{of_verb:#?}");
        assert_eq!(call(&["help", verb]).with_code(0).stdout, of_verb.stdout);
        // No option without words of its own.
        let lines: Vec<_> = of_verb.stdout.lines().collect();
        for (at, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("--"))
        {
            let said = line
                .trim()
                .split_once("  ")
                .map(|(_, words)| words)
                .or(lines.get(at + 1).copied());
            assert!(
                said.is_some_and(|words| words.trim().len() >= 10),
                "{verb}: {line}"
            );
        }
    }
    for word in [
        "Exit codes",
        "NO_COLOR",
        "PUSHMARK_RESULTS",
        "pushmark run scenarios/feed.toml",
    ] {
        assert!(help.stdout.contains(word), "{help:#?}");
    }
    assert!(
        !help.stdout.contains("worker"),
        "the load generator's own command is nobody else's"
    );
    let version = call(&["--version"]).with_code(0);
    assert_eq!(
        version.stdout,
        format!("pushmark {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn bad_usage_exits_2_with_a_hint() {
    let feed = "scenarios/feed.toml";
    for (arguments, hint) in [
        (&["run"][..], "<SCENARIO>"),
        (&["run", feed, "--quik"], "--quick"),
        (&["runn"], "run"),
        (&["--colour", "always", "list"], "--color"),
        (&["--color", "sometimes", "list"], "never"),
        (&["run", feed, "--set", "connections"], "KEY=VALUE"),
        (
            &["run", feed, "--transport", "carrier-pigeon"],
            over_network().next().unwrap().name,
        ),
        (&["run", feed, "--set", "load.conections=5"], "connections"),
        (
            &["run", feed, "--set", "load.connections=none"],
            "load.connections",
        ),
        (&["run", "scenarios/no-such.toml"], "no-such.toml"),
        (&["check"], "<SCENARIOS>"),
        (&["list", "no-such-folder"], "no-such-folder"),
        (&["report", "no-such-run"], "no-such-run"),
        (&["serve", "--listen", "nowhere"], "--listen"),
        (&["serve", "--threads", "0"], "--threads"),
        (&["serve", "--inject-delay-ms=-1"], "milliseconds"),
        (&["completions", "cobol"], "bash"),
    ] {
        let ended = call(arguments).with_code(2);
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:#?}");
        assert!(ended.stderr.contains(hint), "{arguments:?}: {ended:#?}");
    }
}

#[test]
fn a_switch_in_the_environment_is_said_as_people_say_it() {
    for said in ["1", "true", "0", "false", ""] {
        let mut command = pushmark();
        command.args(["check", "--quick"]).env("PUSHMARK_INSECURE", said);
        let folder = Folder::new();
        command.arg(folder.write("own.toml", &short(&[in_process()], "")));
        let code = ended(command);
        assert!(
            !code.stderr.contains("PUSHMARK_INSECURE") && !code.stderr.contains("invalid value"),
            "{said}: {code:#?}"
        );
    }
}

#[test]
fn an_address_in_use_is_named() {
    // Without SO_REUSEPORT, so that nobody else can join it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = call(&["serve", "--listen", &address]).with_code(2);
    assert!(ended.stderr.contains(&address), "{ended:#?}");
    assert!(ended.stdout.is_empty(), "{ended:#?}");
}

#[test]
fn scenarios_that_ship_are_listed_and_checked() {
    let shipped = paths("scenarios");
    let list = call(&["list"]).with_code(0);
    assert_eq!(list.stdout.lines().count(), shipped.len());
    let json: serde_json::Value =
        serde_json::from_str(&call(&["list", "--json"]).with_code(0).stdout).unwrap();
    let json = json.as_array().unwrap();
    assert_eq!(json.len(), shipped.len());
    for ((path, line), entry) in shipped.iter().zip(list.stdout.lines()).zip(json) {
        let question = entry["question"].as_str().unwrap();
        assert!(line.contains(question) && question.ends_with('?'), "{line}");
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(entry["name"], name);
        let check = call(&["check", text(path)]).with_code(0);
        assert!(
            check.stdout.contains(name) && check.stdout.contains(question),
            "{check:#?}"
        );
        assert!(check.stdout.contains("this machine can carry it"), "{check:#?}");
        assert!(check.stderr.is_empty(), "{check:#?}");
    }
    let all: Vec<_> = ["check"]
        .into_iter()
        .chain(shipped.iter().map(|path| text(path)))
        .collect();
    call(&all).with_code(0);
}

#[test]
fn a_broken_scenario_is_refused_with_its_place_before_any_traffic() {
    let broken = paths("crates/scenario/tests/broken");
    assert!(broken.len() >= 20);
    let folder = Folder::new();
    for path in &broken {
        let results = folder.path("results");
        let mut command = pushmark();
        command.arg("run").arg(path).arg("--results").arg(&results);
        let ended = ended(command).with_code(2);
        assert!(ended.stdout.is_empty(), "{ended:#?}");
        assert!(!results.exists(), "{}: no run is begun", path.display());
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(has_place(&ended.stderr, file), "{}: {ended:#?}", path.display());
        assert!(
            !ended.stderr.contains("trial"),
            "nothing is announced: {ended:#?}"
        );
    }
}

/// Whether some line holds `file:line:column`.
fn has_place(said: &str, file: &str) -> bool {
    said.match_indices(&format!("{file}:")).any(|(at, found)| {
        let mut numbers = said[at + found.len()..].splitn(3, |c: char| !c.is_ascii_digit());
        [numbers.next(), numbers.next()]
            .into_iter()
            .all(|n| n.is_some_and(|n| n.parse::<u32>().is_ok()))
    })
}

#[test]
fn each_exit_code_is_that_of_a_real_run() {
    let server = Server::start(&[
        "--threads",
        "1",
        "--inject-drop",
        &(0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(","),
    ]);
    let over = over_network().next().unwrap().name;
    let cases = [
        (0, in_process(), "[expect]\nlost = 0\n".to_owned(), "held"),
        (
            1,
            in_process(),
            "[expect]\n\"latency.p50\" = \"< 1ns\"\n".to_owned(),
            "MISSED",
        ),
        (2, in_process(), "[expect]\nlots = 0\n".to_owned(), ""),
        // Not one message of the measured window comes back.
        (4, over, server.target(), "invalid"),
    ];
    at_once(cases, |(code, name, rest, word)| {
        let folder = Folder::new();
        let file = folder.write("code.toml", &short(&[name], &rest));
        let ended = ended(run(&file, &folder.path("out"))).with_code(code);
        assert!(ended.stdout.contains(word), "{ended:#?}");
        assert_eq!(folder.path("out").exists(), code != 2);
        if code == 1 {
            // The same verdict, made again from the directory.
            call(&["report", text(&folder.path("out"))]).with_code(1);
        }
    });
}

#[test]
fn a_report_made_again_is_the_same_byte_for_byte() {
    let folder = Folder::new();
    let names: Vec<_> = over_network().map(|row| row.name).collect();
    let file = folder.write("again.toml", &short(&names, "[expect]\nlost = 0\n"));
    let out = folder.path("out");
    let first = ended(run(&file, &out)).with_code(0);
    let written = files(&out);
    for kind in ["html", "md", "svg", "png", "json", "txt", "hlog", "csv", "toml"] {
        assert!(
            written
                .keys()
                .any(|path| path.extension().is_some_and(|e| e == kind)),
            "no file of kind {kind}"
        );
    }
    for _ in 0..2 {
        let again = call(&["report", text(&out)]).with_code(0);
        assert_eq!(again.stdout, first.stdout);
        assert_eq!(files(&out), written);
    }
    // A report is a function of the run: nothing of it is needed to make it again.
    std::fs::remove_dir_all(out.join("report")).unwrap();
    call(&["report", text(&out)]).with_code(0);
    assert_eq!(files(&out), written);
}

#[test]
fn a_run_is_never_overwritten() {
    let folder = Folder::new();
    let file = folder.write("twice.toml", &short(&[in_process()], ""));
    let out = folder.path("out");
    ended(run(&file, &out)).with_code(0);
    let before = files(&out);
    let refused = ended(run(&file, &out)).with_code(2);
    assert!(
        refused.stderr.contains("not empty") && refused.stdout.is_empty(),
        "{refused:#?}"
    );
    assert_eq!(files(&out), before);

    let link = folder.path("link");
    std::os::unix::fs::symlink(folder.path("elsewhere"), &link).unwrap();
    ended(run(&file, &link)).with_code(2);
    assert!(!folder.path("elsewhere").exists(), "a link is not followed");

    // Runs that begin at the same time each get a directory of their own.
    let results = folder.path("results");
    at_once(0..3, |_| {
        let mut command = pushmark();
        command.arg("run").arg(&file).env("PUSHMARK_RESULTS", &results);
        ended(command).with_code(0);
    });
    let runs: Vec<_> = std::fs::read_dir(&results)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(runs.len(), 3);
    for dir in runs {
        assert!(Run::open(&dir).unwrap().is_complete());
    }
}

#[test]
fn results_go_to_stdout_and_remarks_to_stderr() {
    let folder = Folder::new();
    let file = folder.write("streams.toml", &short(&[in_process()], ""));
    let mut command = run(&file, &folder.path("json"));
    command.arg("--json");
    let json = ended(command).with_code(0);
    let shown: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(shown["status"], "complete");
    assert!(
        json.stderr.contains("1 trial") && json.stderr.contains("deliveries/s"),
        "{json:#?}"
    );

    let plain = call(&["report", text(&folder.path("json"))]).with_code(0);
    assert!(
        plain.stdout.contains("latency") && !plain.stdout.contains("report.html"),
        "{plain:#?}"
    );
    assert!(plain.stderr.contains("report.html"), "{plain:#?}");
    let again = call(&["report", "--json", text(&folder.path("json"))]).with_code(0);
    assert_eq!(again.stdout, json.stdout);
}

#[test]
fn color_is_shown_where_it_is_wanted() {
    const ESCAPE: char = '\u{1b}';
    let folder = Folder::new();
    let file = folder.write("color.toml", &short(&[in_process()], ""));
    let out = folder.path("out");
    let out = text(&out);
    let ended_run = ended(run(&file, Path::new(out))).with_code(0);
    assert!(
        !ended_run.stdout.contains(ESCAPE) && !ended_run.stderr.contains(ESCAPE),
        "a pipe takes no color"
    );

    type Environment = &'static [(&'static str, &'static str)];
    let none: Environment = &[];
    for (arguments, environment, on_pipe, on_terminal) in [
        (&["report", out][..], none, false, true),
        (&["report", out], &[("NO_COLOR", "1")], false, false),
        (&["report", out], &[("NO_COLOR", "")], false, true),
        (
            &["--color", "always", "report", out],
            &[("NO_COLOR", "1")],
            true,
            true,
        ),
        (&["report", out, "--color", "never"], none, false, false),
        (&["report", out], &[("PUSHMARK_COLOR", "always")], true, true),
        (
            &["report", out, "--color", "never"],
            &[("PUSHMARK_COLOR", "always")],
            false,
            false,
        ),
    ] {
        let mut command = pushmark();
        command.args(arguments).envs(environment.iter().copied());
        let piped = ended(command).with_code(0);
        assert_eq!(
            piped.stdout.contains(ESCAPE),
            on_pipe,
            "{arguments:?} {environment:?}"
        );
        let shown = on_a_terminal(arguments, environment);
        assert_eq!(
            shown.contains(ESCAPE),
            on_terminal,
            "{arguments:?} {environment:?}: {shown}"
        );
    }
    // Errors too: the place is underlined in color, or not.
    let broken = text(&paths("crates/scenario/tests/broken")[0]).to_owned();
    assert!(
        call(&["check", &broken, "--color", "always"])
            .with_code(2)
            .stderr
            .contains(ESCAPE)
    );
    assert!(!call(&["check", &broken]).with_code(2).stderr.contains(ESCAPE));
    // And the line that redraws itself is for terminals alone.
    let live = on_a_terminal(&["run", text(&file), "--out", text(&folder.path("live"))], none);
    assert!(live.contains("\u{1b}["), "{live}");
}

/// What `pushmark` says on a terminal.
fn on_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let open = || -> OwnedFd {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap()
            .into()
    };
    let mut child = pushmark()
        .args(arguments)
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied())
        .stdout(Stdio::from(open()))
        .stderr(Stdio::from(open()))
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    // The end of a terminal is an error, once its last user has closed it.
    let _ = BufReader::new(std::fs::File::from(master)).read_to_end(&mut said);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let folder = Folder::new();
    let file = folder.write("gone.toml", &short(&[in_process()], ""));
    let out = folder.path("out");
    for arguments in [
        &["run", text(&file), "--out", text(&out)][..],
        &["report", text(&out)],
        &["report", text(&out), "--json"],
        &["list"],
        &["schema"],
        &["completions", "bash"],
        &["check", text(&file)],
        &["--help"],
        &["--version"],
    ] {
        let mut command = pushmark();
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}: {status} {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    // Neither stream: the run is there all the same.
    let out = folder.path("silent");
    let mut child = run(&file, &out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(Run::open(&out).unwrap().is_complete());
}

#[test]
fn too_few_descriptors_are_said_before_the_run() {
    let folder = Folder::new();
    // Too few for anything; and too few in one process for messages that come up on a connection of their own.
    for (limit, scenario, remedy) in [
        (64, "scenarios/feed.toml", "ulimit -n"),
        (200, "scenarios/echo.toml", "ulimit -Hn"),
    ] {
        let out = folder.path("out");
        let refused = ended(with_open_files(limit, &run(&root().join(scenario), &out))).with_code(2);
        assert!(refused.stderr.contains(remedy), "the remedy: {refused:#?}");
        assert!(
            refused.stderr.contains(&limit.to_string()),
            "the limit: {refused:#?}"
        );
        assert!(refused.stdout.is_empty() && !out.exists(), "{refused:#?}");
        let mut check = pushmark();
        check.args(["check", scenario]);
        let check = ended(with_open_files(limit, &check)).with_code(2);
        assert!(check.stdout.contains("cannot carry it"), "{check:#?}");
    }
}

#[test]
fn past_one_process_the_load_takes_several() {
    let folder = Folder::new();
    let names: Vec<_> = over_network().map(|row| row.name).collect();
    let load = "connections = 250\narrival = { over = \"500ms\" }\nwarmup = \"200ms\"\nmeasure = \"1s\"\ndrain = \"5s\"";
    let rest = "[workload]\nkind = \"push\"\nrate = \"10/s\"\npayload = \"100 B\"\n[expect]\nlost = 0\n";
    let file = folder.write("several.toml", &scenario(&names, load, rest));
    let out = folder.path("out");
    // With 200 open files a process has room for 100 connections.
    let running = Running::start(with_open_files(200, &run(&file, &out)));
    let mark = running.mark();
    running.wait_for_line(&[": measure"]);
    // Between two trials there are fewer.
    support::eventually("three processes of each side", || {
        let processes = running.processes();
        let count = |what: &str| processes.iter().filter(|(_, verb)| verb == what).count();
        (count("worker") >= 3 && count("serve") >= 3).then_some(())
    });
    running.wait().with_code(0);
    assert_eq!(support::marked(&mark), []);
    for trial in &Run::open(&out).unwrap().trials {
        let summary = trial.summary.as_ref().unwrap();
        assert_eq!(summary.imbalances, Vec::<String>::new());
        assert_eq!((summary.counters.established, summary.counters.failed), (250, 0));
        let books = &summary.books;
        assert_eq!(
            (books.scheduled, books.sent, books.lost),
            (10, 10, 0),
            "{books:?}"
        );
        assert_eq!((books.delivered_once, books.duplicated), (2_500, 0), "{books:?}");
    }
}

#[test]
fn a_target_elsewhere_needs_a_word_of_consent() {
    // From a range kept for documentation: nothing there could answer.
    let folder = Folder::new();
    let file = folder.write(
        "remote.toml",
        &short(
            &[over_network().next().unwrap().name],
            "[target]\naddress = \"192.0.2.1:80\"\n",
        ),
    );
    let refused = ended(run(&file, &folder.path("out"))).with_code(2);
    assert!(refused.stderr.contains("--allow-remote"), "{refused:#?}");
    assert!(!folder.path("out").exists());
}

/// An address that refuses connections for as long as its socket is held.
fn silent_address() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

#[test]
fn no_server_at_the_target_is_an_error_in_words() {
    // Held and not listened on: nobody else gets it meanwhile.
    let (_held, free) = silent_address();
    let folder = Folder::new();
    let name = over_network().next().unwrap().name;
    let file = folder.write(
        "nobody.toml",
        &short(&[name], &format!("[target]\naddress = \"{free}\"\n")),
    );
    let refused = ended(run(&file, &folder.path("out"))).with_code(2);
    assert!(
        refused.stderr.contains(&free.to_string()) && refused.stderr.contains("refused"),
        "{refused:#?}"
    );
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = call(&["completions", shell]).with_code(0).stdout;
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        assert!(script.contains("exit-with-stdin"), "{shell}: options too");
    }
}

#[test]
fn the_reference_server_ends_in_good_order() {
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(&[]);
        let mut client = TcpStream::connect(server.address()).unwrap();
        client
            .write_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("/stats"),
            "{answer}"
        );
        let ended = server.stop_by(signal).with_code(0);
        assert_eq!(
            ended.stdout.lines().count(),
            1,
            "one line, once it listens: {ended:#?}"
        );
        assert!(ended.stderr.is_empty(), "{ended:#?}");
    }
}

#[test]
fn a_run_measures_itself_first_unless_told_not_to() {
    let folder = Folder::new();
    for (flag, calibrates) in [(None, true), (Some("--no-calibration"), false)] {
        let out = folder.path(if calibrates { "with" } else { "without" });
        let mut command = pushmark();
        let file = folder.write("short.toml", &short(&[in_process()], ""));
        command.arg("run").args(flag).arg(file).arg("--out").arg(&out);
        let ended = ended(command);
        let run = Run::open(&out).unwrap();
        assert_eq!(run.manifest.calibration.is_some(), calibrates, "{ended:#?}");
    }
}

#[test]
fn a_server_without_descriptors_serves_on_those_it_has() {
    let server = Server::with_open_files(40, &["--threads", "1"]);
    let connect = || TcpStream::connect(server.address()).unwrap();
    let mut early = connect();
    assert_eq!(accept_errors(&mut early), 0);
    let many: Vec<_> = (0..60).map(|_| connect()).collect();
    support::eventually("it runs out", || (accept_errors(&mut early) > 0).then_some(()));
    drop(many);
    // Those who come later are served as well, and the early one still is.
    let mut late = connect();
    assert!(accept_errors(&mut late) > 0);
    accept_errors(&mut early);
    server.stop_by(rustix::process::Signal::TERM).with_code(0);
}

/// How often the server could not accept a connection, by its own count.
fn accept_errors(connection: &mut TcpStream) -> u64 {
    connection
        .write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = BufReader::new(connection);
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        assert!(answer.read_line(&mut line).unwrap() > 0, "no answer");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    let stats: ServerStats = serde_json::from_slice(&body).unwrap();
    stats.accept_errors
}

#[test]
fn every_shipped_scenario_runs_and_loses_nothing() {
    // Where something is to break, messages are to be lost: tests of what breaks have scenarios of their own.
    let breaks = |path: &PathBuf| {
        let source = std::fs::read_to_string(path).unwrap();
        source.contains("[[fault]]") || source.contains("[slow-readers]")
    };
    let (breaking, sound): (Vec<_>, Vec<_>) = paths("scenarios").into_iter().partition(breaks);
    assert!(breaking.len() >= 7, "{breaking:?}");
    at_once(sound, |path| {
        let source = std::fs::read_to_string(&path).unwrap();
        let folder = Folder::new();
        let out = folder.path("out");
        let mut command = run(&path, &out);
        command.arg("--quick");
        for shorter in ["load.arrival=at-once", "load.warmup=100ms", "load.measure=500ms"] {
            // Opens at a rate have no other arrival, and a warm-up in which the first handshake ends, however slow the machine.
            if !source.contains("\"connect\"") || shorter.contains("measure") {
                command.args(["--set", shorter]);
            }
        }
        // A list of connection counts becomes one count, and the sweep a point. Opens at a rate are thinned out instead.
        let small: &[&str] = if source.contains("\"connect\"") {
            &["workload.rate=40/s"]
        } else {
            &["load.connections=20", "workload.rate=20/s"]
        };
        command.args(small.iter().flat_map(|set| ["--set", set]));
        let ended = ended(command).with_code(0);
        let run = Run::open(&out).unwrap();
        assert!(run.is_complete() && run.manifest.plan.quick, "{ended:#?}");
        for trial in &run.trials {
            let summary = trial.summary.as_ref().unwrap();
            assert_eq!(summary.imbalances, Vec::<String>::new(), "{ended:#?}");
            assert_eq!(summary.books.lost, 0, "{ended:#?}");
            assert_eq!(summary.counters.failed, 0, "{ended:#?}");
            assert_eq!(summary.negative_samples, 0, "{ended:#?}");
            assert_eq!(
                summary.books.delivered_once > 0,
                summary.expects_messages,
                "{ended:#?}"
            );
        }
        assert!(!ended.stdout.contains("MISSED"), "{ended:#?}");
    });
}

#[test]
fn the_coordinator_leaves_nothing_behind() {
    let folder = Folder::new();
    let names: Vec<_> = over_network().map(|row| row.name).collect();
    let file = folder.write("clean.toml", &short(&names, ""));
    let running = Running::start(run(&file, &folder.path("out")));
    let mark = running.mark();
    running.wait().with_code(0);
    // Not polled for: when the run has ended, its processes have ended.
    assert_eq!(support::marked(&mark), []);
}

/// What cannot be done here is said by name; nothing is replaced by something else.
#[test]
fn a_check_says_which_faults_cannot_be_made_here() {
    for path in paths("scenarios") {
        let mut command = pushmark();
        command.arg("check").arg(&path);
        let ended = ended(command);
        let source = std::fs::read_to_string(&path).unwrap();
        let needs_kernel = ["blackhole", "\"loss\"", "link-down"]
            .iter()
            .any(|kind| source.contains(kind));
        match pushmark_loadgen::faults::kernel::allowed() {
            Err(why) if needs_kernel => {
                assert_eq!(ended.code, Some(2), "{path:?}: {ended:#?}");
                assert!(
                    ended.stdout.contains(&why) || ended.stderr.contains(&why),
                    "{path:?}: {ended:#?}"
                );
            }
            _ => assert_eq!(ended.code, Some(0), "{path:?}: {ended:#?}"),
        }
    }
}
