//! `pushmark doctor`: the limits of this machine, what is done about each, and whether a scenario fits.

mod support;

use support::{Folder, Running, ended, pushmark, scenario, with_open_files};

fn doctor(arguments: &[&str]) -> std::process::Command {
    let mut command = pushmark();
    command.arg("doctor").args(arguments);
    command
}

#[test]
fn it_names_every_limit_and_what_is_done_about_it() {
    let said = Running::start(doctor(&["--quick"])).wait().with_code(0).stdout;
    for limit in [
        "open files",
        "ports",
        "backlog",
        "memory",
        "processors",
        "clock",
        "receive stamps",
        "neighbours",
        "harness",
    ] {
        assert!(said.contains(limit), "{limit} is missing in:\n{said}");
    }
    // The limits themselves, and the remedies.
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first = range.split_whitespace().next().unwrap();
    for word in [
        first,
        "TIME_WAIT",
        "ulimit -Hn",
        "ip_local_port_range",
        "127.0.0.0/8",
        "somaxconn",
        "ns a read",
    ] {
        assert!(said.contains(word), "{word} is missing in:\n{said}");
    }
    assert!(!said.contains('\x1b'), "color was not asked for:\n{said}");
    let colored = ended(doctor(&["--no-calibration", "--color", "always"]))
        .with_code(0)
        .stdout;
    assert!(colored.contains("\x1b["));
}

#[test]
fn the_limit_in_force_is_the_one_that_is_told() {
    let limited = with_open_files(700, &doctor(&["--no-calibration", "--json"]));
    let said: serde_json::Value = serde_json::from_str(&ended(limited).with_code(0).stdout).unwrap();
    assert_eq!(said["limits"]["open_files"], 700);
    let files = said["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["key"] == "open files")
        .unwrap();
    assert_eq!(files["good"], false);
    assert!(
        files["value"].as_str().unwrap().contains("700 a process"),
        "{files}"
    );
    assert!(
        files["pushmark"].as_str().unwrap().contains("several processes"),
        "{files}"
    );
    assert!(said["calibration"].is_null());
}

#[test]
fn a_scenario_is_held_against_the_machine() {
    let folder = Folder::new();
    let load = "connections = 2000\nwarmup = \"1s\"\nmeasure = \"1s\"";
    let transports: Vec<_> = support::over_network().map(|row| row.name).collect();
    let text = scenario(
        &transports,
        load,
        "[workload]\nkind = \"push\"\nrate = \"1/s\"\npayload = \"100 B\"",
    );
    let file = folder.write("fits.toml", &text);
    let path = file.to_str().unwrap();
    let said = ended(doctor(&[path, "--no-calibration"])).with_code(0).stdout;
    assert!(said.contains("this machine can carry it"), "{said}");
    assert!(said.contains("2,000 connections"), "{said}");

    // Room for no load at all.
    let limited = with_open_files(60, &doctor(&[path, "--no-calibration"]));
    let said = ended(limited).with_code(2).stdout;
    assert!(said.contains("this machine cannot carry it"), "{said}");
    assert!(said.contains("ulimit"), "{said}");
    let limited = with_open_files(60, &doctor(&[path, "--no-calibration", "--json"]));
    let said: serde_json::Value = serde_json::from_str(&ended(limited).with_code(2).stdout).unwrap();
    assert_eq!(said["scenario"]["can_run"], false);
    assert!(!said["scenario"]["obstacles"].as_array().unwrap().is_empty());

    // A scenario that is none is a mistake of its own.
    let broken = folder.write("broken.toml", "nonsense = 1\n");
    ended(doctor(&[broken.to_str().unwrap(), "--no-calibration"])).with_code(2);
}
