//! What the sessions of one worker share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use pushmark_measure::{
    Compressed, ConnectionEvent, EventKind, Histogram, Metric, Nanos, Negotiation, Party, Recorder, clock,
};
use pushmark_scenario::plan;
use pushmark_transport::carrier::Carriage;
use pushmark_transport::seam::{Connected, Connector, Native, Target};
use pushmark_transport::timer::Timer;
use pushmark_transport::{Step, TransportError};
use tokio::sync::{Notify, watch};

use super::Control;
use crate::assignment::{Assignment, Begin, route};
use crate::course::Course;
use crate::groups::Groups;

/// A one-way switch that tasks wait for.
#[derive(Default)]
pub(crate) struct Switch {
    on: Cell<bool>,
    notify: Notify,
}

impl Switch {
    pub(crate) fn switch_on(&self) {
        self.on.set(true);
        self.notify.notify_waiters();
    }

    pub(crate) async fn cancelled(&self) {
        while !self.on.get() {
            self.notify.notified().await;
        }
    }
}

/// Counts of the measured window that no single session keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) reordered: u64,
    pub(crate) duplicated: u64,
    pub(crate) late: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) compressed: Compressed,
}

/// What the sessions of one worker share. Never leaves its thread.
pub(crate) struct Context {
    pub(crate) assignment: Assignment,
    pub(crate) run: u32,
    pub(crate) timer: Timer,
    pub(crate) recorder: RefCell<Recorder>,
    pub(crate) closing: Switch,
    /// Nothing is intended at or after this instant.
    pub(crate) load_end: Cell<Nanos>,
    pub(crate) corrupt: Cell<u64>,
    /// Lateness of sends that is this generator's own.
    pub(crate) own_send_delay: RefCell<Histogram>,
    /// Which sessions share a connection.
    pub(crate) groups: Groups,
    /// What those get who share one with a slow session, and the rest; kept where there are any.
    pub(crate) beside_slow: Option<RefCell<[Party; 2]>>,
    pub(super) control: watch::Receiver<Control>,
    pub(super) target: Target,
    /// What the transport's own standard says about coming back.
    pub(crate) native: Native,
    /// Kept where something breaks.
    pub(crate) trouble: Option<Trouble>,
    pub(super) measured: Cell<Measured>,
    /// Messages that came in the whole trial, each once, and their payload bytes.
    pub(crate) arrived: Cell<(u64, u64)>,
    pub(super) events: RefCell<Vec<ConnectionEvent>>,
    /// Attempts that have an outcome: established, failed.
    pub(super) outcomes: Cell<(u32, u32)>,
    /// What connections agreed on, and which got something else.
    pub(super) negotiation: RefCell<Negotiation>,
    pub(super) open: Cell<u64>,
    pub(super) resolved: Notify,
}

/// What is kept of a trial in which something breaks.
pub(crate) struct Trouble {
    pub(crate) course: RefCell<Course>,
    /// When the first fault is due; nothing is before the load begins.
    pub(super) first_fault: Cell<Nanos>,
    pub(super) stayed_before: RefCell<Histogram>,
    pub(super) stayed_after: RefCell<Histogram>,
    /// Attempts to come back, by outcome.
    pub(super) reconnects: RefCell<BTreeMap<String, u64>>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            course: RefCell::default(),
            first_fault: Cell::new(Nanos::MAX),
            stayed_before: RefCell::default(),
            stayed_after: RefCell::default(),
            reconnects: RefCell::default(),
        }
    }
}

impl Trouble {
    /// The latency of a message to a session that was never cut off.
    pub(crate) fn stayed(&self, intended: Nanos, latency_ns: u64) {
        let to = if intended < self.first_fault.get() {
            &self.stayed_before
        } else {
            &self.stayed_after
        };
        to.borrow_mut().record(latency_ns);
    }
}

impl Context {
    pub(crate) async fn begin(&self) -> Begin {
        let mut control = self.control.clone();
        loop {
            if let Some(begin) = control.borrow_and_update().begin.clone() {
                return begin;
            }
            if control.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn count(&self, measured: bool, change: impl FnOnce(&mut Measured)) {
        if measured {
            let mut counts = self.measured.get();
            change(&mut counts);
            self.measured.set(counts);
        }
    }

    pub(crate) fn session_ended(&self) {
        self.open.set(self.open.get() - 1);
        self.open_changed(-1);
    }

    fn open_changed(&self, change: i64) {
        if let Some(trouble) = &self.trouble {
            trouble.course.borrow_mut().opened(clock::now(), change);
        }
    }

    /// Whether session number `session` is slow on purpose.
    pub(crate) fn is_slow(&self, session: u32) -> bool {
        let slow = self.assignment.trouble.slow_readers;
        slow.is_some_and(|slow| plan::is_in_share(slow.share, session))
    }

    /// Which party beside slow sessions session number `session` belongs to: those who share a connection with one, or the rest.
    pub(crate) fn party(&self, session: u32) -> usize {
        let slow = self.assignment.trouble.slow_readers;
        let near = |share| {
            self.groups
                .has_neighbour_in(share, session, self.assignment.total_sessions)
        };
        usize::from(!slow.is_some_and(|slow| near(slow.share)))
    }

    /// How many messages of the publication are due before `at`.
    pub(crate) fn scheduled_before(&self, at: Nanos) -> u64 {
        let control = self.control.borrow();
        let published = control.begin.as_ref().and_then(|begin| begin.published.as_ref());
        published.map_or(0, |published| published.count_before(at))
    }

    /// From now on the course of the trial is kept.
    pub(super) fn watch_from(&self, measured_start: Nanos) {
        if let Some(trouble) = &self.trouble {
            *trouble.course.borrow_mut() = Course::new(measured_start, self.open.get());
            if let Some(first) = self.assignment.trouble.first_fault {
                trouble.first_fault.set(measured_start + first);
            }
        }
    }

    pub(crate) fn event(&self, session: u32, kind: EventKind, detail: String) {
        let mut recorder = self.recorder.borrow_mut();
        let counter = match kind {
            EventKind::Established => &mut recorder.counters.established,
            EventKind::Failed => &mut recorder.counters.failed,
            EventKind::ClosedByUs => &mut recorder.counters.closed_by_us,
            EventKind::ClosedByPeer => &mut recorder.counters.closed_by_peer,
            EventKind::Dropped => &mut recorder.counters.dropped,
            EventKind::Reconnected => &mut recorder.counters.reconnected,
            EventKind::ReconnectFailed => &mut recorder.counters.reconnects_failed,
            EventKind::GaveUp => &mut recorder.counters.gave_up,
        };
        *counter += 1;
        self.events.borrow_mut().push(ConnectionEvent {
            at: clock::now(),
            session,
            kind,
            detail,
        });
    }

    /// What a session got. `timed`: as one of those that are asked for.
    fn note<T, R>(&self, connected: &Connected<T, R>, timed: bool) {
        // What needs no server negotiates nothing.
        if self.target.in_process.is_some() {
            return;
        }
        let negotiated = &connected.negotiated;
        let mut all = self.negotiation.borrow_mut();
        *all.agreed.entry(negotiated.to_string()).or_default() += 1;
        // Who made the connection may have failed on it.
        if !connected.times.first {
            return;
        }
        all.connections += 1;
        if let Some(tls) = &negotiated.tls {
            let asked = self
                .target
                .carriage
                .tls
                .as_ref()
                .is_some_and(|tls| tls.asks_to_resume());
            all.resumed += u64::from(tls.resumed);
            let counts = asked && timed && self.is_connect();
            all.timed += u64::from(counts);
            all.cold_in_window += u64::from(counts && !tls.resumed);
        }
    }

    /// The workload is connecting itself.
    fn is_connect(&self) -> bool {
        matches!(self.assignment.workload, plan::Workload::Connect { .. })
    }

    /// An attempt that failed, by what.
    fn note_failed(&self, session: u32, error: &TransportError) {
        let mut all = self.negotiation.borrow_mut();
        all.failed(error.key(), session, error.class.is_other_than_asked(), || {
            error.detail.clone()
        });
    }

    /// A session was dropped: whether because a further connection of it did not get what was asked for.
    pub(crate) fn note_dropped(&self, session: u32, error: &TransportError) {
        if error.class.is_other_than_asked() || error.step == Step::Secure {
            self.note_failed(session, error);
        }
    }

    /// Where session number `session` goes.
    fn target_of(&self, session: u32) -> Target {
        let trouble = &self.assignment.trouble;
        let way = trouble.routes.get(route(&trouble.shares, session));
        Target {
            address: way.copied().unwrap_or(self.target.address),
            kernel_stamps: plan::is_in_share(self.assignment.kernel_stamps, session),
            carriage: Carriage {
                group: self.groups.share().then(|| self.groups.group(session)),
                ..self.target.carriage.clone()
            },
            ..self.target.clone()
        }
    }

    /// One attempt of a session that was cut off to come back.
    pub(crate) async fn reconnect<C: Connector>(
        &self,
        connector: &C,
        session: u32,
        resume: Option<String>,
    ) -> Result<Connected<C::Tx, C::Rx>, TransportError> {
        let sources = &self.assignment.sources;
        let source = sources.get(session as usize % sources.len().max(1));
        let target = Target {
            resume,
            // The port it had may still be in use by the connection that it lost.
            source: source.map(|address| SocketAddr::new(*address, 0)),
            ..self.target_of(session)
        };
        let started = clock::now();
        let result = connector.connect(&target).await;
        let outcome = match &result {
            Ok(connected) => {
                self.open.set(self.open.get() + 1);
                self.open_changed(1);
                self.note(connected, false);
                let took_us = connected.times.usable.since(connected.times.started) / 1_000;
                self.event(session, EventKind::Reconnected, format!("{took_us} us"));
                "established".to_owned()
            }
            Err(e) => {
                self.note_failed(session, e);
                self.event(session, EventKind::ReconnectFailed, e.to_string());
                e.key()
            }
        };
        if let Some(trouble) = &self.trouble {
            trouble.course.borrow_mut().attempted(started);
            *trouble.reconnects.borrow_mut().entry(outcome).or_default() += 1;
        }
        result
    }

    /// Opens one session and records how long it took, or why it failed.
    /// Only attempts of the measured window are timed when the window is what is asked for (`timed`).
    pub(crate) async fn connect<C: Connector>(
        &self,
        connector: &C,
        session: u32,
        timed: bool,
    ) -> Option<Connected<C::Tx, C::Rx>> {
        self.recorder.borrow_mut().counters.attempted += 1;
        let sources = &self.assignment.sources;
        let count = sources.len().max(1) as u32;
        let source = sources.get((session % count) as usize).map(|address| {
            // A port that is named is free or not; one that the kernel has to search for takes the longer, the more are in use.
            // Sessions that come and go have numbers without end, which no ports stand for: theirs are the kernel's to choose.
            let nth = u16::try_from(session / count).ok().filter(|_| !self.is_connect());
            let port = nth.and_then(|nth| self.assignment.first_port.checked_add(nth));
            SocketAddr::new(*address, port.unwrap_or(0))
        });
        let target = Target {
            source,
            ..self.target_of(session)
        };
        let result = connector.connect(&target).await;
        let (established, failed) = self.outcomes.get();
        let connected = match result {
            Ok(connected) => {
                let times = connected.times;
                self.note(&connected, timed);
                if timed {
                    let mut recorder = self.recorder.borrow_mut();
                    recorder.record_connect(Metric::ConnectTime, times.usable.since(times.started));
                    // Where there was nothing to connect or to secure, nothing took time.
                    if !times.joined {
                        let took = times.tcp_connected.since(times.dialed);
                        recorder.record_connect(Metric::TcpConnectTime, took);
                    }
                    if connected.negotiated.tls.is_some() && !times.joined {
                        recorder
                            .record_connect(Metric::TlsConnectTime, times.secured.since(times.tcp_connected));
                    }
                }
                self.outcomes.set((established + 1, failed));
                self.open.set(self.open.get() + 1);
                self.open_changed(1);
                let took_us = times.usable.since(times.started) / 1_000;
                self.event(session, EventKind::Established, format!("{took_us} us"));
                Some(connected)
            }
            Err(e) => {
                self.outcomes.set((established, failed + 1));
                self.note_failed(session, &e);
                self.event(session, EventKind::Failed, e.to_string());
                None
            }
        };
        self.resolved.notify_one();
        connected
    }
}
