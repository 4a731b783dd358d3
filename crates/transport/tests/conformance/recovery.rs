//! Finding out and coming back: heartbeats in both directions, reasons of disconnects, and sessions that go on where others ended.

use std::net::SocketAddr;
use std::time::Duration;

use pushmark_measure::clock;
use pushmark_transport::seam::{Collected, TcpOptions};
use pushmark_transport::sse::SseConnector;
use pushmark_transport::{
    CloseReason, Connector, ErrorClass, Heartbeat, Inbox, Kind, Message, Received, Rx, Step, Tx,
};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::fixture::{
    Fixture, for_every_transport, numbered, numbers, receive, receive_to_end, run_alone, settle, until,
};
use crate::host::{Config, TestHost, serve};
use crate::relay::{Plan, Relay};
use crate::script::{self, Then};

fn remembering() -> Config {
    Config {
        history: true,
        absence_deadline: Duration::from_millis(150),
        ..Config::default()
    }
}

/// The next `count` messages of a session that goes on at `resume`.
async fn resumed<C: Connector>(
    connector: &C,
    fixture: &Fixture,
    resume: Option<String>,
    count: usize,
) -> Vec<usize> {
    let mut target = fixture.target.clone();
    target.resume = resume;
    let mut session = connector.connect(&target).await.unwrap();
    let messages = receive(&mut session.rx, count).await;
    session.tx.close().await.unwrap();
    numbers(&messages)
}

for_every_transport!(
    a_session_goes_on_where_another_ended,
    remembering(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        let mut first = fixture.connect(&connector).await;
        for number in 0..5 {
            fixture.publish(&numbered(number));
        }
        assert_eq!(numbers(&receive(&mut first.rx, 5).await), [0, 1, 2, 3, 4]);
        let token = first.rx.resume_token(Some(4)).unwrap();
        drop(first);
        for number in 5..300 {
            fixture.publish(&numbered(number));
        }
        // What was missed comes first, then what is new.
        let mut target = fixture.target.clone();
        target.resume = Some(token);
        let mut second = connector.connect(&target).await.unwrap();
        for number in 300..310 {
            fixture.publish(&numbered(number));
        }
        let messages = receive(&mut second.rx, 305).await;
        assert!(numbers(&messages).into_iter().eq(5..310));
        // A session that has got nothing yet knows no better than the one before it.
        let again = second.rx.resume_token(Some(309));
        let nothing = resumed(&connector, &fixture, again.clone(), 0).await;
        assert!(nothing.is_empty());
        fixture.publish(&numbered(310));
        assert_eq!(resumed(&connector, &fixture, again, 1).await, [310]);
    }
);

for_every_transport!(
    a_new_session_gets_nothing_old,
    remembering(),
    |connector, fixture| {
        fixture.publish(&numbered(0));
        let mut session = fixture.connect(&connector).await;
        fixture.publish(&numbered(1));
        assert_eq!(numbers(&receive(&mut session.rx, 1).await), [1]);
    }
);

for_every_transport!(
    a_session_that_got_nothing_resumes_where_it_was_to,
    remembering(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        let mut first = fixture.connect(&connector).await;
        for number in 0..3 {
            fixture.publish(&numbered(number));
        }
        receive(&mut first.rx, 3).await;
        let mut target = fixture.target.clone();
        target.resume = first.rx.resume_token(Some(2));
        let second = connector.connect(&target).await.unwrap();
        assert_eq!(second.rx.resume_token(Some(2)), target.resume);
    }
);

for_every_transport!(
    a_resume_point_that_is_none,
    remembering(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        for wrong in ["x", "-1", "99999999999999999999"] {
            let mut target = fixture.target.clone();
            target.resume = Some(wrong.to_owned());
            let error = connector.connect(&target).await.err().unwrap();
            assert_eq!(
                (error.step, error.class),
                (Step::Open, ErrorClass::Status(400)),
                "{wrong}"
            );
        }
        for unsendable in ["1\r\nx: y", "a\0b"] {
            let mut target = fixture.target.clone();
            target.resume = Some(unsendable.to_owned());
            let error = connector.connect(&target).await.err().unwrap();
            assert_eq!((error.step, error.class), (Step::Open, ErrorClass::Protocol));
        }
    }
);

/// An event stream's answer with that body.
async fn stream_of(body: &[u8]) -> pushmark_transport::Target {
    let script = [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"[..],
        body,
    ]
    .concat();
    let mut target = crate::fixture::target(script::serve(vec![(script, Then::Close)]).await);
    target.sends = false;
    target
}

#[test]
fn the_last_event_id_is_what_a_stream_says_it_is() {
    run_alone(|| async {
        for (body, resume, seen, token) in [
            (&b"id: 7\ndata: a\n\n"[..], None, Some(0), Some("7")),
            (b"id: a b\ndata: a\n\ndata: b\n\n", None, Some(1), Some("a b")),
            // Never dispatched, so never said.
            (b"id: 7\ndata: a\n\nid: 8\ndata: b", None, Some(1), Some("7")),
            // Taken back.
            (b"id: 7\ndata: a\n\nid\n\n", Some("6"), Some(1), None),
            // No ids: the messages' own numbers; or what the stream before said.
            (b"data: a\n\n", None, Some(12), Some("12")),
            (b"", None, None, None),
            (b": nothing\n\n", Some("6"), None, Some("6")),
        ] {
            let mut target = stream_of(body).await;
            target.resume = resume.map(str::to_owned);
            let mut session = SseConnector::default().connect(&target).await.unwrap();
            while session.rx.recv(&mut Collected::default()).await.unwrap() > 0 {}
            assert_eq!(session.rx.resume_token(seen).as_deref(), token, "{body:?}");
        }
    });
}

#[test]
fn a_stream_says_when_to_come_back() {
    run_alone(|| async {
        let mut session = SseConnector::default()
            .connect(&stream_of(b"retry: 250\n\ndata: x\n\nretry: x\n\n").await)
            .await
            .unwrap();
        assert_eq!(session.rx.retry(), None);
        while session.rx.recv(&mut Collected::default()).await.unwrap() > 0 {}
        assert_eq!(session.rx.retry(), Some(Duration::from_millis(250)));
        // An answer that is no stream: a browser would not come back.
        let none = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
        let target = crate::fixture::target(script::serve(vec![(none, Then::Stay)]).await);
        let error = SseConnector::default().connect(&target).await.err().unwrap();
        assert_eq!((error.step, error.class), (Step::Open, ErrorClass::Status(204)));
        for take_over in [true, false] {
            let retry = Some(Duration::from_millis(1_234));
            let config = Config {
                take_over,
                retry,
                ..Config::default()
            };
            let host = TestHost::new(config);
            let target = crate::fixture::target(serve(host.clone()).await);
            let mut session = SseConnector::default().connect(&target).await.unwrap();
            host.publish(&numbered(0));
            receive(&mut session.rx, 1).await;
            assert_eq!(session.rx.retry(), retry);
        }
    });
}

fn beating(every: u64, timeout: u64) -> Config {
    Config {
        heartbeat: Some(Heartbeat {
            every: Duration::from_millis(every),
            timeout: Duration::from_millis(timeout),
        }),
        poll_deadline: Duration::from_millis(every),
        absence_deadline: Duration::from_millis(timeout),
        ..Config::default()
    }
}

for_every_transport!(
    a_client_that_reads_hears_of_its_server_and_is_kept,
    beating(20, 30_000),
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        let connected = session.rx.last_heard();
        assert!(connected > clock::Nanos::default());
        let mut inbox = Collected::default();
        for _ in 0..3 {
            let before = session.rx.last_heard();
            while session.rx.last_heard() == before {
                tokio::select! {
                    received = session.rx.recv(&mut inbox) => panic!("{received:?}, where there is no message"),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        }
        assert!(host.closed().is_empty());
        // A heartbeat is no message, and cuts into none.
        fixture.publish(&numbered(0));
        assert_eq!(numbers(&receive(&mut session.rx, 1).await), [0]);
    }
);

for_every_transport!(
    nothing_follows_the_end_of_a_session,
    beating(1, 30_000),
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        fixture.publish(&numbered(0));
        fixture.close_all();
        // Nobody reads it yet, and there is time for many heartbeats.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let (messages, end) = receive_to_end(&mut session.rx).await;
        assert_eq!(numbers(&messages), [0]);
        end.unwrap();
        until(|| !host.closed().is_empty()).await;
        assert_eq!(host.closed(), [CloseReason::Server]);
    }
);

for_every_transport!(
    a_server_answers_a_probe,
    Config::default(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        let before = session.rx.last_heard();
        for _ in 0..100 {
            session.rx.probe().await.unwrap();
        }
        let mut inbox = Collected::default();
        if fixture.row.native == pushmark_transport::seam::Native::Nothing {
            while session.rx.last_heard() == before {
                tokio::select! {
                    received = session.rx.recv(&mut inbox) => panic!("{received:?}"),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        }
        session.tx.send(numbered(0)).await.unwrap();
        fixture.publish(&numbered(1));
        assert_eq!(numbers(&receive(&mut session.rx, 1).await), [1]);
    }
);

/// Opens a session by hand and never says or reads anything again.
async fn silent(server: SocketAddr, opening: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(opening.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

fn opening_of(path: &str) -> String {
    format!(
        "GET /{path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[test]
fn a_client_that_says_nothing_is_given_up() {
    run_alone(|| async {
        for take_over in [true, false] {
            for path in ["ws", "long-poll"] {
                let config = Config {
                    take_over,
                    ..beating(30, 30)
                };
                let host = TestHost::new(config);
                let stream = silent(serve(host.clone()).await, &opening_of(path)).await;
                until(|| !host.closed().is_empty()).await;
                assert_eq!(host.closed(), [CloseReason::Heartbeat], "{path}");
                drop(stream);
            }
        }
    });
}

for_every_transport!(
    a_reset_is_told_from_an_end,
    beating(60_000, 150),
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        for reset in [false, true] {
            let before = host.closed().len();
            let relay = Relay::start(fixture.target.address, Plan::default()).await;
            let mut target = fixture.target.clone();
            target.address = relay.address;
            target.sends = false;
            let mut session = connector.connect(&target).await.unwrap();
            fixture.publish(&numbered(0));
            receive(&mut session.rx, 1).await;
            // The next poll is on its way, where there are polls.
            settle().await;
            settle().await;
            if reset {
                relay.reset();
            } else {
                relay.cut();
            }
            until(|| host.closed().len() > before).await;
            let expected = match reset {
                true => CloseReason::Reset,
                false => CloseReason::EndedEarly,
            };
            assert_eq!(host.closed()[before..], [expected], "{}", fixture.row.name);
            // Where a session outlives its connection, the host hears at once.
            let outlives = fixture.row.orderly_close && fixture.row.connections_when_sending > 1;
            let cut = host.records(|r| r.cut.clone()).concat();
            assert_eq!(cut.len(), if outlives { before + 1 } else { 0 });
            assert!(cut.last().is_none_or(|last| *last == expected));
        }
    }
);

#[test]
fn the_kernel_is_told_what_to_do() {
    run_alone(|| async {
        let host = TestHost::new(Config::default());
        let mut target = crate::fixture::target(serve(host).await);
        target.tcp = TcpOptions {
            keepalive: Some((Duration::from_millis(1_500), Duration::from_secs(5), 3)),
            user_timeout: Some(Duration::from_micros(2_500_100)),
        };
        let stream = pushmark_transport::tcp::connect(&target).await.unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(2));
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), Duration::from_secs(5));
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 3);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 2_501);
    });
}

#[test]
fn a_peer_that_the_kernel_gives_up_has_timed_out() {
    run_alone(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = crate::fixture::target(listener.local_addr().unwrap());
        target.tcp.user_timeout = Some(Duration::from_millis(200));
        let connector = pushmark_transport::ws::WsConnector::default();
        let shake_hands = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
            });
            let accept = derive_accept_key(key.unwrap().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Open, and never read from again.
            stream
        };
        let (session, _deaf) = tokio::join!(connector.connect(&target), shake_hands);
        let mut session = session.unwrap();
        let message = Message::binary(vec![0; 1 << 20]);
        let error = loop {
            if let Err(e) = session.tx.send(message.clone()).await {
                break e;
            }
        };
        assert_eq!((error.step, error.class), (Step::Send, ErrorClass::TimedOut));
        // The socket has told its error to the sender, and is no more than at its end for the receiver.
        let error = session.rx.recv(&mut Collected::default()).await.unwrap_err();
        assert_eq!((error.step, error.class), (Step::Receive, ErrorClass::TimedOut));
    });
}

/// Counts what comes, and holds none of it.
struct Count(usize);

impl Inbox for Count {
    fn deliver(&mut self, _: Received, _: Kind, _: &[u8]) {
        self.0 += 1;
    }
}

#[test]
fn a_peer_that_pings_and_never_reads_fills_nothing() {
    run_alone(|| async {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: {accept}\r\n\r\n";
        // Pings as large as they may be, and a message every now and then to count them by.
        let mut flood = [&b"\x89\x7D"[..], &[b'p'; 125]].concat().repeat(500);
        flood.extend_from_slice(b"\x81\x01x");
        let script = vec![(head.as_bytes().to_vec(), Then::Repeat(flood))];
        let mut target = crate::fixture::target(script::serve(script).await);
        target.max_message_bytes = 1_000;
        let connector = pushmark_transport::ws::WsConnector::default();
        let mut session = connector.connect(&target).await.unwrap();
        let mut count = Count(0);
        // Far more answers than sockets and buffers hold: 64 MB of them.
        let ended = loop {
            match session.rx.recv(&mut count).await {
                Ok(_) if count.0 < 1_000 => {}
                other => break other,
            }
        };
        // The session goes on, or ends as one whose answers found no room.
        if let Err(e) = ended {
            assert_eq!(e.class, ErrorClass::Flooded, "{e}");
        }
        drop(session.tx.send(Message::text("x")));
    });
}

#[test]
fn a_close_frame_with_the_connection_left_open_is_no_clean_end() {
    run_alone(|| async {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: {accept}\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        // A message, and a close frame without a reason.
        bytes.extend_from_slice(b"\x81\x01x\x88\x00");
        let target = crate::fixture::target(script::serve(vec![(bytes, Then::Stay)]).await);
        let mut session = pushmark_transport::ws::WsConnector::default()
            .connect(&target)
            .await
            .unwrap();
        let mut count = Count(0);
        assert_eq!(session.rx.recv(&mut count).await.unwrap(), 1);
        let ended = session.rx.recv(&mut count).await.unwrap_err();
        assert_eq!(
            (ended.step, ended.class),
            (Step::Close, ErrorClass::LeftOpen),
            "{ended}"
        );
    });
}
