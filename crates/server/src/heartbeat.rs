//! Heartbeats: one sweep over all sessions of a thread, every so often, instead of a timer for each.

use std::sync::Arc;
use std::time::Duration;

use pushmark_transport::Heartbeat;

use crate::hub::Hub;

/// Time between two looks at every session: what a dead client may be found late by.
pub(crate) fn step(heartbeat: Heartbeat) -> Duration {
    const LEAST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_millis(250);
    (heartbeat.every.min(heartbeat.timeout) / 20).clamp(LEAST, MOST)
}

/// Looks at the sessions of this thread, for ever.
pub(crate) async fn run(hub: Arc<Hub>, heartbeat: Heartbeat) {
    let step = step(heartbeat);
    loop {
        tokio::time::sleep(step).await;
        hub.beat(heartbeat);
    }
}
