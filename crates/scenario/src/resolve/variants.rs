//! Variants: the scenario's transports times its carriers, as far as the catalogue has them.

use std::ops::Range;

use serde_spanned::Spanned;

use super::values::Findings;
use super::workload::Kind;
use crate::diagnose::{Problem, quoted};
use crate::plan::{Catalogue, CatalogueEntry, Variant};
use crate::raw::{Given, ScenarioFile};
use crate::suggest::closest;

/// Every pair of a transport and a carrier that the file asks for.
pub(super) fn variants(
    findings: &mut Findings,
    file: &ScenarioFile,
    kind: Option<Kind>,
    catalogue: &Catalogue,
) -> Vec<Variant> {
    let known: Vec<&str> = catalogue
        .transports
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let Some(value) = &file.transports else {
        let outside = catalogue.transports.iter().filter(|entry| !entry.in_process);
        let example: Vec<&str> = outside.take(2).map(|entry| entry.name.as_str()).collect();
        findings.missing(None, "`transports`", &format!("transports = {example:?}"));
        return Vec::new();
    };
    let transports = names(findings, value, "transports", &known);
    let entry = |name: &str| catalogue.transports.iter().find(|entry| entry.name == name);
    let chosen: Vec<(&CatalogueEntry, Range<usize>)> = transports
        .iter()
        .flatten()
        .filter_map(|(name, span)| entry(name).map(|entry| (entry, span.clone())))
        .collect();
    for (entry, span) in chosen.iter().filter(|(entry, _)| entry.in_process) {
        refuse_in_process(findings, entry, span, file, kind);
    }

    let Some(value) = &file.carriers else {
        let first = |entry: &CatalogueEntry| entry.carriers.first().map(|carrier| variant(entry, carrier));
        return chosen.iter().filter_map(|(entry, _)| first(entry)).collect();
    };
    let mut known_carriers: Vec<&str> = Vec::new();
    for carrier in catalogue.transports.iter().flat_map(|entry| &entry.carriers) {
        if !known_carriers.contains(&carrier.as_str()) {
            known_carriers.push(carrier);
        }
    }
    let carriers = names(findings, value, "carriers", &known_carriers);
    // With a name unknown on either side, what fits what is guesswork.
    let (Some(_), Some(carriers)) = (transports, carriers) else {
        return Vec::new();
    };

    let runs_over =
        |entry: &CatalogueEntry| format!("`{}` runs over {}", entry.name, entry.carriers.join(", "));
    for (carrier, span) in &carriers {
        if !chosen.iter().any(|(entry, _)| entry.carriers.contains(carrier)) {
            let message = format!("no transport of this scenario runs over {}", quoted(carrier));
            let all: Vec<String> = chosen.iter().map(|(entry, _)| runs_over(entry)).collect();
            findings.add(Problem::at(span.clone(), message, "fits none of them").hint(all.join("; ")));
        }
    }
    for (transport, span) in &chosen {
        if !carriers
            .iter()
            .any(|(carrier, _)| transport.carriers.contains(carrier))
        {
            let message = format!("`{}` runs over none of the carriers", transport.name);
            let problem = Problem::at(span.clone(), message, "left without a carrier");
            findings.add(
                problem
                    .also(value.span(), "the carriers")
                    .hint(runs_over(transport)),
            );
        }
    }
    let pairs = chosen
        .iter()
        .flat_map(|(entry, _)| carriers.iter().map(move |(carrier, _)| (entry, carrier)));
    pairs
        .filter(|(entry, carrier)| entry.carriers.contains(carrier))
        .map(|(entry, carrier)| variant(entry, carrier))
        .collect()
}

fn variant(entry: &CatalogueEntry, carrier: &str) -> Variant {
    Variant {
        transport: entry.name.clone(),
        carrier: carrier.to_owned(),
    }
}

/// A transport inside the process has nothing to connect to.
fn refuse_in_process(
    findings: &mut Findings,
    entry: &CatalogueEntry,
    span: &Range<usize>,
    file: &ScenarioFile,
    kind: Option<Kind>,
) {
    let why = if kind == Some(Kind::Connect) {
        "opens no connection that `connect` could time"
    } else if file.target.is_some() {
        "reaches no server, so it has no part in a scenario with a [target]"
    } else {
        return;
    };
    let message = format!(
        "`{}` runs inside the load generator's process: it {why}",
        entry.name
    );
    findings.add(Problem::at(span.clone(), message, "in-process").hint("take it out of the transports"));
}

/// A list of known names, each once; `None` if a problem was found.
fn names(
    findings: &mut Findings,
    value: &Spanned<Given>,
    key: &str,
    known: &[&str],
) -> Option<Vec<(String, Range<usize>)>> {
    let hint = format!("known {key}: {}", known.join(", "));
    let items = match value.get_ref() {
        Given::List(items) if !items.is_empty() => items,
        Given::List(_) => {
            findings.add(Problem::at(value.span(), format!("`{key}` is empty"), "no names").hint(hint));
            return None;
        }
        other => {
            let problem = Problem::at(value.span(), format!("`{key}` is not a list"), "not a list");
            findings.add(match other {
                Given::Text(name) if known.contains(&name.as_str()) => {
                    problem.hint(format!("write {key} = [\"{name}\"]"))
                }
                _ => problem.hint(hint),
            });
            return None;
        }
    };
    let mut names: Vec<(String, Range<usize>)> = Vec::new();
    let found_before = findings.problems.len();
    for item in items {
        let Given::Text(name) = item.get_ref() else {
            let problem = Problem::at(
                item.span(),
                format!("`{key}` holds something other than names"),
                "not a name",
            );
            findings.add(problem.hint(&hint));
            continue;
        };
        if let Some((_, first)) = names.iter().find(|(earlier, _)| earlier == name) {
            let problem = Problem::at(
                item.span(),
                format!("`{key}` names {} twice", quoted(name)),
                "again",
            );
            findings.add(
                problem
                    .also(first.clone(), "first here")
                    .hint("keep one of the two"),
            );
        } else if known.contains(&name.as_str()) {
            names.push((name.clone(), item.span()));
        } else {
            let problem = Problem::at(
                item.span(),
                format!("{} is not among the {key}", quoted(name)),
                "unknown",
            );
            findings.add(match closest(name, known.iter().copied()) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`? {hint}")),
                None => problem.hint(&hint),
            });
        }
    }
    (findings.problems.len() == found_before).then_some(names)
}
