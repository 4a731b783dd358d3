//! A worker's reports: what it recorded, an interval at a time.

use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use pushmark_measure::{Phase, clock};
use pushmark_transport::stamps;

use super::{Context, FromWorker, WorkerError};

/// Cuts an interval now.
pub(super) fn flush(
    context: &Context,
    phase: Phase,
    out: &SyncSender<FromWorker>,
) -> Result<(), WorkerError> {
    let mut interval = context.recorder.borrow_mut().take(phase, clock::now());
    interval.counters.open_sessions = context.open.get();
    interval.counters.unplaced_stamps = stamps::take_unplaced();
    let events = std::mem::take(&mut *context.events.borrow_mut());
    if !events.is_empty() {
        out.send(FromWorker::Events(events))
            .map_err(|_| WorkerError::Orphaned)?;
    }
    out.send(FromWorker::Interval(Box::new(interval)))
        .map_err(|_| WorkerError::Orphaned)
}

/// Cuts an interval each second, counted from the start of the ramp.
pub(super) async fn report_intervals(context: Rc<Context>, out: SyncSender<FromWorker>) {
    let mut end = context.assignment.open_at;
    loop {
        end = end + Duration::from_secs(1);
        context.timer.until(end).await;
        let phase = {
            let control = context.control.borrow();
            control.begin.as_ref().map_or(Phase::Ramp, |b| {
                let stopped = control.stop.is_some();
                if stopped {
                    Phase::Drain
                } else {
                    b.phase_at(clock::now() - Duration::from_millis(1))
                }
            })
        };
        if flush(&context, phase, &out).is_err() {
            return;
        }
    }
}
