//! From what a trial saw to its summary: books closed, both sides' costs, the host's load.

use std::ops::Range;
use std::time::Duration;

use pushmark_measure::{
    Cost, Counters, Histograms, Metric, Nanos, Negotiation, Schedule, SlowReading, TrialSummary, clock,
};
use pushmark_scenario::plan::{Cell, ReconnectPolicy, TlsVersion, Workload};
use pushmark_transport::CloseReason;
use pushmark_transport::carrier::Carrier;
use pushmark_transport::control::{Disconnect, ServerStats};

use crate::assignment::Totals;
use crate::carriage::is_secured;
use crate::outcome::{Known, Made};
use crate::preflight::sessions_per_connection;
use crate::pressure;

/// The host's processor time so far, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostCpu {
    total: u64,
    idle: u64,
    steal: u64,
    /// When it was read.
    at: Nanos,
    /// Time so far in which somebody stood ready to run without a processor; `None` where the kernel does not tell.
    pressure_ns: Option<u64>,
    /// Processor time of the coordinator, which is this process.
    own_ns: u64,
}

/// What the host's processors did in a window, as shares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct HostLoad {
    busy: f64,
    steal: f64,
    pressure: Option<f64>,
    /// Of `busy`: the coordinator's.
    own: f64,
    /// Processor time there was, in nanoseconds.
    total_ns: f64,
    /// Length of the window, in nanoseconds.
    wall_ns: f64,
}

impl HostCpu {
    pub(crate) fn read() -> Option<Self> {
        use procfs::CurrentSI;
        let cpu = procfs::KernelStats::current().ok()?.total;
        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
        let steal = cpu.steal.unwrap_or(0);
        let busy = cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0);
        Some(Self {
            total: busy + idle + steal,
            idle,
            steal,
            at: clock::now(),
            pressure_ns: pressure::cpu_total_ns(),
            own_ns: clock::process_cpu_ns(),
        })
    }

    /// What happened since `earlier`.
    fn load_since(self, earlier: Self) -> Option<HostLoad> {
        let total = self.total.checked_sub(earlier.total).filter(|t| *t > 0)? as f64;
        let idle = self.idle.saturating_sub(earlier.idle) as f64;
        let steal = self.steal.saturating_sub(earlier.steal) as f64;
        let total_ns = total * 1e9 / procfs::ticks_per_second().max(1) as f64;
        let wall = self.at.since(earlier.at).max(1) as f64;
        let pressure = self.pressure_ns.zip(earlier.pressure_ns);
        Some(HostLoad {
            busy: (total - idle - steal).max(0.0) / total,
            steal: steal / total,
            pressure: pressure.map(|(now, then)| now.saturating_sub(then) as f64 / wall),
            own: self.own_ns.saturating_sub(earlier.own_ns) as f64 / total_ns,
            total_ns,
            wall_ns: wall,
        })
    }
}

/// All that a trial saw.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The sessions' peer is in the generator's own process.
    pub(crate) needs_no_server: bool,
    pub(crate) counters: Counters,
    pub(crate) histograms: Histograms,
    pub(crate) totals: Option<Totals>,
    pub(crate) generator_rss_before: u64,
    pub(crate) server_before: Option<ServerStats>,
    pub(crate) server_start: Option<ServerStats>,
    pub(crate) server_end: Option<ServerStats>,
    pub(crate) host_start: Option<HostCpu>,
    pub(crate) host_end: Option<HostCpu>,
    pub(crate) measured: Duration,
    /// What was published, as it ended, and the planned measured window.
    pub(crate) schedule: Option<(Schedule, Range<Nanos>)>,
    pub(crate) lost_workers: u64,
    /// The server had answered, and did not any more at the end.
    pub(crate) server_lost: bool,
    /// Shares of the connections that faults were meant for.
    pub(crate) shares: Vec<f64>,
    /// The faults that were made.
    pub(crate) made: Vec<Made>,
    /// The server's disconnect log.
    pub(crate) disconnects: Option<Vec<Disconnect>>,
    pub(crate) measured_start: Nanos,
    pub(crate) load_end: Nanos,
    /// Every session that a fault hit has noticed it: the trial ended before its time, as planned.
    pub(crate) all_noticed: bool,
    /// A fault could not be made or ended, or what makes them died.
    pub(crate) fault_failed: Option<String>,
    /// And it is the server that did not do its part.
    pub(crate) server_failed_fault: bool,
    /// Another server process took the place of one that was ended: costs and counts are not of one process.
    pub(crate) server_replaced: bool,
    /// Last counts of server processes that were ended in order.
    pub(crate) earlier_servers: Vec<ServerStats>,
    pub(crate) proxy_delay_p99_ns: Option<u64>,
    /// Sessions whose connect time was taken.
    pub(crate) connects_timed: u64,
    /// Memory that the kernel kept for TCP sockets at both ends of the measured window, in bytes.
    pub(crate) kernel_tcp_start: Option<u64>,
    pub(crate) kernel_tcp_end: Option<u64>,
    pub(crate) partial: bool,
}

/// The summary of a trial of `cell`.
pub(crate) fn of(cell: &Cell, facts: Facts) -> TrialSummary {
    let totals = facts.totals.clone().unwrap_or_default();
    let mut books = totals.books.clone();
    let mut imbalances = Vec::new();
    let quantile = |metric, q| facts.histograms.get(metric).and_then(|h| h.quantile(q));
    let latency_count = facts.histograms.count(Metric::Latency);
    let expects_messages = matches!(cell.workload, Workload::Push(_) | Workload::Echo(_));

    if facts.schedule.is_some() {
        books.scheduled = planned(&facts).unwrap_or(0);
        // A publication within the load generator is on time by construction; a server tells what it published. What one
        // published that was killed nobody can tell: what was due is taken for sent, and so for lost where nobody has it.
        let told = !facts.server_replaced || !facts.earlier_servers.is_empty();
        let earlier = facts
            .earlier_servers
            .iter()
            .map(|s| s.published_measured)
            .sum::<u64>();
        books.sent = facts
            .server_end
            .as_ref()
            .filter(|_| told)
            .map_or(books.scheduled, |s| earlier + s.published_measured);
        // A server that is asked late to stop has published a little more than was asked for; it was all scheduled.
        books.scheduled = books.scheduled.max(books.sent);
        books.not_sent = books.scheduled.saturating_sub(books.sent);
    }
    if let (Some(before), Some(end)) = (&facts.server_before, &facts.server_end) {
        let dropped = end.dropped.saturating_sub(before.dropped);
        let undelivered = end.undelivered.saturating_sub(before.undelivered);
        books.lost_dropped_by_server = books.lost.min(dropped + undelivered);
        let offered = end.offered_measured.saturating_sub(before.offered_measured);
        let all_there = totals.ended_early + totals.established_late == 0
            && facts.lost_workers == 0
            && facts.made.is_empty();
        let (_, slow_expected, _) = totals.slow;
        let expected = books.expected + slow_expected;
        // Slow readers that are disconnected are offered less, which their own books say.
        if facts.schedule.is_some() && all_there && offered != expected && disconnected(&facts) == 0 {
            imbalances.push(format!(
                "the server offered {offered} deliveries to its sessions, the load generator expected {expected}"
            ));
        }
    }
    books.foreign = facts.counters.foreign;
    if facts.lost_workers == 0 && expects_messages {
        imbalances.extend(books.imbalances(latency_count));
    }
    if facts.lost_workers > 0 {
        imbalances.push(format!(
            "{} load generator processes died and took their books with them",
            facts.lost_workers
        ));
    }
    if facts.server_lost {
        imbalances.push("the server died or hung before the end and took its counts with it".to_owned());
    }
    if facts.counters.attempted != facts.counters.established + facts.counters.failed && !facts.partial {
        let Counters {
            attempted,
            established,
            failed,
            ..
        } = &facts.counters;
        imbalances.push(format!(
            "{attempted} connections attempted, but {established} established + {failed} failed"
        ));
    }

    let host = facts
        .host_start
        .zip(facts.host_end)
        .and_then(|(start, end)| end.load_since(start));
    let server = server_cost(&facts);
    let others_busy_share = host.and_then(|host| others(&host, &totals, &facts));
    let watched = totals.busiest_thread > 0.0;
    let known = Known {
        cell,
        shares: &facts.shares,
        made: &facts.made,
        totals: &totals,
        disconnects: facts.disconnects.as_deref(),
        measured_start: facts.measured_start,
        end: facts.load_end,
        offered: offered(&facts),
    };
    let watched_course = !cell.faults.is_empty() || cell.reconnect.policy != ReconnectPolicy::None;
    TrialSummary {
        sessions_planned: match cell.workload {
            Workload::Connect { .. } => totals.opens_scheduled,
            _ => u64::from(cell.load.connections),
        },
        expects_messages,
        generator_sends: matches!(cell.workload, Workload::Echo(_)),
        measured: facts.measured,
        books,
        imbalances,
        measured_payload_bytes: totals.measured_payload_bytes,
        // What slow readers have not read is on the wire and was not delivered.
        wire: Some(totals.wire).filter(|wire| wire.sessions > 0 && totals.slow.0 == 0 && has_wire(cell)),
        compressed: totals.compressed,
        sessions_ended_early: totals.ended_early,
        ended_by: totals.ended_by.clone(),
        tcp_connections: (facts.lost_workers == 0 && !facts.needs_no_server)
            .then_some(totals.tcp_connections),
        sessions_late: totals.established_late,
        negative_samples: totals.negative_samples,
        out_of_range: facts
            .histograms
            .get(Metric::Latency)
            .map_or(0, |h| h.out_of_range()),
        generator: Cost {
            cpu_user_ns: Some(totals.cpu_user_ns),
            cpu_system_ns: Some(totals.cpu_system_ns),
            rss_before_bytes: Some(facts.generator_rss_before),
            rss_after_bytes: Some(totals.rss_bytes),
        },
        server,
        generator_busy_share: watched.then_some(totals.busiest_thread),
        generator_waiting_share: watched.then_some(totals.most_waiting_thread),
        generator_wanting_share: watched.then_some(totals.most_wanting_thread),
        loop_delay_p99_ns: totals.loop_delay.quantile(0.99),
        loop_delay_p90_ns: totals.loop_delay.quantile(0.9),
        loop_looks: watched.then(|| totals.loop_delay.count()),
        own_send_delay_p99_ns: totals.own_send_delay.quantile(0.99),
        sent_in_window: totals.sent_in_window,
        held_back: totals.held_back,
        host_busy_share: host.map(|host| host.busy),
        host_steal_share: host.map(|host| host.steal),
        host_pressure_share: host.and_then(|host| host.pressure),
        others_busy_share,
        latency_p99_ns: quantile(Metric::Latency, 0.99),
        send_delay_p99_ns: quantile(Metric::SendDelay, 0.99),
        generator_delay_p99_ns: quantile(Metric::GeneratorDelay, 0.99),
        interval_gaps: 0,
        partial: facts.partial || facts.server_lost || facts.fault_failed.is_some(),
        faults: known.faults(),
        recovery: known.recovery(),
        timeline: watched_course.then(|| totals.course.timeline(facts.measured)),
        slow: slow_reading(&totals, &facts),
        fault_failed: facts.fault_failed.clone(),
        server_failed_fault: facts.server_failed_fault,
        proxy_delay_p99_ns: facts.proxy_delay_p99_ns,
        opened_in_window: match cell.workload {
            Workload::Connect { .. } => facts.connects_timed,
            _ => 0,
        },
        negotiation: Negotiation {
            asked: asked(cell).unwrap_or_default(),
            asked_to_resume: cell.carriage.resumption && is_secured(cell),
            ..totals.negotiation.clone()
        },
        counters: facts.counters,
    }
}

/// What sessions that come and go on shared connections have moved cannot be told apart: the opening of one holds the ends of
/// others.
fn has_wire(cell: &Cell) -> bool {
    !(matches!(cell.workload, Workload::Connect { .. }) && sessions_per_connection(cell) > 1)
}

fn carrier(cell: &Cell) -> Option<Carrier> {
    cell.variant.carrier.parse().ok()
}

/// What connections are asked for, in words; `None` where nothing is to be agreed on.
fn asked(cell: &Cell) -> Option<String> {
    let carrier = carrier(cell)?;
    let http = carrier.http();
    let secured = match (carrier.is_secured(), cell.carriage.tls) {
        (false, _) => " in the clear".to_owned(),
        (true, None) => format!(", ALPN {}, TLS 1.2 or 1.3", http.alpn()),
        (true, Some(TlsVersion::Tls1_2)) => format!(", ALPN {}, TLS 1.2", http.alpn()),
        (true, Some(TlsVersion::Tls1_3)) => format!(", ALPN {}, TLS 1.3", http.alpn()),
    };
    Some(format!("{carrier}: {}{secured}", http.as_str()))
}

/// Messages that the schedule had for the measured window (push).
pub(crate) fn planned(facts: &Facts) -> Option<u64> {
    let (schedule, window) = facts.schedule.as_ref()?;
    Some(schedule.count_before(window.end) - schedule.count_before(window.start))
}

/// The share of the host's processors that this trial's generator and server used in the measured window.
pub(crate) fn trial_share(facts: &Facts) -> Option<f64> {
    let host = facts.host_end?.load_since(facts.host_start?)?;
    let totals = facts.totals.as_ref()?;
    ours(&host, totals, facts)
}

/// The share of the host's processors that is neither the generator's, nor the server's, nor ours. `None` where the server's
/// part is not known: a server that tells nothing may be the one that is busy.
fn others(host: &HostLoad, totals: &Totals, facts: &Facts) -> Option<f64> {
    Some((host.busy - host.own - ours(host, totals, facts)?).max(0.0))
}

/// The part of the generator and the server.
fn ours(host: &HostLoad, totals: &Totals, facts: &Facts) -> Option<f64> {
    let server_ns = match (&facts.server_start, &facts.server_end) {
        // A server that was behind told its counts late: what it used is taken for the window alone.
        (Some(start), Some(end)) => {
            let used =
                (end.cpu_user_ns + end.cpu_system_ns).saturating_sub(start.cpu_user_ns + start.cpu_system_ns);
            used as f64 * (host.wall_ns / end.at.since(start.at).max(1) as f64).min(1.0)
        }
        _ if facts.needs_no_server => 0.0,
        _ => return None,
    };
    let generator_ns = (totals.cpu_user_ns + totals.cpu_system_ns) as f64;
    Some((generator_ns + server_ns) / host.total_ns)
}

/// Deliveries of the measured window that the server, or one after the other, offered to whoever was there.
fn offered(facts: &Facts) -> Option<u64> {
    let end = facts.server_end.as_ref()?.offered_measured;
    if facts.server_replaced {
        let told = !facts.earlier_servers.is_empty();
        return told.then(|| {
            end + facts
                .earlier_servers
                .iter()
                .map(|s| s.offered_measured)
                .sum::<u64>()
        });
    }
    Some(end.saturating_sub(facts.server_before.as_ref()?.offered_measured))
}

/// Memory that the kernel keeps for all TCP sockets of this host, in bytes; `None` where it does not say.
pub(crate) fn kernel_tcp_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = tcp.split_whitespace();
    words.find(|word| *word == "mem")?;
    let pages: u64 = words.next()?.parse().ok()?;
    Some(pages * procfs::page_size())
}

/// Sessions that the server disconnected because they did not keep up. They are the last to know: they do not read.
fn disconnected(facts: &Facts) -> u64 {
    let closed = |stats: &Option<ServerStats>| {
        let closed = stats
            .as_ref()
            .and_then(|s| s.sessions_closed.get(&CloseReason::SlowReader));
        closed.copied().unwrap_or(0)
    };
    closed(&facts.server_end).saturating_sub(closed(&facts.server_before))
}

/// What slow readers cost; `None` where there were none.
fn slow_reading(totals: &Totals, facts: &Facts) -> Option<SlowReading> {
    let (sessions, expected, delivered) = totals.slow;
    if sessions == 0 {
        return None;
    }
    let growth = |start: u64, end: u64| i64::try_from(i128::from(end) - i128::from(start)).ok();
    let (before, end) = (facts.server_start.as_ref(), facts.server_end.as_ref());
    Some(SlowReading {
        sessions,
        expected,
        delivered,
        undelivered: expected.saturating_sub(delivered),
        disconnected: disconnected(facts),
        dropped_by_server: before
            .zip(end)
            .map_or(0, |(b, e)| e.dropped.saturating_sub(b.dropped)),
        server_rss_growth_bytes: before
            .zip(end)
            .and_then(|(b, e)| growth(b.rss_bytes, e.rss_bytes)),
        neighbours: totals.beside_slow.as_ref().map(|[near, _]| near.clone()),
        rest: totals.beside_slow.as_ref().map(|[_, rest]| rest.clone()),
        kernel_tcp_growth_bytes: facts
            .kernel_tcp_start
            .zip(facts.kernel_tcp_end)
            .and_then(|(start, end)| growth(start, end)),
    })
}

fn server_cost(facts: &Facts) -> Cost {
    if facts.server_replaced {
        // Of which process?
        return Cost::default();
    }
    let between = |field: fn(&ServerStats) -> u64| {
        let (start, end) = (facts.server_start.as_ref()?, facts.server_end.as_ref()?);
        Some(field(end).saturating_sub(field(start)))
    };
    Cost {
        cpu_user_ns: between(|s| s.cpu_user_ns),
        cpu_system_ns: between(|s| s.cpu_system_ns),
        rss_before_bytes: facts.server_before.as_ref().map(|s| s.rss_bytes),
        rss_after_bytes: facts.server_end.as_ref().map(|s| s.rss_bytes),
    }
}
