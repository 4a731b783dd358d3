//! The conductor: takes a trial through its phases, and its reports to whoever observes.

use std::net::SocketAddr;
use std::time::Duration;

use pushmark_measure::{EventKind, Histograms, Metric, Nanos, Phase, clock};
use pushmark_scenario::plan::{Cell, Plan, Workload};
use pushmark_transport::control::{Publish, ServerStats};
use pushmark_transport::{ErrorClass, Step, TransportError, registry};

use super::breaker::{Breaker, What};
use super::workers::Workers;
use super::{ANSWER, GRACE, LEAD, TrialError, connect_controls};
use crate::assignment::{Begin, Command, Report, Stop, Totals, content, kind, schedule};
use crate::controls::Controls;
use crate::duo::Duo;
use crate::embedded::Embedded;
use crate::merge::Merger;
use crate::run::{Interrupt, Observer};
use crate::summary;

/// How often it is looked whether the other of two trials stands.
const MEET_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked whether a fault was noticed by all it hit.
const LOOK: Duration = Duration::from_millis(250);

pub(super) struct Conductor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cell: &'a Cell,
    pub(super) address: SocketAddr,
    pub(super) run: u32,
    pub(super) workers: Workers,
    pub(super) control: Option<Controls>,
    pub(super) embedded: Option<Embedded>,
    pub(super) breaker: Breaker,
    pub(super) server_before: Option<ServerStats>,
    pub(super) interrupt: Interrupt,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) facts: summary::Facts,
    /// The trial that runs beside this one, if one does.
    pub(super) duo: Option<Duo>,
}

/// What has come in from the workers.
struct Progress {
    merger: Merger,
    alive: Vec<bool>,
    opened: usize,
    done: usize,
    /// Sessions that ended without being asked to.
    cut_off: u64,
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
    pub(super) async fn conduct(&mut self) -> Result<(), TrialError> {
        let load = &self.cell.load;
        let count = self.workers.children.len();
        let mut progress = Progress {
            merger: Merger::new(count),
            alive: vec![true; count],
            opened: 0,
            done: 0,
            cut_off: 0,
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
        let start = self.agree_on_start(&mut progress).await?;
        let slots = self.duo.as_ref().map(Duo::slots);
        let measured = start + load.warmup..start + load.warmup + load.measure;
        let published = match &self.cell.workload {
            Workload::Push(messages) => {
                let span = start..measured.end;
                let whole = schedule(messages.rate, messages.pattern, span, self.plan.seed, 0, false);
                Some(whole.in_slots(slots))
            }
            _ => None,
        };
        let mut begin = Begin {
            start,
            measured: measured.clone(),
            published,
            slots,
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
                self.facts.kernel_tcp_start = summary::kernel_tcp_bytes();
                self.observer.phase(Phase::Measure, load.measure);
                self.measure(&mut progress, &begin).await?;
            }
            let cut_short = self.facts.all_noticed || self.facts.fault_failed.is_some();
            if self.interrupted() || progress.is_over() || cut_short {
                stop_at = clock::now().min(measured.end);
            }
        }

        // Drain: the server stops publishing; what is in flight may still arrive.
        self.facts.partial = (stop_at < measured.end && !self.facts.all_noticed) || progress.is_over();
        self.facts.kernel_tcp_end = summary::kernel_tcp_bytes();
        self.end_faults(measured.start, stop_at).await?;
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
            // One that took another's place has published the rest.
            .map(|s| {
                s.published
                    + if self.facts.server_replaced {
                        self.breaker.from()
                    } else {
                        0
                    }
            });
        if self.breaker.took_the_server() {
            // Nobody is left to publish, or to say how far it came: what was due was due.
            self.facts.server_end = None;
        }
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
        let deadlines = &self.cell.deadlines;
        let mut end = drain_end + deadlines.close + GRACE;
        if matches!(self.cell.workload, Workload::Connect { .. }) {
            // Attempts that are under way are waited for, whatever becomes of them: a connection, what the server says of it, and
            // the session's own opening.
            end = end + deadlines.connect + 3 * deadlines.open;
        }
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

    /// When the load begins: soon, or, beside another trial, when that one stands too.
    async fn agree_on_start(&mut self, progress: &mut Progress) -> Result<Nanos, TrialError> {
        loop {
            let now = clock::now();
            let Some(duo) = &mut self.duo else {
                return Ok(now + LEAD);
            };
            if let Some(start) = duo.start(now) {
                return Ok(start);
            }
            if self.interrupted() || progress.is_over() {
                return Ok(now + LEAD);
            }
            self.collect(progress, now + MEET_EVERY, true, Progress::is_over)
                .await?;
        }
    }

    async fn begin(&mut self, begin: &Begin) -> Result<(), TrialError> {
        self.publish(begin, 0).await?;
        self.workers.tell(&Command::Begin(begin.clone())).await
    }

    /// Has the server publish from message number `from` on.
    async fn publish(&mut self, begin: &Begin, from: u64) -> Result<(), TrialError> {
        let (Some(control), Some(plan), Workload::Push(messages)) =
            (&mut self.control, &begin.published, &self.cell.workload)
        else {
            return Ok(());
        };
        let publish = Publish {
            run: self.run,
            schedule: plan.clone(),
            kind: kind(messages.encoding),
            payload_bytes: messages.payload_bytes,
            measured: begin.measured.clone(),
            from,
            content: content(messages.encoding),
        };
        let address = self.address;
        let answer = tokio::time::timeout(ANSWER, control.publish(&publish)).await;
        let answer = answer.unwrap_or_else(|_| Err(TransportError::timed_out(Step::Receive, ANSWER)));
        answer.map_err(|source| TrialError::Control { address, source })
    }

    /// The measured window: faults at their times, and an early end when all that it was for has happened.
    async fn measure(&mut self, progress: &mut Progress, begin: &Begin) -> Result<(), TrialError> {
        let measured = begin.measured.clone();
        while let Some(action) = self.breaker.next_action() {
            let due = measured.start + action.at;
            if due >= measured.end {
                break;
            }
            self.collect(progress, due, true, Progress::is_over).await?;
            if self.interrupted() || progress.is_over() {
                return Ok(());
            }
            let done = match action.what {
                What::Begin => self.break_it(action.fault, begin).await,
                What::End => self.mend_it(action.fault, begin).await,
            };
            match done {
                // Without what was to happen there is nothing more to measure; what was, is reported.
                Err(TrialError::Fault(e)) => {
                    self.facts.server_failed_fault = e.is_the_servers();
                    self.facts.fault_failed = Some(e.to_string());
                    return Ok(());
                }
                done => done?,
            }
        }
        let Some(affected) = self.breaker.ends_when_noticed(self.cell) else {
            return self
                .collect(progress, measured.end, true, Progress::is_over)
                .await;
        };
        while clock::now() < measured.end && !self.interrupted() && !progress.is_over() {
            let next = (clock::now() + LOOK).min(measured.end);
            self.collect(progress, next, true, Progress::is_over).await?;
            if progress.cut_off >= affected && self.server_noticed(affected).await {
                self.facts.all_noticed = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the server's log has a line for each client that a fault hit; true when it is the server that died.
    async fn server_noticed(&mut self, affected: u64) -> bool {
        if self.breaker.took_the_server() {
            return true;
        }
        let log = self.ask(async |control| control.disconnects().await).await;
        log.is_none_or(|log| log.len() as u64 >= affected)
    }

    /// A fault begins.
    async fn break_it(&mut self, fault: usize, begin: &Begin) -> Result<(), TrialError> {
        if self.breaker.is_restart(fault) {
            // What it has published is known before it goes; nothing is in flight that it could lose.
            let now = clock::now();
            let stats = self.ask(async |control| control.stop(now).await).await;
            self.breaker.published_by(stats.as_ref());
            if let Some(stats) = stats {
                self.facts.earlier_servers.push(stats);
            }
        }
        let next = begin
            .published
            .as_ref()
            .map_or(0, |plan| plan.count_before(clock::now()));
        self.breaker.next_unpublished(next);
        self.breaker
            .begin(fault, self.embedded.as_mut(), self.control.as_mut())
            .await?;
        if self.breaker.took_the_server() {
            self.control = None;
        }
        Ok(())
    }

    /// A fault ends.
    async fn mend_it(&mut self, fault: usize, begin: &Begin) -> Result<(), TrialError> {
        let was_gone = self.breaker.took_the_server();
        self.breaker
            .end(fault, self.embedded.as_mut(), self.control.as_mut())
            .await?;
        if was_gone && !self.breaker.took_the_server() {
            let controls = self.embedded.as_ref().map(Embedded::controls).unwrap_or_default();
            self.control = connect_controls(&controls, self.cell).await?;
            self.publish(begin, self.breaker.from()).await?;
            self.facts.server_replaced = true;
        }
        Ok(())
    }

    /// The load has ended: what the server noticed is read, and whatever still stands in the way is taken out of it.
    async fn end_faults(&mut self, measured_start: Nanos, end: Nanos) -> Result<(), TrialError> {
        if self.breaker.is_idle() {
            return Ok(());
        }
        let let_go = self
            .breaker
            .let_go(self.embedded.as_mut(), self.control.as_mut())
            .await;
        if let Err(e) = let_go {
            self.facts.server_failed_fault |= e.is_the_servers();
            self.facts.fault_failed.get_or_insert(e.to_string());
        }
        self.facts.disconnects = self.ask(async |control| control.disconnects().await).await;
        self.facts.made = self.breaker.made();
        self.facts.measured_start = measured_start;
        self.facts.load_end = end;
        Ok(())
    }

    fn interrupted(&self) -> bool {
        *self.interrupt.borrow() > 0
    }

    pub(super) async fn server_stats(&mut self) -> Option<ServerStats> {
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
            answer = tokio::time::timeout(ANSWER, question(control)) => answer.ok(),
            _ = interrupt.wait_for(|count| *count > 1) => None,
        };
        match answer {
            Some(Ok(answer)) => return Some(answer),
            // A server that has no such path is there all the same.
            Some(Err(e)) if matches!(e.class, ErrorClass::Status(_)) => tracing::debug!("{e}"),
            // A connection that failed once stays failed: the server is gone or stuck, and its counts are missing.
            _ => self.control = None,
        }
        None
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
                for whole in progress.merger.push(*interval) {
                    self.take_interval(&whole)?;
                }
            }
            Some(Report::Events(events)) => {
                let ends = [EventKind::ClosedByPeer, EventKind::Dropped];
                progress.cut_off += events.iter().filter(|e| ends.contains(&e.kind)).count() as u64;
                self.observer.events(&events).map_err(TrialError::Observer)?;
            }
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
        self.facts.connects_timed += interval.measured.count(Metric::ConnectTime);
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
