//! Sessions that share an HTTP/2 connection, through whole runs: how many connections there really were, what a paused one does to
//! its neighbours, and what those die of, by name.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: one that fails is a test that fails"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use pushmark_results::run::TrialRecord;
use support::{Folder, run};

/// The trials of a run of this scenario, and what it printed.
fn trials(scenario: &str, code: i32) -> (Vec<TrialRecord>, String) {
    let folder = Folder::new();
    let file = folder.write("shared.toml", scenario);
    let out = folder.path("out");
    let ended = support::ended(run(&file, &out)).with_code(code);
    (pushmark_results::Run::open(&out).unwrap().trials, ended.stdout)
}

fn ended_by(trial: &TrialRecord) -> BTreeMap<String, u64> {
    trial.summary.as_ref().unwrap().ended_by.clone()
}

#[test]
fn as_many_connections_are_opened_as_were_asked_for_and_the_report_tells_how_many() {
    let scenario = r#"
        question = "How many connections are there?"
        transports = ["sse", "ws"]
        carriers = ["h1", "h2c"]
        carrier = { streams-per-connection = [7, "all"] }
        [load]
        connections = 20
        workers = 3
        arrival = { over = "100ms" }
        warmup = "100ms"
        measure = "300ms"
        drain = "1s"
        repeats = 1
        [workload]
        kind = "push"
        rate = "10/s"
        payload = "100 B"
    "#;
    let (trials, printed) = trials(scenario, 0);
    // One a connection, where nothing can be shared; 7 + 7 + 6; all on one.
    let made: Vec<u64> = trials
        .iter()
        .map(|t| t.summary.as_ref().unwrap().tcp_connections.unwrap())
        .collect();
    assert_eq!(made, [20, 20, 3, 3, 1, 1]);
    assert!(
        printed.contains("TCP connections") && printed.contains("7 a connection"),
        "{printed}"
    );
}

#[test]
fn neighbours_of_a_paused_reader_die_of_a_cause_that_is_named_and_the_rest_live() {
    let scenario = r#"
        question = "What kills the neighbours?"
        transports = ["sse"]
        carriers = ["h2c"]
        carrier = { streams-per-connection = 2, connection-window = "512 KiB" }
        slow-readers = { share = 0.25 }
        [load]
        connections = 4
        arrival = "at-once"
        warmup = "100ms"
        measure = "6s"
        drain = "1s"
        repeats = 1
        [workload]
        kind = "push"
        rate = "500/s"
        payload = "64 B"
    "#;
    let (trials, printed) = trials(scenario, 0);
    assert_eq!(
        ended_by(&trials[0]),
        BTreeMap::from([("enhance-your-calm".to_owned(), 1)])
    );
    let summary = trials[0].summary.as_ref().unwrap();
    let slow = summary.slow.as_ref().unwrap();
    let (near, rest) = (slow.neighbours.as_ref().unwrap(), slow.rest.as_ref().unwrap());
    assert_eq!((slow.sessions, near.sessions, rest.sessions), (1, 1, 2));
    assert_eq!((near.ended_early, rest.ended_early), (1, 0));
    assert_eq!(rest.expected, rest.delivered);
    assert!(near.latency.count() > 0 && rest.latency.count() == rest.delivered);
    assert_eq!(summary.tcp_connections, Some(2));
    for words in ["neighbours", "the rest", "enhance-your-calm (1)"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
}

/// A server that opens two tunnels on a connection and takes leave of it when the first message comes.
fn leaves_when_spoken_to() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // An error is a client that has gone, as it may.
            std::thread::spawn(move || drop(speak(stream)));
        }
    });
    address
}

fn speak(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24])?;
    // SETTINGS_ENABLE_CONNECT_PROTOCOL = 1 (RFC 8441, section 3).
    stream.write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01")?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, on @ ..] = head;
        std::io::copy(
            &mut Read::by_ref(&mut stream).take(u32::from_be_bytes([0, a, b, c]).into()),
            &mut std::io::sink(),
        )?;
        match (kind, flags) {
            // A request: `:status: 200`.
            (1, _) => stream.write_all(&[&b"\0\0\x01\x01\x04"[..], &on, b"\x88"].concat())?,
            // SETTINGS are acknowledged.
            (4, 0) => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
            // A message: GOAWAY, with no stream looked at and no error (RFC 9113, section 6.8).
            (0, _) => stream.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0")?,
            _ => {}
        }
    }
}

#[test]
fn sessions_of_a_connection_that_the_server_ends_are_counted_by_that_cause() {
    let scenario = r#"
        question = "Who leaves?"
        transports = ["ws"]
        carriers = ["h2c"]
        carrier = { streams-per-connection = 2 }
        target = { address = "ADDRESS" }
        [load]
        connections = 4
        arrival = "at-once"
        warmup = "100ms"
        measure = "500ms"
        drain = "300ms"
        repeats = 1
        [workload]
        kind = "echo"
        rate = "50/s"
        payload = "100 B"
    "#;
    let scenario = scenario.replace("ADDRESS", &leaves_when_spoken_to().to_string());
    // Nothing comes back, so nothing was measured; and why is said.
    let (trials, printed) = trials(&scenario, 4);
    assert_eq!(ended_by(&trials[0]), BTreeMap::from([("go-away".to_owned(), 4)]));
    assert_eq!(trials[0].summary.as_ref().unwrap().tcp_connections, Some(2));
    assert!(printed.contains("go-away (4)"), "{printed}");
}
