//! Limits: outboxes that are full, messages that are too large, servers that take no more.

use std::time::Duration;

use pushmark_transport::carrier::Http;
use pushmark_transport::{CloseReason, ErrorClass, Message, Rx, Step, Tx, WhenFull};

use crate::fixture::{
    Fixture, Peer, assert_lost, for_every_transport, numbered, numbers, receive, receive_to_end, settle,
    until,
};
use crate::host::{Config, TestHost};

const OUTBOX_MESSAGES: usize = 4;
/// Together far more than all buffers between two sockets hold.
const COUNT: usize = 500;
const MESSAGE_BYTES: usize = 64 * 1024;

fn small_outbox(when_full: WhenFull) -> Config {
    Config {
        outbox_messages: OUTBOX_MESSAGES,
        when_full,
        ..Config::default()
    }
}

/// Publishes more than a client that does not read can be sent. The server gets its turn after each.
async fn flood(fixture: &Fixture, host: &TestHost) {
    for number in 0..COUNT {
        let filler = "x".repeat(MESSAGE_BYTES);
        fixture.publish(&Message::text(format!("{number} {filler}")));
        settle_a_little().await;
        for waiting in host.records(|r| r.session.outbox.waiting()) {
            assert!(waiting <= OUTBOX_MESSAGES, "{waiting} wait");
        }
    }
}

async fn settle_a_little() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

for_every_transport!(
    the_last_message_before_a_writer_blocks_arrives,
    Config {
        absence_deadline: Duration::from_millis(150),
        ..Config::default()
    },
    |connector, fixture| {
        let Some(host) = fixture.uncompressed_host() else {
            return;
        };
        let message = Message::binary(vec![7; 8 * 1024]);
        // How many messages fill all that is between two sockets; then a few less, so that the last ones are taken by the
        // writer but not by its socket, and no message follows that would push them out.
        let mut most = usize::MAX;
        for less in 0..6 {
            let mut session = fixture.connect(&connector).await;
            let mut published = 0;
            while published < most.saturating_sub(less) {
                host.publish(&message);
                published += 1;
                settle_a_little().await;
                if most == usize::MAX && host.waiting() > 0 {
                    break;
                }
            }
            most = most.min(published);
            receive(&mut session.rx, published).await;
            drop(session);
            until(|| host.closed().len() == less + 1).await;
        }
    }
);

for_every_transport!(
    a_slow_reader_misses_the_oldest,
    small_outbox(WhenFull::DropOldest),
    |connector, fixture| {
        let Some(host) = fixture.uncompressed_host() else {
            return;
        };
        let mut session = fixture.connect(&connector).await;
        flood(&fixture, &host).await;
        let dropped = host.records(|r| r.dropped)[0];
        assert!(dropped > 0, "a slow reader must be noticed");
        let got = numbers(&receive(&mut session.rx, COUNT - dropped).await);
        assert!(got.is_sorted_by(|a, b| a < b));
        assert_eq!(got[0], 0);
        // The newest are there, all but the one place that a message half way out may hold.
        let newest = COUNT - (OUTBOX_MESSAGES - 1)..COUNT;
        assert_eq!(&got[got.len() - newest.len()..], newest.collect::<Vec<_>>());
        fixture.publish(&numbered(COUNT));
        assert_eq!(
            receive(&mut session.rx, 1).await,
            [numbered(COUNT)],
            "the session goes on"
        );
    }
);

for_every_transport!(
    a_slow_reader_misses_the_newest,
    small_outbox(WhenFull::DropNewest),
    |connector, fixture| {
        let Some(host) = fixture.uncompressed_host() else {
            return;
        };
        let mut session = fixture.connect(&connector).await;
        flood(&fixture, &host).await;
        let dropped = host.records(|r| r.dropped)[0];
        assert!(dropped > 0, "a slow reader must be noticed");
        let got = numbers(&receive(&mut session.rx, COUNT - dropped).await);
        assert!(got.into_iter().eq(0..COUNT - dropped), "what came first is there");
        fixture.publish(&numbered(COUNT));
        assert_eq!(
            receive(&mut session.rx, 1).await,
            [numbered(COUNT)],
            "the session goes on"
        );
    }
);

for_every_transport!(
    a_slow_reader_is_cut_off,
    small_outbox(WhenFull::Disconnect),
    |connector, fixture| {
        let Some(host) = fixture.uncompressed_host() else {
            return;
        };
        let mut slow = fixture.connect(&connector).await;
        flood(&fixture, &host).await;
        // The client still does not read: the server's side ends all the same.
        fixture.closed(CloseReason::SlowReader).await;
        assert_eq!(
            host.records(|r| r.dropped),
            [1],
            "the one that found the outbox full"
        );
        let (messages, end) = receive_to_end(&mut slow.rx).await;
        assert!(numbers(&messages).into_iter().eq(0..messages.len()));
        // A poll that finds its session gone says so; where the connection was the session's own, it is gone too.
        let shared = fixture.target.carriage.carrier.http() == Http::Http2;
        match end {
            Err(e) if shared && e.class == ErrorClass::Status(404) => {}
            end => assert_lost(end),
        }
    }
);

#[test]
fn an_in_process_reader_that_is_too_slow_misses_the_newest() {
    use pushmark_transport::null::{NullConnector, Peer as NullPeer};
    crate::fixture::run_alone(|| async {
        const CAPACITY: usize = 65_536;
        let peer = NullPeer::default();
        let mut target = crate::fixture::target(([127, 0, 0, 1], 0).into());
        target.in_process = Some(peer.clone());
        let connector = NullConnector;
        let mut session = pushmark_transport::Connector::connect(&connector, &target)
            .await
            .unwrap();
        for number in 0..CAPACITY + 10 {
            peer.publish(&numbered(number));
        }
        assert_eq!(peer.dropped(), 10);
        let got = receive(&mut session.rx, CAPACITY).await;
        assert!(numbers(&got).into_iter().eq(0..CAPACITY));
    });
}

for_every_transport!(
    a_message_up_is_too_large,
    Config {
        max_message_bytes: 1_000,
        ..Config::default()
    },
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let mut other = fixture.connect(&connector).await;
        let mut session = fixture.connect(&connector).await;
        session.tx.send(Message::binary(vec![7; 1_000])).await.unwrap();
        until(|| host.records(|r| r.received.len()) == [0, 1]).await;
        // Either the send is refused, or the session ends for it.
        match session.tx.send(Message::binary(vec![7; 1_001])).await {
            Err(e) => assert_eq!((e.step, e.class), (Step::Send, ErrorClass::Status(413))),
            Ok(()) => {
                let (messages, end) = receive_to_end(&mut session.rx).await;
                assert!(messages.is_empty() && end.is_err());
                fixture.closed(CloseReason::Protocol).await;
            }
        }
        settle().await;
        assert_eq!(host.records(|r| r.received.len()), [0, 1]);
        other.tx.send(numbered(1)).await.unwrap();
        until(|| host.records(|r| r.received.len()) == [1, 1]).await;
    }
);

for_every_transport!(
    a_message_down_is_too_large,
    Config::default(),
    |connector, mut fixture| {
        let Peer::Server(_) = fixture.peer else { return };
        fixture.target.max_message_bytes = 1_000;
        for message in [
            Message::binary(vec![7; 1_001]),
            Message::text("x".repeat(1_001)),
            Message::text("\n".repeat(1_001)),
            Message::text("\r".repeat(1_001)),
            Message::binary(vec![7; 1 << 20]),
            Message::text("x".repeat(1 << 20)),
        ] {
            let mut session = fixture.connect(&connector).await;
            let fits = Message::binary(vec![7; 1_000]);
            fixture.publish(&fits);
            assert_eq!(receive(&mut session.rx, 1).await, [fits]);
            fixture.publish(&message);
            let (messages, end) = receive_to_end(&mut session.rx).await;
            assert!(messages.is_empty());
            assert_eq!(end.unwrap_err().class, ErrorClass::TooLarge);
        }
    }
);

for_every_transport!(
    the_server_takes_no_more_sessions,
    Config {
        max_sessions: 1,
        ..Config::default()
    },
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        let mut first = fixture.connect(&connector).await;
        let refused = connector.connect(&fixture.target).await.err().unwrap();
        assert_eq!(
            (refused.step, refused.class),
            (Step::Open, ErrorClass::Status(503))
        );
        fixture.publish(&numbered(1));
        assert_eq!(receive(&mut first.rx, 1).await, [numbered(1)]);
    }
);

for_every_transport!(
    a_session_that_only_receives_refuses_to_send,
    Config::default(),
    |connector, mut fixture| {
        fixture.target.sends = false;
        let mut session = fixture.connect(&connector).await;
        fixture.publish(&numbered(1));
        assert_eq!(receive(&mut session.rx, 1).await, [numbered(1)]);
        // One connection carries both ways on some transports; where it does not, there is none to send on.
        if fixture.row.connections_when_sending > 1 {
            let refused = session.tx.send(numbered(2)).await.unwrap_err();
            assert_eq!(refused.class, ErrorClass::Closed);
        }
        let mut inbox = pushmark_transport::seam::Collected::default();
        fixture.publish(&numbered(3));
        session.rx.recv(&mut inbox).await.unwrap();
    }
);
