//! Server-sent events: what servers may send, what they may not, and what ours answers.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use pushmark_transport::ErrorClass::{self, EndedEarly, Protocol, TooLarge};
use pushmark_transport::carrier::{Kept, Stream};
use pushmark_transport::http::SESSION_HEADER;
use pushmark_transport::sse::SseConnector;
use pushmark_transport::tcp::Stamped;
use pushmark_transport::{Connector, Message, Step, Target};

use crate::fixture::{header_map, receive_to_end, run_alone, target};
use crate::host::{Config, TestHost};
use crate::script::{self, Then};

/// A target of a session that only receives, as foreign servers serve it.
async fn receiving(head: &str, body: &[u8], then: Then) -> Target {
    let script = [b"HTTP/1.1 200 OK\r\n", head.as_bytes(), b"\r\n", body].concat();
    let mut target = target(script::serve(vec![(script, then)]).await);
    target.sends = false;
    target.max_message_bytes = 100_000;
    target
}

/// How a session ended.
type End = Result<(), ErrorClass>;

const STREAM: &str = "Content-Type: text/event-stream\r\n";
const CHUNKED: &str = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";

#[test]
fn the_content_type_decides() {
    run_alone(|| async {
        for (head, is_stream) in [
            ("Content-Type: text/event-stream\r\n", true),
            ("content-type: TEXT/Event-Stream ; charset=utf-8\r\n", true),
            (
                "Content-Type: text/event-stream;x\r\nContent-Encoding: identity\r\n",
                true,
            ),
            ("", false),
            ("Content-Type: text/event-streams\r\n", false),
            ("Content-Type: text/plain\r\n", false),
            ("Content-Type: \r\n", false),
            ("Content-Type: \x1b[31m\r\n", false),
            (
                "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
                false,
            ),
        ] {
            let target = receiving(head, b"data: x\n\n", Then::Close).await;
            match SseConnector::default().connect(&target).await {
                Ok(_) => assert!(is_stream, "{head}"),
                Err(e) => assert_eq!(
                    (is_stream, e.step, e.class),
                    (false, Step::Open, Protocol),
                    "{head}: {e}"
                ),
            }
        }
    });
}

#[test]
fn events_of_foreign_servers_are_text() {
    run_alone(|| async {
        let body = "\u{FEFF}: hello\nretry: 1000000000000000000000000000000\n\nid: 1\nevent: price\ndata: {\"p\": 1}\n\n\
            id: \0\ndata: a\r\ndata: b\r\n\r\nid: 2\n\n: heartbeat\n\ndata\n\nevent: b64\ndata: AP8NCg==\n\nevent: b64t\ndata: DQ==\n\ndata: cut";
        for (head, body) in [
            (STREAM, body.as_bytes().to_vec()),
            (
                CHUNKED,
                format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes(),
            ),
            (
                CHUNKED,
                body.bytes()
                    .flat_map(|b| [b'1', b'\r', b'\n', b, b'\r', b'\n'])
                    .chain(*b"0\r\n\r\n")
                    .collect(),
            ),
        ] {
            let target = receiving(head, &body, Then::Close).await;
            let mut session = SseConnector::default().connect(&target).await.unwrap();
            let (messages, end) = receive_to_end(&mut session.rx).await;
            end.unwrap();
            let wanted = [
                Message::text("{\"p\": 1}"),
                Message::text("a\nb"),
                Message::text(""),
                Message::binary(&b"\0\xFF\r\n"[..]),
                Message::text("\r"),
            ];
            assert_eq!(messages, wanted);
        }
    });
}

#[test]
fn a_wrong_stream_has_a_class() {
    let large_id = [b"id: ", &b"x".repeat(60_000)[..], b"\n\n"].concat();
    let cases: &[(&str, &[u8], Then, End)] = &[
        (STREAM, b"event: b64\ndata: AAA!\n\n", Then::Stay, Err(Protocol)),
        (STREAM, b"event: b64\ndata: AAA\n\n", Then::Stay, Err(Protocol)),
        (
            STREAM,
            b"event: b64\ndata: AA\ndata: AA\n\n",
            Then::Stay,
            Err(Protocol),
        ),
        (STREAM, b"event: b64t\ndata: /w==\n\n", Then::Stay, Err(Protocol)),
        (STREAM, b"data: ", Then::Repeat(b"x".repeat(1_000)), Err(TooLarge)),
        (STREAM, b": ", Then::Repeat(b"x".repeat(1_000)), Err(TooLarge)),
        (STREAM, b"", Then::Repeat(b"data\n".repeat(200)), Err(TooLarge)),
        (
            STREAM,
            b"",
            Then::Repeat(b"data: without a blank line\n".repeat(40)),
            Err(TooLarge),
        ),
        (STREAM, &large_id, Then::Close, Ok(())),
        (STREAM, b"data: no blank line\n", Then::Close, Ok(())),
        (CHUNKED, b"5\r\ndata:\r\n", Then::Close, Err(EndedEarly)),
        (CHUNKED, b"5\r\nda", Then::Close, Err(EndedEarly)),
        (CHUNKED, b"", Then::Close, Err(EndedEarly)),
        (CHUNKED, b"0\r\n", Then::Close, Err(EndedEarly)),
        (CHUNKED, b"0\r\n\r\n", Then::Close, Ok(())),
        (CHUNKED, b"0\r\n\r\n", Then::Stay, Ok(())),
        (CHUNKED, b"zz\r\n", Then::Stay, Err(Protocol)),
        (CHUNKED, b"FFFFFFFFFFFFFFFFF\r\n", Then::Stay, Err(Protocol)),
        (CHUNKED, b"1;", Then::Repeat(b"x".repeat(1_000)), Err(Protocol)),
        (
            "Content-Type: text/event-stream\r\nContent-Length: 99\r\n",
            b"data:",
            Then::Close,
            Err(EndedEarly),
        ),
    ];
    run_alone(|| async {
        for (head, bytes, then, wanted) in cases {
            let shown = format!(
                "{head:?} {} {then:?}",
                bytes[..bytes.len().min(100)].escape_ascii()
            );
            // A message before it is told first.
            let first: &[u8] = if *head == CHUNKED {
                b"a\r\ndata: ok\n\n\r\n"
            } else {
                b"data: ok\n\n"
            };
            let target = receiving(head, &[first, bytes].concat(), then.clone()).await;
            let mut session = SseConnector::default().connect(&target).await.unwrap();
            let (messages, end) = receive_to_end(&mut session.rx).await;
            assert_eq!(messages, [Message::text("ok")], "{shown}");
            assert_eq!(end.map_err(|e| e.class), *wanted, "{shown}");
        }
    });
}

#[test]
fn a_session_that_sends_needs_a_name() {
    run_alone(|| async {
        for header in [
            "",
            "pushmark-session: \r\n",
            "pushmark-session: not hexadecimal\r\n",
        ] {
            let mut target = receiving(&format!("{STREAM}{header}"), b"", Then::Stay).await;
            target.sends = true;
            let error = SseConnector::default().connect(&target).await.err().unwrap();
            assert_eq!((error.step, error.class), (Step::Open, Protocol), "{error}");
        }
    });
}

#[test]
fn our_server_says_what_a_browser_needs() {
    run_alone(|| async {
        let host = TestHost::new(Config::default());
        let target = target(crate::host::serve(host.clone()).await);
        let stream = pushmark_transport::tcp::connect(&target).await.unwrap();
        let mut http = Kept::over(Stream::Plain(Stamped::new(stream, false)), &target);
        let head = http
            .ask(Step::Open, ("GET", "/sse", "", b""), header_map)
            .await
            .unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.taken[CONTENT_TYPE], "text/event-stream");
        assert_eq!(head.taken[CACHE_CONTROL], "no-store");
        assert_eq!(head.taken[SESSION_HEADER], format!("{:032x}", 1));
    });
}
