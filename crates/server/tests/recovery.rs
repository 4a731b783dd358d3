//! The reference server and clients that come and go: its history, its heartbeats, its disconnect log, and its door.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper that fails is a test that fails"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use pushmark_measure::schedule::{Pattern, Rate, Schedule};
use pushmark_measure::{Nanos, clock};
use pushmark_server::{Config, Server};
use pushmark_transport::control::{ControlClient, Disconnect, Publish, ServerStats};
use pushmark_transport::registry::{self, Row, WithConnector, with_connector};
use pushmark_transport::seam::{Collected, TcpOptions};
use pushmark_transport::stamp::Found;
use pushmark_transport::{CloseReason, Connector, ErrorClass, Heartbeat, Kind, Rx, Stamp, Step, Target, Tx};

/// Whatever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(90);

/// A test of one transport against a server of its own.
trait Case: Copy + 'static {
    fn config(self) -> Config;
    fn run<C: Connector>(self, connector: C, server: At) -> impl Future<Output = ()>;
}

/// Where a test's server is.
#[derive(Clone)]
struct At {
    row: &'static Row,
    address: SocketAddr,
    control: SocketAddr,
}

impl At {
    fn target(&self) -> Target {
        target(self.address)
    }

    async fn control(&self) -> ControlClient {
        ControlClient::connect(&target(self.control)).await.unwrap()
    }
}

fn target(address: SocketAddr) -> Target {
    Target {
        address,
        source: None,
        kernel_stamps: false,
        sends: false,
        connect_deadline: DEADLINE,
        open_deadline: DEADLINE,
        usual_message_bytes: 1024,
        max_message_bytes: 1 << 20,
        resume: None,
        tcp: TcpOptions::default(),
        carriage: Default::default(),
        in_process: None,
    }
}

/// Runs `case` for every transport that goes over a network.
fn for_every_transport(case: impl Case) {
    struct Task<T>(T, At);
    impl<T: Case> WithConnector for Task<T> {
        type Output = Pin<Box<dyn Future<Output = ()>>>;
        fn with<C: Connector>(self, connector: C) -> Self::Output {
            Box::pin(self.0.run(connector, self.1))
        }
    }
    for row in registry::ROWS.iter().filter(|row| !row.in_process) {
        // Shown when the test fails.
        eprintln!("{}", row.name);
        let server = Server::start(Config {
            control: Some(([127, 0, 0, 1], 0).into()),
            // Clients that are dropped and would be asked to fetch their end are not waited for: nothing here is about that.
            stop_deadline: Duration::from_millis(300),
            ..case.config()
        })
        .unwrap();
        let at = At {
            row,
            address: server.address(),
            control: server.control().unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let test = with_connector(row.name, row.carriers[0], Task(case, at))
            .ok()
            .unwrap();
        let test = async { tokio::time::timeout(DEADLINE, test).await };
        tokio::task::LocalSet::new()
            .block_on(&runtime, test)
            .expect("the test takes longer than its deadline");
        drop(runtime);
        server.stop().unwrap();
    }
}

/// As many messages as asked for, so fast that all are due at once.
fn publication(from: u64, count: u64, payload_bytes: u32) -> Publish {
    let start = clock::now();
    let end = start + Duration::from_nanos(count * 1_000);
    Publish {
        run: 7,
        schedule: Schedule {
            start,
            end,
            rate: Rate::per_second(1_000_000),
            pattern: Pattern::Uniform,
            seed: 1,
            stream: 0,
            staggered: false,
            slots: None,
        },
        kind: Kind::Text,
        payload_bytes,
        measured: start..end,
        from,
        content: Default::default(),
    }
}

/// Publishes all of it, and gives the counts after that.
async fn published(control: &mut ControlClient, publish: &Publish) -> ServerStats {
    control.publish(publish).await.unwrap();
    control.stop(publish.schedule.end).await.unwrap()
}

/// The numbers of the next `count` messages, with the instants they were intended for.
async fn receive<R: Rx>(rx: &mut R, count: usize) -> Vec<(u64, Nanos)> {
    let mut inbox = Collected::default();
    while inbox.0.len() < count {
        assert!(rx.recv(&mut inbox).await.unwrap() > 0, "the session has ended");
    }
    assert_eq!(inbox.0.len(), count, "more messages than there should be");
    let stamp = |payload: &[u8]| match Stamp::find(payload) {
        Found::Stamp(stamp) => (stamp.sequence, stamp.intended),
        other => panic!("{other:?}"),
    };
    inbox
        .0
        .iter()
        .map(|(_, message)| stamp(&message.payload))
        .collect()
}

fn numbers(received: &[(u64, Nanos)]) -> Vec<u64> {
    received.iter().map(|(number, _)| *number).collect()
}

/// Polls until `done`; the test's own deadline ends what never comes.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn disconnects(control: &mut ControlClient, count: usize) -> Vec<Disconnect> {
    let mut lines = Vec::new();
    until(async || {
        lines = control.disconnects().await.unwrap();
        lines.len() >= count
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

#[test]
fn history_is_bounded_and_has_no_seam() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                threads: 2,
                history: 50,
                // Far fewer than are replayed.
                outbox_messages: 8,
                when_full: pushmark_transport::WhenFull::Disconnect,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let stats = published(&mut control, &publication(0, 200, 64)).await;
            assert_eq!((stats.published, stats.offered, stats.replayed), (200, 0, 0));
            let mut replayed = 0;
            // More than is kept, as much, less, and nothing; on whichever thread the connection ends up.
            for resume in [0, 149, 150, 151, 199, 200, 9_999] {
                for _ in 0..3 {
                    let mut target = server.target();
                    // What stands in the header of an event stream is the message before it.
                    let orderly = server.row.orderly_close;
                    target.resume = match (orderly, resume) {
                        (true, n) => Some(n.to_string()),
                        (false, 0) => continue,
                        (false, n) => Some((n - 1).to_string()),
                    };
                    let mut session = connector.connect(&target).await.unwrap();
                    let expected: Vec<u64> = (resume.max(150)..200).collect();
                    let received = receive(&mut session.rx, expected.len()).await;
                    assert_eq!(numbers(&received), expected, "from {resume}");
                    replayed += expected.len() as u64;
                    if let Some((last, _)) = received.last() {
                        let token = session.rx.resume_token(Some(*last));
                        assert_eq!(token, Some(if orderly { "200" } else { "199" }.to_owned()));
                    }
                    session.tx.close().await.unwrap();
                }
            }
            until(async || control.stats().await.unwrap().sessions_open == 0).await;
            let stats = control.stats().await.unwrap();
            assert_eq!((stats.offered, stats.replayed), (0, replayed));
            assert_eq!(stats.written + stats.undelivered, replayed);
            assert_eq!(stats.dropped, 0);
            // Numbers that begin anew are other messages.
            published(&mut control, &publication(0, 3, 64)).await;
            let mut target = server.target();
            target.resume = Some("0".to_owned());
            let mut session = connector.connect(&target).await.unwrap();
            let first = u64::from(!server.row.orderly_close);
            let received = receive(&mut session.rx, 3 - first as usize).await;
            assert_eq!(numbers(&received), (first..3).collect::<Vec<_>>());
        }
    }
    for_every_transport(This);
}

#[test]
fn sessions_that_come_back_while_messages_are_published_miss_none() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                threads: 2,
                history: 100_000,
                outbox_messages: 100_000,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let mut publication = publication(0, 3_000, 64);
            publication.schedule.rate = Rate::per_second(5_000);
            publication.schedule.end = publication.schedule.start + Duration::from_millis(600);
            let mut session = connector.connect(&server.target()).await.unwrap();
            control.publish(&publication).await.unwrap();
            let mut next = 0;
            while next < 3_000 {
                let mut inbox = Collected::default();
                session.rx.recv(&mut inbox).await.unwrap();
                for (_, message) in &inbox.0 {
                    let Found::Stamp(stamp) = Stamp::find(&message.payload) else {
                        panic!("no stamp")
                    };
                    assert_eq!(stamp.sequence, next, "lost, repeated or out of order");
                    next += 1;
                }
                let mut target = server.target();
                target.resume = session.rx.resume_token(Some(next - 1));
                session = connector.connect(&target).await.unwrap();
            }
        }
    }
    for_every_transport(This);
}

#[test]
fn a_publication_goes_on_where_another_process_ended() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                threads: 2,
                history: 100,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let mut session = connector.connect(&server.target()).await.unwrap();
            // This one has had more than the other process is known to have published.
            let mut target = server.target();
            target.resume = Some(if server.row.orderly_close { "62" } else { "61" }.to_owned());
            let mut ahead = connector.connect(&target).await.unwrap();
            let publish = publication(60, 100, 64);
            let due: Vec<_> = publish.schedule.cursor().skip(60).collect();
            let stats = published(&mut control, &publish).await;
            assert_eq!(receive(&mut session.rx, 40).await, due);
            assert_eq!(receive(&mut ahead.rx, 38).await, due[2..]);
            assert_eq!((stats.published, stats.offered), (40, 78));
        }
    }
    for_every_transport(This);
}

#[test]
fn the_log_says_who_went_and_why() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                most_disconnects: 2,
                heartbeat: Some(Heartbeat {
                    every: Duration::from_secs(60),
                    timeout: Duration::from_millis(500),
                }),
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let before = clock::now();
            let gone = connector.connect(&server.target()).await.unwrap();
            until(async || control.stats().await.unwrap().sessions_open == 1).await;
            // A poll is on its way, where there are polls.
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(gone);
            let lines = disconnects(&mut control, 1).await;
            assert!(lines[0].last_heard >= before && lines[0].at >= lines[0].last_heard);
            assert_eq!(lines[0].reason, CloseReason::EndedEarly);
            assert!(lines[0].peer.ip().is_loopback() && lines[0].peer.port() > 0);
            until(async || control.stats().await.unwrap().sessions_open == 0).await;
            // A session that outlived its connection has one line all the same.
            let mut closed = connector.connect(&server.target()).await.unwrap();
            closed.tx.close().await.unwrap();
            drop(closed);
            let lines = disconnects(&mut control, 2).await;
            let orderly = server.row.orderly_close;
            let reason = if orderly {
                CloseReason::Client
            } else {
                CloseReason::EndedEarly
            };
            assert_eq!(lines[1].reason, reason);
            // What is over is counted.
            drop(connector.connect(&server.target()).await.unwrap());
            until(async || control.stats().await.unwrap().disconnects_over == 1).await;
            assert_eq!(control.disconnects().await.unwrap(), lines);
        }
    }
    for_every_transport(This);
}

#[test]
fn a_peer_that_the_kernel_gives_up_has_timed_out() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                tcp: TcpOptions {
                    user_timeout: Some(Duration::from_millis(200)),
                    keepalive: Some((Duration::from_secs(60), Duration::from_secs(60), 3)),
                },
                outbox_messages: 100_000,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            // A session whose messages are fetched has never more than one answer on its way.
            if server.row.native != pushmark_transport::seam::Native::Nothing && server.row.orderly_close {
                return;
            }
            let mut control = server.control().await;
            // Never reads: its window closes, and what is sent after that stays where it is.
            let deaf = connector.connect(&server.target()).await.unwrap();
            published(&mut control, &publication(0, 64, 1 << 20)).await;
            let lines = disconnects(&mut control, 1).await;
            assert_eq!(lines[0].reason, CloseReason::TimedOut);
            drop(deaf);
        }
    }
    for_every_transport(This);
}

#[test]
fn a_client_that_reads_no_more_is_found_by_heartbeats() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                heartbeat: Some(Heartbeat {
                    every: Duration::from_millis(50),
                    timeout: Duration::from_millis(200),
                }),
                outbox_messages: 100_000,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let deaf = connector.connect(&server.target()).await.unwrap();
            published(&mut control, &publication(0, 64, 1 << 20)).await;
            let lines = disconnects(&mut control, 1).await;
            // A stream that goes down only is looked after by the kernel, the others by the server.
            let by_kernel = !server.row.orderly_close;
            let reason = if by_kernel {
                CloseReason::TimedOut
            } else {
                CloseReason::Heartbeat
            };
            assert_eq!(lines[0].reason, reason);
            drop(deaf);
        }
    }
    for_every_transport(This);
}

#[test]
fn a_closed_door_refuses_and_touches_nobody_inside() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                threads: 2,
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let mut inside = connector.connect(&server.target()).await.unwrap();
            for _ in 0..3 {
                control.accept(false).await.unwrap();
                // Again is no different.
                control.accept(false).await.unwrap();
                for _ in 0..4 {
                    let refused = connector.connect(&server.target()).await.err().unwrap();
                    assert_eq!(
                        (refused.step, refused.class),
                        (Step::Connect, ErrorClass::Refused)
                    );
                }
                published(&mut control, &publication(0, 5, 64)).await;
                receive(&mut inside.rx, 5).await;
                assert!(server.control().await.stats().await.is_ok(), "control stays");
                control.accept(true).await.unwrap();
                for _ in 0..4 {
                    let mut session = connector.connect(&server.target()).await.unwrap();
                    session.tx.close().await.unwrap();
                }
            }
        }
    }
    for_every_transport(This);
}

#[test]
fn dead_clients_are_swept_out_and_live_ones_kept() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        fn config(self) -> Config {
            Config {
                threads: 2,
                heartbeat: Some(Heartbeat {
                    every: Duration::from_millis(100),
                    timeout: Duration::from_secs(4),
                }),
                ..Config::default()
            }
        }

        async fn run<C: Connector>(self, connector: C, server: At) {
            let mut control = server.control().await;
            let mut alive = connector.connect(&server.target()).await.unwrap();
            // Never reads nor answers; its kernel acknowledges all the same.
            let deaf = connector.connect(&server.target()).await.unwrap();
            let by_kernel = !server.row.orderly_close;
            let mut inbox = Collected::default();
            let gone = async {
                if by_kernel {
                    // The kernel hears from the other kernel: there is nothing to be found out.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    return Vec::new();
                }
                disconnects(&mut control, 1).await
            };
            let lines = tokio::select! {
                lines = gone => lines,
                received = alive.rx.recv(&mut inbox) => panic!("{received:?}, where there is nothing to receive"),
            };
            let reasons: Vec<_> = lines.iter().map(|line| line.reason).collect();
            let expected: &[_] = if by_kernel { &[] } else { &[CloseReason::Heartbeat] };
            assert_eq!(reasons, expected);
            published(&mut control, &publication(0, 1, 64)).await;
            receive(&mut alive.rx, 1).await;
            drop(deaf);
        }
    }
    for_every_transport(This);
}
