//! The machine and the checkout a run is made on, as far as they tell. What cannot be read stays empty or zero.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::{GitState, Host};

/// Describes this machine. Reads `/proc` and `/sys` and asks nobody else.
pub fn gather() -> Host {
    let limits = read("/proc/self/limits");
    let (open_files_soft, open_files_hard) = open_files(&limits);
    let os = [
        read("/proc/sys/kernel/ostype"),
        read("/proc/sys/kernel/osrelease"),
    ];
    Host {
        kernel: os.each_ref().map(|s| s.trim()).join(" ").trim().to_owned(),
        cpu_model: cpu_model(&read("/proc/cpuinfo")),
        cores: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        open_files_soft,
        open_files_hard,
        ephemeral_ports: ephemeral_ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
        listen_backlog: read("/proc/sys/net/core/somaxconn").trim().parse().unwrap_or(0),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .trim()
            .to_owned(),
        load_average: load_average(&read("/proc/loadavg")),
    }
}

/// The commit checked out in `dir` and whether tracked files differ from it; `None` when `dir` is in no checkout, has
/// no commit yet, or there is no `git`.
pub fn git_state(dir: &Path) -> Option<GitState> {
    let commit = git(dir, &["rev-parse", "--verify", "HEAD"])?.trim().to_owned();
    let changes = git(dir, &["status", "--porcelain", "--untracked-files=no"])?;
    let is_commit = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_commit.then(|| GitState {
        commit,
        dirty: !changes.trim().is_empty(),
    })
}

fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        // A checkout can name a program for git to start here; a question about it should start none.
        .args(["-c", "core.fsmonitor=false", "-C"])
        .arg(dir)
        .args(args)
        // Looking must not take the lock that the user's own git may want.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cpu_model(cpuinfo: &str) -> String {
    // `model name` on x86, `Model` or `Hardware` on ARM boards, `uarch` on RISC-V.
    ["model name", "Model", "Hardware", "uarch"]
        .iter()
        .find_map(|key| {
            let line = cpuinfo
                .lines()
                .find_map(|line| line.split_once(':').filter(|(k, _)| k.trim() == *key));
            line.map(|(_, value)| value.trim().to_owned())
        })
        .unwrap_or_default()
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .unwrap_or(0)
        .saturating_mul(1024)
}

/// Soft and hard limit; `u64::MAX` when there is none.
fn open_files(limits: &str) -> (u64, u64) {
    let number = |word: Option<&str>| match word {
        Some("unlimited") => u64::MAX,
        word => word.and_then(|w| w.parse().ok()).unwrap_or(0),
    };
    let mut words = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap_or("")
        .split_whitespace();
    (number(words.next()), number(words.next()))
}

fn ephemeral_ports(range: &str) -> (u16, u16) {
    let mut words = range.split_whitespace().map(|w| w.parse().unwrap_or(0));
    (words.next().unwrap_or(0), words.next().unwrap_or(0))
}

fn load_average(loadavg: &str) -> (f64, f64, f64) {
    let mut words = loadavg.split_whitespace().map(|w| w.parse().unwrap_or(0.0));
    (
        words.next().unwrap_or(0.0),
        words.next().unwrap_or(0.0),
        words.next().unwrap_or(0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2.00GHz\nflags : a b\n";
        assert_eq!(cpu_model(x86), "Some CPU @ 2.00GHz");
        assert_eq!(cpu_model("processor : 0\nModel\t: Board 5\n"), "Board 5");
        assert_eq!(memory_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024                 unlimited            files\n";
        assert_eq!(open_files(limits), (1024, u64::MAX));
        assert_eq!(ephemeral_ports("32768\t60999\n"), (32768, 60999));
        assert_eq!(load_average("0.31 0.24 0.18 1/200 4242\n"), (0.31, 0.24, 0.18));
    }

    #[test]
    fn what_cannot_be_read_is_empty() {
        for text in ["", "nonsense", "MemTotal: x kB\nMax open files\n:::"] {
            assert_eq!((cpu_model(text), memory_bytes(text)), (String::new(), 0));
            assert_eq!(
                (open_files(text), ephemeral_ports(text), load_average(text)),
                ((0, 0), (0, 0), (0.0, 0.0, 0.0))
            );
        }
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let host = gather();
        assert!(
            host.kernel.starts_with("Linux ") && host.cores > 0 && host.memory_bytes > 0,
            "{host:?}"
        );
    }

    #[test]
    fn a_checkout_is_told_from_other_directories() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(git_state(&dir.path().join("missing")), None);
        let git = |args: &[&str]| git(dir.path(), args);
        if git(&["init", "-q"]).is_none() {
            println!("skipped: a_checkout_is_told_from_other_directories: there is no git");
            return;
        }
        assert_eq!(git_state(dir.path()), None, "no commit yet");
        fs::write(dir.path().join("a"), "1").unwrap();
        git(&["add", "a"]).unwrap();
        git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "commit",
            "-q",
            "-m",
            "a",
        ])
        .unwrap();
        assert!(!git_state(dir.path()).unwrap().dirty);
        fs::write(dir.path().join("a"), "2").unwrap();
        assert!(git_state(dir.path()).unwrap().dirty);
    }
}
