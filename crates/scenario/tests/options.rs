//! The command line's options: what they change, where their own mistakes are shown, and that the effective source
//! gives the same plan again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod common;

use std::time::Duration;

use common::{PUSH, only, plan_of, plan_with, set, wide_catalogue};
use pushmark_scenario::{Arrival, Axis, Options, Plan, ScenarioText, TargetTls, TlsVersion, Workload, plan};

fn good(text: &str, options: &Options) -> Plan {
    plan_with(text, options).unwrap_or_else(|error| panic!("{error}"))
}

/// The plan of the effective source has to be the plan itself.
fn assert_round_trip(plan: &Plan) {
    let again = plan_of(&plan.source).unwrap_or_else(|error| panic!("{error}\n{}", plan.source));
    assert_eq!(
        Plan {
            quick: plan.quick,
            ..again
        },
        *plan,
        "{}",
        plan.source
    );
}

#[test]
fn any_key_can_be_set() {
    for (key, value) in [
        ("question", "Why?"),
        ("transports", "[\"long-poll\"]"),
        ("load.connections", "5000"),
        ("load.connections", "[1, 2, 3]"),
        ("load.connections", "10k"),
        ("load.arrival", "at-once"),
        ("load.arrival", "{ over = \"3s\" }"),
        ("load.arrival.rate", "50/s"),
        ("load.measure", "3s"),
        ("load.measure", "\"3s\""),
        ("load.seed", "99"),
        ("load", "{ connections = 7, repeats = 2 }"),
        ("workload.rate", "5/s"),
        ("workload.schedule.bursts", "4"),
        ("workload.kind", "echo"),
        ("server.when-full", "disconnect"),
        ("server.outbox", "1k"),
        ("deadlines.open", "1s"),
        ("target.address", "127.0.0.1:9000"),
        ("expect.lost", "0"),
        ("expect.\"latency.p99\"", "< 50ms"),
        (" load . connections ", " 5000 "),
    ] {
        let plan = good(PUSH, &set(&[(key, value)]));
        assert_ne!(plan.source, PUSH, "{key}={value}");
        let unchanged = plan_of(PUSH).expect("plan");
        let same = (&plan.cells, &plan.question, plan.seed, &plan.expect)
            == (
                &unchanged.cells,
                &unchanged.question,
                unchanged.seed,
                &unchanged.expect,
            );
        assert!(!same, "{key}={value} changed nothing");
        assert_round_trip(&plan);
    }
}

#[test]
fn the_last_setting_wins_and_settings_add_up() {
    let options = set(&[
        ("load.connections", "1"),
        ("load.connections", "2"),
        ("load.seed", "3"),
    ]);
    let plan = good(PUSH, &options);
    assert_eq!((plan.cells[0].load.connections, plan.seed), (2, 3));
    assert_round_trip(&plan);
}

#[test]
fn the_effective_source_keeps_the_authors_order() {
    let text = format!("{PUSH}\n[expect]\n\"latency.p99\" = \"< 50ms\"\n\"lost\" = 0\n");
    let plan = good(&text, &set(&[("load.repeats", "2"), ("load.connections", "5")]));
    insta::assert_snapshot!(plan.source);
}

#[test]
fn a_mistake_in_an_option_is_shown_in_the_option() {
    for (name, pairs) in [
        ("key_misspelt", &[("load.conections", "5")][..]),
        ("section_misspelt", &[("laod.connections", "5")]),
        ("value_out_of_range", &[("load.connections", "0")]),
        ("value_without_unit", &[("load.measure", "5")]),
        ("value_of_a_planned_kind", &[("workload.kind", "rooms")]),
        ("value_is_broken_toml", &[("transports", "[\"ws\", sse]")]),
        ("value_empty", &[("load.measure", "")]),
        ("value_holds_escapes", &[("workload.kind", "\u{1b}[31mpush")]),
        ("key_empty", &[("", "5")]),
        ("key_with_hole", &[("load..connections", "5")]),
        ("key_of_two_lines", &[("load.seed = 1\nload.repeats", "5")]),
        ("key_below_a_value", &[("question.text", "5")]),
        (
            "several",
            &[
                ("load.conections", "5"),
                ("load.seed", "-1"),
                ("workload.rates", "1/s"),
            ],
        ),
        (
            "sweep_twice",
            &[
                ("load.connections", "[1, 2]"),
                ("workload.payload", "[\"64 B\", \"1 KiB\"]"),
            ],
        ),
    ] {
        let error = plan_with(PUSH, &set(pairs)).expect_err(name);
        for problem in error.problems() {
            assert_eq!(
                error.place(problem).expect("place").file,
                "command line",
                "{name}"
            );
        }
        insta::assert_snapshot!(name, error);
    }
}

#[test]
fn a_mistake_in_the_file_is_still_shown_in_the_file() {
    let text = PUSH.replace("10/s", "10");
    let error = plan_with(&text, &set(&[("load.connections", "5")])).expect_err("rate");
    let place = error.place(&error.problems()[0]).expect("place");
    assert_eq!(
        (place.file.as_str(), place.line, place.column),
        ("test.toml", 9, 8)
    );

    // A value that is replaced is not looked at any more.
    assert!(plan_with(&text, &set(&[("workload.rate", "5/s")])).is_ok());
}

#[test]
fn a_problem_between_option_and_file_shows_both() {
    let text = PUSH.replace("= 100", "= [100, 200]");
    let error =
        plan_with(&text, &set(&[("workload.payload", "[\"64 B\", \"1 KiB\"]")])).expect_err("two sweeps");
    insta::assert_snapshot!(error);
}

#[test]
fn transports_are_picked() {
    for (picked, ids) in [
        (&["sse"][..], &["sse-h1"][..]),
        (&["long-poll"], &["long-poll-h1"]),
        (&["null"], &["null-in-process"]),
        (&["sse", "ws"], &["sse-h1", "ws-h1"]),
        (&[], &["ws-h1", "sse-h1"]),
    ] {
        let plan = good(PUSH, &only(picked));
        assert_eq!(
            plan.cells.iter().map(|cell| cell.id.as_str()).collect::<Vec<_>>(),
            ids
        );
        assert_round_trip(&plan);
    }
}

#[test]
fn picking_an_unknown_transport_lists_the_known() {
    for (name, picked) in [
        ("pick_unknown", &["quic"][..]),
        ("pick_misspelt", &["ws", "longpoll"]),
        ("pick_twice", &["ws", "ws"]),
    ] {
        insta::assert_snapshot!(name, plan_with(PUSH, &only(picked)).expect_err(name));
    }
}

#[test]
fn carriers_follow_the_picked_transports() {
    let with = |carriers: &str, picked: &[&str]| {
        let text = PUSH.replace("\n[load]", &format!("carriers = {carriers}\n\n[load]"));
        let text = ScenarioText::new("t.toml", &text).expect("text");
        plan(&text, &only(picked), &wide_catalogue())
    };
    let ids = |carriers: &str, picked: &[&str]| -> Vec<String> {
        let plan = with(carriers, picked).unwrap_or_else(|error| panic!("{error}"));
        let again = ScenarioText::new("t.toml", &plan.source).expect("text");
        let again = pushmark_scenario::plan(&again, &Options::default(), &wide_catalogue()).expect("again");
        assert_eq!(again.cells, plan.cells);
        plan.cells.into_iter().map(|cell| cell.id).collect()
    };
    assert_eq!(ids(r#"["h1", "h2+tls"]"#, &["ws"]), ["ws-h1"]);
    assert_eq!(ids(r#"["h1", "h2+tls"]"#, &["sse"]), ["sse-h1", "sse-h2+tls"]);
    assert_eq!(ids(r#"["h1", "h2+tls"]"#, &["null"]), ["null-in-process"]);
    // A carrier that does not exist at all is a mistake in the file, whoever is picked.
    assert!(with(r#"["h1", "h9"]"#, &["ws"]).is_err());
    assert!(with(r#"["h1"]"#, &["ws", "null"]).is_err());
}

#[test]
fn quick_shrinks_time_and_nothing_else() {
    let long = PUSH.replace(
        "[load]",
        "[load]\narrival = { rate = \"10/s\" }\nmeasure = \"2m\"\nseed = 5",
    );
    let options = Options {
        quick: true,
        ..Options::default()
    };
    let plan = good(&long, &options);
    assert!(plan.quick);
    assert_eq!((plan.repeats, plan.seed, plan.cells.len()), (1, 5, 2));
    let load = &plan.cells[0].load;
    assert_eq!(load.connections, 100);
    assert_eq!(load.arrival, Arrival::Over(Duration::from_secs(1)));
    let times_ms = [load.warmup, load.measure, load.drain].map(|time| time.as_millis());
    assert_eq!(times_ms, [500, 2000, 2000]);
    assert_round_trip(&plan);
    // What is quick already stays as it is.
    let again = good(&plan.source, &options);
    assert_eq!((again.cells, again.source), (plan.cells, plan.source));
}

#[test]
fn quick_leaves_short_times_alone() {
    let short = PUSH.replace(
        "[load]",
        "[load]\narrival = \"at-once\"\nwarmup = \"0s\"\nmeasure = \"1s\"\ndrain = \"100ms\"\nrepeats = 1",
    );
    let plan = good(
        &short,
        &Options {
            quick: true,
            ..Options::default()
        },
    );
    assert_eq!((plan.quick, plan.source.as_str()), (true, short.as_str()));
}

#[test]
fn quick_saves_a_plan_that_is_too_long() {
    let text = PUSH.replace("[load]", "[load]\nmeasure = \"24h\"\nrepeats = 1000");
    assert!(plan_of(&text).is_err());
    assert!(
        plan_with(
            &text,
            &Options {
                quick: true,
                ..Options::default()
            }
        )
        .is_ok()
    );
}

#[test]
fn quick_knows_every_workload_and_sweep() {
    let connect = PUSH
        .replace("\"push\"", "\"connect\"")
        .replace("payload = \"200 B\"\n", "");
    let sweep = PUSH
        .replace("= 100", "= [10, 5000]")
        .replace("[load]", "[load]\narrival = { rate = \"1k/s\" }");
    for text in [connect, sweep] {
        let plan = good(
            &text,
            &Options {
                quick: true,
                ..Options::default()
            },
        );
        for cell in &plan.cells {
            assert!(
                cell.load.least_duration() <= Duration::from_millis(3500),
                "{}",
                cell.id
            );
        }
        assert_round_trip(&plan);
    }
}

#[test]
fn all_options_together() {
    let options = Options {
        overrides: set(&[("load.connections", "[10, 20]"), ("workload.kind", "echo")]).overrides,
        transports: vec!["long-poll".to_owned(), "null".to_owned()],
        quick: true,
        allow_remote: true,
        ..Options::default()
    };
    let plan = good(PUSH, &options);
    assert_eq!((plan.axis, plan.cells.len()), (Some(Axis::Connections), 4));
    assert!(
        plan.cells
            .iter()
            .all(|cell| matches!(cell.workload, Workload::Echo(_)))
    );
    assert_round_trip(&plan);
}

#[test]
fn carriers_are_picked_as_transports_are() {
    let options = Options {
        carriers: vec!["h2+tls".to_owned(), "h1".to_owned()],
        ..only(&["sse"])
    };
    let plan = good(
        &PUSH.replace("\n[load]", "carriers = [\"h1+tls\"]\n\n[load]"),
        &options,
    );
    let ids: Vec<&str> = plan.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(ids, ["sse-h2+tls", "sse-h1"]);
    assert_round_trip(&plan);
}

#[test]
fn tls_options_stand_instead_of_the_targets_own() {
    let target = |rest: &str| format!("{PUSH}\n[target]\naddress = \"127.0.0.1:9000\"\n{rest}");
    let file = "\n[target.tls]\ncacert = \"mine.pem\"\nsni = \"push.example\"\n";
    let option = |cacert: Option<&str>, insecure| Options {
        target_tls: TargetTls {
            cacert: cacert.map(str::to_owned),
            insecure,
            ..TargetTls::default()
        },
        ..Options::default()
    };
    for (rest, options, cacert, insecure) in [
        (file, Options::default(), Some("mine.pem"), false),
        (
            file,
            option(Some("other's \"own\".pem"), false),
            Some("other's \"own\".pem"),
            false,
        ),
        ("", option(Some("other.pem"), false), Some("other.pem"), false),
        // Who verifies nothing needs nobody to trust, and the other way round.
        (file, option(None, true), None, true),
        (
            "\n[target.tls]\ninsecure = true\n",
            option(Some("other.pem"), false),
            Some("other.pem"),
            false,
        ),
    ] {
        let plan = good(&target(rest), &options);
        let tls = &plan.cells[0].target_tls;
        assert_eq!(
            (tls.cacert.as_deref(), tls.insecure),
            (cacert, insecure),
            "{rest}"
        );
        assert_eq!(tls.sni.as_deref(), (rest == file).then_some("push.example"));
        assert_round_trip(&plan);
    }
    // Without a target the file stays as it is; who is given one later has them.
    let plan = good(PUSH, &option(Some("other.pem"), false));
    assert_eq!(plan.source, PUSH);
    assert_eq!(plan.cells[0].target_tls.cacert.as_deref(), Some("other.pem"));
    for (rest, part) in [
        (
            "\n[target.tls]\nclient-cert = \"c.pem\"\n",
            "`target.tls.client-key` is missing",
        ),
        (
            "\n[target.tls]\nclient-key = \"k.pem\"\n",
            "`target.tls.client-cert` is missing",
        ),
        (
            "\n[target.tls]\ncacert = \"c.pem\"\ninsecure = true\n",
            "nothing is verified",
        ),
        ("\n[target.tls]\ninsecure = \"yes\"\n", "neither true nor false"),
        ("\n[target.tls]\nsni = \"\"\n", "is empty"),
    ] {
        let error = plan_of(&target(rest)).expect_err(rest).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn versions_of_tls_and_resumption_can_be_compared() {
    let text = |lines: &str| format!("{PUSH}\n[carrier]\n{lines}\n");
    let plan = good(
        &text("tls = [\"1.2\", \"1.3\"]\nresumption = [false, true]"),
        &only(&["sse"]),
    );
    assert_eq!(plan.axis, Some(Axis::Condition));
    let cells = plan.cells.iter().map(|cell| {
        let carriage = cell.carriage;
        (cell.condition.as_str(), carriage.tls, carriage.resumption)
    });
    let (old, new) = (Some(TlsVersion::Tls1_2), Some(TlsVersion::Tls1_3));
    assert_eq!(
        cells.collect::<Vec<_>>(),
        [
            ("TLS 1.2, cold", old, false),
            ("TLS 1.2, resumed", old, true),
            ("TLS 1.3, cold", new, false),
            ("TLS 1.3, resumed", new, true),
        ]
    );
    let one = good(&text("tls = \"1.2\"\nresumption = true"), &Options::default());
    assert_eq!(
        (
            one.axis,
            one.cells[0].carriage.tls,
            one.cells[0].carriage.resumption
        ),
        (None, old, true)
    );
    assert!(!good(PUSH, &Options::default()).cells[0].carriage.resumption);
    for lines in ["tls = [\"1.2\", \"1.1\"]", "resumption = \"on\"", "tls = []"] {
        assert!(plan_of(&text(lines)).is_err(), "{lines}");
    }
}
