//! A worker: one thread, one current-thread runtime, its sessions, and one recorder.

mod context;
mod load;
mod report;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use pushmark_measure::{Books, ConnectionEvent, Interval, Nanos, Party, Phase, Recorder, Schedule, clock};
use pushmark_scenario::plan::{Pattern, StreamsPerConnection, Workload};
use pushmark_transport::carrier::{Carriage, Carrier, Streams, Windows, take_connected};
use pushmark_transport::compression::{Compression, Window};
use pushmark_transport::registry::{WithConnector, with_connector};
use pushmark_transport::seam::{Connector, Native, Target, TcpOptions};
use pushmark_transport::timer::Timer;
use pushmark_transport::{meter, null, registry};
use tokio::sync::{Notify, watch};

use crate::assignment::{Assignment, Begin, Stop, Totals, route, schedule};
use crate::session::{self, SessionState};
use crate::watch::{ThreadLoad, Watch};
pub(crate) use context::Context;
use context::{Switch, Trouble};
use load::{largest_message, open_and_close, publish_in_process, usual_message};
use report::{flush, report_intervals};

/// Turns, 5 ms apart, that sessions have after a drain that a standstill has taken up.
const TURNS_AFTER_THE_DRAIN: u32 = 3;
/// A look at the drain that comes so much after the one before, in nanoseconds, is one after a standstill.
const STANDSTILL_NS: u64 = 50_000_000;

/// What the coordinator has said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// The load begins.
    pub begin: Option<Begin>,
    /// The load ends.
    pub stop: Option<Stop>,
    /// The coordinator is gone or wants an end at once.
    pub abort: bool,
}

/// What a worker thread tells its process.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// Every attempt of the ramp has an outcome: established, failed.
    Opened(u32, u32),
    /// About a second.
    Interval(Box<Interval>),
    /// What became of connections.
    Events(Vec<ConnectionEvent>),
    /// The worker has ended; CPU and memory are its process's to add.
    Done(Box<Totals>),
}

/// Why a worker could not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No such transport.
    #[error("there is no transport called “{0}”")]
    UnknownTransport(String),
    /// The transport does not run over that carrier, or the carrier cannot be set up.
    #[error("{0}")]
    Carrier(String),
    /// The thread's runtime or timer could not be made.
    #[error("a worker could not start: {0}")]
    Start(#[from] std::io::Error),
    /// Whoever listened is gone.
    #[error("the coordinator is gone")]
    Orphaned,
}

/// Runs worker number `thread` of its process to the end of the trial.
///
/// # Errors
/// When the worker cannot start, or nobody listens to it any more.
pub fn run(
    assignment: Assignment,
    thread: u32,
    control: watch::Receiver<Control>,
    out: SyncSender<FromWorker>,
) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let (transport, carrier) = (assignment.transport.clone(), assignment.carrier.clone());
    let task = Task {
        assignment,
        thread,
        control,
        out,
    };
    local.block_on(&runtime, async move {
        match with_connector(&transport, &carrier, task) {
            Ok(work) => work.await,
            Err(_) if registry::row(&transport).is_some() => Err(WorkerError::Carrier(format!(
                "{transport} does not run over {carrier}"
            ))),
            Err(_) => Err(WorkerError::UnknownTransport(transport)),
        }
    })
}

struct Task {
    assignment: Assignment,
    thread: u32,
    control: watch::Receiver<Control>,
    out: SyncSender<FromWorker>,
}

impl WithConnector for Task {
    type Output = std::pin::Pin<Box<dyn Future<Output = Result<(), WorkerError>>>>;

    fn with<C: Connector>(self, connector: C) -> Self::Output {
        Box::pin(work(self, connector))
    }
}

/// What carries this worker's sessions; what needs no server is carried by nothing.
fn carriage(assignment: &Assignment, in_process: bool) -> Result<Carriage, WorkerError> {
    if in_process {
        return Ok(Carriage::default());
    }
    let failed = |e: &dyn std::fmt::Display| WorkerError::Carrier(e.to_string());
    let carrier: Carrier = assignment.carrier.parse().map_err(|e| failed(&e))?;
    let plan = &assignment.carriage;
    let tls = match carrier.is_secured() {
        true => Some(Arc::new(plan.client().map_err(WorkerError::Carrier)?)),
        false => None,
    };
    let streams_per_connection = match plan.setup.streams_per_connection {
        StreamsPerConnection::All => Streams::All,
        StreamsPerConnection::AtMost(most) => {
            Streams::AtMost(NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN))
        }
    };
    Ok(Carriage {
        carrier,
        tls,
        streams_per_connection,
        compression: plan.setup.compression.map(|asked| Compression {
            down: Window {
                takeover: asked.context_takeover.of_server(),
                bits: asked.window_bits,
            },
            up: Window {
                takeover: asked.context_takeover.of_client(),
                bits: asked.window_bits,
            },
            level: asked.level,
        }),
        group: None,
        windows: plan
            .setup
            .windows
            .map_or_else(Windows::default, |windows| Windows {
                stream_bytes: windows.stream_bytes,
                connection_bytes: windows.connection_bytes,
            }),
    })
}

/// What those get who share a connection with a session that is slow on purpose, and the rest: where there are any such.
fn beside_slow(assignment: &Assignment) -> Option<RefCell<[Party; 2]>> {
    let wanted = assignment.trouble.slow_readers.is_some() && assignment.groups().share();
    wanted.then(RefCell::default)
}

async fn work<C: Connector>(task: Task, connector: C) -> Result<(), WorkerError> {
    let Task {
        assignment,
        thread,
        control,
        out,
    } = task;
    let in_process = registry::row(&assignment.transport).is_some_and(|row| row.in_process);
    let peer = null::Peer::default();
    let deadlines = assignment.deadlines;
    let tcp = assignment.trouble.tcp;
    let carriage = carriage(&assignment, in_process)?;
    let context = Rc::new(Context {
        run: assignment.run,
        timer: Timer::start()?,
        recorder: RefCell::new(Recorder::new(assignment.open_at)),
        closing: Switch::default(),
        load_end: Cell::new(Nanos::MAX),
        corrupt: Cell::new(0),
        own_send_delay: RefCell::default(),
        groups: assignment.groups(),
        beside_slow: beside_slow(&assignment),
        control: control.clone(),
        target: Target {
            address: assignment.address,
            source: None,
            kernel_stamps: false,
            sends: matches!(assignment.workload, Workload::Echo(_)),
            connect_deadline: deadlines.connect,
            open_deadline: deadlines.open,
            usual_message_bytes: usual_message(&assignment.workload),
            max_message_bytes: largest_message(&assignment.workload),
            resume: None,
            tcp: TcpOptions {
                keepalive: tcp.keepalive.map(|k| (k.idle, k.interval, k.probes)),
                user_timeout: tcp.user_timeout,
            },
            carriage,
            in_process: in_process.then(|| peer.clone()),
        },
        native: registry::row(&assignment.transport).map_or(Native::Nothing, |row| row.native),
        trouble: assignment.trouble.is_watched().then(Trouble::default),
        measured: Cell::default(),
        arrived: Cell::default(),
        events: RefCell::default(),
        outcomes: Cell::default(),
        negotiation: RefCell::default(),
        open: Cell::new(0),
        resolved: Notify::new(),
        assignment,
    });

    let reporting = tokio::task::spawn_local(report_intervals(context.clone(), out.clone()));
    let mut worker = Worker {
        context,
        thread,
        control,
        out,
        sessions: Vec::new(),
        tasks: Vec::new(),
    };
    let totals = worker.run(connector, in_process.then_some(peer)).await?;
    reporting.abort();
    worker.flush(Phase::Drain)?;
    worker.tell(FromWorker::Done(Box::new(totals)))
}

struct Worker {
    context: Rc<Context>,
    thread: u32,
    control: watch::Receiver<Control>,
    out: SyncSender<FromWorker>,
    sessions: Vec<Rc<SessionState>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Worker {
    async fn run<C: Connector>(
        &mut self,
        connector: C,
        peer: Option<null::Peer>,
    ) -> Result<Totals, WorkerError> {
        let connects = match self.context.assignment.workload {
            Workload::Connect { rate } => Some(rate),
            Workload::Push(_) | Workload::Echo(_) => None,
        };
        if connects.is_none() {
            self.open_all(&connector).await?;
        } else {
            self.tell(FromWorker::Opened(0, 0))?;
        }
        let Some(begin) = self.wait_for(|c| c.begin.clone()).await else {
            return Ok(Totals::default());
        };
        let before_the_load = wire::read(&self.context);
        if connects.is_none() {
            meter::begin_load();
        }
        self.context
            .recorder
            .borrow_mut()
            .set_window(begin.measured.clone());
        self.context.load_end.set(begin.measured.end);
        self.context.watch_from(begin.measured.start);
        let mut opens = None;
        if let Some(rate) = connects {
            // Every thread of every process opens its part of the rate, each at instants of its own.
            let opener = self.context.assignment.opener(self.thread);
            let share = pushmark_scenario::plan::Rate {
                count: rate.count,
                per: rate.per * opener.of,
            };
            let span = begin.start..begin.measured.end;
            let plan = schedule(
                share,
                Pattern::Uniform,
                span,
                self.context.assignment.seed,
                opener.number,
                true,
            )
            .in_slots(begin.slots);
            opens = Some(tokio::task::spawn_local(open_and_close(
                self.context.clone(),
                connector,
                (plan, opener),
                begin.clone(),
            )));
        } else if let (Some(peer), Some(plan)) = (&peer, &begin.published) {
            tokio::task::spawn_local(publish_in_process(
                self.context.clone(),
                peer.clone(),
                plan.clone(),
            ));
        }

        let load = self.thread_load(&begin).await;
        let Some(mut stop) = self.wait_for(|c| c.stop.clone()).await else {
            return Ok(Totals::default());
        };
        if stop.published.is_none() && stop.at < begin.measured.end {
            // Cut short: what was sent while the word was on its way was sent. The books end where the load does.
            stop.at = clock::now().clamp(stop.at, begin.measured.end);
        }
        self.context.load_end.set(stop.at);
        self.drain(&begin, &stop).await;
        // Every attempt has an outcome, however long it takes: its own deadlines see to an end.
        let opened = match opens {
            Some(opens) => tokio::select! {
                opened = opens => opened.ok(),
                _ = self.control.wait_for(|control| control.abort) => None,
            },
            None => None,
        };
        let mut totals = self.totals(&begin, &stop);
        totals.wire = wire::since(before_the_load, &self.context);
        totals.busiest_thread = load.busy;
        totals.most_waiting_thread = load.waiting;
        totals.most_wanting_thread = load.busy + load.waiting;
        totals.loop_delay = load.loop_delay;
        if let Some(opened) = opened {
            (totals.opens_scheduled, totals.opens_skipped) = opened;
        }
        self.close_all().await;
        Ok(totals)
    }

    /// Starts every session of this thread and waits until each attempt has an outcome.
    async fn open_all<C: Connector>(&mut self, connector: &C) -> Result<(), WorkerError> {
        let a = &self.context.assignment;
        let groups = self.context.groups;
        let ours = |index: &u32| groups.group(*index) % a.threads.max(1) == self.thread;
        for index in a.sessions.clone().filter(ours) {
            let open_at = a.open_at + a.arrival.offset(index, a.total_sessions);
            let state = Rc::new(SessionState::new(index));
            self.sessions.push(state.clone());
            let session = session::run(self.context.clone(), state, connector.clone(), open_at);
            self.tasks.push(tokio::task::spawn_local(session));
        }
        let planned = self.sessions.len() as u32;
        let mut control = self.control.clone();
        loop {
            let (established, failed) = self.context.outcomes.get();
            if established + failed >= planned {
                return self.tell(FromWorker::Opened(established, failed));
            }
            tokio::select! {
                () = self.context.resolved.notified() => {}
                // The coordinator does not wait for ever: those who come later miss what was sent before.
                ended = control.wait_for(|c| c.abort || c.stop.is_some() || c.begin.is_some()) => {
                    return ended.map(drop).map_err(|_| WorkerError::Orphaned);
                }
            }
        }
    }

    /// Waits for the coordinator; `None` when it wants an end instead.
    async fn wait_for<T>(&mut self, what: impl Fn(&Control) -> Option<T>) -> Option<T> {
        loop {
            {
                let control = self.control.borrow_and_update();
                if control.abort {
                    return None;
                }
                if let Some(value) = what(&control) {
                    return Some(value);
                }
                // A load that never began has no end to wait for.
                if control.stop.is_some() {
                    return None;
                }
            }
            if self.control.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Waits for the end of the measured window; gives what it was like for this thread.
    async fn thread_load(&mut self, begin: &Begin) -> ThreadLoad {
        let timer = self.context.timer.clone();
        let mut watch = Watch::default();
        tokio::select! {
            () = watch.over(&timer, begin.measured.clone()) => {}
            _ = self.control.wait_for(|c| c.abort || c.stop.is_some()) => {}
        }
        watch.load()
    }

    /// Until every session has all it can expect, or the drain is over.
    async fn drain(&self, begin: &Begin, stop: &Stop) {
        // After a standstill longer than the drain, what came meanwhile waits in the sockets: sessions get a few turns to read it.
        let (mut turns_left, mut looked) = (0, None);
        loop {
            let complete = self
                .sessions
                .iter()
                .all(|s| self.outstanding(s, begin, stop) == 0);
            let now = clock::now();
            let is_over = now >= stop.drain_end;
            if is_over && looked.is_none_or(|looked| now.since(looked) >= STANDSTILL_NS) {
                turns_left = TURNS_AFTER_THE_DRAIN;
            }
            looked = Some(now);
            if complete || (is_over && turns_left == 0) || self.control.borrow().abort {
                return;
            }
            if is_over {
                turns_left -= 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Messages that this session may still receive.
    fn outstanding(&self, state: &SessionState, begin: &Begin, stop: &Stop) -> u64 {
        if !state.established.get() || state.ended_at.get().is_some() {
            return 0;
        }
        let range = match &begin.published {
            Some(published) => Some(0..stop.published.unwrap_or_else(|| published.count_before(stop.at))),
            None => self.measured_range(state, begin, stop),
        };
        range.map_or(0, |range| state.tracker.borrow().missing_in(range))
    }

    /// Sequence numbers of the measured window in the stream that `state` takes part in.
    fn measured_range(
        &self,
        state: &SessionState,
        begin: &Begin,
        stop: &Stop,
    ) -> Option<std::ops::Range<u64>> {
        let a = &self.context.assignment;
        let plan: Schedule = match (&a.workload, &begin.published) {
            (Workload::Echo(m), _) => {
                let span = begin.start..begin.measured.end;
                schedule(m.rate, m.pattern, span, a.seed, state.index, true).in_slots(begin.slots)
            }
            (_, Some(published)) => published.clone(),
            _ => return None,
        };
        let end = match stop.published {
            Some(published) => published.min(plan.count_before(begin.measured.end)),
            None => plan.count_before(stop.at.min(begin.measured.end)),
        };
        Some(plan.count_before(begin.measured.start).min(end)..end)
    }

    fn totals(&self, begin: &Begin, stop: &Stop) -> Totals {
        let mut books = Books::default();
        let (mut ended_early, mut late, mut sent_in_window, mut held_back) = (0, 0, 0, 0);
        // The same for all sessions of a publication, and not free for every pattern.
        let shared = begin.published.as_ref().and_then(|p| {
            let state = self.sessions.first()?;
            Some((p, self.measured_range(state, begin, stop)?))
        });
        let (mut cuts, mut slow) = (Vec::new(), (0, 0, 0));
        let mut by_route = BTreeMap::new();
        let mut ended_by: BTreeMap<String, u64> = BTreeMap::new();
        let mut beside_slow = self.context.beside_slow.as_ref().map(RefCell::take);
        for state in &self.sessions {
            if state.established.get() {
                let trouble = &self.context.assignment.trouble;
                *by_route.entry(route(&trouble.shares, state.index)).or_default() += 1;
            }
            if self.context.is_slow(state.index) {
                if let Some((_, range)) = &shared {
                    slow.0 += 1;
                    slow.1 += range.end - range.start;
                    slow.2 += state.tracker.borrow().seen_in(range.clone());
                }
                continue;
            }
            if let Some(range) = self.measured_range(state, begin, stop) {
                cuts.extend(state.take_cuts(&range));
            }
            ended_early += u64::from(state.ended_at.get().is_some());
            if let Some(cause) = state.ended_by.borrow().as_deref() {
                *ended_by.entry(cause.to_owned()).or_default() += 1;
            }
            let tracker = state.tracker.borrow();
            books.overflowed_trackers += u64::from(tracker.overflowed());
            if let Some((published, range)) = &shared {
                if !state.established.get() {
                    continue;
                }
                // A session could expect only what was published while it was there.
                let start = published
                    .count_before(state.usable_at.get())
                    .clamp(range.start, range.end);
                late += u64::from(start > range.start || state.usable_at.get() > begin.start);
                let end = state
                    .ended_at
                    .get()
                    .map_or(range.end, |at| published.count_before(at).min(range.end));
                let seen = tracker.seen_in(range.clone());
                let expected = end.saturating_sub(start).max(seen);
                books.expected += expected;
                books.delivered_once += seen;
                books.lost += expected - seen;
                if let Some(parties) = &mut beside_slow {
                    let party = &mut parties[self.context.party(state.index)];
                    party.sessions += 1;
                    party.ended_early += u64::from(state.ended_at.get().is_some());
                    party.expected += expected;
                    party.delivered += seen;
                }
            } else if let Some(range) = self.measured_range(state, begin, stop) {
                let sent = state.sent_measured.get();
                let seen = tracker.seen_in(range.clone());
                let scheduled = range.end - range.start;
                books.scheduled += scheduled;
                books.sent += sent;
                books.not_sent += scheduled.saturating_sub(sent);
                sent_in_window += state.sent_in_window.get();
                if state.sending.get() && state.ended_at.get().is_none() {
                    held_back += scheduled.saturating_sub(sent);
                }
                books.expected += sent;
                books.delivered_once += seen;
                books.lost += sent.saturating_sub(seen);
            }
        }
        let trouble = self.context.trouble.as_ref();
        let measured = self.context.measured.get();
        books.duplicated = measured.duplicated;
        books.reordered = measured.reordered;
        books.late = measured.late;
        books.corrupt = self.context.corrupt.get();
        Totals {
            books,
            measured_payload_bytes: measured.payload_bytes,
            compressed: measured.compressed,
            ended_early,
            established_late: late,
            negative_samples: self.context.recorder.borrow().negative(),
            own_send_delay: self.context.own_send_delay.take(),
            sent_in_window,
            held_back,
            cuts,
            reconnects: trouble.map_or_else(Default::default, |t| t.reconnects.take()),
            course: trouble.map_or_else(Default::default, |t| t.course.take()),
            stayed_before: trouble.map_or_else(Default::default, |t| t.stayed_before.take()),
            stayed_after: trouble.map_or_else(Default::default, |t| t.stayed_after.take()),
            established_by_route: by_route,
            negotiation: self.context.negotiation.take(),
            slow,
            ended_by,
            tcp_connections: take_connected(),
            beside_slow,
            ..Totals::default()
        }
    }

    async fn close_all(&mut self) {
        self.context.closing.switch_on();
        // Each close has its own deadline; those still connecting are cut off.
        let deadline = self.context.assignment.deadlines.close + Duration::from_millis(500);
        let all = async {
            for task in &mut self.tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(deadline, all).await;
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }

    fn tell(&self, message: FromWorker) -> Result<(), WorkerError> {
        self.out.send(message).map_err(|_| WorkerError::Orphaned)
    }

    fn flush(&self, phase: Phase) -> Result<(), WorkerError> {
        flush(&self.context, phase, &self.out)
    }
}
