//! The JSON Schema of scenario files, for editors: how each kind of value is described, and the names of the
//! catalogue filled in.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::plan::Catalogue;
use crate::raw::ScenarioFile;

/// The JSON Schema of a scenario file over these transports.
pub fn schema(catalogue: &Catalogue) -> Value {
    let mut schema = shape();
    let transports: Vec<&str> = catalogue.transports.iter().map(|t| t.name.as_str()).collect();
    let mut carriers: Vec<&str> = Vec::new();
    for carrier in catalogue.transports.iter().flat_map(|t| &t.carriers) {
        if !carriers.contains(&carrier.as_str()) {
            carriers.push(carrier);
        }
    }
    let payload = format!(
        "A payload's size. With its stamp it is {} bytes at least, {} at most.",
        catalogue.smallest_payload_bytes, catalogue.largest_payload_bytes
    );
    schema["$defs"]["TransportName"]["enum"] = json!(transports);
    schema["$defs"]["CarrierName"]["enum"] = json!(carriers);
    schema["$defs"]["SizeText"]["description"] = json!(payload);
    schema
}

/// The same as text, as it stands in `schema/scenario.schema.json`.
pub fn schema_text(catalogue: &Catalogue) -> String {
    format!("{:#}\n", schema(catalogue))
}

/// The section that a key belongs to, for a key that stands in the wrong one.
pub(crate) fn home_of(key: &str) -> Option<&'static str> {
    let shape = shape();
    let sections = [
        ("compression", "CompressionSection"),
        ("load", "LoadSection"),
        ("workload", "WorkloadSection"),
        ("server", "ServerSection"),
        ("target", "TargetSection"),
        ("deadlines", "DeadlinesSection"),
        ("heartbeat", "HeartbeatSection"),
        ("tcp", "TcpSection"),
        ("reconnect", "ReconnectSection"),
        ("fault", "FaultSection"),
        ("slow-readers", "SlowReadersSection"),
    ];
    let home = sections
        .into_iter()
        .find(|(_, def)| shape["$defs"][*def]["properties"].get(key).is_some());
    home.map(|(section, _)| section)
}

/// The schema before the catalogue's names are known.
fn shape() -> Value {
    SchemaGenerator::default()
        .into_root_schema_for::<ScenarioFile>()
        .to_value()
}

/// Describes a kind of value: a type that is only a name for its schema.
macro_rules! described {
    ($($(#[$doc:meta])* $name:ident: $schema:tt)*) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

described! {
    /// The question.
    QuestionText: { "type": "string", "minLength": 1, "maxLength": 300 }
    /// A transport; its names are the catalogue's.
    TransportName: { "type": "string" }
    /// A carrier; its names are the catalogue's.
    CarrierName: { "type": "string" }
    /// A duration.
    DurationText: {
        "description": "A number and a unit: \"500ms\", \"2s\", \"1m\".",
        "type": "string",
        "pattern": r"^ *[0-9]+(\.[0-9]+)? *(ns|us|µs|ms|s|m|h) *$"
    }
    /// A size.
    SizeText: { "type": "string", "pattern": r"^ *[0-9]+(\.[0-9]+)? *(B|kB|MB|GB|KiB|MiB|GiB) *$" }
    /// A flow-control window.
    WindowText: {
        "description": "A number and a unit: \"64 KiB\", \"1 MiB\".",
        "type": "string",
        "pattern": r"^ *[0-9]+(\.[0-9]+)? *(B|kB|MB|GB|KiB|MiB|GiB) *$"
    }
    /// A rate.
    RateText: {
        "description": "A count, a slash and a time: \"10/s\", \"600/m\", \"1/500ms\".",
        "type": "string",
        "pattern": r"^ *[0-9]+(\.[0-9]+)? *[kM]? */ *([0-9]+(\.[0-9]+)? *)?(ns|us|µs|ms|s|m|h) *$"
    }
    /// A count.
    CountValue: {
        "description": "A whole number, or a text with a suffix: 5000, \"5k\".",
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": r"^ *[0-9]+(\.[0-9]+)? *[kM]? *$" }
        ]
    }
    /// A count, or all.
    CountOrAll: {
        "description": "A whole number, a text with a suffix, or \"all\": 10, \"1k\".",
        "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": r"^( *[0-9]+(\.[0-9]+)? *[kM]? *|all)$" }
        ]
    }
    /// A version of TLS.
    TlsWord: { "enum": ["1.2", "1.3"] }
    /// A share of the connections.
    ShareValue: {
        "description": "\"all\", \"none\", or a share of them, evenly spread: 0.1.",
        "anyOf": [
            { "enum": ["all", "none"] },
            { "type": "number", "minimum": 0, "maximum": 1 }
        ]
    }
    /// An address.
    AddressText: {
        "description": "Host and port: \"127.0.0.1:8080\", \"[::1]:8080\", \"localhost:8080\".",
        "type": "string",
        "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):[0-9]+$"
    }
    /// The word of an arrival.
    AtOnceWord: { "const": "at-once", "description": "All at the same instant." }
    /// The workloads of this version.
    KindWord: { "oneOf": [
        { "const": "push", "description": "The server publishes on a schedule, every session receives." },
        { "const": "echo", "description": "Each session sends on its schedule and gets the same message back." },
        { "const": "connect", "description": "Sessions are opened and closed at a rate; nothing is sent." }
    ] }
    /// The words of a schedule.
    ScheduleWord: { "oneOf": [
        { "const": "uniform", "description": "Evenly." },
        { "const": "poisson", "description": "A Poisson process: independent messages at the same mean rate." }
    ] }
    /// What payloads are made of.
    EncodingWord: { "oneOf": [
        { "const": "text", "description": "UTF-8 text." },
        { "const": "binary", "description": "Arbitrary bytes; a text-only transport has to encode them." },
        { "const": "json", "description": "JSON of other values in each message, from the seed; it compresses as a feed does." }
    ] }
    /// Whether what is sent is compressed.
    CompressionWord: { "oneOf": [
        { "const": "none", "description": "As it is." },
        { "const": "deflate", "description": "permessage-deflate or gzip; a server that declines makes a session fail." }
    ] }
    /// Whose messages refer back to earlier ones.
    TakeoverValue: { "anyOf": [ { "type": "boolean" }, { "enum": ["server", "client"] } ] }
    /// The size of a window.
    WindowBits: { "type": "integer", "minimum": 9, "maximum": 15 }
    /// How hard a compressor tries.
    CompressionLevel: { "type": "integer", "minimum": 1, "maximum": 9 }
    /// What a server does with a message too many.
    WhenFullWord: { "oneOf": [
        { "const": "drop-oldest", "description": "The oldest waiting message makes room." },
        { "const": "drop-newest", "description": "The new message is dropped." },
        { "const": "disconnect", "description": "The session is closed." }
    ] }
    /// A duration, or none.
    DurationOrOff: {
        "description": "A number and a unit, or \"off\".",
        "type": "string",
        "pattern": r"^( *[0-9]+(\.[0-9]+)? *(ns|us|µs|ms|s|m|h) *|off)$"
    }
    /// When a session tries again.
    PolicyWord: { "oneOf": [
        { "const": "none", "description": "Never." },
        { "const": "native", "description": "As the transport's own standard has it, if it says anything." },
        { "const": "fixed", "description": "Always after `delay`." },
        { "const": "exponential", "description": "After a time that doubles with each failure, from `delay` to `max`, with `jitter`." }
    ] }
    /// What chance does to waiting times.
    JitterWord: { "oneOf": [
        { "const": "none", "description": "Nothing." },
        { "const": "full", "description": "Anything from zero to the whole time." },
        { "const": "equal", "description": "Half of the time, and anything up to the other half." },
        { "const": "decorrelated", "description": "Anything from the first wait to three times the last one." }
    ] }
    /// What breaks.
    FaultWord: { "oneOf": [
        { "const": "fin", "description": "Both sides see an orderly end of the TCP connection." },
        { "const": "rst", "description": "Both sides see a reset." },
        { "const": "freeze", "description": "Nothing passes any more; kernels still acknowledge." },
        { "const": "half-open", "description": "The server's side is reset; the client is told nothing." },
        { "const": "delay", "description": "Bytes are held back for `delay` and up to `jitter`, each way." },
        { "const": "bandwidth", "description": "No more than `bandwidth` a second passes to each client." },
        { "const": "slow-drip", "description": "One byte in `every` passes to each client." },
        { "const": "corrupt", "description": "Bytes to clients are changed with `chance`." },
        { "const": "crash", "description": "The server process is killed; a new one takes its port after `lasts`." },
        { "const": "stop", "description": "The server process is stopped for `lasts`; its kernel still acknowledges." },
        { "const": "restart", "description": "The server ends in good order; a new one takes its port after `lasts`." },
        { "const": "refuse", "description": "The server refuses new connections." },
        { "const": "blackhole", "description": "No packet passes, nothing is acknowledged. Needs root." },
        { "const": "loss", "description": "Packets are lost with `chance`. Needs root." },
        { "const": "link-down", "description": "The network link goes down. Needs root." }
    ] }
    /// The thresholds.
    ExpectTable: {
        "type": "object",
        "patternProperties": {
            r"^(latency|service_time|connect_time)\.(max|p[0-9]{1,2}(\.[0-9]{1,6})?)$": {
                "description": "A time: \"< 50ms\".",
                "type": "string",
                "pattern": r"^ *(<|<=|>|>=) *[0-9]+(\.[0-9]+)? *(ns|us|µs|ms|s|m|h) *$"
            },
            r"^(lost|duplicated|reordered|failed_connects|deliveries_per_second)$": {
                "description": "A count: 0, \"< 10\", \">= 20k\".",
                "anyOf": [
                    { "type": "integer", "minimum": 0 },
                    { "type": "string", "pattern": r"^ *(<|<=|=|==|>|>=)? *[0-9]+(\.[0-9]+)? *[kM]? *$" }
                ]
            }
        },
        "additionalProperties": false
    }
    /// Floors and budgets of the gate.
    GateTable: {
        "type": "object",
        "patternProperties": {
            r"^(latency\.(p50|p90|p99|p99\.9)|connect_time\.p50|deliveries_per_second|loss|cpu_per_delivery|memory_per_connection|time_to_reconnect\.(p50|p99)|(server_)?detection_time\.p50|undetected|not_recovered)$": {
                "description": "Smaller than the floor is no regression; a pass proves that it is not worse than the budget.",
                "type": "object",
                "properties": {
                    "floor": { "type": "string", "pattern": r"^ *[0-9]+(\.[0-9]+)? *% *$" },
                    "budget": { "type": "string", "pattern": r"^ *[0-9]+(\.[0-9]+)? *% *$" }
                },
                "required": ["floor", "budget"],
                "additionalProperties": false
            }
        },
        "additionalProperties": false
    }
}

/// Names, each once.
pub(crate) struct Names<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Names<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("NamesOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<T>();
        json_schema!({ "type": "array", "items": name, "minItems": 1, "uniqueItems": true })
    }
}

/// A value, or a list of them that makes a sweep.
pub(crate) struct OneOrList<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrList<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrListOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "uniqueItems": true }]
        })
    }
}
