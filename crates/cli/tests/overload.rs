//! Who was overloaded: a generator at its limit, or robbed of its processors, must own up; a slow server beside a free
//! generator must not spoil its numbers.
//!
//! A few short tries run with the other tests; `scripts/check-overload` makes ten of each, on a quiet machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests: one that fails is a test that fails, and figures are what a person runs the long ones for"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pushmark_measure::Grade;
use pushmark_results::run::TrialRecord;
use support::{Folder, Server, over_network, run, scenario};

/// Busy loops, one for each processor, until they are dropped.
struct BusyLoops(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl BusyLoops {
    fn start() -> Self {
        let on = Arc::new(AtomicBool::new(true));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores).map(|_| {
            let on = on.clone();
            std::thread::spawn(move || while on.load(Relaxed) {})
        });
        let threads = threads.collect();
        Self(on, threads)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
        for thread in self.1.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One thing at a time: the tests of this file would otherwise be each other's busy loops.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names() -> Vec<&'static str> {
    over_network().map(|row| row.name).collect()
}

/// One run of `names`: its trials.
fn trials(names: &[&str], kind: &str, rate: &str, connections: u32, target: &str) -> Vec<TrialRecord> {
    let load = format!(
        "connections = {connections}\narrival = {{ over = \"200ms\" }}\nwarmup = \"300ms\"\nmeasure = \"1500ms\"\ndrain = \"500ms\""
    );
    let rest = format!("[workload]\nkind = \"{kind}\"\nrate = \"{rate}\"\npayload = \"200 B\"\n{target}");
    let folder = Folder::new();
    let file = folder.write("load.toml", &scenario(names, &load, &rest));
    let out = folder.path("out");
    support::ended(run(&file, &out));
    pushmark_results::Run::open(&out).unwrap().trials
}

/// What was found, in one line each.
fn reasons(trial: &TrialRecord) -> Vec<String> {
    let found = trial.verdict.findings.iter();
    found
        .map(|f| format!("{}: {}", f.grade.as_str(), f.reason))
        .collect()
}

fn figures(trial: &TrialRecord) -> String {
    let s = trial.summary.as_ref().unwrap();
    let percent = |share: Option<f64>| share.map_or("–".into(), |s| format!("{:.0} %", s * 100.0));
    let ms = |ns: Option<u64>| ns.map_or("–".into(), |ns| format!("{:.1} ms", ns as f64 / 1e6));
    format!(
        "generator busy {}, waiting {}, loop p99 {}, own send delay p99 {}; others {}, pressure {}; latency p99 {}; {} of {} lost",
        percent(s.generator_busy_share),
        percent(s.generator_waiting_share),
        ms(s.loop_delay_p99_ns),
        ms(s.own_send_delay_p99_ns),
        percent(s.others_busy_share),
        percent(s.host_pressure_share),
        ms(s.latency_p99_ns),
        s.books.lost,
        s.books.expected,
    )
}

/// Asserts that every trial is in doubt, for one of `words`.
fn assert_doubted(label: &str, names: &[&str], trials: &[TrialRecord], words: &[&str]) {
    assert_eq!(trials.len(), names.len());
    for (trial, name) in trials.iter().zip(names) {
        let reasons = reasons(trial);
        println!(
            "{label}, {name}: {}: {}",
            trial.verdict.grade().as_str(),
            figures(trial)
        );
        for reason in &reasons {
            println!("    {reason}");
        }
        assert!(
            trial.verdict.grade() > Grade::Valid,
            "{label}, {name}: {}",
            figures(trial)
        );
        let told = reasons
            .iter()
            .any(|reason| words.iter().any(|word| reason.contains(word)));
        assert!(told, "{label}, {name}: {reasons:#?}");
    }
}

/// What a generator says that had no processor when it wanted one.
const ROBBED: &[&str] = &[
    "no part of the trial",
    "without a processor",
    "wanted a processor",
];
/// What a generator says that had more to do than it could.
const AT_ITS_LIMIT: &[&str] = &[
    "busiest thread used",
    "busiest thread wanted",
    "without a processor",
];

fn robbed(names: &[&str]) {
    let _loops = BusyLoops::start();
    assert_doubted(
        "busy loops",
        names,
        &trials(names, "echo", "20/s", 100, ""),
        ROBBED,
    );
}

fn too_much_to_send(names: &[&str]) {
    // 400,000 round trips a second: some twenty times what a thread can do where a message costs least.
    assert_doubted(
        "too much to send",
        names,
        &trials(names, "echo", "2k/s", 200, ""),
        AT_ITS_LIMIT,
    );
}

fn too_much_to_receive(names: &[&str]) {
    // Four million deliveries a second: more than ten times what a thread can do.
    assert_doubted(
        "too much to receive",
        names,
        &trials(names, "push", "10k/s", 400, ""),
        AT_ITS_LIMIT,
    );
}

/// A server that takes twice the time it has, on one thread. Gives the trials that were not valid.
fn slow_server(kind: &str, work_us: &str, rate: &str) -> Vec<String> {
    let server = Server::start(&["--threads", "1", "--inject-work-us", work_us]);
    let mut bad = Vec::new();
    for (trial, name) in trials(&names(), kind, rate, 20, &server.target())
        .iter()
        .zip(names())
    {
        let summary = trial.summary.as_ref().unwrap();
        println!(
            "slow server, {kind} {name}: {}: {}",
            trial.verdict.grade().as_str(),
            figures(trial)
        );
        for reason in reasons(trial) {
            println!("    {reason}");
        }
        // It is slow, and that is what is reported.
        assert!(
            summary.latency_p99_ns.unwrap() > 100_000_000 || summary.books.lost > 0 || summary.held_back > 0,
            "{kind} {name}: {}",
            figures(trial)
        );
        if trial.verdict.grade() > Grade::Valid {
            bad.push(format!("{kind} {name}: {:?}; {}", reasons(trial), figures(trial)));
        }
    }
    bad
}

fn slow_servers() -> Vec<String> {
    // 1,000 round trips a second that cost 2 ms each, and 100 publications a second that cost 20 ms each.
    let mut bad = slow_server("echo", "2000", "50/s");
    bad.extend(slow_server("push", "20000", "100/s"));
    bad
}

#[test]
fn a_generator_without_a_processor_owns_up() {
    let _alone = alone();
    robbed(&names()[..1]);
}

#[test]
fn a_generator_with_too_much_to_send_owns_up() {
    let _alone = alone();
    too_much_to_send(&names()[..1]);
}

#[test]
fn a_generator_with_too_much_to_receive_owns_up() {
    let _alone = alone();
    too_much_to_receive(&names()[..1]);
}

#[test]
fn a_slow_server_is_not_taken_for_a_slow_generator() {
    let _alone = alone();
    // Beside other tests the machine itself is in doubt, and the verdict says so. What it must not say even then is that
    // the generator was at its limit.
    for reason in slow_servers() {
        println!("in doubt beside other tests: {reason}");
        assert!(!reason.contains("busiest thread used"), "{reason}");
        assert!(!reason.contains("were not sent\""), "{reason}");
    }
}

const TRIES: usize = 10;

#[test]
#[ignore = "ten tries of each, on a quiet machine: run scripts/check-overload"]
fn ten_tries_of_an_overloaded_generator() {
    for number in 1..=TRIES {
        println!("try {number} of {TRIES}");
        robbed(&names());
        too_much_to_send(&names());
        too_much_to_receive(&names());
    }
    println!("every generator that was overloaded owned up in {TRIES} tries of {TRIES}");
}

#[test]
#[ignore = "ten tries of each, on a quiet machine: run scripts/check-overload"]
fn ten_tries_of_a_slow_server() {
    let mut bad = Vec::new();
    for number in 1..=TRIES {
        println!("try {number} of {TRIES}");
        bad.extend(slow_servers());
    }
    // What somebody else's work on this machine has spoilt says nothing of who was overloaded.
    let all = bad.len();
    bad.retain(|reasons| !reasons.contains("no part of the trial"));
    println!(
        "of {} trials of a slow server {} were in doubt, {} of them for what else ran here",
        TRIES * 2 * names().len(),
        all,
        all - bad.len()
    );
    assert!(bad.is_empty(), "{bad:#?}");
}
