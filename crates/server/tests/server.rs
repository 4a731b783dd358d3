//! The reference server in process: its life from start to graceful stop, its accounts, and clients that mean it harm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use pushmark_measure::clock;
use pushmark_measure::schedule::{Pattern, Rate, Schedule};
use pushmark_server::{Config, Server};
use pushmark_transport::control::{ControlClient, Publish, ServerStats};
use pushmark_transport::registry::{self, Row, WithConnector, with_connector};
use pushmark_transport::stamp::{Found, MAX_24_BIT};
use pushmark_transport::{
    CloseReason, Connector, Inbox, Kind, Message, Received, Rx, Stamp, Target, TransportError, Tx, WhenFull,
};
use tokio::sync::mpsc;

/// Whatever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

fn over_network() -> impl Iterator<Item = &'static Row> {
    registry::ROWS.iter().filter(|row| !row.in_process)
}

/// Runs `test` on a runtime of its own, as a load generator's worker has one.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = async { tokio::time::timeout(DEADLINE, test).await };
    tokio::task::LocalSet::new()
        .block_on(&runtime, test)
        .expect("the test takes longer than its deadline");
}

/// Polls until `done`; the test's own deadline ends what never comes.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Stops a server without keeping its clients, who live on this thread, from their part in it.
async fn stop(server: Server) {
    tokio::task::spawn_blocking(move || server.stop())
        .await
        .unwrap()
        .unwrap();
}

fn target(address: SocketAddr) -> Target {
    Target {
        address,
        source: None,
        kernel_stamps: false,
        sends: true,
        connect_deadline: DEADLINE,
        open_deadline: DEADLINE,
        usual_message_bytes: 1024,
        max_message_bytes: 1 << 20,
        resume: None,
        tcp: Default::default(),
        carriage: Default::default(),
        in_process: None,
    }
}

async fn control(server: &Server) -> ControlClient {
    ControlClient::connect(&target(server.address())).await.unwrap()
}

/// What a session has got so far.
#[derive(Default)]
struct Got {
    messages: Vec<(Received, Message)>,
    ended: Option<Result<(), TransportError>>,
}

impl Inbox for Got {
    fn deliver(&mut self, received: Received, kind: Kind, payload: &[u8]) {
        let payload = payload.to_vec().into();
        self.messages.push((received, Message { kind, payload }));
    }
}

/// A session of any transport. Its task ends with it.
struct Client {
    got: Rc<RefCell<Got>>,
    send: mpsc::Sender<Message>,
}

impl Client {
    async fn open(row: &Row, address: SocketAddr) -> Client {
        let open = Open { address, reads: true };
        with_connector(row.name, row.carriers[0], open)
            .ok()
            .unwrap()
            .await
            .unwrap()
    }

    /// Opens a session that never reads.
    async fn deaf(row: &Row, address: SocketAddr) -> Client {
        let open = Open {
            address,
            reads: false,
        };
        with_connector(row.name, row.carriers[0], open)
            .ok()
            .unwrap()
            .await
            .unwrap()
    }

    async fn echo(&self, text: &str) {
        let before = self.got.borrow().messages.len();
        self.send.send(Message::text(text)).await.unwrap();
        until(async || self.got.borrow().messages.len() > before).await;
        assert_eq!(self.got.borrow().messages[before].1, Message::text(text));
    }

    fn stamps(&self) -> Vec<Stamp> {
        let got = self.got.borrow();
        let found = got
            .messages
            .iter()
            .map(|(_, message)| match Stamp::find(&message.payload) {
                Found::Stamp(stamp) => stamp,
                other => panic!("{other:?}"),
            });
        found.collect()
    }

    async fn end(&self) -> Result<(), TransportError> {
        until(async || self.got.borrow().ended.is_some()).await;
        self.got.borrow_mut().ended.take().unwrap()
    }
}

struct Open {
    address: SocketAddr,
    reads: bool,
}

impl WithConnector for Open {
    type Output = Pin<Box<dyn Future<Output = Result<Client, TransportError>>>>;

    fn with<C: Connector>(self, connector: C) -> Self::Output {
        Box::pin(async move {
            let connected = connector.connect(&target(self.address)).await?;
            let (mut tx, mut rx) = (connected.tx, connected.rx);
            let got = Rc::new(RefCell::new(Got::default()));
            let (send, mut to_send) = mpsc::channel::<Message>(16);
            let into = got.clone();
            let receiving = tokio::task::spawn_local(async move {
                let mut inbox = Got::default();
                if !self.reads {
                    std::future::pending::<()>().await;
                }
                loop {
                    let received = rx.recv(&mut inbox).await;
                    let mut got = into.borrow_mut();
                    got.messages.append(&mut inbox.messages);
                    match received {
                        Ok(0) => got.ended = Some(Ok(())),
                        Ok(_) => continue,
                        Err(e) => got.ended = Some(Err(e)),
                    }
                    return;
                }
            });
            tokio::task::spawn_local(async move {
                while let Some(message) = to_send.recv().await {
                    if tx.send(message).await.is_err() {
                        break;
                    }
                }
                // The client is gone: so is its session, and what it holds.
                let _ = tokio::time::timeout(Duration::from_secs(1), tx.close()).await;
                receiving.abort();
            });
            Ok(Client { got, send })
        })
    }
}

fn publication(rate: u64, count: u64, payload_bytes: u32) -> Publish {
    let start = clock::now() + Duration::from_millis(50);
    let end = start + Duration::from_nanos(count * 1_000_000_000 / rate);
    Publish {
        run: 7,
        schedule: Schedule {
            start,
            end,
            rate: Rate::per_second(rate),
            pattern: Pattern::Uniform,
            seed: 1,
            stream: 0,
            staggered: false,
            slots: None,
        },
        kind: Kind::Text,
        payload_bytes,
        from: 0,
        measured: start..end,
        content: Default::default(),
    }
}

/// Waits until everything of `publish` is published; gives the counts.
async fn published(control: &mut ControlClient, publish: &Publish) -> ServerStats {
    let all = publish.schedule.count_before(publish.schedule.end);
    until(async || control.stats().await.unwrap().published >= all).await;
    let stats = control.stop(publish.schedule.end).await.unwrap();
    assert_eq!((stats.published, stats.published_measured), (all, all));
    stats
}

#[test]
fn every_message_reaches_every_session_of_every_thread_once() {
    run(async {
        let config = Config {
            threads: 3,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let mut control = control(&server).await;
        let mut clients = Vec::new();
        for row in over_network() {
            for _ in 0..8 {
                clients.push(Client::open(row, server.address()).await);
            }
        }
        let publish = publication(200, 100, 100);
        control.publish(&publish).await.unwrap();
        published(&mut control, &publish).await;
        until(async || {
            clients
                .iter()
                .all(|client| client.got.borrow().messages.len() >= 100)
        })
        .await;

        let first = clients[0].stamps();
        let plan: Vec<_> = publish.schedule.cursor().collect();
        assert_eq!(
            first.iter().map(|s| (s.sequence, s.intended)).collect::<Vec<_>>(),
            plan
        );
        for stamp in &first {
            assert!(stamp.sent >= stamp.intended);
            assert_eq!((stamp.run, stamp.stream), (7 & MAX_24_BIT, 0));
        }
        for client in &clients {
            // One stamp a message, whichever thread came first to it.
            assert_eq!(client.stamps(), first);
            let got = client.got.borrow();
            for ((received, _), stamp) in got.messages.iter().zip(&first) {
                assert!(received.at >= stamp.sent, "no latency is negative");
            }
        }
        let stats = control.stats().await.unwrap();
        let all = 100 * clients.len() as u64;
        assert_eq!(
            (stats.offered, stats.offered_measured, stats.written),
            (all, all, all)
        );
        assert_eq!((stats.dropped, stats.undelivered), (0, 0));
        assert_eq!(stats.fanout_delay.count(), all);
        assert_eq!((stats.sessions_opened, stats.threads), (clients.len() as u64, 3));
        drop(clients);
        stop(server).await;
    });
}

#[test]
fn a_publication_ends_where_it_is_told_to() {
    run(async {
        let config = Config {
            threads: 3,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let mut control = control(&server).await;
        let mut clients = Vec::new();
        for row in over_network() {
            clients.push(Client::open(row, server.address()).await);
        }
        let publish = publication(200, 10_000, 100);
        control.publish(&publish).await.unwrap();
        // In the middle of a beat, and not there yet: two seconds off, for a machine that stalls.
        let at = publish.schedule.start + Duration::from_micros(2_002_500);
        let stats = control.stop(at).await.unwrap();
        assert_eq!((stats.published, stats.published_measured), (401, 401));
        assert_eq!(stats.offered, 401 * clients.len() as u64);
        until(async || {
            clients
                .iter()
                .all(|client| client.got.borrow().messages.len() >= 401)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let after = control.stats().await.unwrap();
        assert_eq!((after.published, after.written), (401, stats.offered));
        // And the next one begins at its own start.
        let publish = publication(200, 10, 100);
        control.publish(&publish).await.unwrap();
        published(&mut control, &publish).await;
        until(async || {
            clients
                .iter()
                .all(|client| client.got.borrow().messages.len() >= 411)
        })
        .await;
        drop(clients);
        stop(server).await;
    });
}

#[test]
fn a_graceful_stop_ends_every_session_in_its_orderly_way() {
    run(async {
        let config = Config {
            threads: 2,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let address = server.address();
        let mut clients = Vec::new();
        for row in over_network() {
            for n in 0..4 {
                let client = Client::open(row, address).await;
                // Some have talked, some never did.
                if n % 2 == 0 {
                    client.echo("hello").await;
                }
                clients.push((row.name, client));
            }
        }
        stop(server).await;
        for (name, client) in &clients {
            let ended = client.end().await;
            assert!(ended.is_ok(), "{name}: {ended:?}");
        }
        let refused = std::net::TcpStream::connect(address);
        assert!(refused.is_err(), "nobody listens any more");
    });
}

#[test]
fn sessions_that_do_not_end_are_cut_off_when_the_server_stops() {
    run(async {
        let config = Config {
            stop_deadline: Duration::from_millis(300),
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let mut control = control(&server).await;
        let mut clients = Vec::new();
        for row in over_network() {
            clients.push(Client::deaf(row, server.address()).await);
        }
        // More than the sockets take: none of them can be told that it is over.
        let publish = publication(500, 300, 64 * 1024);
        control.publish(&publish).await.unwrap();
        published(&mut control, &publish).await;
        // Not the deadline of the test: the server's own.
        stop(server).await;
    });
}

#[test]
fn the_accounts_add_up_whatever_a_slow_reader_does() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Disconnect] {
        for threads in [1, 3] {
            run(async move {
                let config = Config {
                    threads,
                    outbox_messages: 4,
                    when_full,
                    ..Config::default()
                };
                let server = Server::start(config).unwrap();
                let mut control = control(&server).await;
                let (mut deaf, mut readers) = (Vec::new(), Vec::new());
                for row in over_network() {
                    for _ in 0..2 {
                        deaf.push(Client::deaf(row, server.address()).await);
                    }
                    readers.push(Client::open(row, server.address()).await);
                }
                let sessions = (deaf.len() + readers.len()) as u64;
                // Together more than a socket's buffers take, so that every slow reader's outbox fills.
                let publish = publication(500, 300, 64 * 1024);
                control.publish(&publish).await.unwrap();
                let stats = published(&mut control, &publish).await;
                let case = format!("{when_full:?} on {threads} threads: {stats:#?}");
                assert!(stats.dropped > 0, "{case}");
                if when_full == WhenFull::Disconnect {
                    assert!(
                        stats.offered < 300 * sessions,
                        "who is gone is offered nothing: {case}"
                    );
                } else {
                    assert_eq!(stats.offered, 300 * sessions, "{case}");
                }
                drop((deaf, readers));
                // Sessions that fetch are given time to come back; the server need not wait for those here.
                until(async || {
                    let stats = control.stats().await.unwrap();
                    stats.sessions_open == 0
                })
                .await;
                let stats = control.stats().await.unwrap();
                let case = format!("{when_full:?} on {threads} threads: {stats:#?}");
                assert_eq!(
                    stats.offered,
                    stats.written + stats.dropped + stats.undelivered,
                    "{case}"
                );
                assert_eq!(stats.written, stats.fanout_delay.count(), "{case}");
                assert_eq!(stats.sessions_opened, sessions, "{case}");
                assert_eq!(stats.sessions_closed.values().sum::<u64>(), sessions, "{case}");
                let slow = stats.sessions_closed.get(&CloseReason::SlowReader).copied();
                assert_eq!(slow.is_some(), when_full == WhenFull::Disconnect, "{case}");
                stop(server).await;
            });
        }
    }
}

#[test]
fn echoes_are_counted_and_go_to_their_sender_alone() {
    run(async {
        let config = Config {
            threads: 2,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let mut clients = Vec::new();
        for row in over_network() {
            for _ in 0..3 {
                clients.push(Client::open(row, server.address()).await);
            }
        }
        for round in 0..5 {
            for (n, client) in clients.iter().enumerate() {
                client.echo(&format!("{n} {round}")).await;
            }
        }
        for client in &clients {
            assert_eq!(client.got.borrow().messages.len(), 5);
        }
        let all = 5 * clients.len() as u64;
        // Counted once the socket has it, which may be after its reader has.
        until(async || control(&server).await.stats().await.unwrap().written >= all).await;
        let stats = control(&server).await.stats().await.unwrap();
        assert_eq!((stats.received, stats.written), (all, all));
        assert_eq!((stats.dropped, stats.offered), (0, 0));
        drop(clients);
        stop(server).await;
    });
}

#[test]
fn more_sessions_than_allowed_are_refused_and_counted() {
    run(async {
        let config = Config {
            max_sessions: 3,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let first = over_network().next().unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(Client::open(first, server.address()).await);
        }
        for row in over_network() {
            let open = Open {
                address: server.address(),
                reads: true,
            };
            let refused = with_connector(row.name, row.carriers[0], open)
                .ok()
                .unwrap()
                .await;
            let error = refused.err().expect(row.name);
            assert!(error.to_string().contains("503"), "{}: {error}", row.name);
        }
        clients[0].echo("still here").await;
        let refused = over_network().count() as u64;
        let stats = control(&server).await.stats().await.unwrap();
        assert_eq!((stats.sessions_open, stats.sessions_refused), (3, refused));
        drop(clients.pop());
        until(async || control(&server).await.stats().await.unwrap().sessions_open == 2).await;
        clients.push(Client::open(first, server.address()).await);
        drop(clients);
        stop(server).await;
    });
}

/// What the server says to these bytes until it closes the connection or the client has its answer.
fn says_to(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut writing = stream.try_clone().unwrap();
    let request = request.to_vec();
    // The server need not read to the end before it refuses.
    let writer = std::thread::spawn(move || {
        let _ = writing.write_all(&request);
    });
    let mut said = Vec::new();
    let mut part = [0; 4096];
    while let Ok(n) = stream.read(&mut part) {
        said.extend_from_slice(&part[..n]);
        let whole = said.windows(4).any(|w| w == b"\r\n\r\n");
        if n == 0 || whole {
            break;
        }
    }
    drop(stream);
    writer.join().unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn hostile_requests_are_refused_and_harm_nobody_else() {
    run(async {
        let server = Server::start(Config::default()).unwrap();
        let address = server.address();
        let mut clients = Vec::new();
        for row in over_network() {
            clients.push(Client::open(row, address).await);
        }
        let many_headers = (0..100_000).fold(
            String::from("GET /stats HTTP/1.1\r\nHost: x\r\n"),
            |mut text, n| {
                text += &format!("X-{n}: y\r\n");
                text
            },
        ) + "\r\n";
        let endless_header = format!("GET /stats HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(10 << 20));
        let endless_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(10 << 20));
        let cases: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
            ("two Host fields", b"GET /stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec()),
            ("no Host field", b"GET /stats HTTP/1.1\r\n\r\n".to_vec()),
            (
                "Content-Length with Transfer-Encoding",
                b"POST /control/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                    .to_vec(),
            ),
            (
                "two lengths",
                b"POST /control/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde".to_vec(),
            ),
            ("100,000 headers", many_headers.into_bytes()),
            ("a header without end", endless_header.into_bytes()),
            ("a path without end", endless_path.into_bytes()),
            ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(100)),
            ("a negative length", b"POST /control/stop HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec()),
            ("HTTP of the future", b"GET /stats HTTP/9.9\r\nHost: x\r\n\r\n".to_vec()),
        ]);
        for (name, request) in cases {
            let said = tokio::task::spawn_blocking(move || says_to(address, &request))
                .await
                .unwrap();
            let refused = said.is_empty() || said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 5");
            assert!(refused, "{name}: {said}");
            for client in &clients {
                client.echo(name).await;
            }
        }
        let stats = control(&server).await.stats().await.unwrap();
        assert_eq!(stats.sessions_open, clients.len() as u64);
        drop(clients);
        stop(server).await;
    });
}

#[test]
fn a_control_request_that_makes_no_sense_is_refused_in_words() {
    run(async {
        let server = Server::start(Config::default()).unwrap();
        let address = server.address();
        let too_fast = publication(2_000_000, 10, 100);
        let too_large = publication(10, 10, u32::MAX);
        let body = |publish: &Publish| serde_json::to_string(publish).unwrap();
        for (path, method, body, status) in [
            ("/stats", "POST", String::new(), "405"),
            ("/control/publish", "GET", String::new(), "405"),
            ("/control/publish", "POST", "{}".to_owned(), "400"),
            ("/control/publish", "POST", body(&too_fast), "400"),
            ("/control/publish", "POST", body(&too_large), "400"),
            ("/control/publish", "POST", "x".repeat(1 << 20), "400"),
            ("/control/stop", "POST", "soon".to_owned(), "400"),
            ("/favicon.ico", "GET", String::new(), "404"),
        ] {
            let length = body.len();
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
            let said = tokio::task::spawn_blocking(move || says_to(address, request.as_bytes()))
                .await
                .unwrap();
            assert!(
                said.starts_with(&format!("HTTP/1.1 {status}")),
                "{method} {path}: {said}"
            );
        }
        stop(server).await;
    });
}

#[test]
fn headers_that_drip_are_cut_off_at_their_deadline() {
    run(async {
        let config = Config {
            header_deadline: Duration::from_millis(200),
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let address = server.address();
        let mut clients = Vec::new();
        for row in over_network() {
            clients.push(Client::open(row, address).await);
        }
        let mut control = control(&server).await;
        control.stats().await.unwrap();
        let cut = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut byte = [0; 512];
            // A byte at a time keeps no connection open: only whole headers do.
            for byte_out in b"GET /stats HTTP/1.1\r\nHost: x\r\nX: "
                .iter()
                .chain(std::iter::repeat(&b'y'))
            {
                let written = stream.write_all(&[*byte_out]);
                match stream.read(&mut byte) {
                    Ok(0) => return true,
                    Ok(n) => return byte[..n].starts_with(b"HTTP/1.1 408"),
                    Err(_) if written.is_err() => return true,
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return true,
                }
            }
            unreachable!("the drip has no end")
        });
        assert!(cut.await.unwrap());
        // A connection that says nothing is no drip: it may be used later.
        let silent = std::net::TcpStream::connect(address).unwrap();
        silent.set_nonblocking(true).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let said = (&silent).read(&mut [0; 16]).unwrap_err();
        assert_eq!(said.kind(), std::io::ErrorKind::WouldBlock);
        // Whoever was there before has been silent for longer than the deadline by now, and nobody minds: neither those
        // who have not asked for anything yet on their way up, nor those who have.
        for client in &clients {
            client.echo("still here").await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        for client in &clients {
            client.echo("and again").await;
        }
        control.stats().await.unwrap();
        drop(clients);
        stop(server).await;
    });
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    run(async {
        let config = Config {
            threads: 2,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let mut opened = 0;
        for _ in 0..20 {
            let mut clients = Vec::new();
            for row in over_network() {
                for _ in 0..5 {
                    clients.push(Client::open(row, server.address()).await);
                }
            }
            opened += clients.len() as u64;
            for client in &clients {
                client.echo("hello").await;
            }
        }
        let mut control = control(&server).await;
        until(async || control.stats().await.unwrap().sessions_open == 0).await;
        let stats = control.stats().await.unwrap();
        assert_eq!(stats.sessions_opened, opened);
        assert_eq!(stats.sessions_closed.values().sum::<u64>(), opened, "{stats:#?}");
        assert_eq!((stats.dropped, stats.undelivered, stats.accept_errors), (0, 0, 0));
        stop(server).await;
    });
}
