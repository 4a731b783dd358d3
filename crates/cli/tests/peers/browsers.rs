//! Node's clients of our server: `ws`, `eventsource`, and `node:http2` with many streams on one connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use pushmark_transport::{CloseReason, Kind};
use rustix::process::Signal;

use super::Need::Node;
use super::support::{Folder, Server};
use super::{Peer, assert_published, counted, lacks, node, publish, secured_server, stats};

/// A program of Node's with what is wanted of it, as JSON.
fn peer(name: &str, wanted: &str) -> Peer {
    let mut command = node(name);
    command.arg(wanted);
    Peer::start(command)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| (b as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What Node's ws is ready to compress, and what it then says was agreed on with a server that is ready too.
const DEFLATES: &[(&str, &str)] = &[
    ("false", "none"),
    (r#"{"threshold":0}"#, "permessage-deflate"),
    (
        r#"{"threshold":0,"serverNoContextTakeover":true,"clientNoContextTakeover":true}"#,
        "permessage-deflate",
    ),
    (
        r#"{"threshold":0,"serverMaxWindowBits":10,"clientMaxWindowBits":9}"#,
        "permessage-deflate",
    ),
];

/// Each way to connect with each way to compress.
fn ways_to_compress() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    (0..2).flat_map(|way| {
        DEFLATES
            .iter()
            .map(move |(deflate, agreed)| (way, *deflate, *agreed))
    })
}

/// In the clear and under TLS: the URL's beginning, and what says whom to trust.
fn ways(server: &Server, certificate: &str, scheme: &str) -> [(String, String); 2] {
    let address = server.address();
    [
        (format!("{scheme}://{address}"), String::new()),
        (
            format!("{scheme}s://{address}"),
            format!(r#","ca":"{certificate}""#),
        ),
    ]
}

#[test]
fn node_ws_receives_what_is_published() {
    if lacks("node_ws_receives_what_is_published", &[Node]) {
        return;
    }
    for (way, deflate, agreed) in ways_to_compress() {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &["--compress", "6"]);
        let (origin, ca) = &ways(&server, &certificate, "ws")[way];
        let wanted = format!(r#"{{"url":"{origin}/ws","deflate":{deflate}{ca}}}"#);
        let peer = peer("ws_client.mjs", &wanted);
        assert_eq!(peer.said("open"), agreed);
        publish(&server, Kind::Text, 300, 300);
        publish(&server, Kind::Binary, 3_000, 100);
        let messages = peer.lines("message ", 400);
        let of = |kind: &str| -> Vec<_> {
            let payloads = messages.iter().filter_map(|m| m.strip_prefix(kind));
            payloads.map(|payload| unhex(payload.trim())).collect()
        };
        let (texts, binaries) = (of("text"), of("binary"));
        assert_eq!((texts.len(), binaries.len()), (300, 100));
        assert_published(&texts, Kind::Text, 0, 300);
        assert_published(&binaries, Kind::Binary, 0, 3_000);
        let stats = counted(&server, "all are written", |s| s.written == 400);
        assert_eq!((stats.sessions_opened, stats.dropped), (1, 0));
        // The server says goodbye, with no code: 1005 stands for that (RFC 6455, section 7.1.5); 1006 would be no goodbye.
        server.stop_by(Signal::TERM).with_code(0);
        assert_eq!(peer.said("closed"), "1005");
        assert!(!peer.running.said().contains("failed"), "{}", peer.running.said());
    }
}

#[test]
fn node_ws_gets_back_what_it_sends() {
    if lacks("node_ws_gets_back_what_it_sends", &[Node]) {
        return;
    }
    for (way, deflate, agreed) in ways_to_compress() {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &["--compress", "6"]);
        let (origin, ca) = &ways(&server, &certificate, "ws")[way];
        let wanted = format!(r#"{{"url":"{origin}/ws","echo":true,"deflate":{deflate}{ca}}}"#);
        let peer = peer("ws_client.mjs", &wanted);
        assert_eq!(peer.said("open"), agreed);
        let echoed: u64 = peer.said("echoed").parse().unwrap();
        assert_eq!(echoed, 24);
        assert_eq!(peer.said("closed"), "1000");
        assert_eq!(peer.lines("pong", 6).len(), 6);
        let said = peer.running.said();
        assert!(!said.contains("differs") && !said.contains("failed"), "{said}");
        let stats = counted(&server, "the session is over", |s| s.sessions_open == 0);
        assert_eq!(
            (stats.received, stats.written, stats.dropped),
            (echoed, echoed, 0)
        );
        assert_eq!(stats.sessions_closed, [(CloseReason::Client, 1)].into());
    }
}

#[test]
fn node_ws_is_declined_by_a_server_that_does_not_compress() {
    if lacks("node_ws_is_declined_by_a_server_that_does_not_compress", &[Node]) {
        return;
    }
    let folder = Folder::new();
    let (server, certificate) = secured_server(&folder, &[]);
    let (origin, _) = &ways(&server, &certificate, "ws")[0];
    let wanted = format!(r#"{{"url":"{origin}/ws","echo":true,"deflate":true}}"#);
    let peer = peer("ws_client.mjs", &wanted);
    assert_eq!(peer.said("open"), "none");
    assert_eq!(peer.said("echoed"), "24");
}

/// A server's port seen through another one, whose connections can be cut all at once.
struct Relay {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, server) = (listener.local_addr().unwrap(), server.to_owned());
        let open = Arc::new(Mutex::new(Vec::new()));
        let all = open.clone();
        // It ends with the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let both = [(&client, &server), (&server, &client)]
                    .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
                // Before anything passes: whoever has heard of a connection can cut it.
                all.lock().unwrap().extend([client, server]);
                for (from, to) in both {
                    std::thread::spawn(move || pass(from, to));
                }
            }
        });
        Self { address, open }
    }

    /// Ends every connection, by a FIN each way.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn event_source_comes_back_and_misses_nothing() {
    if lacks("event_source_comes_back_and_misses_nothing", &[Node]) {
        return;
    }
    const COUNT: u64 = 3_000;
    // It asks for gzip by itself: a server that is ready to compress does so.
    for (scheme, compress) in [("http", false), ("https", false), ("http", true), ("https", true)] {
        let folder = Folder::new();
        let mut flags = vec!["--history", "10000", "--outbox", "10000", "--retry", "100ms"];
        if compress {
            flags.extend(["--compress", "6"]);
        }
        let (server, certificate) = secured_server(&folder, &flags);
        let relay = Relay::before(server.address());
        let mut command = node("event_source.mjs");
        command
            .env("NODE_EXTRA_CA_CERTS", &certificate)
            .arg(format!(r#"{{"url":"{scheme}://{}/sse"}}"#, relay.address));
        let peer = Peer::start(command);
        counted(&server, "it has a session", |s| s.sessions_open == 1);
        std::thread::scope(|scope| {
            scope.spawn(|| publish(&server, Kind::Text, 300, COUNT));
            // In the middle of it all, twice.
            for (at, opened) in [(COUNT / 5, 1), (COUNT / 2, 2)] {
                peer.lines("event ", at as usize);
                // What is not open cannot be cut.
                peer.lines("open", opened);
                relay.cut();
            }
        });
        let events = peer.lines("event ", COUNT as usize);
        assert_eq!(peer.lines("open", 3).len(), 3);
        assert_eq!(events.len(), COUNT as usize, "{scheme}");
        let (mut ids, mut payloads) = (Vec::new(), Vec::new());
        for event in &events {
            let mut words = event.split(' ');
            assert_eq!(words.next(), Some("message"));
            ids.push(words.next().unwrap().parse::<u64>().unwrap());
            payloads.push(unhex(words.next().unwrap()));
        }
        assert_eq!(ids, (0..COUNT).collect::<Vec<_>>(), "{scheme}");
        assert_published(&payloads, Kind::Text, 0, 300);
        let stats = stats(&server);
        assert_eq!((stats.sessions_opened, stats.dropped), (3, 0), "{scheme}");
        assert!(stats.replayed > 0, "{scheme}");
    }
}

/// Event streams and WebSockets side by side on one connection, each with everything, and each with its own echo.
#[test]
fn node_http2_carries_streams_and_sockets_on_one_connection() {
    const STREAMS: usize = 20;
    const COUNT: usize = 200;
    if lacks(
        "node_http2_carries_streams_and_sockets_on_one_connection",
        &[Node],
    ) {
        return;
    }
    for way in 0..2 {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &[]);
        let (origin, ca) = &ways(&server, &certificate, "http")[way];
        let wanted = format!(r#"{{"origin":"{origin}","streams":{STREAMS}{ca}}}"#);
        let peer = peer("http2_client.mjs", &wanted);
        assert_eq!(peer.said("protocol"), ["h2c true", "h2 true"][way]);
        peer.lines("echoed", STREAMS / 2);
        counted(&server, "all have a session", |s| {
            s.sessions_open == STREAMS as u64
        });
        publish(&server, Kind::Text, 500, COUNT as u64);
        let mut by_stream = BTreeMap::<usize, Vec<Vec<u8>>>::new();
        for word in ["event ", "message "] {
            for line in peer.lines(word, COUNT * STREAMS / 2) {
                let (number, rest) = line.split_once(' ').unwrap();
                let payload = rest.strip_prefix("text ").unwrap_or(rest);
                by_stream
                    .entry(number.parse().unwrap())
                    .or_default()
                    .push(unhex(payload));
            }
        }
        assert_eq!(by_stream.len(), STREAMS);
        for payloads in by_stream.values() {
            assert_eq!(payloads.len(), COUNT);
            assert_published(payloads, Kind::Text, 0, 500);
        }
        server.stop_by(Signal::TERM).with_code(0);
        let mut ended = peer.lines("ended", STREAMS);
        ended.sort();
        let mut wanted: Vec<_> = (0..STREAMS).map(|number| format!("{number} 0")).collect();
        wanted.sort();
        assert_eq!(ended, wanted, "every stream ends in good order");
        assert_eq!(peer.lines("concluded", STREAMS / 2).len(), STREAMS / 2);
        assert!(!peer.running.said().contains("failed"), "{}", peer.running.said());
    }
}
