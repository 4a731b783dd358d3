//! This process: what it has cost so far, and how many descriptors it may have. Needed alike at both ends.

use pushmark_measure::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process has used since its start, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User CPU time, in nanoseconds.
    pub cpu_user_ns: u64,
    /// System CPU time, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Resident anonymous memory (`RssAnon`), in bytes; 0 when the kernel does not tell. Pages of the program file are
    /// left out: they come in as code is first used, whatever the number of connections.
    pub rss_bytes: u64,
}

/// This process's usage. The sum of both CPU times is exact to the nanosecond; how it splits into user and system is
/// known to the kernel's tick, and taken from there.
pub fn usage() -> Usage {
    let total = clock::process_cpu_ns();
    let Ok((stat, status)) = procfs::process::Process::myself().and_then(|p| Ok((p.stat()?, p.status()?)))
    else {
        return Usage {
            cpu_user_ns: total,
            ..Usage::default()
        };
    };
    let ticks = stat.utime + stat.stime;
    let system = if ticks == 0 {
        0.0
    } else {
        stat.stime as f64 / ticks as f64
    };
    let cpu_system_ns = (total as f64 * system) as u64;
    let rss_bytes = status
        .rssanon
        .map_or(stat.rss * procfs::page_size(), |kib| kib * 1024);
    Usage {
        cpu_user_ns: total - cpu_system_ns,
        cpu_system_ns,
        rss_bytes,
    }
}

/// Raises the soft limit of open files to the hard one; gives the limit now in force.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // The hard limit may be "infinite", which setting it to itself keeps. A refusal leaves the old soft limit, and the
    // caller reads what is in force.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A number that cannot be guessed.
pub fn random_u128() -> u128 {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            // Kernels without the call: the clock is all there is, and a session's name is no secret on such a machine.
            Err(_) => return u128::from(clock::now().0) << 64 | u128::from(clock::process_cpu_ns()),
        }
    }
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let u = usage();
        assert!(u.rss_bytes > 0);
        assert!(u.cpu_user_ns + u.cpu_system_ns > 0);
        assert!(raise_open_files() > 3);
        assert_ne!(random_u128(), random_u128());
    }
}
