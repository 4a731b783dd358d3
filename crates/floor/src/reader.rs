//! A reader: opens connections, reads what comes, counts it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::args::Args;
use crate::net::{Epoll, open, raise_open_files, read_messages};
use crate::usage::{cpu_ns, now_ns, rss_kib};

pub(crate) fn run(args: &Args) -> io::Result<String> {
    raise_open_files();
    let rss_before = rss_kib();
    let opened_at = now_ns();
    let mut streams = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        streams.push(open(args.address, args.framing)?);
    }
    let open_ns = now_ns() - opened_at;
    let mut epoll = Epoll::new(&streams)?;
    std::thread::sleep(Duration::from_millis(args.settle_ms));
    let rss_after = rss_kib();
    let served = if args.publish {
        publish(args)?;
        Some(server_cpu_ns(args)?)
    } else {
        None
    };
    let expected = args.connections as u64 * args.rate_per_second * args.seconds;
    let mut buffer = vec![0; 65_536];
    let (mut seen, mut first) = (0, None);
    let give_up = now_ns() + (args.seconds + 20) * 1_000_000_000;
    let mut cpu_end = cpu_ns();
    while seen < expected && now_ns() < give_up {
        for index in epoll.wait(1_000)? {
            seen += read_messages(&mut streams[index], &mut buffer)?;
            first.get_or_insert_with(cpu_ns);
        }
        cpu_end = cpu_ns();
    }
    let cpu = cpu_end - first.unwrap_or(cpu_end);
    let server = match served {
        Some(before) => format!(",\"server_cpu_ns\":{}", server_cpu_ns(args)? - before),
        None => String::new(),
    };
    Ok(format!(
        "{{\"deliveries\":{seen},\"expected\":{expected},\"cpu_ns\":{cpu},\"open_ns\":{open_ns},\"rss_kib\":{}{server}}}\n",
        rss_after - rss_before
    ))
}

/// What a pushmark server says it has used.
fn server_cpu_ns(args: &Args) -> io::Result<u64> {
    let mut stream = TcpStream::connect(args.address)?;
    write!(
        stream,
        "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let stats: serde_json::Value = serde_json::from_str(body).map_err(io::Error::other)?;
    let number = |key: &str| stats[key].as_u64().unwrap_or(0);
    Ok(number("cpu_user_ns") + number("cpu_system_ns"))
}

/// Asks a pushmark server to publish, and waits for its answer.
fn publish(args: &Args) -> io::Result<()> {
    let start = now_ns() + 200_000_000;
    let end = start + args.seconds * 1_000_000_000;
    let (rate, payload) = (args.rate_per_second, args.payload_bytes);
    let body = format!(
        "{{\"run\":1,\"schedule\":{{\"start\":{start},\"end\":{end},\"rate\":{{\"count\":{rate},\"per_ns\":1000000000}},\
         \"pattern\":\"uniform\",\"seed\":1,\"stream\":0,\"staggered\":false}},\"kind\":\"text\",\
         \"payload_bytes\":{payload},\"measured\":{{\"start\":{start},\"end\":{end}}}}}\n"
    );
    let mut stream = TcpStream::connect(args.address)?;
    write!(
        stream,
        "POST /control/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(io::Error::other(format!("the server does not publish: {answer}")))
}
