//! Listeners: one a thread, all on one port; and a server's life from bind to graceful stop.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pushmark_transport::carrier::Http;
use pushmark_transport::carrier::arrival::{self, Arrived};
use pushmark_transport::seam::TcpOptions;
use pushmark_transport::takeover::Opening;
use pushmark_transport::timer::Timer;
use pushmark_transport::wire::Wire;
use pushmark_transport::{CloseReason, Connection, process, registry, tcp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Config;
use crate::deadline::HeaderTimer;
use crate::hub::{Hub, enter_shard};
use crate::unread::Unread;
use crate::{heartbeat, inject, publisher, routes};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// Pause before the next accept when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why a server could not start or run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source} (is the address free, and of this machine?)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its runtime could not be made, or a thread ended by itself.
    #[error("a server thread failed: {0}")]
    Thread(String),
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    control: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    /// Binds, and serves on threads of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on or a thread cannot be made.
    pub fn start(config: Config) -> Result<Self, ServeError> {
        process::raise_open_files();
        let mut address = config.listen;
        if !config.share_port && address.port() != 0 {
            // Without this, a second server on a port would silently take half of the first one's connections.
            drop(bind(address, false)?);
        }
        let control = config.control.map(|control| bind(control, false)).transpose()?;
        let control_address = match &control {
            Some(listener) => Some(
                listener
                    .local_addr()
                    .map_err(|source| ServeError::Bind { address, source })?,
            ),
            None => None,
        };
        let mut control = control;
        let hub = Hub::new(config);
        let stop = watch::Sender::new(false);
        let mut threads = Vec::new();
        // Every thread tells that it accepts connections; the sender of one that fails goes without a word.
        let (begins, began) = std::sync::mpsc::sync_channel::<()>(hub.threads());
        for shard in 0..hub.threads() {
            // Bound here, so that a port of 0 is known before the next thread binds, and errors are the caller's.
            let listener = bind(address, true)?;
            address = listener
                .local_addr()
                .map_err(|source| ServeError::Bind { address, source })?;
            let (hub, stopping) = (hub.clone(), stop.subscribe());
            let (control, begins) = (control.take(), begins.clone());
            let thread = std::thread::Builder::new()
                .name(format!("serve-{shard}"))
                .spawn(move || run_thread(hub, shard, listener, control, stopping, begins))
                .map_err(|e| ServeError::Thread(e.to_string()))?;
            threads.push(thread);
        }
        drop(begins);
        let server = Self {
            address,
            control: control_address,
            stop,
            threads,
        };
        // Whoever is told that it is ready finds all its threads at work: none takes part only later.
        if began.iter().take(server.threads.len()).count() < server.threads.len() {
            server.stop()?;
            return Err(ServeError::Thread("it did not begin".into()));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for control alone, when it was asked to.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Stops taking connections, ends every session in its transport's orderly way, and waits for the threads; those
    /// sessions that do not end within the configured deadline are cut off.
    ///
    /// # Errors
    /// When a thread had failed.
    pub fn stop(self) -> Result<(), ServeError> {
        self.stop.send_replace(true);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| ServeError::Thread("it panicked".into()))??;
        }
        Ok(())
    }
}

fn bind(address: SocketAddr, shared: bool) -> Result<std::net::TcpListener, ServeError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let bound = || -> rustix::io::Result<std::net::TcpListener> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(
            family,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // One listener a thread on the same port: the kernel spreads connections over them.
        sockopt::set_socket_reuseport(&socket, shared)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|e| ServeError::Bind {
        address,
        source: e.into(),
    })
}

fn run_thread(
    hub: Arc<Hub>,
    shard: usize,
    listener: std::net::TcpListener,
    control: Option<std::net::TcpListener>,
    stopping: watch::Receiver<bool>,
    begins: std::sync::mpsc::SyncSender<()>,
) -> Result<(), ServeError> {
    let thread = |e: io::Error| ServeError::Thread(e.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(thread)?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        enter_shard(shard);
        let timer = Timer::start().map_err(thread)?;
        inject::use_timer(timer.clone());
        tokio::task::spawn_local(publisher::run(hub.clone(), shard, timer));
        if let Some(heartbeat) = hub.config.heartbeat {
            tokio::task::spawn_local(heartbeat::run(hub.clone(), heartbeat));
        }
        let mut entrances = vec![Entrance::main(listener, &hub).map_err(thread)?];
        if let Some(control) = control {
            entrances.push(Entrance::control(control).map_err(thread)?);
        }
        let mut accepting = Vec::new();
        for entrance in entrances {
            let accepting_there = accept(hub.clone(), entrance, stopping.clone());
            accepting.push(tokio::task::spawn_local(accepting_there));
        }
        let _ = begins.send(());
        drop(begins);
        for accepting in accepting {
            accepting.await.map_err(|e| ServeError::Thread(e.to_string()))?;
        }
        Ok(())
    })
}

/// Where connections come in on one thread.
struct Entrance {
    /// `None` while the door is closed.
    listener: Option<TcpListener>,
    address: SocketAddr,
    /// Whether the door shall be open; `None` where there is none.
    door: Option<watch::Receiver<bool>>,
}

/// The next connection; never while nobody listens.
async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Whether the door shall be open, once that has changed.
async fn moved(door: Option<&mut watch::Receiver<bool>>) -> bool {
    if let Some(door) = door
        && door.changed().await.is_ok()
    {
        return *door.borrow_and_update();
    }
    std::future::pending().await
}

impl Entrance {
    fn main(listener: std::net::TcpListener, hub: &Hub) -> io::Result<Self> {
        let entrance = Self {
            address: listener.local_addr()?,
            listener: Some(TcpListener::from_std(listener)?),
            door: Some(hub.door.watch()),
        };
        hub.door.listens();
        Ok(entrance)
    }

    fn control(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(TcpListener::from_std(listener)?),
            door: None,
        })
    }

    /// Does as the door does. A port that somebody else holds is tried again for as long as the door shall be open.
    async fn follow(&mut self, open: bool, hub: &Hub) {
        match (open, self.listener.is_some()) {
            (false, true) => {
                self.listener = None;
                hub.door.listens_no_more();
            }
            (true, false) => {
                let bound = bind(self.address, true).map_err(|e| e.to_string());
                match bound.and_then(|l| TcpListener::from_std(l).map_err(|e| e.to_string())) {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        hub.door.listens();
                    }
                    Err(e) => {
                        hub.count_accept_error();
                        tracing::warn!("cannot open the door again: {e}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        if let Some(door) = &mut self.door {
                            door.mark_changed();
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

async fn accept(hub: Arc<Hub>, mut entrance: Entrance, mut stopping: watch::Receiver<bool>) {
    // Every connection task holds a sender's clone; when all are gone, all connections have ended.
    let (open, mut all_ended) = tokio::sync::mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = next(entrance.listener.as_ref()) => accepted,
            open = moved(entrance.door.as_mut()) => {
                entrance.follow(open, &hub).await;
                continue;
            }
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, hub.clone());
                let open = open.clone();
                tokio::task::spawn_local(async move {
                    connection.await;
                    drop(open);
                });
            }
            Err(e) => {
                // Mostly: no descriptor left. Those who are connected are served on; the others wait in the backlog.
                hub.count_accept_error();
                tracing::warn!("cannot accept: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(entrance);
    drop(open);
    hub.close_all();
    let ended = async {
        // A client that fetches its messages must still be able to come and hear that its session has ended: kept
        // connections are closed after the last session.
        while hub.open_sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hub.all_sessions_ended();
        all_ended.recv().await;
    };
    if tokio::time::timeout(hub.config.stop_deadline, ended)
        .await
        .is_err()
    {
        tracing::warn!(
            "{} sessions did not end in time and are cut off",
            hub.open_sessions()
        );
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, hub: Arc<Hub>) {
    // Small messages leave when they are written; see `pushmark_transport::tcp`.
    if stream.set_nodelay(true).is_err() || tcp::set_options(&stream, &hub.config.tcp).is_err() {
        return;
    }
    let connection = Connection::from(peer);
    // All that is large is in a box of its own, gone when it has done its part: what stays is every idle connection's memory.
    let Some(arrived) = Box::pin(arrive(stream, hub.clone())).await else {
        return;
    };
    match *arrived {
        Ok(Arrived::Plain(socket, http, opening)) => {
            let Some(socket) = take_over(socket, opening, &hub, &connection).await else {
                return;
            };
            watch_over(&socket, http, &hub);
            if let Some(stream) = socket.into_stream() {
                Box::pin(serve(TokioIo::new(stream), http, hub, connection)).await;
            }
        }
        Ok(Arrived::Secured(wire, http, opening)) => {
            let secured = async move {
                if let Some(wire) = take_over(wire, opening, &hub, &connection).await {
                    watch_over(&wire, http, &hub);
                    Box::pin(serve(TokioIo::new(wire), http, hub, connection)).await;
                }
            };
            Box::pin(secured).await;
        }
        // Its client hears it from the connection.
        Err(e) => tracing::debug!("a connection from {peer} came to nothing: {e}"),
    }
}

/// What a connection brings, once something has come; `None` when the last session ended before.
async fn arrive(stream: TcpStream, hub: Arc<Hub>) -> Option<Box<std::io::Result<Arrived>>> {
    tokio::select! {
        // A connection may be made long before it is used: deadlines run from the first byte.
        arrived = arrival::look(stream, hub.config.tls.as_ref(), hub.config.header_deadline) => Some(Box::new(arrived)),
        // A session that ends may still have something to say on a way up that it has not used so far.
        () = hub.sessions_have_ended() => None,
    }
}

/// Serves a whole connection straight on its wire, where its first request is such; gives it back otherwise.
async fn take_over<W: Wire>(
    wire: W,
    opening: Option<Opening>,
    hub: &Arc<Hub>,
    connection: &Connection,
) -> Option<W> {
    match opening {
        Some(opening) => registry::take_over(opening, wire, hub, connection).await.err(),
        None => Some(wire),
    }
}

/// Has the kernel notice a dead client of a connection that many sessions share: no one session of them speaks for it.
fn watch_over(wire: &impl Wire, http: Http, hub: &Hub) {
    if let (Http::Http2, Some(heartbeat)) = (http, hub.config.heartbeat) {
        wire.set_options(&TcpOptions {
            user_timeout: Some(heartbeat.timeout),
            ..TcpOptions::default()
        });
    }
}

async fn serve<I>(io: I, http: Http, hub: Arc<Hub>, connection: Connection)
where
    I: Read + Write + Unpin + Send + 'static,
{
    match http {
        Http::Http1_1 => serve_http1(io, hub, connection).await,
        Http::Http2 => serve_http2(io, hub, connection).await,
    }
}

async fn serve_http1<I>(io: I, hub: Arc<Hub>, connection: Connection)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(|mut request| {
        let (hub, connection) = (hub.clone(), connection.clone());
        async move {
            request.extensions_mut().insert(connection);
            Ok::<_, Infallible>(routes::route(request, &hub).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(HeaderTimer::default())
        .header_read_timeout(hub.config.header_deadline)
        .max_buf_size(64 * 1024);
    // Pinned where it is made: moved, it would have room in this future twice.
    let served = pin!(builder.serve_connection(io, service).with_upgrades());
    to_its_end(served, |served| served.graceful_shutdown(), &hub, &connection).await;
}

async fn serve_http2<I>(io: I, hub: Arc<Hub>, connection: Connection)
where
    I: Read + Write + Unpin + 'static,
{
    let unread = Unread::on(connection.clone());
    let service = service_fn(|mut request| {
        request.extensions_mut().insert(unread.clone());
        // Each stream can be ended by itself.
        let (hub, stream) = (hub.clone(), connection.stream());
        // In a box, gone when the request is answered: the stream that may follow for hours needs none of it.
        Box::pin(async move {
            arrival::serving(&stream);
            request.extensions_mut().insert(stream);
            Ok::<_, Infallible>(routes::route(request, &hub).await)
        })
    });
    let served = pin!(arrival::http2(hub.config.windows).serve_connection(io, service));
    to_its_end(served, |served| served.graceful_shutdown(), &hub, &connection).await;
}

/// Serves a connection until it ends or is killed; once the last session has ended, `leave` has it take leave of its client.
async fn to_its_end<C>(mut served: Pin<&mut C>, leave: fn(Pin<&mut C>), hub: &Hub, connection: &Connection)
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        // What a connection dies of is told by its session, which is still there to be told it; a connection without one had
        // nothing to lose.
        ended = served.as_mut() => {
            if let Err(e) = ended {
                connection.note(CloseReason::of_http(&e));
            }
            return;
        }
        _ = connection.killed() => return,
        () = hub.sessions_have_ended() => {}
    }
    leave(served.as_mut());
    let _ = served.await;
}
