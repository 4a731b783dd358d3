//! What breaks, and what both sides do about it: `[[fault]]`, `[heartbeat]`, `[tcp]`, `[reconnect]`, `[slow-readers]`.

use std::ops::Range;
use std::time::Duration;

use serde_spanned::Spanned;

use super::condition::{Condition, times};
use super::sides::Sides;
use super::values::{Findings, Swept};
use crate::diagnose::{Problem, quoted};
use crate::plan::{
    Fault, FaultKind, FaultMeans, Heartbeat, Jitter, Keepalive, ReconnectPolicy, SlowReaders, TargetPlan,
    TcpOptions, TlsVersion, WhenFull,
};
use crate::raw::{FaultSection, Given, ScenarioFile, Table};
use crate::units::show_duration;

const MOST_FAULTS: usize = 16;
const MOST_PROBES: u64 = 100;
const DEFAULT_DELAY: Duration = Duration::from_secs(1);
const DEFAULT_LONGEST_DELAY: Duration = Duration::from_secs(30);
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_PROBES: u32 = 3;
const LEAST: Duration = Duration::from_millis(1);

/// The settings that may be lists of something other than numbers.
pub(super) struct Troubles {
    heartbeats: Swept<Option<Heartbeat>>,
    pub(super) tcp: TcpOptions,
    policies: Swept<ReconnectPolicy>,
    /// As given; `None`: as the policy has it.
    resumes: Option<Swept<bool>>,
    faults: Vec<(Fault, Swept<FaultKind>)>,
    pub(super) slow_readers: Option<SlowReaders>,
}

#[derive(Clone, Copy, PartialEq)]
enum PolicyWord {
    None,
    Native,
    Fixed,
    Exponential,
}

const POLICIES: &[(&str, PolicyWord)] = &[
    ("none", PolicyWord::None),
    ("native", PolicyWord::Native),
    ("fixed", PolicyWord::Fixed),
    ("exponential", PolicyWord::Exponential),
];

const JITTERS: &[(&str, Jitter)] = &[
    ("none", Jitter::None),
    ("full", Jitter::Full),
    ("equal", Jitter::Equal),
    ("decorrelated", Jitter::Decorrelated),
];

/// Every word, with stand-ins for what stands in keys of its own.
const KINDS: &[(&str, FaultKind)] = &[
    ("fin", FaultKind::Fin),
    ("rst", FaultKind::Rst),
    ("freeze", FaultKind::Freeze),
    ("half-open", FaultKind::HalfOpen),
    (
        "delay",
        FaultKind::Delay {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        },
    ),
    ("bandwidth", FaultKind::Bandwidth { bytes_per_second: 0 }),
    (
        "slow-drip",
        FaultKind::SlowDrip {
            every: Duration::ZERO,
        },
    ),
    ("corrupt", FaultKind::Corrupt { chance: 0.0 }),
    ("crash", FaultKind::Crash),
    ("stop", FaultKind::Stop),
    ("restart", FaultKind::Restart),
    ("refuse", FaultKind::Refuse),
    ("blackhole", FaultKind::Blackhole),
    ("loss", FaultKind::Loss { chance: 0.0 }),
    ("link-down", FaultKind::LinkDown),
];

/// Reads all of it.
pub(super) fn troubles(findings: &mut Findings, file: &ScenarioFile, target: &TargetPlan) -> Troubles {
    let none = Swept::one(None);
    let heartbeats = heartbeats(findings, file).unwrap_or(none);
    let tcp = tcp(findings, file);
    let (policies, resumes) = reconnect(findings, file);
    let slow_readers = slow_readers(findings, file);
    Troubles {
        heartbeats,
        tcp,
        policies,
        resumes,
        faults: faults(findings, file, target),
        slow_readers,
    }
}

impl Troubles {
    /// The first list among its settings, by its key.
    pub(super) fn first_list(&self) -> Option<(&'static str, Range<usize>)> {
        let lists = [
            ("heartbeat.every", self.heartbeats.list.clone()),
            ("reconnect", self.policies.list.clone()),
            (
                "reconnect.resume",
                self.resumes.as_ref().and_then(|r| r.list.clone()),
            ),
        ];
        let faults = self
            .faults
            .iter()
            .map(|(_, kinds)| ("fault.kind", kinds.list.clone()));
        lists
            .into_iter()
            .chain(faults)
            .find_map(|(key, list)| Some((key, list?)))
    }

    /// Whether something breaks.
    pub(super) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether a session may come back.
    pub(super) fn reconnects(&self) -> bool {
        self.policies
            .values
            .iter()
            .any(|policy| *policy != ReconnectPolicy::None)
    }

    /// Every combination, the fault varying slowest.
    pub(super) fn conditions(&self, sides: &Sides) -> Vec<Condition> {
        let mut conditions = vec![Condition::default()];
        for (fault, kinds) in &self.faults {
            conditions = times(conditions, kinds, |c, kind| {
                c.faults.push(Fault { kind, ..*fault });
                kind.as_str().to_owned()
            });
        }
        conditions = times(conditions, &self.heartbeats, |c, heartbeat| {
            c.heartbeat = heartbeat;
            heartbeat.map_or("no heartbeat".to_owned(), |h| {
                format!(
                    "heartbeat {} + {}",
                    show_duration(h.every),
                    show_duration(h.timeout)
                )
            })
        });
        conditions = times(conditions, &self.policies, |c, policy| {
            c.reconnect.policy = policy;
            // What a transport's own standard says about resumption is a part of it.
            c.reconnect.resume = policy == ReconnectPolicy::Native;
            policy.to_string()
        });
        if let Some(resumes) = &self.resumes {
            conditions = times(conditions, resumes, |c, resume| {
                c.reconnect.resume = resume;
                if resume { "with resume" } else { "without resume" }.to_owned()
            });
        }
        conditions = times(conditions, &sides.when_full, |c, when_full| {
            c.when_full = when_full;
            match when_full {
                WhenFull::DropOldest => "drop-oldest",
                WhenFull::DropNewest => "drop-newest",
                WhenFull::Disconnect => "disconnect",
            }
            .to_owned()
        });
        conditions = times(conditions, &sides.tls, |c, tls| {
            c.tls = tls;
            match tls {
                None => "any TLS",
                Some(TlsVersion::Tls1_2) => "TLS 1.2",
                Some(TlsVersion::Tls1_3) => "TLS 1.3",
            }
            .to_owned()
        });
        times(conditions, &sides.resumption, |c, resumption| {
            c.resumption = resumption;
            if resumption { "resumed" } else { "cold" }.to_owned()
        })
    }
}

fn heartbeats(findings: &mut Findings, file: &ScenarioFile) -> Option<Swept<Option<Heartbeat>>> {
    let section = file.heartbeat.as_ref()?;
    let (place, section) = (section.span(), &section.get_ref().0);
    let timeout = section.timeout.as_ref().and_then(|value| {
        let least = Duration::from_millis(10);
        findings.duration(value, "heartbeat.timeout", least, "10ms is the least")
    });
    let Some(every) = &section.every else {
        findings.missing(Some(place), "`heartbeat.every`", r#"every = "15s""#);
        return None;
    };
    let swept = findings.swept(every, "heartbeat.every", PartialEq::eq, |findings, value| {
        if matches!(value.get_ref(), Given::Text(text) if text == "off") {
            return Some(None);
        }
        let least = Duration::from_millis(10);
        findings
            .duration(value, "heartbeat.every", least, "10ms is the least, or \"off\"")
            .map(Some)
    })?;
    let needs_timeout = swept.values.iter().any(Option::is_some);
    if needs_timeout && section.timeout.is_none() {
        findings.missing(Some(place), "`heartbeat.timeout`", r#"timeout = "10s""#);
        return None;
    }
    let of = |every: Option<Duration>| {
        Some(Heartbeat {
            every: every?,
            timeout: timeout?,
        })
    };
    Some(Swept {
        values: swept.values.into_iter().map(of).collect(),
        list: swept.list,
    })
}

fn tcp(findings: &mut Findings, file: &ScenarioFile) -> TcpOptions {
    let Some(section) = file.tcp.as_ref().map(|section| &section.get_ref().0) else {
        return TcpOptions::default();
    };
    // The kernel counts keepalive times in whole seconds.
    let second = Duration::from_secs(1);
    let whole = "whole seconds, 1s is the least";
    let mut seconds = |field: &Option<Spanned<Given>>, key: &str| {
        let value = field.as_ref()?;
        let duration = findings.duration(value, key, second, whole)?;
        if duration.subsec_nanos() != 0 {
            let problem = Problem::at(
                value.span(),
                format!("`{key}` is no whole number of seconds"),
                "has a fraction",
            );
            findings.add(problem.hint(whole));
            return None;
        }
        Some(duration)
    };
    let idle = seconds(&section.keepalive_idle, "tcp.keepalive-idle");
    let interval = seconds(&section.keepalive_interval, "tcp.keepalive-interval");
    let probes = findings.count_u32(&section.keepalive_probes, "tcp.keepalive-probes", 1..=MOST_PROBES);
    let user_timeout = section
        .user_timeout
        .as_ref()
        .and_then(|value| findings.duration(value, "tcp.user-timeout", LEAST, "1ms is the least"));
    TcpOptions {
        keepalive: idle.map(|idle| Keepalive {
            idle,
            interval: interval.unwrap_or(DEFAULT_PROBE_INTERVAL),
            probes: probes.unwrap_or(DEFAULT_PROBES),
        }),
        user_timeout,
    }
}

fn reconnect(findings: &mut Findings, file: &ScenarioFile) -> (Swept<ReconnectPolicy>, Option<Swept<bool>>) {
    let never = Swept::one(ReconnectPolicy::None);
    let Some(section) = &file.reconnect else {
        return (never, None);
    };
    let (place, section) = (section.span(), &section.get_ref().0);
    let delay = findings.duration_or(&section.delay, "reconnect.delay", DEFAULT_DELAY);
    let max = findings.duration_or(&section.max, "reconnect.max", DEFAULT_LONGEST_DELAY);
    if let (true, Some(value)) = (max < delay, &section.max) {
        let problem = Problem::at(
            value.span(),
            "`reconnect.max` is shorter than `reconnect.delay`",
            "shorter",
        );
        findings.add(problem.hint("the waits grow from `delay` to `max`"));
    }
    let jitters = match &section.jitter {
        None => Swept::one(Jitter::default()),
        Some(value) => findings
            .swept(value, "reconnect.jitter", PartialEq::eq, |findings, value| {
                let text = findings.text(value, "reconnect.jitter", "a word in quotes", "\"full\"")?;
                findings.word(text, value.span(), "reconnect.jitter", JITTERS)
            })
            .unwrap_or(Swept::one(Jitter::default())),
    };
    let resumes = section.resume.as_ref().and_then(|value| {
        findings.swept(value, "reconnect.resume", PartialEq::eq, |findings, value| {
            findings.yes_or_no(value, "reconnect.resume")
        })
    });
    let Some(value) = &section.policy else {
        findings.missing(Some(place), "`reconnect.policy`", r#"policy = "native""#);
        return (never, resumes);
    };
    let words = findings.swept(value, "reconnect.policy", PartialEq::eq, |findings, value| {
        let text = findings.text(value, "reconnect.policy", "a word in quotes", "\"native\"")?;
        findings.word(text, value.span(), "reconnect.policy", POLICIES)
    });
    let Some(words) = words else {
        return (never, resumes);
    };
    let mut policies = Vec::new();
    for word in &words.values {
        match word {
            PolicyWord::None => policies.push(ReconnectPolicy::None),
            PolicyWord::Native => policies.push(ReconnectPolicy::Native),
            PolicyWord::Fixed => policies.push(ReconnectPolicy::Fixed { delay }),
            PolicyWord::Exponential => {
                policies.extend(jitters.values.iter().map(|jitter| ReconnectPolicy::Exponential {
                    base: delay,
                    max,
                    jitter: *jitter,
                }))
            }
        }
    }
    let exponential = words.values.contains(&PolicyWord::Exponential);
    if let (Some(field), false) = (&section.jitter, exponential) {
        let problem = Problem::at(
            field.span(),
            "no policy of this scenario has jitter",
            "without effect",
        );
        findings.add(problem.hint("jitter belongs to the policy \"exponential\""));
    }
    let list = words.list.or(jitters.list.filter(|_| exponential));
    (
        Swept {
            values: policies,
            list,
        },
        resumes,
    )
}

fn slow_readers(findings: &mut Findings, file: &ScenarioFile) -> Option<SlowReaders> {
    let section = file.slow_readers.as_ref()?;
    let (place, section) = (section.span(), &section.get_ref().0);
    let rate = section
        .rate
        .as_ref()
        .and_then(|value| findings.rate(value, "slow-readers.rate"));
    let Some(value) = &section.share else {
        findings.missing(Some(place), "`slow-readers.share`", "share = 0.05");
        return None;
    };
    let share = findings.share(value, "slow-readers.share")?;
    Some(SlowReaders { share, rate })
}

fn faults(
    findings: &mut Findings,
    file: &ScenarioFile,
    target: &TargetPlan,
) -> Vec<(Fault, Swept<FaultKind>)> {
    let Some(sections) = &file.fault else {
        return Vec::new();
    };
    if sections.get_ref().len() > MOST_FAULTS {
        let problem = Problem::at(sections.span(), "the scenario has too many faults", "too many");
        findings.add(problem.hint(format!("{MOST_FAULTS} are the most")));
        return Vec::new();
    }
    let sections = sections.get_ref().iter();
    sections
        .filter_map(|section| fault(findings, section, target))
        .collect()
}

fn fault(
    findings: &mut Findings,
    section: &Spanned<Table<FaultSection>>,
    target: &TargetPlan,
) -> Option<(Fault, Swept<FaultKind>)> {
    let (place, section) = (section.span(), &section.get_ref().0);
    let at = match &section.at {
        Some(value) => findings.duration(value, "fault.at", Duration::ZERO, "0s is the least"),
        None => {
            findings.missing(Some(place.clone()), "`fault.at`", r#"at = "3s""#);
            None
        }
    };
    let lasts = section
        .lasts
        .as_ref()
        .and_then(|value| findings.duration(value, "fault.lasts", LEAST, "1ms is the least"));
    let share = match &section.share {
        Some(value) => findings.share(value, "fault.share")?,
        None => 1.0,
    };
    let Some(value) = &section.kind else {
        findings.missing(Some(place), "`fault.kind`", r#"kind = "crash""#);
        return None;
    };
    let kinds = findings.swept(value, "fault.kind", PartialEq::eq, |findings, value| {
        let text = findings.text(value, "fault.kind", "a word in quotes", "\"crash\"")?;
        let kind = findings.word(text, value.span(), "fault.kind", KINDS)?;
        let kind = with_settings(findings, kind, section, value.span())?;
        fits(findings, kind, value.span(), share, lasts, target).then_some(kind)
    })?;
    unused_settings(findings, section, &kinds.values);
    let fault = Fault {
        at: at?,
        kind: kinds.values.first().copied()?,
        lasts,
        share,
    };
    Some((fault, kinds))
}

/// Whether a kind can be had on these connections of this target.
fn fits(
    findings: &mut Findings,
    kind: FaultKind,
    place: Range<usize>,
    share: f64,
    lasts: Option<Duration>,
    target: &TargetPlan,
) -> bool {
    let word = quoted(kind.as_str());
    let wrong = if share <= 0.0 {
        Some((
            format!("fault {word} is on no connection"),
            "share is nothing",
            "write share = 0.5, or leave it out for all",
        ))
    } else if share < 1.0 && kind.means() != FaultMeans::Proxy {
        Some((
            format!("fault {word} cannot be on a share of the connections"),
            "hits all of them",
            "leave `share` out; faults that a proxy makes (fin, rst, freeze, …) can have one",
        ))
    } else if *target != TargetPlan::Embedded && kind.means() != FaultMeans::Proxy {
        Some((
            format!("fault {word} cannot be done to a server of your own"),
            "needs the reference server",
            "take out [target], or use faults that a proxy makes (fin, rst, freeze, …)",
        ))
    } else if kind == FaultKind::Restart && lasts.is_none() {
        Some((
            format!("fault {word} does not say when the server is back"),
            "without an end",
            "add lasts = \"2s\"; a server that never comes back is a crash",
        ))
    } else {
        None
    };
    let Some((message, label, hint)) = wrong else {
        return true;
    };
    findings.add(Problem::at(place, message, label).hint(hint));
    false
}

/// The kind with what its keys say.
fn with_settings(
    findings: &mut Findings,
    kind: FaultKind,
    section: &FaultSection,
    place: Range<usize>,
) -> Option<FaultKind> {
    let mut needed = |field: &Option<Spanned<Given>>, key: &str, example: &str| {
        if field.is_none() {
            let what = format!("`{key}` for the fault {}", quoted(kind.as_str()));
            findings.missing(Some(place.clone()), &what, example);
        }
        field.clone()
    };
    Some(match kind {
        FaultKind::Delay { .. } => {
            let delay = needed(&section.delay, "fault.delay", r#"delay = "50ms""#)?;
            FaultKind::Delay {
                delay: findings.duration(&delay, "fault.delay", Duration::ZERO, "0s is the least")?,
                jitter: match &section.jitter {
                    Some(jitter) => {
                        findings.duration(jitter, "fault.jitter", Duration::ZERO, "0s is the least")?
                    }
                    None => Duration::ZERO,
                },
            }
        }
        FaultKind::Bandwidth { .. } => {
            let bandwidth = needed(&section.bandwidth, "fault.bandwidth", r#"bandwidth = "64 KiB""#)?;
            let bytes = findings.size_bytes(&bandwidth, "fault.bandwidth", 1..=u32::MAX)?;
            FaultKind::Bandwidth {
                bytes_per_second: u64::from(bytes),
            }
        }
        FaultKind::SlowDrip { .. } => {
            let every = needed(&section.every, "fault.every", r#"every = "100ms""#)?;
            FaultKind::SlowDrip {
                every: findings.duration(&every, "fault.every", LEAST, "1ms is the least")?,
            }
        }
        FaultKind::Corrupt { .. } => {
            let chance = needed(&section.chance, "fault.chance", "chance = 0.001")?;
            FaultKind::Corrupt {
                chance: findings.share(&chance, "fault.chance")?,
            }
        }
        FaultKind::Loss { .. } => {
            let chance = needed(&section.chance, "fault.chance", "chance = 0.05")?;
            FaultKind::Loss {
                chance: findings.share(&chance, "fault.chance")?,
            }
        }
        plain => plain,
    })
}

/// A key that no kind of this fault looks at was meant for another one.
fn unused_settings(findings: &mut Findings, section: &FaultSection, kinds: &[FaultKind]) {
    let used_by = |of: fn(&FaultKind) -> bool| kinds.iter().any(of);
    let delay = used_by(|k| matches!(k, FaultKind::Delay { .. }));
    let chance = used_by(|k| matches!(k, FaultKind::Corrupt { .. } | FaultKind::Loss { .. }));
    let fields = [
        ("delay", &section.delay, delay, "`delay`"),
        ("jitter", &section.jitter, delay, "`delay`"),
        (
            "bandwidth",
            &section.bandwidth,
            used_by(|k| matches!(k, FaultKind::Bandwidth { .. })),
            "`bandwidth`",
        ),
        (
            "every",
            &section.every,
            used_by(|k| matches!(k, FaultKind::SlowDrip { .. })),
            "`slow-drip`",
        ),
        ("chance", &section.chance, chance, "`loss` and `corrupt`"),
    ];
    for (key, field, used, whose) in fields {
        if let (Some(value), false) = (field, used) {
            let problem = Problem::at(
                value.span(),
                format!("`fault.{key}` has no effect here"),
                "not looked at",
            );
            findings.add(problem.hint(format!("it belongs to {whose}")));
        }
    }
}
