//! Compression: what is agreed on is told by the server's own answer, less than what was asked for is an error, and what must not
//! inflate does not. That messages come and go under it is in the other modules, which run compressed too.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use pushmark_transport::carrier::Carrier;
use pushmark_transport::compression::{Agreed, Compression, Window};
use pushmark_transport::long_poll::LongPollConnector;
use pushmark_transport::seam::{Collected, Inbox, Received};
use pushmark_transport::sse::SseConnector;
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{Connector, ErrorClass, Kind, Message, Rx, Step, Target, TransportError, Tx};

use crate::fixture::{for_every_transport, receive, run_alone, target, until};
use crate::host::{Config, TestHost, carriage, serve};
use crate::script::{self, Then};

fn asking(takeover: bool, bits: u8) -> Compression {
    let window = Window { takeover, bits };
    Compression {
        down: window,
        up: window,
        level: 6,
    }
}

const LONG_POLL: &str = "long-poll";

/// Counts what came compressed.
#[derive(Default)]
struct Counting {
    messages: Collected,
    payload_bytes: usize,
    stream_bytes: usize,
}

impl Inbox for Counting {
    fn deliver(&mut self, received: Received, kind: Kind, payload: &[u8]) {
        self.messages.deliver(received, kind, payload);
    }

    fn inflated(&mut self, _: Received, payload_bytes: usize, stream_bytes: usize) {
        self.payload_bytes += payload_bytes;
        self.stream_bytes += stream_bytes;
    }
}

/// Messages that are much alike, each with something of its own.
fn alike(number: usize) -> Message {
    Message::text(format!(
        "{{\"instrument\":\"ABC\",\"number\":{number},\"bid\":{},\"note\":\"as before\"}}",
        number * 7_919 % 1_000
    ))
}

async fn counted<R: Rx>(rx: &mut R, count: usize) -> Counting {
    let mut inbox = Counting::default();
    while inbox.messages.0.len() < count {
        assert!(rx.recv(&mut inbox).await.unwrap() > 0);
    }
    inbox
}

for_every_transport!(
    who_inflates_much_lets_others_have_their_turn,
    Config {
        compression: Some(asking(true, 15)),
        ..Config::default()
    },
    |connector, fixture| {
        const COUNT: usize = 200;
        if fixture.row.name != "ws" || fixture.target.carriage.carrier != Carrier::H1 {
            return;
        }
        let mut session = fixture.connect(&connector).await;
        // A few bytes each: they lie in the socket together.
        for _ in 0..COUNT {
            fixture.publish(&Message::text("0".repeat(100_000)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        let other = tokio::task::spawn_local(async move {
            loop {
                tokio::task::yield_now().await;
                counted.set(counted.get() + 1);
            }
        });
        assert_eq!(receive(&mut session.rx, COUNT).await.len(), COUNT);
        other.abort();
        // 20 MB, about a million bytes in each.
        assert!(turns.get() >= 10, "{} turns", turns.get());
    }
);

for_every_transport!(
    compressed_messages_are_counted_on_both_sides_of_the_codec,
    Config::default(),
    |connector, fixture| {
        const COUNT: usize = 50;
        let asked = fixture.target.carriage.compression;
        let mut sessions = vec![
            fixture.connect(&connector).await,
            fixture.connect(&connector).await,
        ];
        let mut payload_bytes = 0;
        for number in 0..COUNT {
            payload_bytes += alike(number).payload.len();
            fixture.publish(&alike(number));
            for session in &mut sessions {
                assert_eq!(session.negotiated.compression.is_some(), asked.is_some());
            }
        }
        for session in &mut sessions {
            let got = counted(&mut session.rx, COUNT).await;
            let messages: Vec<Message> = got.messages.0.into_iter().map(|(_, m)| m).collect();
            assert_eq!(messages, (0..COUNT).map(alike).collect::<Vec<_>>());
            let Some(asked) = asked else {
                assert_eq!((got.payload_bytes, got.stream_bytes), (0, 0));
                continue;
            };
            assert_eq!(got.payload_bytes, payload_bytes);
            assert!(got.stream_bytes > 0);
            // One after another, in one stream, they leave little to say. (Answers to polls have a stream each.)
            let in_one_stream = fixture.row.name != LONG_POLL;
            if asked.down.takeover && in_one_stream {
                assert!(got.stream_bytes * 2 < payload_bytes, "{}", got.stream_bytes);
            }
        }
    }
);

for_every_transport!(
    a_server_that_declines_is_no_measurement,
    Config::default(),
    |connector, mut fixture| {
        if fixture.host().is_none() || fixture.target.carriage.compression.is_some() {
            return;
        }
        fixture.target.carriage.compression = Some(asking(true, 15));
        let e = connector.connect(&fixture.target).await.err().unwrap();
        assert_eq!((e.step, e.class), (Step::Open, ErrorClass::Negotiation), "{e}");
        assert!(
            e.detail.contains("permessage-deflate") || e.detail.contains("gzip"),
            "{e}"
        );
    }
);

for_every_transport!(
    nothing_is_compressed_for_who_does_not_ask,
    Config {
        compression: Some(asking(true, 15)),
        echo: true,
        ..Config::default()
    },
    |connector, mut fixture| {
        fixture.target.carriage.compression = None;
        let mut session = fixture.connect(&connector).await;
        assert_eq!(session.negotiated.compression, None);
        session.tx.send(alike(1)).await.unwrap();
        if fixture.host().is_some() {
            assert_eq!(receive(&mut session.rx, 1).await, [alike(1)]);
        }
    }
);

#[test]
fn parameters_are_those_of_the_answer_over_every_carrier() {
    run_alone(|| async {
        for carrier in Carrier::ALL {
            for (takeover, bits, words) in [
                (true, 15, "permessage-deflate"),
                (
                    false,
                    9,
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                     server_max_window_bits=9; client_max_window_bits=9",
                ),
            ] {
                let config = Config {
                    compression: Some(Compression::default()),
                    echo: true,
                    ..Config::default()
                };
                let mut target = target(serve(TestHost::new(config)).await);
                target.carriage = carriage(*carrier);
                target.carriage.compression = Some(asking(takeover, bits));
                let mut ws = WsConnector::default().connect(&target).await.unwrap();
                assert_eq!(ws.negotiated.compression.unwrap().to_string(), words);
                assert!(ws.negotiated.to_string().ends_with(words), "{}", ws.negotiated);
                for number in 0..5 {
                    ws.tx.send(alike(number)).await.unwrap();
                    assert_eq!(receive(&mut ws.rx, 1).await, [alike(number)]);
                }
                let sse = SseConnector::default().connect(&target).await.unwrap();
                assert_eq!(sse.negotiated.compression, Some(Agreed::Coding("gzip")));
                assert!(sse.negotiated.to_string().contains("content-encoding gzip"));
                let poll = LongPollConnector::default().connect(&target).await.unwrap();
                assert_eq!(poll.negotiated.compression, Some(Agreed::Coding("gzip")));
            }
        }
    });
}

/// A slow reader's messages are dropped before they are deflated, so that what follows can be read.
#[test]
fn what_is_dropped_is_no_part_of_what_later_ones_refer_to() {
    run_alone(|| async {
        let config = Config {
            compression: Some(Compression::default()),
            outbox_messages: 4,
            when_full: pushmark_transport::WhenFull::DropOldest,
            ..Config::default()
        };
        for takeover in [true, false] {
            let host = TestHost::new(config);
            let mut target = target(serve(host.clone()).await);
            target.carriage.compression = Some(asking(takeover, 15));
            async fn overrun<C: Connector>(connector: C, target: &Target, host: &TestHost) {
                let before = host.records(|r| r.dropped).iter().sum::<usize>();
                let mut session = connector.connect(target).await.unwrap();
                until(|| !host.records(|_| ()).is_empty()).await;
                // What compresses badly, until the socket is full and more; nothing is read meanwhile.
                let mut state = 1u64;
                let mut noise = move || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as u8
                };
                let mut published = Vec::new();
                while host.records(|r| r.dropped).iter().sum::<usize>() < before + 5 {
                    let message = Message::binary((0..60_000).map(|_| noise()).collect::<Vec<u8>>());
                    host.publish(&message);
                    published.push(message);
                }
                // A word at the end, and all that was not dropped before it, whole.
                host.close_all();
                let mut inbox = Collected::default();
                while session.rx.recv(&mut inbox).await.unwrap() > 0 {}
                let got: Vec<Message> = inbox.0.into_iter().map(|(_, m)| m).collect();
                assert!(got.len() < published.len());
                assert!(got.iter().all(|m| published.contains(m)));
            }
            overrun(WsConnector::default(), &target, &host).await;
            let host = TestHost::new(config);
            target.address = serve(host.clone()).await;
            overrun(SseConnector::default(), &target, &host).await;
        }
    });
}

/// What a client makes of a server that says this, when it asked for compression.
async fn told<C: Connector>(connector: C, answers: Vec<(Vec<u8>, Then)>, most: usize) -> TransportError {
    let mut target = target(script::serve(answers).await);
    target.carriage.compression = Some(Compression::default());
    target.max_message_bytes = most;
    let mut session = match connector.connect(&target).await {
        Ok(session) => session,
        Err(e) => return e,
    };
    let mut inbox = Collected::default();
    loop {
        match session.rx.recv(&mut inbox).await {
            Ok(0) => panic!("a clean end"),
            Ok(_) => {}
            Err(e) => return e,
        }
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A chunk that nothing follows yet.
fn chunk(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

#[test]
fn a_web_socket_server_cannot_fool_us() {
    let opened = |extensions: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {{accept}}\r\n{extensions}\r\n"
        )
        .into_bytes()
    };
    const AGREED: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    run_alone(|| async {
        for (extensions, class) in [
            ("", ErrorClass::Negotiation),
            (
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
                ErrorClass::Negotiation,
            ),
            (
                "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
                ErrorClass::Negotiation,
            ),
            (
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n",
                ErrorClass::Protocol,
            ),
            (
                "Sec-WebSocket-Extensions: permessage-bzip2\r\n",
                ErrorClass::Protocol,
            ),
            (
                "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: x-other\r\n",
                ErrorClass::Protocol,
            ),
        ] {
            let e = told(
                WsConnector::default(),
                vec![(opened(extensions), Then::Stay)],
                1_000,
            )
            .await;
            assert_eq!((e.step, e.class), (Step::Open, class), "{extensions}: {e}");
        }
        let mut bomb = flate2::Compress::new(flate2::Compression::best(), false);
        let mut deflated = Vec::with_capacity(100_000);
        bomb.compress_vec(&vec![b'a'; 8 << 20], &mut deflated, flate2::FlushCompress::Sync)
            .unwrap();
        deflated.truncate(deflated.len() - 4);
        let bomb = [
            &[0xC1, 126][..],
            &u16::try_from(deflated.len()).unwrap().to_be_bytes(),
            &deflated,
        ]
        .concat();
        for (frame, class) in [
            (&b"\xC1\x02\xFF\xFF"[..], ErrorClass::Protocol),
            (b"\xC9\x00", ErrorClass::Protocol),
            (b"\x01\x01a\xC0\x01b", ErrorClass::Protocol),
            (b"\xA1\x01a", ErrorClass::Protocol),
            (&bomb, ErrorClass::TooLarge),
        ] {
            let script = [opened(AGREED), frame.to_vec()].concat();
            let e = told(WsConnector::default(), vec![(script, Then::Stay)], 20_000).await;
            assert_eq!((e.step, e.class), (Step::Receive, class), "{e}");
        }
    });
}

#[test]
fn an_event_stream_cannot_fool_us() {
    let opened = |coding: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{coding}Transfer-Encoding: chunked\r\n\
             pushmark-session: 00000000000000000000000000000001\r\n\r\n"
        )
        .into_bytes()
    };
    const GZIP: &str = "Content-Encoding: gzip\r\n";
    run_alone(|| async {
        for coding in ["", "Content-Encoding: br\r\n", "Content-Encoding: identity\r\n"] {
            let e = told(SseConnector::default(), vec![(opened(coding), Then::Stay)], 1_000).await;
            assert_eq!((e.step, e.class), (Step::Open, ErrorClass::Negotiation), "{e}");
        }
        let whole = gzip(b"data: x\n\n");
        let line = gzip(&[&b"data: "[..], &vec![b'a'; 8 << 20]].concat());
        let comments = gzip(&b":\n".repeat(4 << 20));
        let mut damaged = whole.clone();
        damaged[12] ^= 0xFF;
        for (body, class) in [
            (chunk(b"no gzip"), ErrorClass::Protocol),
            (chunk(&damaged), ErrorClass::Protocol),
            (chunk(&line), ErrorClass::TooLarge),
            (chunk(&comments), ErrorClass::TooLarge),
            (chunk(&[&whole[..], b"more"].concat()), ErrorClass::Protocol),
            (
                [chunk(&whole[..whole.len() - 4]), b"0\r\n\r\n".to_vec()].concat(),
                ErrorClass::EndedEarly,
            ),
        ] {
            let script = [opened(GZIP), body].concat();
            let e = told(SseConnector::default(), vec![(script, Then::Stay)], 20_000).await;
            assert_eq!((e.step, e.class), (Step::Receive, class), "{e}");
        }
    });
}

#[test]
fn a_poll_cannot_fool_us() {
    let answer = |coding: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\npushmark-session: 00000000000000000000000000000001\r\npushmark-cursor: 1\r\n\
             {coding}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    const GZIP: &str = "Content-Encoding: gzip\r\n";
    run_alone(|| async {
        let e = told(
            LongPollConnector::default(),
            vec![(answer("", b""), Then::Stay)],
            1_000,
        )
        .await;
        assert_eq!((e.step, e.class), (Step::Open, ErrorClass::Negotiation), "{e}");
        let bomb = gzip(&vec![0; 32 << 20]);
        for (coding, body, class) in [
            ("", &b"plain"[..], ErrorClass::Negotiation),
            (GZIP, b"no gzip", ErrorClass::Protocol),
            (GZIP, &bomb[..bomb.len() / 2], ErrorClass::TooLarge),
            (GZIP, &gzip(b"")[..15], ErrorClass::Protocol),
        ] {
            let script = vec![
                (answer(GZIP, &gzip(b"")), Then::Stay),
                (answer(coding, body), Then::Stay),
            ];
            let e = told(LongPollConnector::default(), script, 1_000).await;
            assert_eq!((e.step, e.class), (Step::Receive, class), "{e}");
        }
    });
}
