//! Halves of the machine: the servers of a gate run on one half of the processors, its generators on the other.
//!
//! Where the scheduler is free, it puts a server now beside its generator and now on the other processor, for seconds on end. Blocks of
//! some gates fell into two groups, nearly a fifth apart in the processor time of a delivery; that placement is why is inferred,
//! not measured. With halves, both arms have the same place in every block.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// For servers.
    Servers,
    /// For load generators.
    Generators,
}

/// Starts processes by `start`, on `half` of the processors that this thread may use; `None`, a single processor, or a system
/// that does not allow it: on all of them. What is started must be started by this thread, within `start`.
pub(crate) fn on<T>(half: Option<Half>, start: impl FnOnce() -> T) -> T {
    let Some((all, part)) = half.and_then(|half| {
        let all = sched_getaffinity(None).ok()?;
        Some((all, part(&all, half)?))
    }) else {
        return start();
    };
    if sched_setaffinity(None, &part).is_err() {
        return start();
    }
    let started = start();
    if let Err(e) = sched_setaffinity(None, &all) {
        tracing::warn!("this thread stays on half of the processors: {e}");
    }
    started
}

/// The first half of `all` for servers, rounded down, and the rest for generators.
fn part(all: &CpuSet, half: Half) -> Option<CpuSet> {
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    if allowed.len() < 2 {
        return None;
    }
    let (servers, generators) = allowed.split_at(allowed.len() / 2);
    let mut set = CpuSet::new();
    for cpu in match half {
        Half::Servers => servers,
        Half::Generators => generators,
    } {
        set.set(*cpu);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        set
    }

    #[test]
    fn halves_share_nothing_and_leave_nothing_out() {
        let of = |cpus: &[usize], half| part(&set(cpus), half);
        assert_eq!(of(&[0, 1], Half::Servers), Some(set(&[0])));
        assert_eq!(of(&[0, 1], Half::Generators), Some(set(&[1])));
        assert_eq!(of(&[1, 3, 4, 6, 9], Half::Servers), Some(set(&[1, 3])));
        assert_eq!(of(&[1, 3, 4, 6, 9], Half::Generators), Some(set(&[4, 6, 9])));
        assert_eq!(of(&[5], Half::Servers), None);
    }

    #[test]
    fn this_thread_is_where_it_was_afterwards() {
        let before = sched_getaffinity(None).unwrap();
        let within = on(Some(Half::Generators), || sched_getaffinity(None).unwrap());
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        assert!(before.count() < 2 || within.count() < before.count());
        assert_eq!(on(None, || sched_getaffinity(None).unwrap()), before);
    }
}
