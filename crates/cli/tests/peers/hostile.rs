//! Clients that agree with nobody: broken TLS and hostile HTTP/2 at the port that takes both. Each is answered, held up or cut off;
//! none of them costs much memory, and a neighbour notices nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use pushmark_transport::carrier::{Carriage, Carrier};
use pushmark_transport::seam::Collected;
use pushmark_transport::sse::SseConnector;
use pushmark_transport::{Connector, Kind, Rx};

use super::support::{DEADLINE, Folder, Server, eventually};
use super::{assert_published, publish, secured_server, stats, target, wait_for};

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
/// Codes of errors (section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
/// Flags of HEADERS.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// An attack goes on until so much was sent, unless it is cut off or held up before.
const MOST_BYTES: usize = 24 << 20;
/// More memory than this is too much for one connection.
const MOST_GROWTH_BYTES: u64 = 64 << 20;
/// A server that takes nothing for so long holds the attack up, which is an answer.
const HELD_UP: Duration = Duration::from_millis(500);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
}

/// A header as a literal that is not indexed (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| vec![u8::try_from(text.len()).unwrap()];
    assert!(name.len() < 127 && value.len() < 127);
    [
        &[0][..],
        &length(name),
        name.as_bytes(),
        &length(value),
        value.as_bytes(),
    ]
    .concat()
}

fn request(method: &str, path: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let mut block = field(":method", method);
    for (name, value) in [(":scheme", "http"), (":path", path), (":authority", "x")] {
        block.extend(field(name, value));
    }
    for (name, value) in further {
        block.extend(field(name, value));
    }
    block
}

/// What is sent first, and what is sent again and again after it, by its number.
struct Attack {
    name: &'static str,
    begin: Vec<u8>,
    again: Option<Box<dyn Fn(u32) -> Vec<u8>>>,
    /// The attacker reads what it is answered.
    reads: bool,
    /// The error that the server ends the connection with, in a GOAWAY.
    code: Option<u32>,
}

impl Attack {
    fn once(name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        Self {
            name,
            begin: bytes.as_ref().to_vec(),
            again: None,
            reads: true,
            code: None,
        }
    }

    /// Frames behind a good beginning.
    fn frames(name: &'static str, frames: impl AsRef<[u8]>) -> Self {
        Self::once(name, [&opening(), frames.as_ref()].concat())
    }

    /// Frames that end the connection with an error of that code (RFC 9113, section 7).
    fn wrong(name: &'static str, code: u32, frames: impl AsRef<[u8]>) -> Self {
        Self {
            code: Some(code),
            ..Self::frames(name, frames)
        }
    }

    fn endless(name: &'static str, reads: bool, again: impl Fn(u32) -> Vec<u8> + 'static) -> Self {
        Self {
            name,
            begin: opening(),
            again: Some(Box::new(again)),
            reads,
            code: None,
        }
    }

    /// Begins it; gives the connection, which stays for as long as the server lets it.
    fn begin(&self, server: &Server) -> TcpStream {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_write_timeout(Some(HELD_UP)).unwrap();
        // Who is not cut off fails by its name, instead of waiting without end.
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let answer = self.reads.then(|| {
            let mut reading = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                let ended = reading.read_to_end(&mut answer);
                let late =
                    |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                (answer, !ended.as_ref().is_err_and(late))
            })
        });
        if stream.write_all(&self.begin).is_err() {
            return stream;
        }
        if let (Some(code), Some(answer)) = (self.code, answer) {
            let (answer, ended) = answer.join().unwrap();
            assert_eq!(goaway(&answer), Some(code), "{}", self.name);
            assert!(ended, "{}: it is told of its error, and not cut off", self.name);
        }
        let mut sent = 0;
        let mut number = 0;
        while let (Some(again), true) = (&self.again, sent < MOST_BYTES) {
            let mut bytes = Vec::new();
            while bytes.len() < 64 * 1024 {
                bytes.extend(again(number));
                number += 1;
            }
            sent += bytes.len();
            match stream.write_all(&bytes) {
                Ok(()) => {}
                // Held up, or cut off.
                Err(_) => break,
            }
        }
        stream
    }
}

/// The code of the GOAWAY among frames (section 6.8).
fn goaway(mut frames: &[u8]) -> Option<u32> {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = rest.get(..length)?;
        if *kind == GOAWAY {
            return Some(u32::from_be_bytes(payload.get(4..8)?.try_into().unwrap()));
        }
        frames = &rest[length..];
    }
    None
}

fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The number of the nth stream of a client.
fn nth(number: u32) -> u32 {
    2 * number + 1
}

fn attacks() -> Vec<Attack> {
    let get = |path: &str| request("GET", path, &[]);
    let whole = END_HEADERS | END_STREAM;
    // A name and a value that are in the table (RFC 7541, section 6.1) cost one byte each time.
    let bomb = [
        &request("GET", "/stats", &[])[..],
        &[0x40, 1, b'x', 126],
        &[b'y'; 126],
        &[0xBE; 16_000],
    ]
    .concat();
    let websocket = |protocol: &str, version: &str| {
        request(
            "CONNECT",
            "/ws",
            &[(":protocol", protocol), ("sec-websocket-version", version)],
        )
    };
    vec![
        Attack::once("noise", [0xFF; 500]),
        Attack::once("nothing but a record's first byte", [22]),
        Attack::once(
            "a record of noise",
            [&[22, 3, 1, 1, 0][..], &[0xA5; 256]].concat(),
        ),
        Attack::once(
            "a record that is too long",
            [&[22, 3, 3, 0xFF, 0xFF][..], &[1; 70_000]].concat(),
        ),
        Attack::once(
            "half a greeting",
            [&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 100]].concat(),
        ),
        Attack::once("application data first", [23, 3, 3, 0, 2, 0, 0]),
        Attack::once("an alert first", [21, 3, 3, 0, 2, 2, 40]),
        Attack::once("half a preface", &PREFACE[..10]),
        Attack::once("a preface and noise", [PREFACE, &[0xFF; 300]].concat()),
        Attack::once(
            "a preface and HTTP/1.1",
            [PREFACE, b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"].concat(),
        ),
        Attack::wrong("DATA on no stream", PROTOCOL_ERROR, frame(DATA, 0, 0, b"x")),
        Attack::wrong(
            "DATA on a stream that is not open",
            PROTOCOL_ERROR,
            frame(DATA, 0, 1, b"x"),
        ),
        Attack::wrong(
            "a frame that is too long",
            FRAME_SIZE_ERROR,
            frame(DATA, 0, 1, &[0; 20_000]),
        ),
        // FRAME_SIZE_ERROR would say more (section 6.5); the library has the general one for it.
        Attack::wrong(
            "SETTINGS of odd length",
            PROTOCOL_ERROR,
            frame(SETTINGS, 0, 0, &[0; 5]),
        ),
        Attack::wrong(
            "an even stream",
            PROTOCOL_ERROR,
            frame(HEADERS, whole, 2, &get("/stats")),
        ),
        Attack::frames("no path", frame(HEADERS, whole, 1, &field(":method", "GET"))),
        Attack::frames(
            "a name in capitals",
            frame(HEADERS, whole, 1, &request("GET", "/stats", &[("X-Y", "z")])),
        ),
        // COMPRESSION_ERROR would (RFC 9113, section 4.3), likewise.
        Attack::wrong(
            "a broken header block",
            PROTOCOL_ERROR,
            frame(HEADERS, whole, 1, &[0xFF; 40]),
        ),
        Attack::wrong(
            "WINDOW_UPDATE by nothing",
            PROTOCOL_ERROR,
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        Attack::wrong(
            "WINDOW_UPDATE past the end",
            FLOW_CONTROL_ERROR,
            frame(WINDOW_UPDATE, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF]).repeat(2),
        ),
        Attack::frames(
            "a protocol that nobody has",
            frame(HEADERS, END_HEADERS, 1, &websocket("gopher", "13")),
        ),
        Attack::frames(
            "a version that nobody has",
            frame(HEADERS, END_HEADERS, 1, &websocket("websocket", "99")),
        ),
        Attack::frames(
            "noise in a tunnel",
            [
                frame(HEADERS, END_HEADERS, 1, &websocket("websocket", "13")),
                frame(DATA, 0, 1, &[0xFF; 1_000]),
            ]
            .concat(),
        ),
        Attack::endless("rapid reset", true, move |number| {
            let headers = frame(HEADERS, whole, nth(number), &request("GET", "/sse", &[]));
            [headers, frame(RST_STREAM, 0, nth(number), &8u32.to_be_bytes())].concat()
        }),
        Attack::endless("rapid reset, unread", false, move |number| {
            let headers = frame(HEADERS, whole, nth(number), &request("GET", "/stats", &[]));
            [headers, frame(RST_STREAM, 0, nth(number), &8u32.to_be_bytes())].concat()
        }),
        Attack::endless("answers that nobody reads", false, move |number| {
            frame(HEADERS, whole, nth(number), &request("GET", "/stats", &[]))
        }),
        Attack::endless("pings that nobody reads the answers of", false, |_| {
            frame(PING, 0, 0, &[7; 8])
        }),
        Attack::endless("settings without end", false, |_| {
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
        }),
        Attack::endless("a header block without end", true, move |number| match number {
            0 => frame(HEADERS, 0, 1, &get("/stats")),
            _ => frame(CONTINUATION, 0, 1, &field("x", "y").repeat(1_000)),
        }),
        Attack::endless("empty pieces of a header block", true, |number| match number {
            0 => frame(HEADERS, 0, 1, &field(":method", "GET")),
            _ => frame(CONTINUATION, 0, 1, &[]),
        }),
        Attack::endless("a header block that swells", true, move |number| {
            frame(HEADERS, whole, nth(number), &bomb)
        }),
        Attack::endless("empty DATA without end", true, |number| match number {
            0 => frame(HEADERS, END_HEADERS, 1, &request("POST", "/control/publish", &[])),
            _ => frame(DATA, 0, 1, &[]),
        }),
    ]
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count()
}

/// Once the connections that were asked over are closed at the server too: with one of them in the count, one that leaks is not
/// seen.
fn files_at_rest(server: &Server) -> usize {
    let mut least = open_files(server);
    let mut unchanged = 0;
    while unchanged < 50 {
        std::thread::sleep(Duration::from_millis(10));
        let now = open_files(server);
        unchanged = if now < least { 0 } else { unchanged + 1 };
        least = least.min(now);
    }
    least
}

#[test]
fn hostile_clients_of_a_secured_port_harm_nobody() {
    const COUNT: u64 = 20;
    let folder = Folder::new();
    let (server, _) = secured_server(&folder, &[]);
    // What a server keeps for good it has after the first few.
    stats(&server);
    let files = files_at_rest(&server);
    for attack in attacks() {
        let name = attack.name;
        println!("{name}");
        let before = stats(&server).rss_bytes;
        let stream = attack.begin(&server);
        let after = stats(&server).rss_bytes;
        let growth = after.saturating_sub(before);
        assert!(growth < MOST_GROWTH_BYTES, "{name}: {growth} bytes more");
        served(&server, COUNT);
        // The attacker goes without a word.
        let _ = stream.shutdown(Shutdown::Both);
        drop(stream);
        eventually(&format!("{name}: nothing is left of it"), || {
            (open_files(&server) <= files && stats(&server).sessions_open == 0).then_some(())
        });
    }
}

/// A session that opens now gets everything.
fn served(server: &Server, count: u64) {
    // Not told by the server's count of open sessions: the attacker's own may end at any time.
    let (opened, open) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let mut target = target(server.address().parse().unwrap());
            target.sends = false;
            target.carriage = Carriage {
                carrier: Carrier::H2c,
                ..Carriage::default()
            };
            wait_for(async {
                let mut session = SseConnector::default().connect(&target).await.unwrap();
                // The server has a session before it answers.
                opened.send(()).unwrap();
                let mut inbox = Collected::default();
                while (inbox.0.len() as u64) < count {
                    assert!(session.rx.recv(&mut inbox).await.unwrap() > 0, "it ended");
                }
                inbox
                    .0
                    .into_iter()
                    .map(|(_, message)| message.payload)
                    .collect::<Vec<_>>()
            })
        });
        open.recv().expect("the neighbour has a session");
        publish(server, Kind::Text, 100, count);
        assert_published(&receiving.join().unwrap(), Kind::Text, 0, 100);
    });
}

/// What begins like TLS or HTTP/2 and then falls silent is not waited for without end, where it holds up more than itself.
#[test]
fn half_a_handshake_is_cut_off() {
    let folder = Folder::new();
    let (server, _) = secured_server(&folder, &[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]).unwrap();
    // The server's own deadline ends this, not the test's.
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    if let Err(e) = stream.read_to_end(&mut Vec::new()) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}");
    }
}
