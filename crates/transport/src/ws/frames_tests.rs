//! Frames against a library's, however they are cut.

use std::future::poll_fn;
use std::io::Cursor;

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::{Role as Side, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message as Ws, Utf8Bytes};

use super::*;
use crate::message::Message;
use crate::seam::Collected;

struct Plain(DuplexStream);

impl Notes for Plain {
    fn last_read(&self) -> Received {
        Received::default()
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn a_library_reads_what_is_written_here() {
    for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for message in [
            Message::text("é".repeat(length / 2)),
            Message::binary(vec![0xA7; length]),
        ] {
            let mut frames = Frames::of(Role::Client, Plain(duplex(1).0), &[], 2 << 20, None);
            frames.message(message.kind, &message.payload).unwrap();
            let wire = Cursor::new(frames.writer.unsent.clone());
            let config = WebSocketConfig::default().max_frame_size(None);
            let read = WebSocket::from_raw_socket(wire, Side::Server, Some(config))
                .read()
                .unwrap();
            assert_eq!(matches!(read, Ws::Text(_)), message.kind == Kind::Text);
            assert_eq!(read.into_data(), message.payload);
        }
    }
}

proptest! {
    /// What a library writes is read here, wherever the network cuts it.
    #[test]
    fn what_a_library_writes_is_read_however_it_is_cut(
        lengths in proptest::collection::vec(0usize..70_000, 1..6),
        cuts in proptest::collection::vec(1usize..5_000, 1..50),
        early in 0usize..100,
    ) {
        let messages: Vec<Ws> = lengths
            .iter()
            .enumerate()
            .map(|(k, length)| match k % 3 {
                0 => Ws::Text(Utf8Bytes::from("x".repeat(*length))),
                1 => Ws::Binary(vec![k as u8; *length].into()),
                _ => Ws::Ping(vec![1; *length % 126].into()),
            })
            .collect();
        let mut library = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Side::Server, None);
        for message in &messages {
            library.send(message.clone()).unwrap();
        }
        library.close(None).unwrap();
        let wire = library.get_ref().get_ref().clone();
        let early = early.min(wire.len());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (got, pongs) = runtime.block_on(async {
            let (ours, mut theirs) = duplex(1 << 20);
            let mut frames = Frames::of(Role::Client, Plain(ours), &wire[..early], 1 << 20, None);
            let mut got = Collected::default();
            frames.read_early(&mut got).unwrap();
            let mut at = early;
            for cut in cuts.iter().cycle() {
                if at >= wire.len() { break; }
                let end = (at + cut).min(wire.len());
                theirs.write_all(&wire[at..end]).await.unwrap();
                poll_fn(|cx| frames.poll_read(cx, &mut got)).await.unwrap();
                at = end;
            }
            assert!(frames.peer_has_closed());
            (got.0, frames.writer.masks - 1)
        });
        let wanted: Vec<Vec<u8>> = messages.iter().filter(|m| !m.is_ping()).map(|m| m.clone().into_data().to_vec()).collect();
        let read: Vec<Vec<u8>> = got.into_iter().map(|(_, m)| m.payload.to_vec()).collect();
        prop_assert_eq!(read, wanted);
        prop_assert_eq!(pongs, messages.iter().filter(|m| m.is_ping()).count() as u64);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut frames = Frames::of(Role::Client, Plain(duplex(1).0), &bytes, 1_000, None);
        let mut got = Collected::default();
        let _ = frames.read_early(&mut got);
        prop_assert!(frames.reader.rest.len() <= bytes.len());
    }
}

/// What a server with the extension agreed on makes of bytes: the messages, what the client paid for them, and how it ended.
fn read_by_server(
    wire: &[u8],
    most: usize,
    asked: &Compression,
) -> (Counting, Result<usize, TransportError>) {
    let mut frames = Frames::of(Role::Server, Plain(duplex(1).0), wire, most, Some(asked));
    let mut got = Counting::default();
    let read = frames.read_early(&mut got);
    let read = match frames.failed.take() {
        Some(e) => Err(e),
        None => read,
    };
    (got, read)
}

#[derive(Default)]
struct Counting {
    messages: Collected,
    inflated: Vec<(usize, usize)>,
    compressed: Vec<bool>,
}

impl Inbox for Counting {
    fn deliver(&mut self, received: Received, kind: Kind, payload: &[u8]) {
        self.messages.deliver(received, kind, payload);
    }

    fn inflated(&mut self, _: Received, payload_bytes: usize, stream_bytes: usize) {
        self.inflated.push((payload_bytes, stream_bytes));
    }

    fn agreed_deflate(&mut self, _: Received, is_compressed: bool) {
        self.compressed.push(is_compressed);
    }
}

/// A frame of a client, unmasked by a mask of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

const HELLO: &[u8] = &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];

#[test]
fn the_standards_frames_are_read() {
    // RFC 7692, section 7.2.3.1, whole and in fragments; then 7.2.3.2, which refers back.
    let wire = [
        masked(0xC1, HELLO),
        masked(0x41, &HELLO[..3]),
        masked(0x89, b"ping"),
        masked(0x80, &HELLO[3..]),
        masked(0xC1, &[0xF2, 0x00, 0x11, 0x00, 0x00]),
        masked(0x81, b"plain"),
        masked(0xC1, &[0x00]),
    ]
    .concat();
    let (got, read) = read_by_server(&wire, 5, &Compression::default());
    assert_eq!(read.unwrap(), 5);
    let texts: Vec<_> = got.messages.0.iter().map(|(_, m)| m.clone()).collect();
    assert_eq!(texts, ["Hello", "Hello", "Hello", "plain", ""].map(Message::text));
    assert_eq!(got.inflated, [(5, 7), (5, 7), (5, 5), (5, 5), (0, 1)]);
    assert_eq!(got.compressed, [true, true, true, false, true]);
}

/// A compressor that has failed leaves a window that the peer does not have.
#[test]
fn nothing_goes_out_of_a_compressor_that_failed() {
    let asked = Compression::default();
    let mut frames = Frames::of(Role::Client, Plain(duplex(1).0), &[], 1_000, Some(&asked));
    frames.writer.deflate = Some(Box::new(Compressor::broken()));
    let e = frames.message(Kind::Text, b"Hello").unwrap_err();
    assert_eq!((e.step, frames.has_unsent()), (Step::Send, false));
}

#[test]
fn what_breaks_the_extension_has_its_class() {
    let (mut bomb, asked) = (Vec::new(), Compression::default());
    Compressor::new(asked.up, 9).message(&[0; 20_000], &mut bomb);
    assert!(bomb.len() < 126);
    for (wire, class, words) in [
        (masked(0xC1, &[0x07]), ErrorClass::Protocol, "corrupt"),
        (masked(0xC1, &[0xFF; 20]), ErrorClass::Protocol, "corrupt"),
        (masked(0xC1, &bomb), ErrorClass::TooLarge, "1000 bytes"),
        (masked(0xC9, b"ping"), ErrorClass::Protocol, "control frame"),
        (
            [masked(0x41, &HELLO[..3]), masked(0xC0, &HELLO[3..])].concat(),
            ErrorClass::Protocol,
            "later fragment",
        ),
        (masked(0xA1, HELLO), ErrorClass::Protocol, "reserved bit"),
        (masked(0xD1, HELLO), ErrorClass::Protocol, "reserved bit"),
        (vec![0xC1, 7], ErrorClass::Protocol, "without a mask"),
        (
            masked(0xC1, &[0x00, 0x01, 0x00, 0xFE, 0xFF, 0xFF, 0x00]),
            ErrorClass::Protocol,
            "UTF-8",
        ),
    ] {
        let (got, read) = read_by_server(&wire, 1_000, &asked);
        let e = read.unwrap_err();
        assert_eq!((e.class, got.messages.0.len()), (class, 0), "{e}");
        assert!(e.detail.contains(words), "{e}");
    }
    // Nobody agreed on anything.
    let wire = [&[0xC1, 0x07], HELLO].concat();
    let mut frames = Frames::of(Role::Client, Plain(duplex(1).0), &wire, 1_000, None);
    let e = frames.read_early(&mut Collected::default()).unwrap_err();
    assert_eq!(e.class, ErrorClass::Protocol);
    assert!(e.detail.contains("no extension"), "{e}");
}

/// Frames of a few bytes that inflate to a thousand times as much are read in many turns, and all of them.
#[test]
fn what_is_inflated_in_one_turn_has_its_bound() {
    const COUNT: usize = 500;
    let (mut small, asked) = (Vec::new(), Compression::default());
    Compressor::new(asked.up, 9).message(&[0; 20_000], &mut small);
    let wire = masked(0xC1, &small).repeat(COUNT);
    let mut frames = Frames::of(Role::Server, Plain(duplex(1).0), &wire, 20_000, Some(&asked));
    let mut got = Counting::default();
    frames.read_early(&mut got).unwrap();
    let (mut turns, mut before) = (1, 0);
    let mut nobody = Context::from_waker(std::task::Waker::noop());
    loop {
        let delivered = got.messages.0.len();
        assert!((delivered - before) * 20_000 <= MOST_INFLATED_BYTES + 20_000);
        if !frames.holds_back() {
            break;
        }
        (turns, before) = (turns + 1, delivered);
        assert!(matches!(
            frames.poll_read(&mut nobody, &mut got),
            Poll::Ready(Ok(Read::Messages(1..)))
        ));
    }
    assert_eq!(got.messages.0.len(), COUNT);
    assert_eq!(turns, COUNT.div_ceil(MOST_INFLATED_BYTES / 20_000 + 1));
}

proptest! {
    /// What a client writes a server reads, with or without what came before, wherever it is cut.
    #[test]
    fn what_is_deflated_is_read_however_it_is_cut(
        lengths in proptest::collection::vec(0usize..70_000, 1..6),
        step in 1usize..5_000,
        takeover: bool,
        bits in 9u8..=15,
    ) {
        let window = crate::compression::Window { takeover, bits };
        let asked = Compression { down: window, up: window, level: 6 };
        let mut client = Frames::of(Role::Client, Plain(duplex(1).0), &[], 1 << 20, Some(&asked));
        let messages: Vec<Message> = lengths
            .iter()
            .enumerate()
            .map(|(k, length)| match k % 2 {
                0 => Message::text("some words ".repeat(length / 11)),
                _ => Message::binary((0..*length).map(|i| (i * i / 7) as u8).collect::<Vec<u8>>()),
            })
            .collect();
        for message in &messages {
            client.message(message.kind, &message.payload).unwrap();
        }
        client.close();
        let wire = client.writer.unsent.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let got = runtime.block_on(async {
            let (ours, mut theirs) = duplex(1 << 20);
            let mut frames = Frames::of(Role::Server, Plain(ours), &[], 1 << 20, Some(&asked));
            let mut got = Collected::default();
            for piece in wire.chunks(step) {
                theirs.write_all(piece).await.unwrap();
                poll_fn(|cx| frames.poll_read(cx, &mut got)).await.unwrap();
            }
            assert!(frames.peer_has_closed());
            got.0
        });
        let read: Vec<Message> = got.into_iter().map(|(_, m)| m).collect();
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_where_they_may_be_deflated(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        takeover: bool,
    ) {
        let window = crate::compression::Window { takeover, bits: 15 };
        let asked = Compression { down: window, up: window, level: 6 };
        let (got, _) = read_by_server(&bytes, 1_000, &asked);
        prop_assert!(got.messages.0.iter().all(|(_, m)| m.payload.len() <= 1_000));
        let wire = masked(0xC2, &bytes[..bytes.len().min(125)]);
        let _ = read_by_server(&wire, 1_000, &asked);
    }
}
