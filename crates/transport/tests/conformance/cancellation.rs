//! Cancellation: a wait that is dropped, whenever it is, loses nothing and repeats nothing.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pushmark_transport::seam::Collected;
use pushmark_transport::{Message, Rx, Tx};

use crate::fixture::{for_every_transport, numbers};
use crate::host::Config;

/// Steps of a linear congruential generator (Knuth's constants): the same test each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Polls `future` at most `times` times, then drops it.
async fn for_a_while<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

for_every_transport!(
    a_dropped_wait_loses_nothing,
    Config::default(),
    |connector, fixture| {
        let mut dice = Dice(1);
        let mut session = fixture.connect(&connector).await;
        let (mut inbox, mut published, mut counted) = (Collected::default(), 0, 0);
        while counted < 600 {
            for _ in 0..dice.roll(4) {
                // Some in one read, some in many.
                let size = if dice.roll(8) == 0 { 60_000 } else { dice.roll(200) };
                let filler = "x\n".repeat(size as usize / 2);
                fixture.publish(&Message::text(format!("{published} {filler}")));
                published += 1;
            }
            if let Some(received) = for_a_while(session.rx.recv(&mut inbox), dice.roll(6)).await {
                counted += received.unwrap();
                assert_eq!(counted, inbox.0.len());
            }
            if dice.roll(40) == 0 {
                // Long enough for every buffer on the way to fill or drain.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while counted < published {
            counted += session.rx.recv(&mut inbox).await.unwrap();
        }
        let messages: Vec<_> = inbox.0.into_iter().map(|(_, message)| message).collect();
        assert!(numbers(&messages).into_iter().eq(0..published));
    }
);

for_every_transport!(
    a_wait_that_is_dropped_while_sending,
    Config {
        echo: true,
        ..Config::default()
    },
    |connector, fixture| {
        let mut session = fixture.connect(&connector).await;
        let mut inbox = Collected::default();
        for number in 0..200 {
            let send = session.tx.send(Message::text(number.to_string()));
            let mut send = pin!(send);
            // The receiver's wait is dropped whenever the sender has something to do.
            loop {
                tokio::select! {
                    biased;
                    sent = &mut send => break sent.unwrap(),
                    received = for_a_while(session.rx.recv(&mut inbox), 2) => drop(received.map(Result::unwrap)),
                }
            }
        }
        while inbox.0.len() < 200 {
            session.rx.recv(&mut inbox).await.unwrap();
        }
        let messages: Vec<_> = inbox.0.into_iter().map(|(_, message)| message).collect();
        assert!(numbers(&messages).into_iter().eq(0..200));
    }
);
