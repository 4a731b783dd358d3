//! WebSocket: frames that no server may send, and the other way round.

use pushmark_transport::ErrorClass::{self, EndedEarly, Protocol, TooLarge};
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{CloseReason, Connector, Kind, Message, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{receive_to_end, run_alone, target, until};
use crate::host::{Config, TestHost};
use crate::script::{self, Then};

const OPENED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";

#[test]
fn a_wrong_handshake_is_a_protocol_error() {
    let replace = |from: &str, to: &str| String::from_utf8_lossy(OPENED).replace(from, to).into_bytes();
    run_alone(|| async move {
        for opening in [
            replace("{accept}", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            replace("Sec-WebSocket-Accept: {accept}\r\n", ""),
            replace("Upgrade: websocket\r\n", ""),
            replace("Connection: Upgrade\r\n", ""),
            replace("{accept}", "{accept}\r\nSec-WebSocket-Protocol: not-asked-for"),
        ] {
            let address = script::serve(vec![(opening, Then::Stay)]).await;
            let error = WsConnector::default()
                .connect(&target(address))
                .await
                .err()
                .unwrap();
            assert_eq!((error.step, error.class), (Step::Open, Protocol), "{error}");
        }
    });
}

#[test]
fn a_wrong_frame_has_a_class() {
    let large_ping = [&b"\x89\x7E\0\x7E"[..], &[b'a'; 126]].concat();
    let cases: &[(&[u8], Then, Result<(), ErrorClass>)] = &[
        (
            b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            Then::Stay,
            Err(TooLarge),
        ),
        (b"\x82\x7F\0\0\0\0\x40\0\0\0", Then::Stay, Err(TooLarge)),
        (b"\x01\x01a", Then::Repeat(b"\0\x01a".repeat(500)), Err(TooLarge)),
        (b"\xF1\x01a", Then::Stay, Err(Protocol)),
        (b"\x83\x01a", Then::Stay, Err(Protocol)),
        (b"\x8B\x01a", Then::Stay, Err(Protocol)),
        (b"\x81\x01\xFF", Then::Stay, Err(Protocol)),
        (b"\x01\x01\xC3\x80\x01a", Then::Stay, Err(Protocol)),
        (b"\x81\x81\0\0\0\0a", Then::Stay, Err(Protocol)),
        (b"\x80\x01a", Then::Stay, Err(Protocol)),
        (b"\x09\x01a", Then::Stay, Err(Protocol)),
        (&large_ping, Then::Stay, Err(Protocol)),
        (b"\x88\x01\x03", Then::Stay, Err(Protocol)),
        (b"\x81\x05cut", Then::Close, Err(EndedEarly)),
        (b"", Then::Close, Err(EndedEarly)),
        (b"\x88\0", Then::Close, Ok(())),
        (b"\x88\x02\x03\xE8", Then::Close, Ok(())),
        // A server that has said goodbye and leaves the connection open.
        (b"\x88\0", Then::Stay, Err(ErrorClass::LeftOpen)),
    ];
    run_alone(|| async {
        for (frames, then, wanted) in cases {
            let shown = frames.escape_ascii();
            // A message, a ping and a pong in the same segment come first.
            let script = [OPENED, b"\x81\x02ok\x89\0\x8A\0", frames].concat();
            let address = script::serve(vec![(script, then.clone())]).await;
            let mut target = target(address);
            target.max_message_bytes = 1_000;
            let mut session = WsConnector::default().connect(&target).await.unwrap();
            let (messages, end) = receive_to_end(&mut session.rx).await;
            assert_eq!(messages, [Message::text("ok")], "{shown}");
            assert_eq!(end.map_err(|e| e.class), *wanted, "{shown}");
        }
    });
}

#[test]
fn fragments_and_pings_between_them_make_one_message() {
    run_alone(|| async {
        let script = [OPENED, b"\x01\x03\xE2\x82\xAC\x89\x02hi\0\0\x80\x01!\x82\0"].concat();
        let address = script::serve(vec![(script, Then::Close)]).await;
        let mut session = WsConnector::default().connect(&target(address)).await.unwrap();
        let (messages, _) = receive_to_end(&mut session.rx).await;
        assert_eq!(
            messages,
            [
                Message::text("\u{20ac}!"),
                Message {
                    kind: Kind::Binary,
                    payload: "".into()
                }
            ]
        );
    });
}

#[test]
fn a_client_with_wrong_frames_ends_its_own_session() {
    const OPEN: &[u8] = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let cases: &[(&[u8], CloseReason)] = &[
        (b"\x81\x01a", CloseReason::Protocol),
        (b"\xF1\x81\0\0\0\0a", CloseReason::Protocol),
        (b"\x81\x81\0\0\0\0\xFF", CloseReason::Protocol),
        (
            b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0",
            CloseReason::Protocol,
        ),
        (b"\x81\x85\0\0\0\0cut", CloseReason::EndedEarly),
        (b"", CloseReason::EndedEarly),
        (b"\x88\x80\0\0\0\0", CloseReason::Client),
    ];
    run_alone(|| async {
        for (frames, reason) in cases {
            let host = TestHost::new(Config::default());
            let address = crate::host::serve(host.clone()).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            // In one segment with the handshake: the server must not lose what it has read too far.
            stream.write_all(&[OPEN, frames].concat()).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            until(|| !host.closed().is_empty()).await;
            assert_eq!(host.closed(), [*reason], "{}", frames.escape_ascii());
        }
    });
}
