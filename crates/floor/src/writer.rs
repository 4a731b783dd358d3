//! A writer: accepts connections, then writes each message to each of them, one system call a delivery.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::args::{Args, Framing};
use crate::net::{MAGIC, raise_open_files, read_head};
use crate::usage::{cpu_ns, now_ns, rss_kib};

pub(crate) fn run(args: &Args) -> io::Result<String> {
    raise_open_files();
    let listener = TcpListener::bind(args.address)?;
    writeln!(io::stdout(), "ready {}", listener.local_addr()?)?;
    io::stdout().flush()?;
    let mut streams = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        read_head(&mut stream)?;
        stream.write_all(head(args.framing).as_bytes())?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    std::thread::sleep(Duration::from_millis(args.settle_ms));
    let (rss, frame) = (rss_kib(), frame(args));
    let (start, cpu) = (now_ns(), cpu_ns());
    let messages = args.rate_per_second * args.seconds;
    let mut short = 0;
    for index in 0..messages {
        let at = start + index * 1_000_000_000 / args.rate_per_second;
        let now = now_ns();
        if at > now {
            std::thread::sleep(Duration::from_nanos(at - now));
        }
        for stream in &mut streams {
            short += u64::from(!is_whole(stream, &frame));
        }
    }
    let cpu = cpu_ns() - cpu;
    let written = messages * streams.len() as u64;
    // The reader still reads; it closes first.
    std::thread::sleep(Duration::from_millis(500));
    Ok(format!(
        "{{\"deliveries\":{written},\"short\":{short},\"cpu_ns\":{cpu},\"rss_kib\":{rss}}}\n"
    ))
}

fn is_whole(stream: &mut TcpStream, frame: &[u8]) -> bool {
    stream.write(frame).is_ok_and(|n| n == frame.len())
}

fn head(framing: Framing) -> &'static str {
    match framing {
        // The accept value for the sample nonce of RFC 6455, section 1.3, which our readers send.
        Framing::WebSocket => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        }
        Framing::EventStream => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        }
    }
}

/// One message as it stands on the wire.
fn frame(args: &Args) -> Vec<u8> {
    let mut payload = MAGIC.to_vec();
    payload.resize(args.payload_bytes.max(MAGIC.len()), b'x');
    match args.framing {
        Framing::WebSocket => {
            let mut frame = vec![0x81];
            match payload.len() {
                n if n < 126 => frame.push(n as u8),
                n if n < 65_536 => frame.extend([126, (n >> 8) as u8, n as u8]),
                n => {
                    frame.push(127);
                    frame.extend((n as u64).to_be_bytes());
                }
            }
            frame.extend(payload);
            frame
        }
        Framing::EventStream => {
            let event = [b"data: ", payload.as_slice(), b"\n\n"].concat();
            [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat()
        }
    }
}
