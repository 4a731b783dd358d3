//! What is counted of connections is what really went over them, and their openings wait as often as they have to.

use pushmark_transport::carrier::{Carrier, Http, Streams};
use pushmark_transport::meter::{self, Reading};
use pushmark_transport::registry::Row;
use pushmark_transport::{Connected, Target};

use crate::fixture::{for_every_transport, numbered, receive, settle};
use crate::host::Config;
use crate::relay::{Plan, Relay};

/// How often a session that only receives waits for its peer: the TCP connect, TLS 1.3, and then what the transport needs.
fn least_round_trips(row: &Row, carrier: Carrier) -> u32 {
    let tls = u32::from(carrier.is_secured());
    // The server has to say first that it takes the extended CONNECT (RFC 8441, section 3).
    let settings = u32::from(row.name == "ws" && carrier.http() == Http::Http2);
    1 + tls + settings + 1
}

/// What was moved since `before`, down and up.
fn since(before: Reading) -> (u64, u64) {
    let now = meter::reading();
    assert_eq!(now.untold, 0);
    let (all, less) = (sum(now), sum(before));
    (all.0 - less.0, all.1 - less.1)
}

fn sum(r: Reading) -> (u64, u64) {
    (
        r.opening.received_bytes + r.carried.received_bytes,
        r.opening.sent_bytes + r.carried.sent_bytes,
    )
}

/// Waits until the relay and the kernel agree on what was moved since `before`.
async fn agree(relay: &Relay, before: Reading) {
    let both = || {
        (
            since(before),
            (relay.bytes_down() as u64, relay.bytes_up() as u64),
        )
    };
    for _ in 0..10_000 {
        let (ours, relayed) = both();
        if ours == relayed && relayed.0 > 0 {
            return;
        }
        settle().await;
    }
    let (ours, relayed) = both();
    assert_eq!(ours, relayed, "bytes down and up: the kernel's, the relay's");
}

for_every_transport!(
    what_is_counted_is_what_went_over,
    Config::default(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        let carrier: Carrier = fixture.target.carriage.carrier;
        for sends in [false, true] {
            let relay = Relay::start(fixture.target.address, Plan::default()).await;
            let target = Target {
                address: relay.address,
                sends,
                ..fixture.target.clone()
            };
            let before = meter::reading();
            let Connected {
                tx, mut rx, times, ..
            } = connector.connect(&target).await.unwrap();
            let opened = meter::reading();
            assert_eq!(opened.sessions - before.sessions, 1);
            let mut round_trips = least_round_trips(fixture.row, carrier);
            if sends && fixture.row.connections_when_sending > 1 && carrier.http() == Http::Http1_1 {
                // The other connection stands too.
                round_trips += 1 + u32::from(carrier.is_secured());
            }
            assert_eq!(times.round_trips, round_trips, "sends: {sends}");
            assert_eq!(opened.round_trips - before.round_trips, u64::from(round_trips));
            let opening = (
                opened.opening.received_bytes - before.opening.received_bytes,
                opened.opening.sent_bytes - before.opening.sent_bytes,
            );
            assert!(opening.0 > 50 && opening.1 > 50, "{opening:?}");

            for n in 0..50 {
                fixture.publish(&numbered(n));
                receive(&mut rx, 1).await;
            }
            agree(&relay, before).await;
            let carried = meter::reading().carried.received_bytes - before.carried.received_bytes;
            assert!(carried >= 50 * 2, "{carried}");

            // What is gone stays counted: nothing but the ends of the connections may be added.
            let standing = since(before);
            drop((tx, rx));
            settle().await;
            let gone = since(before);
            assert!(
                gone.0 >= standing.0 && gone.1 >= standing.1,
                "{gone:?}, {standing:?}"
            );
        }
    }
);

for_every_transport!(
    a_shared_connection_is_counted_once,
    Config::default(),
    |connector, fixture| {
        if fixture.host().is_none() || fixture.target.carriage.carrier.http() != Http::Http2 {
            return;
        }
        let relay = Relay::start(fixture.target.address, Plan::default()).await;
        let mut target = fixture.target.clone();
        target.address = relay.address;
        target.carriage.streams_per_connection = Streams::All;
        let before = meter::reading();
        let mut sessions = Vec::new();
        for n in 0..10 {
            let connected = connector.connect(&target).await.unwrap();
            // The first has waited for the connection: TCP, TLS, the SETTINGS that say how many may share it, and its answer. The others
            // have waited for their answers alone.
            let whole = 3 + u32::from(target.carriage.carrier.is_secured());
            let expected = if n == 0 { whole } else { 1 };
            assert_eq!(connected.times.round_trips, expected, "session {n}");
            assert_eq!((connected.times.first, connected.times.joined), (n == 0, n > 0));
            sessions.push(connected);
        }
        assert_eq!(meter::reading().sessions - before.sessions, 10);
        fixture.publish(&numbered(0));
        for session in &mut sessions {
            receive(&mut session.rx, 1).await;
        }
        agree(&relay, before).await;
    }
);

for_every_transport!(
    who_joins_a_connection_under_load_is_not_told_apart,
    Config::default(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        let mut target = fixture.target.clone();
        target.carriage.streams_per_connection = Streams::All;
        let shared = target.carriage.carrier.http() == Http::Http2;
        // For good on this thread. What joins before it is in the tests above.
        meter::begin_load();
        let before = meter::reading();
        let first = connector.connect(&target).await.unwrap();
        let second = connector.connect(&target).await.unwrap();
        let after = meter::reading();
        assert_eq!(after.opening == before.opening, shared);
        assert_eq!(after.sessions - before.sessions, if shared { 0 } else { 2 });
        let carried = after.carried.received_bytes - before.carried.received_bytes;
        assert_eq!(carried > 0, shared);
        drop((first, second));
    }
);

for_every_transport!(
    a_session_that_never_came_to_be_is_in_no_count,
    Config::default(),
    |connector, fixture| {
        if fixture.host().is_none() {
            return;
        }
        // Everything is cut before the answer is whole.
        let plan = Plan {
            most_bytes_down: 40,
            ..Plan::default()
        };
        let relay = Relay::start(fixture.target.address, plan).await;
        let target = Target {
            address: relay.address,
            ..fixture.target.clone()
        };
        let before = meter::reading();
        assert!(connector.connect(&target).await.is_err());
        settle().await;
        assert_eq!(meter::reading(), before);
    }
);
