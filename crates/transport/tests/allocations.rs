//! No allocation for a message on the receive path: from the socket's bytes to the recorder, counted.
//!
//! # Why this file may be unsafe
//!
//! A global allocator is an unsafe trait to implement. This one hands every call on to the system's with the same arguments
//! and returns what that returns, so it keeps the contract because the system's does; beside that it adds one to a
//! thread's counter, which is a plain cell that is made without allocating and needs no drop.
#![allow(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pushmark_measure::{Nanos, Recorder, Sample, SequenceTracker, clock};
use pushmark_transport::seam::{Connector, Received};
use pushmark_transport::sse::SseConnector;
use pushmark_transport::sse::writer;
use pushmark_transport::stamp::{Found, Template};
use pushmark_transport::ws::{WsConnector, WsServer};
use pushmark_transport::{Inbox, Kind, Message, Rx, ServerHalf, Stamp, Target};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is ending counts no more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: see the head of this file.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Messages before those that count: buffers grow to what they need.
const WARM_UP: u64 = 5_000;
const MESSAGES: u64 = 25_000;
const PAYLOAD_BYTES: usize = 200;
/// Allocations a message from which on a test fails: a wait may set a timer now and then, a message may not cost anything.
const MOST: f64 = 0.01;

/// What a worker does with a message, as `loadgen::session` does it.
struct Accounting {
    recorder: Recorder,
    tracker: SequenceTracker,
    seen: u64,
    at_warm: Option<u64>,
}

impl Inbox for Accounting {
    fn deliver(&mut self, received: Received, _kind: Kind, payload: &[u8]) {
        let Found::Stamp(stamp) = Stamp::find(payload) else {
            panic!("a message without a stamp");
        };
        self.tracker.arrive(stamp.sequence);
        self.recorder.record(&Sample {
            intended: stamp.intended,
            sent: stamp.sent,
            received: received.at,
            kernel: received.kernel,
            payload_bytes: payload.len(),
        });
        self.seen += 1;
        if self.seen == WARM_UP {
            self.at_warm = Some(ALLOCATIONS.get());
        }
    }
}

/// A server on loopback that opens one session by `open` and writes all messages to it, as `encode` has them.
fn serve(
    open: impl FnOnce(&mut TcpStream) + Send + 'static,
    encode: impl Fn(&Message) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        open(&mut stream);
        let template = Template::new(Kind::Text, PAYLOAD_BYTES);
        let mut sequence = 0;
        let mut batch = Vec::new();
        // One message a write, and up to forty: what wake-ups bring.
        for size in (1..=40u64).cycle() {
            batch.clear();
            for _ in 0..size.min(MESSAGES - sequence) {
                let now = clock::now();
                let stamp = Stamp {
                    run: 1,
                    stream: 0,
                    sequence,
                    intended: now,
                    sent: now,
                };
                let message = Message {
                    kind: Kind::Text,
                    payload: template.stamped(&stamp),
                };
                batch.extend_from_slice(&encode(&message));
                sequence += 1;
            }
            if stream.write_all(&batch).is_err() || sequence == MESSAGES {
                break;
            }
        }
        // Open until the client has had enough.
        let _ = stream.read(&mut [0; 16]);
    });
    address
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Allocations a message, over all that came after the warm-up.
fn receive<C: Connector>(connector: C, address: SocketAddr, kernel_stamps: bool) -> f64 {
    let long = Duration::from_secs(30);
    let target = Target {
        address,
        source: None,
        kernel_stamps,
        sends: false,
        connect_deadline: long,
        open_deadline: long,
        usual_message_bytes: PAYLOAD_BYTES,
        max_message_bytes: 1 << 16,
        resume: None,
        tcp: Default::default(),
        carriage: Default::default(),
        in_process: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut connected = connector.connect(&target).await.unwrap();
        let mut recorder = Recorder::new(clock::now());
        recorder.set_window(Nanos(0)..Nanos::MAX);
        let mut inbox = Accounting {
            recorder,
            tracker: SequenceTracker::default(),
            seen: 0,
            at_warm: None,
        };
        while inbox.seen < MESSAGES {
            let came = tokio::time::timeout(long, connected.rx.recv(&mut inbox))
                .await
                .unwrap()
                .unwrap();
            assert!(came > 0, "the stream ended after {} messages", inbox.seen);
        }
        let at_warm = inbox.at_warm.unwrap();
        assert!(at_warm > 10, "nothing was counted: a connect allocates");
        let after = ALLOCATIONS.get() - at_warm;
        after as f64 / (MESSAGES - WARM_UP) as f64
    })
}

#[test]
fn an_event_stream_is_received_without_allocating() {
    for kernel_stamps in [false, true] {
        let open = |stream: &mut TcpStream| {
            head(stream);
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        };
        let chunk = |message: &Message| {
            // With an id, as streams have them that can be resumed.
            let event = writer::encode_with_id(message, Some(1_234_567));
            let mut chunk = format!("{:x}\r\n", event.len()).into_bytes();
            chunk.extend_from_slice(&event);
            chunk.extend_from_slice(b"\r\n");
            chunk
        };
        let each = receive(SseConnector::default(), serve(open, chunk), kernel_stamps);
        println!("sse, kernel stamps {kernel_stamps}: {each:.4} allocations a message");
        assert!(each < MOST, "{each} allocations a message");
    }
}

#[test]
fn a_websocket_is_received_without_allocating() {
    // The library gives out parts of its read buffer; lent and gone before the next read, they let it use the buffer again.
    for kernel_stamps in [false, true] {
        let open = |stream: &mut TcpStream| {
            let request = head(stream);
            let key = request
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .starts_with("sec-websocket-key:")
                        .then(|| line[18..].trim())
                })
                .unwrap();
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        };
        let frame = |message: &Message| <WsServer as ServerHalf>::encode(message, None).to_vec();
        let each = receive(WsConnector::default(), serve(open, frame), kernel_stamps);
        println!("ws, kernel stamps {kernel_stamps}: {each:.4} allocations a message");
        assert!(each < MOST, "{each} allocations a message");
    }
}
