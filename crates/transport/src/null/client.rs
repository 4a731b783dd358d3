//! In-process pair, the load generator's end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use pushmark_measure::clock;

use crate::carrier::Negotiated;
use crate::error::{ErrorClass, Step, TransportError};
use crate::message::Message;
use crate::null::peer::{self, Peer, Queue};
use crate::seam::{ConnectTimes, Connected, Connector, Inbox, Received, Rx, Target, Tx};

/// Opens in-process sessions with the target's peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullConnector;

/// The sending half: what it sends comes back.
pub struct NullTx(Peer, Rc<RefCell<Queue>>);

/// The receiving half.
pub struct NullRx(Rc<RefCell<Queue>>);

impl Connector for NullConnector {
    type Tx = NullTx;
    type Rx = NullRx;

    async fn connect(&self, target: &Target) -> Result<Connected<NullTx, NullRx>, TransportError> {
        let now = clock::now();
        let peer = target.in_process.clone().unwrap_or_default();
        let queue = peer.join();
        let times = ConnectTimes {
            started: now,
            dialed: now,
            tcp_connected: now,
            secured: now,
            usable: now,
            joined: false,
            first: true,
            round_trips: 0,
        };
        Ok(Connected {
            tx: NullTx(peer, queue.clone()),
            rx: NullRx(queue),
            times,
            // Nothing is negotiated where nothing is sent.
            negotiated: Negotiated::PLAIN,
        })
    }
}

impl Tx for NullTx {
    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        if self.0.put(&self.1, message) {
            return Ok(());
        }
        Err(TransportError::new(
            Step::Send,
            ErrorClass::Closed,
            "the session is closed",
        ))
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        peer::close(&self.1);
        Ok(())
    }
}

impl Drop for NullRx {
    fn drop(&mut self) {
        if !peer::is_closed(&self.0) {
            peer::close(&self.0);
        }
    }
}

impl Rx for NullRx {
    async fn recv<I: Inbox>(&mut self, inbox: &mut I) -> Result<usize, TransportError> {
        poll_fn(|cx| {
            let mut received = None;
            let mut count = 0;
            loop {
                match peer::poll_take(&self.0, cx) {
                    Poll::Ready(Some(message)) => {
                        let received = Received {
                            at: *received.get_or_insert_with(clock::now),
                            kernel: None,
                        };
                        inbox.deliver(received, message.kind, &message.payload);
                        count += 1;
                    }
                    Poll::Pending if count == 0 => return Poll::Pending,
                    Poll::Ready(None) | Poll::Pending => return Poll::Ready(Ok(count)),
                }
            }
        })
        .await
    }
}
