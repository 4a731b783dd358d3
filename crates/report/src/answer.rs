//! The answer in words: one or two sentences over the table, claiming only what clear winners back.

use pushmark_measure::Grade;

use crate::comparison::{Comparison, Point, Row, Value, WorkloadKind};
use crate::units::{Quantity, Unit, percent, show_alone, whole, with_unit};

/// How many of the others are named one by one.
const NAMED: usize = 4;
/// How many losses are named one by one.
const NAMED_LOSSES: usize = 3;

/// The answer to the run's question, true to the numbers.
pub fn answer(comparison: &Comparison) -> String {
    let Some(point) = comparison.last_point().filter(|_| comparison.quality.trials_finished > 0) else {
        return "No trial finished: there is nothing to compare.".to_owned();
    };
    let mut sentences = Vec::new();
    if comparison.quick {
        sentences.push("This was a smoke run.".to_owned());
    }
    sentences.extend(speed(comparison, point));
    sentences.extend(cost(comparison, point));
    sentences.extend(losses(comparison));
    sentences.extend(left_out(comparison));
    let columns = || comparison.points.iter().flat_map(|p| &p.columns);
    if columns().any(|c| c.grade == Some(Grade::Suspect)) {
        sentences.push("Some trials are suspect: the verdict says why.".to_owned());
    }
    sentences.join(" ")
}

/// The words for being fast, by workload: a claim's verb, and the measure's noun.
fn fast(workload: WorkloadKind) -> (&'static str, &'static str, [&'static str; 2]) {
    match workload {
        WorkloadKind::Push => ("delivered soonest", "latency", ["latency_ns_p99", "latency_ns_p50"]),
        WorkloadKind::Echo => ("answered soonest", "round-trip latency", ["latency_ns_p99", "latency_ns_p50"]),
        WorkloadKind::Connect => ("connected soonest", "connect time", ["connect_time_ns_p99", "connect_time_ns_p50"]),
    }
}

fn speed(comparison: &Comparison, point: &Point) -> Option<String> {
    let (verb, noun, [tail_key, middle_key]) = fast(comparison.workload);
    let (tail, middle) = (Claim::new(comparison, point, tail_key)?, Claim::new(comparison, point, middle_key)?);
    let at = place(comparison, point);
    match tail.medians.as_slice() {
        [] => return Some(sentence(&format!("{at}no {noun} can be stated"))),
        [(i, p99)] => {
            let show = |ns: f64| show_alone(Quantity::Nanoseconds, ns);
            let p50 = middle.medians.first().map(|(_, ns)| show(*ns))?;
            let who = name(comparison, *i);
            return Some(sentence(&format!("{at}{who} had a {noun} of p50 {p50} and p99 {}", show(*p99))));
        }
        _ => (),
    }
    if let Some(winner) = tail.row.winner {
        let mut text = tail.won(winner, verb, "p99 ", "");
        if let Some(other) = middle.row.winner.filter(|w| *w != winner) {
            text.push_str(&format!("; at the median it was {}: {}", name(comparison, other), middle.figures()));
        }
        text.push_str(&elsewhere(comparison, tail_key, Some(winner)));
        return Some(sentence(&text));
    }
    if let Some(winner) = middle.row.winner {
        let who = name(comparison, winner);
        let why = tail.undecided("p99");
        return Some(sentence(&format!("{at}{who} {verb} at the median: p50 {}; {why}", middle.figures())));
    }
    let rest = elsewhere(comparison, tail_key, None);
    Some(sentence(&format!("{at}{}: p99 {}{rest}", tail.undecided(noun), tail.figures())))
}

fn cost(comparison: &Comparison, point: &Point) -> Option<String> {
    let claim = Claim::new(comparison, point, "server_cpu_us_per_delivery").filter(|c| c.medians.len() > 1)?;
    Some(sentence(&match claim.row.winner {
        Some(winner) => claim.won(winner, "cost the server least CPU", "", " a delivery"),
        None => {
            let why = claim.undecided("the server's CPU per delivery");
            format!("{}{why}: {}", place(comparison, point), claim.figures())
        }
    }))
}

/// One measure at one point, of those that take part: invalid variants do not.
struct Claim<'a> {
    comparison: &'a Comparison,
    point: &'a Point,
    row: &'a Row,
    /// Each variant's median, in the order of columns.
    medians: Vec<(usize, f64)>,
}

impl<'a> Claim<'a> {
    fn new(comparison: &'a Comparison, point: &'a Point, key: &str) -> Option<Self> {
        let row = point.row(key)?;
        let values = row.values.iter().enumerate().filter(|(i, _)| takes_part(point, *i));
        let medians = values.filter_map(|(i, v)| v.spread().map(|s| (i, s.median))).collect();
        Some(Self { comparison, point, row, medians })
    }

    /// `x delivered soonest: p99 3.1 ms against …`, and where else that holds when it holds everywhere.
    fn won(&self, winner: usize, verb: &str, before: &str, after: &str) -> String {
        let points = &self.comparison.points;
        let everywhere = points.iter().all(|p| p.row(self.row.key).is_some_and(|r| r.winner == Some(winner)));
        let (who, at, figures) = (name(self.comparison, winner), place(self.comparison, self.point), self.figures());
        if self.comparison.is_sweep() && everywhere {
            format!("{who} {verb} at every point; {at}{before}{figures}{after}")
        } else {
            format!("{at}{who} {verb}: {before}{figures}{after}")
        }
    }

    /// Why nobody is ahead.
    fn undecided(&self, noun: &str) -> String {
        let values = || self.medians.iter().filter_map(|(i, _)| self.row.values.get(*i));
        if values().any(|v| matches!(v, Value::Spread { thin: true, .. })) {
            format!("too few samples tell a difference in {noun}")
        } else if values().filter_map(Value::spread).any(|s| s.repeats < 2) {
            format!("a single repeat cannot tell a difference in {noun} from noise")
        } else {
            format!("there is no difference in {noun} beyond the spread between repeats")
        }
    }

    /// Medians in one unit: the winner's first, then the others with their names.
    fn figures(&self) -> String {
        let unit = Unit::fitting(self.row.quantity, self.medians.iter().map(|(_, m)| *m));
        let alone = |m: f64| with_unit(&unit.show(m), unit.label);
        let named = |(i, m): &(usize, f64)| format!("{} ({})", unit.show(*m), name(self.comparison, *i));
        let is_winner = |(i, _): &&(usize, f64)| Some(*i) == self.row.winner;
        let best = self.medians.iter().find(is_winner).map(|(_, m)| alone(*m));
        let mut others: Vec<(usize, f64)> = self.medians.iter().filter(|m| !is_winner(m)).copied().collect();
        others.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        match (best, others.as_slice()) {
            (Some(best), []) => best,
            (Some(best), all) if all.len() <= NAMED => {
                format!("{best} against {}", and(&all.iter().map(named).collect::<Vec<_>>()))
            }
            (Some(best), [least, .., most]) => {
                let (least, most) = (unit.show(least.1), unit.show(most.1));
                format!("{best} against {least} to {most} with the other {}", others.len())
            }
            (None, [first, rest @ ..]) if rest.len() < NAMED => {
                let first = format!("{} ({})", alone(first.1), name(self.comparison, first.0));
                and(&[first].into_iter().chain(rest.iter().map(named)).collect::<Vec<_>>())
            }
            (None, [least, .., most]) => format!("{} to {}", unit.show(least.1), alone(most.1)),
            (_, _) => String::new(),
        }
    }
}

fn losses(comparison: &Comparison) -> Option<String> {
    if comparison.workload == WorkloadKind::Connect {
        return failures(comparison);
    }
    let (mut lost, mut repeated, mut uncounted) = (Vec::new(), 0_u64, false);
    for point in &comparison.points {
        let at = if comparison.is_sweep() { format!(" at {}", point.label) } else { String::new() };
        for i in 0..comparison.variants.len() {
            if point.columns.get(i).is_none_or(|c| c.finished == 0) {
                continue;
            }
            let sound = takes_part(point, i);
            let total = |key: &str| point.row(key).and_then(|r| r.values.get(i)).and_then(Value::total);
            let (Some(gone), Some(delivered)) = (total("lost"), total("delivered")) else {
                uncounted |= sound;
                continue;
            };
            repeated = repeated.saturating_add(total("duplicated").unwrap_or(0)).saturating_add(total("reordered").unwrap_or(0));
            if gone > 0 {
                let all = gone.saturating_add(delivered);
                let share = percent(gone as f64 / all as f64);
                lost.push(format!("{} lost {} of {} messages ({share}){at}", name(comparison, i), whole(gone), whole(all)));
            }
        }
    }
    if uncounted && lost.is_empty() {
        return Some("What was lost is not known for all.".to_owned());
    }
    if lost.is_empty() {
        let more = if repeated == 0 { ", duplicated or reordered" } else { "" };
        let sound: Vec<String> = (0..comparison.variants.len())
            .filter(|i| comparison.points.iter().all(|p| takes_part(p, *i)))
            .map(|i| name(comparison, i).to_owned())
            .collect();
        return match sound.len() {
            0 => None,
            n if n == comparison.variants.len() => Some(format!("Nothing was lost{more}.")),
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
        let at = if comparison.is_sweep() { format!(" at {}", point.label) } else { String::new() };
        for (i, total) in row.values.iter().enumerate().filter_map(|(i, v)| Some((i, v.total()?))) {
            counted = true;
            if total > 0 {
                failed.push(format!("{} attempts failed with {}{at}", whole(total), name(comparison, i)));
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
        let columns = || comparison.points.iter().filter_map(|p| p.columns.get(i)).filter(|c| c.cell.is_some());
        if columns().any(|c| c.grade == Some(Grade::Invalid)) {
            invalid.push(name(comparison, i).to_owned());
        } else if columns().any(|c| c.finished == 0) {
            missing.push(name(comparison, i).to_owned());
        }
    }
    let somewhere = if comparison.is_sweep() { " where that is so" } else { "" };
    let mut parts = Vec::new();
    if !invalid.is_empty() {
        parts.push(format!("{} takes no part{somewhere}: invalid trials", and(&invalid)));
    }
    if !missing.is_empty() {
        parts.push(format!("{} takes no part{somewhere}: no trial finished", and(&missing)));
    }
    (!parts.is_empty()).then(|| sentence(&parts.join("; ")))
}

/// Whether claims may rest on a column: it has a finished trial, and none of them is invalid.
fn takes_part(point: &Point, column: usize) -> bool {
    point.columns.get(column).and_then(|c| c.grade).is_some_and(|g| g < Grade::Invalid)
}

/// What holds at the other points of a sweep, when it is not the same.
fn elsewhere(comparison: &Comparison, key: &str, here: Option<usize>) -> String {
    let mut by_winner: Vec<(Option<usize>, Vec<String>)> = Vec::new();
    let others = comparison.points.len().saturating_sub(1);
    for point in comparison.points.iter().take(others) {
        let winner = point.row(key).and_then(|r| r.winner);
        match by_winner.iter_mut().find(|(w, _)| *w == winner) {
            Some((_, points)) => points.push(point.short.clone()),
            None => by_winner.push((winner, vec![point.short.clone()])),
        }
    }
    if by_winner.iter().all(|(winner, _)| *winner == here) {
        return String::new();
    }
    let parts: Vec<String> = by_winner
        .iter()
        .map(|(winner, points)| match winner {
            _ if *winner == here && here.is_some() => format!("at {} too", and(points)),
            Some(w) => format!("at {} it was {}", and(points), name(comparison, *w)),
            None => format!("at {} nobody was ahead beyond the spread", and(points)),
        })
        .collect();
    format!("; {}", parts.join(", "))
}

/// `At 5,000 connections ` in a sweep.
fn place(comparison: &Comparison, point: &Point) -> String {
    if comparison.is_sweep() { format!("at {} ", point.label) } else { String::new() }
}

fn name(comparison: &Comparison, variant: usize) -> &str {
    comparison.variants.get(variant).map_or("?", |v| &v.label)
}

fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

/// A full stop at its end, and a capital at its start unless a variant's name stands there.
fn sentence(text: &str) -> String {
    let lead = ["at ", "there ", "no ", "a single ", "too few "].iter().any(|w| text.starts_with(w));
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if lead => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        _ => format!("{text}."),
    }
}
