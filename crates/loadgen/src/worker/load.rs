//! Loads that no session carries by itself: opening and closing sessions, and publishing where there is no server.

use std::rc::Rc;

use pushmark_measure::{EventKind, Schedule, clock};
use pushmark_scenario::plan::Workload;
use pushmark_transport::seam::{Connector, Tx};
use pushmark_transport::{Message, Stamp, null};

use super::Context;
use crate::assignment::{Begin, OneOf, kind, template};

/// How large messages are mostly.
pub(super) fn usual_message(workload: &Workload) -> usize {
    match workload {
        Workload::Push(m) | Workload::Echo(m) => m.payload_bytes as usize,
        Workload::Connect { .. } => 0,
    }
}

/// How large a message may be.
pub(super) fn largest_message(workload: &Workload) -> usize {
    // Room for what a server wraps around our payload; a peer that sends more than that is cut off.
    match workload {
        Workload::Push(m) | Workload::Echo(m) => 2 * m.payload_bytes as usize + 64 * 1024,
        Workload::Connect { .. } => 64 * 1024,
    }
}

/// Opens sessions on a schedule and closes each at once; gives, when all have ended, how many were scheduled, and how many were
/// not begun because too many were open.
pub(super) async fn open_and_close<C: Connector>(
    context: Rc<Context>,
    connector: C,
    (plan, opener): (Schedule, OneOf),
    begin: Begin,
) -> (u64, u64) {
    // Whoever opens at all has one open: with fewer connections than threads it is as many as there are threads.
    let cap = opener.share(context.assignment.total_sessions).max(1);
    let (mut scheduled, mut skipped) = (0, 0);
    let mut running = tokio::task::JoinSet::new();
    for (index, at) in plan.cursor() {
        context.timer.until(at).await;
        if at >= context.load_end.get() {
            break;
        }
        scheduled += 1;
        while running.try_join_next().is_some() {}
        if running.len() >= cap as usize {
            skipped += 1;
            continue;
        }
        let (context, connector) = (context.clone(), connector.clone());
        let session = (index as u32).wrapping_mul(opener.of).wrapping_add(opener.number);
        let timed = begin.measured.contains(&at);
        running.spawn_local(async move {
            if let Some(mut connected) = context.connect(&connector, session, timed).await {
                let _ = tokio::time::timeout(context.assignment.deadlines.close, connected.tx.close()).await;
                context.session_ended();
                context.event(session, EventKind::ClosedByUs, String::new());
            }
        });
    }
    while running.join_next().await.is_some() {}
    (scheduled, skipped)
}

/// Publishes to in-process sessions, in a server's place.
pub(super) async fn publish_in_process(context: Rc<Context>, peer: null::Peer, plan: Schedule) {
    let Workload::Push(messages) = context.assignment.workload.clone() else {
        return;
    };
    let kind = kind(messages.encoding);
    let template = template(&messages, plan.seed);
    for (sequence, intended) in plan.cursor() {
        context.timer.until(intended).await;
        if intended >= context.load_end.get() {
            return;
        }
        let stamp = Stamp {
            run: context.run,
            stream: 0,
            sequence,
            intended,
            sent: clock::now(),
        };
        peer.publish(&Message {
            kind,
            payload: template.stamped(&stamp),
        });
        tokio::task::yield_now().await;
    }
}
