//! `[compression]`: how what is sent is compressed.

use serde_spanned::Spanned;

use super::condition::{Condition, times};
use super::values::{Findings, Swept};
use crate::diagnose::{Problem, quoted};
use crate::plan::{Catalogue, Compression, Takeover};
use crate::raw::{Given, ScenarioFile};

const KINDS: &[(&str, bool)] = &[("none", false), ("deflate", true)];
const SIDES: &[(&str, Takeover)] = &[("server", Takeover::Server), ("client", Takeover::Client)];
const WIDEST_BITS: u8 = 15;
const USUAL_LEVEL: u8 = 6;

/// Reads it.
pub(super) fn compressions(
    findings: &mut Findings,
    file: &ScenarioFile,
    catalogue: &Catalogue,
) -> Swept<Option<Compression>> {
    let none = Swept::one(None);
    let Some(section) = &file.compression else {
        return none;
    };
    let (place, section) = (section.span(), &section.get_ref().0);
    let bits = findings.count_u32(&section.window_bits, "compression.window-bits", 9..=15);
    let level = findings.count_u32(&section.level, "compression.level", 1..=9);
    let takeovers = match &section.context_takeover {
        None => Some(Swept::one(Takeover::Both)),
        Some(value) => findings.swept(value, "compression.context-takeover", PartialEq::eq, takeover),
    };
    let Some(value) = &section.kind else {
        findings.missing(Some(place), "`compression.kind`", r#"kind = "deflate""#);
        return none;
    };
    let kinds = findings.swept(value, "compression.kind", PartialEq::eq, |findings, value| {
        let text = findings.text(value, "compression.kind", "a word in quotes", "\"deflate\"")?;
        findings.word(text, value.span(), "compression.kind", KINDS)
    });
    let (Some(kinds), Some(takeovers)) = (kinds, takeovers) else {
        return none;
    };
    let deflates = kinds.values.contains(&true);
    let settings = [
        ("context-takeover", &section.context_takeover),
        ("window-bits", &section.window_bits),
        ("level", &section.level),
    ];
    for (key, field) in settings {
        if let (Some(value), false) = (field, deflates) {
            let message = format!("`compression.{key}` has no effect here");
            let problem = Problem::at(value.span(), message, "not looked at");
            findings.add(problem.hint("it belongs to the kind \"deflate\""));
        }
    }
    if deflates {
        refuse_in_process(findings, file, catalogue);
    }
    let mut values = Vec::new();
    for deflate in kinds.values {
        if !deflate {
            values.push(None);
            continue;
        }
        values.extend(takeovers.values.iter().map(|takeover| {
            Some(Compression {
                context_takeover: *takeover,
                window_bits: bits
                    .and_then(|bits| u8::try_from(bits).ok())
                    .unwrap_or(WIDEST_BITS),
                level: level
                    .and_then(|level| u8::try_from(level).ok())
                    .unwrap_or(USUAL_LEVEL),
            })
        }));
    }
    Swept {
        values,
        list: kinds.list.or(takeovers.list.filter(|_| deflates)),
    }
}

fn takeover(findings: &mut Findings, value: &Spanned<Given>) -> Option<Takeover> {
    const KEY: &str = "compression.context-takeover";
    match value.get_ref() {
        Given::Bool(true) => Some(Takeover::Both),
        Given::Bool(false) => Some(Takeover::None),
        Given::Text(text) => findings.word(text, value.span(), KEY, SIDES),
        _ => {
            let message = format!("`{KEY}` is neither true nor false nor a side");
            let problem = Problem::at(value.span(), message, "no such thing");
            findings.add(problem.hint("true, false, \"server\" or \"client\""));
            None
        }
    }
}

/// What never leaves its process is sent as it is.
fn refuse_in_process(findings: &mut Findings, file: &ScenarioFile, catalogue: &Catalogue) {
    let Some(Given::List(names)) = file.transports.as_ref().map(Spanned::get_ref) else {
        return;
    };
    for name in names {
        let Given::Text(text) = name.get_ref() else {
            continue;
        };
        let known = catalogue.transports.iter().find(|known| known.name == *text);
        if known.is_some_and(|known| known.in_process) {
            let message = format!("{} has nothing that could be compressed", quoted(text));
            let problem = Problem::at(name.span(), message, "in-process");
            findings.add(problem.hint("take it out of the transports"));
        }
    }
}

/// Every condition with every compression.
pub(super) fn multiply(conditions: Vec<Condition>, swept: &Swept<Option<Compression>>) -> Vec<Condition> {
    times(conditions, swept, |condition, compression| {
        condition.compression = compression;
        let words = match compression.map(|asked| asked.context_takeover) {
            None => "not compressed",
            Some(Takeover::Both) => "deflate",
            Some(Takeover::None) => "deflate, no context takeover",
            Some(Takeover::Server) => "deflate, context takeover of the server",
            Some(Takeover::Client) => "deflate, context takeover of the client",
        };
        words.to_owned()
    })
}
