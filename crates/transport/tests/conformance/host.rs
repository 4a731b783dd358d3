//! A host that remembers everything, and a server for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pushmark_measure::{Nanos, clock};
use pushmark_transport::carrier::arrival::{self, Arrived};
use pushmark_transport::carrier::certificates::{Acceptor, Identity, Offer};
use pushmark_transport::carrier::tls::{self, Trust};
use pushmark_transport::carrier::{Carriage, Carrier, Http, Windows};
use pushmark_transport::compression::Compression;
use pushmark_transport::http::refusal;
use pushmark_transport::outbox::Pushed;
use pushmark_transport::takeover::Opening;
use pushmark_transport::wire::Wire;
use pushmark_transport::{
    CloseReason, Connection, Heartbeat, Host, Message, Outbox, Outgoing, ServerHalf, Session, SessionId,
    WhenFull, registry,
};
use tokio::net::{TcpListener, TcpStream};

/// How a test's host behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) echo: bool,
    /// Openings that came whole may be served straight on their sockets.
    pub(crate) take_over: bool,
    pub(crate) outbox_messages: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_sessions: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) poll_deadline: Duration,
    pub(crate) absence_deadline: Duration,
    /// All messages are kept, numbered in the order of their publication, and clients that come back get them again.
    pub(crate) history: bool,
    pub(crate) retry: Option<Duration>,
    /// Clients are looked at all the time.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// What is compressed for those who ask.
    pub(crate) compression: Option<Compression>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            echo: false,
            take_over: true,
            outbox_messages: 100_000,
            when_full: WhenFull::DropNewest,
            max_sessions: 100,
            max_message_bytes: 1 << 20,
            poll_deadline: Duration::from_secs(25),
            absence_deadline: Duration::from_secs(15),
            history: false,
            retry: None,
            heartbeat: None,
            compression: None,
        }
    }
}

/// What happened to one session.
pub(crate) struct Record {
    pub(crate) session: Arc<Session>,
    pub(crate) received: Vec<Message>,
    pub(crate) closed: Vec<CloseReason>,
    /// What waited for an answer went away.
    pub(crate) cut: Vec<CloseReason>,
    pub(crate) offered: usize,
    pub(crate) dropped: usize,
    pub(crate) written: usize,
    undelivered: usize,
}

pub(crate) struct TestHost {
    config: Config,
    sessions: Mutex<HashMap<SessionId, Record>>,
    published: Mutex<Vec<Message>>,
}

impl TestHost {
    /// Whether plain sessions are served straight on their wire.
    pub(crate) fn takes_over(&self) -> bool {
        self.config.take_over
    }

    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            sessions: Mutex::default(),
            published: Mutex::default(),
        })
    }

    /// Reads the record of every session, in the order of their opening.
    pub(crate) fn records<T>(&self, read: impl FnMut(&Record) -> T) -> Vec<T> {
        let sessions = self.sessions.lock().unwrap();
        let mut records: Vec<_> = sessions.values().collect();
        records.sort_by_key(|r| r.session.id);
        records.into_iter().map(read).collect()
    }

    /// Gives `message` to every open session.
    pub(crate) fn publish(&self, message: &Message) {
        let mut sessions = self.sessions.lock().unwrap();
        let mut published = self.published.lock().unwrap();
        let id = self.config.history.then_some(published.len() as u64);
        if self.config.history {
            published.push(message.clone());
        }
        for record in sessions.values_mut() {
            let encoded = (record.session.encode)(message, id);
            record.push(encoded);
        }
    }

    /// Ends every session from the server's side.
    pub(crate) fn close_all(&self) {
        for record in self.sessions.lock().unwrap().values() {
            record.session.outbox.close();
        }
    }

    /// How many messages wait for all sessions together.
    pub(crate) fn waiting(&self) -> usize {
        self.records(|r| r.session.outbox.waiting()).into_iter().sum()
    }

    /// Why sessions were closed, all of them.
    pub(crate) fn closed(&self) -> Vec<CloseReason> {
        self.records(|r| r.closed.clone()).concat()
    }

    /// Panics unless every session was closed at most once and all its messages are accounted for.
    pub(crate) fn check_books(&self) {
        for balanced in self.records(Record::is_balanced) {
            balanced.unwrap();
        }
    }
}

impl Record {
    fn push(&mut self, encoded: bytes::Bytes) {
        match self.session.push_encoded(encoded, clock::now()) {
            Pushed::Closed => return,
            Pushed::Written => self.written += 1,
            Pushed::Queued => {}
            Pushed::DroppedOldest | Pushed::DroppedNewest | Pushed::Overflowed => self.dropped += 1,
        }
        self.offered += 1;
    }

    fn is_balanced(&self) -> Result<(), String> {
        let waiting = self.session.outbox.waiting();
        let told = self.written + self.dropped + self.undelivered + waiting;
        if self.closed.len() > 1 || told != self.offered {
            return Err(format!(
                "closed {:?}; {} offered ≠ {} written + {} dropped + {} undelivered + {waiting} waiting",
                self.closed, self.offered, self.written, self.dropped, self.undelivered
            ));
        }
        Ok(())
    }
}

impl Host for TestHost {
    fn open<S: ServerHalf>(&self, connection: &Connection, resume: Option<u64>) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.lock().unwrap();
        let open = sessions.values().filter(|r| r.closed.is_empty()).count();
        if open >= self.config.max_sessions {
            return None;
        }
        let outbox = Outbox::new(self.config.outbox_messages, self.config.when_full);
        // Guessable, which a test may be.
        let id = SessionId(sessions.len() as u128 + 1);
        let session = Arc::new(Session::new::<S>(id, outbox, connection.clone()));
        let published = self.published.lock().unwrap();
        let seen = resume.map_or(published.len(), |from| published.len().min(from as usize));
        let again = (seen..).zip(&published[seen..]);
        let offered = session.outbox.replay(
            again.map(|(id, message)| Outgoing::message(S::encode(message, Some(id as u64)), clock::now())),
        );
        let record = Record {
            session: session.clone(),
            received: Vec::new(),
            closed: Vec::new(),
            cut: Vec::new(),
            offered,
            dropped: 0,
            written: 0,
            undelivered: 0,
        };
        sessions.insert(id, record);
        Some(session)
    }

    fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        let sessions = self.sessions.lock().unwrap();
        let record = sessions.get(&id).filter(|r| r.closed.is_empty())?;
        Some(record.session.clone())
    }

    fn received(&self, session: &Arc<Session>, message: Message) {
        let mut sessions = self.sessions.lock().unwrap();
        let record = sessions.get_mut(&session.id).unwrap();
        if self.config.echo {
            record.push((session.encode)(&message, None));
        }
        record.received.push(message);
    }

    fn written(&self, session: &Session, _sent: Nanos) {
        self.sessions
            .lock()
            .unwrap()
            .get_mut(&session.id)
            .unwrap()
            .written += 1;
    }

    fn closed(&self, session: &Arc<Session>, reason: CloseReason) {
        let mut sessions = self.sessions.lock().unwrap();
        let record = sessions.get_mut(&session.id).unwrap();
        record.closed.push(reason);
        record.undelivered += session.outbox.discard();
    }

    fn max_message_bytes(&self) -> usize {
        self.config.max_message_bytes
    }

    fn cut(&self, session: &Session, reason: CloseReason) {
        let mut sessions = self.sessions.lock().unwrap();
        sessions.get_mut(&session.id).unwrap().cut.push(reason);
    }

    fn compression(&self) -> Option<Compression> {
        self.config.compression
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        self.config.heartbeat
    }

    fn retry(&self) -> Option<Duration> {
        self.config.retry
    }

    fn poll_deadline(&self) -> Duration {
        self.config.poll_deadline
    }

    fn absence_deadline(&self) -> Duration {
        self.config.absence_deadline
    }
}

/// Serves `host` on this thread's local set; gives the address.
pub(crate) async fn serve(host: Arc<TestHost>) -> SocketAddr {
    serve_with(host, Some(acceptor())).await
}

/// The same with another certificate, or without one.
pub(crate) async fn serve_with(host: Arc<TestHost>, tls: Option<Acceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    if let Some(heartbeat) = host.config.heartbeat {
        let host = host.clone();
        tokio::task::spawn_local(async move {
            loop {
                host.records(|r| {
                    if r.closed.is_empty() {
                        (r.session.beat)(&r.session, heartbeat, clock::now());
                    }
                });
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    tokio::task::spawn_local(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            tokio::task::spawn_local(connection(
                stream,
                tls.clone(),
                Connection::from(peer),
                host.clone(),
            ));
        }
    });
    address
}

async fn connection(stream: TcpStream, tls: Option<Acceptor>, connection: Connection, host: Arc<TestHost>) {
    stream.set_nodelay(true).unwrap();
    match arrival::look(stream, tls.as_ref(), Duration::from_secs(20)).await {
        Ok(Arrived::Plain(socket, http, opening)) => {
            if let Some(socket) = take_over(socket, opening, &host, &connection).await {
                let stream = socket.into_stream().unwrap();
                serve_http(TokioIo::new(stream), http, connection, host).await;
            }
        }
        Ok(Arrived::Secured(wire, http, opening)) => {
            if let Some(wire) = take_over(wire, opening, &host, &connection).await {
                serve_http(TokioIo::new(wire), http, connection, host).await;
            }
        }
        Err(_) => {}
    }
}

async fn take_over<W: Wire>(
    wire: W,
    opening: Option<Opening>,
    host: &Arc<TestHost>,
    connection: &Connection,
) -> Option<W> {
    match opening {
        Some(opening) if host.config.take_over => {
            registry::take_over(opening, wire, host, connection).await.err()
        }
        _ => Some(wire),
    }
}

async fn serve_http<I>(io: I, http: Http, connection: Connection, host: Arc<TestHost>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(|mut request| {
        let connection = match http {
            Http::Http1_1 => connection.clone(),
            Http::Http2 => connection.stream(),
        };
        let host = host.clone();
        async move {
            if http == Http::Http2 {
                arrival::serving(&connection);
            }
            request.extensions_mut().insert(connection);
            let response = registry::respond(request, &host).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|_| refusal(hyper::StatusCode::NOT_FOUND, "")))
        }
    });
    match http {
        Http::Http1_1 => {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(64 * 1024);
            let served = builder.serve_connection(io, service).with_upgrades();
            to_its_end(served, &connection).await;
        }
        Http::Http2 => {
            let served = arrival::http2(Windows::default()).serve_connection(io, service);
            to_its_end(served, &connection).await;
        }
    }
}

async fn to_its_end(served: impl Future<Output = hyper::Result<()>>, connection: &Connection) {
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // Said while the connection's sessions are still there to hear it.
        ended = served.as_mut() => if let Err(e) = ended {
            connection.note(CloseReason::of_http(&e));
        },
        _ = connection.killed() => {}
    }
}

/// The certificate of all test hosts, and who trusts it.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::make(&[], &[]).unwrap())
}

fn acceptor() -> Acceptor {
    static ACCEPTOR: OnceLock<Acceptor> = OnceLock::new();
    ACCEPTOR
        .get_or_init(|| Acceptor::new(identity(), &Offer::default()).unwrap())
        .clone()
}

/// How a client gets to a test host over `carrier`.
pub(crate) fn carriage(carrier: Carrier) -> Carriage {
    let settings = tls::Settings::trusting(Trust::Roots(identity().chain.clone()));
    Carriage {
        carrier,
        tls: carrier
            .is_secured()
            .then(|| Arc::new(tls::Client::new(settings).unwrap())),
        ..Carriage::default()
    }
}
