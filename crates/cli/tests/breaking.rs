//! What breaks, through the program as a user runs it: who notices, by what; who comes back, and with what missing.
//!
//! Nothing here asserts that a busy machine was quick: a time has a lower bound that the truth sets, or none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::time::Duration;

use pushmark_loadgen::faults::kernel;
use pushmark_measure::{Detection, FaultOutcome, Recovery, TrialSummary};
use pushmark_results::{Run, run::TrialRecord};
use pushmark_transport::registry;
use pushmark_transport::seam::Native;
use rustix::process::Signal;
use support::{Folder, Running, all_gone, at_once, kill, measure, over_network, scenario};

fn names() -> Vec<&'static str> {
    over_network().map(|row| row.name).collect()
}

fn load(connections: u32, measure: &str) -> String {
    format!(
        "connections = {connections}\narrival = {{ over = \"100ms\" }}\nwarmup = \"200ms\"\nmeasure = \"{measure}\"\ndrain = \"1s\""
    )
}

fn summary(trial: &TrialRecord) -> &TrialSummary {
    trial.summary.as_ref().unwrap()
}

fn condition(run: &Run, trial: &TrialRecord) -> String {
    let cell = run.cell(trial).unwrap();
    format!("{} {}", cell.variant.transport, cell.condition)
}

fn only_fault(trial: &TrialRecord) -> &FaultOutcome {
    let [fault] = &summary(trial).faults[..] else {
        panic!("{:?}", summary(trial).faults)
    };
    fault
}

/// A run for each transport, all at the same time: they put next to no load on the machine, but faults take their time. `check`
/// gets each trial with its run and what it was.
fn each_transport(name: &str, load: &str, rest: &str, check: impl Fn(&Run, &TrialRecord, String) + Sync) {
    at_once(names(), |transport| {
        let (run, _) = measure(&Folder::new(), name, &scenario(&[transport], load, rest));
        assert!(!run.trials.is_empty());
        for trial in &run.trials {
            check(&run, trial, condition(&run, trial));
        }
    });
}

/// Every one of them noticed, and by one of these.
fn noticed(who: &str, detection: Option<&Detection>, sessions: u64, reasons: &[&str]) {
    let detection = detection.unwrap_or_else(|| panic!("{who}: nothing was measured"));
    assert_eq!(detection.affected, sessions, "{who}: {:?}", detection.by_reason);
    assert_eq!(detection.undetected, 0, "{who}: {:?}", detection.by_reason);
    assert_eq!(detection.time.count(), sessions, "{who}");
    for reason in detection.by_reason.keys() {
        assert!(
            reasons.contains(&reason.as_str()),
            "{who}: by {:?}",
            detection.by_reason
        );
    }
}

#[test]
fn ends_that_the_kernel_tells_are_noticed_by_both_sides() {
    let rest = "[workload]\nkind = \"push\"\nrate = \"1/30s\"\npayload = \"100 B\"\n\
                [[fault]]\nat = \"200ms\"\nkind = [\"fin\", \"rst\", \"crash\"]";
    each_transport("told", &load(6, "20s"), rest, |run, trial, who| {
        assert_eq!(run.trials.len(), 3);
        let fault = only_fault(trial);
        let ends = ["clean-end", "ended-early", "reset", "client"];
        noticed(&format!("{who}, client"), fault.client.as_ref(), 6, &ends);
        match fault.kind.as_str() {
            "crash" => assert_eq!(fault.server, None, "{who}: it is the server that died"),
            _ => noticed(&format!("{who}, server"), fault.server.as_ref(), 6, &ends),
        }
        // All had noticed, so nothing was left to wait for; and that is no partial trial.
        assert!(summary(trial).measured < Duration::from_secs(20), "{who}");
        assert!(!summary(trial).partial, "{who}");
    });
}

#[test]
fn silence_is_noticed_by_a_heartbeat_and_by_nothing_else() {
    let folder = Folder::new();
    // The timeout is longer than a busy machine holds up either side: who is well must not seem silent.
    let rest = "[workload]\nkind = \"push\"\nrate = \"10/s\"\npayload = \"100 B\"\n\
                [heartbeat]\nevery = [\"off\", \"300ms\"]\ntimeout = \"3s\"\n\
                [[fault]]\nat = \"300ms\"\nkind = \"freeze\"\nshare = 0.5";
    let (run, _) = measure(&folder, "silence", &scenario(&names(), &load(8, "8s"), rest));
    for trial in &run.trials {
        let who = condition(&run, trial);
        let client = only_fault(trial).client.as_ref().unwrap();
        assert_eq!(client.affected, 4, "{who}: half of them");
        if run.cell(trial).unwrap().heartbeat.is_none() {
            assert_eq!(client.undetected, 4, "{who}");
            assert!(
                client.watched >= Duration::from_secs(6),
                "{who}: longer than a heartbeat takes: {:?}",
                client.watched
            );
        } else {
            noticed(&who, Some(client), 4, &["heartbeat"]);
        }
        // The other half heard nothing of it.
        assert_eq!(
            summary(trial).counters.dropped + summary(trial).counters.closed_by_peer,
            4 - client.undetected,
            "{who}"
        );
    }
}

fn recovery(trial: &TrialRecord) -> &Recovery {
    summary(trial).recovery.as_ref().unwrap()
}

#[test]
fn a_restart_loses_what_was_published_meanwhile_and_a_resumption_nothing() {
    // A delay after which the servers are back and publish, however slow the machine is to start them.
    let rest = "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n\
                [server]\nhistory = 1000\n\
                [reconnect]\npolicy = \"fixed\"\ndelay = \"1s\"\nresume = [true, false]\n\
                [[fault]]\nat = \"500ms\"\nkind = \"restart\"\nlasts = \"400ms\"";
    each_transport("restart", &load(10, "4s"), rest, |run, trial, who| {
        let (s, r) = (summary(trial), recovery(trial));
        assert_eq!((r.cut_off, r.recovered, r.gave_up), (10, 10, 0), "{who}: {r:?}");
        assert_eq!(r.missed, r.made_up + r.lost, "{who}: {r:?}");
        assert_eq!(
            s.books.expected,
            s.books.delivered_once + s.books.lost,
            "{who}: {:?}",
            s.books
        );
        assert_eq!(
            s.books.lost, r.lost,
            "{who}: nothing is lost but in the outage: {:?} {r:?}",
            s.books
        );
        assert!(r.attempts["established"] == 10, "{who}: {:?}", r.attempts);
        if run.cell(trial).unwrap().reconnect.resume {
            assert_eq!(r.lost, 0, "{who}: {r:?}");
            assert!(r.made_up > 0, "{who}: {r:?}");
        } else {
            // The server was away for 400 ms, in which 8 messages were due for each.
            assert!(r.lost >= 10 * 5, "{who}: {r:?}");
            assert_eq!(
                Some(r.lost),
                r.not_offered,
                "{who}: what the servers published while they were away: {r:?}"
            );
        }
    });
}

#[test]
fn native_is_what_each_standard_says() {
    let cases = names()
        .into_iter()
        .flat_map(|name| [(name, None), (name, Some(500))]);
    at_once(cases, |(name, retry)| {
        let server = retry.map_or(String::new(), |ms| format!("retry = \"{ms}ms\"\n"));
        let rest = format!(
            "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n[server]\nhistory = 1000\n{server}\
             [reconnect]\npolicy = \"native\"\n[[fault]]\nat = \"200ms\"\nkind = \"fin\""
        );
        let text = scenario(&[name], &load(5, "5s"), &rest);
        let (run, _) = measure(&Folder::new(), "native", &text);
        for trial in &run.trials {
            let (who, r) = (condition(&run, trial), recovery(trial));
            let transport = &run.cell(trial).unwrap().variant.transport;
            match registry::row(transport).unwrap().native {
                Native::Nothing => {
                    assert_eq!((r.recovered, r.gave_up), (0, 5), "{who}: {r:?}");
                }
                Native::EventSource { retry: default } => {
                    let least = retry.map_or(default, Duration::from_millis);
                    assert_eq!((r.recovered, r.lost), (5, 0), "{who}: {r:?}");
                    let (shortest, longest) = (
                        r.time_to_reconnect.min().unwrap(),
                        r.time_to_reconnect.max().unwrap(),
                    );
                    println!(
                        "{who}: after {:.1} to {:.1} ms",
                        shortest as f64 / 1e6,
                        longest as f64 / 1e6
                    );
                    // The histogram knows its least value to three digits.
                    assert!(
                        shortest as f64 >= least.as_nanos() as f64 * 0.999,
                        "{who}: after {shortest} ns"
                    );
                }
                Native::AskAgain { .. } => assert_eq!((r.recovered, r.lost), (5, 0), "{who}: {r:?}"),
            }
        }
    });
}

#[test]
fn a_server_that_refuses_is_tried_again_and_counted() {
    let rest = "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n[server]\nhistory = 1000\n\
                [reconnect]\npolicy = \"exponential\"\ndelay = \"20ms\"\nmax = \"200ms\"\njitter = \"none\"\nresume = true\n\
                [[fault]]\nat = \"200ms\"\nkind = \"crash\"\nlasts = \"500ms\"";
    each_transport("refused", &load(5, "4s"), rest, |_, trial, who| {
        let r = recovery(trial);
        assert_eq!(r.recovered, 5, "{who}: {r:?}");
        let refused = r.attempts.get("connect: refused").copied().unwrap_or(0);
        assert!(refused >= 5 * 2, "{who}: {:?}", r.attempts);
        assert!(r.herd_peak >= 5, "{who}: {r:?}");
        assert_eq!(
            r.attempts.values().sum::<u64>(),
            refused + 5,
            "{who}: {:?}",
            r.attempts
        );
    });
}

#[test]
fn slow_readers_have_books_of_their_own() {
    // Room for 640 ms: those who read are not to overflow for a stall of the machine.
    let rest = "[workload]\nkind = \"push\"\nrate = \"100/s\"\npayload = \"32 KiB\"\n\
                [server]\noutbox = 64\nwhen-full = [\"drop-oldest\", \"drop-newest\", \"disconnect\"]\n\
                [slow-readers]\nshare = 0.25";
    each_transport("slow", &load(4, "4s"), rest, |_, trial, who| {
        let s = summary(trial);
        let slow = s.slow.as_ref().unwrap();
        assert_eq!(slow.sessions, 1, "{who}");
        assert!(slow.undelivered > 0, "{who}: {slow:?}");
        assert_eq!(
            slow.expected,
            slow.delivered + slow.undelivered,
            "{who}: {slow:?}"
        );
        if who.ends_with("disconnect") {
            assert_eq!(slow.disconnected, 1, "{who}: {slow:?}");
        } else {
            assert!(slow.dropped_by_server > 2, "{who}: {slow:?}");
        }
        assert_eq!(
            s.books.expected,
            3 * 400,
            "{who}: the others' books: {:?}",
            s.books
        );
    });
}

fn namespaces() -> String {
    let listed = std::process::Command::new("ip")
        .args(["netns", "list"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// Whatever of a run with faults is killed, the run ends, says so, and leaves nothing behind.
#[test]
fn whoever_is_killed_nothing_is_left_behind() {
    let mut cases = vec!["serve", "worker", "proxy"];
    if let Err(why) = kernel::allowed() {
        println!("skipped: whoever_is_killed_nothing_is_left_behind, kernel faults: {why}");
    } else {
        cases.push("namespace");
    }
    at_once(cases, |case| {
        let folder = Folder::new();
        let kind = if case == "namespace" {
            "blackhole"
        } else {
            "freeze"
        };
        let rest = format!(
            "[workload]\nkind = \"push\"\nrate = \"20/s\"\npayload = \"100 B\"\n[[fault]]\nat = \"100s\"\nkind = \"{kind}\""
        );
        let file = folder.write("lasting.toml", &scenario(&names()[..1], &load(5, "300s"), &rest));
        let out = folder.path("out");
        let running = Running::start(support::run(&file, &out));
        let mark = running.mark();
        running.wait_for_lines(2, &["[1/1]", ": measure"]);
        if case == "namespace" {
            let owner = format!("pushmark-{}-", running.pid());
            assert!(namespaces().contains(&owner), "{}", namespaces());
            // The coordinator itself: nobody is left to clean up but those who watch for that.
            kill(running.pid(), Signal::KILL);
            // Waited for first: what tests leave behind is killed when they end, the watcher among it.
            support::eventually("the namespaces are gone", || {
                (!namespaces().contains(&owner)).then_some(())
            });
            running.wait();
            all_gone(&mark);
            return;
        }
        kill(running.process(case), Signal::KILL);
        if case != "worker" {
            // The load goes on without it; the user ends it.
            running.signal(Signal::INT);
        }
        let ended = running.wait();
        assert_ne!(ended.code, Some(0), "{case}: {ended:#?}");
        all_gone(&mark);
        let run = Run::open(&out).unwrap();
        assert!(!run.is_complete(), "{case}");
    });
}
