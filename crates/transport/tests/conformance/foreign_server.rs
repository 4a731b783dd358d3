//! Servers that are none of ours: each of their faults has a class, and none of them panics or hangs a client.

use std::time::Duration;

use pushmark_transport::ErrorClass::{
    self, EndedEarly, Negotiation, Protocol, Refused, Status, TimedOut, TooLarge,
};
use pushmark_transport::Step;

use crate::fixture::{for_every_transport, target};
use crate::host::Config;
use crate::script::{Then, serve};

/// What a server says where the head of an answer should be, and the classes that may be called.
fn openings() -> Vec<(&'static [u8], Then, &'static [ErrorClass])> {
    let endless = |bytes: &[u8]| Then::Repeat(bytes.repeat(1_000));
    vec![
        (b"", Then::Close, &[EndedEarly]),
        (b"", Then::Stay, &[TimedOut]),
        (b"HTTP/1.1 2", Then::Close, &[EndedEarly]),
        (b"HTTP/1.1 200 OK\r\nContent-", Then::Close, &[EndedEarly]),
        (b"HTTP/1.1 200 OK\r\nContent-", Then::Stay, &[TimedOut]),
        // One that drips may also be taken for an attack.
        (b"HTTP/1.1 200 OK\r\nx: ", Then::Drip(b'y'), &[TimedOut, Protocol]),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Then::Stay, &[Protocol]),
        (b"\x16\x03\x03\0\x02\x02\x28\r\n\r\n", Then::Stay, &[Protocol]),
        (
            b"\0\0\x12\x04\0\0\0\0\0\0\0\0",
            Then::Close,
            &[Protocol, EndedEarly],
        ),
        (b"\0\0\0\0\r\n\r\n", Then::Stay, &[Protocol]),
        (b"HTTP/9.9 200 OK\r\n\r\n", Then::Stay, &[Protocol]),
        (b"HTTP/1.1 abc OK\r\n\r\n", Then::Stay, &[Protocol]),
        (
            b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
            Then::Stay,
            &[Protocol],
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            Then::Stay,
            &[Protocol, Status(200)],
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            Then::Stay,
            &[Protocol, Status(200)],
        ),
        (
            b"HTTP/1.1 200 OK\r\n",
            endless(b"x: y\r\n"),
            &[TooLarge, Protocol],
        ),
        (b"HTTP/1.1 200 OK\r\nx: ", endless(b"y"), &[TooLarge, Protocol]),
        (b"HTTP/1.1 200 ", endless(b"y"), &[TooLarge, Protocol]),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello",
            Then::Stay,
            &[Protocol, Status(200)],
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Then::Stay, &[Status(204)]),
        (
            b"HTTP/1.1 301 Moved Permanently\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
            Then::Stay,
            &[Status(301)],
        ),
        (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            Then::Stay,
            &[Status(401)],
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n",
            Then::Stay,
            &[Status(404)],
        ),
        (
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
            Then::Stay,
            &[Status(429)],
        ),
        (
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            Then::Close,
            &[Status(500)],
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            Then::Close,
            &[Status(503)],
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Then::Close,
            &[Protocol, Status(101), EndedEarly],
        ),
    ]
}

for_every_transport!(
    a_wrong_opening_has_a_class,
    Config::default(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        // The server is another one, and the same for each of our ways.
        if !fixture.is_plain() {
            return;
        }
        for (bytes, then, classes) in openings() {
            let words = format!("{:?}, then {then:?}", bytes.escape_ascii().to_string());
            let mut target = target(serve(vec![(bytes.to_vec(), then)]).await);
            // Only what stays silent needs to run into it.
            let is_silent = classes.contains(&TimedOut);
            target.open_deadline = Duration::from_millis(if is_silent { 100 } else { 20_000 });
            let error = connector.connect(&target).await.err().expect(&words);
            assert_eq!(error.step, Step::Open, "{words}: {error}");
            assert!(classes.contains(&error.class), "{words}: {error}");
        }
    }
);

for_every_transport!(
    an_answer_in_http_1_0_is_not_what_was_asked_for,
    Config::default(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        for answer in [
            &b"HTTP/1.0 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
               sec-websocket-accept: {accept}\r\n\r\n"[..],
            b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\npushmark-session: 0123456789abcdef0123456789abcdef\r\n\
              pushmark-cursor: 0\r\ncontent-length: 0\r\n\r\n",
        ] {
            let target = target(serve(vec![(answer.to_vec(), Then::Close)]).await);
            let error = connector.connect(&target).await.err().unwrap();
            // Each transport takes one of the two, and has no use for the status of the other.
            match error.class {
                Negotiation => assert!(error.detail.contains("HTTP/1.0"), "{error}"),
                Status(_) => continue,
                _ => panic!("{error}"),
            }
            assert_eq!(error.step, Step::Open, "{error}");
            return;
        }
        panic!("an answer in HTTP/1.0 was taken");
    }
);

for_every_transport!(nobody_listens, Config::default(), |connector, fixture| {
    let Some(_) = fixture.host() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(listener.local_addr().unwrap());
    drop(listener);
    let error = connector.connect(&target).await.err().unwrap();
    assert_eq!((error.step, error.class), (Step::Connect, Refused));
});
