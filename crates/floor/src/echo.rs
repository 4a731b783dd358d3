//! An echo client: sends on each connection on a schedule, reads what comes back.

use std::io::{self, Write};

use crate::args::Args;
use crate::net::{Epoll, MAGIC, open, raise_open_files, read_messages};
use crate::usage::{cpu_ns, now_ns};

pub(crate) fn run(args: &Args) -> io::Result<String> {
    raise_open_files();
    let mut streams = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        streams.push(open(args.address, args.framing)?);
    }
    let mut epoll = Epoll::new(&streams)?;
    let frame = masked_frame(args.payload_bytes);
    let mut buffer = vec![0; 65_536];
    let total = args.connections as u64 * args.rate_per_second * args.seconds;
    let (start, cpu) = (now_ns(), cpu_ns());
    let give_up = start + (args.seconds + 20) * 1_000_000_000;
    let (mut sent, mut seen) = (0u64, 0u64);
    // All connections together have one even schedule, each in its turn.
    let at = |index: u64| start + index * args.seconds * 1_000_000_000 / total.max(1);
    while seen < total && now_ns() < give_up {
        while sent < total && at(sent) <= now_ns() {
            let index = (sent % streams.len() as u64) as usize;
            streams[index].write_all(&frame)?;
            sent += 1;
        }
        // As precise as what it is compared with: a floor that sends a millisecond's messages at once has fewer wake-ups.
        if sent < total {
            epoll.wake_at(at(sent))?;
        }
        for index in epoll.wait(100)? {
            seen += read_messages(&mut streams[index], &mut buffer)?;
        }
    }
    let cpu = cpu_ns() - cpu;
    Ok(format!(
        "{{\"deliveries\":{seen},\"expected\":{total},\"cpu_ns\":{cpu}}}\n"
    ))
}

/// A client's frame, masked with zeros: as many bytes, and none to turn.
fn masked_frame(payload_bytes: usize) -> Vec<u8> {
    let mut payload = MAGIC.to_vec();
    payload.resize(payload_bytes.max(MAGIC.len()), b'x');
    let mut frame = vec![0x82];
    match payload.len() {
        n if n < 126 => frame.push(0x80 | n as u8),
        n if n < 65_536 => frame.extend([0x80 | 126, (n >> 8) as u8, n as u8]),
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
