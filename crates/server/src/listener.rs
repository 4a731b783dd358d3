//! Listeners: one a thread, all on one port; and a server's life from bind to graceful stop.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pushmark_transport::takeover::Opening;
use pushmark_transport::timer::Timer;
use pushmark_transport::{ConnectionKill, process, registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Config;
use crate::deadline::HeaderTimer;
use crate::hub::{Hub, enter_shard};
use crate::{inject, publisher, routes};

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
        for shard in 0..hub.threads() {
            // Bound here, so that a port of 0 is known before the next thread binds, and errors are the caller's.
            let listener = bind(address, true)?;
            address = listener
                .local_addr()
                .map_err(|source| ServeError::Bind { address, source })?;
            let (hub, stopping) = (hub.clone(), stop.subscribe());
            let listeners: Vec<_> = [Some(listener), control.take()].into_iter().flatten().collect();
            let thread = std::thread::Builder::new()
                .name(format!("serve-{shard}"))
                .spawn(move || run_thread(hub, shard, listeners, stopping))
                .map_err(|e| ServeError::Thread(e.to_string()))?;
            threads.push(thread);
        }
        Ok(Self {
            address,
            control: control_address,
            stop,
            threads,
        })
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
    listeners: Vec<std::net::TcpListener>,
    stopping: watch::Receiver<bool>,
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
        let mut accepting = Vec::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener).map_err(thread)?;
            accepting.push(tokio::task::spawn_local(accept(
                hub.clone(),
                listener,
                stopping.clone(),
            )));
        }
        for accepting in accepting {
            accepting.await.map_err(|e| ServeError::Thread(e.to_string()))?;
        }
        Ok(())
    })
}

async fn accept(hub: Arc<Hub>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
    // Every connection task holds a sender's clone; when all are gone, all connections have ended.
    let (open, mut all_ended) = tokio::sync::mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, hub.clone());
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
    drop(listener);
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

async fn connection(stream: TcpStream, hub: Arc<Hub>) {
    // Small messages leave when they are written; see `pushmark_transport::tcp`.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let kill = ConnectionKill::default();
    let opening = tokio::select! {
        // A connection may be made long before it is used: the deadline runs from the first byte.
        opening = Opening::look(&stream) => opening,
        // A session that ends may still have something to say on a way up that it has not used so far.
        () = hub.sessions_have_ended() => return,
    };
    let stream = match opening {
        Ok(Some(opening)) => match registry::take_over(opening, stream, &hub, &kill).await {
            Ok(()) => return,
            Err(stream) => stream,
        },
        Ok(None) => stream,
        Err(_) => return,
    };
    // In a box of its own, which the connections served above never have.
    Box::pin(serve_http(stream, hub, kill)).await;
}

async fn serve_http(stream: TcpStream, hub: Arc<Hub>, kill: ConnectionKill) {
    let service = service_fn(|mut request| {
        let (hub, kill) = (hub.clone(), kill.clone());
        async move {
            request.extensions_mut().insert(kill);
            Ok::<_, Infallible>(routes::route(request, &hub).await)
        }
    });
    let served = http1::Builder::new()
        .timer(HeaderTimer::default())
        .header_read_timeout(hub.config.header_deadline)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(served);
    tokio::select! {
        // What a connection dies of is told by its session; a connection without one had nothing to lose.
        _ = served.as_mut() => return,
        () = kill.killed() => return,
        () = hub.sessions_have_ended() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}
