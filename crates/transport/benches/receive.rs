//! What one message costs on its way in and out, piece by piece: `cargo bench -p pushmark-transport`.
//!
//! To compare with: a bare epoll reader takes some 3,400 ns a delivery, nearly all of it in the kernel (`scripts/bench-floor`).
//! All pieces of one delivery together are to stay a small part of that.
#![allow(missing_docs, reason = "criterion makes public items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pushmark_measure::{Nanos, clock};
use pushmark_transport::sse::parser::{Event, EventSink, Parser};
use pushmark_transport::sse::writer;
use pushmark_transport::stamp::{STAMP_BYTES, Template};
use pushmark_transport::{Kind, Message, Stamp, registry};

const PAYLOAD_BYTES: usize = 200;

fn stamp() -> Stamp {
    Stamp {
        run: 7,
        stream: 3,
        sequence: 123_456,
        intended: Nanos(1 << 40),
        sent: Nanos((1 << 40) + 5_000),
    }
}

fn message() -> Message {
    Message {
        kind: Kind::Text,
        payload: Template::new(Kind::Text, PAYLOAD_BYTES).stamped(&stamp()),
    }
}

/// Against a copy of as many bytes, which is the least that making a payload can cost.
fn stamps(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    let template = Template::new(Kind::Text, PAYLOAD_BYTES);
    let payload = message().payload;
    let mut token = [0; STAMP_BYTES];
    group.bench_function("write", |b| {
        b.iter(|| black_box(stamp()).write(black_box(&mut token)))
    });
    group.bench_function("payload with stamp", |b| {
        b.iter(|| template.stamped(black_box(&stamp())))
    });
    group.bench_function("payload copied", |b| b.iter(|| black_box(&payload[..]).to_vec()));
    group.bench_function("find at the start", |b| {
        b.iter(|| Stamp::find(black_box(&payload)))
    });
    let wrapped = [
        &b"{\"event\":\"tick\",\"topic\":\"a/b/c\",\"data\":\""[..],
        &payload,
        b"\"}",
    ]
    .concat();
    group.bench_function("find within JSON", |b| {
        b.iter(|| Stamp::find(black_box(&wrapped)))
    });
    group.finish();
}

struct Counted(usize);

impl EventSink for Counted {
    fn event(&mut self, event: Event<'_>) {
        self.0 += event.data.len();
    }
}

/// Against a search for the line ends of as many bytes: what any parser has to do at least.
fn event_streams(c: &mut Criterion) {
    const EVENTS: usize = 40;
    let chunk = writer::encode(&message()).repeat(EVENTS);
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("parse", |b| {
        let mut parser = Parser::new(1 << 16);
        let mut seen = Counted(0);
        b.iter(|| parser.feed(black_box(&chunk), &mut seen));
    });
    group.bench_function("parse, cut in two", |b| {
        let mut parser = Parser::new(1 << 16);
        let mut seen = Counted(0);
        let (first, second) = chunk.split_at(chunk.len() / 2 + 30);
        b.iter(|| {
            parser
                .feed(black_box(first), &mut seen)
                .and_then(|()| parser.feed(black_box(second), &mut seen))
        });
    });
    group.bench_function("line ends alone", |b| {
        b.iter(|| memchr::memchr_iter(b'\n', black_box(&chunk)).count());
    });
    group.finish();
}

/// What a fan-out does once a message and transport, whatever the number of sessions: against a copy of the payload.
fn encoders(c: &mut Criterion) {
    let message = message();
    let mut group = c.benchmark_group("encode");
    for (row, encode) in registry::ROWS.iter().zip(registry::ENCODERS) {
        if let Some(encode) = encode {
            group.bench_function(row.name, |b| b.iter(|| encode(black_box(&message), None)));
        }
    }
    group.finish();
}

/// Two reads a wake-up and one a message sent: against nothing, it is what all stamps rest on.
fn clocks(c: &mut Criterion) {
    c.bench_function("clock read", |b| b.iter(clock::now));
}

criterion_group!(benches, stamps, event_streams, encoders, clocks);
criterion_main!(benches);
