//! Delivery: every payload, whole, once, in order, both ways, and never before it was sent.

use std::collections::HashSet;
use std::time::Duration;

use pushmark_measure::clock;
use pushmark_transport::seam::Collected;
use pushmark_transport::{Connector, Message, Rx, Tx, registry};

use crate::fixture::{Case, Fixture, for_every_transport, numbered, numbers, receive, settle, until};
use crate::host::Config;
use crate::relay::{Plan, Relay};

const MEBIBYTE: usize = 1 << 20;

fn echo() -> Config {
    Config {
        echo: true,
        ..Config::default()
    }
}

/// Payloads that one transport or another has a reason to get wrong.
fn payloads() -> Vec<Message> {
    let texts = [
        "",
        " ",
        " leading and trailing ",
        "line\nfeed",
        "\n",
        "\n\n\n",
        "ends with a line feed\n",
        "\nstarts with one",
        "carriage\rreturn",
        "\r\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "nul \0 nul",
        "\u{FEFF}byte order mark",
        "emoji 🦀🇩🇪👩‍👩‍👧 and \u{10FFFF}",
        "\u{85}\u{2028}\u{2029}\u{B}\u{C}",
        "data: not a field\n\ndata: nor this\n\n",
        "event: b64\ndata: AAAA\n\n",
        ": not a comment",
        "AAAA",
        "t\0\0\0\x01x",
        "{\"json\": \"\\u0000\"}",
    ];
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut payloads: Vec<_> = texts.into_iter().map(Message::text).collect();
    payloads.push(Message::binary(&b""[..]));
    payloads.push(Message::binary(&b"\r\n\0\xFF"[..]));
    payloads.extend((0..4).map(|n| Message::binary(all_bytes[n..].to_vec())));
    payloads.push(Message::binary(all_bytes.repeat(MEBIBYTE / 256)));
    payloads.push(Message::text("0123456789abcde\n".repeat(MEBIBYTE / 16)));
    payloads.push(Message::text("\n".repeat(10_000)));
    payloads.push(Message::text("x".repeat(MEBIBYTE)));
    payloads.push(Message::text("after the large ones"));
    payloads
}

for_every_transport!(
    every_payload_comes_down_as_it_was,
    Config::default(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        for message in payloads() {
            fixture.publish(&message);
            assert!(receive(&mut session.rx, 1).await == [message]);
        }
    }
);

for_every_transport!(
    every_payload_comes_back_as_it_was_sent,
    echo(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        for message in payloads() {
            session.tx.send(message.clone()).await.unwrap();
            assert!(receive(&mut session.rx, 1).await == [message]);
        }
    }
);

for_every_transport!(
    payloads_that_wait_together_stay_apart,
    Config::default(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        let messages = payloads();
        for message in &messages {
            fixture.publish(message);
        }
        assert!(receive(&mut session.rx, messages.len()).await == messages);
    }
);

for_every_transport!(
    every_payload_passes_a_byte_at_a_time,
    echo(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        let relay = Relay::start(fixture.target.address, Plan::default()).await;
        let mut target = fixture.target.clone();
        target.address = relay.address;
        let mut session = connector.connect(&target).await.unwrap();
        relay.drip();
        for message in payloads().into_iter().filter(|m| m.payload.len() < 1_000) {
            session.tx.send(message.clone()).await.unwrap();
            assert_eq!(receive(&mut session.rx, 1).await, [message]);
        }
    }
);

for_every_transport!(order_is_kept_down, Config::default(), |connector, fixture| {
    let mut session = fixture.connect(&connector).await;
    let mut got = Vec::new();
    // Rounds of many sizes, so that messages meet a receiver that waits, and one that is late.
    for round in 0..60 {
        let (from, count) = (got.len(), 1 + round * 7 % 50);
        for number in from..from + count {
            fixture.publish(&numbered(number));
        }
        got.extend(numbers(&receive(&mut session.rx, count).await));
    }
    assert!(got.iter().copied().eq(0..got.len()));
});

for_every_transport!(order_is_kept_up_and_back, echo(), |connector, fixture| {
    const COUNT: usize = 500;
    let mut session = fixture.connect(&connector).await;
    let sender = async {
        for number in 0..COUNT {
            session.tx.send(numbered(number)).await.unwrap();
        }
    };
    let ((), got) = tokio::join!(sender, receive(&mut session.rx, COUNT));
    assert!(numbers(&got).into_iter().eq(0..COUNT));
    if let Some(host) = fixture.host() {
        assert_eq!(
            host.records(|r| numbers(&r.received)),
            [(0..COUNT).collect::<Vec<_>>()]
        );
    }
});

for_every_transport!(
    what_came_together_has_one_arrival_time,
    Config::default(),
    |connector, fixture| {
        const COUNT: usize = 20;
        let mut session = fixture.connect(&connector).await;
        // Small enough for one read of any transport's buffer.
        for number in 0..COUNT {
            fixture.publish(&numbered(number));
        }
        settle().await;
        let read_from = clock::now();
        let (mut inbox, mut wakeups) = (Collected::default(), 0);
        while inbox.0.len() < COUNT {
            let before = inbox.0.len();
            session.rx.recv(&mut inbox).await.unwrap();
            wakeups += 1;
            assert!(inbox.0[before..].iter().all(|(at, _)| *at == inbox.0[before].0));
        }
        // At most: what was in flight when the first was published, and all the rest.
        assert!(wakeups <= 2, "{wakeups} wake-ups");
        assert!(
            inbox
                .0
                .iter()
                .all(|(read, _)| read.at >= read_from && read.at <= clock::now())
        );
    }
);

for_every_transport!(
    the_kernel_stamps_what_waited_for_a_receiver,
    Config::default(),
    |connector, fixture| {
        const WAIT: Duration = Duration::from_millis(15);
        let Some(_) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        // The kernel begins to stamp a moment after it was asked for it, so the first may come without.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut inbox = Collected::default();
        // On a busy machine the server may have its turn late: five times at least, and until one message has waited.
        let (mut number, mut one_waited) = (0, false);
        while number < 5 || !one_waited {
            let published = clock::now();
            fixture.publish(&numbered(number));
            // The server has its turn, the receiver has not: it waits in the kernel.
            tokio::time::sleep(WAIT).await;
            session.rx.recv(&mut inbox).await.unwrap();
            let (read, _) = &inbox.0[number];
            let kernel = read.kernel.unwrap();
            // The wall clock is placed within some microseconds.
            assert!(kernel + Duration::from_micros(10) >= published);
            assert!(kernel <= read.at, "never later than the read");
            one_waited |= read.at.duration_since(kernel) >= WAIT / 2;
            number += 1;
        }
        let mut target = fixture.target.clone();
        target.kernel_stamps = false;
        let mut unstamped = connector.connect(&target).await.unwrap();
        fixture.publish(&numbered(9));
        let mut inbox = Collected::default();
        unstamped.rx.recv(&mut inbox).await.unwrap();
        assert_eq!(inbox.0[0].0.kernel, None, "it was not asked for");
    }
);

for_every_transport!(sessions_are_apart, echo(), |connector, fixture| {
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(fixture.connect(&connector).await);
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        session.tx.send(numbered(number)).await.unwrap();
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        assert_eq!(receive(&mut session.rx, 1).await, [numbered(number)]);
    }
    fixture.publish(&Message::text("to all"));
    for session in &mut sessions {
        assert_eq!(receive(&mut session.rx, 1).await, [Message::text("to all")]);
    }
});

for_every_transport!(
    a_connect_has_its_times_in_order,
    Config::default(),
    |connector, fixture| {
        let before = clock::now();
        let times = fixture.connect(&connector).await.times;
        let all = [
            before,
            times.started,
            times.tcp_connected,
            times.usable,
            clock::now(),
        ];
        assert!(all.is_sorted(), "{all:?}");
    }
);

/// Published on a thread of its own while this one receives: only there can a message be received before it was sent,
/// if its arrival time is taken too early.
#[test]
fn no_message_is_received_before_it_was_sent() {
    #[derive(Clone, Copy)]
    struct Flood;
    impl Case for Flood {
        async fn run<C: Connector>(self, connector: C, fixture: Fixture) {
            const COUNT: usize = 20_000;
            let Some(host) = fixture.host() else { return };
            let mut session = fixture.connect(&connector).await;
            let publisher = std::thread::spawn(move || {
                for number in 0..COUNT {
                    let sent = clock::now().0;
                    // Large enough for a wake-up to take many reads, during which more is sent.
                    host.publish(&Message::text(format!("{number} {sent} {}", "x".repeat(1_000))));
                    if number % 1_000 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            let mut inbox = Collected::default();
            while inbox.0.len() < COUNT {
                assert!(session.rx.recv(&mut inbox).await.unwrap() > 0);
            }
            publisher.join().unwrap();
            let mut last = clock::Nanos::default();
            for (number, (received, message)) in inbox.0.iter().enumerate() {
                let text = std::str::from_utf8(&message.payload).unwrap();
                let mut words = text.split(' ').map(|word| word.parse().ok());
                assert_eq!(
                    words.next(),
                    Some(Some(number as u64)),
                    "lost, repeated or out of order"
                );
                let sent = words.next().flatten().unwrap();
                assert!(
                    received.at.0 >= sent,
                    "received {} ns before it was sent",
                    sent - received.at.0
                );
                assert!(received.at >= last, "arrival times go back");
                last = received.at;
            }
        }
    }
    crate::fixture::run_threaded(
        "no_message_is_received_before_it_was_sent",
        Flood,
        Config::default(),
    );
}

for_every_transport!(
    a_message_counts_as_written_once,
    Config::default(),
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let mut session = fixture.connect(&connector).await;
        for number in 0..100 {
            fixture.publish(&numbered(number));
        }
        receive(&mut session.rx, 100).await;
        until(|| host.records(|r| r.written) == [100]).await;
        settle().await;
        assert_eq!(host.records(|r| r.written), [100]);
    }
);

#[test]
fn rows_say_what_holds() {
    for (row, encoder) in registry::ROWS.iter().zip(registry::ENCODERS) {
        assert_eq!(row.in_process, encoder.is_none(), "{}", row.name);
        assert!(!row.carriers.is_empty());
        assert_eq!(registry::row(row.name), Some(row));
        if !row.in_process {
            let index = registry::row_of_path(&format!("/{}", row.name));
            assert_eq!(registry::ROWS.get(index), Some(row), "a path is the row's name");
        }
    }
    let names: HashSet<_> = registry::ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), registry::ROWS.len());
    assert!(registry::row("carrier-pigeon").is_none());
}
