//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pushmark_scenario::TargetTls;
use pushmark_transport::carrier::{Carrier, Windows};
use pushmark_transport::registry;

use crate::terminal::Color;

/// Measures WebSocket, Server-Sent Events and long polling under the same load, and says which delivered sooner, what
/// each cost, and whether the numbers can be trusted.
#[derive(Debug, Parser)]
#[command(
    name = "pushmark",
    version,
    after_help = "Begin with:  pushmark run scenarios/feed.toml\n\n\
                  Exit codes:  0 fine · 1 a threshold was missed, or the gate found a regression · \
                  2 bad usage or scenario, or pushmark could not work · 3 the gate is inconclusive (--strict) · \
                  4 the run is not valid or not complete\n\
                  Environment: NO_COLOR, PUSHMARK_COLOR, PUSHMARK_RESULTS (where runs go), PUSHMARK_CACERT, PUSHMARK_INSECURE, PUSHMARK_CLIENT_CERT, PUSHMARK_CLIENT_KEY, PUSHMARK_SNI (as the options of these names), PUSHMARK_LOG (error, warn, info, debug)"
)]
pub(crate) struct Cli {
    /// When to use color
    #[arg(long, global = true, value_enum, default_value_t, env = "PUSHMARK_COLOR")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a scenario and report
    ///
    /// Starts a reference server for each trial (or uses the scenario's target), puts the same load on every transport
    /// in turn, writes a run directory as it goes, and ends with a comparison, charts and a page.
    ///
    /// Ctrl-C ends the trial in good order and reports what there is; a second Ctrl-C ends at once.
    #[command(after_help = "Examples:\n  \
        pushmark run scenarios/feed.toml\n  \
        pushmark run scenarios/feed.toml --quick --transport sse\n  \
        pushmark run scenarios/feed.toml --set load.connections=5000 --set workload.rate=20/s")]
    Run(Box<RunArgs>),
    /// Compare two servers, and fail when the candidate is worse
    ///
    /// Both servers run at the same time and are loaded in turns of a tenth of a second, so that whatever else the machine
    /// does hits both alike; both are started anew for each block. A regression is told only when it is sure (one false
    /// alarm in a hundred gates at most) and larger than the metric's floor; a pass is proven: what is required is surely
    /// not worse than its budget. What is neither is inconclusive.
    ///
    /// An arm is a command that starts a server, which is given the flags of `pushmark serve` and says when it is ready in
    /// its words, or the host:port of a server that runs already and speaks its control paths.
    #[command(after_help = "Examples:\n  \
        pushmark gate --baseline \"base/pushmark serve\" --candidate \"head/pushmark serve\" scenarios/feed.toml\n  \
        pushmark gate --replay results/20261120T061000Z-gate-feed/gate.json\n  \
        pushmark gate --history history.jsonl --baseline \"frozen/pushmark serve\" --candidate \"head/pushmark serve\" scenarios/feed.toml\n  \
        pushmark gate --self-test 20\n\n\
        Exit codes: 0 pass, improvement, or inconclusive with a warning · 1 regression, or the candidate broke · \
        2 usage, or the baseline does not hold · 4 a replayed file contradicts itself, or the gate was interrupted · \
        with --strict: 3 inconclusive, 4 invalid")]
    Gate(Box<GateArgs>),
    /// Say what has crept in over the sessions of a history
    ///
    /// A loss of two percent a week passes every gate. Here are the sessions at which a metric changed, by E-divisive, and
    /// which metrics are worse by more than their floor since the last accepted change.
    #[command(after_help = "Example:\n  pushmark trend history.jsonl --strict\n\n\
        Exit codes: 0 fine · 2 usage · with --strict: 1 something has crept in, 3 too few sessions to tell")]
    Trend(TrendArgs),
    /// Check scenario files without any traffic: the plan, how long it takes, and whether this machine can carry it
    Check(CheckArgs),
    /// Say what this machine can carry, what pushmark does about each limit, and what would raise it
    ///
    /// With a scenario: whether this machine can carry it, and what each of its cells needs. Makes no traffic.
    Doctor(DoctorArgs),
    /// List scenarios with the question each answers
    List(ListArgs),
    /// Make every table, chart and page of a run again from its directory
    Report(ReportArgs),
    /// Run the reference server: every transport on one port
    ///
    /// Prints one line once it listens, then serves until SIGTERM or Ctrl-C, which end every session in its transport's
    /// orderly way. Clients get back whatever they send (echo); `run` tells it what to publish.
    Serve(Box<ServeArgs>),
    /// Print the JSON Schema of scenario files, for editors
    Schema,
    /// Print shell completions
    ///
    /// For bash: pushmark completions bash > ~/.local/share/bash-completion/completions/pushmark
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// A process of `run` in which connections are broken on purpose
    #[command(hide = true)]
    Proxy,
    /// A load generator process of `run`
    #[command(hide = true)]
    Worker,
}

/// What changes a scenario from the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ScenarioArgs {
    /// Override a key of the scenario: --set load.connections=500
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) overrides: Vec<(String, String)>,
    /// Measure these transports instead of the scenario's own
    #[arg(long = "transport", value_name = "NAME", value_delimiter = ',', value_parser = transports())]
    pub(crate) transports: Vec<String>,
    /// Measure over these carriers instead of the scenario's own: h1, h1+tls, h2c, h2+tls
    #[arg(long = "carrier", value_name = "NAME", value_delimiter = ',', value_parser = carriers())]
    pub(crate) carriers: Vec<String>,
    #[command(flatten)]
    pub(crate) tls: TargetTlsArgs,
    /// Shorten every duration for a smoke run; results are marked as such
    #[arg(long)]
    pub(crate) quick: bool,
    /// Allow a target outside loopback. Only ever point load at a server that is yours
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// How connections to the scenario's target are secured; instead of what its `[target.tls]` says.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS, for a target that already runs")]
pub(crate) struct TargetTlsArgs {
    /// Trust certificates that these have signed, or that are among them (PEM), instead of those that this system trusts
    #[arg(long, value_name = "FILE", env = "PUSHMARK_CACERT")]
    pub(crate) cacert: Option<String>,
    /// Verify no certificate: the server may be anybody. Said in the report
    #[arg(long, env = "PUSHMARK_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) insecure: bool,
    /// Show this certificate to the server (PEM)
    #[arg(long, value_name = "FILE", env = "PUSHMARK_CLIENT_CERT")]
    pub(crate) client_cert: Option<String>,
    /// The key of that certificate (PEM); it is read, and stands in no result
    #[arg(long, value_name = "FILE", env = "PUSHMARK_CLIENT_KEY")]
    pub(crate) client_key: Option<String>,
    /// Ask for the certificate of this name instead of the address's host
    #[arg(long, value_name = "NAME", env = "PUSHMARK_SNI")]
    pub(crate) sni: Option<String>,
}

impl ScenarioArgs {
    /// In the scenario crate's words.
    pub(crate) fn target_tls(&self) -> TargetTls {
        let TargetTlsArgs {
            cacert,
            insecure,
            client_cert,
            client_key,
            sni,
        } = self.tls.clone();
        TargetTls {
            cacert,
            insecure,
            client_cert,
            client_key,
            sni,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The scenario file
    pub(crate) scenario: PathBuf,
    #[command(flatten)]
    pub(crate) change: ScenarioArgs,
    /// Where run directories go; each run makes a new one
    #[arg(long, value_name = "DIR", default_value = "results", env = "PUSHMARK_RESULTS")]
    pub(crate) results: PathBuf,
    /// Leave out the calibration of the harness before the run, which takes a second
    #[arg(long)]
    pub(crate) no_calibration: bool,
    /// Write this run to exactly this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GateArgs {
    /// The scenario files
    #[arg(required_unless_present_any = ["replay", "self_test", "self_test_summary"])]
    pub(crate) scenarios: Vec<PathBuf>,
    /// The server to compare with: a command, or host:port
    #[arg(long, value_name = "CMD", required_unless_present_any = ["replay", "self_test", "self_test_summary"])]
    pub(crate) baseline: Option<String>,
    /// The server to judge: a command, or host:port
    #[arg(long, value_name = "CMD", required_unless_present_any = ["replay", "self_test", "self_test_summary"])]
    pub(crate) candidate: Option<String>,
    /// How long, and so how small a difference is seen
    #[arg(long, value_enum)]
    pub(crate) profile: Option<GateProfile>,
    /// Fail when the gate is inconclusive (exit code 3) or invalid (exit code 4)
    #[arg(long)]
    pub(crate) strict: bool,
    /// Throw the coins of an earlier gate again
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ScenarioArgs,
    /// Where gate directories go; each gate makes a new one
    #[arg(long, value_name = "DIR", default_value = "results", env = "PUSHMARK_RESULTS")]
    pub(crate) results: PathBuf,
    /// Write this gate to exactly this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the gate as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Reach the verdict again from gate.json, without any traffic
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "baseline", "candidate", "profile", "self_test", "out", "seed", "overrides", "transports", "carriers"])]
    pub(crate) replay: Option<PathBuf>,
    /// Judge the candidate by earlier sessions, which this file keeps: the baseline is a reference server that never changes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "self_test", "self_test_summary"])]
    pub(crate) history: Option<PathBuf>,
    /// What the session is called in the history; left out: the commit
    #[arg(long, value_name = "TEXT", requires = "history")]
    pub(crate) label: Option<String>,
    /// The change is meant: this session begins a new series, whatever the earlier ones say
    #[arg(long, requires = "history", conflicts_with = "judge_only")]
    pub(crate) accept: bool,
    /// Judge, and leave the history as it is: for builds that may never be merged
    #[arg(long, requires = "history")]
    pub(crate) judge_only: bool,
    /// Run N gates of alike servers and N with a slower candidate, and print how often the gate was wrong
    #[arg(long, value_name = "N", conflicts_with_all = ["baseline", "candidate", "out", "json", "strict"], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) self_test: Option<u32>,
    /// So many gates of the self-test have the extra work, spread evenly among the alike ones (default: as many)
    #[arg(long, value_name = "N", requires = "self_test")]
    pub(crate) self_test_slower: Option<u32>,
    /// How much more processor time a message costs the slower candidate
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, requires = "self_test", value_parser = percent)]
    pub(crate) inject_work_percent: f64,
    /// Write a line for each gate of the self-test to this new file
    #[arg(long, value_name = "FILE", requires = "self_test")]
    pub(crate) log: Option<PathBuf>,
    /// Print again what a self-test came to, from its log
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "baseline", "candidate", "profile", "self_test", "replay", "out", "strict"])]
    pub(crate) self_test_summary: Option<PathBuf>,
    /// Look after so many blocks
    #[arg(long, hide = true, value_delimiter = ',')]
    pub(crate) looks: Option<Vec<usize>>,
    /// Share of gates that may raise a false alarm
    #[arg(long, hide = true)]
    pub(crate) alpha: Option<f64>,
    /// Warm-up of a block in milliseconds
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) warmup_ms: Option<u64>,
    /// Measured window of a block in milliseconds
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) measure_ms: Option<u64>,
}

/// How long a gate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GateProfile {
    /// Under six minutes for one scenario: looks after 10 and 14 blocks
    Quick,
    /// 10, 20 or 30 blocks of 2 + 20 s for each transport
    #[default]
    Standard,
    /// 15, 30 or 45 blocks of 3 + 40 s for each transport
    Long,
    /// About a minute: 14 blocks and one look, with 0.2 % false alarms. What the self-test runs
    SelfTest,
}

#[derive(Args, Debug)]
pub(crate) struct TrendArgs {
    /// The history, as `pushmark gate --history` keeps it
    pub(crate) history: PathBuf,
    /// Fail when something has crept in (exit code 1), or there are too few sessions to tell (exit code 3)
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write table, JSON and charts to this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Scenario files
    #[arg(required = true)]
    pub(crate) scenarios: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) change: ScenarioArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// A scenario file to hold against the machine
    pub(crate) scenario: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) change: ScenarioArgs,
    /// Leave out the calibration of the harness, which takes a second
    #[arg(long)]
    pub(crate) no_calibration: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Where scenario files are
    #[arg(default_value = "scenarios")]
    pub(crate) dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// A run directory
    pub(crate) dir: PathBuf,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compression, for clients that ask for it.
#[derive(Args, Debug)]
pub(crate) struct CompressArgs {
    /// Compress for clients that ask (permessage-deflate, gzip), at this level from 1 to 9; left out: declined
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) compress: Option<u8>,
    /// Logarithm of how far back gzip may refer; of permessage-deflate the client says it
    #[arg(long, value_name = "BITS", requires = "compress", default_value_t = 15, value_parser = clap::value_parser!(u8).range(9..=15))]
    pub(crate) window_bits: u8,
    /// No event of a gzip stream refers back to an earlier one: each is compressed once for all
    #[arg(long, requires = "compress")]
    pub(crate) no_context_takeover: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub(crate) listen: SocketAddr,
    /// Listen here as well, for the control paths of this process alone
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) control: Option<SocketAddr>,
    /// Let several servers listen on one port; the kernel spreads connections over them
    #[arg(long)]
    pub(crate) share_port: bool,
    /// Threads; all cores when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Messages that may wait for one session
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) outbox: u32,
    /// What happens when they are more
    #[arg(long, value_enum, default_value_t)]
    pub(crate) when_full: WhenFull,
    /// Most sessions at once
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) max_sessions: u32,
    #[command(flatten)]
    pub(crate) detect: DetectArgs,
    /// Published messages kept for clients that come back and say what they have had; 0 keeps none
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) history: u32,
    /// Ask clients to wait this long before they come back, where the transport has a word for it: 3s, 500ms
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) retry: Option<Duration>,
    #[command(flatten)]
    pub(crate) compress: CompressArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) windows: WindowArgs,
    /// End when stdin ends: for whoever starts this server as a child
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
    #[command(flatten)]
    pub(crate) inject: InjectArgs,
}

/// How connections are secured.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Speak TLS too, on the same port, with a certificate made for this run, which is written here (PEM) for clients to trust
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    pub(crate) tls_cert_out: Option<PathBuf>,
    /// Speak TLS too, on the same port, with this certificate and those that vouch for it (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Clients under TLS must show a certificate that one of these has signed, or is (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Speak this version of TLS alone: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", value_parser = ["1.2", "1.3"])]
    pub(crate) tls_version: Option<String>,
    /// Give clients tickets, with which later connections take up the keys of earlier ones
    #[arg(long)]
    pub(crate) tls_resumption: bool,
}

/// How much of what clients send may lie unread.
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP/2")]
pub(crate) struct WindowArgs {
    /// Of one stream, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Windows::default().stream_bytes, value_parser = clap::value_parser!(u32).range(1024..=0x7FFF_FFFF))]
    pub(crate) stream_window: u32,
    /// Of all streams of a connection together, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Windows::default().connection_bytes, value_parser = clap::value_parser!(u32).range(65_535..=0x7FFF_FFFF))]
    pub(crate) connection_window: u32,
}

/// How dead clients are found.
#[derive(Args, Debug)]
#[command(next_help_heading = "Dead clients")]
pub(crate) struct DetectArgs {
    /// Ask a client for a sign of life after so long without one: 20s, 500ms
    #[arg(long, value_name = "DUR", value_parser = positive_span, requires = "heartbeat_timeout")]
    pub(crate) heartbeat_every: Option<Duration>,
    /// Give up a client that gave none within so long after that
    #[arg(long, value_name = "DUR", value_parser = positive_span, requires = "heartbeat_every")]
    pub(crate) heartbeat_timeout: Option<Duration>,
    /// TCP keepalive: idle time, time between probes (whole seconds both), unanswered probes that end a connection: 10s,5s,3
    #[arg(long, value_name = "IDLE,INTERVAL,PROBES", value_parser = keepalive)]
    pub(crate) keepalive: Option<(Duration, Duration, u32)>,
    /// End a connection on which sent data stays unacknowledged this long (TCP_USER_TIMEOUT), to the millisecond
    #[arg(long, value_name = "DUR", value_parser = positive_span)]
    pub(crate) user_timeout: Option<Duration>,
}

/// Faults put in on purpose, to check whoever measures against the truth.
#[derive(Args, Debug)]
#[command(next_help_heading = "Known faults, to check a measurement against the truth")]
pub(crate) struct InjectArgs {
    /// Hold every message back this many milliseconds
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    pub(crate) inject_delay_ms: Duration,
    /// Use up this many microseconds of processor time for every message
    #[arg(long, value_name = "US", default_value = "0", value_parser = microseconds)]
    pub(crate) inject_work_us: Duration,
    /// Lose the messages with these sequence numbers
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub(crate) inject_drop: Vec<u64>,
    /// Deliver the messages with these sequence numbers twice
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub(crate) inject_duplicate: Vec<u64>,
    /// Deliver the messages with these sequence numbers after their successors
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub(crate) inject_swap: Vec<u64>,
    /// Lose one delivery of one publication to one session: the one with this number, counted from 1 over all sessions
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) inject_lose_delivery: u64,
    /// Never give back this many bytes for every session opened
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub(crate) inject_leak_bytes: u32,
}

/// What the server does with a message for a session whose outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenFull {
    /// The oldest waiting message makes room
    #[default]
    DropOldest,
    /// The new message is dropped
    DropNewest,
    /// The session is closed
    Disconnect,
}

fn transports() -> PossibleValuesParser {
    PossibleValuesParser::new(registry::ROWS.iter().map(|row| row.name))
}

fn carriers() -> PossibleValuesParser {
    PossibleValuesParser::new(Carrier::ALL.iter().map(|carrier| carrier.name()))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, for instance load.connections=500".into()),
    }
}

/// A duration with its unit, of at most a day.
fn span(text: &str) -> Result<Duration, String> {
    let words = "write a number with its unit (ms, s, m), at most a day: 500ms, 20s, 2m";
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(words.into()),
    };
    match number.trim().parse::<f64>().map(|n| n * seconds) {
        Ok(s) if (0.0..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err(words.into()),
    }
}

fn positive_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        // What the kernel and the runtime count in.
        d if d < Duration::from_millis(1) => Err("write a millisecond or more".into()),
        d => Ok(d),
    }
}

fn keepalive(text: &str) -> Result<(Duration, Duration, u32), String> {
    let words = "write idle time, time between probes and number of probes: 10s,5s,3";
    let mut parts = text.split(',').map(str::trim);
    let (Some(idle), Some(interval), Some(probes), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(words.into());
    };
    let whole_seconds = |text| match span(text)? {
        // The kernel's own bounds.
        d if d.subsec_nanos() == 0 && (1..=32_767).contains(&d.as_secs()) => Ok(d),
        _ => Err("keepalive times are whole seconds from 1 to 32767".to_owned()),
    };
    match probes.parse() {
        Ok(probes @ 1..=127) => Ok((whole_seconds(idle)?, whole_seconds(interval)?, probes)),
        _ => Err("keepalive takes 1 to 127 probes".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=1_000.0).contains(&percent) => Ok(percent),
        _ => Err("write a number of percent from 0 to 1000".into()),
    }
}

fn microseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(us) if (0.0..=1_000_000.0).contains(&us) => Ok(Duration::from_secs_f64(us / 1e6)),
        _ => Err("write a number of microseconds from 0 to 1000000".into()),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=3_600_000.0).contains(&ms) => Ok(Duration::from_secs_f64(ms / 1e3)),
        _ => Err("write a number of milliseconds from 0 to 3600000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5 s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "NaNs", "infs", "1e300s", "1h", "2000m"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(positive_span("0s").is_err() && positive_span("0.5ms").is_err());
    }

    #[test]
    fn what_a_replay_or_a_summary_would_not_heed_is_refused() {
        let refused = |words: &[&str]| Cli::try_parse_from([&["pushmark", "gate"], words].concat()).is_err();
        for more in [
            "--out=a",
            "--seed=1",
            "--set=a=b",
            "--transport=ws",
            "--carrier=h2c",
        ] {
            assert!(refused(&["--replay", "gate.json", more]), "{more}");
        }
        for more in ["--out=a", "--strict"] {
            assert!(refused(&["--self-test-summary", "log", more]), "{more}");
        }
        assert!(!refused(&["--replay", "gate.json", "--strict", "--json"]));
        assert!(!refused(&["--self-test-summary", "log", "--json"]));
    }

    #[test]
    fn keepalive_is_what_the_kernel_takes() {
        let seconds = Duration::from_secs;
        assert_eq!(keepalive("10s,5s,3"), Ok((seconds(10), seconds(5), 3)));
        for wrong in [
            "",
            "10s",
            "10s,5s",
            "10s,5s,3,1",
            "500ms,5s,3",
            "10s,5s,0",
            "10s,5s,128",
            "0s,5s,3",
        ] {
            assert!(keepalive(wrong).is_err(), "{wrong}");
        }
    }
}
