//! Servers that others wrote, and our clients: Node's `ws`, and hypercorn with event streams, and with WebSockets over HTTP/2 too.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pushmark_measure::Metric;
use pushmark_results::Run;
use pushmark_transport::carrier::certificates::{Identity, certificates};
use pushmark_transport::carrier::tls::{self, Settings, Trust, Version};
use pushmark_transport::carrier::{Carriage, Carrier, Http, Streams};
use pushmark_transport::compression::{Agreed, Compression, Window};
use pushmark_transport::seam::Collected;
use pushmark_transport::sse::SseConnector;
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{Connected, Connector, ErrorClass, Message, Rx, Target, Tx};

use super::Need::{Hypercorn, Node};
use super::support::{Folder, ended, held, measure, run, scenario};
use super::{Peer, lacks, node, program, python, target, wait_for};

/// A certificate for this machine and its key, in files.
struct Files {
    certificate: String,
    key: String,
    pem: String,
}

impl Files {
    fn make(folder: &Folder) -> Self {
        let identity = Identity::make(&[], &[]).unwrap();
        let write = |name: &str, text: &str| folder.write(name, text).to_str().unwrap().to_owned();
        Self {
            certificate: write("certificate.pem", identity.certificates_pem()),
            key: write("key.pem", identity.key_pem()),
            pem: identity.certificates_pem().to_owned(),
        }
    }

    /// What a server is told, where it shall speak TLS.
    fn told(&self, carrier: Carrier) -> String {
        if !carrier.is_secured() {
            return String::new();
        }
        format!(r#","cert":"{}","key":"{}""#, self.certificate, self.key)
    }
}

/// A target over `carrier` that trusts the certificate of these files.
fn target_over(carrier: Carrier, address: SocketAddr, files: &Files, version: Option<Version>) -> Target {
    let settings = Settings {
        version,
        ..Settings::trusting(Trust::Roots(certificates(&files.pem).unwrap()))
    };
    Target {
        carriage: Carriage {
            carrier,
            tls: carrier
                .is_secured()
                .then(|| Arc::new(tls::Client::new(settings).unwrap())),
            streams_per_connection: Streams::All,
            ..Carriage::default()
        },
        ..target(address)
    }
}

fn hypercorn(folder: &Folder, files: &Files, carrier: Carrier, stream: Option<&Path>) -> Peer {
    let mut wanted = format!(r#"{{"folder":"{}""#, folder.path("").display());
    wanted += &files.told(carrier);
    if let Some(stream) = stream {
        wanted += &format!(r#","stream":"{}""#, stream.display());
    }
    let mut command = Command::new(python());
    command.arg(program("hypercorn_app.py")).arg(wanted + "}");
    Peer::start(command)
}

/// The next `count` messages.
async fn receive(rx: &mut impl Rx, count: usize) -> Vec<Message> {
    let mut inbox = Collected::default();
    while inbox.0.len() < count {
        let n = rx.recv(&mut inbox).await.unwrap();
        assert!(n > 0, "closed after {} of {count} messages", inbox.0.len());
    }
    assert_eq!(inbox.0.len(), count, "more messages than were sent");
    inbox.0.into_iter().map(|(_, message)| message).collect()
}

/// Everything to an end in good order.
async fn receive_to_end(rx: &mut impl Rx) -> Vec<Message> {
    let mut inbox = Collected::default();
    while rx.recv(&mut inbox).await.unwrap() > 0 {}
    inbox.0.into_iter().map(|(_, message)| message).collect()
}

/// Messages of all sizes and kinds.
fn messages() -> Vec<Message> {
    let mut messages = vec![
        Message::text(""),
        Message::text("gruß an alle 🦀"),
        Message::text("two\nlines\n"),
        Message::text("a\rb\r\nc"),
        Message::binary(&b""[..]),
    ];
    for size in [1usize, 125, 126, 127, 4_096, 65_535, 65_536, 1_000_000] {
        messages.push(Message::text("lorem ipsum € ".repeat(size / 16 + 1)));
        // No repetition that a compression would live on.
        let bytes = (0..size as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8);
        messages.push(Message::binary(bytes.collect::<Vec<u8>>()));
    }
    messages
}

/// Sends all messages and gets them back: each before the next one is sent, and then all of them at once.
async fn echo<T: Tx, R: Rx>(session: &mut Connected<T, R>) {
    let messages = messages();
    for message in &messages {
        session.tx.send(message.clone()).await.unwrap();
        let back = receive(&mut session.rx, 1).await;
        assert!(back[0] == *message, "{} bytes differ", message.payload.len());
    }
    let sending = async {
        for message in &messages {
            session.tx.send(message.clone()).await.unwrap();
        }
    };
    let ((), back) = tokio::join!(sending, receive(&mut session.rx, messages.len()));
    assert!(back == messages, "they differ, or their order does");
}

#[test]
fn ws_agrees_with_a_node_server() {
    if lacks("ws_agrees_with_a_node_server", &[Node]) {
        return;
    }
    let folder = Folder::new();
    let files = Files::make(&folder);
    for carrier in [Carrier::H1, Carrier::H1Tls] {
        // A fragment each of a size that cuts characters, and of one that no read takes whole.
        for (fragment, pongs) in [(1 << 30, 0), (1_001, 16), (100_003, 2)] {
            // That it could compress is nothing to a client that does not ask for it.
            let wanted = format!(
                r#"{{"fragment":{fragment},"deflate":true{}}}"#,
                files.told(carrier)
            );
            let mut command = node("ws_server.mjs");
            command.arg(wanted);
            let peer = Peer::start(command);
            let target = target_over(carrier, peer.address(), &files, None);
            wait_for(async {
                let connector = WsConnector::default();
                let mut session = connector.connect(&target).await.unwrap();
                echo(&mut session).await;
                session.tx.close().await.unwrap();
                assert_eq!(receive_to_end(&mut session.rx).await, []);
                // The other way round: the server ends it.
                let mut session = connector.connect(&target).await.unwrap();
                session.tx.send(Message::text("close 4001")).await.unwrap();
                assert_eq!(receive_to_end(&mut session.rx).await, []);
            });
            let opened = peer.lines("open", 2);
            assert_eq!(opened, ["none", "none"]);
            let mut closed = peer.lines("closed", 2);
            closed.sort();
            // Ours closes with no code, which 1005 stands for (RFC 6455, section 7.1.5).
            assert_eq!(closed, ["1005", "4001"]);
            if pongs > 0 {
                assert!(peer.lines("pong", pongs).len() >= pongs, "its pings are answered");
            }
            assert!(!peer.running.said().contains("failed"), "{}", peer.running.said());
        }
    }
}

/// What our client asks for: with and without what was sent before to refer to, and windows wide and narrow, each way its own.
fn ways_to_compress() -> Vec<Compression> {
    let window = |takeover, bits| Window { takeover, bits };
    let of = |down, up, level| Compression { down, up, level };
    vec![
        of(window(true, 15), window(true, 15), 6),
        of(window(false, 15), window(false, 15), 1),
        of(window(true, 10), window(true, 9), 9),
        of(window(false, 9), window(true, 12), 6),
    ]
}

/// That `session` has got what was asked for; then everything goes there and back.
async fn echo_compressed<T: Tx, R: Rx>(mut session: Connected<T, R>, asked: &Compression) {
    let Some(Agreed::Extension(agreed)) = session.negotiated.compression else {
        panic!(
            "{:?} where {asked:?} was asked for",
            session.negotiated.compression
        );
    };
    assert_eq!(agreed.server_forgets, !asked.down.takeover, "{agreed}");
    assert_eq!(agreed.server_bits.unwrap_or(15), asked.down.bits, "{agreed}");
    echo(&mut session).await;
    session.tx.close().await.unwrap();
}

#[test]
fn ws_agrees_with_a_node_server_on_deflate() {
    if lacks("ws_agrees_with_a_node_server_on_deflate", &[Node]) {
        return;
    }
    let folder = Folder::new();
    let files = Files::make(&folder);
    for carrier in [Carrier::H1, Carrier::H1Tls] {
        for fragment in [1 << 30, 1_001] {
            let wanted = format!(
                r#"{{"fragment":{fragment},"deflate":{{"threshold":0}}{}}}"#,
                files.told(carrier)
            );
            let mut command = node("ws_server.mjs");
            command.arg(wanted);
            let peer = Peer::start(command);
            let mut target = target_over(carrier, peer.address(), &files, None);
            for asked in ways_to_compress() {
                target.carriage.compression = Some(asked);
                wait_for(async {
                    let session = WsConnector::default().connect(&target).await.unwrap();
                    echo_compressed(session, &asked).await;
                });
            }
            let count = ways_to_compress().len();
            assert_eq!(peer.lines("open", count), vec!["permessage-deflate"; count]);
            assert_eq!(peer.lines("closed", count), vec!["1005"; count]);
            assert!(!peer.running.said().contains("failed"), "{}", peer.running.said());
        }
    }
    // A server that does not is no measurement.
    let mut command = node("ws_server.mjs");
    command.arg("{}");
    let peer = Peer::start(command);
    let mut target = target_over(Carrier::H1, peer.address(), &files, None);
    target.carriage.compression = Some(Compression::default());
    let error = wait_for(async { WsConnector::default().connect(&target).await.err().unwrap() });
    assert_eq!(error.class, ErrorClass::Negotiation, "{error}");
}

/// Node's ws agrees to compress, and where each message is compressed by itself it leaves those below 1,024 bytes as they are.
#[test]
fn what_a_node_server_agrees_to_compress_and_does_not_is_no_measurement() {
    if lacks(
        "what_a_node_server_agrees_to_compress_and_does_not_is_no_measurement",
        &[Node],
    ) {
        return;
    }
    let folder = Folder::new();
    for (payload, plain) in [("100 B", true), ("2 KiB", false)] {
        let mut command = node("ws_server.mjs");
        command.arg(r#"{"deflate":true}"#);
        let peer = Peer::start(command);
        let load =
            "connections = 3\narrival = \"at-once\"\nwarmup = \"50ms\"\nmeasure = \"500ms\"\ndrain = \"1s\"";
        let rest = format!(
            "[workload]\nkind = \"echo\"\nrate = \"20/s\"\npayload = \"{payload}\"\nencoding = \"json\"\n\n\
             [target]\naddress = \"{}\"\n\n[compression]\nkind = \"deflate\"\ncontext-takeover = false\n\n[deadlines]\nconnect = \"1s\"\nopen = \"2s\"\n",
            peer.address()
        );
        let file = folder.write("agreed.toml", &scenario(&["ws"], load, &rest));
        let out = folder.path(if plain { "plain" } else { "compressed" });
        let ended = ended(run(&file, &out));
        let run = Run::open(&out).unwrap();
        let ended = match plain {
            true => ended.with_code(4),
            false => held(&run, ended),
        };
        let compressed = run.trials[0].summary.as_ref().unwrap().compressed;
        assert!(compressed.messages > 0, "{compressed:?}");
        let all = if plain { compressed.messages } else { 0 };
        assert_eq!(compressed.plain_messages, all, "{payload}");
        assert_eq!(
            ended.stdout.contains("compression was agreed on"),
            plain,
            "{ended:#?}"
        );
    }
}

#[test]
fn ws_agrees_with_hypercorn_on_deflate_over_every_carrier() {
    if lacks(
        "ws_agrees_with_hypercorn_on_deflate_over_every_carrier",
        &[Hypercorn],
    ) {
        return;
    }
    let folder = Folder::new();
    let files = Files::make(&folder);
    for carrier in Carrier::ALL {
        let peer = hypercorn(&folder, &files, *carrier, None);
        let mut target = target_over(*carrier, peer.address(), &files, None);
        for asked in ways_to_compress() {
            target.carriage.compression = Some(asked);
            wait_for(async {
                let session = WsConnector::default().connect(&target).await.unwrap();
                echo_compressed(session, &asked).await;
            });
        }
        assert_spoken(&peer, *carrier, "CONNECT", ways_to_compress().len());
    }
}

#[test]
fn ws_agrees_with_hypercorn_over_every_carrier() {
    if lacks("ws_agrees_with_hypercorn_over_every_carrier", &[Hypercorn]) {
        return;
    }
    echo_with_hypercorn(&WsConnector::default(), "CONNECT");
}

#[test]
fn sse_agrees_with_hypercorn_over_every_carrier() {
    if lacks("sse_agrees_with_hypercorn_over_every_carrier", &[Hypercorn]) {
        return;
    }
    echo_with_hypercorn(&SseConnector::default(), "GET");
}

/// Several sessions at once, on one connection where the carrier has streams.
fn echo_with_hypercorn<C: Connector>(connector: &C, method: &str) {
    const SESSIONS: usize = 5;
    let folder = Folder::new();
    let files = Files::make(&folder);
    for carrier in Carrier::ALL {
        let peer = hypercorn(&folder, &files, *carrier, None);
        let target = target_over(*carrier, peer.address(), &files, None);
        wait_for(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..SESSIONS {
                let (connector, target) = (connector.clone(), target.clone());
                tasks.spawn_local(async move {
                    let mut session = connector.connect(&target).await.unwrap();
                    assert_eq!(session.negotiated.http, target.carriage.carrier.http());
                    let tls = session.negotiated.tls.map(|agreed| agreed.version);
                    let secured = target.carriage.carrier.is_secured();
                    assert_eq!(tls, secured.then_some(Version::Tls1_3));
                    echo(&mut session).await;
                    session.tx.close().await.unwrap();
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        assert_spoken(&peer, *carrier, method, SESSIONS);
    }
}

/// That the server has seen `count` sessions asked for over `carrier`.
fn assert_spoken(peer: &Peer, carrier: Carrier, method: &str, count: usize) {
    let version = match carrier.http() {
        Http::Http1_1 => "1.1",
        Http::Http2 => "2",
    };
    let scheme = match (method, carrier.is_secured()) {
        ("CONNECT", false) => "ws",
        ("CONNECT", true) => "wss",
        (_, false) => "http",
        (_, true) => "https",
    };
    let requests = peer.lines(&format!("request {method} "), count);
    assert_eq!(requests, vec![format!("{version} {scheme}"); count], "{carrier}");
}

/// A stream of another's making, with everything that its standard allows, cut anywhere; far longer than any window.
#[test]
fn sse_reads_whatever_hypercorn_says() {
    const MANY: usize = 3_000;
    if lacks("sse_reads_whatever_hypercorn_says", &[Hypercorn]) {
        return;
    }
    let folder = Folder::new();
    let files = Files::make(&folder);
    let large = "a long line, no end in sight. ".repeat(40_000);
    let mut script = vec![
        // A byte order mark, comments, fields that mean nothing, every line end; a byte a chunk.
        (
            "\u{feff}: hello\n\ndata: first\n\ndata:second\r\n\r\ndata: thi\rdata:rd\r\r".to_owned(),
            1,
        ),
        ("nothing: x\nretry: 1234\nid: 7\ndata: grüße 🦀\n\n".to_owned(), 1),
        ("event: other\ndata\ndata\n\nid\ndata: \u{3000}\n\n".to_owned(), 3),
        // An event without data is none.
        ("event: message\nid: 8\n\n".to_owned(), 100),
        (format!("data: {large}\n\n"), 9_999),
    ];
    let mut wanted: Vec<String> = ["first", "second", "thi\nrd", "grüße 🦀", "\n", "\u{3000}"]
        .map(str::to_owned)
        .into();
    wanted.push(large);
    for number in 0..MANY {
        script.push((format!("data: number {number}\n\n"), 1_000));
        wanted.push(format!("number {number}"));
    }
    // What the stream breaks off with is no event.
    script.push(("data: never told".to_owned(), 100));
    let stream = folder.write("stream.json", &serde_json::to_string(&script).unwrap());
    for carrier in Carrier::ALL {
        for (version, gzip) in [(None, false), (None, true), (Some(Version::Tls1_2), false)] {
            if version.is_some() && !carrier.is_secured() {
                continue;
            }
            let peer = hypercorn(&folder, &files, *carrier, Some(&stream));
            let mut target = target_over(*carrier, peer.address(), &files, version);
            target.sends = false;
            target.carriage.compression = gzip.then(Compression::default);
            wait_for(async {
                let connector = SseConnector::default();
                let mut sessions = Vec::new();
                for _ in 0..3 {
                    sessions.push(connector.connect(&target).await.unwrap());
                }
                for mut session in sessions {
                    let agreed = gzip.then_some(Agreed::Coding("gzip"));
                    assert_eq!(session.negotiated.compression, agreed);
                    let messages = receive_to_end(&mut session.rx).await;
                    let texts: Vec<_> = messages
                        .iter()
                        .map(|m| std::str::from_utf8(&m.payload).unwrap())
                        .collect();
                    assert_eq!(texts.len(), wanted.len());
                    assert!(texts == wanted, "{carrier}: they differ");
                    assert_eq!(session.rx.retry().unwrap().as_millis(), 1_234);
                }
            });
            assert_spoken(&peer, *carrier, "GET", 3);
        }
    }
}

/// The whole program, pointed at somebody else's server.
#[test]
fn a_run_measures_servers_that_others_wrote() {
    if lacks("a_run_measures_servers_that_others_wrote", &[Hypercorn, Node]) {
        return;
    }
    let folder = Folder::new();
    let files = Files::make(&folder);
    let load = "connections = 10\narrival = \"at-once\"\nwarmup = \"500ms\"\nmeasure = \"1s\"";
    let measured = |name: &str, carriers: &str, transports: &[&str], peer: &Peer, rest: &str| -> Run {
        let rest = format!(
            "[workload]\nkind = \"echo\"\nrate = \"20/s\"\npayload = \"100 B\"\n\n[target]\naddress = \"{}\"\n\n{rest}",
            peer.address()
        );
        let text = scenario(transports, load, &rest);
        let (run, _) = measure(&folder, name, &format!("carriers = {carriers}\n{text}"));
        for trial in &run.trials {
            let variant = &run.cell(trial).unwrap().variant;
            let books = &trial.summary.as_ref().unwrap().books;
            assert_eq!(books.delivered_once, 200, "{variant:?}");
            assert_eq!(trial.histograms.count(Metric::Latency), 200, "{variant:?}");
        }
        run
    };
    let server = hypercorn(&folder, &files, Carrier::H1, None);
    let run = measured("hypercorn", r#"["h1", "h2c"]"#, &["ws", "sse"], &server, "");
    assert_eq!(run.trials.len(), 4);
    // This one leaves any other request without an answer, for good: also the one for statistics, which is not waited for long.
    let mut command = node("ws_server.mjs");
    command.arg("{}");
    let server = Peer::start(command);
    let deadlines = "[deadlines]\nconnect = \"1s\"\nopen = \"2s\"";
    measured("node", r#"["h1"]"#, &["ws"], &server, deadlines);
    assert_eq!(server.lines("open", 10).len(), 10);
}
