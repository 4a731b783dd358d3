//! What a coordinator and a worker process say to each other: JSON lines on stdin and stdout.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

pub use crate::carriage::CarriagePlan;
use crate::course::Course;
use crate::groups::Groups;
use crate::recovery::Cut;
use pushmark_measure::{
    Books, Compressed, ConnectionEvent, Histogram, Interval, Nanos, Negotiation, Party, Phase, Rate,
    Schedule, Slots, Wire,
};
use pushmark_scenario::plan::{self, Deadlines, Heartbeat, Reconnect, SlowReaders, TcpOptions, Workload};
use pushmark_transport::Kind;
use pushmark_transport::stamp::{Content, Template};
use serde::{Deserialize, Serialize};

/// The first line to a worker process: what it shall do in one trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Goes into every stamp; other runs' messages are foreign.
    pub run: u32,
    /// The transport's name in the registry.
    pub transport: String,
    /// The name of what carries it, one of those in the transport's row.
    pub carrier: String,
    /// Whom sessions trust, and what they share.
    #[serde(default)]
    pub carriage: CarriagePlan,
    /// The server; unused by transports that need none.
    pub address: SocketAddr,
    /// Addresses that connections come from, in turn; empty leaves it to the kernel.
    pub sources: Vec<IpAddr>,
    /// The first port used of each of them.
    pub first_port: u16,
    /// The sessions of this process, of `total_sessions` in all.
    pub sessions: Range<u32>,
    /// Sessions of the whole trial.
    pub total_sessions: u32,
    /// Which of the trial's worker processes this one is.
    #[serde(default)]
    pub process: OneOf,
    /// How connections arrive.
    pub arrival: plan::Arrival,
    /// What they do.
    pub workload: Workload,
    /// Same seed, same schedules.
    pub seed: u64,
    /// Worker threads.
    pub threads: u32,
    /// Deadlines of the steps.
    pub deadlines: Deadlines,
    /// Share of the sessions on which the kernel stamps what arrives.
    #[serde(default)]
    pub kernel_stamps: f64,
    /// When the ramp begins; intervals are counted from here.
    pub open_at: Nanos,
    /// What may go wrong, and what to do about it.
    #[serde(default)]
    pub trouble: TroublePlan,
}

/// One of some that do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOf {
    /// Which, from zero.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

impl Default for OneOf {
    fn default() -> Self {
        Self { number: 0, of: 1 }
    }
}

impl OneOf {
    /// One of the `of` parts of this one, among all parts of all.
    pub fn part(self, number: u32, of: u32) -> Self {
        let of = of.max(1);
        Self {
            number: self.number.saturating_mul(of).saturating_add(number),
            of: self.of.max(1).saturating_mul(of),
        }
    }

    /// What falls to it of `total`, so that all together have no more than that.
    pub fn share(self, total: u32) -> u32 {
        let before = |n: u32| u64::from(total) * u64::from(n) / u64::from(self.of.max(1));
        (before(self.number.saturating_add(1)) - before(self.number)) as u32
    }
}

/// What may go wrong in a trial, as far as its sessions have to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TroublePlan {
    /// How sessions find out that the server is gone.
    pub heartbeat: Option<Heartbeat>,
    /// What the kernel does to find out.
    pub tcp: TcpOptions,
    /// What a session does that was cut off.
    pub reconnect: Reconnect,
    /// When the first fault is due, counted from the start of the measured window; `None`: nothing is to break.
    pub first_fault: Option<std::time::Duration>,
    /// Shares of the connections that faults are meant for; a session's part in them says which route it takes.
    pub shares: Vec<f64>,
    /// Where sessions go, by their part in the shares (see [`route`]); empty: all to the server.
    pub routes: Vec<SocketAddr>,
    /// Sessions that do not keep up.
    pub slow_readers: Option<SlowReaders>,
}

impl TroublePlan {
    /// Whether the course of the trial and its cuts are kept.
    pub fn is_watched(&self) -> bool {
        self.first_fault.is_some() || self.reconnect.policy != plan::ReconnectPolicy::None
    }
}

impl Assignment {
    /// Which of its sessions share a connection.
    pub fn groups(&self) -> Groups {
        Groups::of(&self.carrier, self.carriage.setup, &self.workload)
    }

    /// Thread number `thread` of this process, among all threads of the trial: each opens its part of the rate (connect).
    pub fn opener(&self, thread: u32) -> OneOf {
        self.process.part(thread, self.threads)
    }
}

/// Which route a session takes: a bit for each share that it is in.
pub fn route(shares: &[f64], session: u32) -> usize {
    let bits = shares.iter().enumerate();
    bits.map(|(k, share)| usize::from(plan::is_in_share(*share, session)) << k)
        .sum()
}

/// Later lines to a worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// The load begins.
    Begin(Begin),
    /// The load ends; what is in flight may still arrive.
    Stop(Stop),
}

/// When the load runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Warm-up begins.
    pub start: Nanos,
    /// The measured window.
    pub measured: Range<Nanos>,
    /// What the server publishes (push).
    pub published: Option<Schedule>,
    /// The share of the time in which this generator sends or opens connections; `None`: all of it. What a server
    /// publishes has its own in its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
}

/// How the load ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Nothing was intended at or after this instant: the end of the measured window, or earlier.
    pub at: Nanos,
    /// How many messages the server published in all (push).
    pub published: Option<u64>,
    /// The drain ends by then.
    pub drain_end: Nanos,
}

/// Lines from a worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// It is there.
    Hello {
        /// Resident memory before the first connection, in bytes.
        rss_bytes: u64,
    },
    /// Every connection attempt of the ramp has an outcome.
    Opened {
        /// Usable sessions.
        established: u32,
        /// Failed attempts.
        failed: u32,
    },
    /// About a second.
    Interval(Box<Interval>),
    /// What became of connections.
    Events(Vec<ConnectionEvent>),
    /// The worker has ended.
    Done(Box<Totals>),
}

/// A worker process's totals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Delivery accounting over the measured window.
    pub books: Books,
    /// Payload bytes of deliveries in the measured window.
    pub measured_payload_bytes: u64,
    /// What went over the sessions' connections.
    pub wire: Wire,
    /// Payload bytes that came compressed in the measured window, and what they were on their streams.
    pub compressed: Compressed,
    /// Sessions that ended before the drain.
    pub ended_early: u64,
    /// Sessions that became usable after the load had begun.
    pub established_late: u64,
    /// Samples that ran backwards in time.
    pub negative_samples: u64,
    /// Connections that the schedule asked for (connect).
    pub opens_scheduled: u64,
    /// Of those, not begun because too many were open (connect).
    pub opens_skipped: u64,
    /// User CPU in the measured window, in nanoseconds.
    pub cpu_user_ns: u64,
    /// System CPU in the measured window, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Resident memory at the end of the measured window, in bytes.
    pub rss_bytes: u64,
    /// The busiest worker thread's CPU over the measured window.
    pub busiest_thread: f64,
    /// The longest that a worker thread stood ready to run without a processor, as a share of the measured window.
    pub most_waiting_thread: f64,
    /// The most of the measured window that a worker thread wanted a processor, whether it had one or not.
    pub most_wanting_thread: f64,
    /// How late the threads' loops came round for a timer, in nanoseconds.
    pub loop_delay: Histogram,
    /// How late messages were sent while nothing but this generator held them up, in nanoseconds (echo).
    pub own_send_delay: Histogram,
    /// Messages of the measured window that were sent before it ended (echo).
    pub sent_in_window: u64,
    /// Scheduled messages that were not sent because the transport had not taken an earlier one yet (echo).
    pub held_back: u64,
    /// Ends of sessions that nobody had asked for.
    pub cuts: Vec<Cut>,
    /// Attempts to come back, by outcome.
    pub reconnects: BTreeMap<String, u64>,
    /// The course of the trial, where it is watched.
    pub course: Course,
    /// Latency of sessions never cut off, of messages intended before the first fault, in nanoseconds.
    pub stayed_before: Histogram,
    /// The same from the first fault on.
    pub stayed_after: Histogram,
    /// Sessions established, by their route.
    pub established_by_route: BTreeMap<usize, u64>,
    /// What connections agreed on, and which got something else than what was asked for.
    pub negotiation: Negotiation,
    /// Sessions that were slow on purpose, which are in none of the other counts: how many, expected, delivered.
    pub slow: (u64, u64, u64),
    /// What sessions that ended before the drain ended with.
    pub ended_by: BTreeMap<String, u64>,
    /// TCP connections made for sessions.
    pub tcp_connections: u64,
    /// Sessions that kept up beside slow ones: those that share a connection with one, and the rest.
    pub beside_slow: Option<[Party; 2]>,
}

impl Totals {
    /// Adds another worker's totals; of threads, the worse of both remains.
    pub fn merge(&mut self, other: &Totals) {
        self.books.merge(&other.books);
        self.measured_payload_bytes += other.measured_payload_bytes;
        self.wire.merge(&other.wire);
        self.compressed.merge(&other.compressed);
        self.ended_early += other.ended_early;
        self.established_late += other.established_late;
        self.negative_samples += other.negative_samples;
        self.opens_scheduled += other.opens_scheduled;
        self.opens_skipped += other.opens_skipped;
        self.cpu_user_ns += other.cpu_user_ns;
        self.cpu_system_ns += other.cpu_system_ns;
        self.rss_bytes += other.rss_bytes;
        self.busiest_thread = self.busiest_thread.max(other.busiest_thread);
        self.most_waiting_thread = self.most_waiting_thread.max(other.most_waiting_thread);
        self.most_wanting_thread = self.most_wanting_thread.max(other.most_wanting_thread);
        self.loop_delay.merge(&other.loop_delay);
        self.own_send_delay.merge(&other.own_send_delay);
        self.sent_in_window += other.sent_in_window;
        self.held_back += other.held_back;
        self.cuts.extend_from_slice(&other.cuts);
        for (outcome, count) in &other.reconnects {
            *self.reconnects.entry(outcome.clone()).or_default() += count;
        }
        self.course.merge(&other.course);
        self.stayed_before.merge(&other.stayed_before);
        self.stayed_after.merge(&other.stayed_after);
        self.negotiation.merge(&other.negotiation);
        for (route, count) in &other.established_by_route {
            *self.established_by_route.entry(*route).or_default() += count;
        }
        self.slow.0 += other.slow.0;
        self.slow.1 += other.slow.1;
        self.slow.2 += other.slow.2;
        for (cause, count) in &other.ended_by {
            *self.ended_by.entry(cause.clone()).or_default() += count;
        }
        self.tcp_connections += other.tcp_connections;
        if let Some(parties) = &other.beside_slow {
            let ours = self.beside_slow.get_or_insert_with(Default::default);
            ours.iter_mut()
                .zip(parties)
                .for_each(|(ours, theirs)| ours.merge(theirs));
        }
    }
}

impl Begin {
    /// The phase that `now` lies in.
    pub fn phase_at(&self, now: Nanos) -> Phase {
        if now < self.start {
            Phase::Ramp
        } else if now < self.measured.start {
            Phase::WarmUp
        } else if now < self.measured.end {
            Phase::Measure
        } else {
            Phase::Drain
        }
    }
}

/// The message schedule of stream `stream` over `span`, or of connection opens.
pub fn schedule(
    rate: plan::Rate,
    pattern: plan::Pattern,
    span: Range<Nanos>,
    seed: u64,
    stream: u32,
    staggered: bool,
) -> Schedule {
    Schedule {
        start: span.start,
        end: span.end,
        rate: Rate {
            count: rate.count,
            per_ns: u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX),
        },
        pattern: match pattern {
            plan::Pattern::Uniform => pushmark_measure::Pattern::Uniform,
            plan::Pattern::Poisson => pushmark_measure::Pattern::Poisson,
            plan::Pattern::Bursts { size } => pushmark_measure::Pattern::Bursts { size },
        },
        seed,
        stream,
        staggered,
        slots: None,
    }
}

/// The transports' word for a plan's encoding.
pub fn kind(encoding: plan::Encoding) -> Kind {
    match encoding {
        plan::Encoding::Text | plan::Encoding::Json => Kind::Text,
        plan::Encoding::Binary => Kind::Binary,
    }
}

/// What stands around a stamp.
pub fn content(encoding: plan::Encoding) -> Content {
    match encoding {
        plan::Encoding::Text | plan::Encoding::Binary => Content::Filler,
        plan::Encoding::Json => Content::Quotes,
    }
}

/// The payloads of these messages.
pub fn template(messages: &plan::Messages, seed: u64) -> Template {
    let size = messages.payload_bytes as usize;
    Template::of(content(messages.encoding), kind(messages.encoding), size, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of all processes are as many openers, and what falls to each adds up to what there is.
    #[test]
    fn every_thread_of_every_process_is_another_one() {
        for (processes, threads, total) in [(1, 1, 7), (3, 2, 700), (2, 3, 4)] {
            let mut all: Vec<OneOf> = Vec::new();
            for number in 0..processes {
                let process = OneOf {
                    number,
                    of: processes,
                };
                all.extend((0..threads).map(|thread| process.part(thread, threads)));
            }
            assert!(all.iter().zip(0..).all(|(one, n)| *one
                == OneOf {
                    number: n,
                    of: processes * threads
                }));
            assert_eq!(all.iter().map(|one| one.share(total)).sum::<u32>(), total);
        }
    }
}
