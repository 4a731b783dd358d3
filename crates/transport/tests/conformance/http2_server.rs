//! HTTP/2 servers that are none of ours: how they end a stream or a connection has a class, and what they break harms nobody.

use pushmark_transport::ErrorClass::{
    self, EndedEarly, EnhanceYourCalm, GoAway, Protocol, Status, StreamReset, TooLarge,
};
use pushmark_transport::carrier::Carrier;
use pushmark_transport::sse::SseConnector;
use pushmark_transport::{Connector, Message, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{receive_to_end, run_alone, target};
use crate::host::carriage;

/// Types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flags.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// Codes of errors (section 7).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
const CALM: u32 = 11;

/// Bytes, and those that follow them over and over.
type Script = (Vec<u8>, Option<Vec<u8>>);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
}

/// A header as a literal that is not indexed (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| vec![u8::try_from(text.len()).unwrap()];
    [
        &[0][..],
        &length(name),
        name.as_bytes(),
        &length(value),
        value.as_bytes(),
    ]
    .concat()
}

fn answer(status: &str) -> Vec<u8> {
    [
        field(":status", status),
        field("content-type", "text/event-stream"),
    ]
    .concat()
}

fn event(text: &str) -> Vec<u8> {
    frame(DATA, 0, 1, format!("data: {text}\n\n").as_bytes())
}

fn reset(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &code.to_be_bytes())
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// Answers the first request of a connection by a script, then leaves the connection open or closes it.
async fn serve((bytes, again): Script, close: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = async |stream: &mut TcpStream| -> std::io::Result<()> {
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            stream.read_exact(&mut [0; 24]).await?;
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                stream.read_exact(&mut vec![0; length as usize]).await?;
                if head[3] == HEADERS {
                    return Ok(());
                }
            }
        };
        // An error is a client that has gone, as it may.
        let answered = async {
            asked(&mut stream).await?;
            stream.write_all(&bytes).await?;
            while let Some(again) = &again {
                stream.write_all(again).await?;
            }
            if close {
                stream.shutdown().await?;
            }
            while stream.read(&mut [0; 1024]).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = answered.await;
    });
    address
}

#[test]
fn what_ends_a_stream_is_told_apart() {
    let begin = || [frame(HEADERS, END_HEADERS, 1, &answer("200")), event("ok")].concat();
    let then = |bytes: &[u8]| [&begin()[..], bytes].concat();
    let end = frame(DATA, END_STREAM, 1, b"");
    let padded = [&[5][..], b"data: padded\n\n", &[0; 5]].concat();
    let early = frame(HEADERS, END_HEADERS, 1, &field(":status", "103"));
    type Wanted = Result<(), &'static [ErrorClass]>;
    let cases: Vec<(&str, Script, bool, Vec<&str>, Wanted)> = vec![
        ("end of stream", (then(&end), None), false, vec!["ok"], Ok(())),
        (
            "trailers",
            (
                then(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x", "y"))),
                None,
            ),
            false,
            vec!["ok"],
            Ok(()),
        ),
        (
            "an early hint, padding, pings and settings in between",
            (
                [
                    early,
                    begin(),
                    frame(PING, 0, 0, &[1; 8]),
                    frame(DATA, PADDED, 1, &padded),
                    frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 5]),
                    frame(0xFA, 0xFF, 1, b"of a type that nobody knows"),
                    end.clone(),
                ]
                .concat(),
                None,
            ),
            false,
            vec!["ok", "padded"],
            Ok(()),
        ),
        (
            "reset",
            (then(&reset(CANCEL)), None),
            false,
            vec!["ok"],
            Err(&[StreamReset]),
        ),
        (
            "reset without an error",
            (then(&reset(NO_ERROR)), None),
            false,
            vec!["ok"],
            Err(&[StreamReset]),
        ),
        (
            "reset for calm",
            (then(&reset(CALM)), None),
            false,
            vec!["ok"],
            Err(&[EnhanceYourCalm]),
        ),
        (
            "the end of the connection",
            (then(b""), None),
            true,
            vec!["ok"],
            Err(&[EndedEarly]),
        ),
        (
            "the end in the middle of a frame",
            (then(&event("never told")[..12]), None),
            true,
            vec!["ok"],
            Err(&[EndedEarly]),
        ),
        // The stream itself may go on to its end (section 6.8).
        (
            "a farewell before the end",
            (
                then(&[goaway(1, NO_ERROR), event("more"), end.clone()].concat()),
                None,
            ),
            false,
            vec!["ok", "more"],
            Ok(()),
        ),
        (
            "a farewell, and the end of the connection",
            (then(&goaway(1, NO_ERROR)), None),
            true,
            vec!["ok"],
            // The farewell has promised it its end.
            Err(&[EndedEarly]),
        ),
        (
            "a farewell that leaves it out",
            (then(&goaway(0, NO_ERROR)), None),
            false,
            vec!["ok"],
            Err(&[GoAway]),
        ),
        (
            "a farewell for an error",
            (then(&goaway(0, INTERNAL_ERROR)), None),
            true,
            vec!["ok"],
            Err(&[GoAway]),
        ),
        (
            "a farewell for calm",
            (then(&goaway(1, CALM)), None),
            true,
            vec!["ok"],
            Err(&[EnhanceYourCalm]),
        ),
        (
            "a promise that was forbidden",
            (
                then(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
                None,
            ),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        (
            "DATA on no stream",
            (then(&frame(DATA, 0, 0, b"x")), None),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        (
            "DATA on a stream of nobody's",
            (then(&frame(DATA, 0, 9, b"x")), None),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        (
            "a frame that is too long",
            (then(&frame(DATA, 0, 1, &[b':'; 20_000])), None),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        (
            "a window past its end",
            (then(&frame(WINDOW_UPDATE, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF])), None),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        (
            "a broken header block",
            (then(&frame(HEADERS, END_HEADERS, 1, &[0xFF; 40])), None),
            false,
            vec!["ok"],
            Err(&[Protocol]),
        ),
        // Of no use, and no error; the library ends what goes on with it.
        (
            "empty pieces without end",
            (begin(), Some(frame(DATA, 0, 1, b"").repeat(1_000))),
            false,
            vec!["ok"],
            Err(&[EnhanceYourCalm]),
        ),
        (
            "trailers without end",
            (
                then(&frame(HEADERS, END_STREAM, 1, &field("x", "y"))),
                Some(frame(CONTINUATION, 0, 1, &field("x", "y")).repeat(1_000)),
            ),
            false,
            vec!["ok"],
            Err(&[EnhanceYourCalm, TooLarge, Protocol]),
        ),
    ];
    run_alone(|| async move {
        for (name, script, close, told, wanted) in cases {
            let mut target = target(serve(script, close).await);
            target.carriage = carriage(Carrier::H2c);
            target.sends = false;
            let mut session = SseConnector::default().connect(&target).await.expect(name);
            let (messages, end) = receive_to_end(&mut session.rx).await;
            eprintln!("{name}: {} messages, {end:?}", messages.len());
            let told: Vec<Message> = told.into_iter().map(Message::text).collect();
            assert_eq!(messages, told, "{name}: {end:?}");
            match (end, wanted) {
                (Ok(()), Ok(())) => {}
                (Err(e), Err(classes)) if classes.contains(&e.class) => {
                    assert_eq!(e.step, Step::Receive, "{name}: {e}");
                }
                (end, wanted) => panic!("{name}: {end:?} where {wanted:?} was wanted"),
            }
        }
    });
}

#[test]
fn a_wrong_answer_has_a_class() {
    let whole = |block: &[u8]| (frame(HEADERS, END_HEADERS, 1, block), None);
    let cases: Vec<(&str, Script, bool, &[ErrorClass])> = vec![
        ("unavailable", whole(&answer("503")), false, &[Status(503)]),
        (
            "elsewhere",
            whole(&[field(":status", "301"), field("location", "/x")].concat()),
            false,
            &[Status(301)],
        ),
        (
            "no status",
            whole(&field("content-type", "text/event-stream")),
            false,
            &[Protocol],
        ),
        ("a status that is none", whole(&answer("abc")), false, &[Protocol]),
        (
            "another type",
            whole(&[field(":status", "200"), field("content-type", "text/html")].concat()),
            false,
            &[Protocol],
        ),
        (
            "a name in capitals",
            whole(&[answer("200"), field("X", "y")].concat()),
            false,
            &[Protocol],
        ),
        ("reset", (reset(CANCEL), None), false, &[StreamReset]),
        ("refused", (reset(7), None), false, &[StreamReset]),
        (
            "HTTP/1.1 required",
            (reset(13), None),
            false,
            &[ErrorClass::Negotiation],
        ),
        ("a farewell", (goaway(0, NO_ERROR), None), true, &[GoAway]),
        ("the end", (Vec::new(), None), true, &[EndedEarly]),
        (
            "a header block without end",
            (
                frame(HEADERS, 0, 1, &answer("200")),
                Some(frame(CONTINUATION, 0, 1, &field("x", "y").repeat(500))),
            ),
            false,
            &[EnhanceYourCalm, TooLarge, Protocol],
        ),
        (
            "settings without end",
            (
                Vec::new(),
                Some(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 5]).repeat(1_000)),
            ),
            false,
            &[ErrorClass::TimedOut, EnhanceYourCalm],
        ),
        (
            "pings without end",
            (Vec::new(), Some(frame(PING, 0, 0, &[1; 8]).repeat(1_000))),
            false,
            &[ErrorClass::TimedOut, EnhanceYourCalm],
        ),
    ];
    run_alone(|| async move {
        for (name, script, close, classes) in cases {
            let mut target = target(serve(script, close).await);
            target.carriage = carriage(Carrier::H2c);
            target.sends = false;
            if classes.contains(&ErrorClass::TimedOut) {
                // Nothing else ends it: the server says much, and nothing of the session.
                target.open_deadline = std::time::Duration::from_millis(200);
            }
            let error = SseConnector::default().connect(&target).await.err().expect(name);
            eprintln!("{name}: {error}");
            assert!(classes.contains(&error.class), "{name}: {error}");
            assert_eq!(error.step, Step::Open, "{name}: {error}");
        }
    });
}
