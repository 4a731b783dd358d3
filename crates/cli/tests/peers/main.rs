//! Independent peers agree: programs that others wrote, against our server and against our clients.
//!
//! | module | peers | what they are to ours |
//! |---|---|---|
//! | `requests` | curl, h2load | clients of our server |
//! | `browsers` | Node's `ws`, `eventsource` and `node:http2` | clients of our server |
//! | `servers` | Node's `ws`, hypercorn | servers of our clients |
//! | `hostile` | bytes made by hand | clients that agree with nobody |
//!
//! `scripts/test` installs them; what is missing is skipped by name. The programs that are peers themselves lie beside this file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking and say where"
)]

mod browsers;
mod hostile;
mod requests;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use pushmark_measure::clock;
use pushmark_measure::schedule::{Pattern, Rate, Schedule};
use pushmark_transport::control::{ControlClient, Publish, ServerStats};
use pushmark_transport::stamp::{Found, Template};
use pushmark_transport::{Kind, Stamp, Target};

use support::{DEADLINE, Folder, Running, Server, eventually};

/// Goes into the stamps of what these tests publish.
const RUN: u32 = 7;

/// What a test needs of this machine.
#[derive(Clone, Copy, Debug)]
enum Need {
    Curl,
    H2load,
    Hypercorn,
    Node,
}

/// True, and said, when something that a test needs is not here.
fn lacks(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<&str> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return false;
    }
    let line = format!("skipped: {test}: {}", missing.join(", "));
    println!("{line}");
    if let Some(path) = std::env::var_os("PUSHMARK_TEST_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
    true
}

impl Need {
    fn missing(self) -> Option<&'static str> {
        let says = |command: &mut Command, word: &str| {
            let output = command.stdin(Stdio::null()).output();
            output.is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).contains(word))
        };
        let (found, words) = match self {
            Need::Curl => (
                says(Command::new("curl").arg("--version"), "HTTP2"),
                "no curl with HTTP/2",
            ),
            Need::H2load => (
                says(Command::new("h2load").arg("--version"), "h2load"),
                "no h2load (Debian: nghttp2-client)",
            ),
            Need::Hypercorn => (
                says(
                    Command::new(python()).args(["-c", "import h2, hypercorn; print('here')"]),
                    "here",
                ),
                "no python3 with the package hypercorn",
            ),
            Need::Node => (
                says(node("packages.mjs").arg("--check"), "here"),
                "no node with the packages ws and eventsource",
            ),
        };
        (!found).then_some(words)
    }
}

/// The interpreter that has the packages.
fn python() -> PathBuf {
    std::env::var_os("PUSHMARK_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// One of the programs beside this file.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(name)
}

/// Node with one of the programs beside this file. Where its packages are is in the environment.
fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(program(name)).stdin(Stdio::null());
    command
}

/// A peer that runs. Dropped, it is killed; should the test die, it ends with its stdin.
struct Peer {
    running: Running,
    _stdin: ChildStdin,
}

impl Peer {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let stdin = running.take_stdin().unwrap();
        Self {
            running,
            _stdin: stdin,
        }
    }

    /// What follows `word` on the first line that begins with it.
    fn said(&self, word: &str) -> String {
        eventually(&format!("the peer says {word}"), || {
            let said = self.running.said();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let line = whole.lines().find_map(|line| line.strip_prefix(word));
            if line.is_none() {
                assert!(!self.running.has_ended(), "{}", self.running.complaints());
            }
            line.map(|rest| rest.trim().to_owned())
        })
    }

    /// Lines that begin with `word`, once there are `count`; what follows the word.
    fn lines(&self, word: &str, count: usize) -> Vec<String> {
        eventually(&format!("the peer says {word} {count} times"), || {
            let said = self.running.said();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let lines: Vec<_> = whole
                .lines()
                .filter_map(|line| line.strip_prefix(word))
                .map(|line| line.trim().to_owned())
                .collect();
            if lines.len() < count {
                assert!(!self.running.has_ended(), "{}", self.running.complaints());
                return None;
            }
            Some(lines)
        })
    }

    /// A server: where it listens.
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.said("port ").parse().unwrap()))
    }
}

/// Our server, which also speaks TLS, and where the certificate to trust is.
fn secured_server(folder: &Folder, arguments: &[&str]) -> (Server, String) {
    let certificate = folder.path("certificate.pem").to_str().unwrap().to_owned();
    let arguments = [&["--tls-cert-out", &certificate], arguments].concat();
    (Server::start(&arguments), certificate)
}

/// Runs what waits for sockets, on this thread.
fn wait_for<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let future = async { tokio::time::timeout(DEADLINE, future).await };
    tokio::task::LocalSet::new()
        .block_on(&runtime, future)
        .expect("nothing comes any more")
}

fn target(address: SocketAddr) -> Target {
    Target {
        address,
        source: None,
        kernel_stamps: true,
        sends: true,
        connect_deadline: DEADLINE,
        open_deadline: DEADLINE,
        usual_message_bytes: 1024,
        max_message_bytes: 4 << 20,
        resume: None,
        tcp: Default::default(),
        carriage: Default::default(),
        in_process: None,
    }
}

fn stats(server: &Server) -> ServerStats {
    let target = target(server.address().parse().unwrap());
    wait_for(async {
        ControlClient::connect(&target)
            .await
            .unwrap()
            .stats()
            .await
            .unwrap()
    })
}

/// Waits until the server's counts are as they should be.
fn counted(server: &Server, words: &str, holds: impl Fn(&ServerStats) -> bool) -> ServerStats {
    eventually(words, || Some(stats(server)).filter(&holds))
}

/// A thousand messages a second, `count` of them, published to every session of `server`; returns when all are.
fn publish(server: &Server, kind: Kind, payload_bytes: u32, count: u64) {
    let target = target(server.address().parse().unwrap());
    let end = wait_for(async {
        let mut control = ControlClient::connect(&target).await.unwrap();
        let start = clock::now() + Duration::from_millis(1);
        let end = start + Duration::from_millis(count);
        let schedule = Schedule {
            start,
            end,
            rate: Rate::per_second(1_000),
            pattern: Pattern::Uniform,
            seed: 1,
            stream: 0,
            staggered: false,
            slots: None,
        };
        let publish = Publish {
            run: RUN,
            schedule,
            kind,
            payload_bytes,
            measured: start..end,
            from: 0,
            content: Default::default(),
        };
        control.publish(&publish).await.unwrap();
        end
    });
    // What is counted is the running publication, and what one of the server's threads has published of it; a further one would
    // keep the others from doing so.
    counted(server, "all messages are published", |s| s.published == count);
    wait_for(async {
        let mut control = ControlClient::connect(&target).await.unwrap();
        assert_eq!(control.stop(end).await.unwrap().published, count);
    });
}

/// That `payloads` are the messages `first` and on of a publication, whole and in order.
#[track_caller]
fn assert_published(payloads: &[impl AsRef<[u8]>], kind: Kind, first: u64, payload_bytes: usize) {
    for (payload, sequence) in payloads.iter().zip(first..) {
        let payload = payload.as_ref();
        let Found::Stamp(stamp) = Stamp::find(payload) else {
            panic!("no stamp in {}", payload.escape_ascii());
        };
        assert_eq!((stamp.run, stamp.sequence), (RUN, sequence));
        assert_eq!(
            payload,
            Template::new(kind, payload_bytes).stamped(&stamp),
            "{sequence}"
        );
    }
}
