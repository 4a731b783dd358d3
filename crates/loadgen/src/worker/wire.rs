//! What a worker's connections have moved: read all at once when the load is about to begin and when it is over, never in between.

use pushmark_measure::Wire;
use pushmark_transport::meter::{self, Reading};

use super::Context;

/// The kernel's counts beside the messages that had come by then.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    reading: Reading,
    deliveries: u64,
    payload_bytes: u64,
}

/// Reads all connections of this thread.
pub(super) fn read(context: &Context) -> Mark {
    let (deliveries, payload_bytes) = context.arrived.get();
    Mark {
        reading: meter::reading(),
        deliveries,
        payload_bytes,
    }
}

/// What was carried since `before`, and what all openings of the trial took.
pub(super) fn since(before: Mark, context: &Context) -> Wire {
    let now = read(context);
    let carried = now.reading.carried - before.reading.carried;
    let Reading {
        opening,
        sessions,
        round_trips,
        untold,
        ..
    } = now.reading;
    Wire {
        deliveries: now.deliveries - before.deliveries,
        payload_bytes: now.payload_bytes - before.payload_bytes,
        received_bytes: carried.received_bytes,
        sent_bytes: carried.sent_bytes,
        retransmitted_bytes: carried.retransmitted_bytes,
        received_segments: carried.received_segments,
        sent_segments: carried.sent_segments,
        sessions,
        opening_received_bytes: opening.received_bytes,
        opening_sent_bytes: opening.sent_bytes,
        round_trips,
        untold,
    }
}
