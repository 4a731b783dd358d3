//! A worker process: reads its assignment from one stream, reports on another, runs worker threads in between.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use pushmark_transport::process::{self, Usage};
use tokio::sync::watch;

use crate::assignment::{Assignment, Command, Report, Totals};
use crate::merge::Merger;
use crate::worker::{self, Control, FromWorker, WorkerError};

/// Why a worker process failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The coordinator said something that is not in the protocol.
    #[error("the coordinator's message is not understood: {0}")]
    Protocol(#[from] serde_json::Error),
    /// A stream broke.
    #[error("the coordinator cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    /// A worker thread failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A worker thread panicked.
    #[error("a worker thread panicked")]
    Panicked,
}

/// Runs a worker process from its first line of input to its last line of output. When the input ends before the trial
/// does, the coordinator is gone, and so are we.
///
/// # Errors
/// When a stream breaks, the protocol is broken, or a worker thread fails.
pub fn run(mut input: impl BufRead + Send + 'static, mut output: impl Write) -> Result<(), ProcessError> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let assignment: Assignment = serde_json::from_str(&line)?;
    process::raise_open_files();
    write(
        &mut output,
        &Report::Hello {
            rss_bytes: process::usage().rss_bytes,
        },
    )?;

    let control = watch::Sender::new(Control::default());
    let (out, from_workers) = sync_channel(256);
    let threads = assignment.threads.max(1);
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let (assignment, control, out) = (assignment.clone(), control.subscribe(), out.clone());
            std::thread::Builder::new()
                .name(format!("worker-{thread}"))
                .spawn(move || worker::run(assignment, thread, control, out))
        })
        .collect::<Result<_, _>>()?;
    drop(out);

    let watched = control.subscribe();
    std::thread::Builder::new()
        .name("commands".into())
        .spawn(move || {
            for line in input.lines() {
                let command = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let Some(command) = command else { break };
                control.send_modify(|control| match command {
                    Command::Begin(begin) => control.begin = Some(begin),
                    Command::Stop(stop) => control.stop = Some(stop),
                });
            }
            control.send_modify(|control| control.abort = true);
        })?;

    let totals = Collecting::new(threads as usize, watched).run(&from_workers, &mut output)?;
    for worker in workers {
        worker.join().map_err(|_| ProcessError::Panicked)??;
    }
    write(&mut output, &Report::Done(Box::new(totals)))
}

fn write(output: &mut impl Write, report: &Report) -> Result<(), ProcessError> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    output.write_all(&line)?;
    Ok(output.flush()?)
}

/// Merges what the threads report and adds what only the process knows.
struct Collecting {
    merger: Merger,
    control: watch::Receiver<Control>,
    opened: (usize, u32, u32),
    threads: usize,
    totals: Totals,
    last: Usage,
    at_start: Option<Usage>,
    at_end: Option<Usage>,
}

impl Collecting {
    fn new(threads: usize, control: watch::Receiver<Control>) -> Self {
        let last = process::usage();
        Self {
            merger: Merger::new(threads),
            control,
            opened: (0, 0, 0),
            threads,
            totals: Totals::default(),
            last,
            at_start: None,
            at_end: None,
        }
    }

    fn run(mut self, from: &Receiver<FromWorker>, output: &mut impl Write) -> Result<Totals, ProcessError> {
        loop {
            let message = match from.recv_timeout(self.until_next_reading()) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.read_usage();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.read_usage();
            match message {
                FromWorker::Opened(established, failed) => {
                    let (threads, e, f) = self.opened;
                    self.opened = (threads + 1, e + established, f + failed);
                    if self.opened.0 == self.threads {
                        let (_, established, failed) = self.opened;
                        write(output, &Report::Opened { established, failed })?;
                    }
                }
                FromWorker::Events(events) => write(output, &Report::Events(events))?,
                FromWorker::Interval(interval) => {
                    let whole = self.merger.push(*interval);
                    self.write_intervals(whole, output)?;
                }
                FromWorker::Done(totals) => self.totals.merge(&totals),
            }
        }
        let rest = self.merger.finish();
        self.write_intervals(rest, output)?;
        let end = self.at_end.unwrap_or_else(process::usage);
        if let Some(start) = self.at_start {
            self.totals.cpu_user_ns = end.cpu_user_ns.saturating_sub(start.cpu_user_ns);
            self.totals.cpu_system_ns = end.cpu_system_ns.saturating_sub(start.cpu_system_ns);
        }
        self.totals.rss_bytes = end.rss_bytes;
        Ok(self.totals)
    }

    fn write_intervals(
        &mut self,
        intervals: Vec<pushmark_measure::Interval>,
        output: &mut impl Write,
    ) -> Result<(), ProcessError> {
        for mut interval in intervals {
            let usage = process::usage();
            interval.counters.cpu_user_ns = usage.cpu_user_ns.saturating_sub(self.last.cpu_user_ns);
            interval.counters.cpu_system_ns = usage.cpu_system_ns.saturating_sub(self.last.cpu_system_ns);
            interval.counters.rss_bytes = usage.rss_bytes;
            self.last = usage;
            write(output, &Report::Interval(Box::new(interval)))?;
        }
        Ok(())
    }

    /// The two ends of the measured window, or the instant at which it was cut short.
    fn window(&self) -> Option<(Nanos, Nanos)> {
        let control = self.control.borrow();
        let begin = control.begin.as_ref()?;
        let end = control
            .stop
            .as_ref()
            .map_or(begin.measured.end, |s| s.at.min(begin.measured.end));
        Some((begin.measured.start, end))
    }

    fn until_next_reading(&self) -> Duration {
        let longest = Duration::from_millis(20);
        let Some((start, end)) = self.window() else {
            return longest;
        };
        let next = if self.at_start.is_none() { start } else { end };
        if self.at_end.is_some() {
            longest
        } else {
            next.duration_since(clock::now()).min(longest)
        }
    }

    fn read_usage(&mut self) {
        let Some((start, end)) = self.window() else { return };
        let now = clock::now();
        if self.at_start.is_none() && now >= start {
            self.at_start = Some(process::usage());
        } else if self.at_start.is_some() && self.at_end.is_none() && now >= end {
            self.at_end = Some(process::usage());
        }
    }
}
