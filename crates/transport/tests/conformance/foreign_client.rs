//! Clients that are none of ours: the server answers them or closes, goes on, and other sessions notice nothing.

use std::net::SocketAddr;
use std::time::Duration;

use pushmark_transport::{Message, Tx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{for_every_transport, numbered, receive, until};
use crate::host::Config;

/// Sends `bytes` and no more; gives the head of the answer, or nothing when the server closes without. One that may be
/// silent is not waited for long.
async fn send_raw(server: SocketAddr, bytes: &[u8], may_be_silent: bool) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    };
    let deadline = Duration::from_millis(if may_be_silent { 50 } else { 100_000 });
    tokio::time::timeout(deadline, read).await.unwrap_or_default()
}

/// Requests that no client of ours makes, each with the statuses it may be answered with; none stands for no answer.
fn requests(path: &str) -> Vec<(Vec<u8>, &'static [&'static str])> {
    const BAD: &[&str] = &["", "400"];
    const REFUSED: &[&str] = &["400", "404", "405", "413", "426"];
    let post =
        |query: &str, rest: &str| format!("POST {path}{query} HTTP/1.1\r\nHost: x\r\n{rest}").into_bytes();
    let many_headers = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "x: y\r\n".repeat(100_000)
    );
    let long_header = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n",
        "y".repeat(200_000)
    );
    let long_path = format!("GET {path}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(200_000));
    let large = "y".repeat(2_000);
    vec![
        (b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(), BAD),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03".to_vec(), BAD),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), BAD),
        (b"GET\r\n\r\n".to_vec(), BAD),
        (
            format!("GET {path} HTTP/1.1\r\nno colon\r\n\r\n").into_bytes(),
            BAD,
        ),
        (many_headers.into_bytes(), &["", "431"]),
        (long_header.into_bytes(), &["", "431"]),
        (long_path.into_bytes(), &["", "414", "431"]),
        (
            format!("PATCH {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
            &["405"],
        ),
        (
            format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
            &["405"],
        ),
        (
            format!("DELETE {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
            REFUSED,
        ),
        (
            format!("DELETE {path}?session=ffff HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
            REFUSED,
        ),
        (post("", "Content-Length: 1\r\n\r\nx"), REFUSED),
        (post("?session=", "Content-Length: 1\r\n\r\nx"), REFUSED),
        (post("?session=ffff", "Content-Length: 1\r\n\r\nx"), REFUSED),
        (post("?session=-1", "Content-Length: 1\r\n\r\nx"), REFUSED),
        (post("?session=%31", "Content-Length: 1\r\n\r\nx"), REFUSED),
        (
            post("?session=1", &format!("Content-Length: 2000\r\n\r\n{large}")),
            REFUSED,
        ),
        (
            post(
                "?session=1",
                &format!("Transfer-Encoding: chunked\r\n\r\n7d0\r\n{large}\r\n0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post("?session=1", "Content-Length: 100000000000000000000\r\n\r\nx"),
            &["", "400", "405", "413"],
        ),
        (
            post(
                "?session=1",
                "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            ),
            &["", "400", "405"],
        ),
        (
            post("?session=1", "Transfer-Encoding: chunked\r\n\r\nnot a size\r\n"),
            &["", "400", "405"],
        ),
        (post("?session=1", "Content-Length: 9\r\n\r\ncut"), &["", "405"]),
    ]
}

for_every_transport!(
    a_client_that_is_wrong_harms_nobody_else,
    Config {
        echo: true,
        max_message_bytes: 1_000,
        ..Config::default()
    },
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        // What is sent is in the clear whatever our own sessions go by.
        if !fixture.is_plain() {
            return;
        }
        // Session 1, which the requests name.
        let mut session = fixture.connect(&connector).await;
        let path = format!("/{}", fixture.row.name);
        for (request, statuses) in requests(&path) {
            let answer = send_raw(fixture.target.address, &request, statuses.contains(&"")).await;
            let status = answer.strip_prefix("HTTP/1.1 ").map_or("", |rest| &rest[..3]);
            let shown = request[..request.len().min(100)].escape_ascii();
            assert!(statuses.contains(&status), "{shown}: {answer:?}");
            assert!(answer.is_empty() || !status.is_empty(), "{shown}: {answer:?}");
        }
        assert_eq!(
            host.records(|r| r.received.len())[0],
            0,
            "nothing of that is a message"
        );
        session.tx.send(numbered(1)).await.unwrap();
        assert_eq!(receive(&mut session.rx, 1).await, [numbered(1)]);
    }
);

for_every_transport!(
    text_that_is_not_utf_8_is_refused,
    Config {
        echo: true,
        ..Config::default()
    },
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        let mut bad = fixture.connect(&connector).await;
        let text = Message {
            kind: pushmark_transport::Kind::Text,
            payload: bytes::Bytes::from_static(b"\xFF"),
        };
        assert!(bad.tx.send(text).await.is_err());
        session.tx.send(numbered(1)).await.unwrap();
        until(|| host.records(|r| r.received.len()) == [1, 0]).await;
    }
);
