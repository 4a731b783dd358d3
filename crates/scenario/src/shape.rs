//! The shape of a file: a parsed TOML tree becomes a `ScenarioFile`, or every misplaced key and value at once.

use std::ops::Range;

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::diagnose::{Origins, Problem, quoted};
use crate::raw::ScenarioFile;
use crate::schema::home_of;
use crate::suggest::closest;

/// Sections that the design names and this version does not run.
const PLANNED_SECTIONS: [&str; 0] = [];

/// Enough to read, and a bound on the work for a file that is wrong throughout.
const MOST_MISFITS: usize = 20;

/// Parses a text as TOML.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Problem> {
    DeTable::parse(text).map_err(|error| not_toml(&error, 0))
}

/// A syntax error, in a text that begins at `base`.
pub(crate) fn not_toml(error: &toml::de::Error, base: usize) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let duplicate = error.message() == "duplicate key";
    let (message, hint) = match duplicate {
        true => ("a key is given twice", "keep one of the two"),
        false => (
            "not valid TOML",
            r#"texts stand in quotes, as in warmup = "3s"; sections in brackets"#,
        ),
    };
    Problem::at(base + span.start..base + span.end, message, error.message()).hint(hint)
}

/// The file's shape, and what did not fit: each misfit is taken out of the tree until the rest is a scenario file.
pub(crate) fn read(
    tree: &Spanned<DeTable<'_>>,
    origins: &Origins,
) -> Result<(ScenarioFile, Vec<Problem>), Vec<Problem>> {
    let mut rest = tree.clone();
    let mut problems = Vec::new();
    loop {
        let error = match ScenarioFile::deserialize(Deserializer::from(rest.clone())) {
            Ok(file) => return Ok((file, problems)),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| origins.end_of_file());
        let mut path = Vec::new();
        let removed = remove(rest.get_mut(), &span, &mut path);
        problems.push(misfit(&error, span, &path));
        if !removed || problems.len() >= MOST_MISFITS {
            return Err(problems);
        }
    }
}

/// Takes the entry whose key or value lies at `span` out of the tree; `path` then holds its key and those above.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let lies_at = |place: Range<usize>| place == *span;
    let found = table
        .iter()
        .find(|(key, value)| lies_at(key.span()) || lies_at(value.span()));
    if let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) {
        table.remove(key.as_str());
        path.push(key);
        return true;
    }
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        let removed = match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span, path),
            DeValue::Array(items) => items.iter_mut().any(|item| match item.get_mut() {
                DeValue::Table(inner) => remove(inner, span, path),
                _ => false,
            }),
            _ => false,
        };
        if removed {
            return true;
        }
        path.pop();
    }
    // An item of a list goes with its list.
    let holds = |place: Range<usize>| place.start <= span.start && span.end <= place.end;
    let found = table
        .iter()
        .find(|(_, value)| value.get_ref().is_array() && holds(value.span()));
    let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) else {
        return false;
    };
    table.remove(key.as_str());
    path.push(key);
    true
}

/// Says in our words what serde found.
fn misfit(error: &toml::de::Error, span: Range<usize>, path: &[String]) -> Problem {
    let message = error.message();
    let key = path.last().map_or("", String::as_str);
    let outer = &path[..path.len().saturating_sub(1)];
    if let Some((_, expected)) = message.rsplit_once(", expected ")
        && message.starts_with("unknown field")
    {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        return unknown_key(span, key, outer, &known);
    }
    if let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|m| m.split_once(", expected "))
    {
        let message = format!("{} is a value of the wrong kind", quoted(&path.join(".")));
        return Problem::at(span, message, in_our_words(found))
            .hint(format!("write {}", in_our_words(expected)));
    }
    // What is left are numbers that no type holds.
    Problem::at(span, format!("{} cannot be read", quoted(key)), message).hint("write a smaller number")
}

/// serde speaks of sequences and maps.
fn in_our_words(kind: &str) -> &str {
    match kind {
        "sequence" => "a list",
        "map" | "a map" => "a table",
        other => other,
    }
}

fn unknown_key(span: Range<usize>, key: &str, outer: &[String], known: &[&str]) -> Problem {
    let place = match outer {
        [] => "at the top of a scenario".to_owned(),
        outer => format!("in {}", quoted(&outer.join("."))),
    };
    let available = format!("keys {place}: {}", known.join(", "));
    if outer.is_empty() && PLANNED_SECTIONS.contains(&key) {
        let message = format!("{} is planned, but this version does not run it", quoted(key));
        return Problem::at(span, message, "not available yet").hint(available);
    }
    let problem = Problem::at(
        span,
        format!("unknown key {} {place}", quoted(key)),
        "unknown key",
    );
    if let Some(meant) = closest(key, known.iter().copied()) {
        return problem.hint(format!("did you mean `{meant}`?"));
    }
    match home_of(key) {
        Some(section) => problem.hint(format!("`{key}` belongs to [{section}]")),
        None => problem.hint(available),
    }
}
