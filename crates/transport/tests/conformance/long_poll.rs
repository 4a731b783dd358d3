//! Long polling: cursors, readers that compete, clients that stay away and come back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL};
use hyper::{HeaderMap, Method};
use pushmark_transport::ErrorClass::{self, EndedEarly, Protocol, Status, TooLarge};
use pushmark_transport::carrier::{Kept, Stream};
use pushmark_transport::http::SESSION_HEADER;
use pushmark_transport::long_poll::{CURSOR_HEADER, LongPollConnector, MOST_ANSWER_BYTES, record};
use pushmark_transport::tcp::Stamped;
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{CloseReason, Connector, Kind, Message, Step, Target, Tx};

use crate::fixture::{
    header_map, numbered, numbers, receive, receive_to_end, run_alone, settle, target, until,
};
use crate::host::{Config, TestHost};
use crate::script::{self, Then};

/// A client that asks what it is told to.
struct Raw(Kept);

/// How a session ended.
type End = Result<(), ErrorClass>;
/// Status, headers and body.
type Answer = (u16, HeaderMap, Bytes);

impl Raw {
    async fn connect(target: &Target) -> Self {
        let stream = pushmark_transport::tcp::connect(target).await.unwrap();
        Self(Kept::over(Stream::Plain(Stamped::new(stream, false)), target))
    }

    async fn ask(&mut self, method: Method, uri: &str) -> Answer {
        let request = (method.as_str(), uri, "", &b""[..]);
        let exchange = self.0.exchange(Step::Receive, request, 1 << 24, header_map);
        let (head, body) = exchange.await.unwrap();
        (head.status, head.taken, body.into())
    }

    async fn poll(&mut self, cursor: u64) -> (u16, Option<u64>, Vec<Message>) {
        let (status, headers, body) = self.ask(Method::GET, &uri(cursor)).await;
        let next = headers
            .get(CURSOR_HEADER)
            .map(|c| c.to_str().unwrap().parse().unwrap());
        let messages = if status == 200 {
            messages(&body)
        } else {
            Vec::new()
        };
        (status, next, messages)
    }
}

/// The first session of every test host is 1.
fn uri(cursor: u64) -> String {
    format!("/long-poll?session=1&cursor={cursor}")
}

fn messages(mut body: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(record) = record::take(&mut body, usize::MAX) {
        let (kind, payload) = record.unwrap();
        messages.push(Message {
            kind,
            payload: Bytes::copy_from_slice(payload),
        });
    }
    messages
}

/// A host with one session, and a connection to it.
async fn open(config: Config) -> (Arc<TestHost>, Target, Raw) {
    let host = TestHost::new(config);
    let target = target(crate::host::serve(host.clone()).await);
    let mut raw = Raw::connect(&target).await;
    let (status, headers, body) = raw.ask(Method::GET, "/long-poll").await;
    assert_eq!((status, &body[..]), (200, &b""[..]));
    assert_eq!(headers[SESSION_HEADER], format!("{:032x}", 1));
    assert_eq!(headers[CURSOR_HEADER], "0");
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    (host, target, raw)
}

#[test]
fn a_cursor_confirms_and_nothing_else_does() {
    run_alone(|| async {
        let (host, _, mut raw) = open(Config::default()).await;
        let written = || host.records(|r| r.written)[0];
        for number in 0..3 {
            host.publish(&numbered(number));
        }
        assert_eq!(written(), 0);
        let all: Vec<_> = (0..3).map(numbered).collect();
        assert_eq!(raw.poll(0).await, (200, Some(3), all.clone()));
        assert_eq!(written(), 3);
        // The answer was lost: the same again, and not written again.
        assert_eq!(raw.poll(0).await, (200, Some(3), all.clone()));
        assert_eq!(raw.poll(1).await, (200, Some(3), all[1..].to_vec()));
        assert_eq!(written(), 3);
        host.publish(&numbered(3));
        // Part of it again, and one that is new.
        assert_eq!(raw.poll(2).await, (200, Some(4), vec![numbered(2), numbered(3)]));
        assert_eq!(written(), 4);
        // What was confirmed does not come back, and what was never given cannot be confirmed.
        assert_eq!(raw.poll(0).await, (200, Some(4), vec![numbered(2), numbered(3)]));
        host.publish(&numbered(4));
        assert_eq!(raw.poll(u64::MAX).await, (200, Some(5), vec![numbered(4)]));
        assert_eq!(written(), 5);
        host.check_books();
    });
}

#[test]
fn an_answer_has_a_size_and_at_least_one_message() {
    run_alone(|| async {
        const COUNT: usize = 40;
        let config = Config {
            max_message_bytes: 4 << 20,
            ..Config::default()
        };
        let (host, _, mut raw) = open(config).await;
        for number in 0..COUNT {
            host.publish(&Message::text(format!("{number} {}", "x".repeat(100_000))));
        }
        host.publish(&Message::text(format!("{COUNT} {}", "x".repeat(2 << 20))));
        let (mut got, mut cursor, mut answers) = (Vec::new(), 0, 0);
        while got.len() <= COUNT {
            let (_, next, messages) = raw.poll(cursor).await;
            let bytes: usize = messages
                .iter()
                .map(|m| m.payload.len() + record::HEADER_BYTES)
                .sum();
            assert!(bytes <= MOST_ANSWER_BYTES || messages.len() == 1);
            got.extend(numbers(&messages));
            cursor = next.unwrap();
            answers += 1;
        }
        assert!(got.into_iter().eq(0..=COUNT));
        assert_eq!(answers, 5, "four full ones and the large message");
    });
}

#[test]
fn nothing_to_say_is_said_at_the_deadline() {
    run_alone(|| async {
        let config = Config {
            poll_deadline: Duration::from_millis(300),
            // A client that waits is there, however short this is.
            absence_deadline: Duration::from_millis(150),
            ..Config::default()
        };
        let (host, _, mut raw) = open(config).await;
        assert_eq!(raw.poll(0).await, (204, Some(0), vec![]));
        host.publish(&numbered(0));
        assert_eq!(raw.poll(0).await, (200, Some(1), vec![numbered(0)]));
        assert_eq!(raw.poll(1).await, (204, Some(1), vec![]));
        assert!(host.closed().is_empty());
    });
}

#[test]
fn a_client_that_is_told_nothing_asks_again() {
    run_alone(|| async {
        let config = Config {
            poll_deadline: Duration::from_millis(5),
            ..Config::default()
        };
        let host = TestHost::new(config);
        let target = target(crate::host::serve(host.clone()).await);
        let mut session = LongPollConnector::default().connect(&target).await.unwrap();
        let publish = async {
            for number in 0..20 {
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                host.publish(&numbered(number));
            }
        };
        let ((), got) = tokio::join!(publish, receive(&mut session.rx, 20));
        assert!(numbers(&got).into_iter().eq(0..20));
    });
}

#[test]
fn the_newer_poll_wins() {
    run_alone(|| async {
        let (host, target, mut older) = open(Config::default()).await;
        let mut newer = Raw::connect(&target).await;
        let second = tokio::task::spawn_local(async move {
            settle().await;
            newer.poll(0).await
        });
        // Nothing was published yet: it is the newer that ends this one.
        assert_eq!(older.poll(0).await, (409, None, vec![]));
        host.publish(&numbered(0));
        assert_eq!(second.await.unwrap(), (200, Some(1), vec![numbered(0)]));
        // The older may become the newer.
        host.publish(&numbered(1));
        assert_eq!(older.poll(1).await, (200, Some(2), vec![numbered(1)]));
    });
}

#[test]
fn requests_for_what_is_not_there() {
    run_alone(|| async {
        let (host, target, mut raw) = open(Config::default()).await;
        let other = WsConnector::default().connect(&target).await.unwrap();
        let other_id = host.records(|r| r.session.id)[1];
        for (method, uri, wanted) in [
            (Method::GET, "/long-poll?session=999&cursor=0".to_owned(), 404),
            (Method::GET, "/long-poll?session=x&cursor=0".to_owned(), 404),
            (Method::GET, "/long-poll?cursor=0".to_owned(), 404),
            (Method::GET, "/long-poll?".to_owned(), 404),
            // A session of another transport has another reader.
            (
                Method::GET,
                format!("/long-poll?session={other_id}&cursor=0"),
                404,
            ),
            (Method::DELETE, format!("/long-poll?session={other_id}"), 404),
            (Method::GET, "/long-poll?session=1".to_owned(), 400),
            (Method::GET, "/long-poll?session=1&cursor=-1".to_owned(), 400),
            (
                Method::GET,
                "/long-poll?session=1&cursor=99999999999999999999".to_owned(),
                400,
            ),
            (Method::DELETE, "/long-poll?session=999".to_owned(), 404),
            (Method::POST, "/long-poll?session=999".to_owned(), 404),
            (Method::PUT, "/long-poll?session=1".to_owned(), 405),
        ] {
            let (status, headers, _) = raw.ask(method, &uri).await;
            assert_eq!(status, wanted, "{uri}");
            assert_eq!(headers.contains_key(ALLOW), status == 405);
        }
        assert!(host.closed().is_empty());
        drop(other);
    });
}

#[test]
fn the_server_ends_a_session_when_all_is_given() {
    run_alone(|| async {
        let (host, _, mut raw) = open(Config::default()).await;
        host.publish(&numbered(0));
        host.close_all();
        assert_eq!(raw.poll(0).await, (200, Some(1), vec![numbered(0)]));
        assert_eq!(
            raw.poll(0).await,
            (200, Some(1), vec![numbered(0)]),
            "not confirmed yet"
        );
        assert!(host.closed().is_empty());
        assert_eq!(raw.poll(1).await.0, 410);
        assert_eq!(host.closed(), [CloseReason::Server]);
        assert_eq!(raw.poll(1).await.0, 404);
    });
}

#[test]
fn delete_ends_a_session_and_its_poll() {
    run_alone(|| async {
        let (host, target, mut raw) = open(Config::default()).await;
        let mut other = Raw::connect(&target).await;
        let delete = async {
            settle().await;
            other.ask(Method::DELETE, "/long-poll?session=1").await.0
        };
        let (poll, delete) = tokio::join!(raw.poll(0), delete);
        assert_eq!((poll.0, delete), (410, 204));
        assert_eq!(host.closed(), [CloseReason::Client]);
        assert_eq!(other.ask(Method::DELETE, "/long-poll?session=1").await.0, 404);
        assert_eq!(raw.poll(0).await.0, 404);
    });
}

/// Away means: no poll for 150 ms.
fn impatient() -> Config {
    Config {
        absence_deadline: Duration::from_millis(150),
        ..Config::default()
    }
}

#[test]
fn a_client_that_never_polls_is_idle() {
    run_alone(|| async {
        let (host, _, _raw) = open(impatient()).await;
        host.publish(&numbered(0));
        until(|| !host.closed().is_empty()).await;
        assert_eq!(host.closed(), [CloseReason::Idle]);
        host.check_books();
    });
}

#[test]
fn a_client_that_stops_polling_is_idle() {
    run_alone(|| async {
        let (host, _, mut raw) = open(impatient()).await;
        host.publish(&numbered(0));
        raw.poll(0).await;
        until(|| !host.closed().is_empty()).await;
        assert_eq!(host.closed(), [CloseReason::Idle]);
        assert_eq!(raw.poll(1).await.0, 404);
    });
}

#[test]
fn a_client_that_is_cut_off_ended_early() {
    run_alone(|| async {
        let (host, _, mut raw) = open(impatient()).await;
        tokio::select! {
            _ = raw.poll(0) => panic!("there is nothing to say"),
            () = settle() => drop(raw),
        }
        until(|| !host.closed().is_empty()).await;
        assert_eq!(host.closed(), [CloseReason::EndedEarly]);
    });
}

#[test]
fn a_client_that_is_cut_off_comes_back() {
    run_alone(|| async {
        let (host, target, mut raw) = open(Config::default()).await;
        for number in 0..10 {
            tokio::select! {
                _ = raw.poll(number) => panic!("there is nothing to say"),
                () = settle() => {}
            }
            // Dropped while its poll waits; what is published meanwhile is not lost.
            raw = Raw::connect(&target).await;
            host.publish(&numbered(number as usize));
            assert_eq!(
                raw.poll(number).await,
                (200, Some(number + 1), vec![numbered(number as usize)])
            );
        }
        assert!(host.closed().is_empty());
    });
}

#[test]
fn the_server_ends_a_session_whose_client_is_away() {
    run_alone(|| async {
        let (host, _, _raw) = open(impatient()).await;
        host.close_all();
        until(|| !host.closed().is_empty()).await;
        assert_eq!(host.closed(), [CloseReason::Server]);
    });
}

const OPENED: &[u8] =
    b"HTTP/1.1 200 OK\r\npushmark-session: 1\r\npushmark-cursor: 0\r\nContent-Length: 0\r\n\r\n";

/// An answer to a poll.
fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_wrong_opening_has_a_class() {
    run_alone(|| async {
        for headers in [
            "",
            "pushmark-session: 1\r\n",
            "pushmark-cursor: 0\r\n",
            "pushmark-session: x\r\npushmark-cursor: 0\r\n",
            "pushmark-session: 1\r\npushmark-cursor: -1\r\n",
            "pushmark-session: 1\r\npushmark-cursor: é\r\n",
        ] {
            let address = script::serve(vec![(answer("200 OK", headers, b""), Then::Stay)]).await;
            let error = LongPollConnector::default()
                .connect(&target(address))
                .await
                .err()
                .unwrap();
            assert_eq!(
                (error.step, error.class),
                (Step::Open, Protocol),
                "{headers}: {error}"
            );
        }
    });
}

#[test]
fn a_wrong_answer_has_a_class() {
    const NEXT: &str = "pushmark-cursor: 2\r\n";
    let of = |status, headers, body: &[u8]| (answer(status, headers, body), Then::Stay);
    let cases: Vec<((Vec<u8>, Then), End)> = vec![
        (of("410 Gone", "", b""), Ok(())),
        (of("404 Not Found", "", b""), Err(Status(404))),
        (of("409 Conflict", "", b""), Err(Status(409))),
        (of("500 Internal Server Error", "", b"sorry"), Err(Status(500))),
        (of("200 OK", "", b""), Err(Protocol)),
        (of("200 OK", "pushmark-cursor: x\r\n", b""), Err(Protocol)),
        (
            (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Then::Stay),
            Err(Protocol),
        ),
        (of("200 OK", NEXT, b"x\0\0\0\0"), Err(Protocol)),
        (of("200 OK", NEXT, b"t\0\0"), Err(Protocol)),
        (of("200 OK", NEXT, b"t\0\0\0\x05abc"), Err(Protocol)),
        (of("200 OK", NEXT, b"t\0\0\0\x01\xFF"), Err(Protocol)),
        (of("200 OK", NEXT, b"b\xFF\xFF\xFF\xFF"), Err(TooLarge)),
        (
            (
                b"HTTP/1.1 200 OK\r\npushmark-cursor: 2\r\nContent-Length: 9\r\n\r\nb".to_vec(),
                Then::Close,
            ),
            Err(EndedEarly),
        ),
        (
            (
                b"HTTP/1.1 200 OK\r\npushmark-cursor: 2\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"
                    .to_vec(),
                Then::Repeat(vec![b'x'; 100_000]),
            ),
            Err(TooLarge),
        ),
        (
            (
                b"HTTP/1.1 200 OK\r\npushmark-cursor: 2\r\nContent-Length: 999999999999\r\n\r\n".to_vec(),
                Then::Repeat(vec![b'x'; 100_000]),
            ),
            Err(TooLarge),
        ),
        (
            (
                b"HTTP/1.1 200 OK\r\nConnection: close\r\npushmark-cursor: 2\r\n\r\n".to_vec(),
                Then::Close,
            ),
            Err(EndedEarly),
        ),
        ((b"".to_vec(), Then::Close), Err(EndedEarly)),
        ((b"garbage\r\n\r\n".to_vec(), Then::Stay), Err(Protocol)),
    ];
    run_alone(|| async {
        for (wrong, wanted) in cases {
            let shown = format!("{} {:?}", wrong.0.escape_ascii(), matches!(wrong.1, Then::Close));
            let good = answer("200 OK", "pushmark-cursor: 1\r\n", b"t\0\0\0\x02ok");
            let scripts = vec![(OPENED.to_vec(), Then::Stay), (good, Then::Stay), wrong];
            let mut target = target(script::serve(scripts).await);
            target.sends = false;
            target.max_message_bytes = 1_000;
            let mut session = LongPollConnector::default().connect(&target).await.unwrap();
            let (messages, end) = receive_to_end(&mut session.rx).await;
            assert_eq!(messages, [Message::text("ok")], "{shown}");
            assert_eq!(end.map_err(|e| e.class), wanted, "{shown}");
        }
    });
}

#[test]
fn bodies_in_pieces_are_put_together() {
    run_alone(|| async {
        let chunked: Vec<u8> = b"t\0\0\0\x02okb\0\0\0\0"
            .iter()
            .flat_map(|b| [b'1', b'\r', b'\n', *b, b'\r', b'\n'])
            .chain(*b"0\r\n\r\n")
            .collect();
        let head = b"HTTP/1.1 200 OK\r\npushmark-cursor: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        let scripts = vec![
            (OPENED.to_vec(), Then::Stay),
            ([&head[..], &chunked].concat(), Then::Stay),
            (answer("410 Gone", "", b"the session has ended\n"), Then::Stay),
        ];
        let mut target = target(script::serve(scripts).await);
        target.sends = false;
        let mut session = LongPollConnector::default().connect(&target).await.unwrap();
        let (messages, end) = receive_to_end(&mut session.rx).await;
        let empty = Message {
            kind: Kind::Binary,
            payload: Bytes::new(),
        };
        assert_eq!(messages, [Message::text("ok"), empty]);
        end.unwrap();
    });
}

#[test]
fn a_server_that_does_not_answer_a_close_is_not_waited_for() {
    run_alone(|| async {
        let scripts = vec![(OPENED.to_vec(), Then::Stay), (Vec::new(), Then::Stay)];
        let mut target = target(script::serve(scripts).await);
        target.open_deadline = Duration::from_millis(50);
        let mut session = LongPollConnector::default().connect(&target).await.unwrap();
        let error = session.tx.close().await.unwrap_err();
        assert_eq!((error.step, error.class), (Step::Close, ErrorClass::TimedOut));
    });
}
