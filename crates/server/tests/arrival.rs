//! Clients that begin to speak and then say nothing: none holds a connection for ever.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pushmark_server::{Config, Server};
use pushmark_transport::carrier::certificates::{Acceptor, Identity, Offer};

/// Far beyond what a busy machine needs.
const HANGS: Duration = Duration::from_secs(60);

#[test]
fn whoever_stops_in_the_middle_of_its_first_words_is_let_go() {
    let identity = Identity::make(&[], &[]).unwrap();
    let server = Server::start(Config {
        header_deadline: Duration::from_millis(200),
        tls: Some(Acceptor::new(&identity, &Offer::default()).unwrap()),
        ..Config::default()
    })
    .unwrap();
    let beginnings: [&[u8]; 7] = [
        b"P",
        b"PR",
        b"PRI",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"G",
        b"\x16",
        b"\x16\x03\x01\x02\x00",
    ];
    // All at once: they wait together.
    let clients: Vec<_> = beginnings
        .iter()
        .map(|beginning| {
            let mut client = TcpStream::connect(server.address()).unwrap();
            client.write_all(beginning).unwrap();
            client
        })
        .collect();
    for (mut client, beginning) in clients.into_iter().zip(beginnings) {
        client.set_read_timeout(Some(HANGS)).unwrap();
        // An answer or an alert may come first; then the end, however the system words it.
        let ended = client.read_to_end(&mut Vec::new());
        let hangs = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hangs, "{:?} is held", beginning.escape_ascii().to_string());
    }
    // Whoever has said nothing yet may take its time, and is served when it speaks.
    let mut late = TcpStream::connect(server.address()).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    late.write_all(b"GET /stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().unwrap();
}
