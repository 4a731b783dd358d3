//! Any text, any option: a plan or an error that can be shown, never a panic; and a plan's source gives it again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod common;

use common::{PUSH, catalogue};
use proptest::prelude::*;
use pushmark_scenario::{Options, Plan, ScenarioError, ScenarioText, headline, plan};

/// Makes a plan and checks what holds for every result.
fn check(bytes: &[u8], options: &Options) {
    let shown = |error: &ScenarioError| {
        let text = error.render(false);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!error.render(true).is_empty());
        error
            .problems()
            .iter()
            .for_each(|problem| drop(error.place(problem)));
    };
    let text = match ScenarioText::from_bytes("any.toml", bytes) {
        Ok(text) => text,
        Err(error) => return shown(&error),
    };
    if let Err(error) = headline(&text) {
        shown(&error);
    }
    match plan(&text, options, &catalogue()) {
        Err(error) => shown(&error),
        Ok(made) => {
            let source = ScenarioText::new("any.toml", &made.source).expect("source");
            let again = plan(
                &source,
                &Options {
                    allow_remote: true,
                    ..Options::default()
                },
                &catalogue(),
            );
            let again = again.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                Plan {
                    quick: made.quick,
                    ..again
                },
                made
            );
        }
    }
}

const KEYS: &[&str] = &[
    "question",
    "transports",
    "carriers",
    "load",
    "load.connections",
    "load.arrival",
    "load.arrival.over",
    "load.arrival.rate",
    "load.arrival.stages",
    "load.warmup",
    "load.measure",
    "load.drain",
    "load.repeats",
    "load.seed",
    "load.workers",
    "load.kernel-stamps",
    "workload",
    "workload.kind",
    "workload.rate",
    "workload.payload",
    "workload.schedule",
    "workload.schedule.bursts",
    "workload.encoding",
    "server.threads",
    "server.outbox",
    "server.when-full",
    "target.address",
    "deadlines.open",
    "expect.lost",
    "expect.\"latency.p99\"",
    "expect",
];

const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "1_000_000_000_000_000_000",
    "99999999999999999999999999",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "true",
    "\"\"",
    "\"10k\"",
    "\"5/s\"",
    "\"1/48h\"",
    "\"999999999M/ns\"",
    "\"2s\"",
    "\"0s\"",
    "\"-2s\"",
    "\"25h\"",
    "\"1 GB\"",
    "\"64 B\"",
    "[]",
    "[1, 2]",
    "[1, 1]",
    "[[1]]",
    "[\"ws\"]",
    "[\"1/s\", \"2/s\"]",
    "[\"64 B\", \"1 KiB\"]",
    "{}",
    "{ over = \"5s\" }",
    "{ rate = \"1/h\" }",
    "{ bursts = 5 }",
    "{ a.b.c = 1 }",
    "[{ connections = 100, over = \"1s\" }]",
    "\"at-once\"",
    "\"echo\"",
    "\"connect\"",
    "\"rooms\"",
    "\"poisson\"",
    "\"binary\"",
    "\"< 50ms\"",
    "\"<\"",
    "\"\\u001b[31m\"",
    "1979-05-27",
    "07:32:00",
    "0x7f",
    "\"example.org:80\"",
    "'''\n'''",
    "\"\u{202e}\u{9b}\"",
];

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(KEYS).prop_map(str::to_owned), 1 => ".{0,12}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(VALUES).prop_map(str::to_owned), 1 => ".{0,20}"]
}

fn options() -> impl Strategy<Value = Options> {
    let transports = prop::sample::select(&["ws", "sse", "null", "quic", ""][..]).prop_map(str::to_owned);
    (
        prop::collection::vec((key(), value()), 0..4),
        prop::collection::vec(transports, 0..3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(overrides, transports, quick, allow_remote)| Options {
            overrides,
            transports,
            quick,
            allow_remote,
            ..Options::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), options in options()) {
        check(&bytes, &options);
    }

    #[test]
    fn arbitrary_text(text in "\\PC{0,200}", options in options()) {
        check(text.as_bytes(), &options);
    }

    #[test]
    fn a_scenario_with_other_lines(
        lines in prop::collection::vec((key(), value()), 1..6),
        options in options(),
    ) {
        let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        check(lines.as_bytes(), &options);
        check(format!("{lines}{PUSH}").as_bytes(), &options);
    }

    #[test]
    fn a_scenario_with_options(options in options()) {
        check(PUSH.as_bytes(), &options);
    }

    #[test]
    fn a_scenario_cut_and_spliced(at in 0..PUSH.len(), length in 0_usize..20, splice in ".{0,10}") {
        let end = (at + length).min(PUSH.len());
        let bytes = [&PUSH.as_bytes()[..at], splice.as_bytes(), &PUSH.as_bytes()[end..]].concat();
        check(&bytes, &Options::default());
    }
}
