//! Faults made by the kernel, in a network namespace of their own: what passes, what does not, and that nothing is left.
//!
//! Needs root, `ip` and `iptables`; where one is missing each test is skipped by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pushmark_loadgen::embedded::{Embedded, Launch};
use pushmark_loadgen::faults::{FaultError, Namespace, kernel};
use pushmark_measure::clock;
use pushmark_scenario::plan::{FaultKind, ServerSetup, WhenFull};
use rustix::process::Signal;
use support::{DEADLINE, Folder, Running, eventually, kill};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pushmark");
const QUESTION: &[u8] = b"GET /stats HTTP/1.1\r\nhost: h\r\n\r\n";
/// Long enough for something to come if it could.
const A_WHILE: Duration = Duration::from_millis(300);
/// Where a process of a test tells what it has made.
const TELL: &str = "PUSHMARK_TEST_TELL";

/// Whether kernel faults can be made here. If not, says that a test is skipped and why, also where `scripts/test` collects it.
fn possible(test: &str) -> bool {
    let why = kernel::allowed().err().or_else(|| {
        // In a container without the right, the first step fails.
        let name = format!("pushmark-test-{}-{test}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
        let made = made.unwrap();
        (!made.status.success()).then(|| String::from_utf8_lossy(&made.stderr).trim().to_owned())
    });
    let Some(why) = why else { return true };
    let line = format!("skipped: {test}: {why}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PUSHMARK_TEST_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
    false
}

fn test<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("it hangs") })
}

async fn server_in(namespace: &Namespace) -> Embedded {
    let setup = ServerSetup {
        threads: Some(1),
        outbox_messages: 16,
        when_full: WhenFull::DropOldest,
        history_messages: 0,
        retry: None,
    };
    let launch = Launch {
        listen: namespace.address(),
        control: namespace.control_address(),
        prefix: namespace.prefix(),
        ..Launch::on_loopback(Path::new(PROGRAM), &setup, 1)
    };
    Embedded::launch(launch).await.unwrap()
}

async fn ask(stream: &mut TcpStream) {
    stream.write_all(QUESTION).await.unwrap();
}

async fn answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut part = [0; 4_096];
        let n = stream.read(&mut part).await.unwrap();
        assert!(n > 0, "it ended");
        answer.extend_from_slice(&part[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// Whether the server answers at `address`, on a new connection, within a while.
async fn answers_at(address: SocketAddr) -> bool {
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        ask(&mut stream).await;
        answer(&mut stream).await;
        std::io::Result::Ok(())
    };
    matches!(tokio::time::timeout(A_WHILE, work).await, Ok(Ok(())))
}

/// What is left of a namespace: itself, its way, its devices.
fn left_of(namespace: &str) -> Vec<String> {
    let words = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let parts: Vec<&str> = namespace.split('-').collect();
    let (process, number) = (parts[1], parts[3]);
    let mut left: Vec<String> = words(&["netns", "list"])
        .lines()
        .filter(|line| line.starts_with(namespace))
        .map(str::to_owned)
        .collect();
    let links = words(&["-o", "link"]);
    for kind in ["d", "c"] {
        let device = format!("pm{kind}{process}n{number}@");
        left.extend(links.contains(&device).then_some(device));
    }
    left
}

#[test]
fn nothing_passes_a_black_hole_but_control_does() {
    if !possible("nothing_passes_a_black_hole_but_control_does") {
        return;
    }
    test(async {
        let mut namespace = Namespace::create().await.unwrap();
        assert!(namespace.address() != namespace.control_address());
        let server = server_in(&namespace).await;
        let (data, control) = (server.address(), server.controls()[0]);
        assert!(data.ip() == namespace.address() && control.ip() == namespace.control_address());
        let holes = [
            FaultKind::Blackhole,
            FaultKind::Loss { chance: 1.0 },
            FaultKind::LinkDown,
        ];
        for (fault, kind) in holes.into_iter().enumerate() {
            let fault = fault as u32;
            let mut stream = TcpStream::connect(data).await.unwrap();
            ask(&mut stream).await;
            answer(&mut stream).await;
            let before = clock::now();
            let at = namespace.inject(fault, kind, data.port()).await.unwrap();
            assert!(before < at && at < clock::now());
            ask(&mut stream).await;
            let silence = tokio::time::timeout(A_WHILE, stream.read_u8()).await;
            assert!(silence.is_err(), "{kind:?}: {silence:?}");
            assert!(!answers_at(data).await, "{kind:?}");
            let mut controls = TcpStream::connect(control).await.unwrap();
            ask(&mut controls).await;
            answer(&mut controls).await;
            let cleared = namespace.clear(fault).await.unwrap();
            assert!(at < cleared && cleared <= clock::now());
            // The kernels say it again, and now it passes.
            answer(&mut stream).await;
            while !answers_at(data).await {}
        }
        assert!(server.stop().await);
        let name = namespace.name();
        assert!(!left_of(&name).is_empty());
        namespace.remove().await.unwrap();
        assert_eq!(left_of(&name), Vec::<String>::new());
    });
}

#[test]
fn some_packets_are_lost_and_said_again() {
    if !possible("some_packets_are_lost_and_said_again") {
        return;
    }
    test(async {
        let mut namespace = Namespace::create().await.unwrap();
        let server = server_in(&namespace).await;
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let port = server.address().port();
        namespace
            .inject(1, FaultKind::Loss { chance: 0.3 }, port)
            .await
            .unwrap();
        let start = clock::now();
        for _ in 0..20 {
            ask(&mut stream).await;
            answer(&mut stream).await;
        }
        // A kernel waits 200 ms before it says something again; that none of 40 packets was lost is once in a million.
        assert!(clock::now().duration_since(start) >= Duration::from_millis(150));
        namespace.clear(1).await.unwrap();
        assert!(server.stop().await);
    });
}

#[test]
fn faults_add_up_and_what_makes_no_sense_is_refused() {
    if !possible("faults_add_up_and_what_makes_no_sense_is_refused") {
        return;
    }
    test(async {
        let mut namespace = Namespace::create().await.unwrap();
        let server = server_in(&namespace).await;
        let (data, port) = (server.address(), server.address().port());
        namespace.inject(1, FaultKind::Blackhole, port).await.unwrap();
        namespace.inject(2, FaultKind::Blackhole, port).await.unwrap();
        // Another port is not meant.
        namespace.inject(3, FaultKind::Blackhole, 1).await.unwrap();
        namespace.clear(1).await.unwrap();
        assert!(!answers_at(data).await, "the other is still in force");
        let refused = |e: FaultError| matches!(e, FaultError::Refused(_));
        assert!(refused(
            namespace.inject(2, FaultKind::LinkDown, port).await.unwrap_err()
        ));
        assert!(refused(
            namespace.inject(4, FaultKind::Rst, port).await.unwrap_err()
        ));
        assert!(refused(namespace.clear(4).await.unwrap_err()));
        namespace.clear(2).await.unwrap();
        while !answers_at(data).await {}
        // A server and a namespace that are only forgotten go all the same, the server first or not.
        let name = namespace.name();
        drop(namespace);
        eventually("all is taken away", || left_of(&name).is_empty().then_some(()));
        drop(server);
    });
}

/// Run by the next tests in a process of its own, which is killed.
#[test]
#[ignore = "only a part of other tests"]
fn an_owner_that_waits_for_its_end() {
    let told = std::env::var_os(TELL).expect("told where to tell");
    test(async {
        let namespace = Namespace::create().await.unwrap();
        let _server = server_in(&namespace).await;
        std::fs::write(&told, namespace.name() + "\n").unwrap();
        std::future::pending::<()>().await;
    });
}

/// An owner in a process of its own, and its namespace.
fn owner(folder: &Folder) -> (Running, String) {
    let told = folder.path("name");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "an_owner_that_waits_for_its_end", "--ignored"])
        .env(TELL, &told);
    let owner = Running::start(command);
    let name = eventually("the owner tells its namespace", || {
        let text = std::fs::read_to_string(&told).ok()?;
        Some(text.strip_suffix('\n')?.to_owned())
    });
    assert!(left_of(&name).len() >= 4, "two namespaces, two devices");
    (owner, name)
}

#[test]
fn nothing_is_left_of_an_owner_that_is_killed() {
    if !possible("nothing_is_left_of_an_owner_that_is_killed") {
        return;
    }
    let folder = Folder::new();
    let (owner, name) = owner(&folder);
    let mark = owner.mark();
    owner.signal(Signal::KILL);
    // Not ended by this test's own support, which would kill the watcher too.
    support::all_gone(&mark);
    assert_eq!(left_of(&name), Vec::<String>::new());
}

#[test]
fn what_even_the_watcher_leaves_is_swept() {
    if !possible("what_even_the_watcher_leaves_is_swept") {
        return;
    }
    let folder = Folder::new();
    let (owner, name) = owner(&folder);
    let (mark, own) = (owner.mark(), owner.pid());
    test(async { kernel::sweep_leftovers().await.unwrap() });
    assert!(left_of(&name).len() >= 4, "what has an owner is left alone");
    for (pid, verb) in owner.processes() {
        if verb == "-c" {
            kill(pid, Signal::KILL);
        }
    }
    kill(own, Signal::KILL);
    owner.wait();
    support::all_gone(&mark);
    assert!(left_of(&name).len() >= 4, "nobody has taken it away");
    test(async { kernel::sweep_leftovers().await.unwrap() });
    assert_eq!(left_of(&name), Vec::<String>::new());
}
