//! What this process has cost, and time.

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

pub(crate) fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

pub(crate) fn cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

/// Resident anonymous memory in KiB.
pub(crate) fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    line.and_then(|l| l.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}
