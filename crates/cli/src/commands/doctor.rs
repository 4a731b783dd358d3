//! `pushmark doctor`: what this machine can carry, what pushmark does about each limit, and what would raise it.

use std::fmt::Write;
use std::time::Duration;

use pushmark_loadgen::calibrate;
use pushmark_loadgen::embedded::default_threads;
use pushmark_loadgen::machine::{self, Now};
use pushmark_loadgen::preflight::{self, Limits, Needs};
use pushmark_measure::Calibration;
use pushmark_results::{Host, host};
use pushmark_scenario::Plan;
use pushmark_transport::{registry, stamps};
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::commands::check::plural;
use crate::commands::{limits, plan};
use crate::exit::{End, Outcome};
use crate::terminal::Terminal;

/// Descriptors that are kept for other things than connections.
const SPARE_DESCRIPTORS: u64 = 100;
/// Pressure, steal or load from which on a measurement is disturbed.
const DISTURBED: f64 = 0.05;
/// A timer or a clock that is worse than this bends what is measured, in nanoseconds.
const LATE_TIMER_NS: u64 = 1_000_000;
const SLOW_CLOCK_NS: f64 = 1_000.0;

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Good enough for any scenario that ships.
    Good,
    /// Worth knowing before trusting a number.
    Mind,
}

/// One property of the machine.
struct Item {
    key: &'static str,
    state: State,
    value: String,
    /// What pushmark does about it.
    does: String,
    /// What would raise or mend it; empty when nothing needs to.
    raise: String,
}

impl Item {
    /// What the words of `raise` are.
    fn remedy(&self) -> &'static str {
        match self.state {
            State::Good => "to raise it",
            State::Mind => "to mend it",
        }
    }
}

pub(crate) fn run(args: &DoctorArgs, terminal: &Terminal) -> Outcome {
    let soft_before = host::gather().open_files_soft;
    pushmark_transport::process::raise_open_files();
    let host = host::gather();
    let limits = limits(&host);
    let scenario = match &args.scenario {
        Some(path) => Some(plan(path, &args.change, terminal)?),
        None => None,
    };
    let before = machine::look();
    let calibration = if args.no_calibration {
        // A share of processor time needs some time to be a share of.
        std::thread::sleep(Duration::from_millis(100));
        None
    } else {
        calibrate::run(args.change.quick)
            .inspect_err(|e| terminal.warning(&e.to_string()))
            .ok()
    };
    let now = machine::look();
    let items = items(&host, soft_before, limits, &before, &now, calibration.as_ref());
    let obstacles = scenario
        .as_ref()
        .map_or_else(Vec::new, |plan| preflight::obstacles(plan, limits));
    if args.json {
        let value = as_json(
            &items,
            &host,
            &now,
            calibration.as_ref(),
            scenario.as_ref(),
            limits,
            &obstacles,
        );
        Terminal::result(&format!("{value:#}\n"));
    } else {
        Terminal::result(&as_text(
            &items,
            scenario.as_ref(),
            limits,
            &obstacles,
            terminal.color_out,
        ));
    }
    Ok(if obstacles.is_empty() {
        End::Fine
    } else {
        End::Usage
    })
}

fn items(
    host: &Host,
    soft_before: u64,
    limits: Limits,
    before: &Now,
    now: &Now,
    calibration: Option<&Calibration>,
) -> Vec<Item> {
    let mut items = vec![
        open_files(host, soft_before),
        ports(host, limits, now),
        backlog(host),
        memory(now, host),
        processors(host, now),
        clock_source(host, calibration),
        receive_stamps(),
        neighbours(host, before, now),
    ];
    items.extend(calibration.map(harness));
    items
}

fn open_files(host: &Host, soft_before: u64) -> Item {
    let room = host.open_files_soft.saturating_sub(SPARE_DESCRIPTORS);
    let raised = if soft_before < host.open_files_soft {
        format!(
            " (soft limit raised from {} to the hard one)",
            number(soft_before)
        )
    } else {
        " (the soft limit is the hard one)".to_owned()
    };
    Item {
        key: "open files",
        state: if room < 1_000 { State::Mind } else { State::Good },
        value: format!("{} a process{raised}", number(host.open_files_soft)),
        does: format!(
            "each process holds {} connections; for more, pushmark spreads load generator and server over several processes",
            number(room)
        ),
        raise: "the hard limit: `ulimit -Hn`, LimitNOFILE= of the service, /etc/security/limits.conf".into(),
    }
}

fn ports(host: &Host, limits: Limits, now: &Now) -> Item {
    let (first, last) = host.ephemeral_ports;
    let waiting = now.time_wait_sockets.unwrap_or(0);
    Item {
        key: "ports",
        state: if waiting * 4 > limits.ports { State::Mind } else { State::Good },
        value: format!(
            "{} for connections from one address to one server ({first}–{last}); {} sockets in TIME_WAIT now",
            number(limits.ports),
            number(waiting)
        ),
        does: "for more connections over loopback, pushmark uses further source addresses of 127.0.0.0/8, each with ports of its own; \
               running out is counted as the generator's fault, never the server's"
            .into(),
        raise: "net.ipv4.ip_local_port_range, for instance `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`; TIME_WAIT ends by \
                itself in a minute"
            .into(),
    }
}

fn backlog(host: &Host) -> Item {
    Item {
        key: "backlog",
        state: if host.listen_backlog < 1_024 { State::Mind } else { State::Good },
        value: format!("{} connections may wait to be accepted on a listener", number(u64::from(host.listen_backlog))),
        does: "the reference server asks for the most there is, on a listener of each thread; load.arrival spreads connects over time"
            .into(),
        raise: "net.core.somaxconn, before the server starts".into(),
    }
}

fn memory(now: &Now, host: &Host) -> Item {
    let available = now.memory_available_bytes.unwrap_or(host.memory_bytes);
    let rows = registry::ROWS.iter().filter(|row| !row.in_process);
    let each: Vec<String> = rows
        .clone()
        .map(|row| {
            let (client, server) = row.resident_bytes;
            format!("{} {} + {} KiB", row.name, client >> 10, server >> 10)
        })
        .collect();
    let fits: Vec<String> = rows
        .map(|row| {
            let (client, server) = row.resident_bytes;
            format!(
                "{} {}",
                number(rough(available / 2 / (client + server).max(1))),
                row.name
            )
        })
        .collect();
    Item {
        key: "memory",
        state: if available < (512 << 20) {
            State::Mind
        } else {
            State::Good
        },
        value: format!(
            "{:.1} GiB free; a connection takes, at client and server: {}",
            available as f64 / f64::from(1 << 30),
            each.join(", ")
        ),
        does: format!(
            "buffers are sized to the scenario's payload and shared where they can be; half of the free memory holds about {}, \
             without the kernel's own share",
            fits.join(" or ")
        ),
        raise: "memory; smaller payloads; server.outbox".into(),
    }
}

fn processors(host: &Host, now: &Now) -> Item {
    let quota = match now.cpu_quota {
        Some(quota) => format!("; control groups allow {quota:.2}"),
        None => "; no limit by control groups".into(),
    };
    let scarce = host.cores < 2 || now.cpu_quota.is_some_and(|quota| quota < 2.0);
    let threads = default_threads();
    Item {
        key: "processors",
        state: if scarce { State::Mind } else { State::Good },
        value: format!("{} ({}){quota}", host.cores, host.cpu_model),
        does: format!(
            "load generator and server get {} each, so that neither takes the other's; load.workers and server.threads change it",
            plural(threads as usize, "thread")
        ),
        raise: if scarce {
            "at least two processors: with fewer, both sides wait for each other and every trial is suspect"
                .into()
        } else {
            "more processors carry more messages; a verdict says when they were too few".into()
        },
    }
}

fn clock_source(host: &Host, calibration: Option<&Calibration>) -> Item {
    let cost = calibration.map_or(String::new(), |c| format!(", {:.0} ns a read", c.clock_read_ns));
    let slow = calibration.is_some_and(|c| c.clock_read_ns > SLOW_CLOCK_NS);
    Item {
        key: "clock",
        state: if slow { State::Mind } else { State::Good },
        value: format!("{}{cost}", or_unknown(&host.clock_source)),
        does: "one read a wake-up, and one a message sent".into(),
        raise: if slow {
            "a clock that is read without a system call: clocksource=tsc where the machine's is stable".into()
        } else {
            String::new()
        },
    }
}

fn receive_stamps() -> Item {
    let available = stamps::available();
    Item {
        key: "receive stamps",
        state: if available { State::Good } else { State::Mind },
        value: if available {
            "the kernel says when it had what a read brings (SO_TIMESTAMPING)".into()
        } else {
            "the kernel does not say when it had what a read brings (SO_TIMESTAMPING)".into()
        },
        does: "with them, the time a message waits within the load generator is measured, on as many sessions as a scenario asks for".into(),
        raise: if available { String::new() } else { "a Linux kernel with software receive stamps".into() },
    }
}

fn neighbours(host: &Host, before: &Now, now: &Now) -> Item {
    let steal = now.steal_since(before);
    let share = |share: Option<f64>| share.map_or("unknown".to_owned(), |s| format!("{:.1} %", s * 100.0));
    let disturbed = |share: Option<f64>| share.is_some_and(|s| s > DISTURBED);
    let busy = disturbed(now.pressure_share)
        || disturbed(steal)
        || host.load_average.0 > f64::from(host.cores) * 0.5;
    Item {
        key: "neighbours",
        state: if busy { State::Mind } else { State::Good },
        value: format!(
            "pressure {} (last 10 s), steal {} (now), load average {:.2}",
            share(now.pressure_share),
            share(steal),
            host.load_average.0
        ),
        does: "each trial watches them, and who waited for whom; its verdict says when they bent the numbers"
            .into(),
        raise: if busy {
            "end what else runs here; on a virtual machine, ask for processors of its own".into()
        } else {
            String::new()
        },
    }
}

fn harness(c: &Calibration) -> Item {
    let late = c.timer_late_ns_p99 > LATE_TIMER_NS;
    Item {
        key: "harness",
        state: if late { State::Mind } else { State::Good },
        value: format!(
            "{:.0} ns of processor time a delivery; latency {} (p50), {} (p99) without a network; timer late by {} (p50), {} (p99)",
            c.engine_ns_per_delivery,
            us(c.engine_latency_ns_p50),
            us(c.engine_latency_ns_p99),
            us(c.timer_late_ns_p50),
            us(c.timer_late_ns_p99)
        ),
        does: format!(
            "measured before each run and kept in its manifest: no latency below it can be told (took {:.1} s)",
            c.took_ns as f64 / 1e9
        ),
        raise: if late {
            "a machine with nothing else to do".into()
        } else {
            String::new()
        },
    }
}

fn as_text(items: &[Item], plan: Option<&Plan>, limits: Limits, obstacles: &[String], color: bool) -> String {
    let paint = |code: &str, text: &str| {
        if color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let width = items.iter().map(|item| item.key.len()).max().unwrap_or(0);
    let indent = " ".repeat(width + 4);
    let mut text = String::new();
    for item in items {
        let mark = if item.state == State::Good {
            paint("32", "·")
        } else {
            paint("1;33", "!")
        };
        let name = paint("1", &format!("{:width$}", item.key));
        let value = item.value.escape_debug().to_string();
        let _ = writeln!(text, "{mark} {name}  {}", wrapped(&value, &indent));
        let _ = writeln!(text, "{indent}{}", wrapped(&format!("→ {}", item.does), &indent));
        if !item.raise.is_empty() {
            let _ = writeln!(
                text,
                "{indent}{}",
                wrapped(&format!("{}: {}", item.remedy(), item.raise), &indent)
            );
        }
    }
    if let Some(plan) = plan {
        let _ = writeln!(
            text,
            "\n{}: {}",
            pushmark_report::visible(&plan.name),
            pushmark_report::visible(&plan.question)
        );
        for (index, cell) in plan.cells.iter().enumerate() {
            let _ = writeln!(text, "  {:<24} {}", cell.id, words(needs_of(plan, index, limits)));
        }
        for obstacle in obstacles {
            let _ = writeln!(text, "  {} {obstacle}", paint("1;31", "✗"));
        }
        let verdict = if obstacles.is_empty() {
            paint("32", "this machine can carry it")
        } else {
            paint("1;31", "this machine cannot carry it")
        };
        let _ = writeln!(text, "  {verdict}");
    }
    text
}

/// Text of lines that are no longer than a page is wide, each but the first after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    const WIDTH: usize = 104;
    let room = WIDTH.saturating_sub(indent.len());
    let (mut out, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.push_str(indent);
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// What a cell needs, with the memory of its connections on both sides.
fn needs_of(plan: &Plan, index: usize, limits: Limits) -> (Needs, u64) {
    let needs = preflight::needs(plan, index, limits);
    let each = plan
        .cells
        .get(index)
        .and_then(|cell| registry::row(&cell.variant.transport))
        .map_or(0, |row| row.resident_bytes.0 + row.resident_bytes.1);
    (needs, needs.connections * each)
}

fn words((needs, memory): (Needs, u64)) -> String {
    let mut words = format!("{} connections", number(needs.connections));
    if needs.connections == 0 {
        return words;
    }
    let ending = if needs.processes == 1 { "" } else { "es" };
    let _ = write!(words, " in {} generator process{ending}", needs.processes);
    if needs.server_processes > 1 {
        let _ = write!(words, ", {} server processes", needs.server_processes);
    }
    if needs.sources > 1 {
        let _ = write!(words, ", from {} addresses", needs.sources);
    }
    let _ = write!(
        words,
        ", about {:.1} MiB of memory",
        memory as f64 / f64::from(1 << 20)
    );
    words
}

fn as_json(
    items: &[Item],
    host: &Host,
    now: &Now,
    calibration: Option<&Calibration>,
    plan: Option<&Plan>,
    limits: Limits,
    obstacles: &[String],
) -> Value {
    let items: Vec<_> = items
        .iter()
        .map(|item| {
            json!({
                "key": item.key,
                "good": item.state == State::Good,
                "value": item.value,
                "pushmark": item.does,
                "to_raise": item.raise,
            })
        })
        .collect();
    let scenario = plan.map(|plan| {
        let cells: Vec<_> = (0..plan.cells.len())
            .map(|index| {
                let (needs, memory) = needs_of(plan, index, limits);
                json!({
                    "cell": plan.cells[index].id,
                    "connections": needs.connections,
                    "generator_processes": needs.processes,
                    "server_processes": needs.server_processes,
                    "source_addresses": needs.sources,
                    "memory_bytes": memory,
                })
            })
            .collect();
        json!({ "name": plan.name, "cells": cells, "obstacles": obstacles, "can_run": obstacles.is_empty() })
    });
    json!({
        "items": items,
        "host": host,
        "now": {
            "memory_available_bytes": now.memory_available_bytes,
            "time_wait_sockets": now.time_wait_sockets,
            "cpu_quota": now.cpu_quota,
            "pressure_share": now.pressure_share,
        },
        "limits": { "open_files": limits.open_files, "ports": limits.ports },
        "calibration": calibration,
        "scenario": scenario,
    })
}

/// Digits in threes.
fn number(n: u64) -> String {
    if n == u64::MAX {
        return "unlimited".into();
    }
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two digits and zeros.
fn rough(n: u64) -> u64 {
    let scale = 10u64.pow(n.max(1).ilog10().saturating_sub(1));
    n / scale * scale
}

fn us(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1e3)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
