//! Scale: more connections than one process may open, made small by a small limit.

mod support;

use support::{Folder, ended, over_network, run, scenario, with_open_files};

/// Server processes on one port, worker processes, and source addresses add up to one run with balanced books.
#[test]
fn many_processes_are_one_run() {
    let folder = Folder::new();
    let names: Vec<&str> = over_network().map(|row| row.name).collect();
    let text = scenario(
        &names,
        "connections = 700\narrival = { over = \"1s\" }\nwarmup = \"500ms\"\nmeasure = \"1s\"",
        "[workload]\nkind = \"push\"\nrate = \"5/s\"\npayload = \"100 B\"\n",
    );
    let file = folder.write("many.toml", &text);
    let out = folder.path("out");
    // 700 connections, and room for 300 in a process: three of each side.
    let ended = ended(with_open_files(400, &run(&file, &out)));
    let ended = ended.with_code(0);
    let opened = pushmark_results::Run::open(&out).unwrap();
    for trial in &opened.trials {
        let summary = trial.summary.as_ref().unwrap();
        assert_eq!(summary.counters.established, 700, "{}", ended.stderr);
        assert_eq!(summary.imbalances, Vec::<String>::new());
        assert_eq!(
            (summary.books.lost, summary.books.expected),
            (0, 700 * summary.books.scheduled)
        );
    }
}

/// However many processes open connections, together they open as many as were asked for, and no two the same.
#[test]
fn processes_share_a_rate_of_connects() {
    let folder = Folder::new();
    let text = scenario(
        &["ws"],
        "connections = 700\nwarmup = \"500ms\"\nmeasure = \"2s\"",
        "[workload]\nkind = \"connect\"\nrate = \"200/s\"\n",
    );
    let file = folder.write("rate.toml", &text);
    let out = folder.path("out");
    // 700 connections, and room for 300 in a process: three of them.
    let ended = ended(with_open_files(400, &run(&file, &out)));
    let opened = pushmark_results::Run::open(&out).unwrap();
    assert!(
        ended.stderr.contains("3 load generator processes"),
        "{}",
        ended.stderr
    );
    let trial = opened.trials.first().unwrap();
    let counters = &trial.summary.as_ref().unwrap().counters;
    // 2.5 seconds at 200 a second, of which a busy machine may miss some and never makes more.
    let due = 400..=510;
    assert!(
        due.contains(&counters.attempted),
        "{} attempts\n{}",
        counters.attempted,
        ended.stderr
    );
}

/// A way up that may reach another process than its session is refused before the run, with the remedy.
#[test]
fn a_load_that_several_processes_cannot_carry_is_refused() {
    let folder = Folder::new();
    let names: Vec<&str> = over_network()
        .filter(|row| row.connections_when_sending > 1)
        .map(|row| row.name)
        .collect();
    let text = scenario(
        &names,
        "connections = 700",
        "[workload]\nkind = \"echo\"\nrate = \"1/s\"\npayload = \"100 B\"\n",
    );
    let file = folder.write("many.toml", &text);
    let out = folder.path("out");
    let ended = ended(with_open_files(400, &run(&file, &out))).with_code(2);
    assert!(
        ended.stderr.contains("ulimit -Hn") && ended.stderr.contains("load.connections"),
        "{}",
        ended.stderr
    );
    assert!(!out.exists());
}
