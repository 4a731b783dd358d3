//! Who noticed that something broke, in words: neither side, one of them, all within some time.

use super::aftermath::{NAMED, shorten, time};
use super::claim::{and, name, takes_part};
use super::sentence;
use crate::comparison::{Comparison, FaultRow, Noticed, beside_the_kind};
use crate::units::{seconds, whole};

/// The sentences that apply: of the clients, and of the server.
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
    all: "every client that was hit noticed",
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
            "all clients that were hit noticed"
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
