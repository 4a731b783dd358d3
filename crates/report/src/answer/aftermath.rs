//! What broke and what became of it, in words: who noticed, what came back, who came at once, what slow readers got.

use super::claim::{and, name, place, quoted, spot, takes_part};
use super::{NAMED_LOSSES, sentence};
use crate::comparison::{Comparison, FaultRow, Noticed, Point, Value, beside_the_kind};
use crate::units::{Quantity, percent, seconds, show_alone, whole};

/// How many things are named one by one in a sentence.
const NAMED: usize = 4;

/// The sentences that apply.
pub(super) fn sentences(comparison: &Comparison) -> Vec<String> {
    let mut all = Vec::new();
    let neither = nobody(comparison, &CLIENT, NEITHER);
    let both = neither.is_some() && neither == nobody(comparison, &SERVER, NEITHER);
    if both {
        all.extend(neither);
    } else {
        all.extend(nobody(comparison, &CLIENT, CLIENT.none));
    }
    all.extend(somebody(comparison, &CLIENT));
    if !both {
        all.extend(nobody(comparison, &SERVER, SERVER.none));
    }
    all.extend(somebody(comparison, &SERVER));
    all.extend(recovery(comparison));
    all.extend(gaps(comparison));
    all.extend(herd(comparison));
    all.extend(slow(comparison));
    all
}

/// One side's words, and where its data are.
struct Side {
    read: fn(&FaultRow) -> &Vec<Option<Noticed>>,
    all: &'static str,
    none: &'static str,
}

const CLIENT: Side = Side {
    read: |f| &f.client,
    all: "every client noticed",
    none: "no client noticed",
};
const SERVER: Side = Side {
    read: |f| &f.server,
    all: "the server noticed",
    none: "the server noticed nothing",
};

/// When what holds of the one holds of the other.
const NEITHER: &str = "neither side noticed anything";

/// One fault at one point, as one side saw it: of those that take part and were hit.
struct Seen<'a> {
    fault: &'a FaultRow,
    place: String,
    variants: Vec<(usize, &'a Noticed)>,
}

impl Seen<'_> {
    fn nobody(&self) -> bool {
        self.variants
            .iter()
            .all(|(_, n)| n.detected == 0 && n.undetected > 0)
    }

    fn everybody(&self) -> bool {
        self.variants.iter().all(|(_, n)| noticed_by_all(n))
    }

    fn slowest(&self) -> u64 {
        let all = self.variants.iter().filter_map(|(_, n)| n.max_ns);
        all.max().unwrap_or(0)
    }
}

/// All that were hit are accounted for as having noticed.
fn noticed_by_all(n: &Noticed) -> bool {
    n.undetected == 0 && n.detected >= n.affected
}

/// Every fault at every point, as one side saw it.
fn seen<'a>(comparison: &'a Comparison, side: &Side) -> Vec<Seen<'a>> {
    let mut all = Vec::new();
    for point in &comparison.points {
        for fault in &point.aftermath.faults {
            let variants = (side.read)(fault).iter().enumerate();
            let variants: Vec<(usize, &Noticed)> = variants
                .filter_map(|(i, n)| Some((i, n.as_ref()?)))
                .filter(|(i, n)| takes_part(point, *i) && n.affected > 0)
                .collect();
            if !variants.is_empty() {
                let place = if comparison.is_sweep() {
                    point.label.clone()
                } else {
                    String::new()
                };
                all.push(Seen {
                    fault,
                    place,
                    variants,
                });
            }
        }
    }
    all
}

/// Whether a kind went alike under every condition, so that none need be named.
fn alike(all: &[Seen<'_>], kind: &str, class: impl Fn(&Seen<'_>) -> bool) -> bool {
    all.iter().filter(|s| s.fault.kind == kind).all(class)
}

/// The faults of which nobody on this side noticed anything.
fn nobody(comparison: &Comparison, side: &Side, words: &str) -> Option<String> {
    let all = seen(comparison, side);
    let unseen: Vec<&Seen<'_>> = all.iter().filter(|s| s.nobody()).collect();
    let first = unseen.first()?;
    let events = events(
        &unseen,
        |s| alike(&all, &s.fault.kind, |s| s.nobody()),
        |_| String::new(),
    );
    let watched = unseen.iter().flat_map(|s| &s.variants);
    let least = watched.map(|(_, n)| n.watched_s).fold(f64::INFINITY, f64::min);
    // Who it was is said when it is the same everywhere.
    let who: Vec<usize> = first.variants.iter().map(|(i, _)| *i).collect();
    let same = |s: &&Seen<'_>| s.variants.iter().map(|(i, _)| *i).eq(who.iter().copied());
    let who = if unseen.iter().all(same) {
        let names: Vec<String> = who.iter().map(|i| name(comparison, *i).to_owned()).collect();
        format!(": {}", and(&names))
    } else {
        String::new()
    };
    Some(sentence(&format!(
        "after {} {words} in the {} that were watched{who}",
        and(&events),
        seconds(least)
    )))
}

/// The faults that all on this side noticed, and those that some did.
fn somebody(comparison: &Comparison, side: &Side) -> Vec<String> {
    let all = seen(comparison, side);
    let everybody: Vec<&Seen<'_>> = all.iter().filter(|s| s.everybody()).collect();
    let mut out = Vec::new();
    if !everybody.is_empty() {
        let within = |s: &[&Seen<'_>]| {
            let slowest = s.iter().map(|s| s.slowest()).max().unwrap_or(0);
            format!(" within {}", time(slowest))
        };
        let events = events(
            &everybody,
            |s| alike(&all, &s.fault.kind, |s| s.everybody()),
            within,
        );
        out.push(sentence(&format!("{} {}", side.all, and(&events))));
    }
    let mixed = all.iter().filter(|s| !s.nobody() && !s.everybody());
    let mixed: Vec<String> = mixed.map(|s| in_part(comparison, s, side)).collect();
    if !mixed.is_empty() {
        out.push(sentence(&shorten(mixed)));
    }
    out
}

/// Each fault with what `more` says of it; those that went `alike` once for all conditions.
fn events(
    seen: &[&Seen<'_>],
    alike: impl Fn(&Seen<'_>) -> bool,
    more: impl Fn(&[&Seen<'_>]) -> String,
) -> Vec<String> {
    let mut said: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for s in seen {
        if !alike(s) {
            out.push(event(s, true) + &more(&[s]));
        } else if !said.contains(&s.fault.kind.as_str()) {
            said.push(&s.fault.kind);
            let of_kind: Vec<&Seen<'_>> = seen
                .iter()
                .filter(|o| o.fault.kind == s.fault.kind)
                .copied()
                .collect();
            out.push(event(s, false) + &more(&of_kind));
        }
    }
    let left = out.len().saturating_sub(NAMED);
    out.truncate(NAMED);
    if left > 0 {
        out.push(format!("{left} more in the table"));
    }
    out
}

/// A fault on which some noticed and some did not.
fn in_part(comparison: &Comparison, seen: &Seen<'_>, side: &Side) -> String {
    let is_client = side.all == CLIENT.all;
    let (mut soon, mut never, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let mut slowest = 0;
    let mut watched = f64::INFINITY;
    for (i, n) in &seen.variants {
        let who = name(comparison, *i).to_owned();
        if noticed_by_all(n) {
            soon.push(who);
            slowest = slowest.max(n.max_ns.unwrap_or(0));
        } else if n.detected == 0 && n.undetected > 0 {
            never.push(who);
            watched = watched.min(n.watched_s);
        } else if n.undetected > 0 {
            let (some, all, watched) = (whole(n.undetected), whole(n.affected), seconds(n.watched_s));
            parts.push(if is_client {
                format!("{some} of {all} {who} clients had not noticed after {watched}")
            } else {
                format!("after {watched} it had not noticed on {some} of {all} {who} sessions")
            });
        } else {
            parts.push(format!(
                "{} of {} {who} sessions are known to have noticed",
                whole(n.detected),
                whole(n.affected)
            ));
        }
    }
    let side_of = if is_client { "clients" } else { "the server" };
    if !never.is_empty() {
        let text = format!(
            "{side_of} noticed nothing in {} with {}",
            seconds(watched),
            and(&never)
        );
        parts.insert(0, text);
    }
    if !soon.is_empty() {
        let all = if is_client {
            "all clients noticed"
        } else {
            "the server noticed"
        };
        parts.insert(0, format!("{all} within {} with {}", time(slowest), and(&soon)));
    }
    format!("after {} {}", event(seen, true), parts.join(", "))
}

/// A fault as a noun: `a black hole (no heartbeat)`.
fn event(seen: &Seen<'_>, with_place: bool) -> String {
    let kind = seen.fault.kind.as_str();
    let mut text = match kind {
        "fin" => "an orderly end (fin)".to_owned(),
        "rst" => "a reset".to_owned(),
        "freeze" => "a freeze".to_owned(),
        "half-open" => "a half-open connection".to_owned(),
        "crash" => "a crash of the server".to_owned(),
        "stop" => "a stop of the server".to_owned(),
        "restart" => "a restart of the server".to_owned(),
        "blackhole" => "a black hole".to_owned(),
        "link-down" => "a lost link".to_owned(),
        other => other.to_owned(),
    };
    let rest = beside_the_kind(&seen.place, kind);
    if with_place && !rest.is_empty() {
        text = match text.strip_suffix(" (fin)") {
            Some(bare) => format!("{bare} (fin, {rest})"),
            None => format!("{text} ({rest})"),
        };
    }
    if with_place && !seen.fault.at.is_empty() {
        text.push_str(&format!(" {}", seen.fault.at));
    }
    text
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
fn shorten(mut parts: Vec<String>) -> String {
    let more = parts.len().saturating_sub(NAMED_LOSSES);
    parts.truncate(NAMED_LOSSES);
    if more > 0 {
        parts.push(format!("and so on in {more} more places"));
    }
    parts.join("; ")
}

fn time(ns: u64) -> String {
    show_alone(Quantity::Nanoseconds, ns as f64)
}
