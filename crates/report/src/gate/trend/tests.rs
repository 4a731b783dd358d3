//! A trend of histories whose course is known.

use pushmark_measure::gate::validity::Machine;
use pushmark_results::gate::GateVerdict;
use pushmark_results::history::{Head, HistoryScenario, SessionValue};

use super::*;

/// Sessions whose processor time follows `h`, and whose tail follows the same without deciding anything.
fn history(h: impl Fn(usize) -> f64, count: usize) -> History {
    let wobble = |i: usize| 0.002 * [1.2, -0.4, 0.3, -1.3, 0.8, -0.9, 0.1, 1.4, -1.1, -0.1, 0.6][i * 7 % 11];
    let session = |i: usize| Session {
        label: format!("c{i}"),
        started_unix_s: i as u64,
        seed: i as u64,
        pushmark_version: "0".into(),
        candidate: "build".into(),
        machine: ("cpu".into(), 2),
        fit: Machine::Fit,
        verdict: GateVerdict::Pass,
        accepted: false,
        values: [
            Metric::resource("feed", "server_cpu_us_per_delivery"),
            Metric::latency("feed", "latency_p999", 0.999),
        ]
        .map(|metric| SessionValue {
            metric,
            h: h(i) + wobble(i),
        })
        .into(),
    };
    History {
        head: Head {
            format_version: 1,
            document: String::new(),
            reference_words: Vec::new(),
            reference_program: (1, 1),
            reference_files: None,
            profile: "quick".into(),
            blocks: 10,
            warmup_s: 1.0,
            measure_s: 1.0,
            scenarios: vec![HistoryScenario {
                name: "feed".into(),
                crc32: 1,
            }],
        },
        sessions: (0..count).map(session).collect(),
    }
}

#[test]
fn two_percent_each_fifth_session_creep_in_by_name() {
    // Each step is below the floor of 3 %, and passes every gate.
    let trend = Trend::of(&history(|i| 0.02 * (i / 10) as f64, 40));
    assert!(trend.crept());
    let cpu = &trend.metrics[0];
    assert!(cpu.crept && cpu.changes.len() == 3, "{cpu:#?}");
    assert_eq!(
        cpu.changes.iter().map(|c| c.label.as_str()).collect::<Vec<_>>(),
        ["c10", "c20", "c30"]
    );
    assert!((cpu.total.unwrap() - 0.062).abs() < 0.005);
    // The tail has moved as much, and decides nothing.
    assert!(!trend.metrics[1].crept && !trend.metrics[1].changes.is_empty());
    let text = trend_text(&trend);
    assert!(
        text.starts_with("crept in over 40 sessions: CPU per delivery of feed +6."),
        "{text}"
    );
    assert!(text.contains("from session 11 (c10) on: +2."), "{text}");
    let files = render_trend(&trend).unwrap();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains(&"trend-01-server-cpu-us-per-delivery.svg"),
        "{names:?}"
    );
}

#[test]
fn what_got_better_or_was_accepted_has_not_crept_in() {
    assert!(!Trend::of(&history(|i| -0.02 * (i / 10) as f64, 40)).crept());
    let mut accepted = history(|i| if i < 20 { 0.0 } else { 0.1 }, 40);
    assert!(Trend::of(&accepted).crept());
    accepted.sessions[20].accepted = true;
    let trend = Trend::of(&accepted);
    assert!(!trend.crept());
    assert_eq!((trend.labels.len(), trend.left_out), (20, 20));
    assert!(trend_text(&trend).contains("20 earlier sessions are not looked at"));
}

#[test]
fn too_few_sessions_say_so() {
    let trend = Trend::of(&history(|i| i as f64, 9));
    assert!(!trend.crept());
    assert!(trend_text(&trend).contains("a change needs 10 sessions"));
    assert!(!Trend::of(&history(|_| 0.0, 0)).crept());
}

#[test]
fn a_metric_of_too_few_sessions_is_named_and_not_passed() {
    let latency = Metric::latency("feed", "latency_p50", 0.5);
    assert_ne!(latency.role, Role::Advisory);
    let with = |sessions: std::ops::Range<usize>, step: f64| {
        let mut all = history(|i| if i < 6 { 0.0 } else { step }, 12);
        for i in sessions {
            all.sessions[i].values.push(SessionValue {
                metric: latency.clone(),
                h: 0.0,
            });
        }
        Trend::of(&all)
    };
    let named = "nothing can be said of what too few sessions have: latency p50 of feed (4 of 12); \
                 a change needs 10 sessions, 5 on each side";
    let few = with(8..12, 0.0);
    assert!(!few.can_tell() && !few.crept());
    let text = trend_text(&few);
    assert!(
        text.starts_with("nothing has crept in over 12 sessions, of what can be told\n"),
        "{text}"
    );
    assert!(text.contains(named), "{text}");
    // What has crept in has, and the rest is still named.
    let crept = with(8..12, 0.2);
    assert!(crept.crept());
    assert!(trend_text(&crept).contains(named));
    // Enough sessions have it; and of what decides nothing, too few are enough.
    let mut all = history(|_| 0.0, 12);
    for s in &mut all.sessions[..9] {
        s.values.retain(|v| v.metric.role != Role::Advisory);
    }
    let trend = Trend::of(&all);
    assert!(trend.can_tell(), "{}", trend_text(&trend));
    assert!(with(2..12, 0.0).can_tell());
    // Nothing that decides.
    for s in &mut all.sessions {
        s.values.retain(|v| v.metric.role == Role::Advisory);
    }
    let trend = Trend::of(&all);
    assert!(!trend.can_tell() && trend_text(&trend).contains("they have nothing that decides"));
}
