//! What became of faults: who noticed, by what, how soon, and who came back.

use std::collections::HashSet;
use std::net::SocketAddr;

use pushmark_measure::{Detection, FaultOutcome, Nanos, Recovery};
use pushmark_scenario::plan::{Cell, Fault, Reconnect, ReconnectPolicy};
use pushmark_transport::CloseReason;
use pushmark_transport::control::Disconnect;

use crate::assignment::{Totals, route};
use crate::recovery::Cut;

/// A fault that was made, and when.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// What was asked for.
    pub(crate) fault: Fault,
    /// When it had taken effect.
    pub(crate) onset: Nanos,
    /// When it was over.
    pub(crate) cleared: Option<Nanos>,
    /// When service was there again, after a fault that takes the server away.
    pub(crate) available: Option<Nanos>,
    /// Routes of the sessions that it is meant for; `None`: all of them.
    pub(crate) routes: Option<Vec<usize>>,
    /// What the server knows the affected clients as; `None`: all of them.
    pub(crate) peers: Option<HashSet<SocketAddr>>,
}

impl Made {
    /// Whether session number `session` is among those that it is meant for.
    fn hits(&self, shares: &[f64], session: u32) -> bool {
        let way = route(shares, session);
        self.routes.as_ref().is_none_or(|routes| routes.contains(&way))
    }

    /// Until when those it hits are watched: they are well again, or the load has ended.
    fn watched_until(&self, end: Nanos) -> Nanos {
        self.cleared.unwrap_or(end).clamp(self.onset, end.max(self.onset))
    }
}

/// All that is known at the end of a trial in which something broke.
pub(crate) struct Known<'a> {
    pub(crate) cell: &'a Cell,
    pub(crate) shares: &'a [f64],
    pub(crate) made: &'a [Made],
    pub(crate) totals: &'a Totals,
    /// The server's own log, where it could be read.
    pub(crate) disconnects: Option<&'a [Disconnect]>,
    pub(crate) measured_start: Nanos,
    /// The end of the load.
    pub(crate) end: Nanos,
    /// Deliveries that the servers offered, by their own count; `None` where that is not known.
    pub(crate) offered: Option<u64>,
}

impl Known<'_> {
    /// Every fault, in the order they were made.
    pub(crate) fn faults(&self) -> Vec<FaultOutcome> {
        self.made.iter().map(|made| self.fault(made)).collect()
    }

    fn fault(&self, made: &Made) -> FaultOutcome {
        let since_start = |at: Nanos| at.duration_since(self.measured_start);
        let kind = made.fault.kind;
        let affected = match &made.routes {
            None => self.totals.established_by_route.values().sum(),
            Some(routes) => routes
                .iter()
                .filter_map(|route| self.totals.established_by_route.get(route))
                .sum(),
        };
        let server = kind.is_a_death() && !kind.takes_the_server();
        FaultOutcome {
            kind: kind.as_str().to_owned(),
            onset: since_start(made.onset),
            cleared: made.cleared.map(since_start),
            available: made.available.map(since_start),
            share: made.fault.share,
            client: kind.is_a_death().then(|| self.at_the_client(made, affected)),
            server: self
                .disconnects
                .filter(|_| server)
                .map(|log| self.at_the_server(made, affected, log)),
        }
    }

    fn at_the_client(&self, made: &Made, affected: u64) -> Detection {
        let mut noticed: HashSet<u32> = HashSet::new();
        let mut detection = self.nothing_yet(made, affected);
        let until = made.watched_until(self.end);
        for cut in &self.totals.cuts {
            let hit = made.hits(self.shares, cut.session) && (made.onset..=until).contains(&cut.at);
            if hit && noticed.insert(cut.session) {
                detection.time.record(cut.at.since(made.onset));
                *detection.by_reason.entry(cut.reason.clone()).or_default() += 1;
            }
        }
        detection.undetected = affected.saturating_sub(noticed.len() as u64);
        detection
    }

    fn at_the_server(&self, made: &Made, affected: u64, log: &[Disconnect]) -> Detection {
        let mut noticed: HashSet<SocketAddr> = HashSet::new();
        let mut detection = self.nothing_yet(made, affected);
        let until = made.watched_until(self.end);
        for line in log {
            let hit = made.peers.as_ref().is_none_or(|peers| peers.contains(&line.peer));
            // What the server itself ended told it nothing.
            let told = line.reason != CloseReason::Server;
            if hit && told && (made.onset..=until).contains(&line.at) && noticed.insert(line.peer) {
                detection.time.record(line.at.since(made.onset));
                *detection
                    .by_reason
                    .entry(line.reason.as_str().to_owned())
                    .or_default() += 1;
            }
        }
        detection.undetected = affected.saturating_sub(noticed.len() as u64);
        detection
    }

    fn nothing_yet(&self, made: &Made, affected: u64) -> Detection {
        Detection {
            affected,
            watched: made.watched_until(self.end).duration_since(made.onset),
            ..Detection::default()
        }
    }

    /// What came back; `None` where nothing was to.
    pub(crate) fn recovery(&self) -> Option<Recovery> {
        if self.cell.reconnect.policy == ReconnectPolicy::None {
            return None;
        }
        let cut: HashSet<u32> = self.totals.cuts.iter().map(|cut| cut.session).collect();
        let established: u64 = self.totals.established_by_route.values().sum();
        // Between the instant at which a fault was due and the cut nobody had gone yet.
        let some_stayed = (cut.len() as u64) < established;
        let mut recovery = Recovery {
            policy: in_words(self.cell.reconnect),
            attempts: self.totals.reconnects.clone(),
            duplicated: self.totals.books.duplicated,
            herd_peak: self.totals.course.herd_peak(),
            stayed_before_p99_ns: self.totals.stayed_before.quantile(0.99),
            stayed_after_p99_ns: self.totals.stayed_after.quantile(0.99).filter(|_| some_stayed),
            not_offered: self
                .offered
                .map(|offered| self.totals.books.expected.saturating_sub(offered)),
            ..Recovery::default()
        };
        for cut in &self.totals.cuts {
            recovery.cut_off += 1;
            recovery.gave_up += u64::from(cut.gave_up);
            recovery.missed += cut.missed;
            recovery.made_up += cut.made_up;
            recovery.lost += cut.missed - cut.made_up.min(cut.missed);
            let Some(back) = cut.back else { continue };
            recovery.recovered += 1;
            *recovery.attempts_per_recovery.entry(cut.attempts).or_default() += 1;
            recovery
                .time_to_reconnect
                .record(back.since(self.service_since(cut)));
            if let (Some(last), Some(first)) = (cut.last_message, cut.first_message) {
                recovery.outage.record(first.since(last));
            }
        }
        Some(recovery)
    }

    /// Since when a session that was cut off could have come back: the cut, or the end of what kept it away.
    fn service_since(&self, cut: &Cut) -> Nanos {
        let kept_away = self.made.iter().filter(|made| made.onset <= cut.at);
        let available = kept_away.filter_map(|made| made.available.or(made.cleared)).max();
        available
            .map_or(cut.at, |available| available.max(cut.at))
            .min(cut.back.unwrap_or(cut.at))
    }
}

fn in_words(reconnect: Reconnect) -> String {
    let resume = if reconnect.resume { ", resume" } else { "" };
    format!("{}{resume}", reconnect.policy)
}

/// The shares of connections that faults are meant for, each once, and of which a session's route is made.
pub(crate) fn shares(faults: &[Fault]) -> Vec<f64> {
    let mut shares: Vec<f64> = Vec::new();
    for fault in faults.iter().filter(|fault| fault.share < 1.0) {
        if !shares.contains(&fault.share) {
            shares.push(fault.share);
        }
    }
    shares
}

/// The routes that a fault is on, of all that there are; `None`: all of them.
pub(crate) fn routes(shares: &[f64], fault: &Fault) -> Option<Vec<usize>> {
    let bit = shares.iter().position(|share| *share == fault.share)?;
    Some(
        (0..1 << shares.len())
            .filter(|route| route & (1 << bit) != 0)
            .collect(),
    )
}
