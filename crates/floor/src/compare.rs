//! The comparison: floor and pushmark in turn, over the same load, and the ratios with their spread.
//!
//! A machine's speed drifts while this runs, so each ratio is of two runs that follow each other at once, and the median
//! over pairs is what counts. Memory and rates need no pair.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::args::Args;

/// pushmark's exit code for a run whose verdict is `invalid`.
const NOT_VALID: i32 = 4;

/// What is wanted of a measure.
enum Goal {
    /// At most so many times the floor's.
    Times(f64),
    /// At most so much.
    AtMost(f64, &'static str),
    /// At least so much.
    AtLeast(f64, &'static str),
}

/// Programs to run.
struct Programs {
    floor: PathBuf,
    pushmark: PathBuf,
    scratch: PathBuf,
    /// Runs of pushmark, and those of them that were not valid.
    runs: Cell<u64>,
    doubted: Cell<u64>,
}

/// A load: transport, the floor's framing of it, connections, messages a second, seconds.
#[derive(Clone, Copy)]
struct Load {
    transport: &'static str,
    framing: &'static str,
    connections: u64,
    rate: u64,
    seconds: u64,
}

impl Load {
    fn words(self) -> String {
        format!("{} {} × {}/s", self.transport, self.connections, self.rate)
    }
}

/// Client CPU of a delivery, in µs, and memory of a connection on each side, in KiB.
#[derive(Clone, Copy, Default)]
struct Costs {
    client_us: f64,
    client_kib: f64,
    server_kib: f64,
}

pub(crate) fn run(args: &Args) -> io::Result<String> {
    let floor = std::env::current_exe()?;
    let pushmark = floor.with_file_name("pushmark");
    let scratch = std::env::temp_dir().join(format!("pushmark-floor-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let programs = Programs {
        floor,
        pushmark,
        scratch,
        runs: Cell::new(0),
        doubted: Cell::new(0),
    };
    let result = all(&programs, args.pairs);
    let _ = std::fs::remove_dir_all(&programs.scratch);
    result.map(|()| String::new())
}

fn all(programs: &Programs, pairs: usize) -> io::Result<()> {
    say(&format!(
        "{:<44} {:>14} {:>10} {:>22}",
        "measure (medians of interleaved pairs)", "goal", "figure", "spread"
    ))?;
    let (ws, sse) = (("ws", "websocket"), ("sse", "event-stream"));
    for connections in [100, 1_000] {
        let load = Load {
            transport: ws.0,
            framing: ws.1,
            connections,
            rate: 10_000 / connections,
            seconds: 3,
        };
        let ratios = in_turn(pairs, || {
            let floor = programs.floor_echo(load)?;
            Ok(programs.pushmark(load, "echo")?.client_us / floor)
        })?;
        row(
            &format!("client CPU, echo, {}", load.words()),
            &Goal::Times(1.35),
            &ratios,
        )?;
    }
    for (connections, rate, client_goal) in [(1_000, 10, 1.5), (1_000, 100, 1.35), (9_500, 10, 1.35)] {
        for (transport, framing) in [ws, sse] {
            let load = Load {
                transport,
                framing,
                connections,
                rate,
                seconds: 3,
            };
            let (mut client, mut server) = (Vec::new(), Vec::new());
            for _ in 0..pairs {
                // The server is pushmark's for both clients, and the client is the floor's for both servers.
                let (reader_us, served_us) = programs.floor_reader(load)?;
                let ours = programs.pushmark(load, "push")?;
                let writer_us = programs.floor_writer(load)?;
                client.push(ours.client_us / reader_us);
                server.push(served_us / writer_us);
            }
            row(
                &format!("client CPU per delivery, {}", load.words()),
                &Goal::Times(client_goal),
                &client,
            )?;
            if rate == 10 {
                row(
                    &format!("server CPU per delivery, {}", load.words()),
                    &Goal::Times(1.4),
                    &server,
                )?;
            }
        }
    }
    for (transport, goal) in [("ws", 6.0), ("sse", 8.0), ("long-poll", 10.0)] {
        let load = Load {
            transport,
            framing: "",
            connections: 5_000,
            rate: 1,
            seconds: 2,
        };
        let idle: Vec<Costs> = (0..pairs.min(3))
            .map(|_| programs.idle(load))
            .collect::<io::Result<_>>()?;
        let side = |f: fn(&Costs) -> f64| idle.iter().map(f).collect::<Vec<_>>();
        let words = format!("{transport}, 5,000 idle");
        row(
            &format!("client memory per connection, {words}"),
            &Goal::AtMost(goal, "KiB"),
            &side(|c| c.client_kib),
        )?;
        row(
            &format!("server memory per connection, {words}"),
            &Goal::AtMost(goal, "KiB"),
            &side(|c| c.server_kib),
        )?;
    }
    let load = Load {
        transport: ws.0,
        framing: ws.1,
        connections: 1_000,
        rate: 10,
        seconds: 3,
    };
    for (transport, framing) in [ws, sse] {
        let load = Load {
            transport,
            framing,
            ..load
        };
        let ratios = in_turn(pairs, || {
            let stamps = |share: &str| [("load.kernel-stamps", share.to_owned())];
            let with = programs.pushmark_with(load, "push", &stamps("all"))?;
            let without = programs.pushmark_with(load, "push", &stamps("none"))?;
            Ok(with.client_us / without.client_us)
        })?;
        row(
            &format!("kernel stamps on all, CPU, {}", load.words()),
            &Goal::Times(1.15),
            &ratios,
        )?;
    }
    let opened: Vec<f64> = (0..pairs)
        .map(|_| programs.opened_per_second())
        .collect::<io::Result<_>>()?;
    row(
        "connections opened, ws, 9,500 at once",
        &Goal::AtLeast(8_000.0, "/s"),
        &opened,
    )?;
    let delays: Vec<f64> = (0..pairs)
        .map(|_| programs.send_delay_p99_us())
        .collect::<io::Result<_>>()?;
    row(
        "send_delay p99 at 20,000 messages/s",
        &Goal::AtMost(100.0, "µs"),
        &delays,
    )?;
    for transport in [ws.0, sse.0] {
        let held = programs.held(transport)?;
        row(
            &format!("connections held, nothing lost, {transport}"),
            &Goal::AtLeast(50_000.0, ""),
            &[held],
        )?;
    }
    say(&format!(
        "{} of {} runs of pushmark were called suspect or invalid by their own verdict: ratios of pairs stand, single times may not",
        programs.doubted.get(),
        programs.runs.get()
    ))
}

fn in_turn(pairs: usize, mut pair: impl FnMut() -> io::Result<f64>) -> io::Result<Vec<f64>> {
    (0..pairs).map(|_| pair()).collect()
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")?;
    io::stdout().flush()
}

fn row(measure: &str, goal: &Goal, values: &[f64]) -> io::Result<()> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
        return Ok(());
    };
    let median = if n % 2 == 1 {
        sorted[n / 2]
    } else {
        (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0
    };
    let (wanted, unit, held) = match goal {
        Goal::Times(goal) => (format!("≤ {goal} × floor"), "×", median <= *goal),
        Goal::AtMost(goal, unit) => (format!("≤ {goal} {unit}"), *unit, median <= *goal),
        Goal::AtLeast(goal, unit) => (format!("≥ {goal} {unit}"), *unit, median >= *goal),
    };
    let mut line = String::new();
    let mark = if held { "" } else { "  missed" };
    let show = |v: f64| {
        if v < 100.0 {
            format!("{v:.2}")
        } else {
            format!("{v:.0}")
        }
    };
    let _ = write!(
        line,
        "{measure:<44} {wanted:>14} {:>10} {:>22}{mark}",
        format!("{} {unit}", show(median)),
        format!("{} … {}", show(least), show(most))
    );
    say(&line)
}

fn broken(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

fn json(line: &str) -> io::Result<Value> {
    serde_json::from_str(line).map_err(|e| broken(&format!("not understood: {line}: {e}")))
}

fn per_delivery_us(line: &str) -> io::Result<f64> {
    let value = json(line)?;
    let number = |key: &str| value[key].as_f64().unwrap_or(0.0);
    if number("deliveries") < 1.0 || number("deliveries") < number("expected") {
        return Err(broken(&format!("the floor lost messages: {line}")));
    }
    Ok(number("cpu_ns") / 1e3 / number("deliveries"))
}

impl Programs {
    fn floor(&self, verb: &str, load: Load, more: &[String]) -> Command {
        let mut command = Command::new(&self.floor);
        command
            .arg(verb)
            .arg(format!("framing={}", load.framing))
            .arg(format!("connections={}", load.connections));
        command
            .arg(format!("rate={}", load.rate))
            .arg(format!("seconds={}", load.seconds))
            .args(more);
        command.stdout(Stdio::piped());
        command
    }

    /// pushmark's server on one thread, as `run` starts it; ends when its stdin is closed.
    fn server(&self) -> io::Result<(Child, String)> {
        let mut child = Command::new(&self.pushmark)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--threads",
                "1",
                "--exit-with-stdin",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let address = first_line(&mut child)?
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok((child, address))
    }

    fn floor_echo(&self, load: Load) -> io::Result<f64> {
        let (mut server, address) = self.server()?;
        let output = self
            .floor(
                "echo",
                load,
                &[format!("address={address}"), "payload=100".into()],
            )
            .output()?;
        end(&mut server)?;
        per_delivery_us(&String::from_utf8_lossy(&output.stdout))
    }

    /// The floor's reader on pushmark's server: what a delivery costs the reader, and what it costs the server.
    fn floor_reader(&self, load: Load) -> io::Result<(f64, f64)> {
        let (mut server, address) = self.server()?;
        let more = [format!("address={address}"), "publish=yes".into()];
        let output = self.floor("reader", load, &more).output()?;
        end(&mut server)?;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = json(&line)?;
        let served = value["server_cpu_ns"]
            .as_f64()
            .ok_or_else(|| broken("the server told no CPU time"))?;
        Ok((
            per_delivery_us(&line)?,
            served / 1e3 / value["deliveries"].as_f64().unwrap_or(f64::NAN),
        ))
    }

    fn floor_writer(&self, load: Load) -> io::Result<f64> {
        let mut writer = self.floor("writer", load, &[]).spawn()?;
        let mut lines = BufReader::new(writer.stdout.take().ok_or_else(|| broken("no output"))?).lines();
        let ready = lines.next().ok_or_else(|| broken("the writer ended"))??;
        let address = ready.rsplit(' ').next().unwrap_or_default().to_owned();
        let reader = self
            .floor("reader", load, &[format!("address={address}")])
            .output()?;
        let line = lines.next().ok_or_else(|| broken("the writer told nothing"))??;
        writer.wait()?;
        per_delivery_us(&String::from_utf8_lossy(&reader.stdout))?;
        per_delivery_us(&line)
    }

    fn run(&self, load: Load, workload: &str, settings: &[(&str, String)]) -> io::Result<Value> {
        let kind = match workload {
            "echo" => "kind = \"echo\"\npayload = \"100 B\"\n",
            _ => "kind = \"push\"\npayload = \"200 B\"\n",
        };
        let text = format!(
            "question = \"What does a message cost?\"\ntransports = [\"{}\"]\n[load]\nconnections = {}\n\
             arrival = {{ over = \"1s\" }}\nwarmup = \"500ms\"\nmeasure = \"{}s\"\nrepeats = 1\n[workload]\nrate = \"{}/s\"\n{kind}",
            load.transport, load.connections, load.seconds, load.rate
        );
        self.run_text(&text, settings)
    }

    /// One run of a scenario. A verdict of `invalid` is no failure here: at 9,500 connections two cores are full by design,
    /// and CPU of a message is still what it is; how many runs were doubted is printed.
    fn run_text(&self, text: &str, settings: &[(&str, String)]) -> io::Result<Value> {
        let file = self.scratch.join("floor.toml");
        std::fs::write(&file, text)?;
        let out = self.scratch.join("run");
        let _ = std::fs::remove_dir_all(&out);
        let mut command = Command::new(&self.pushmark);
        command.arg("run").arg(&file).arg("--json").arg("--out").arg(&out);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.stderr(Stdio::piped()).output()?;
        if !matches!(output.status.code(), Some(0 | NOT_VALID)) {
            return Err(broken(&format!(
                "pushmark failed: {}",
                String::from_utf8_lossy(&output.stderr)
            )));
        }
        let value = json(&String::from_utf8_lossy(&output.stdout))?;
        self.runs.set(self.runs.get() + 1);
        if cell(&value, "grade")?["grade"] != "valid" {
            self.doubted.set(self.doubted.get() + 1);
        }
        Ok(value)
    }

    /// Sessions of one run that were open together and lost nothing, at an event every ten seconds to each; zero when
    /// anything was lost.
    fn held(&self, transport: &str) -> io::Result<f64> {
        let value = self.run_text(
            &format!(
                "question = \"Are fifty thousand held?\"\ntransports = [\"{transport}\"]\n[load]\nconnections = 50000\n\
                 arrival = {{ over = \"12s\" }}\nwarmup = \"2s\"\nmeasure = \"20s\"\ndrain = \"5s\"\nrepeats = 1\n\
                 [workload]\nrate = \"1/10s\"\nkind = \"push\"\npayload = \"200 B\"\n"
            ),
            &[],
        )?;
        let total = |key: &str| cell(&value, key).map(|cell| cell["total"].as_u64());
        let whole = total("lost")? == Some(0) && total("delivered")? > Some(0);
        let held = cell(&value, "sessions_established")?["part"].as_f64();
        Ok(held.filter(|_| whole).unwrap_or(0.0))
    }

    fn pushmark(&self, load: Load, workload: &str) -> io::Result<Costs> {
        self.pushmark_with(load, workload, &[])
    }

    fn pushmark_with(&self, load: Load, workload: &str, settings: &[(&str, String)]) -> io::Result<Costs> {
        let value = self.run(load, workload, settings)?;
        Ok(Costs {
            client_us: median_of(&value, "generator_cpu_us_per_delivery")?,
            client_kib: median_of(&value, "generator_rss_bytes_per_connection")? / 1024.0,
            server_kib: median_of(&value, "server_rss_bytes_per_connection")? / 1024.0,
        })
    }

    /// Memory with hardly a message: one every second to each.
    fn idle(&self, load: Load) -> io::Result<Costs> {
        self.pushmark(load, "push")
    }

    /// Sessions opened a second when 9,500 come at once, server beside.
    fn opened_per_second(&self) -> io::Result<f64> {
        let load = Load {
            transport: "ws",
            framing: "",
            connections: 9_500,
            rate: 1,
            seconds: 1,
        };
        self.run(load, "push", &[("load.arrival", "at-once".into())])?;
        let events = std::fs::read_to_string(self.only_trial()?.join("events.csv"))?;
        let at: Vec<f64> = events
            .lines()
            .filter(|line| line.contains("established"))
            .filter_map(|line| line.split(',').nth(1)?.parse().ok())
            .collect();
        let last = at.iter().copied().fold(0.0, f64::max);
        Ok(if last > 0.0 { at.len() as f64 / last } else { 0.0 })
    }

    fn send_delay_p99_us(&self) -> io::Result<f64> {
        let load = Load {
            transport: "null",
            framing: "",
            connections: 1_000,
            rate: 20,
            seconds: 3,
        };
        let value = self.run(load, "echo", &[])?;
        // Rows in time carry nanoseconds.
        Ok(median_of(&value, "send_delay_ns_p99")? / 1e3)
    }

    fn only_trial(&self) -> io::Result<PathBuf> {
        let mut entries = std::fs::read_dir(self.scratch.join("run/trials"))?;
        Ok(entries.next().ok_or_else(|| broken("no trial"))??.path())
    }
}

fn first_line(child: &mut Child) -> io::Result<String> {
    let stdout = child.stdout.take().ok_or_else(|| broken("no output"))?;
    BufReader::new(stdout)
        .lines()
        .next()
        .ok_or_else(|| broken("it ended at once"))?
}

fn end(server: &mut Child) -> io::Result<()> {
    drop(server.stdin.take());
    server.wait().map(drop)
}

/// The first variant's cell in a row of pushmark's comparison.
fn cell<'a>(comparison: &'a Value, key: &str) -> io::Result<&'a Value> {
    let comparison = comparison.get("comparison").unwrap_or(comparison);
    let rows = comparison["points"][0]["rows"].as_array();
    rows.and_then(|rows| rows.iter().find(|row| row["key"] == key))
        .map(|row| &row["values"][0])
        .ok_or_else(|| broken(&format!("no {key} in the comparison")))
}

/// The median of the first variant in a row of pushmark's comparison.
fn median_of(comparison: &Value, key: &str) -> io::Result<f64> {
    let median = cell(comparison, key)?["median"].as_f64();
    median.ok_or_else(|| broken(&format!("no median of {key} in the comparison")))
}
