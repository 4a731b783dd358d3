//! The plan: what the program runs. Every value checked, every list multiplied out, every default filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod carriage;
mod catalogue;
mod trouble;

pub use carriage::{
    CarriageSetup, Compression, StreamsPerConnection, Takeover, TargetTls, TlsVersion, Windows,
};
pub use catalogue::{Catalogue, CatalogueEntry};
pub use trouble::{
    Fault, FaultKind, FaultMeans, Heartbeat, Jitter, Keepalive, Reconnect, ReconnectPolicy, SlowReaders,
    TcpOptions,
};

/// Everything that one `pushmark run` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario's name: its file name without `.toml`.
    pub name: String,
    /// The question that it answers, in the author's words.
    pub question: String,
    /// The scenario as run: the file's text with overrides applied, as TOML that gives this same plan again.
    pub source: String,
    /// Durations were shrunk for a smoke run; results are marked so.
    pub quick: bool,
    /// Same seed, same schedules.
    pub seed: u64,
    /// How often each cell is measured.
    pub repeats: u32,
    /// What a sweep varies, if it varies anything.
    pub axis: Option<Axis>,
    /// Every variant at every point of the sweep.
    pub cells: Vec<Cell>,
    /// Thresholds of `[expect]`.
    pub expect: Vec<Expectation>,
    /// Limits of `[gate]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<GateLimit>,
}

/// What the gate calls worse in one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateLimit {
    /// The metric, as result files name it.
    pub metric: String,
    /// A smaller difference is never called a regression: 0.05 for 5 %.
    pub floor: f64,
    /// A pass proves that it is not worse by more; at least twice the floor.
    pub budget: f64,
}

/// What a sweep varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// `load.connections = [100, 1000]`
    Connections,
    /// `workload.payload = ["64 B", "1 KiB"]`
    PayloadBytes,
    /// `workload.rate = ["1/s", "10/s"]`
    RatePerSecond,
    /// Settings that are not numbers: lists of fault kinds, heartbeats, policies. Every combination is a point, named by
    /// [`Cell::condition`]; its value is its place in the plan.
    Condition,
}

/// A transport over a carrier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// A transport's name from the catalogue.
    pub transport: String,
    /// A carrier's name from the catalogue.
    pub carrier: String,
}

/// One variant at one point of the sweep: what a trial measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Unique in the plan and fit for a file name: `sse-h1`, or `sse-h1-c1000` in a sweep.
    pub id: String,
    /// The transport and its carrier.
    pub variant: Variant,
    /// What its carrier is told beside its name.
    #[serde(default)]
    pub carriage: CarriageSetup,
    /// The swept value, in the unit of the plan's axis.
    pub point: Option<f64>,
    /// The settings that are not numbers and vary in this plan: `fin, heartbeat 2s + 2s`. Empty when none do.
    #[serde(default)]
    pub condition: String,
    /// How many connections, how they arrive, for how long.
    pub load: Load,
    /// What they do.
    pub workload: Workload,
    /// How the embedded reference server is set up.
    pub server: ServerSetup,
    /// Where the load goes.
    pub target: TargetPlan,
    /// How connections there are secured, where the carrier is and the server is not the embedded one.
    #[serde(default)]
    pub target_tls: TargetTls,
    /// Deadlines of the load generator's steps.
    pub deadlines: Deadlines,
    /// How both sides find out that the other is gone.
    #[serde(default)]
    pub heartbeat: Option<Heartbeat>,
    /// What the kernel does to find out, on both sides.
    #[serde(default)]
    pub tcp: TcpOptions,
    /// What a session does that was cut off.
    #[serde(default)]
    pub reconnect: Reconnect,
    /// What breaks, in the order of the file.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Sessions that do not keep up.
    #[serde(default)]
    pub slow_readers: Option<SlowReaders>,
}

/// How many connections, how they arrive, for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Sessions to open (for `connect`: how many are open at once at the most).
    pub connections: u32,
    /// How they arrive.
    pub arrival: Arrival,
    /// Load runs, nothing is counted.
    pub warmup: Duration,
    /// The measured window.
    pub measure: Duration,
    /// How long messages in flight may still take, at the most.
    pub drain: Duration,
    /// Worker threads of the load generator; `None`: half the cores, at least one.
    pub workers: Option<u32>,
    /// Share of the connections on which the kernel stamps what arrives, from 0 to 1. Plans of before there were stamps had
    /// none.
    #[serde(default)]
    pub kernel_stamps: f64,
}

/// How connections arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// All at the same instant.
    AtOnce,
    /// Evenly over this long.
    Over(Duration),
    /// At this rate.
    Rate(Rate),
    /// One stage after another.
    Stages(Vec<Stage>),
}

/// Part of an arrival: so many more connections, evenly over this long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Connections opened in this stage.
    pub connections: u32,
    /// How long the stage takes.
    pub over: Duration,
}

/// A rate: `count` in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In how long.
    pub per: Duration,
}

/// What the sessions do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// The server publishes on a schedule, every session receives.
    Push(Messages),
    /// Each session sends on its schedule and gets the same message back.
    Echo(Messages),
    /// Sessions are opened and closed at a rate; nothing is sent.
    Connect {
        /// Opens a second.
        rate: Rate,
    },
}

/// The messages of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// How many, how often: of the one published stream (push), or of each session (echo).
    pub rate: Rate,
    /// How they spread within the rate.
    pub pattern: Pattern,
    /// Payload size in bytes, stamp included.
    pub payload_bytes: u32,
    /// Text or binary.
    pub encoding: Encoding,
}

/// How messages spread within the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Evenly.
    Uniform,
    /// A Poisson process.
    Poisson,
    /// So many at once, then a pause that keeps the rate.
    Bursts {
        /// Messages in one burst.
        size: u32,
    },
}

/// What a payload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes; a text-only transport encodes them and says what that costs.
    Binary,
    /// Text that compresses as a feed in JSON does, with other values in each message.
    Json,
}

/// How the embedded reference server is set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerSetup {
    /// Its threads; `None`: half the cores, at least one.
    pub threads: Option<u32>,
    /// Messages that may wait for one session.
    pub outbox_messages: u32,
    /// What happens when they are more.
    pub when_full: WhenFull,
    /// Published messages that it keeps for those who come back; none: it cannot resume.
    #[serde(default)]
    pub history_messages: u32,
    /// The reconnection time that it tells event streams (their `retry` field).
    #[serde(default)]
    pub retry: Option<Duration>,
}

/// What the server does with a message for a session whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest waiting message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The session is closed.
    Disconnect,
}

/// Where the load goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetPlan {
    /// A reference server is started for each trial on a free port of loopback, as a process of its own.
    Embedded,
    /// A server that speaks the reference server's paths and already runs at this `host:port`.
    Address(String),
}

/// Deadlines of the load generator's steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deadlines {
    /// TCP connect.
    pub connect: Duration,
    /// From connected to a usable session.
    pub open: Duration,
    /// Orderly close.
    pub close: Duration,
}

/// One threshold of `[expect]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// `latency.p99`, `lost`, `deliveries_per_second`, …
    pub metric: ExpectMetric,
    /// How the measured value must stand to the limit.
    pub comparison: Comparison,
    /// In nanoseconds for times, a plain number otherwise.
    pub limit: f64,
    /// As the author wrote it: `latency.p99 < 50ms`.
    pub text: String,
}

/// What a threshold looks at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectMetric {
    /// A quantile of the latency, in nanoseconds; 1.0 is the maximum.
    Latency(f64),
    /// A quantile of the service time, in nanoseconds.
    ServiceTime(f64),
    /// A quantile of the connect time, in nanoseconds.
    ConnectTime(f64),
    /// Messages lost.
    Lost,
    /// Messages duplicated.
    Duplicated,
    /// Messages reordered.
    Reordered,
    /// Connection attempts that failed.
    FailedConnects,
    /// Deliveries a second.
    DeliveriesPerSecond,
}

/// How a measured value must stand to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`, or a bare number
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

impl Plan {
    /// The trials in the order they run: repeats interleaved over cells (A B C, B C A, …), so that a drift of the
    /// machine hits all alike. Yields (repeat, index of the cell).
    pub fn trials(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let n = self.cells.len();
        (0..self.repeats).flat_map(move |repeat| (0..n).map(move |k| (repeat, (k + repeat as usize) % n)))
    }

    /// How long the whole plan takes at least: every trial's arrival, warm-up and measured window.
    pub fn least_duration(&self) -> Duration {
        self.trials()
            .map(|(_, cell)| self.cells[cell].load.least_duration())
            .sum()
    }
}

impl Rate {
    /// How many in a second.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }
}

impl Load {
    /// Arrival, warm-up and measured window of one trial.
    pub fn least_duration(&self) -> Duration {
        self.arrival.duration(self.connections) + self.warmup + self.measure
    }
}

impl Arrival {
    /// How long until the last of `connections` is opened.
    pub fn duration(&self, connections: u32) -> Duration {
        match self {
            Arrival::AtOnce => Duration::ZERO,
            Arrival::Over(over) => *over,
            Arrival::Rate(rate) => rate
                .per
                .mul_f64(f64::from(connections) / rate.count.max(1) as f64),
            Arrival::Stages(stages) => stages.iter().map(|s| s.over).sum(),
        }
    }

    /// When connection number `index` of `connections` is opened, counted from the start of the ramp. A pure function
    /// of its arguments.
    pub fn offset(&self, index: u32, connections: u32) -> Duration {
        match self {
            Arrival::AtOnce => Duration::ZERO,
            Arrival::Over(over) => over.mul_f64(f64::from(index) / f64::from(connections.max(1))),
            Arrival::Rate(rate) => rate.per.mul_f64(f64::from(index) / rate.count.max(1) as f64),
            Arrival::Stages(stages) => {
                let (mut first, mut begun) = (0, Duration::ZERO);
                for stage in stages {
                    if index < first + stage.connections {
                        return begun
                            + stage
                                .over
                                .mul_f64(f64::from(index - first) / f64::from(stage.connections));
                    }
                    first += stage.connections;
                    begun += stage.over;
                }
                begun
            }
        }
    }
}

/// Whether connection number `index` is among this share of them: evenly spread, the first one always.
pub fn is_in_share(share: f64, index: u32) -> bool {
    let before = |count: f64| (count * share).ceil();
    before(f64::from(index) + 1.0) > before(f64::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arrival: Arrival, connections: u32) -> Load {
        Load {
            connections,
            arrival,
            warmup: Duration::from_secs(1),
            measure: Duration::from_secs(4),
            drain: Duration::from_secs(2),
            workers: None,
            kernel_stamps: 1.0,
        }
    }

    fn plan(cells: usize, repeats: u32) -> Plan {
        let cell = Cell {
            id: "a-b".to_owned(),
            carriage: CarriageSetup::default(),
            target_tls: TargetTls::default(),
            variant: Variant {
                transport: "a".to_owned(),
                carrier: "b".to_owned(),
            },
            point: None,
            condition: String::new(),
            heartbeat: None,
            tcp: TcpOptions::default(),
            reconnect: Reconnect::default(),
            faults: Vec::new(),
            slow_readers: None,
            load: load(Arrival::Over(Duration::from_secs(5)), 10),
            workload: Workload::Connect {
                rate: Rate {
                    count: 1,
                    per: Duration::from_secs(1),
                },
            },
            server: ServerSetup {
                threads: None,
                outbox_messages: 1,
                when_full: WhenFull::Disconnect,
                history_messages: 0,
                retry: None,
            },
            target: TargetPlan::Embedded,
            deadlines: Deadlines {
                connect: Duration::from_secs(1),
                open: Duration::from_secs(1),
                close: Duration::from_secs(1),
            },
        };
        Plan {
            name: "n".to_owned(),
            question: "q".to_owned(),
            source: String::new(),
            quick: false,
            seed: 1,
            repeats,
            axis: None,
            cells: vec![cell; cells],
            expect: Vec::new(),
            gate: Vec::new(),
        }
    }

    fn offsets_ms(arrival: &Arrival, connections: u32) -> Vec<u128> {
        (0..connections)
            .map(|index| arrival.offset(index, connections).as_millis())
            .collect()
    }

    #[test]
    fn stamped_connections_are_spread_evenly() {
        let stamped = |share: f64, connections: u32| {
            (0..connections)
                .filter(|i| is_in_share(share, *i))
                .collect::<Vec<_>>()
        };
        assert_eq!(stamped(1.0, 4), [0, 1, 2, 3]);
        assert!(stamped(0.0, 4).is_empty());
        assert_eq!(stamped(0.1, 25), [0, 10, 20]);
        assert_eq!(stamped(0.5, 5), [0, 2, 4]);
        assert_eq!(stamped(0.001, 1), [0]);
    }

    #[test]
    fn trials_are_interleaved() {
        let trials: Vec<_> = plan(3, 3).trials().collect();
        let order: Vec<usize> = trials.iter().map(|(_, cell)| *cell).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        let repeats: Vec<u32> = trials.iter().map(|(repeat, _)| *repeat).collect();
        assert_eq!(repeats, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn every_cell_runs_once_in_each_repeat() {
        for (cells, repeats) in [(1, 5), (2, 3), (7, 20), (200, 2), (0, 3)] {
            let plan = plan(cells, repeats);
            for repeat in 0..repeats {
                let mut seen: Vec<usize> = plan
                    .trials()
                    .filter(|(r, _)| *r == repeat)
                    .map(|(_, cell)| cell)
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..cells).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_least_duration_leaves_the_drain_out() {
        assert_eq!(plan(2, 3).least_duration(), Duration::from_secs(6 * 10));
    }

    #[test]
    fn arrivals() {
        let seconds = Duration::from_secs;
        assert_eq!(offsets_ms(&Arrival::AtOnce, 3), [0, 0, 0]);
        assert_eq!(offsets_ms(&Arrival::Over(seconds(1)), 4), [0, 250, 500, 750]);
        assert_eq!(
            offsets_ms(
                &Arrival::Rate(Rate {
                    count: 2,
                    per: seconds(1)
                }),
                4
            ),
            [0, 500, 1000, 1500]
        );
        let stages = Arrival::Stages(vec![
            Stage {
                connections: 2,
                over: seconds(1),
            },
            Stage {
                connections: 2,
                over: Duration::ZERO,
            },
            Stage {
                connections: 2,
                over: seconds(4),
            },
        ]);
        assert_eq!(offsets_ms(&stages, 6), [0, 500, 1000, 1000, 1000, 3000]);
        assert_eq!(stages.duration(6), seconds(5));
        assert_eq!(stages.offset(99, 6), seconds(5));
    }

    #[test]
    fn an_arrival_is_over_when_it_says() {
        let stages = vec![Stage {
            connections: 10,
            over: Duration::from_secs(3),
        }];
        for arrival in [
            Arrival::AtOnce,
            Arrival::Over(Duration::from_secs(3)),
            Arrival::Rate(Rate {
                count: 7,
                per: Duration::from_secs(2),
            }),
            Arrival::Stages(stages),
        ] {
            let offsets: Vec<Duration> = (0..10).map(|index| arrival.offset(index, 10)).collect();
            assert!(offsets.is_sorted(), "{arrival:?}");
            assert!(offsets[9] <= arrival.duration(10), "{arrival:?}");
        }
    }

    #[test]
    fn rates_in_a_second() {
        for (count, per_ms, expected) in [(10, 1_000, 10.0), (1, 10_000, 0.1), (600, 60_000, 10.0)] {
            assert_eq!(
                Rate {
                    count,
                    per: Duration::from_millis(per_ms)
                }
                .per_second(),
                expected
            );
        }
    }
}
