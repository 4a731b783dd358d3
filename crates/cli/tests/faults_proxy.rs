//! The proxy as a process: each kind of fault as both ends of real connections see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushmark_loadgen::faults::{FaultError, Proxy};
use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::FaultKind;
use rustix::process::Signal;
use support::{DEADLINE, kill, pushmark};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pushmark");
/// Long enough for bytes to come if they could. A machine that takes longer makes a test pass that should fail, and never
/// the other way round.
const A_WHILE: Duration = Duration::from_millis(100);

/// A proxy before a server that is this test.
struct Setting {
    proxy: Proxy,
    server: TcpListener,
}

/// Both ends of a connection through the proxy.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    /// As the server knows the proxy; a socket that was reset knows its peer no more.
    peer: SocketAddr,
}

impl Setting {
    async fn new(groups: u32) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = server.local_addr().unwrap();
        let proxy = Proxy::start(Path::new(PROGRAM), upstream, groups).await.unwrap();
        assert_eq!(proxy.addresses().len(), groups as usize);
        Self { proxy, server }
    }

    async fn connect(&self, group: usize) -> Ends {
        let client = TcpStream::connect(self.proxy.addresses()[group]).await.unwrap();
        let (server, peer) = self.server.accept().await.unwrap();
        let mut ends = Ends { client, server, peer };
        ends.speak().await;
        ends
    }

    /// Injects on the first group, on which one connection is.
    async fn inject(&mut self, kind: FaultKind, ends: &Ends) -> Nanos {
        let before = clock::now();
        let injected = self.proxy.inject(7, kind, &[0]).await.unwrap();
        assert_eq!((injected.fault, injected.connections), (7, 1));
        assert_eq!(injected.server_side, [ends.peer]);
        assert!(before <= injected.at && injected.at <= clock::now());
        injected.at
    }
}

impl Ends {
    /// Something passes each way.
    async fn speak(&mut self) {
        pass(&mut self.client, &mut self.server).await;
        pass(&mut self.server, &mut self.client).await;
    }
}

async fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"word").await.unwrap();
    let mut word = [0; 4];
    to.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"word");
}

async fn is_silent(end: &mut TcpStream) -> bool {
    tokio::time::timeout(A_WHILE, end.read(&mut [0])).await.is_err()
}

async fn is_reset(end: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(end.read_to_end(&mut rest).await, Err(e) if e.kind() == ErrorKind::ConnectionReset)
}

async fn is_at_end(end: &mut TcpStream) -> bool {
    matches!(end.read(&mut [0]).await, Ok(0))
}

/// Runs a test on a runtime, to a deadline.
fn test<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("it hangs") })
}

#[test]
fn without_a_fault_bytes_and_ends_pass_as_they_are() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        // A half-close leaves the other way open.
        ends.client.shutdown().await.unwrap();
        assert!(is_at_end(&mut ends.server).await);
        pass(&mut ends.server, &mut ends.client).await;
        drop(ends.server);
        assert!(is_at_end(&mut ends.client).await);

        // A reset of either side is the other's.
        for client_resets in [true, false] {
            let Ends { client, server, .. } = setting.connect(0).await;
            let (one, mut other) = if client_resets {
                (client, server)
            } else {
                (server, client)
            };
            one.set_zero_linger().unwrap();
            drop(one);
            assert!(is_reset(&mut other).await);
        }
        // Also when the other takes nothing that would show it.
        let Ends {
            client, mut server, ..
        } = setting.connect(0).await;
        while tokio::time::timeout(A_WHILE, server.write(&[0; 65_536]))
            .await
            .is_ok()
        {}
        // A stall looks the same from here: it is the proxy that must have had to wait for the reader.
        while setting.proxy.stats().await.unwrap().held_by_reader == 0 {
            let _ = tokio::time::timeout(A_WHILE, server.write(&[0; 65_536])).await;
        }
        drop(client);
        while let Ok(Ok(_)) = tokio::time::timeout(DEADLINE, server.write(&[0; 65_536])).await {}

        let stats = setting.proxy.stats().await.unwrap();
        assert_eq!((stats.accepted, stats.unreachable), (4, 0));
        assert_eq!(stats.bytes_to_server, 4 * 4);
        assert!(stats.delay.count() >= 8, "{stats:?}");
        assert!(stats.held_by_reader > 0);
        // Where nobody listens, a client is reset.
        let nobody = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        setting.proxy.redirect(nobody).await.unwrap();
        match TcpStream::connect(setting.proxy.addresses()[0]).await {
            Ok(mut client) => assert!(is_reset(&mut client).await),
            // It came so soon that the connect saw it.
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(setting.proxy.stats().await.unwrap().unreachable, 1);
        assert!(setting.proxy.stop().await);
    });
}

#[test]
fn fin_is_an_orderly_end_for_both() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        setting.inject(FaultKind::Fin, &ends).await;
        assert!(is_at_end(&mut ends.client).await);
        assert!(is_at_end(&mut ends.server).await);
        // What they still say is taken: no reset comes back.
        for end in [&mut ends.client, &mut ends.server] {
            end.write_all(&[0; 100_000]).await.unwrap();
            tokio::time::sleep(A_WHILE).await;
            end.write_all(b"more").await.unwrap();
        }
        drop(ends);
        while setting.proxy.stats().await.unwrap().open > 0 {}
        // It is over as soon as it is done.
        setting.connect(0).await;
        setting.proxy.clear(7).await.unwrap();
    });
}

#[test]
fn rst_is_a_reset_for_both() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        setting.inject(FaultKind::Rst, &ends).await;
        assert!(is_reset(&mut ends.client).await);
        assert!(is_reset(&mut ends.server).await);
        while setting.proxy.stats().await.unwrap().open > 0 {}
        setting.connect(0).await;
    });
}

#[test]
fn a_freeze_holds_everything_and_loses_nothing() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        setting.inject(FaultKind::Freeze, &ends).await;
        // Kernels still take what is written.
        ends.client.write_all(b"up").await.unwrap();
        ends.server.write_all(b"down").await.unwrap();
        assert!(is_silent(&mut ends.client).await && is_silent(&mut ends.server).await);
        // Who comes now is taken and not joined to the server; who gives up never will be.
        let address = setting.proxy.addresses()[0];
        let mut late = TcpStream::connect(address).await.unwrap();
        late.write_all(b"late").await.unwrap();
        drop(TcpStream::connect(address).await.unwrap());
        let joined = tokio::time::timeout(A_WHILE, setting.server.accept()).await;
        assert!(joined.is_err());
        while setting.proxy.stats().await.unwrap().open > 2 {}

        let cleared = setting.proxy.clear(7).await.unwrap();
        assert!(cleared.at <= clock::now());
        let mut word = [0; 4];
        ends.server.read_exact(&mut word[..2]).await.unwrap();
        assert_eq!(&word[..2], b"up");
        ends.client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"down");
        let (mut server, _) = setting.server.accept().await.unwrap();
        server.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"late");
        ends.speak().await;
        assert!(
            tokio::time::timeout(A_WHILE, setting.server.accept())
                .await
                .is_err()
        );
    });
}

#[test]
fn half_open_is_known_to_the_server_alone() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut spoke = setting.connect(0).await;
        setting.inject(FaultKind::HalfOpen, &spoke).await;
        assert!(is_reset(&mut spoke.server).await);
        spoke.client.write_all(b"are you there?").await.unwrap();
        assert!(is_silent(&mut spoke.client).await);
        // Who comes now is served.
        let mut later = setting.connect(0).await;
        setting.proxy.clear(7).await.unwrap();
        assert!(is_reset(&mut spoke.client).await, "it spoke, and now is answered");
        later.speak().await;

        drop(spoke);
        let injected = setting.proxy.inject(8, FaultKind::HalfOpen, &[0]).await.unwrap();
        assert_eq!(injected.server_side, [later.peer]);
        assert!(is_reset(&mut later.server).await);
        setting.proxy.clear(8).await.unwrap();
        assert!(is_silent(&mut later.client).await);
        later.client.write_all(b"are you there?").await.unwrap();
        assert!(is_reset(&mut later.client).await, "its next word is answered");
    });
}

#[test]
fn a_delay_holds_each_way_and_keeps_bytes_and_order() {
    const TOTAL: usize = 10_000_000;
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        let delay = Duration::from_millis(50);
        let slow = FaultKind::Delay {
            delay,
            jitter: Duration::ZERO,
        };
        setting.inject(slow, &ends).await;
        let start = clock::now();
        ends.speak().await;
        assert!(clock::now().duration_since(start) >= 2 * delay, "there and back");
        // Ends are held back as well.
        let start = clock::now();
        let mut other = setting.connect(0).await;
        other.client.shutdown().await.unwrap();
        assert!(is_at_end(&mut other.server).await);
        assert!(clock::now().duration_since(start) >= 3 * delay);
        setting.proxy.clear(7).await.unwrap();

        let uneven = FaultKind::Delay {
            delay: Duration::from_millis(1),
            jitter: Duration::from_millis(5),
        };
        setting.proxy.inject(8, uneven, &[0]).await.unwrap();
        let sent: Vec<u8> = (0..TOTAL as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut got = Vec::new();
        let (mut from, mut to) = (ends.server, ends.client);
        tokio::join!(
            async {
                from.write_all(&sent).await.unwrap();
                from.shutdown().await.unwrap();
            },
            async {
                to.read_to_end(&mut got).await.unwrap();
            }
        );
        assert!(got == sent, "{} of {TOTAL} bytes came", got.len());
    });
}

/// Checks that `bytes` take at least `least` to the client under a fault, and not to the server.
async fn slows_the_client(kind: FaultKind, bytes: usize, least: Duration) {
    let mut setting = Setting::new(1).await;
    let mut ends = setting.connect(0).await;
    setting.inject(kind, &ends).await;
    let (server, client) = (&mut ends.server, &mut ends.client);
    let down = time(server, client, bytes).await;
    assert!(down >= least, "{down:?}");
    // A busy machine may be as slow by itself, but not every time.
    while time(client, server, bytes).await >= least {}
    // What is left of it flows at once when the fault is over: to its end at this pace, the test would hang.
    let much = bytes * 1_000;
    let sent = vec![1; much];
    let mut got = vec![0; much];
    let (written, read, cleared) = tokio::join!(
        server.write_all(&sent),
        client.read_exact(&mut got),
        setting.proxy.clear(7)
    );
    written.unwrap();
    read.unwrap();
    cleared.unwrap();
}

async fn time(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Duration {
    let start = clock::now();
    let sent: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
    let mut got = vec![0; bytes];
    from.write_all(&sent).await.unwrap();
    to.read_exact(&mut got).await.unwrap();
    assert!(sent == got);
    clock::now().duration_since(start)
}

#[test]
fn bandwidth_is_limited_to_the_client_alone() {
    let rate = FaultKind::Bandwidth {
        bytes_per_second: 20_000,
    };
    // The first hundredth of a second's worth goes at once.
    test(slows_the_client(rate, 10_000, Duration::from_millis(490)));
}

#[test]
fn bytes_drip_one_by_one_to_the_client_alone() {
    let drip = FaultKind::SlowDrip {
        every: Duration::from_millis(10),
    };
    test(slows_the_client(drip, 50, Duration::from_millis(490)));
}

#[test]
fn bytes_to_the_client_are_changed_as_often_as_asked() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        setting.inject(FaultKind::Corrupt { chance: 0.01 }, &ends).await;
        let mut got = vec![1; 100_000];
        let zeros = vec![0; 100_000];
        let (server, client) = (&mut ends.server, &mut ends.client);
        let (sent, _) = tokio::join!(server.write_all(&zeros), client.read_exact(&mut got));
        sent.unwrap();
        let changed = got.iter().filter(|b| **b != 0).count();
        assert!((700..1_300).contains(&changed), "{changed}");
        let (sent, _) = tokio::join!(client.write_all(&zeros), server.read_exact(&mut got));
        sent.unwrap();
        assert!(got == zeros, "the way to the server is clean");
        setting.proxy.clear(7).await.unwrap();
        ends.speak().await;
    });
}

#[test]
fn groups_have_fates_of_their_own() {
    test(async {
        let mut setting = Setting::new(3).await;
        let (mut a, mut b, mut c) = (
            setting.connect(0).await,
            setting.connect(1).await,
            setting.connect(2).await,
        );
        let freeze = setting
            .proxy
            .inject(1, FaultKind::Freeze, &[0, 2, 2])
            .await
            .unwrap();
        assert_eq!(freeze.connections, 2);
        let reset = setting.proxy.inject(2, FaultKind::Rst, &[2]).await.unwrap();
        assert_eq!(reset.server_side, [c.peer]);
        assert!(is_reset(&mut c.client).await && is_reset(&mut c.server).await);
        b.speak().await;
        a.client.write_all(b"word").await.unwrap();
        assert!(is_silent(&mut a.server).await);
        setting.proxy.clear(1).await.unwrap();
        let mut word = [0; 4];
        a.server.read_exact(&mut word).await.unwrap();
        a.speak().await;
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        let refused = |e: FaultError| match e {
            FaultError::Refused(words) => words,
            other => panic!("{other:?}"),
        };
        let proxy = &mut setting.proxy;
        let words = refused(proxy.inject(1, FaultKind::Rst, &[0, 1]).await.unwrap_err());
        assert_eq!(words, "there is no group 1: the proxy has 1");
        let words = refused(proxy.inject(1, FaultKind::Blackhole, &[0]).await.unwrap_err());
        assert_eq!(words, "a proxy cannot make the fault “blackhole”");
        let words = refused(proxy.clear(1).await.unwrap_err());
        assert_eq!(words, "fault 1 is not in force");
        proxy
            .inject(1, FaultKind::Corrupt { chance: 0.0 }, &[0])
            .await
            .unwrap();
        let words = refused(proxy.inject(1, FaultKind::Freeze, &[0]).await.unwrap_err());
        assert_eq!(words, "fault 1 is already in force");
        ends.speak().await;
    });
}

#[test]
fn a_proxy_that_dies_is_told_of() {
    test(async {
        let mut setting = Setting::new(1).await;
        let mut ends = setting.connect(0).await;
        kill(setting.proxy.id().unwrap(), Signal::KILL);
        let e = setting
            .proxy
            .inject(1, FaultKind::Freeze, &[0])
            .await
            .unwrap_err();
        assert_eq!(
            e.to_string(),
            "the proxy has ended before its time; see its message above"
        );
        let _ = ends.client.read(&mut [0]).await;
        assert!(!setting.proxy.stop().await);
    });
}

#[test]
fn it_ends_with_its_input() {
    for said in [&b""[..], b"{\"upstream\":\"127.0.0.1:1\",\"groups\":2}\n"] {
        let mut child = pushmark()
            .arg("proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(said).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_thousand_connections_break_at_once() {
    test(async {
        pushmark_transport::process::raise_open_files();
        let mut setting = Setting::new(2).await;
        let mut ends = Vec::new();
        for number in 0..1_000 {
            ends.push(setting.connect(number % 2).await);
        }
        let injected = setting.proxy.inject(1, FaultKind::Rst, &[0]).await.unwrap();
        assert_eq!(injected.connections, 500);
        let known: std::collections::BTreeSet<SocketAddr> = injected.server_side.into_iter().collect();
        for (number, ends) in ends.iter_mut().enumerate() {
            if number % 2 == 0 {
                assert!(is_reset(&mut ends.client).await && is_reset(&mut ends.server).await);
            } else {
                assert!(!known.contains(&ends.peer));
                ends.speak().await;
            }
        }
        assert_eq!(known.len(), 500);
        let stats = setting.proxy.stats().await.unwrap();
        assert_eq!((stats.accepted, stats.open, stats.accept_errors), (1_000, 500, 0));
    });
}
