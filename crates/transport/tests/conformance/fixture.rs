//! One generic suite over all rows: a peer for each test, and the client's side in a few words.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pushmark_transport::carrier::{Carrier, Http};
use pushmark_transport::compression::{Compression, Window};
use pushmark_transport::registry::{self, Row, WithConnector};
use pushmark_transport::seam::Collected;
use pushmark_transport::{
    CloseReason, Connected, Connector, ErrorClass, Kind, Message, Rx, Target, TransportError, null,
};

use crate::host::{Config, TestHost, carriage, serve};

/// Far more than any test needs: only what hangs runs into it.
const TEST_DEADLINE: Duration = Duration::from_secs(180);

/// A test of one row, generic over its connector.
pub(crate) trait Case: Copy + 'static {
    fn run<C: Connector>(self, connector: C, fixture: Fixture) -> impl Future<Output = ()>;
}

/// Defines a test that is run for every row of the registry and each of its carriers.
macro_rules! for_every_transport {
    ($(#[$attribute:meta])* $name:ident, $config:expr, |$connector:ident, $fixture:pat_param| $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            #[derive(Clone, Copy)]
            struct This;
            impl $crate::fixture::Case for This {
                async fn run<C: pushmark_transport::Connector>(
                    self,
                    $connector: C,
                    $fixture: $crate::fixture::Fixture,
                ) $body
            }
            $crate::fixture::run(stringify!($name), This, $config);
        }
    };
}
pub(crate) use for_every_transport;

/// Runs `case` for every row and carrier, client and server on one thread.
pub(crate) fn run(name: &str, case: impl Case, config: Config) {
    run_rows(name, case, config, false);
}

/// The same with the server on a thread of its own.
pub(crate) fn run_threaded(name: &str, case: impl Case, config: Config) {
    run_rows(name, case, config, true);
}

fn run_rows(name: &str, case: impl Case, config: Config, threaded: bool) {
    struct Task<T>(T, Fixture, tokio::task::LocalSet, tokio::runtime::Runtime);
    impl<T: Case> WithConnector for Task<T> {
        type Output = ();
        fn with<C: Connector>(self, connector: C) {
            let Task(case, fixture, local, runtime) = self;
            let peer = fixture.peer.clone();
            let run = async { tokio::time::timeout(TEST_DEADLINE, case.run(connector, fixture)).await };
            local
                .block_on(&runtime, run)
                .expect("the test took longer than its deadline");
            if let Peer::Server(host) = peer {
                host.check_books();
            }
        }
    }
    for row in registry::ROWS {
        let ways = row.carriers.iter().flat_map(|carrier| {
            // A stream of a connection that others share cannot be taken over.
            let shared = carrier
                .parse::<Carrier>()
                .is_ok_and(|carrier| carrier.http() == Http::Http2);
            [(carrier, true), (carrier, false)]
                .into_iter()
                .filter(move |(_, take_over)| !(shared && *take_over))
        });
        let ways = ways.flat_map(|(carrier, take_over)| {
            let compressions = match config.compression {
                None => compressions(row, carrier),
                // The test has its own.
                compression => vec![compression],
            };
            compressions
                .into_iter()
                .map(move |compression| (carrier, take_over, compression))
        });
        for (carrier, take_over, compression) in ways {
            // Shown when the test fails.
            eprintln!(
                "{name}: {} over {carrier}, taken over: {take_over}, {compression:?}",
                row.name
            );
            let config = Config {
                take_over,
                compression,
                ..config
            };
            let (local, runtime) = (tokio::task::LocalSet::new(), runtime());
            let fixture = local.block_on(&runtime, Fixture::new(row, carrier, config, threaded));
            let task = Task(case, fixture, local, runtime);
            assert!(registry::with_connector(row.name, carrier, task).is_ok());
        }
    }
}

/// How sessions of a row over a carrier are compressed: not at all, and on two of the carriers in both ways there are.
fn compressions(row: &Row, carrier: &str) -> Vec<Option<Compression>> {
    let mut all = vec![None];
    if !row.in_process && ["h1", "h2+tls"].contains(&carrier) {
        for (takeover, bits) in [(true, 15), (false, 10)] {
            let window = Window { takeover, bits };
            all.push(Some(Compression {
                down: window,
                up: window,
                level: 1,
            }));
        }
    }
    all
}

/// Runs a test that is about one transport.
pub(crate) fn run_alone<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let test = async { tokio::time::timeout(TEST_DEADLINE, test()).await };
    tokio::task::LocalSet::new()
        .block_on(&runtime(), test)
        .expect("the test took longer than its deadline");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The other side of a row's sessions.
#[derive(Clone)]
pub(crate) enum Peer {
    InProcess(null::Peer),
    Server(Arc<TestHost>),
}

/// A row under test, with its peer.
pub(crate) struct Fixture {
    pub(crate) row: &'static Row,
    pub(crate) target: Target,
    pub(crate) peer: Peer,
}

/// A target that sends and takes messages up to a mebibyte.
pub(crate) fn target(address: SocketAddr) -> Target {
    Target {
        address,
        source: None,
        kernel_stamps: true,
        sends: true,
        connect_deadline: Duration::from_secs(20),
        open_deadline: Duration::from_secs(20),
        usual_message_bytes: 1024,
        max_message_bytes: 1 << 20,
        resume: None,
        tcp: Default::default(),
        carriage: Default::default(),
        in_process: None,
    }
}

impl Fixture {
    async fn new(row: &'static Row, carrier: &str, config: Config, threaded: bool) -> Self {
        if row.in_process {
            let peer = null::Peer::default();
            let mut target = target(([127, 0, 0, 1], 0).into());
            target.in_process = Some(peer.clone());
            let peer = Peer::InProcess(peer);
            return Self { row, target, peer };
        }
        let host = TestHost::new(config);
        let address = if threaded {
            serve_on_a_thread(host.clone())
        } else {
            serve(host.clone()).await
        };
        let mut target = target(address);
        target.carriage = carriage(carrier.parse().unwrap());
        target.carriage.compression = config.compression;
        let peer = Peer::Server(host);
        Self { row, target, peer }
    }

    /// The host; `None` for a row without a server, to which a test about servers does not apply.
    pub(crate) fn host(&self) -> Option<Arc<TestHost>> {
        match &self.peer {
            Peer::InProcess(_) => None,
            Peer::Server(host) => Some(host.clone()),
        }
    }

    /// HTTP/1.1 in the clear, uncompressed: what a test needs to run once that makes its own bytes, whatever layers there are.
    pub(crate) fn is_plain(&self) -> bool {
        let carriage = &self.target.carriage;
        carriage.carrier == Carrier::H1 && carriage.compression.is_none()
    }

    /// The host, where messages take as much room on the way as they have bytes: alike, they fill nothing when compressed.
    pub(crate) fn uncompressed_host(&self) -> Option<Arc<TestHost>> {
        self.host().filter(|_| self.target.carriage.compression.is_none())
    }

    pub(crate) async fn connect<C: Connector>(&self, connector: &C) -> Connected<C::Tx, C::Rx> {
        connector.connect(&self.target).await.unwrap()
    }

    pub(crate) fn publish(&self, message: &Message) {
        match &self.peer {
            Peer::InProcess(peer) => drop(peer.publish(message)),
            Peer::Server(host) => host.publish(message),
        }
    }

    pub(crate) fn close_all(&self) {
        match &self.peer {
            Peer::InProcess(peer) => peer.close_all(),
            Peer::Server(host) => host.close_all(),
        }
    }

    /// Waits until the server has closed a session, once, and for that reason.
    pub(crate) async fn closed(&self, reason: CloseReason) {
        let Some(host) = self.host() else { return };
        until(|| !host.closed().is_empty()).await;
        settle().await;
        assert_eq!(host.closed(), [reason], "{}", self.row.name);
    }

    /// How the server sees a client that has closed its session.
    pub(crate) fn reason_of_client_close(&self) -> CloseReason {
        if self.row.orderly_close {
            CloseReason::Client
        } else {
            CloseReason::EndedEarly
        }
    }
}

/// Serves `host` on a thread that ends with the tests.
fn serve_on_a_thread(host: Arc<TestHost>) -> SocketAddr {
    let (tell, address) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime(), async {
            tell.send(serve(host).await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}

/// Waits until `condition` holds; the test's deadline is the only limit.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets every task of this thread do what it can do now, over as many hops as there are between any two. A machine that
/// stalls takes one turn, not all of them.
pub(crate) async fn settle() {
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The next `count` messages.
pub(crate) async fn receive<R: Rx>(rx: &mut R, count: usize) -> Vec<Message> {
    let mut inbox = Collected::default();
    while inbox.0.len() < count {
        let before = inbox.0.len();
        let n = rx.recv(&mut inbox).await.unwrap();
        assert!(n > 0, "closed after {} of {count} messages", inbox.0.len());
        assert_eq!(
            inbox.0.len() - before,
            n,
            "recv must return how many it delivered"
        );
    }
    assert_eq!(inbox.0.len(), count, "more messages than were sent");
    inbox.0.into_iter().map(|(_, message)| message).collect()
}

/// Everything up to the end, and how it ended.
pub(crate) async fn receive_to_end<R: Rx>(rx: &mut R) -> (Vec<Message>, Result<(), TransportError>) {
    let mut inbox = Collected::default();
    let end = loop {
        match rx.recv(&mut inbox).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(e) => break Err(e),
        }
    };
    // An end stays what it was.
    let again = rx.recv(&mut inbox).await;
    assert_eq!(
        again.as_ref().map_err(|e| e.class).err(),
        end.as_ref().map_err(|e| e.class).err()
    );
    assert!(!matches!(again, Ok(1..)), "messages after the end");
    (inbox.0.into_iter().map(|(_, message)| message).collect(), end)
}

/// Panics unless the connection was lost.
pub(crate) fn assert_lost(end: Result<(), TransportError>) {
    let class = end.expect_err("a lost connection is no clean end").class;
    assert!(
        matches!(
            class,
            ErrorClass::EndedEarly | ErrorClass::Reset | ErrorClass::StreamReset
        ),
        "{class}"
    );
}

/// A text message that is a number.
pub(crate) fn numbered(number: usize) -> Message {
    Message::text(number.to_string())
}

/// The numbers that [`numbered`] messages start with.
pub(crate) fn numbers(messages: &[Message]) -> Vec<usize> {
    let number = |m: &Message| {
        assert_eq!(m.kind, Kind::Text);
        let text = std::str::from_utf8(&m.payload).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    messages.iter().map(number).collect()
}

/// The headers of a response, as a map of their own.
pub(crate) fn header_map(headers: pushmark_transport::carrier::Headers<'_, '_>) -> hyper::HeaderMap {
    let owned = |h: &httparse::Header<'_>| (h.name.parse().unwrap(), h.value.try_into().unwrap());
    headers
        .iter()
        .map(owned)
        .collect::<Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>>()
        .into_iter()
        .collect()
}
