//! What a fault does to the real server's processes, and that nothing of it is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use pushmark_loadgen::embedded::{Embedded, Launch};
use pushmark_loadgen::faults::FaultError;
use pushmark_measure::clock;
use pushmark_scenario::plan::{ServerSetup, WhenFull};
use rustix::process::Signal;
use support::{DEADLINE, eventually, kill};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pushmark");
const QUESTION: &[u8] = b"GET /stats HTTP/1.1\r\nhost: h\r\n\r\n";

fn launch(processes: u32) -> Launch {
    let setup = ServerSetup {
        threads: Some(2),
        outbox_messages: 16,
        when_full: WhenFull::DropOldest,
        history_messages: 0,
        retry: None,
    };
    Launch::on_loopback(Path::new(PROGRAM), &setup, processes)
}

fn test<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("it hangs") })
}

async fn asked(server: &Embedded) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(QUESTION).await.unwrap();
    stream
}

async fn answers(stream: &mut TcpStream) -> bool {
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.is_ok() && &head == b"HTTP/1.1 200"
}

fn states(id: u32) -> Vec<char> {
    let mut states = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
    {
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        states.extend(stat.rsplit(") ").next().unwrap().chars().next());
    }
    states
}

#[test]
fn a_killed_server_is_gone_and_comes_back_on_its_port() {
    test(async {
        let mut server = Embedded::launch(launch(2)).await.unwrap();
        let (address, controls, ids) = (server.address(), server.controls(), server.ids());
        assert_eq!((controls.len(), ids.len()), (2, 2));
        let mut stream = asked(&server).await;
        assert!(answers(&mut stream).await);
        let before = clock::now();
        let dead = server.kill().await.unwrap();
        assert!(before <= dead && dead <= clock::now());
        assert!(ids.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()));
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(server.controls().is_empty());
        assert!(matches!(server.pause().await, Err(FaultError::Gone(_))));
        server.kill().await.unwrap();

        let ready = server.start_again().await.unwrap();
        assert!(dead < ready && ready <= clock::now());
        assert_eq!(server.address(), address);
        let now = server.ids();
        assert_eq!((server.controls().len(), now.len()), (2, 2));
        assert!(answers(&mut asked(&server).await).await);
        server.start_again().await.unwrap();
        assert_eq!(server.ids(), now, "a server that runs is left alone");
        assert!(server.stop().await);
    });
}

#[test]
fn a_stopped_server_stands_until_it_goes_on() {
    test(async {
        let mut server = Embedded::launch(launch(2)).await.unwrap();
        server.pause().await.unwrap();
        for id in server.ids() {
            let states = states(id);
            assert!(
                states.len() >= 2 && states.iter().all(|s| *s == 'T'),
                "{states:?}"
            );
        }
        // Its kernel takes connections and what they say; it stays so while other children of ours come and go.
        let mut stream = asked(&server).await;
        assert!(std::process::Command::new("true").status().unwrap().success());
        let waited = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
        assert!(waited.is_err());
        assert!(
            server
                .ids()
                .into_iter()
                .all(|id| states(id).iter().all(|s| *s == 'T'))
        );
        server.pause().await.unwrap();
        server.resume().await.unwrap();
        assert!(answers(&mut stream).await);
        // However it stands, it can be ended.
        server.pause().await.unwrap();
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        server.pause().await.unwrap();
        assert!(server.stop().await);
    });
}

#[test]
fn a_server_ends_in_good_order_and_comes_back() {
    test(async {
        let mut server = Embedded::launch(launch(1)).await.unwrap();
        let mut stream = asked(&server).await;
        assert!(answers(&mut stream).await);
        let ids = server.ids();
        server.shutdown().await.unwrap();
        assert!(!Path::new(&format!("/proc/{}", ids[0])).exists());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("an end, not a reset");
        server.start_again().await.unwrap();
        assert!(answers(&mut asked(&server).await).await);
        // One that died by itself is no orderly end.
        kill(server.ids()[0], Signal::KILL);
        assert!(server.shutdown().await.is_err());
    });
}

#[test]
fn a_prefix_and_further_flags_are_used() {
    test(async {
        let mut special = launch(1);
        special.prefix = ["env", "PUSHMARK_MARKED=yes"].map(str::to_owned).to_vec();
        special.flags = ["--max-sessions", "7"].map(str::to_owned).to_vec();
        special.listen = "127.0.0.2".parse().unwrap();
        special.control = "127.0.0.3".parse().unwrap();
        let server = Embedded::launch(special).await.unwrap();
        assert_eq!(server.address().ip().to_string(), "127.0.0.2");
        assert_eq!(server.controls()[0].ip().to_string(), "127.0.0.3");
        let proc = format!("/proc/{}", server.ids()[0]);
        let of = |file: &str| {
            String::from_utf8_lossy(&std::fs::read(format!("{proc}/{file}")).unwrap()).into_owned()
        };
        assert!(of("environ").contains("PUSHMARK_MARKED=yes"));
        assert!(of("cmdline").contains("--max-sessions\x007"));
        assert!(server.stop().await);
    });
}

/// Run by the next test in a process of its own, which is killed.
#[test]
#[ignore = "only a part of another test"]
fn an_owner_that_waits_for_its_end() {
    let told = std::env::var_os("PUSHMARK_TEST_TELL").expect("told where to tell");
    test(async {
        let mut server = Embedded::launch(launch(1)).await.unwrap();
        server.pause().await.unwrap();
        std::fs::write(&told, server.ids()[0].to_string()).unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_stopped_server_does_not_outlive_its_owner() {
    let folder = support::Folder::new();
    let told = folder.path("id");
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_owner_that_waits_for_its_end", "--ignored"])
        .env("PUSHMARK_TEST_TELL", &told)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let id: u32 = eventually("the owner tells the server's id", || {
        std::fs::read_to_string(&told).ok()?.parse().ok()
    });
    assert!(states(id).iter().all(|s| *s == 'T'));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the server ends", || {
        // Nobody may be there to bury it.
        let states = states(id);
        states.iter().all(|s| *s == 'Z').then_some(())
    });
}
