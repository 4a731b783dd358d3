//! Calibration: the harness measured by itself, on the in-process transport, before a run.
//!
//! The same worker, recorder and timer as in a run, so that what comes out is the floor under the run's own numbers.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use pushmark_measure::{Calibration, Histogram, Histograms, Metric, clock};
use pushmark_scenario::plan::{Arrival, Deadlines, Encoding, Messages, Pattern, Rate, Workload};
use pushmark_transport::registry;
use pushmark_transport::timer::Timer;
use tokio::sync::watch;

use crate::assignment::{Assignment, Begin, OneOf, Stop, Totals, schedule};
use crate::worker::{self, Control, FromWorker, WorkerError};

/// Whatever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(10);
const CLOCK_READS: u32 = 1_000;
const TIMER_PAUSE: Duration = Duration::from_millis(1);

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// A thread, a runtime or a timer could not be made.
    #[error("the calibration could not start: {0}")]
    Start(#[from] std::io::Error),
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// No transport runs in this process.
    #[error("there is no transport without a network to calibrate with")]
    NoTransport,
    /// The worker said nothing for too long, or panicked.
    #[error("the calibration's worker did not finish")]
    Unfinished,
}

/// Measures the harness. Takes about a second; a `quick` one about a third of that, and is rougher.
///
/// # Errors
/// When a thread cannot be had or does not finish.
pub fn run(quick: bool) -> Result<Calibration, CalibrateError> {
    let begun = clock::now();
    let (waits, window) = if quick {
        (50, Duration::from_millis(60))
    } else {
        (200, Duration::from_millis(250))
    };
    let clock_read_ns = clock_read_ns();
    let late = timer_lateness(waits)?;
    // One message at a time, then as many as keep the thread at work for a good part of the window.
    let modest = engine(10, 50, window)?;
    let floor = engine(100, 1_000, window)?;
    let deliveries = floor.totals.books.delivered_once.max(1);
    Ok(Calibration {
        clock_read_ns,
        timer_late_ns_p50: late.quantile(0.5).unwrap_or(0),
        timer_late_ns_p99: late.quantile(0.99).unwrap_or(0),
        timer_waits: late.count(),
        engine_ns_per_delivery: floor.totals.busiest_thread * window.as_nanos() as f64 / deliveries as f64,
        engine_latency_ns_p50: modest.latency.quantile(0.5).unwrap_or(0),
        engine_latency_ns_p99: modest.latency.quantile(0.99).unwrap_or(0),
        engine_messages: modest.latency.count(),
        took_ns: clock::now().since(begun),
    })
}

/// The best of some batches: what is longer was somebody else's time.
fn clock_read_ns() -> f64 {
    let batch = || {
        let start = clock::now();
        for _ in 0..CLOCK_READS {
            std::hint::black_box(clock::now());
        }
        clock::now().since(start) as f64 / f64::from(CLOCK_READS)
    };
    (0..20).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

/// How late each of `waits` waits on an idle thread was.
fn timer_lateness(waits: u32) -> Result<Histogram, CalibrateError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let timer = Timer::start()?;
        let mut late = Histogram::default();
        for _ in 0..waits {
            let at = clock::now() + TIMER_PAUSE;
            timer.until(at).await;
            late.record(clock::now().since(at));
        }
        Ok(late)
    })
}

struct Engine {
    totals: Totals,
    latency: Histogram,
}

/// One worker thread with `sessions` echoing `per_second` messages each with a peer in the same thread.
fn engine(sessions: u32, per_second: u64, window: Duration) -> Result<Engine, CalibrateError> {
    let row = registry::ROWS
        .iter()
        .find(|row| row.in_process)
        .ok_or(CalibrateError::NoTransport)?;
    let messages = Messages {
        rate: Rate {
            count: per_second,
            per: Duration::from_secs(1),
        },
        pattern: Pattern::Uniform,
        payload_bytes: 200,
        encoding: Encoding::Text,
    };
    let assignment = Assignment {
        run: 1,
        transport: row.name.to_owned(),
        carrier: row.carriers[0].to_owned(),
        carriage: Default::default(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        sources: Vec::new(),
        first_port: 0,
        sessions: 0..sessions,
        total_sessions: sessions,
        process: OneOf::default(),
        arrival: Arrival::AtOnce,
        workload: Workload::Push(messages.clone()),
        seed: 1,
        threads: 1,
        deadlines: Deadlines {
            connect: DEADLINE,
            open: DEADLINE,
            close: DEADLINE,
        },
        kernel_stamps: 0.0,
        open_at: clock::now(),
        trouble: Default::default(),
    };
    let control = watch::Sender::new(Control::default());
    let (out, from) = sync_channel(64);
    let receiver = control.subscribe();
    let thread = std::thread::Builder::new()
        .name("calibration".into())
        .spawn(move || worker::run(assignment, 0, receiver, out))?;
    let mut histograms = Histograms::default();
    take(&from, &mut histograms, |message| {
        matches!(message, FromWorker::Opened(..))
    })?;

    let start = clock::now() + Duration::from_millis(5);
    let warm = start + Duration::from_millis(10);
    let measured = warm..warm + window;
    let published = schedule(messages.rate, messages.pattern, start..measured.end, 1, 0, false);
    control.send_modify(|control| {
        control.begin = Some(Begin {
            start,
            measured: measured.clone(),
            published: Some(published),
            slots: None,
        });
    });
    std::thread::sleep(measured.end.duration_since(clock::now()) + Duration::from_millis(5));
    control.send_modify(|control| {
        control.stop = Some(Stop {
            at: measured.end,
            published: None,
            drain_end: clock::now() + Duration::from_secs(1),
        });
    });
    let mut totals = Totals::default();
    take(&from, &mut histograms, |message| {
        if let FromWorker::Done(done) = message {
            totals = (**done).clone();
            return true;
        }
        false
    })?;
    thread.join().map_err(|_| CalibrateError::Unfinished)??;
    let latency = histograms.get(Metric::Latency).cloned().unwrap_or_default();
    Ok(Engine { totals, latency })
}

/// Takes what the worker says until `last` knows it for what was waited for.
fn take(
    from: &Receiver<FromWorker>,
    histograms: &mut Histograms,
    mut last: impl FnMut(&FromWorker) -> bool,
) -> Result<(), CalibrateError> {
    loop {
        let message = match from.recv_timeout(DEADLINE) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(CalibrateError::Unfinished);
            }
        };
        if let FromWorker::Interval(interval) = &message {
            histograms.merge(&interval.measured);
        }
        if last(&message) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_has_every_figure_and_is_short() {
        let c = run(true).unwrap();
        assert!(c.clock_read_ns > 1.0 && c.clock_read_ns < 1e6, "{c:?}");
        assert_eq!(c.timer_waits, 50);
        assert!(
            c.timer_late_ns_p50 > 0 && c.timer_late_ns_p99 >= c.timer_late_ns_p50,
            "{c:?}"
        );
        assert!(c.engine_ns_per_delivery > 0.0, "{c:?}");
        // 50 a second over 60 ms, to ten sessions.
        assert_eq!(c.engine_messages, 30, "{c:?}");
        assert!(c.engine_latency_ns_p99 >= c.engine_latency_ns_p50, "{c:?}");
        // Far above what it takes on a machine of its own.
        assert!(c.took_ns < 8_000_000_000, "{c:?}");
    }
}
