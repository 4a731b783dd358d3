//! The answer in words: one or two sentences over the table, claiming only what clear winners back.

mod aftermath;
mod claim;
mod noticing;

use pushmark_measure::Grade;

use crate::comparison::{Comparison, Point, Value, WorkloadKind};
use crate::units::{Quantity, percent, show_alone, whole};
use claim::{Claim, and, name, place, quoted, spot, takes_part, undisturbed};

/// How many losses are named one by one.
const NAMED_LOSSES: usize = 3;
/// How many of those that lost nothing are named.
const NAMED_SOUND: usize = 6;

/// The answer to the run's question, true to the numbers.
pub fn answer(comparison: &Comparison) -> String {
    if comparison.points.is_empty() || comparison.quality.trials_finished == 0 {
        return "No trial finished: there is nothing to compare.".to_owned();
    }
    let mut sentences = Vec::new();
    if comparison.quick {
        sentences.push("This was a smoke run.".to_owned());
    }
    sentences.extend(aftermath::sentences(comparison));
    match undisturbed(comparison).next_back() {
        Some(point) => {
            sentences.extend(speed(comparison, point));
            sentences.extend(cost(comparison, point));
        }
        None if comparison.variants.len() > 1 => sentences.push(
            "Sessions were cut off on purpose, so nobody is called faster or cheaper: what never arrives is never late."
                .to_owned(),
        ),
        None => (),
    }
    sentences.extend(losses(comparison));
    sentences.extend(left_out(comparison));
    let quality = &comparison.quality;
    if quality.trials_finished < quality.trials_planned {
        sentences.push(format!(
            "Only {} of {} trials finished.",
            quality.trials_finished, quality.trials_planned
        ));
    }
    let columns = || comparison.points.iter().flat_map(|p| &p.columns);
    if columns().any(|c| c.grade == Some(Grade::Suspect)) {
        sentences.push("Some trials are suspect: the verdict says why.".to_owned());
    }
    sentences.join(" ")
}

/// The words for being fast, by workload: a claim's verb, and the measure's noun.
fn fast(workload: WorkloadKind) -> (&'static str, &'static str, [&'static str; 2]) {
    match workload {
        WorkloadKind::Push => (
            "delivered soonest",
            "latency",
            ["latency_ns_p99", "latency_ns_p50"],
        ),
        WorkloadKind::Echo => (
            "answered soonest",
            "round-trip latency",
            ["latency_ns_p99", "latency_ns_p50"],
        ),
        WorkloadKind::Connect => (
            "connected soonest",
            "connect time",
            ["connect_time_ns_p99", "connect_time_ns_p50"],
        ),
    }
}

fn speed(comparison: &Comparison, point: &Point) -> Option<String> {
    let (verb, noun, [tail_key, middle_key]) = fast(comparison.workload);
    let (tail, middle) = (
        Claim::new(comparison, point, tail_key)?,
        Claim::new(comparison, point, middle_key)?,
    );
    let at = place(comparison, point);
    match tail.medians.as_slice() {
        [] => return Some(sentence(&format!("{at}no {noun} can be stated"))),
        [(i, p99)] => {
            let show = |ns: f64| show_alone(Quantity::Nanoseconds, ns);
            let p50 = middle.medians.first().map(|(_, ns)| show(*ns))?;
            let who = name(comparison, *i);
            return Some(sentence(&format!(
                "{at}{who} had a {noun} of p50 {p50} and p99 {}",
                show(*p99)
            )));
        }
        _ => (),
    }
    if let Some(winner) = tail.row.winner {
        let mut text = tail.won(winner, verb, "p99 ", "");
        if let Some(other) = middle.row.winner.filter(|w| *w != winner) {
            text.push_str(&format!(
                "; at the median it was {}: {}",
                name(comparison, other),
                middle.figures()
            ));
        }
        text.push_str(&elsewhere(comparison, tail_key, Some(winner)));
        return Some(sentence(&text));
    }
    if let Some(winner) = middle.row.winner {
        let who = name(comparison, winner);
        let why = tail.undecided("p99");
        return Some(sentence(&format!(
            "{at}{who} {verb} at the median: p50 {}; {why}",
            middle.figures()
        )));
    }
    let rest = elsewhere(comparison, tail_key, None);
    Some(sentence(&format!(
        "{at}{}: p99 {}{rest}",
        tail.undecided(noun),
        tail.figures()
    )))
}

fn cost(comparison: &Comparison, point: &Point) -> Option<String> {
    let claim =
        Claim::new(comparison, point, "server_cpu_us_per_delivery").filter(|c| c.medians.len() > 1)?;
    Some(sentence(&match claim.row.winner {
        Some(winner) => claim.won(winner, "cost the server least CPU", "", " a delivery"),
        None if comparison.repeats < 2 => {
            let at = place(comparison, point);
            format!(
                "{at}the server spent {} of CPU a delivery, in that single repeat",
                claim.figures()
            )
        }
        None => {
            let why = claim.undecided("the server's CPU per delivery");
            format!("{}{why}: {}", place(comparison, point), claim.figures())
        }
    }))
}

fn losses(comparison: &Comparison) -> Option<String> {
    if comparison.workload == WorkloadKind::Connect {
        return failures(comparison);
    }
    let (mut lost, mut repeated, mut uncounted, mut told_before) = (Vec::new(), 0_u64, false, false);
    for point in &comparison.points {
        let at = if comparison.is_sweep() {
            format!(" {}", spot(comparison, &point.label))
        } else {
            String::new()
        };
        for i in 0..comparison.variants.len() {
            if point.columns.get(i).is_none_or(|c| c.finished == 0) {
                continue;
            }
            let sound = takes_part(point, i);
            let total = |key: &str| {
                point
                    .row(key)
                    .and_then(|r| r.values.get(i))
                    .and_then(Value::total)
            };
            let (Some(gone), Some(delivered)) = (total("lost"), total("delivered")) else {
                uncounted |= sound;
                continue;
            };
            repeated = repeated
                .saturating_add(total("duplicated").unwrap_or(0))
                .saturating_add(total("reordered").unwrap_or(0));
            // Where sessions were to come back, the gap has told it.
            let told = !point.aftermath.recovery.is_empty();
            if gone > 0 && told {
                told_before = true;
            } else if gone > 0 {
                let all = gone.saturating_add(delivered);
                let share = percent(gone as f64 / all as f64);
                lost.push(format!(
                    "{} lost {} of {} messages ({share}){at}",
                    name(comparison, i),
                    whole(gone),
                    whole(all)
                ));
            }
        }
    }
    if uncounted && lost.is_empty() {
        return Some("What was lost is not known for all.".to_owned());
    }
    if lost.is_empty() && told_before {
        return None;
    }
    if lost.is_empty() {
        let more = if repeated == 0 {
            ", duplicated or reordered"
        } else {
            ""
        };
        let sound: Vec<String> = (0..comparison.variants.len())
            .filter(|i| comparison.points.iter().all(|p| takes_part(p, *i)))
            .map(|i| name(comparison, i).to_owned())
            .collect();
        return match sound.len() {
            0 => None,
            // What was missed while cut off is in no session's books: the gap tells it.
            _ if comparison.is_interrupted() => {
                Some("No session lost a message that it was there for.".to_owned())
            }
            n if n == comparison.variants.len() => Some(format!("Nothing was lost{more}.")),
            n if n > NAMED_SOUND => Some(format!("With the {n} that take part nothing was lost{more}.")),
            _ => Some(format!("With {} nothing was lost{more}.", and(&sound))),
        };
    }
    let more = lost.len().saturating_sub(NAMED_LOSSES);
    lost.truncate(NAMED_LOSSES);
    if more > 0 {
        lost.push(format!("and so on in {more} more places"));
    }
    Some(sentence(&lost.join("; ")))
}

/// What failed, where opening sessions is all there is.
fn failures(comparison: &Comparison) -> Option<String> {
    let (mut failed, mut counted) = (Vec::new(), false);
    for point in &comparison.points {
        let row = point.row("sessions_failed")?;
        let at = if comparison.is_sweep() {
            format!(" {}", spot(comparison, &point.label))
        } else {
            String::new()
        };
        for (i, total) in row
            .values
            .iter()
            .enumerate()
            .filter_map(|(i, v)| Some((i, v.total()?)))
        {
            counted = true;
            if total > 0 {
                failed.push(format!(
                    "{} attempts failed with {}{at}",
                    whole(total),
                    name(comparison, i)
                ));
            }
        }
    }
    match (counted, failed.is_empty()) {
        (false, _) => None,
        (true, true) => Some("No attempt failed.".to_owned()),
        (true, false) => Some(sentence(&failed.join("; "))),
    }
}

/// Who is not part of the claims, and why.
fn left_out(comparison: &Comparison) -> Option<String> {
    if comparison.variants.len() < 2 {
        return None;
    }
    let (mut invalid, mut missing) = (Vec::new(), Vec::new());
    for i in 0..comparison.variants.len() {
        let columns = || {
            comparison
                .points
                .iter()
                .filter_map(|p| p.columns.get(i))
                .filter(|c| c.cell.is_some())
        };
        if columns().any(|c| c.grade == Some(Grade::Invalid)) {
            invalid.push(name(comparison, i).to_owned());
        } else if columns().any(|c| c.finished == 0) {
            missing.push(name(comparison, i).to_owned());
        }
    }
    let somewhere = if comparison.is_sweep() {
        " where that is so"
    } else {
        ""
    };
    let mut parts = Vec::new();
    if !invalid.is_empty() {
        parts.push(format!(
            "{} takes no part{somewhere}: invalid trials",
            and(&invalid)
        ));
    }
    if !missing.is_empty() {
        parts.push(format!(
            "{} takes no part{somewhere}: no trial finished",
            and(&missing)
        ));
    }
    (!parts.is_empty()).then(|| sentence(&parts.join("; ")))
}

/// What holds at the other points of a sweep, when it is not the same.
fn elsewhere(comparison: &Comparison, key: &str, here: Option<usize>) -> String {
    let mut by_winner: Vec<(Option<usize>, Vec<String>)> = Vec::new();
    let others = undisturbed(comparison).count().saturating_sub(1);
    for point in undisturbed(comparison).take(others) {
        let winner = point.row(key).and_then(|r| r.winner);
        let label = quoted(&point.short);
        match by_winner.iter_mut().find(|(w, _)| *w == winner) {
            Some((_, points)) => points.push(label),
            None => by_winner.push((winner, vec![label])),
        }
    }
    if by_winner.iter().all(|(winner, _)| *winner == here) {
        return String::new();
    }
    let at = if comparison.varies_conditions() {
        "with"
    } else {
        "at"
    };
    let parts: Vec<String> = by_winner
        .iter()
        .map(|(winner, points)| match winner {
            _ if *winner == here && here.is_some() => format!("{at} {} too", and(points)),
            Some(w) => format!("{at} {} it was {}", and(points), name(comparison, *w)),
            None => format!("{at} {} nobody was ahead beyond the spread", and(points)),
        })
        .collect();
    format!("; {}", parts.join(", "))
}

/// A full stop at its end, and a capital at its start unless a variant's name stands there.
fn sentence(text: &str) -> String {
    let lead = [
        "at ",
        "the ",
        "there ",
        "no ",
        "nobody ",
        "a single ",
        "too few ",
        "with ",
        "after ",
        "every ",
        "none of ",
        "slow ",
    ]
    .iter()
    .any(|w| text.starts_with(w));
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if lead => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        _ => format!("{text}."),
    }
}
