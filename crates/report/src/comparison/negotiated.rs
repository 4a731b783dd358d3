//! What was negotiated: what the connections of each variant agreed on with their peer, on as few lines as tell it.

use pushmark_measure::Negotiation;
use pushmark_results::run::Run;
use serde::Serialize;

use super::{VariantName, finished};
use crate::escape::visible;
use crate::units::whole;

/// What sessions of some variants agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agreed {
    /// The variants, as shown.
    pub variants: Vec<String>,
    /// The settings under which they did; empty where none vary, or all agreed on the same.
    pub condition: String,
    /// What it was, from the connections themselves.
    pub agreed: String,
    /// Sessions that agreed on it, in all repeats.
    pub sessions: u64,
    /// Sessions in all.
    pub of: u64,
    /// TCP connections that carried all of them.
    pub connections: u64,
    /// Connections that took up the keys of an earlier one.
    pub resumed: u64,
    /// All of it on one line.
    pub text: String,
}

/// Under which condition, what in all, and in each trial how many sessions on how many connections.
type Told = (String, Negotiation, Vec<(u64, u64)>);

/// The lines of a run: one for each variant and condition, those that say the same taken together.
pub(super) fn lines(run: &Run, variants: &[VariantName], columns: &[Vec<Option<usize>>]) -> Vec<Agreed> {
    let mut lines: Vec<Agreed> = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        // Points that differ by a number alone agree on the same things.
        let mut conditions: Vec<Told> = Vec::new();
        for cell in columns.iter().filter_map(|column| *column.get(index)?) {
            let Some(condition) = run.manifest.plan.cells.get(cell).map(|c| visible(&c.condition)) else {
                continue;
            };
            let at = conditions.iter().position(|(known, ..)| *known == condition);
            let at = at.unwrap_or_else(|| {
                conditions.push((condition, Negotiation::default(), Vec::new()));
                conditions.len() - 1
            });
            for (_, summary) in finished(run, cell) {
                let n = &summary.negotiation;
                conditions[at].1.merge(n);
                conditions[at].2.push((n.sessions(), n.connections));
            }
        }
        // What varies may have nothing to do with it.
        let same = |a: &Negotiation, b: &Negotiation| {
            a.asked_to_resume == b.asked_to_resume && a.agreed.keys().eq(b.agreed.keys())
        };
        if let Some((first, rest)) = conditions.split_first_mut()
            && rest.iter().all(|(_, sum, _)| same(&first.1, sum))
        {
            first.0.clear();
            for (_, sum, each) in rest {
                first.1.merge(sum);
                first.2.append(each);
            }
            conditions.truncate(1);
        }
        for (condition, sum, each) in conditions {
            for (at, (words, sessions)) in sum.agreed.iter().enumerate() {
                let is_last = at + 1 == sum.agreed.len();
                push(
                    &mut lines,
                    variant,
                    &condition,
                    (words, *sessions, is_last),
                    &sum,
                    &each,
                );
            }
        }
    }
    let mut merged: Vec<Agreed> = Vec::new();
    for line in lines {
        match merged
            .iter_mut()
            .find(|l| l.condition == line.condition && l.text == line.text)
        {
            Some(same) => same.variants.extend(line.variants),
            None => merged.push(line),
        }
    }
    for line in &mut merged {
        let condition = match line.condition.as_str() {
            "" => String::new(),
            words => format!(" ({words})"),
        };
        line.text = format!("{}{condition}: {}", line.variants.join(", "), line.text);
    }
    merged
}

fn push(
    lines: &mut Vec<Agreed>,
    variant: &VariantName,
    condition: &str,
    (words, sessions, is_last): (&str, u64, bool),
    sum: &Negotiation,
    each: &[(u64, u64)],
) {
    let (agreed, of) = (visible(words), sum.sessions());
    let shared = each.iter().any(|(sessions, connections)| sessions > connections);
    let what = if shared { "streams" } else { "sessions" };
    let trial = |of: fn(&(u64, u64)) -> u64| {
        let (least, most) = (each.iter().map(of).min(), each.iter().map(of).max());
        match (least.unwrap_or(0), most.unwrap_or(0)) {
            (least, most) if least == most => whole(least),
            (least, most) => format!("{}…{}", whole(least), whole(most)),
        }
    };
    let resumed = match (sum.asked_to_resume || sum.resumed > 0, sum.resumed) {
        (false, _) => String::new(),
        (true, resumed) => format!(
            ", {} of {} connections resumed",
            whole(resumed),
            whole(sum.connections)
        ),
    };
    let on = format!(
        "{} {what} on {} connections",
        trial(|(sessions, _)| *sessions),
        trial(|(_, connections)| *connections),
    );
    let share = format!("{} of {} sessions", whole(sessions), whole(of));
    // Which of them were on which connections is not known: where they agreed on several things, what holds for all is said once.
    let text = match (sum.agreed.len(), is_last) {
        (..=1, _) => format!("{agreed}, {on} ({share}{resumed})"),
        (_, false) => format!("{agreed}, {share}"),
        (_, true) => format!("{agreed}, {share}; together {on}{resumed}"),
    };
    lines.push(Agreed {
        variants: vec![variant.label.clone()],
        condition: condition.to_owned(),
        agreed,
        sessions,
        of,
        connections: sum.connections,
        resumed: sum.resumed,
        text,
    });
}
