//! The scenario file as its author wrote it: sections, keys, and values not yet looked at, each with its place.
//!
//! Here only the shape counts: which keys exist and which of them are tables. What a value means is
//! `resolve`'s to say, so that one look at the file finds everything that is wrong with it. The same types give
//! the published JSON Schema: `schemars(with = …)` says how a value is described there, and `default` that it may be
//! left out.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;

use crate::schema;

/// A key that may be there, with its value as written.
pub(crate) type Field = Option<Spanned<Given>>;

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    Text(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    List(Vec<Spanned<Given>>),
    Table,
}

/// One scenario: a question, the transports that it is put to, and the load that answers it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a scenario")]
#[schemars(title = "pushmark scenario", inline)]
pub(crate) struct ScenarioFile {
    /// The question that this scenario answers, in one sentence.
    #[schemars(with = "schema::QuestionText")]
    pub(crate) question: Field,
    /// The transports to compare.
    #[schemars(with = "schema::Names<schema::TransportName>")]
    pub(crate) transports: Field,
    /// What they run over; pairs that exist are measured. Left out: each transport's first carrier.
    #[schemars(with = "schema::Names<schema::CarrierName>", default)]
    pub(crate) carriers: Field,
    /// What carriers are told beside their names.
    #[schemars(with = "CarrierSection", default)]
    pub(crate) carrier: Option<Spanned<Table<CarrierSection>>>,
    /// How what is sent is compressed. Left out: it is not.
    #[schemars(with = "CompressionSection", default)]
    pub(crate) compression: Option<Spanned<Table<CompressionSection>>>,
    /// How many connections, how they arrive, for how long.
    #[schemars(with = "LoadSection")]
    pub(crate) load: Option<Spanned<Table<LoadSection>>>,
    /// What the sessions do.
    #[schemars(with = "WorkloadSection")]
    pub(crate) workload: Option<Spanned<Table<WorkloadSection>>>,
    /// How the reference server is set up.
    #[schemars(with = "ServerSection", default)]
    pub(crate) server: Option<Spanned<Table<ServerSection>>>,
    /// A server that already runs. Left out: a reference server is started for each trial, as a process of its own.
    #[schemars(with = "TargetSection", default)]
    pub(crate) target: Option<Spanned<Table<TargetSection>>>,
    /// How long the steps of the load generator may take.
    #[schemars(with = "DeadlinesSection", default)]
    pub(crate) deadlines: Option<Spanned<Table<DeadlinesSection>>>,
    /// How both sides find out that the other is gone. Left out: no heartbeats.
    #[schemars(with = "HeartbeatSection", default)]
    pub(crate) heartbeat: Option<Spanned<Table<HeartbeatSection>>>,
    /// What the kernel does to find out, on both sides.
    #[schemars(with = "TcpSection", default)]
    pub(crate) tcp: Option<Spanned<Table<TcpSection>>>,
    /// What a session does that was cut off. Left out: nothing.
    #[schemars(with = "ReconnectSection", default)]
    pub(crate) reconnect: Option<Spanned<Table<ReconnectSection>>>,
    /// What breaks.
    #[schemars(with = "Vec<FaultSection>", default)]
    pub(crate) fault: Option<Spanned<Vec<Spanned<Table<FaultSection>>>>>,
    /// Sessions that do not keep up on purpose.
    #[serde(rename = "slow-readers")]
    #[schemars(with = "SlowReadersSection", default)]
    pub(crate) slow_readers: Option<Spanned<Table<SlowReadersSection>>>,
    /// Thresholds. A missed one fails the run.
    #[schemars(with = "schema::ExpectTable", default)]
    pub(crate) expect: Option<Spanned<BTreeMap<Spanned<String>, Spanned<Given>>>>,
    /// What `pushmark gate` calls worse, for each metric that is not to have the built-in limits.
    #[schemars(with = "schema::GateTable", default)]
    pub(crate) gate: Option<Spanned<BTreeMap<Spanned<String>, Spanned<Table<GateLimitSection>>>>>,
}

/// How many connections, how they arrive, for how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadSection {
    /// Sessions to open; for `connect`, how many may be open at once. A list makes a sweep.
    #[schemars(with = "schema::OneOrList<schema::CountValue>")]
    pub(crate) connections: Field,
    /// How the connections arrive.
    #[schemars(with = "ArrivalField", default, extend("default" = {"over": "1s"}))]
    pub(crate) arrival: Option<Spanned<ArrivalField>>,
    /// Load runs, nothing is counted.
    #[schemars(with = "schema::DurationText", default, extend("default" = "2s"))]
    pub(crate) warmup: Field,
    /// The measured window.
    #[schemars(with = "schema::DurationText", default, extend("default" = "10s"))]
    pub(crate) measure: Field,
    /// How long messages in flight may still take, at the most.
    #[schemars(with = "schema::DurationText", default, extend("default" = "3s"))]
    pub(crate) drain: Field,
    /// How often each cell is measured; repeats are interleaved.
    #[schemars(with = "schema::CountValue", default, extend("default" = 3))]
    pub(crate) repeats: Field,
    /// Same seed, same schedules.
    #[schemars(with = "schema::CountValue", default, extend("default" = 1))]
    pub(crate) seed: Field,
    /// Worker threads of the load generator. Left out: half the cores, at least one.
    #[schemars(with = "schema::CountValue", default)]
    pub(crate) workers: Field,
    /// Connections on which the kernel stamps what arrives, so that the load generator's own delay is measured.
    #[serde(rename = "kernel-stamps")]
    #[schemars(with = "schema::ShareValue", default, extend("default" = "all"))]
    pub(crate) kernel_stamps: Field,
}

/// How connections arrive: a word or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum ArrivalField {
    /// All at the same instant.
    Word(#[schemars(with = "schema::AtOnceWord")] String),
    /// Spread over a time.
    Table(ArrivalTable),
}

/// A ramp: exactly one of these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct ArrivalTable {
    /// Evenly over this long.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) over: Field,
    /// So many connections in a time.
    #[schemars(with = "schema::RateText", default)]
    pub(crate) rate: Field,
    /// One stage after another; their connections add up to `connections`.
    #[schemars(with = "Vec<StageTable>", default)]
    pub(crate) stages: Option<Spanned<Vec<Spanned<Table<StageTable>>>>>,
}

/// So many more connections, evenly over a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: { connections = 100, over = \"1s\" }"
)]
pub(crate) struct StageTable {
    /// Connections opened in this stage.
    #[schemars(with = "schema::CountValue")]
    pub(crate) connections: Field,
    /// How long the stage takes.
    #[schemars(with = "schema::DurationText")]
    pub(crate) over: Field,
}

/// What the sessions do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkloadSection {
    /// What the sessions do.
    #[schemars(with = "schema::KindWord")]
    pub(crate) kind: Field,
    /// Messages of one stream in a time; for `connect`, opens in a time. A list makes a sweep.
    #[schemars(with = "schema::OneOrList<schema::RateText>")]
    pub(crate) rate: Field,
    /// Payload size, stamp included. A list makes a sweep. Not for `connect`.
    #[schemars(with = "schema::OneOrList<schema::SizeText>", default)]
    pub(crate) payload: Field,
    /// How messages spread within the rate.
    #[schemars(with = "ScheduleField", default, extend("default" = "uniform"))]
    pub(crate) schedule: Option<Spanned<ScheduleField>>,
    /// What a payload is made of. A list compares.
    #[schemars(with = "schema::OneOrList<schema::EncodingWord>", default, extend("default" = "text"))]
    pub(crate) encoding: Field,
}

/// How messages spread within the rate: a word or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum ScheduleField {
    /// One of the schedules without settings.
    Word(#[schemars(with = "schema::ScheduleWord")] String),
    /// Bursts.
    Table(ScheduleTable),
}

/// So many at once, then a pause that keeps the rate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleTable {
    /// Messages in one burst.
    #[schemars(with = "schema::CountValue")]
    pub(crate) bursts: Field,
}

/// What carriers are told beside their names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CarrierSection {
    /// How many sessions share a connection, where the carrier can carry several on one (HTTP/2). A list compares.
    #[serde(rename = "streams-per-connection")]
    #[schemars(with = "schema::OneOrList<schema::CountOrAll>", default, extend("default" = 1))]
    pub(crate) streams_per_connection: Field,
    /// How much of one stream each side takes unread (HTTP/2). A list compares.
    #[serde(rename = "stream-window")]
    #[schemars(with = "schema::OneOrList<schema::WindowText>", default, extend("default" = "256 KiB"))]
    pub(crate) stream_window: Field,
    /// How much of all streams of a connection together (HTTP/2). A list compares.
    #[serde(rename = "connection-window")]
    #[schemars(with = "schema::OneOrList<schema::WindowText>", default, extend("default" = "256 MiB"))]
    pub(crate) connection_window: Field,
    /// The one version of TLS that is offered, where the carrier has TLS. Left out: both, of which 1.3 is liked better. A list
    /// compares.
    #[schemars(with = "schema::OneOrList<schema::TlsWord>", default)]
    pub(crate) tls: Field,
    /// Connections take up the keys of earlier ones of the same worker, where the carrier has TLS. A list compares.
    #[schemars(with = "schema::OneOrList<bool>", default, extend("default" = false))]
    pub(crate) resumption: Field,
}

/// How what is sent is compressed: permessage-deflate (RFC 7692) for WebSocket, both ways; gzip for what a server answers by HTTP, down
/// alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompressionSection {
    /// Whether it is. A list compares.
    #[schemars(with = "schema::OneOrList<schema::CompressionWord>")]
    pub(crate) kind: Field,
    /// Whether a message may refer back to earlier ones: true, false, or the only side whose messages do. A list compares. A long
    /// poll's answers never do.
    #[serde(rename = "context-takeover")]
    #[schemars(with = "schema::OneOrList<schema::TakeoverValue>", default, extend("default" = true))]
    pub(crate) context_takeover: Field,
    /// How far back, as a power of two of bytes: 9 to 15.
    #[serde(rename = "window-bits")]
    #[schemars(with = "schema::WindowBits", default, extend("default" = 15))]
    pub(crate) window_bits: Field,
    /// How hard the compressors try: 1 to 9.
    #[schemars(with = "schema::CompressionLevel", default, extend("default" = 6))]
    pub(crate) level: Field,
}

/// How the reference server is set up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerSection {
    /// Threads of the server. Left out: half the cores, at least one.
    #[schemars(with = "schema::CountValue", default)]
    pub(crate) threads: Field,
    /// Messages that may wait for one session.
    #[schemars(with = "schema::CountValue", default, extend("default" = 256))]
    pub(crate) outbox: Field,
    /// What happens to a message for a session whose outbox is full.
    #[serde(rename = "when-full")]
    #[schemars(with = "schema::OneOrList<schema::WhenFullWord>", default, extend("default" = "drop-oldest"))]
    pub(crate) when_full: Field,
    /// Published messages that it keeps for those who come back. Left out or 0: none, nothing can be resumed.
    #[schemars(with = "schema::CountValue", default, extend("default" = 0))]
    pub(crate) history: Field,
    /// The time after which it asks event streams to come back.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) retry: Field,
}

/// A heartbeat: the same promise for every transport, kept in the way each has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartbeatSection {
    /// After this long without a word, one is asked for or given; "off" for none. A list compares.
    #[schemars(with = "schema::OneOrList<schema::DurationOrOff>")]
    pub(crate) every: Field,
    /// After this long without an answer, the other side is dead.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) timeout: Field,
}

/// What the kernel does to find out that a peer is gone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpSection {
    /// Idle time before the first keepalive probe. Left out: no keepalive.
    #[serde(rename = "keepalive-idle")]
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) keepalive_idle: Field,
    /// Time between keepalive probes.
    #[serde(rename = "keepalive-interval")]
    #[schemars(with = "schema::DurationText", default, extend("default" = "5s"))]
    pub(crate) keepalive_interval: Field,
    /// Unanswered keepalive probes after which the connection is dead.
    #[serde(rename = "keepalive-probes")]
    #[schemars(with = "schema::CountValue", default, extend("default" = 3))]
    pub(crate) keepalive_probes: Field,
    /// How long sent data may stay unacknowledged (TCP_USER_TIMEOUT).
    #[serde(rename = "user-timeout")]
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) user_timeout: Field,
}

/// What a session does that was cut off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReconnectSection {
    /// When it tries again. A list compares.
    #[schemars(with = "schema::OneOrList<schema::PolicyWord>")]
    pub(crate) policy: Field,
    /// The wait of `fixed`, the first one of `exponential`.
    #[schemars(with = "schema::DurationText", default, extend("default" = "1s"))]
    pub(crate) delay: Field,
    /// The longest wait of `exponential`.
    #[schemars(with = "schema::DurationText", default, extend("default" = "30s"))]
    pub(crate) max: Field,
    /// What chance does to the waits of `exponential`. A list compares.
    #[schemars(with = "schema::OneOrList<schema::JitterWord>", default, extend("default" = "full"))]
    pub(crate) jitter: Field,
    /// It says what it has seen, so that a server with a history can give what it missed. A list compares. Left out: as
    /// the policy has it; `native` does where the transport's standard does.
    #[schemars(with = "schema::OneOrList<bool>", default)]
    pub(crate) resume: Field,
}

/// Something that breaks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSection {
    /// When, counted from the start of the measured window.
    #[schemars(with = "schema::DurationText")]
    pub(crate) at: Field,
    /// What. A list compares.
    #[schemars(with = "schema::OneOrList<schema::FaultWord>")]
    pub(crate) kind: Field,
    /// For how long. Left out: to the end of the trial.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) lasts: Field,
    /// On which share of the connections; less than all only for faults that a proxy makes.
    #[schemars(with = "schema::ShareValue", default, extend("default" = "all"))]
    pub(crate) share: Field,
    /// How long `delay` holds bytes back, each way.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) delay: Field,
    /// Up to how much longer `delay` holds them back by chance.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) jitter: Field,
    /// Bytes a second that `bandwidth` lets pass on each connection: "64 KiB".
    #[schemars(with = "schema::SizeText", default)]
    pub(crate) bandwidth: Field,
    /// The time in which `slow-drip` lets one byte pass.
    #[schemars(with = "schema::DurationText", default)]
    pub(crate) every: Field,
    /// Chance of each packet to be lost (`loss`) or of each byte to be changed (`corrupt`).
    #[schemars(with = "f64", default)]
    pub(crate) chance: Field,
}

/// Sessions that do not keep up on purpose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowReadersSection {
    /// Which share of the sessions.
    #[schemars(with = "schema::ShareValue")]
    pub(crate) share: Field,
    /// Messages that they read in a time. Left out: they read nothing at all.
    #[schemars(with = "schema::RateText", default)]
    pub(crate) rate: Field,
}

/// Limits of one metric in the gate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateLimitSection {
    /// A smaller difference is never called a regression.
    pub(crate) floor: Field,
    /// A pass proves that it is not worse by more.
    pub(crate) budget: Field,
}

/// A server that already runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetSection {
    /// Its host and port. Outside loopback only with `--allow-remote`.
    #[schemars(with = "schema::AddressText")]
    pub(crate) address: Field,
    /// How connections to it are secured, where the carrier is.
    #[schemars(with = "TargetTlsSection", default)]
    pub(crate) tls: Option<Spanned<Table<TargetTlsSection>>>,
}

/// How connections to a server that already runs are secured. Files are those that would be found from where pushmark is started.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetTlsSection {
    /// A file with the certificates that are trusted (PEM). Left out: those that this system trusts.
    #[schemars(with = "String", default)]
    pub(crate) cacert: Field,
    /// Certificates are not verified: the server may be anybody.
    #[schemars(with = "bool", default, extend("default" = false))]
    pub(crate) insecure: Field,
    /// A file with the certificate that is shown to the server, and those that vouch for it (PEM).
    #[serde(rename = "client-cert")]
    #[schemars(with = "String", default)]
    pub(crate) client_cert: Field,
    /// A file with its key (PEM).
    #[serde(rename = "client-key")]
    #[schemars(with = "String", default)]
    pub(crate) client_key: Field,
    /// The name that the certificate must have and that is sent. Left out: the host of the address.
    #[schemars(with = "String", default)]
    pub(crate) sni: Field,
}

/// How long the steps of the load generator may take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadlinesSection {
    /// TCP connect.
    #[schemars(with = "schema::DurationText", default, extend("default" = "5s"))]
    pub(crate) connect: Field,
    /// From connected to a usable session.
    #[schemars(with = "schema::DurationText", default, extend("default" = "10s"))]
    pub(crate) open: Field,
    /// Orderly close.
    #[schemars(with = "schema::DurationText", default, extend("default" = "2s"))]
    pub(crate) close: Field,
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GivenVisitor;

        impl<'de> Visitor<'de> for GivenVisitor {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Text(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Given, E> {
                Ok(Given::Integer(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Given, E> {
                Ok(Given::Integer(number.into()))
            }
            fn visit_i128<E>(self, number: i128) -> Result<Given, E> {
                Ok(Given::Integer(number))
            }
            fn visit_u128<E>(self, number: u128) -> Result<Given, E> {
                Ok(Given::Integer(number.try_into().unwrap_or(i128::MAX)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Given, E> {
                Ok(Given::Float(number))
            }
            fn visit_bool<E>(self, yes: bool) -> Result<Given, E> {
                Ok(Given::Bool(yes))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Given::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Given::Table)
            }
        }

        deserializer.deserialize_any(GivenVisitor)
    }
}

/// A table, and nothing else: left alone, serde would also fill a struct from a list, value by value.
#[derive(Debug)]
pub(crate) struct Table<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with keys of its own")
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Table)
            }
        }

        deserializer.deserialize_any(TableVisitor(PhantomData))
    }
}

/// Reads a value that is either a word or a table with keys of its own.
macro_rules! word_or_table {
    ($field:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $field {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FieldVisitor;

                impl<'de> Visitor<'de> for FieldVisitor {
                    type Value = $field;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E>(self, text: &str) -> Result<$field, E> {
                        Ok($field::Word(text.to_owned()))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<$field, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(entries)).map($field::Table)
                    }
                }

                deserializer.deserialize_any(FieldVisitor)
            }
        }
    };
}

word_or_table!(ArrivalField, r#""at-once", or a table such as { over = "5s" }"#);
word_or_table!(
    ScheduleField,
    r#""uniform", "poisson", or a table such as { bursts = 5 }"#
);
