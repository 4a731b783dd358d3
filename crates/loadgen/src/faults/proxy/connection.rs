//! One connection through the proxy: a leg to the client, a leg to the server, and what becomes of both.

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::flow::Flow;
use super::room::{Group, Room};
use super::shape::{Direction, Ending};
use crate::faults::FaultId;

/// What is done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Bytes pass, as far as the group's conditions let them.
    Passing,
    /// Both sides were told the end; what they still say is read, so that the kernel does not answer it with a reset.
    Ended,
    /// The server's leg is reset; the client's stays open and silent.
    Silent(FaultId),
    /// The same after the fault: the client's next word is answered with a reset, as by a server that knows nothing of it.
    Answering,
    /// Nothing is left to do.
    Gone,
}

/// A connection.
pub(super) struct Connection {
    number: u64,
    client: TcpStream,
    upstream: OnceCell<TcpStream>,
    fate: Cell<Fate>,
    told: Notify,
    /// The client said something while it was told nothing.
    spoke: Cell<bool>,
}

impl Connection {
    pub(super) fn new(number: u64, client: TcpStream) -> Self {
        Self {
            number,
            client,
            upstream: OnceCell::new(),
            fate: Cell::new(Fate::Passing),
            told: Notify::new(),
            spoke: Cell::new(false),
        }
    }

    /// The proxy's own address on the way to the server.
    pub(super) fn server_side(&self) -> Option<SocketAddr> {
        self.upstream.get()?.local_addr().ok()
    }

    /// Whether both sides are still joined.
    pub(super) fn is_passing(&self) -> bool {
        self.fate.get() == Fate::Passing
    }

    fn turn(&self, fate: Fate) {
        self.fate.set(fate);
        self.told.notify_one();
    }

    fn legs(&self) -> impl Iterator<Item = &TcpStream> {
        [Some(&self.client), self.upstream.get()].into_iter().flatten()
    }

    /// Ends both legs in order. Done when this returns.
    pub(super) fn end(&self) {
        for leg in self.legs() {
            // A leg that is not connected any more has had its end.
            let _ = rustix::net::shutdown(leg, rustix::net::Shutdown::Write);
        }
        self.turn(Fate::Ended);
    }

    /// Resets both legs. Done when this returns.
    pub(super) fn reset(&self) {
        self.legs().for_each(reset);
        self.turn(Fate::Gone);
    }

    /// Resets the server's leg and says nothing more to the client. Done when this returns.
    pub(super) fn half_open(&self, fault: FaultId) {
        if let Some(upstream) = self.upstream.get() {
            reset(upstream);
        }
        self.turn(Fate::Silent(fault));
    }

    /// The fault is over.
    pub(super) fn clear(&self, fault: FaultId) {
        if self.fate.get() != Fate::Silent(fault) {
            return;
        }
        if self.spoke.get() {
            // TCP would have said it again and again, and now got its answer.
            reset(&self.client);
            self.turn(Fate::Gone);
        } else {
            self.turn(Fate::Answering);
        }
    }

    /// The connection's life.
    pub(super) async fn live(&self, room: &Room, group: &Group) {
        while self.fate.get() != Fate::Gone {
            tokio::select! {
                // First, so that not a byte passes after a fault was told.
                biased;
                () = self.told.notified() => {}
                () = self.act(room, group) => return,
            }
        }
    }

    async fn act(&self, room: &Room, group: &Group) {
        match self.fate.get() {
            Fate::Passing => match self.open(room, group).await {
                Some(upstream) => self.pass(room, group, upstream).await,
                None => reset(&self.client),
            },
            Fate::Ended => {
                let drained = self.upstream.get().map(|upstream| drain(upstream, |_| true));
                tokio::join!(drain(&self.client, |_| true), async {
                    if let Some(drained) = drained {
                        drained.await;
                    }
                });
            }
            Fate::Silent(_) => {
                drain(&self.client, |_| {
                    self.spoke.set(true);
                    true
                })
                .await;
            }
            Fate::Answering => {
                drain(&self.client, |_| {
                    reset(&self.client);
                    false
                })
                .await;
            }
            Fate::Gone => {}
        }
    }

    /// The server's leg; none when there is nobody to join: the server cannot be reached, or the client has gone.
    async fn open(&self, room: &Room, group: &Group) -> Option<&TcpStream> {
        tokio::select! {
            biased;
            () = group.thawed() => {}
            // Nobody is connected to the server late for a client that has given up waiting. (Of all that this asks the
            // runtime for, only the end of what the client says can come on a stream without urgent data.)
            _ = self.client.ready(Interest::PRIORITY) => return None,
        }
        let connected = tokio::select! {
            connected = TcpStream::connect(room.upstream.get()) => connected,
            _ = self.client.ready(Interest::ERROR) => return None,
        };
        let upstream = connected.and_then(|upstream| {
            upstream.set_nodelay(true)?;
            room.stamp(&upstream);
            Ok(upstream)
        });
        match upstream {
            Ok(upstream) => Some(self.upstream.get_or_init(|| upstream)),
            Err(e) => {
                room.counts.not_joined(&e);
                tracing::debug!("the server cannot be reached through the proxy: {e}");
                None
            }
        }
    }

    /// Passes bytes until both ways have ended.
    async fn pass(&self, room: &Room, group: &Group, upstream: &TcpStream) {
        let up = Flow::new(
            &self.client,
            upstream,
            Direction::ToServer,
            self.number,
            room,
            group,
        )
        .run();
        let down = Flow::new(
            upstream,
            &self.client,
            Direction::ToClient,
            self.number,
            room,
            group,
        )
        .run();
        tokio::pin!(up, down);
        let (mut up_ended, mut down_ended) = (false, false);
        while !(up_ended && down_ended) {
            let (ending, to) = tokio::select! {
                ending = &mut up, if !up_ended => {
                    up_ended = true;
                    (ending, upstream)
                }
                ending = &mut down, if !down_ended => {
                    down_ended = true;
                    (ending, &self.client)
                }
            };
            match ending {
                Ending::Fin => {
                    let _ = rustix::net::shutdown(to, rustix::net::Shutdown::Write);
                }
                Ending::Reset => {
                    self.legs().for_each(reset);
                    return;
                }
            }
        }
    }
}

/// Resets a TCP connection at once: both what was to be sent and what was not read are dropped.
fn reset(leg: &TcpStream) {
    // Should the kernel not take the disconnection, closing resets.
    let _ = leg.set_zero_linger();
    // Linux sends the reset in this call (`tcp_disconnect`), however many hold the socket and whatever they do with it.
    let _ = rustix::net::connect_unspec(leg);
}

/// Reads and forgets until the end, an error, or until `goes_on` says no about what came.
async fn drain(leg: &TcpStream, goes_on: impl Fn(usize) -> bool) {
    let mut nothing = [0; 512];
    loop {
        if leg.readable().await.is_err() {
            return;
        }
        match leg.try_read(&mut nothing) {
            Ok(0) => return,
            Ok(n) if goes_on(n) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => return,
        }
        tokio::task::coop::consume_budget().await;
    }
}
