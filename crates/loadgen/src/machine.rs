//! The machine as it is now: what is free, what is in use, who else wants it. What cannot be read is `None`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::pressure;

/// A look at the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    /// Memory that could be had without swapping, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// TCP sockets in their final wait: each holds a port towards one address.
    pub time_wait_sockets: Option<u64>,
    /// Processors that this process's control groups allow it, when they set a limit.
    pub cpu_quota: Option<f64>,
    /// Share of the last ten seconds in which somebody stood ready to run without a processor.
    pub pressure_share: Option<f64>,
    /// Processor time of the host so far, and how much of it other machines took, in ticks.
    pub ticks: Option<(u64, u64)>,
}

/// Looks.
pub fn look() -> Now {
    Now {
        memory_available_bytes: memory_available(&read("/proc/meminfo")),
        time_wait_sockets: time_wait(&read("/proc/net/sockstat")),
        cpu_quota: cpu_quota(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup")),
        pressure_share: pressure::cpu_last_10_s(),
        ticks: ticks(&read("/proc/stat")),
    }
}

impl Now {
    /// The share of processor time that other machines took since `earlier`.
    pub fn steal_since(&self, earlier: &Now) -> Option<f64> {
        let ((total, steal), (total_then, steal_then)) = (self.ticks?, earlier.ticks?);
        let total = total.checked_sub(total_then).filter(|t| *t > 0)?;
        Some(steal.saturating_sub(steal_then) as f64 / total as f64)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn memory_available(meminfo: &str) -> Option<u64> {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    kib.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn time_wait(sockstat: &str) -> Option<u64> {
    let mut words = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?
        .split_whitespace();
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

/// All ticks, and those that were stolen: the eighth number of the first line.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    // What comes after the eighth is part of the first two.
    Some((numbers.iter().take(8).sum(), *numbers.get(7)?))
}

/// The least that any group on the way up allows, by version 2 or version 1 of control groups.
fn cpu_quota(root: &Path, groups: &str) -> Option<f64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let unified = controllers.is_empty();
        let mount = if unified {
            root.to_path_buf()
        } else if controllers.split(',').any(|c| c == "cpu") {
            root.join(controllers)
        } else {
            return None;
        };
        group_and_parents(&mount, path)
            .into_iter()
            .filter_map(|group| {
                if unified {
                    quota_v2(&group)
                } else {
                    quota_v1(&group)
                }
            })
            .reduce(f64::min)
    });
    limits.reduce(f64::min)
}

fn group_and_parents(mount: &Path, path: &str) -> Vec<PathBuf> {
    let mut groups = vec![mount.to_path_buf()];
    let mut group = mount.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "..") {
        group.push(part);
        groups.push(group.clone());
    }
    groups
}

fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    let (quota, period) = (
        words.next()?.parse::<f64>().ok()?,
        words.next()?.parse::<f64>().ok()?,
    );
    (period > 0.0).then_some(quota / period)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let number = |name: &str| {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse::<f64>()
            .ok()
    };
    let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(
            memory_available("MemTotal: 9 kB\nMemAvailable:   4 kB\n"),
            Some(4096)
        );
        let sockstat = "sockets: used 16\nTCP: inuse 1 orphan 0 tw 455 alloc 1 mem 18\nUDP: inuse 0\n";
        assert_eq!(time_wait(sockstat), Some(455));
        let stat = "cpu  10 0 20 60 0 1 2 7 5 5\ncpu0 1 1 1 1\n";
        assert_eq!(ticks(stat), Some((100, 7)));
        let earlier = Now {
            ticks: Some((50, 2)),
            ..Now::default()
        };
        let now = Now {
            ticks: ticks(stat),
            ..Now::default()
        };
        assert_eq!(now.steal_since(&earlier), Some(0.1));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        for text in ["", "nonsense", "MemAvailable: x kB\nTCP: tw\ncpu  1 2\n"] {
            assert_eq!(
                (memory_available(text), time_wait(text), ticks(text)),
                (None, None, None)
            );
            assert_eq!(cpu_quota(Path::new("/nowhere"), text), None);
        }
    }

    #[test]
    fn the_tightest_group_counts() {
        let dir = std::env::temp_dir().join(format!("pushmark-machine-{}", std::process::id()));
        let inner = dir.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(dir.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(inner.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cpu_quota(&dir, "0::/a/b\n"), Some(1.5));
        assert_eq!(cpu_quota(&dir, "0::/c\n"), None);
        let old = dir.join("cpu,cpuacct/x");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        fs::write(old.join("cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(
            cpu_quota(&dir, "4:memory:/y\n2:cpu,cpuacct:/x\n0::/a\n"),
            Some(0.5)
        );
        fs::write(old.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!(cpu_quota(&dir, "2:cpu,cpuacct:/x\n"), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
