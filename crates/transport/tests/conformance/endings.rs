//! Endings: each side can end a session, each side hears of it once, and a lost connection is never a clean end.

use std::time::Duration;

use pushmark_transport::{CloseReason, ErrorClass, Message, Rx, Step, Tx};

use crate::fixture::{assert_lost, for_every_transport, numbered, receive, receive_to_end, settle, until};
use crate::host::Config;
use crate::relay::{Plan, Relay};

/// A client that is gone is given up soon.
fn impatient() -> Config {
    Config {
        absence_deadline: Duration::from_millis(150),
        ..Config::default()
    }
}

for_every_transport!(the_client_closes, Config::default(), |connector, fixture| {
    let mut session = fixture.connect(&connector).await;
    fixture.publish(&numbered(0));
    receive(&mut session.rx, 1).await;
    session.tx.close().await.unwrap();
    let (rest, end) = receive_to_end(&mut session.rx).await;
    assert!(rest.is_empty());
    end.expect("a close that was asked for is a clean end");
    let refused = session.tx.send(numbered(1)).await.unwrap_err();
    assert_eq!((refused.step, refused.class), (Step::Send, ErrorClass::Closed));
    fixture.closed(fixture.reason_of_client_close()).await;
});

for_every_transport!(
    the_client_closes_while_it_waits,
    Config::default(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        let close = async {
            settle().await;
            session.tx.close().await.unwrap();
        };
        let ((), (rest, end)) = tokio::join!(close, receive_to_end(&mut session.rx));
        assert!(rest.is_empty());
        end.unwrap();
        fixture.closed(fixture.reason_of_client_close()).await;
    }
);

for_every_transport!(
    a_session_that_only_receives_closes_too,
    Config::default(),
    |connector, mut fixture| {
        fixture.target.sends = false;
        let mut session = fixture.connect(&connector).await;
        fixture.publish(&numbered(0));
        receive(&mut session.rx, 1).await;
        session.tx.close().await.unwrap();
        receive_to_end(&mut session.rx).await.1.unwrap();
        fixture.closed(fixture.reason_of_client_close()).await;
    }
);

for_every_transport!(
    the_client_goes_without_a_word,
    impatient(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        fixture.publish(&numbered(0));
        receive(&mut session.rx, 1).await;
        settle().await;
        drop(session);
        fixture.closed(CloseReason::EndedEarly).await;
    }
);

for_every_transport!(the_server_closes, Config::default(), |connector, fixture| {
    let mut session = fixture.connect(&connector).await;
    for number in 0..3 {
        fixture.publish(&numbered(number));
    }
    fixture.close_all();
    let (messages, end) = receive_to_end(&mut session.rx).await;
    assert_eq!(messages, [numbered(0), numbered(1), numbered(2)]);
    end.unwrap();
    fixture.closed(CloseReason::Server).await;
});

for_every_transport!(
    the_server_closes_a_client_that_waits,
    Config::default(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        let close = async {
            settle().await;
            fixture.close_all();
        };
        let ((), (messages, end)) = tokio::join!(close, receive_to_end(&mut session.rx));
        assert!(messages.is_empty());
        end.unwrap();
        fixture.closed(CloseReason::Server).await;
    }
);

for_every_transport!(
    the_server_closes_after_large_messages,
    Config::default(),
    |connector, fixture| {
        // More than sockets hold, so that the end has to wait for the reader.
        const COUNT: usize = 20;
        let mut session = fixture.connect(&connector).await;
        for number in 0..COUNT {
            fixture.publish(&Message::text(format!("{number} {}", "x".repeat(1_000_000))));
            // A small one follows, which a writer that has just been blocked must not forget.
            fixture.publish(&Message::text(format!("{number} small")));
        }
        fixture.close_all();
        settle().await;
        let (messages, end) = receive_to_end(&mut session.rx).await;
        assert_eq!(messages.len(), 2 * COUNT);
        end.unwrap();
        fixture.closed(CloseReason::Server).await;
    }
);

for_every_transport!(
    both_sides_close_at_once,
    Config::default(),
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        fixture.close_all();
        if let Err(late) = session.tx.close().await {
            assert_eq!((late.step, late.class), (Step::Close, ErrorClass::Closed));
        }
        receive_to_end(&mut session.rx).await.1.unwrap();
        let Some(host) = fixture.host() else { return };
        until(|| !host.closed().is_empty()).await;
        settle().await;
        assert_eq!(host.closed().len(), 1);
    }
);

for_every_transport!(the_connection_is_cut, impatient(), |connector, fixture| {
    let Some(_) = fixture.host() else { return };
    let relay = Relay::start(fixture.target.address, Plan::default()).await;
    let mut target = fixture.target.clone();
    target.address = relay.address;
    let mut session = connector.connect(&target).await.unwrap();
    fixture.publish(&numbered(0));
    receive(&mut session.rx, 1).await;
    let cut = async {
        settle().await;
        relay.cut();
    };
    let ((), (rest, end)) = tokio::join!(cut, receive_to_end(&mut session.rx));
    assert!(rest.is_empty());
    assert_lost(end);
    fixture.closed(CloseReason::EndedEarly).await;
});

for_every_transport!(the_client_half_closes, impatient(), |connector, fixture| {
    let Some(_) = fixture.host() else { return };
    let relay = Relay::start(fixture.target.address, Plan::default()).await;
    let mut target = fixture.target.clone();
    target.address = relay.address;
    let mut session = connector.connect(&target).await.unwrap();
    fixture.publish(&numbered(0));
    receive(&mut session.rx, 1).await;
    let half_close = async {
        settle().await;
        relay.half_close();
    };
    // A server that hears no more from a client ends the session, rather than speak to nobody.
    let ((), (_, end)) = tokio::join!(half_close, receive_to_end(&mut session.rx));
    assert_lost(end);
    fixture.closed(CloseReason::EndedEarly).await;
});

for_every_transport!(
    messages_before_a_lost_connection_are_told_first,
    Config::default(),
    |connector, fixture| {
        let Some(host) = fixture.host() else { return };
        let relay = Relay::start(fixture.target.address, Plan::default()).await;
        let mut target = fixture.target.clone();
        target.address = relay.address;
        let mut session = connector.connect(&target).await.unwrap();
        let before = relay.bytes_down();
        fixture.publish(&numbered(7));
        // The message and the end of the connection wait in the client's socket together.
        until(|| host.records(|r| r.written) == [1] && relay.bytes_down() > before).await;
        settle().await;
        relay.cut();
        settle().await;
        let (messages, end) = receive_to_end(&mut session.rx).await;
        assert_eq!(messages, [numbered(7)]);
        assert_lost(end);
    }
);

for_every_transport!(
    one_session_ends_and_the_others_do_not,
    impatient(),
    |connector, fixture| {
        let mut stays = fixture.connect(&connector).await;
        let goes = fixture.connect(&connector).await;
        drop(goes.tx);
        drop(goes.rx);
        let keep_reading = async {
            let mut inbox = pushmark_transport::seam::Collected::default();
            stays.rx.recv(&mut inbox).await.unwrap()
        };
        let others = async {
            fixture.closed(CloseReason::EndedEarly).await;
            fixture.publish(&numbered(1));
        };
        let (n, ()) = tokio::join!(keep_reading, others);
        assert_eq!(n, 1);
    }
);
