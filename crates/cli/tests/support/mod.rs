//! Support of the command line's tests: the real program, its processes, and a deadline for whatever is waited for.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these helpers are tests, but for the attribute that clippy looks for"
)]

pub(crate) mod capture;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pushmark_measure::{Grade, clock};
use pushmark_results::Run;
use pushmark_transport::control::READY;
use pushmark_transport::registry::{self, Row};
use rustix::process::{Pid, Signal, kill_process};

/// Whatever takes longer hangs. Far beyond what a busy machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(200);

/// The environment variable by which a program's processes, and theirs, are found again.
const MARK: &str = "PUSHMARK_TEST_MARK";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The program, with nothing around it that would change what it does.
pub(crate) fn pushmark() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushmark"));
    for name in ["NO_COLOR", "PUSHMARK_COLOR", "PUSHMARK_RESULTS", "PUSHMARK_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).current_dir(root());
    command
}

/// `pushmark run` of a scenario file into `out`. Not calibrated: that takes a second, and few tests are about it.
pub(crate) fn run(scenario: &Path, out: &Path) -> Command {
    let mut command = pushmark();
    command
        .args(["run", "--no-calibration"])
        .arg(scenario)
        .arg("--out")
        .arg(out);
    command
}

/// The same command for a process that may open only so many files.
pub(crate) fn with_open_files(limit: u32, command: &Command) -> Command {
    let mut limited = pushmark();
    let program = std::mem::replace(&mut limited, Command::new("sh"));
    limited
        .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .current_dir(root());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The transports that cross a network.
pub(crate) fn over_network() -> impl Iterator<Item = &'static Row> {
    registry::ROWS.iter().filter(|row| !row.in_process)
}

/// A scenario over `transports`, with what `load` and the rest say.
pub(crate) fn scenario(transports: &[&str], load: &str, rest: &str) -> String {
    format!(
        "question = \"is it true?\"\ntransports = {transports:?}\n\n[load]\nrepeats = 1\n{load}\n\n{rest}\n"
    )
}

/// A folder for one test; what is in it goes when the test ends.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file into it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Polls until `what` gives something; panics with `words` when it does not within the deadline.
pub(crate) fn eventually<T>(words: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(
            clock::now().duration_since(start) < DEADLINE,
            "waited in vain: {words}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that a program said on one stream, also while it runs.
#[derive(Default)]
struct Said(Mutex<String>);

impl Said {
    fn listen(stream: impl Read + Send + 'static) -> (Arc<Self>, JoinHandle<()>) {
        let said = Arc::new(Self::default());
        let to = said.clone();
        let listening = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                to.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        (said, listening)
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A program that runs. Dropped, it is killed, and all that it started.
pub(crate) struct Running {
    child: Child,
    mark: String,
    stdout: Arc<Said>,
    stderr: Arc<Said>,
    listening: Vec<JoinHandle<()>>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}-{}", std::process::id(), clock::now().0);
        let mut child = command
            .env(MARK, &mark)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (stdout, from_stdout) = Said::listen(child.stdout.take().unwrap());
        let (stderr, from_stderr) = Said::listen(child.stderr.take().unwrap());
        Self {
            child,
            mark,
            stdout,
            stderr,
            listening: vec![from_stdout, from_stderr],
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// What it has said on stdout so far.
    pub(crate) fn said(&self) -> String {
        self.stdout.text()
    }

    /// What it has said on stderr so far.
    pub(crate) fn complaints(&self) -> String {
        self.stderr.text()
    }

    /// It has closed what it speaks on: it says nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.listening.iter().all(JoinHandle::is_finished)
    }

    /// Its stdin, when that is a pipe: it can end itself when the pipe is closed, however we end.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until stderr has a line with all of `parts` in it.
    pub(crate) fn wait_for_line(&self, parts: &[&str]) {
        self.wait_for_lines(1, parts);
    }

    /// Waits until stderr has `count` lines with all of `parts` in them.
    pub(crate) fn wait_for_lines(&self, count: usize, parts: &[&str]) {
        let start = clock::now();
        loop {
            let text = self.stderr.text();
            let found = text
                .lines()
                .filter(|line| parts.iter().all(|part| line.contains(part)));
            if found.count() >= count {
                return;
            }
            let ended = self.listening.iter().all(JoinHandle::is_finished);
            let waited = clock::now().duration_since(start);
            assert!(
                !ended && waited < DEADLINE,
                "waited in vain for {parts:?} in:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let start = clock::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if clock::now().duration_since(start) > DEADLINE {
                panic!(
                    "it hangs; it said:\n{}\n{}",
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        // A child of its own that lives on could hold the streams open: this is not waited for longer than the rest.
        eventually("its streams end", || {
            self.listening.iter().all(JoinHandle::is_finished).then_some(())
        });
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Its processes that run now, itself among them, with their first argument.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        marked(&self.mark)
    }

    /// The one process of it that runs `pushmark <verb>`.
    pub(crate) fn process(&self, verb: &str) -> u32 {
        eventually(verb, || {
            self.processes()
                .into_iter()
                .find(|(_, v)| v == verb)
                .map(|(pid, _)| pid)
        })
    }

    /// What finds its processes when it is gone.
    pub(crate) fn mark(&self) -> String {
        self.mark.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in marked(&self.mark) {
            kill(pid, Signal::KILL);
        }
    }
}

impl Ended {
    /// Asserts the exit code; gives itself.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// Runs a command to its end.
pub(crate) fn ended(command: Command) -> Ended {
    Running::start(command).wait()
}

/// Sends a signal; a process that is gone already does not mind.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// Processes that were started with `mark`, however far down, with their first argument.
pub(crate) fn marked(mark: &str) -> Vec<(u32, String)> {
    let wanted = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        if !environment
            .split(|b| *b == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            return None;
        }
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        let first = arguments.split(|b| *b == 0).nth(1).unwrap_or_default();
        Some((pid, String::from_utf8_lossy(first).into_owned()))
    });
    processes.collect()
}

/// Waits until no process with `mark` is left.
pub(crate) fn all_gone(mark: &str) {
    let start = clock::now();
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return;
        }
        assert!(
            clock::now().duration_since(start) < DEADLINE,
            "still there: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stops a process as it stands; returns when it does.
pub(crate) fn freeze(pid: u32) {
    kill(pid, Signal::STOP);
    eventually("the process stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The state stands after the name, which is in brackets and may hold anything.
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
}

/// `pushmark serve` on a free port. Dropped, it is killed; should the test die, it ends with its stdin.
pub(crate) struct Server {
    running: Running,
    address: String,
    _stdin: ChildStdin,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as(pushmark(), arguments)
    }

    /// The same for a process that may open only so many files.
    pub(crate) fn with_open_files(limit: u32, arguments: &[&str]) -> Self {
        Self::start_as(with_open_files(limit, &pushmark()), arguments)
    }

    fn start_as(mut command: Command, arguments: &[&str]) -> Self {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(arguments)
            .stdin(Stdio::piped());
        let mut running = Running::start(command);
        let stdin = running.child.stdin.take().unwrap();
        let address = eventually("the server is ready", || {
            let said = running.stdout.text();
            let line = said.lines().next()?.strip_prefix(READY)?;
            Some(line.trim().to_owned())
        });
        Self {
            running,
            address,
            _stdin: stdin,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Asks it to end, by `signal`; gives how it did.
    pub(crate) fn stop_by(self, signal: Signal) -> Ended {
        self.running.signal(signal);
        self.running.wait()
    }

    /// A `[target]` section that names it.
    pub(crate) fn target(&self) -> String {
        format!("[target]\naddress = \"{}\"\n", self.address)
    }
}

/// Runs `text` to a run directory, which must be complete and sound; gives it with what was printed.
pub(crate) fn measure(folder: &Folder, name: &str, text: &str) -> (Run, Ended) {
    let file = folder.write(&format!("{name}.toml"), text);
    let out = folder.path(name);
    let mut command = run(&file, &out);
    command.arg("--json");
    let ended = ended(command);
    let run = Run::open(&out).unwrap();
    for trial in &run.trials {
        assert_eq!(trial.summary.as_ref().unwrap().imbalances, Vec::<String>::new());
    }
    let ended = held(&run, ended);
    assert!(run.is_complete(), "{ended:#?}");
    (run, ended)
}

/// Asserts that a run ended well; gives how it ended. A stall of the machine at the end of a window has some messages sent after it:
/// the run is then rightly called invalid, but what a test asks of it holds all the same.
#[track_caller]
pub(crate) fn held(run: &Run, ended: Ended) -> Ended {
    let findings = run.trials.iter().flat_map(|trial| &trial.verdict.findings);
    let mut invalid = findings.filter(|f| f.grade == Grade::Invalid).peekable();
    let stalled = invalid.peek().is_some() && invalid.all(|f| f.reason.contains("messages a second where"));
    // A stall at the end of the window takes a part of it, and no more.
    let most = run
        .trials
        .iter()
        .filter_map(|trial| trial.summary.as_ref())
        .all(|s| !s.generator_sends || 2 * s.sent_in_window >= s.books.scheduled);
    ended.with_code(if stalled && most { 4 } else { 0 })
}

/// Runs `task` for each case at the same time; the cases put next to no load on the machine but take their time.
pub(crate) fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, task: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let task = &task;
        let running: Vec<_> = cases
            .into_iter()
            .map(|case| scope.spawn(move || task(case)))
            .collect();
        let failed = running
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .count();
        assert_eq!(failed, 0, "see the messages above");
    });
}

/// Everything below `folder`, by relative name.
pub(crate) fn files(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut std::collections::BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(root, &entry, found);
            } else {
                found.insert(
                    entry.strip_prefix(root).unwrap().to_owned(),
                    std::fs::read(&entry).unwrap(),
                );
            }
        }
    }
    let mut found = std::collections::BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}
