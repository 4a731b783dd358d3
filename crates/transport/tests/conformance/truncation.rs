//! Truncation and corruption: the server's bytes cut after each of them, and with each of them wrong.

use std::time::Duration;

use pushmark_transport::{Connector, ErrorClass, Message, Tx};

use crate::fixture::{Fixture, for_every_transport, receive_to_end};
use crate::host::Config;
use crate::relay::{Plan, Relay};

fn messages() -> [Message; 3] {
    [
        Message::text("one\ntwo"),
        Message::binary(&b"\0\xFF\r\n"[..]),
        Message::text(""),
    ]
}

/// One session through a relay: three messages, then the server's end. Gives what came and whether the end was clean,
/// and how many bytes the server sent. When the client still waits though nothing moves any more, everything is cut.
async fn session<C: Connector>(
    connector: &C,
    fixture: &Fixture,
    plan: Plan,
) -> (Result<Vec<Message>, ErrorClass>, usize) {
    let relay = Relay::start(fixture.target.address, plan).await;
    let mut target = fixture.target.clone();
    target.address = relay.address;
    let watch = async {
        // Turns, not time: a machine that stalls takes one of them.
        let (mut before, mut quiet_turns) = (0, 0);
        while quiet_turns < 10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            quiet_turns = if relay.bytes_down() == before {
                quiet_turns + 1
            } else {
                0
            };
            before = relay.bytes_down();
        }
        relay.cut();
        std::future::pending::<()>().await;
    };
    let session = async {
        let mut session = connector.connect(&target).await.map_err(|e| e.class)?;
        for message in messages() {
            fixture.publish(&message);
        }
        fixture.close_all();
        let (messages, end) = receive_to_end(&mut session.rx).await;
        end.map_err(|e| e.class)?;
        let _ = session.tx.close().await;
        Ok(messages)
    };
    tokio::select! {
        outcome = session => (outcome, relay.bytes_down()),
        () = watch => unreachable!(),
    }
}

/// The places that are tried: every byte where they are plainest, in the clear and taken over; else a share of them, since each
/// takes connections and their ports, of which a machine has only so many a minute.
fn places(fixture: &Fixture, total: usize) -> impl Iterator<Item = usize> + use<> {
    const MOST_ELSEWHERE: usize = 80;
    let taken_over = fixture.host().is_some_and(|host| host.takes_over());
    let step = match fixture.is_plain() && taken_over {
        true => 1,
        false => total.div_ceil(MOST_ELSEWHERE).max(1),
    };
    (0..total).step_by(step)
}

fn config() -> Config {
    Config {
        max_sessions: usize::MAX,
        absence_deadline: Duration::from_millis(200),
        ..Config::default()
    }
}

for_every_transport!(
    bytes_that_are_cut_are_never_a_clean_end,
    config(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        let (whole, total) = session(&connector, &fixture, Plan::default()).await;
        assert_eq!(whole.unwrap(), messages());
        for most_bytes_down in places(&fixture, total) {
            let plan = Plan {
                most_bytes_down,
                ..Plan::default()
            };
            match session(&connector, &fixture, plan).await.0 {
                Ok(got) => assert_eq!(
                    got,
                    messages(),
                    "a clean end after {most_bytes_down} of {total} bytes"
                ),
                Err(class) => assert!(
                    matches!(class, ErrorClass::EndedEarly | ErrorClass::Reset),
                    "{class} after {most_bytes_down} of {total} bytes"
                ),
            }
        }
    }
);

for_every_transport!(bytes_that_are_wrong_do_no_harm, config(), |connector, fixture| {
    let Some(_) = fixture.host() else { return };
    let (_, total) = session(&connector, &fixture, Plan::default()).await;
    for at in places(&fixture, total) {
        for mask in [0x80, 0x01] {
            let plan = Plan {
                flip: Some((at, mask)),
                ..Plan::default()
            };
            // Whatever comes of it: no panic, and an end.
            let _ = session(&connector, &fixture, plan).await;
        }
    }
    let (whole, _) = session(&connector, &fixture, Plan::default()).await;
    assert_eq!(whole.unwrap(), messages(), "the server goes on");
});
