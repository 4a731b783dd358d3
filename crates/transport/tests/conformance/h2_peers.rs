//! HTTP/2 servers that misbehave, frame by frame: what becomes of the sessions that share their connections, each cause by its name.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pushmark_transport::carrier::{Carriage, Carrier, Streams};
use pushmark_transport::sse::SseConnector;
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{Connected, Connector, ErrorClass, Message, Rx, Step, Target, TransportError, Tx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{receive, receive_to_end, run_alone, target, until};

// Types of frames (RFC 9113, section 6), and the codes of errors (section 7).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const ENHANCE_YOUR_CALM: u32 = 11;
// Settings (section 6.5.2; RFC 8441, section 3).
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = all
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

fn go_away(last_stream: u32, code: u32) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// `:status: 200`, `content-type: text/event-stream`: what opens a session of either kind.
fn opened(stream: u32) -> Vec<u8> {
    let media = b"text/event-stream";
    let head = [&[0x88, 0x0F, 0x10, media.len() as u8][..], media].concat();
    frame(HEADERS, 4, stream, &head)
}

/// What is said to clients, connection by connection: how each begins, what a request is answered with by its number among all
/// and its stream, and what is said when the test says so.
#[derive(Clone)]
struct Script {
    begins: Vec<u8>,
    answer: fn(usize, u32) -> Vec<u8>,
    later: Vec<u8>,
    go: Rc<Cell<bool>>,
    connections: Rc<Cell<usize>>,
    requests: Rc<Cell<usize>>,
}

impl Script {
    fn new(all: &[(u16, u32)], answer: fn(usize, u32) -> Vec<u8>) -> Self {
        let with_tunnels = [&[(ENABLE_CONNECT_PROTOCOL, 1)], all].concat();
        Self {
            begins: settings(&with_tunnels),
            answer,
            later: Vec::new(),
            go: Rc::default(),
            connections: Rc::default(),
            requests: Rc::default(),
        }
    }

    async fn serve(&self) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = self.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                script.connections.set(script.connections.get() + 1);
                let script = script.clone();
                // An error is a client that has gone, as it may.
                tokio::task::spawn_local(async move { drop(script.speak(stream).await) });
            }
        });
        shared(address)
    }

    async fn speak(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.read_exact(&mut [0; 24]).await?;
        stream.write_all(&self.begins).await?;
        let (mut from, to) = stream.into_split();
        let to = Rc::new(to);
        if self.connections.get() == 1 {
            let (script, to) = (self.clone(), to.clone());
            tokio::task::spawn_local(async move {
                until(|| script.go.get()).await;
                // The way stays open: only the test's words end anything.
                drop(say(&to, &script.later).await);
            });
        }
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, s, t, u, v] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            from.read_exact(&mut payload).await?;
            match kind {
                HEADERS => {
                    let number = self.requests.get();
                    self.requests.set(number + 1);
                    say(&to, &(self.answer)(number, u32::from_be_bytes([s, t, u, v]))).await?;
                }
                SETTINGS if flags == 0 => say(&to, &frame(SETTINGS, 1, 0, b"")).await?,
                _ => {}
            }
        }
    }
}

/// Few bytes, which a socket always takes.
async fn say(to: &OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    if !bytes.is_empty() {
        to.writable().await?;
        assert_eq!(to.try_write(bytes)?, bytes.len());
    }
    Ok(())
}

/// Over HTTP/2, all sessions on one connection.
fn shared(address: SocketAddr) -> Target {
    let mut target = target(address);
    target.sends = false;
    target.carriage = Carriage {
        carrier: Carrier::H2c,
        streams_per_connection: Streams::All,
        ..Carriage::default()
    };
    target
}

/// What a test of both ways to use a connection is about: requests, and tunnels.
trait Case: Copy {
    /// `message` is one message as the server writes it.
    async fn run<C: Connector>(self, connector: C, message: &'static [u8]);
}

fn both(case: impl Case + 'static) {
    run_alone(|| async move {
        case.run(SseConnector::default(), b"data: 1\n\n").await;
        case.run(WsConnector::default(), b"\x81\x011").await;
    });
}

async fn three<C: Connector>(connector: &C, target: &Target) -> Vec<Connected<C::Tx, C::Rx>> {
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(connector.connect(target).await.unwrap());
    }
    sessions
}

async fn end_of<T, R: Rx>(session: &mut Connected<T, R>) -> TransportError {
    let (_, end) = receive_to_end(&mut session.rx).await;
    end.unwrap_err()
}

fn to_each(message: &[u8], streams: &[u32]) -> Vec<u8> {
    streams
        .iter()
        .flat_map(|stream| frame(DATA, 0, *stream, message))
        .collect()
}

#[test]
fn a_connection_that_the_server_ends_takes_its_sessions_along_for_its_reason() {
    #[derive(Clone, Copy)]
    struct This(u32, ErrorClass);
    impl Case for This {
        async fn run<C: Connector>(self, connector: C, _: &'static [u8]) {
            let mut script = Script::new(&[], |_, stream| opened(stream));
            script.later = go_away(0, self.0);
            let target = script.serve().await;
            let mut sessions = three(&connector, &target).await;
            assert_eq!(script.connections.get(), 1);
            script.go.set(true);
            for session in &mut sessions {
                let end = end_of(session).await;
                assert_eq!((end.step, end.class), (Step::Receive, self.1), "{end}");
            }
            // Who comes back has to open another.
            connector.connect(&target).await.unwrap();
            assert_eq!(script.connections.get(), 2);
        }
    }
    both(This(NO_ERROR, ErrorClass::GoAway));
    both(This(INTERNAL_ERROR, ErrorClass::GoAway));
    both(This(ENHANCE_YOUR_CALM, ErrorClass::EnhanceYourCalm));
}

#[test]
fn a_server_that_goes_in_order_lets_those_it_serves_finish() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        async fn run<C: Connector>(self, connector: C, message: &'static [u8]) {
            let mut script = Script::new(&[], |_, stream| opened(stream));
            // It has the first two; the third it has not looked at.
            script.later = [go_away(3, NO_ERROR), to_each(message, &[1, 3])].concat();
            let target = script.serve().await;
            let mut sessions = three(&connector, &target).await;
            script.go.set(true);
            let end = end_of(&mut sessions[2]).await;
            assert_eq!(end.class, ErrorClass::GoAway, "{end}");
            for session in &mut sessions[..2] {
                assert_eq!(receive(&mut session.rx, 1).await, [Message::text("1".to_owned())]);
            }
        }
    }
    both(This);
}

#[test]
fn a_stream_that_is_reset_is_one_session() {
    #[derive(Clone, Copy)]
    struct This(u32, ErrorClass);
    impl Case for This {
        async fn run<C: Connector>(self, connector: C, message: &'static [u8]) {
            let mut script = Script::new(&[], |_, stream| opened(stream));
            script.later = [reset(3, self.0), to_each(message, &[1, 5])].concat();
            let target = script.serve().await;
            let mut sessions = three(&connector, &target).await;
            script.go.set(true);
            let end = end_of(&mut sessions[1]).await;
            assert_eq!((end.step, end.class), (Step::Receive, self.1), "{end}");
            for live in [0, 2] {
                let came = receive(&mut sessions[live].rx, 1).await;
                assert_eq!(came, [Message::text("1".to_owned())]);
            }
        }
    }
    both(This(INTERNAL_ERROR, ErrorClass::StreamReset));
    both(This(ENHANCE_YOUR_CALM, ErrorClass::EnhanceYourCalm));
}

#[test]
fn a_server_that_takes_fewer_streams_than_are_to_share_says_so_and_nobody_waits() {
    #[derive(Clone, Copy)]
    struct This;
    impl Case for This {
        async fn run<C: Connector>(self, connector: C, _: &'static [u8]) {
            let script = Script::new(&[(MAX_CONCURRENT_STREAMS, 2)], |_, stream| opened(stream));
            let target = script.serve().await;
            let first = connector.connect(&target).await.unwrap();
            let second = connector.connect(&target).await.unwrap();
            let error = connector.connect(&target).await.err().unwrap();
            assert_eq!(
                (error.step, error.class),
                (Step::Open, ErrorClass::StreamLimit),
                "{error}"
            );
            assert!(error.detail.contains("no more than 2 streams"), "{error}");
            // One that goes makes room.
            drop(second);
            let third = connector.connect(&target).await.unwrap();
            assert_eq!(script.connections.get(), 1);
            drop((first, third));
        }
    }
    both(This);
}

#[test]
fn a_server_that_never_grants_a_window_holds_up_what_is_sent_and_nothing_else() {
    run_alone(|| async {
        let mut script = Script::new(&[(INITIAL_WINDOW_SIZE, 0)], |_, stream| opened(stream));
        script.later = to_each(b"\x81\x011", &[1]);
        let target = script.serve().await;
        let mut session = WsConnector::default().connect(&target).await.unwrap();
        let sent = session.tx.send(Message::text("up".to_owned()));
        // As a full socket does: the message was not sent, and whoever counts says so.
        let waited = tokio::time::timeout(Duration::from_millis(100), sent).await;
        assert!(waited.is_err());
        script.go.set(true);
        assert_eq!(receive(&mut session.rx, 1).await.len(), 1);
    });
}

#[test]
fn settings_that_no_server_may_send_are_a_broken_protocol() {
    #[derive(Clone, Copy)]
    struct This(usize);
    impl Case for This {
        async fn run<C: Connector>(self, connector: C, _: &'static [u8]) {
            let mut script = Script::new(&[], |_, stream| opened(stream));
            script.begins = match self.0 {
                0 => settings(&[(INITIAL_WINDOW_SIZE, u32::MAX)]),
                1 => settings(&[(MAX_FRAME_SIZE, 5)]),
                2 => settings(&[(ENABLE_PUSH, 7)]),
                3 => settings(&[(ENABLE_CONNECT_PROTOCOL, 2)]),
                4 => frame(SETTINGS, 0, 0, b"short"),
                5 => frame(SETTINGS, 0, 1, b""),
                _ => frame(SETTINGS, 1, 0, &[0; 6]),
            };
            let target = script.serve().await;
            let error = connector.connect(&target).await.err().unwrap();
            assert_eq!(
                (error.step, error.class),
                (Step::Open, ErrorClass::Protocol),
                "{}: {error}",
                self.0
            );
        }
    }
    for which in 0..7 {
        both(This(which));
    }
}
