//! A trial: one variant at one point of a sweep, once. Starts a server and workers, conducts them, keeps the books.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pushmark_measure::{Histograms, Metric, Nanos, Phase, TrialSummary, clock};
use pushmark_scenario::plan::{Cell, Plan, TargetPlan, Workload};
use pushmark_transport::control::{Publish, ServerStats};
use pushmark_transport::stamp::MAX_24_BIT;
use pushmark_transport::{Step, Target, TransportError, process, registry};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command as Program};
use tokio::sync::mpsc;

use crate::assignment::{Assignment, Begin, Command, Report, Stop, Totals, kind, schedule};
use crate::controls::Controls;
use crate::embedded::{Embedded, EmbeddedError, default_threads};
use crate::merge::Merger;
use crate::preflight::{self, Limits, Needs};
use crate::run::{Interrupt, Observer, ObserverError, TrialId};
use crate::summary;

/// Time between the last word to everybody and the first message.
const LEAD: Duration = Duration::from_millis(100);
/// How long a worker may take beyond its deadlines before it counts as dead.
const GRACE: Duration = Duration::from_secs(10);
/// How long a server may take to answer on its control paths.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a trial could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No server.
    #[error(transparent)]
    Server(#[from] EmbeddedError),
    /// The server's control paths cannot be used.
    #[error("the server at {address} cannot be controlled: {source}")]
    Control {
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened.
        source: TransportError,
    },
    /// The target's name or address cannot be resolved.
    #[error("the target {0} cannot be resolved")]
    Target(String),
    /// A worker process could not be started or spoken to.
    #[error("a load generator process could not be run: {0}")]
    Worker(#[from] std::io::Error),
    /// A message could not be written.
    #[error("a message between processes could not be written: {0}")]
    Encode(#[from] serde_json::Error),
    /// Every worker died or failed.
    #[error("every load generator process has ended before its time; see its message above")]
    AllWorkersDead,
    /// The observer failed.
    #[error(transparent)]
    Observer(ObserverError),
    /// The user asked twice to stop.
    #[error("ended at once, as asked")]
    Aborted,
}

/// Runs one trial; gives its summary and the server's last statistics.
///
/// # Errors
/// When there is no server or no worker, or the user asked twice to stop.
pub(crate) async fn run(
    plan: &Plan,
    id: TrialId,
    program: &Path,
    limits: Limits,
    interrupt: Interrupt,
    observer: &mut dyn Observer,
) -> Result<(TrialSummary, Option<ServerStats>), TrialError> {
    let cell = &plan.cells[id.cell_index];
    let in_process = registry::row(&cell.variant.transport).is_some_and(|row| row.in_process);
    let needs = preflight::needs(plan, id.cell_index, limits);
    let embedded = match &cell.target {
        TargetPlan::Embedded if !in_process => {
            Some(Embedded::start(program, &cell.server, needs.server_processes).await?)
        }
        _ => None,
    };
    let address = match (&embedded, &cell.target) {
        (Some(server), _) => server.address(),
        (None, TargetPlan::Address(address)) => resolve(address).await?,
        (None, TargetPlan::Embedded) => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let mut control = None;
    if !in_process {
        let controls = embedded
            .as_ref()
            .map_or_else(|| vec![address], Embedded::controls);
        control = connect_controls(&controls, cell).await?;
    }
    let workers = Workers::start(program, plan, id, address, needs, limits.first_port).await?;
    let mut conductor = Conductor {
        plan,
        cell,
        address,
        run: workers.run,
        workers,
        control,
        server_before: None,
        interrupt,
        observer,
        facts: summary::Facts::default(),
    };
    let has_control = conductor.control.is_some();
    let result = conductor.conduct().await;
    if matches!(result, Err(TrialError::Aborted)) {
        // Dropped, the processes are killed: nothing is waited for.
        return Err(TrialError::Aborted);
    }
    let server = conductor.server_stats().await;
    let mut facts = std::mem::take(&mut conductor.facts);
    facts.server_lost = has_control && conductor.control.is_none();
    if let (Some(server), Workload::Push(_)) = (&server, &cell.workload)
        && !server.fanout_delay.is_empty()
    {
        conductor
            .observer
            .distribution(Metric::FanoutDelay, &server.fanout_delay)
            .map_err(TrialError::Observer)?;
    }
    drop(conductor);
    if let Some(embedded) = embedded
        && !embedded.stop().await
    {
        tracing::warn!("the reference server did not end in good order");
    }
    result?;
    Ok((summary::of(cell, facts), server))
}

async fn resolve(address: &str) -> Result<SocketAddr, TrialError> {
    let unresolved = || TrialError::Target(address.to_owned());
    tokio::net::lookup_host(address)
        .await
        .map_err(|_| unresolved())?
        .next()
        .ok_or_else(unresolved)
}

/// A publication cannot be started without the control paths; an echo can do without them.
async fn connect_controls(addresses: &[SocketAddr], cell: &Cell) -> Result<Option<Controls>, TrialError> {
    let target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        source: None,
        kernel_stamps: false,
        sends: false,
        connect_deadline: cell.deadlines.connect,
        open_deadline: cell.deadlines.open,
        usual_message_bytes: 1024,
        max_message_bytes: 1 << 20,
        resume: None,
        tcp: Default::default(),
        in_process: None,
    };
    match Controls::connect(addresses, &target).await {
        Ok(controls) => Ok(Some(controls)),
        Err((address, source)) if matches!(cell.workload, Workload::Push(_)) => {
            Err(TrialError::Control { address, source })
        }
        Err(_) => Ok(None),
    }
}

/// The worker processes of one trial. Dropped, they are killed.
struct Workers {
    run: u32,
    open_at: Nanos,
    children: Vec<Child>,
    inputs: Vec<ChildStdin>,
    reports: mpsc::Receiver<(usize, Option<Report>)>,
}

impl Workers {
    async fn start(
        program: &Path,
        plan: &Plan,
        id: TrialId,
        address: SocketAddr,
        needs: Needs,
        first_port: u16,
    ) -> Result<Self, TrialError> {
        let cell = &plan.cells[id.cell_index];
        let processes = needs.processes;
        let sources = preflight::sources(needs, id.index);
        let run = process::random_u128() as u32 & MAX_24_BIT;
        let threads = cell.load.workers.unwrap_or_else(default_threads);
        let open_at = clock::now() + LEAD;
        let (to_us, reports) = mpsc::channel(256);
        let total = match cell.workload {
            // Each process opens its part of the rate; the cap is shared out.
            Workload::Connect { .. } => cell.load.connections.max(processes),
            _ => cell.load.connections,
        };
        let mut workers = Self {
            run,
            open_at,
            children: Vec::new(),
            inputs: Vec::new(),
            reports,
        };
        for process in 0..processes {
            let part = |k: u32| (u64::from(total) * u64::from(k) / u64::from(processes)) as u32;
            let assignment = Assignment {
                run,
                transport: cell.variant.transport.clone(),
                address,
                sources: sources.clone(),
                first_port,
                sessions: part(process)..part(process + 1),
                total_sessions: total,
                arrival: cell.load.arrival.clone(),
                workload: cell.workload.clone(),
                seed: plan.seed.wrapping_add(u64::from(id.repeat)),
                threads,
                deadlines: cell.deadlines,
                kernel_stamps: cell.load.kernel_stamps,
                open_at,
            };
            let mut child = Program::new(program)
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .process_group(0)
                .spawn()?;
            let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(TrialError::Worker(std::io::ErrorKind::BrokenPipe.into()));
            };
            write_line(&mut input, &assignment).await?;
            let to_us = to_us.clone();
            tokio::task::spawn_local(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    match serde_json::from_str(&line) {
                        Ok(report) => {
                            if to_us.send((process as usize, Some(report))).await.is_err() {
                                return;
                            }
                        }
                        Err(e) => tracing::error!("a worker's report is not understood: {e}"),
                    }
                }
                let _ = to_us.send((process as usize, None)).await;
            });
            workers.children.push(child);
            workers.inputs.push(input);
        }
        Ok(workers)
    }

    async fn tell(&mut self, command: &Command) -> Result<(), TrialError> {
        for input in &mut self.inputs {
            // A worker that is gone is noticed by the end of its reports.
            if let Err(e) = write_line(input, command).await {
                tracing::warn!("a worker does not take its commands: {e:?}");
            }
        }
        Ok(())
    }
}

async fn write_line(input: &mut ChildStdin, value: &impl serde::Serialize) -> Result<(), TrialError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    Ok(input.flush().await?)
}

struct Conductor<'a> {
    plan: &'a Plan,
    cell: &'a Cell,
    address: SocketAddr,
    run: u32,
    workers: Workers,
    control: Option<Controls>,
    server_before: Option<ServerStats>,
    interrupt: Interrupt,
    observer: &'a mut dyn Observer,
    facts: summary::Facts,
}

/// What has come in from the workers.
struct Progress {
    merger: Merger,
    alive: Vec<bool>,
    opened: usize,
    done: usize,
}

impl Progress {
    fn dead(&self) -> usize {
        self.alive.iter().filter(|alive| !**alive).count()
    }

    fn is_over(&self) -> bool {
        self.dead() == self.alive.len()
    }
}

impl Conductor<'_> {
    async fn conduct(&mut self) -> Result<(), TrialError> {
        let load = &self.cell.load;
        let count = self.workers.children.len();
        let mut progress = Progress {
            merger: Merger::new(count),
            alive: vec![true; count],
            opened: 0,
            done: 0,
        };
        self.facts.needs_no_server =
            registry::row(&self.cell.variant.transport).is_some_and(|row| row.in_process);
        self.server_before = self.server_stats().await;
        self.facts.server_before = self.server_before.clone();

        // Ramp: until every attempt has an outcome.
        let ramp =
            load.arrival.duration(load.connections) + self.cell.deadlines.connect + self.cell.deadlines.open;
        self.observer
            .phase(Phase::Ramp, load.arrival.duration(load.connections));
        let ramp_end = self.workers.open_at + ramp + GRACE;
        self.collect(&mut progress, ramp_end, true, |p| p.opened + p.dead() >= count)
            .await?;

        // Load.
        let start = clock::now() + LEAD;
        let measured = start + load.warmup..start + load.warmup + load.measure;
        let published = match &self.cell.workload {
            Workload::Push(messages) => {
                let span = start..measured.end;
                Some(schedule(
                    messages.rate,
                    messages.pattern,
                    span,
                    self.plan.seed,
                    0,
                    false,
                ))
            }
            _ => None,
        };
        let mut begin = Begin {
            start,
            measured: measured.clone(),
            published,
        };
        let mut stop_at = measured.end;
        if self.interrupted() {
            stop_at = start;
            begin.published = None;
        } else {
            self.begin(&begin).await?;
            self.observer.phase(Phase::WarmUp, load.warmup);
            self.collect(&mut progress, measured.start, true, Progress::is_over)
                .await?;
            if !self.interrupted() {
                self.facts.host_start = summary::HostCpu::read();
                self.facts.server_start = self.server_stats().await;
                self.observer.phase(Phase::Measure, load.measure);
                self.collect(&mut progress, measured.end, true, Progress::is_over)
                    .await?;
            }
            if self.interrupted() || progress.is_over() {
                stop_at = clock::now().min(measured.end);
            }
        }

        // Drain: the server stops publishing; what is in flight may still arrive.
        self.facts.partial = stop_at < measured.end || progress.is_over();
        self.facts.host_end = summary::HostCpu::read();
        self.facts.server_end = match &self.cell.workload {
            Workload::Push(_) => self.ask(async |control| control.stop(stop_at).await).await,
            _ => self.server_stats().await,
        };
        let measured_end = stop_at.max(measured.start);
        self.facts.measured = measured_end.duration_since(measured.start);
        let published = self
            .facts
            .server_end
            .as_ref()
            .filter(|_| begin.published.is_some())
            .map(|s| s.published);
        let drain_end = clock::now() + load.drain;
        self.workers
            .tell(&Command::Stop(Stop {
                at: stop_at,
                published,
                drain_end,
            }))
            .await?;
        self.facts.schedule = begin.published.clone().map(|s| (s.ending_at(stop_at), measured));
        self.observer.phase(Phase::Drain, load.drain);
        let end = drain_end + self.cell.deadlines.close + GRACE;
        self.collect(&mut progress, end, false, |p| p.done == count || p.is_over())
            .await?;
        for interval in progress.merger.finish() {
            self.take_interval(&interval)?;
        }
        let lost_workers = count - progress.done;
        if lost_workers == count {
            return Err(TrialError::AllWorkersDead);
        }
        self.facts.lost_workers = lost_workers as u64;
        self.facts.partial |= lost_workers > 0;
        Ok(())
    }

    async fn begin(&mut self, begin: &Begin) -> Result<(), TrialError> {
        if let (Some(control), Some(plan), Workload::Push(messages)) =
            (&mut self.control, &begin.published, &self.cell.workload)
        {
            let publish = Publish {
                run: self.run,
                schedule: plan.clone(),
                kind: kind(messages.encoding),
                payload_bytes: messages.payload_bytes,
                measured: begin.measured.clone(),
                from: 0,
            };
            let address = self.address;
            let answer = tokio::time::timeout(ANSWER, control.publish(&publish)).await;
            let answer = answer.unwrap_or_else(|_| Err(TransportError::timed_out(Step::Receive, ANSWER)));
            answer.map_err(|source| TrialError::Control { address, source })?;
        }
        self.workers.tell(&Command::Begin(begin.clone())).await
    }

    fn interrupted(&self) -> bool {
        *self.interrupt.borrow() > 0
    }

    async fn server_stats(&mut self) -> Option<ServerStats> {
        self.ask(async |control| control.stats().await).await
    }

    /// Asks the server, and waits for its answer until the deadline or until the user wants an end at once.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Controls) -> Result<T, TransportError>,
    ) -> Option<T> {
        let mut interrupt = self.interrupt.clone();
        let control = self.control.as_mut()?;
        let answer = tokio::select! {
            answer = tokio::time::timeout(ANSWER, question(control)) => answer.ok().and_then(Result::ok),
            _ = interrupt.wait_for(|count| *count > 1) => None,
        };
        if answer.is_none() {
            // A connection that failed once stays failed: the server is gone or stuck, and its counts are missing.
            self.control = None;
        }
        answer
    }

    /// Takes reports until `until`, or `enough` says so, or (where `interruptible`) the user asks to stop.
    async fn collect(
        &mut self,
        progress: &mut Progress,
        until: Nanos,
        interruptible: bool,
        enough: impl Fn(&Progress) -> bool,
    ) -> Result<(), TrialError> {
        let mut interrupt = self.interrupt.clone();
        while !enough(progress) {
            let left = until.duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            let already = *interrupt.borrow_and_update();
            if already > 1 {
                return Err(TrialError::Aborted);
            }
            if interruptible && already > 0 {
                return Ok(());
            }
            tokio::select! {
                report = self.workers.reports.recv() => match report {
                    Some((process, report)) => self.take(progress, process, report)?,
                    None => return Ok(()),
                },
                _ = interrupt.changed() => {}
                () = tokio::time::sleep(left) => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        progress: &mut Progress,
        process: usize,
        report: Option<Report>,
    ) -> Result<(), TrialError> {
        match report {
            None => {
                progress.alive[process] = false;
                progress.merger.source_ended();
            }
            Some(Report::Hello { rss_bytes }) => self.facts.generator_rss_before += rss_bytes,
            Some(Report::Opened { .. }) => progress.opened += 1,
            Some(Report::Interval(interval)) => {
                for whole in progress.merger.push(interval) {
                    self.take_interval(&whole)?;
                }
            }
            Some(Report::Events(events)) => self.observer.events(&events).map_err(TrialError::Observer)?,
            Some(Report::Done(totals)) => {
                progress.done += 1;
                self.facts
                    .totals
                    .get_or_insert_with(Totals::default)
                    .merge(&totals);
            }
        }
        Ok(())
    }

    fn take_interval(&mut self, interval: &pushmark_measure::Interval) -> Result<(), TrialError> {
        self.facts.counters.merge(&interval.counters);
        let mut measured = Histograms::default();
        for metric in [Metric::Latency, Metric::SendDelay, Metric::GeneratorDelay] {
            if let Some(histogram) = interval.measured.get(metric) {
                measured.insert(metric, histogram.clone());
            }
        }
        self.facts.histograms.merge(&measured);
        self.observer.interval(interval).map_err(TrialError::Observer)
    }
}
