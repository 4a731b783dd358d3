//! A self-test for people: how often the gate was wrong, from the gates of its log.

use std::fmt::Write;

use pushmark_measure::gate::evidence::words;
use pushmark_measure::gate::exact::median;
use pushmark_measure::gate::validity::Machine;
use pushmark_measure::gate::{Kind, Share, Standing};
use pushmark_results::gate::GateVerdict;
use pushmark_results::self_test::{SelfTest, SelfTestKind, SelfTestLine, SelfTestReading};

/// The metric that extra work must show in.
const CPU: &str = "server_cpu_us_per_delivery";

/// Both rates with their exact intervals, what was seen in each metric, and what the machine allowed.
pub fn self_test(log: &SelfTest) -> String {
    let lines = &log.gates;
    let of = |kind| -> Vec<&SelfTestLine> { lines.iter().filter(|l| l.kind == kind).collect() };
    let (alike, slower) = (of(SelfTestKind::Alike), of(SelfTestKind::Slower));
    let mut percents: Vec<f64> = slower.iter().filter_map(|l| l.injected_percent).collect();
    percents.dedup();
    let percent = match percents[..] {
        [] => "more".to_owned(),
        [one] => format!("{one} % more"),
        _ => "more, unlike from gate to gate:".to_owned(),
    };
    let mut out = String::new();
    if let Some(count) = log.broken_off_after {
        // What ends a self-test early may be what it said so far.
        let _ = writeln!(
            out,
            "broken off after {}: its rates are no estimate\n",
            gates(count)
        );
    }
    let _ = writeln!(out, "nothing differs ({})", gates(alike.len()));
    row(&mut out, "false alarms", &share(&alike, alarm));
    rest(&mut out, &alike);
    let _ = writeln!(
        out,
        "\n{percent} processor time a message ({})",
        gates(slower.len())
    );
    row(
        &mut out,
        "found, in CPU per delivery",
        &share(&slower, |l| worse_in(l, |m| m == CPU)),
    );
    row(&mut out, "found, in anything", &share(&slower, alarm));
    row(
        &mut out,
        "found, in a latency",
        &share(&slower, |l| worse_in(l, |m| m.starts_with("latency"))),
    );
    rest(&mut out, &slower);
    out.push('\n');
    metrics(&mut out, &alike, &slower);
    out.push('\n');
    machine(&mut out, lines);
    out
}

fn gates(count: usize) -> String {
    format!("{count} gate{}", if count == 1 { "" } else { "s" })
}

fn alarm(line: &SelfTestLine) -> bool {
    matches!(line.verdict, GateVerdict::Regression | GateVerdict::Failure)
}

fn worse_in(line: &SelfTestLine, metric: impl Fn(&str) -> bool) -> bool {
    line.readings.iter().any(|r| metric(&r.metric) && line.decides(r))
}

fn share(lines: &[&SelfTestLine], hit: impl Fn(&SelfTestLine) -> bool) -> String {
    let share = Share {
        hits: lines.iter().filter(|l| hit(l)).count() as u64,
        of: lines.len() as u64,
    };
    if share.of == 0 {
        return "none was run".to_owned();
    }
    let (low, high) = share.bounds(0.025);
    format!(
        "{} of {} = {:.1} % (95 %: {:.1} to {:.1} %)",
        share.hits,
        share.of,
        100.0 * share.value(),
        100.0 * low,
        100.0 * high
    )
}

fn row(out: &mut String, what: &str, words: &str) {
    let _ = writeln!(out, "  {what:<34} {words}");
}

fn rest(out: &mut String, lines: &[&SelfTestLine]) {
    let count = |wanted: &[GateVerdict]| lines.iter().filter(|l| wanted.contains(&l.verdict)).count();
    let words = format!(
        "{} pass, {} inconclusive, {} invalid",
        count(&[GateVerdict::Pass, GateVerdict::Improvement]),
        count(&[GateVerdict::Inconclusive]),
        count(&[GateVerdict::Invalid]),
    );
    row(out, "the others", &words);
}

/// What each metric said, in either kind, and where it was tested at all.
fn metrics(out: &mut String, alike: &[&SelfTestLine], slower: &[&SelfTestLine]) {
    let mut names: Vec<&str> = Vec::new();
    for r in alike.iter().chain(slower).flat_map(|l| &l.readings) {
        if !names.contains(&r.metric.as_str()) {
            names.push(&r.metric);
        }
    }
    let _ = writeln!(
        out,
        "  {:<22} {:>15}  {:>15}  {:>11}  {:>22}",
        "worse, by metric", "nothing differs", "more work", "estimate", "could be found (median)"
    );
    for name in names {
        let of = |lines: &[&SelfTestLine]| {
            let tested = |l: &&&SelfTestLine| l.readings.iter().any(|r| r.metric == name && r.p.is_some());
            let tested: Vec<_> = lines.iter().filter(tested).collect();
            // What decides nothing is told as what it found.
            let worse = |l: &SelfTestLine| {
                let found = |r: &SelfTestReading| r.metric == name && r.standing == Standing::Regression;
                l.readings.iter().any(found)
            };
            match tested.len() {
                0 => "not tested".to_owned(),
                n => format!("{} of {n}", tested.iter().filter(|l| worse(l)).count()),
            }
        };
        let middle = |lines: &[&SelfTestLine], value: fn(&SelfTestReading) -> Option<f64>| {
            let all = lines.iter().flat_map(|l| &l.readings);
            let all: Vec<f64> = all.filter(|r| r.metric == name).filter_map(value).collect();
            median(&all)
        };
        let everybody: Vec<&SelfTestLine> = alike.iter().chain(slower).copied().collect();
        let mut all = everybody.iter().flat_map(|l| &l.readings);
        let kind = all.find_map(|r| r.kind.filter(|_| r.metric == name));
        // Before kinds were written, the only share in a log was this one.
        let kind = kind.unwrap_or(if name == "loss" {
            Kind::Fraction
        } else {
            Kind::Cost
        });
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| kind.words(kind.limit(v)));
        let _ = writeln!(
            out,
            "  {:<22} {:>15}  {:>15}  {:>11}  {:>22}",
            words(name),
            of(alike),
            of(slower),
            shown(middle(slower, |r| r.change)),
            shown(middle(&everybody, |r| r.detectable).filter(|d| *d > 1e-6)),
        );
    }
}

/// Under what conditions.
fn machine(out: &mut String, lines: &[SelfTestLine]) {
    let count = |machine| lines.iter().filter(|l| l.machine == Some(machine)).count();
    let _ = writeln!(
        out,
        "  machine: fit in {} of {}, saturated in a scenario (its times not judged) in {}, unfit in one in {}",
        count(Machine::Fit),
        gates(lines.len()),
        count(Machine::Saturated),
        count(Machine::Unfit),
    );
    let took: Vec<f64> = lines.iter().map(|l| l.took_s).collect();
    let loads = lines.iter().map(|l| l.load_average);
    let (low, high) = loads.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), load| {
        (low.min(load), high.max(load))
    });
    if let Some(took) = median(&took) {
        let _ = writeln!(
            out,
            "  {took:.0} s a gate (median); load average {low:.1} to {high:.1} at their ends"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, verdict: &str, standing: &str, machine: &str) -> SelfTestLine {
        let percent = if kind == "slower" { "10.0" } else { "null" };
        let p = if standing == "not-tested" { "null" } else { "0.001" };
        serde_json::from_str(&format!(
            r#"{{"kind":"{kind}","injected_percent":{percent},"injected_us":null,"ended_unix_s":1,"took_s":66.0,
                "load_average":1.5,"seed":7,"verdict":"{verdict}","machine":"{machine}","failures":[],"readings":[
                {{"scenario":"s","metric":"{CPU}","standing":"{standing}","blocks":10,"p":{p},"change":0.1,"upper":0.12,
                "detectable":0.08}}]}}"#
        ))
        .unwrap()
    }

    fn log(gates: &[SelfTestLine]) -> SelfTest {
        SelfTest {
            broken_off_after: None,
            gates: gates.to_vec(),
        }
    }

    #[test]
    fn rates_intervals_and_the_machine_are_told() {
        let lines = [
            line("alike", "pass", "pass", "fit"),
            line("alike", "inconclusive", "not-tested", "saturated"),
            line("slower", "regression", "regression", "fit"),
            line("slower", "regression", "regression", "fit"),
            line("slower", "inconclusive", "unproven", "fit"),
        ];
        let text = self_test(&log(&lines));
        for part in [
            "nothing differs (2 gates)",
            "0 of 2 = 0.0 % (95 %: 0.0 to 84.2 %)",
            "10 % more processor time a message (3 gates)",
            "found, in CPU per delivery         2 of 3 = 66.7 % (95 %: 9.4 to 99.2 %)",
            "found, in a latency                0 of 3",
            "1 pass, 1 inconclusive, 0 invalid",
            "CPU per delivery                0 of 1           2 of 3      +10.0 %",
            "fit in 4 of 5 gates, saturated in a scenario (its times not judged) in 1",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn nothing_is_said_of_gates_that_were_not_run() {
        let text = self_test(&log(&[line("alike", "pass", "pass", "fit")]));
        assert!(text.contains("none was run"), "{text}");
        assert!(!text.contains("broken off"), "{text}");
    }

    #[test]
    fn a_log_that_was_broken_off_says_so_first() {
        let gates = vec![line("alike", "pass", "pass", "fit")];
        let text = self_test(&SelfTest {
            broken_off_after: Some(1),
            gates,
        });
        assert!(text.starts_with("broken off after 1 gate:"), "{text}");
    }

    #[test]
    fn every_share_is_told_in_percentage_points() {
        let text_of = |metric: &str, kind: Option<Kind>| {
            let mut line = line("slower", "pass", "pass", "fit");
            let r = &mut line.readings[0];
            (r.metric, r.kind) = (metric.to_owned(), kind);
            (r.change, r.detectable) = (Some(0.005), Some(0.008));
            self_test(&log(&[line]))
        };
        for name in ["loss", "undetected", "server_undetected", "not_recovered"] {
            let text = text_of(name, Some(Kind::Fraction));
            assert!(text.contains("+0.50 pp") && text.contains("+0.80 pp"), "{text}");
        }
        // As old logs have it.
        assert!(text_of("loss", None).contains("+0.50 pp"));
        let text = text_of(CPU, None);
        assert!(text.contains("+0.5 %") && text.contains("+0.8 %"), "{text}");
    }
}
