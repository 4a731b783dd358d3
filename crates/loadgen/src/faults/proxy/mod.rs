//! The proxy between generator and server, in which connections are broken on purpose: a process of its own.
//!
//! Without a fault it adds nothing but time, which it measures: bytes go on at once, an end of one side is passed on as an
//! end, a reset as a reset. One thing it cannot pass on: a server that refuses connections. The client has been taken by then,
//! so it sees a reset instead (`ECONNRESET`), counted as `unreachable`.
//!
//! A *group* is a set of connections that share their fate. Each has a port of its own, so a fault on a share of the
//! connections is a fault on the groups that this share was sent to.
//!
//! | kind | on open connections | on those that come during the fault | when it is cleared |
//! |---|---|---|---|
//! | fin | both sides get the end at once; what was held back is dropped | none | nothing |
//! | rst | both sides get a reset at once | none | nothing |
//! | freeze | nothing is read or written | taken, joined to the server only afterwards, if the client still waits | bytes flow again |
//! | half-open | the server gets a reset, the client hears nothing more and is read | none | a client that says or said something gets a reset |
//! | delay | bytes and ends are held back, each way, in order | the same | what is held keeps its time |
//! | bandwidth, slow-drip | bytes to the client are let through at a pace | the same | the rest flows at once |
//! | corrupt | bytes to the client are changed | the same | bytes come through as they are |
//!
//! A connection takes two of the proxy's descriptors ([`DESCRIPTORS`]), and one port towards the server.
//!
//! Several may be in force at once: delays add up, of limits the tightest holds.

mod connection;
mod flow;
mod handle;
pub mod protocol;
mod room;
mod shape;

use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use pushmark_transport::process;
use pushmark_transport::timer::Timer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use self::protocol::{Answer, Numbered, Order, Ready, Setup};
use self::room::Room;
use super::FaultError;

pub use handle::Proxy;

/// Descriptors that a proxy needs for each connection, beside some 100 of its own: what a preflight has to reckon with.
pub const DESCRIPTORS: u64 = 2;
/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 65_535;
/// Pause before the next accept when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Longer lines than this are no orders.
const MOST_LINE_BYTES: u64 = 1 << 20;
/// The coordinator, in errors.
const COORDINATOR: &str = "the coordinator";

/// Runs a proxy process from its first line of input to the end of its input. What is connected then is cut off.
///
/// # Errors
/// When a stream breaks, the protocol is broken, or there is no port to listen on.
pub fn run(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), FaultError> {
    let Some(setup) = line(&mut input)? else {
        return Ok(());
    };
    let setup: Setup = serde_json::from_str(&setup)?;
    process::raise_open_files();

    // Both streams have a thread of their own: bytes do not wait for a coordinator.
    let (orders, to_obey) = mpsc::channel(16);
    let (answers, mut to_say) = mpsc::channel::<Vec<u8>>(16);
    let speaking = thread("answers", move || {
        while let Some(line) = to_say.blocking_recv() {
            if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    })?;
    thread("orders", move || {
        while let Ok(Some(line)) = line(&mut input) {
            match serde_json::from_str::<Numbered<Order>>(&line) {
                Ok(order) => {
                    if orders.blocking_send(order).is_err() {
                        return;
                    }
                }
                Err(e) => tracing::error!("an order is not understood: {e}"),
            }
        }
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(broken)?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(setup, to_obey, answers))?;
    let _ = speaking.join();
    Ok(())
}

fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, FaultError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(broken)
}

fn broken(source: io::Error) -> FaultError {
    FaultError::Start {
        what: "the proxy".into(),
        source,
    }
}

fn line(input: &mut impl BufRead) -> Result<Option<String>, FaultError> {
    let mut line = String::new();
    match input.take(MOST_LINE_BYTES).read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line)),
        Err(source) => Err(FaultError::Io {
            what: COORDINATOR,
            source,
        }),
    }
}

async fn serve(
    setup: Setup,
    mut orders: mpsc::Receiver<Numbered<Order>>,
    answers: mpsc::Sender<Vec<u8>>,
) -> Result<(), FaultError> {
    let room = Rc::new(Room::new(setup, Timer::start().map_err(broken)?));
    let mut addresses = Vec::new();
    for group in 0..room.groups.len() {
        let (listener, address) = listen().map_err(broken)?;
        addresses.push(address);
        tokio::task::spawn_local(accept(room.clone(), group, listener));
    }
    say(&answers, &Ready { addresses }).await?;
    while let Some(Numbered { number, what }) = orders.recv().await {
        let answer: Numbered<Answer> = Numbered {
            number,
            what: room.obey(what),
        };
        say(&answers, &answer).await?;
    }
    Ok(())
}

async fn say(answers: &mpsc::Sender<Vec<u8>>, what: &impl serde::Serialize) -> Result<(), FaultError> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    answers.send(line).await.map_err(|_| FaultError::Io {
        what: COORDINATOR,
        source: io::ErrorKind::BrokenPipe.into(),
    })
}

fn listen() -> io::Result<(TcpListener, std::net::SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn accept(room: Rc<Room>, group: usize, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::task::spawn_local(room.clone().take(group, client));
            }
            Err(e) => {
                room.counts.accept_error();
                tracing::warn!("the proxy cannot take a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
