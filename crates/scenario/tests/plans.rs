//! Plans of scenarios that are right: defaults, sweeps, carriers, workloads, thresholds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod common;

use std::time::Duration;

use common::{PUSH, catalogue, plan_of, wide_catalogue};
use pushmark_scenario::plan::{StreamsPerConnection, Takeover, Windows};
use pushmark_scenario::{
    Arrival, Axis, Comparison, Deadlines, Encoding, ExpectMetric, Options, Pattern, Plan, Rate, ScenarioText,
    Stage, TargetPlan, WhenFull, Workload, headline, plan, schema,
};

fn good(text: &str) -> Plan {
    plan_of(text).unwrap_or_else(|error| panic!("{error}"))
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.cells.iter().map(|cell| cell.id.as_str()).collect()
}

#[test]
fn what_is_left_out_is_filled_in() {
    let plan = good(PUSH);
    assert_eq!(
        (plan.name.as_str(), plan.seed, plan.repeats, plan.quick),
        ("test", 1, 3, false)
    );
    assert_eq!(plan.source, PUSH);
    assert_eq!((plan.axis, plan.expect.len()), (None, 0));
    assert_eq!(ids(&plan), ["ws-h1", "sse-h1"]);
    let cell = &plan.cells[0];
    assert_eq!(cell.load.arrival, Arrival::Over(Duration::from_secs(1)));
    let seconds = [cell.load.warmup, cell.load.measure, cell.load.drain].map(|time| time.as_secs());
    assert_eq!(seconds, [2, 10, 3]);
    assert_eq!((cell.load.workers, cell.server.threads), (None, None));
    assert_eq!(
        (cell.server.outbox_messages, cell.server.when_full),
        (256, WhenFull::DropOldest)
    );
    assert_eq!(cell.target, TargetPlan::Embedded);
    let Workload::Push(messages) = &cell.workload else {
        panic!("{:?}", cell.workload)
    };
    assert_eq!(
        (messages.pattern, messages.encoding),
        (Pattern::Uniform, Encoding::Text)
    );
}

/// Editors show the schema's defaults, so they have to be the program's.
#[test]
fn the_schema_tells_the_defaults_that_apply() {
    let schema = schema(&catalogue());
    let mut text = PUSH.to_owned();
    for (section, def) in [
        ("load", "LoadSection"),
        ("workload", "WorkloadSection"),
        ("server", "ServerSection"),
        ("deadlines", "DeadlinesSection"),
    ] {
        let mut lines = format!("[{section}]\n");
        for (key, property) in schema["$defs"][def]["properties"]
            .as_object()
            .expect("properties")
        {
            match &property["default"] {
                serde_json::Value::Null => {}
                serde_json::Value::Object(table) => {
                    lines.push_str(&format!("{key}.over = {}\n", table["over"]))
                }
                value => lines.push_str(&format!("{key} = {value}\n")),
            }
        }
        let header = format!("[{section}]\n");
        text = match text.contains(&header) {
            true => text.replace(&header, &lines),
            false => text + &lines,
        };
    }
    for key in [
        "arrival.over",
        "warmup",
        "measure",
        "drain",
        "repeats",
        "seed",
        "schedule",
        "outbox",
        "close",
    ] {
        assert!(
            text.contains(&format!("\n{key} = ")),
            "{key} has no default in\n{text}"
        );
    }
    let (told, applied) = (good(&text), good(PUSH));
    assert_eq!(told.cells, applied.cells);
    assert_eq!((told.repeats, told.seed), (applied.repeats, applied.seed));
}

#[test]
fn everything_that_can_be_said() {
    let plan = good(
        r#"
        question = """
            Does everything
            that can be said arrive?"""
        transports = ["null", "ws"]
        carriers = ["in-process", "h1"]

        [load]
        connections = "30"
        arrival = { stages = [{ connections = 10, over = "1s" }, { connections = 20, over = "0s" }] }
        warmup = "0s"
        measure = "1.5s"
        drain = "250ms"
        repeats = 2
        seed = 7
        workers = 3

        [workload]
        kind = "echo"
        rate = "1/2s"
        payload = "1 KiB"
        schedule = { bursts = 5 }
        encoding = "binary"

        [server]
        threads = 2
        outbox = "1k"
        when-full = "disconnect"

        [deadlines]
        connect = "1s"
        open = "2s"
        close = "3s"
        "#,
    );
    assert_eq!(plan.question, "Does everything that can be said arrive?");
    assert_eq!((plan.seed, plan.repeats), (7, 2));
    assert_eq!(ids(&plan), ["null-in-process", "ws-h1"]);
    let cell = &plan.cells[1];
    let stages = [(10, 1), (20, 0)].map(|(connections, seconds)| Stage {
        connections,
        over: Duration::from_secs(seconds),
    });
    assert_eq!(cell.load.arrival, Arrival::Stages(stages.to_vec()));
    assert_eq!((cell.load.warmup, cell.load.workers), (Duration::ZERO, Some(3)));
    let Workload::Echo(messages) = &cell.workload else {
        panic!("{:?}", cell.workload)
    };
    assert_eq!(
        messages.rate,
        Rate {
            count: 1,
            per: Duration::from_secs(2)
        }
    );
    assert_eq!(
        (messages.payload_bytes, messages.encoding),
        (1024, Encoding::Binary)
    );
    assert_eq!(messages.pattern, Pattern::Bursts { size: 5 });
    assert_eq!(
        (cell.server.threads, cell.server.outbox_messages),
        (Some(2), 1000)
    );
    assert_eq!(cell.server.when_full, WhenFull::Disconnect);
    let [connect, open, close] = [1, 2, 3].map(Duration::from_secs);
    assert_eq!(cell.deadlines, Deadlines { connect, open, close });
}

#[test]
fn connect_needs_no_payload_and_has_no_ramp() {
    let text = PUSH
        .replace("\"push\"", "\"connect\"")
        .replace("payload = \"200 B\"\n", "");
    let plan = good(&text.replace("10/s", "500/s"));
    let rate = Rate {
        count: 500,
        per: Duration::from_secs(1),
    };
    assert_eq!(plan.cells[0].workload, Workload::Connect { rate });
    assert_eq!(plan.cells[0].load.arrival, Arrival::AtOnce);
    assert_eq!(plan.cells[0].load.connections, 100);
}

#[test]
fn a_list_makes_a_sweep() {
    let connections = good(&PUSH.replace("= 100", "= [100, \"1k\"]"));
    assert_eq!(connections.axis, Some(Axis::Connections));
    assert_eq!(
        ids(&connections),
        ["ws-h1-c100", "sse-h1-c100", "ws-h1-c1000", "sse-h1-c1000"]
    );
    let points: Vec<_> = connections
        .cells
        .iter()
        .map(|c| (c.point, c.load.connections))
        .collect();
    let (low, high) = ((Some(100.0), 100), (Some(1000.0), 1000));
    assert_eq!(points, [low, low, high, high]);

    let payload = good(&PUSH.replace("\"200 B\"", "[\"64 B\", \"1 KiB\"]"));
    assert_eq!(payload.axis, Some(Axis::PayloadBytes));
    assert_eq!(
        ids(&payload),
        ["ws-h1-p64", "sse-h1-p64", "ws-h1-p1024", "sse-h1-p1024"]
    );

    let rate = good(&PUSH.replace("\"10/s\"", "[\"1/10s\", \"600/m\"]"));
    assert_eq!(rate.axis, Some(Axis::RatePerSecond));
    assert_eq!(
        ids(&rate),
        ["ws-h1-r0.1", "sse-h1-r0.1", "ws-h1-r10", "sse-h1-r10"]
    );
    assert_eq!(rate.cells[0].point, Some(0.1));

    let one = good(&PUSH.replace("= 100", "= [100]"));
    assert_eq!(
        (one.axis, ids(&one)),
        (Some(Axis::Connections), vec!["ws-h1-c100", "sse-h1-c100"])
    );
}

#[test]
fn equal_rates_in_different_words_are_one_point() {
    let error = plan_of(&PUSH.replace("\"10/s\"", "[\"10/s\", \"600/m\"]"))
        .expect_err("twice")
        .to_string();
    assert!(error.contains("names a value twice"), "{error}");
}

#[test]
fn transports_times_carriers() {
    let of = |carriers: &str| {
        let text = PUSH.replace("\n[load]", &format!("{carriers}\n[load]"));
        plan(
            &ScenarioText::new("t.toml", &text).expect("text"),
            &Options::default(),
            &wide_catalogue(),
        )
    };
    let cells = |carriers: &str| -> Vec<String> {
        let plan = of(carriers).unwrap_or_else(|error| panic!("{error}"));
        plan.cells.into_iter().map(|cell| cell.id).collect()
    };
    assert_eq!(cells(""), ["ws-h1", "sse-h1"]);
    assert_eq!(cells(r#"carriers = ["h1+tls"]"#), ["ws-h1+tls", "sse-h1+tls"]);
    assert_eq!(
        cells(r#"carriers = ["h2+tls", "h1"]"#),
        ["ws-h1", "sse-h2+tls", "sse-h1"]
    );
    let error = of(r#"carriers = ["h2+tls"]"#)
        .expect_err("no carrier")
        .to_string();
    assert!(error.contains("`ws` runs over none of the carriers"), "{error}");
    assert!(error.contains("`ws` runs over h1, h1+tls"), "{error}");
}

#[test]
fn thresholds() {
    let text = format!(
        "{PUSH}\n[expect]\n{}",
        r#"
        "service_time.max" = ">1.5ms"
        "latency.p99.9" = " <= 50 ms "
        "lost" = 0
        "duplicated" = "< 10k"
        "reordered" = "== 5"
        "failed_connects" = "3"
        "connect_time.p50" = "< 1s"
        "deliveries_per_second" = ">= 900"
        "#
    );
    use Comparison::{AtLeast, AtMost, Equal, Greater, Less};
    let expect: Vec<_> = good(&text)
        .expect
        .into_iter()
        .map(|expectation| {
            (
                expectation.metric,
                expectation.comparison,
                expectation.limit,
                expectation.text,
            )
        })
        .collect();
    let expected = [
        (
            ExpectMetric::ServiceTime(1.0),
            Greater,
            1_500_000.0,
            "service_time.max > 1.5ms",
        ),
        (
            ExpectMetric::Latency(0.999),
            AtMost,
            50_000_000.0,
            "latency.p99.9 <= 50 ms",
        ),
        (ExpectMetric::Lost, Equal, 0.0, "lost = 0"),
        (ExpectMetric::Duplicated, Less, 10_000.0, "duplicated < 10k"),
        (ExpectMetric::Reordered, Equal, 5.0, "reordered = 5"),
        (ExpectMetric::FailedConnects, Equal, 3.0, "failed_connects = 3"),
        (ExpectMetric::ConnectTime(0.5), Less, 1e9, "connect_time.p50 < 1s"),
        (
            ExpectMetric::DeliveriesPerSecond,
            AtLeast,
            900.0,
            "deliveries_per_second >= 900",
        ),
    ];
    assert_eq!(
        expect,
        expected.map(|(metric, sign, limit, text)| (metric, sign, limit, text.to_owned()))
    );
}

#[test]
fn targets() {
    let with = |address: &str, allow_remote| {
        let text = ScenarioText::new("t.toml", &format!("{PUSH}\n[target]\naddress = \"{address}\""));
        let options = Options {
            allow_remote,
            ..Options::default()
        };
        plan(&text.expect("text"), &options, &catalogue()).map(|plan| plan.cells[0].target.clone())
    };
    for address in ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"] {
        assert_eq!(
            with(address, false).expect(address),
            TargetPlan::Address(address.to_owned())
        );
    }
    for address in ["192.0.2.1:80", "example.org:443", "[2001:db8::1]:80"] {
        let error = with(address, false).expect_err(address).to_string();
        assert!(error.contains("--allow-remote"), "{error}");
        assert_eq!(
            with(address, true).expect(address),
            TargetPlan::Address(address.to_owned())
        );
    }
}

#[test]
fn a_headline_needs_nothing_but_the_question() {
    let of = |text: &str| headline(&ScenarioText::new("scenarios/late.toml", text).expect("text"));
    let found = of("question = \"\"\"\nWhy?\n\"\"\"\ntransports = 5").expect("question");
    assert_eq!((found.name.as_str(), found.question.as_str()), ("late", "Why?"));
    for text in [
        "",
        "question = 5",
        "question = \"\"",
        "question = \"\\u001b[31m\"",
        "question",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
}

#[test]
fn compressions_stand_side_by_side() {
    let text = format!(
        "{PUSH}encoding = \"json\"\n[compression]\nkind = [\"none\", \"deflate\"]\ncontext-takeover = [true, false, \"server\"]\nwindow-bits = 10\n"
    );
    let plan = good(&text);
    assert_eq!(plan.axis, Some(Axis::Condition));
    let asked: Vec<_> = plan
        .cells
        .iter()
        .filter(|cell| cell.variant.transport == "ws")
        .map(|cell| {
            let compression = cell.carriage.compression;
            (
                cell.condition.as_str(),
                compression.map(|c| (c.context_takeover, c.window_bits, c.level)),
            )
        })
        .collect();
    assert_eq!(
        asked,
        [
            ("not compressed", None),
            ("deflate", Some((Takeover::Both, 10, 6))),
            ("deflate, no context takeover", Some((Takeover::None, 10, 6))),
            (
                "deflate, context takeover of the server",
                Some((Takeover::Server, 10, 6))
            ),
        ]
    );
    // Left out, nothing is; and one that does not vary is no sweep.
    assert_eq!(good(PUSH).cells[0].carriage.compression, None);
    let plan = good(&format!("{PUSH}[compression]\nkind = \"deflate\"\n"));
    assert_eq!((plan.axis, plan.cells.len()), (None, 2));
    assert!(plan.cells[0].carriage.compression.is_some());
}

#[test]
fn encodings_stand_side_by_side() {
    let plan = good(&format!("{PUSH}encoding = [\"text\", \"binary\"]\n"));
    let conditions: Vec<_> = plan.cells.iter().map(|cell| cell.condition.as_str()).collect();
    assert_eq!(conditions, ["text", "text", "binary", "binary"]);
    let Workload::Push(messages) = &plan.cells[2].workload else {
        panic!("pushes")
    };
    assert_eq!(messages.encoding, Encoding::Binary);
}

/// One carrier that shares connections, one that does not.
const SHARED: &str = r#"question = "How long does a message take?"
transports = ["sse"]
carriers = ["h1", "h2c"]

[carrier]
streams-per-connection = [10, 1, "all"]

[load]
connections = 100

[workload]
kind = "push"
rate = "10/s"
payload = "200 B"
"#;

#[test]
fn ways_to_share_stand_side_by_side_and_who_does_not_share_has_one() {
    let plan = good(SHARED);
    assert_eq!(plan.axis, Some(Axis::Condition));
    let told: Vec<_> = plan
        .cells
        .iter()
        .map(|c| {
            (
                c.id.as_str(),
                c.condition.as_str(),
                c.point,
                c.carriage.windows.is_some(),
            )
        })
        .collect();
    // What both have comes first: there the rest is compared with it.
    assert_eq!(
        told,
        [
            ("sse-h1-1-a-connection", "1 a connection", Some(0.0), false),
            ("sse-h2c-1-a-connection", "1 a connection", Some(0.0), true),
            ("sse-h2c-10-a-connection", "10 a connection", Some(1.0), true),
            ("sse-h2c-all-on-one", "all on one", Some(2.0), true),
        ]
    );
    let streams: Vec<_> = plan
        .cells
        .iter()
        .map(|c| c.carriage.streams_per_connection)
        .collect();
    let [alone, one, ten, all] = streams[..] else {
        panic!("{streams:?}")
    };
    assert_eq!(
        (alone, one),
        (StreamsPerConnection::AtMost(1), StreamsPerConnection::AtMost(1))
    );
    assert_eq!(
        (ten, all),
        (StreamsPerConnection::AtMost(10), StreamsPerConnection::All)
    );
}

#[test]
fn a_single_number_of_streams_is_no_sweep_and_means_nothing_where_nothing_is_shared() {
    let plan = good(&SHARED.replace(r#"[10, 1, "all"]"#, "100"));
    assert_eq!((plan.axis, ids(&plan)), (None, vec!["sse-h1", "sse-h2c"]));
    let streams: Vec<_> = plan
        .cells
        .iter()
        .map(|c| c.carriage.streams_per_connection)
        .collect();
    assert_eq!(
        streams,
        [StreamsPerConnection::AtMost(1), StreamsPerConnection::AtMost(100)]
    );
}

#[test]
fn windows_can_be_set_and_compared() {
    let windows = "streams-per-connection = 10\nconnection-window = [\"256 MiB\", \"512 KiB\"]\nstream-window = \"64 KiB\"";
    let plan = good(&SHARED.replace(r#"streams-per-connection = [10, 1, "all"]"#, windows));
    let told: Vec<_> = plan
        .cells
        .iter()
        .map(|c| {
            (
                c.condition.as_str(),
                c.carriage.windows.map(|w| (w.stream_bytes, w.connection_bytes)),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("1 a connection", None),
            ("window 256 MiB", Some((64 << 10, 256 << 20))),
            ("window 512 KiB", Some((64 << 10, 512 << 10))),
        ]
    );
    let usual = good(&SHARED.replace(r#"[10, 1, "all"]"#, "1")).cells[1]
        .carriage
        .windows;
    assert_eq!(
        usual,
        Some(Windows {
            stream_bytes: 256 << 10,
            connection_bytes: 256 << 20
        })
    );
}
