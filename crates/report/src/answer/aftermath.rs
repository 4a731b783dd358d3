//! What became of what broke, in words: what came back, who came at once, what slow readers got.

use super::claim::{and, name, place, quoted, spot, takes_part};
use super::{NAMED_LOSSES, noticing, sentence};
use crate::comparison::{Comparison, Point, Value};
use crate::units::{Quantity, percent, show_alone, whole};

/// How many things are named one by one in a sentence.
pub(super) const NAMED: usize = 4;

/// The sentences that apply.
pub(super) fn sentences(comparison: &Comparison) -> Vec<String> {
    let mut all = noticing::sentences(comparison);
    all.extend(recovery(comparison));
    all.extend(gaps(comparison));
    all.extend(herd(comparison));
    all.extend(slow(comparison));
    all
}

fn total(point: &Point, key: &str, variant: usize) -> Option<u64> {
    point.aftermath.row(key)?.values.get(variant)?.total()
}

fn spread_of(point: &Point, key: &str, variant: usize) -> Option<pushmark_measure::stats::Spread> {
    point
        .aftermath
        .row(key)?
        .values
        .get(variant)
        .and_then(Value::spread)
}

/// Who came back, point by point.
fn recovery(comparison: &Comparison) -> Option<String> {
    let (mut whole_points, mut parts) = (Vec::new(), Vec::new());
    for point in &comparison.points {
        let (mut back, mut sessions, mut longest) = (Vec::new(), 0_u64, None);
        let mut others = Vec::new();
        for i in (0..comparison.variants.len()).filter(|i| takes_part(point, *i)) {
            let (Some(cut), Some(recovered)) = (total(point, "cut_off", i), total(point, "recovered", i))
            else {
                continue;
            };
            let who = name(comparison, i);
            let of = whole(cut);
            match recovered {
                _ if cut == 0 => (),
                n if n >= cut => {
                    back.push(who.to_owned());
                    sessions = sessions.saturating_add(cut);
                    let max = spread_of(point, "outage_ns_max", i).map(|s| s.max as u64);
                    longest = longest.max(max);
                }
                0 if has_none_of_its_own(point, i) => others.push(format!(
                    "{who} has no reconnection of its own: none of its {of} sessions came back"
                )),
                0 => others.push(format!("none of {of} {who} sessions came back")),
                n => others.push(format!("{} of {of} {who} sessions came back", whole(n))),
            }
        }
        let outage = longest.map(|ns| format!("up to {}", time(ns)));
        if others.is_empty() && !back.is_empty() {
            whole_points.push((point, outage));
        } else if !others.is_empty() {
            if !back.is_empty() {
                let after = outage
                    .map(|o| format!(", after outages of {o}"))
                    .unwrap_or_default();
                others.push(format!("with {} all came back{after}", and(&back)));
            }
            parts.push(format!("{}{}", place(comparison, point), others.join("; ")));
        }
    }
    let mut out = Vec::new();
    if !whole_points.is_empty() {
        let everywhere = parts.is_empty();
        let known: Vec<String> = whole_points
            .iter()
            .filter_map(|(p, o)| Some((p, o.as_ref()?)))
            .map(|(p, o)| match comparison.is_sweep() {
                true => format!("{o} {}", spot(comparison, &p.label)),
                false => o.clone(),
            })
            .collect();
        let after = match known.len() {
            0 => String::new(),
            1..=NAMED => format!(", after outages of {}", and(&known)),
            _ => String::new(),
        };
        let places: Vec<String> = whole_points.iter().map(|(p, _)| quoted(&p.label)).collect();
        let at = if everywhere || !comparison.is_sweep() {
            String::new()
        } else {
            format!("{} ", spot_of_many(comparison, &places))
        };
        out.push(sentence(&format!(
            "{at}every session that was cut off came back{after}"
        )));
    }
    if !parts.is_empty() {
        out.push(sentence(&shorten(parts)));
    }
    (!out.is_empty()).then(|| out.join(" "))
}

/// The standard's own way was asked for, nothing was ever tried, and all gave up: the data back no less.
fn has_none_of_its_own(point: &Point, variant: usize) -> bool {
    let policy = point.aftermath.policies.get(variant).and_then(Option::as_deref);
    let tried = point.aftermath.attempts.iter();
    let tried = tried
        .filter_map(|a| a.totals.get(variant).copied().flatten())
        .fold(0, u64::saturating_add);
    policy.is_some_and(|p| p == "native" || p.starts_with("native,"))
        && tried == 0
        && total(point, "gave_up", variant) == total(point, "cut_off", variant)
}

/// What was missed meanwhile and never made up for, over all points.
fn gaps(comparison: &Comparison) -> Option<String> {
    let mut figures = Vec::new();
    for i in 0..comparison.variants.len() {
        let sum = |key: &str| {
            let points = comparison.points.iter().filter(|p| takes_part(p, i));
            points
                .filter_map(|p| total(p, key, i))
                .reduce(u64::saturating_add)
        };
        if let (Some(missed @ 1..), Some(lost)) = (sum("missed"), sum("gap_lost")) {
            figures.push((i, missed, lost));
        }
    }
    if figures.is_empty() {
        return None;
    }
    if figures.iter().all(|(_, _, lost)| *lost == 0) {
        return Some("All that was missed meanwhile was made up for.".to_owned());
    }
    let said: Vec<String> = figures
        .iter()
        .take(NAMED)
        .map(|(i, missed, lost)| {
            let who = name(comparison, *i);
            match lost {
                0 => format!("{who} lost nothing"),
                lost if lost >= missed => format!("{who} lost all of {} messages", whole(*missed)),
                lost => format!("{who} lost {} of {}", whole(*lost), whole(*missed)),
            }
        })
        .collect();
    Some(format!("Of what was missed meanwhile, {}.", and(&said)))
}

/// How many came at once, and what those felt who had stayed.
fn herd(comparison: &Comparison) -> Option<String> {
    let peak = |point: &Point, i: usize| {
        let peak = spread_of(point, "herd_peak", i).filter(|_| takes_part(point, i))?;
        Some(peak.max as u64).filter(|n| *n > 0)
    };
    let mut peaks: Vec<(u64, &Point, usize)> = Vec::new();
    for point in &comparison.points {
        for i in 0..comparison.variants.len() {
            peaks.extend(peak(point, i).map(|n| (n, point, i)));
        }
    }
    peaks.sort_by_key(|(n, ..)| std::cmp::Reverse(*n));
    let (most, at, who) = peaks.first()?;
    // Conditions are told apart for the variant with the largest herd; without them, variants are.
    let others = peaks.iter().skip(1).filter(|(_, p, i)| {
        if comparison.is_sweep() {
            i == who && !std::ptr::eq(*p, *at)
        } else {
            i != who
        }
    });
    let others: Vec<String> = others
        .map(|(n, p, i)| {
            let which = if comparison.is_sweep() {
                spot(comparison, &p.label)
            } else {
                format!("with {}", name(comparison, *i))
            };
            format!("{} {which}", whole(*n))
        })
        .collect();
    let others = match others.as_slice() {
        [] => String::new(),
        all if all.len() < NAMED => format!(", against {}", and(all)),
        [.., least] => format!(", against {least} at the least"),
    };
    let whose = match comparison.is_sweep() {
        true => format!(" {} ({})", spot(comparison, &at.label), name(comparison, *who)),
        false => format!(" with {}", name(comparison, *who)),
    };
    let felt = match (
        spread_of(at, "stayed_before_ns_p99", *who),
        spread_of(at, "stayed_after_ns_p99", *who),
    ) {
        (Some(before), Some(after)) => format!(
            "; with those who had stayed, latency p99 was {} before and {} after",
            time(before.median as u64),
            time(after.median as u64)
        ),
        _ => String::new(),
    };
    Some(sentence(&format!(
        "at most {} attempts fell into 100 ms{whose}{others}{felt}",
        whole(*most)
    )))
}

fn slow(comparison: &Comparison) -> Option<String> {
    let mut parts = Vec::new();
    for point in &comparison.points {
        let (mut got, mut cut, mut all) = (Vec::new(), 0_u64, 0_u64);
        for i in (0..comparison.variants.len()).filter(|i| takes_part(point, *i)) {
            let read = |key: &str| total(point, key, i);
            let Some(expected) = read("slow_expected").filter(|n| *n > 0) else {
                continue;
            };
            let share = read("slow_delivered").unwrap_or(0) as f64 / expected as f64;
            got.push(format!("{} ({})", percent(share), name(comparison, i)));
            cut = cut.saturating_add(read("slow_disconnected").unwrap_or(0));
            all = all.saturating_add(read("slow_sessions").unwrap_or(0));
        }
        if got.is_empty() {
            continue;
        }
        let cut = match cut {
            0 => "none of them was disconnected".to_owned(),
            n if n >= all => format!("all {} of them were disconnected", whole(all)),
            n => format!("{} of {} were disconnected", whole(n), whole(all)),
        };
        parts.push(format!(
            "{}slow readers got {} of their messages, and {cut}",
            place(comparison, point),
            and(&got)
        ));
    }
    (!parts.is_empty()).then(|| sentence(&shorten(parts)))
}

fn spot_of_many(comparison: &Comparison, labels: &[String]) -> String {
    let word = if comparison.varies_conditions() {
        "with"
    } else {
        "at"
    };
    match labels.len() {
        0..=NAMED => format!("{word} {}", and(labels)),
        n => format!("{word} {n} of {} points", comparison.points.len()),
    }
}

/// The first few, and that there are more.
pub(super) fn shorten(mut parts: Vec<String>) -> String {
    let more = parts.len().saturating_sub(NAMED_LOSSES);
    parts.truncate(NAMED_LOSSES);
    if more > 0 {
        parts.push(format!("and so on in {more} more places"));
    }
    parts.join("; ")
}

pub(super) fn time(ns: u64) -> String {
    show_alone(Quantity::Nanoseconds, ns as f64)
}
