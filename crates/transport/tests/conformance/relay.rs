//! A relay between client and server that can do to their bytes what networks do.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The way from client to server is closed, the other is open.
    HalfClosed,
    /// Everything is closed.
    Cut,
    /// Everything is closed, and what is on its way is thrown away.
    Reset,
}

/// What happens to bytes on their way down, counted over all connections.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Everything is cut after so many bytes.
    pub(crate) most_bytes_down: usize,
    /// The byte at this place has its bits turned around by this mask.
    pub(crate) flip: Option<(usize, u8)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            most_bytes_down: usize::MAX,
            flip: None,
        }
    }
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    phase: watch::Sender<Phase>,
    down: Rc<Cell<usize>>,
    up: Rc<Cell<usize>>,
    drip: Rc<Cell<bool>>,
}

impl Relay {
    /// Relays to `server`.
    pub(crate) async fn start(server: SocketAddr, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let phase = watch::Sender::new(Phase::Open);
        let (down, upward) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let drip = Rc::new(Cell::new(false));
        let relay = Self {
            address,
            phase: phase.clone(),
            down: down.clone(),
            up: upward.clone(),
            drip: drip.clone(),
        };
        tokio::task::spawn_local(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let way_up = up(
                    client_read,
                    server_write,
                    phase.subscribe(),
                    upward.clone(),
                    drip.clone(),
                );
                tokio::task::spawn_local(way_up);
                let way_down = way_down(
                    server_read,
                    client_write,
                    phase.clone(),
                    down.clone(),
                    drip.clone(),
                    plan,
                );
                tokio::task::spawn_local(way_down);
            }
        });
        relay
    }

    /// How many bytes the server has sent.
    pub(crate) fn bytes_down(&self) -> usize {
        self.down.get()
    }

    /// How many bytes clients have sent.
    pub(crate) fn bytes_up(&self) -> usize {
        self.up.get()
    }

    /// From now on, one byte at a time, both ways.
    pub(crate) fn drip(&self) {
        self.drip.set(true);
    }

    /// Closes the way from client to server.
    pub(crate) fn half_close(&self) {
        self.phase.send_replace(Phase::HalfClosed);
    }

    /// Resets everything, now and for later connections.
    pub(crate) fn reset(&self) {
        self.phase.send_replace(Phase::Reset);
    }

    /// Closes everything, now and for later connections.
    pub(crate) fn cut(&self) {
        self.phase.send_replace(Phase::Cut);
    }
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8], drip: bool) -> std::io::Result<()> {
    if !drip {
        return to.write_all(bytes).await;
    }
    for byte in bytes {
        to.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut phase: watch::Receiver<Phase>,
    count: Rc<Cell<usize>>,
    drip: Rc<Cell<bool>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            n = from.read(&mut buffer) => match n {
                Ok(n @ 1..) => {
                    count.set(count.get() + n);
                    if write(&mut to, &buffer[..n], drip.get()).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            _ = phase.wait_for(|phase| *phase != Phase::Open) => break,
        }
    }
    if *phase.borrow() == Phase::Reset {
        // The last of the socket to be dropped says so to the server.
        sockopt::set_socket_linger(to.as_ref(), Some(Duration::ZERO)).unwrap();
        to.forget();
        return;
    }
    let _ = to.shutdown().await;
    // What the client still sends is taken and forgotten, until everything is cut.
    tokio::select! {
        () = async { while from.read(&mut buffer).await.is_ok_and(|n| n > 0) {} } => {}
        _ = phase.wait_for(|phase| matches!(phase, Phase::Cut | Phase::Reset)) => {}
    }
}

async fn way_down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    phase: watch::Sender<Phase>,
    down: Rc<Cell<usize>>,
    drip: Rc<Cell<bool>>,
    plan: Plan,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut phases = phase.subscribe();
    loop {
        let n = tokio::select! {
            n = from.read(&mut buffer) => n.unwrap_or(0),
            _ = phases.wait_for(|phase| matches!(phase, Phase::Cut | Phase::Reset)) => return,
        };
        if n == 0 {
            return;
        }
        let before = down.get();
        let allowed = n.min(plan.most_bytes_down - before);
        down.set(before + allowed);
        if let Some((at, mask)) = plan.flip
            && let Some(byte) = at
                .checked_sub(before)
                .and_then(|at| buffer[..allowed].get_mut(at))
        {
            *byte ^= mask;
        }
        if write(&mut to, &buffer[..allowed], drip.get()).await.is_err() {
            return;
        }
        if down.get() >= plan.most_bytes_down {
            phase.send_replace(Phase::Cut);
            return;
        }
    }
}
