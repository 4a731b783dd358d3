//! `[workload]`: what the sessions do.

use std::ops::Range;

use serde_spanned::Spanned;

use super::values::{Findings, Swept};
use crate::diagnose::{Problem, quoted};
use crate::plan::{Catalogue, Encoding, Messages, Pattern, Rate, Workload};
use crate::raw::{ScheduleField, Table, WorkloadSection};

/// The kinds of workload that this version runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Push,
    Echo,
    Connect,
}

const KINDS: &[(&str, Kind)] = &[
    ("push", Kind::Push),
    ("echo", Kind::Echo),
    ("connect", Kind::Connect),
];

/// Kinds that the design names and this version does not run.
const PLANNED_KINDS: [&str; 4] = ["rooms", "duplex", "stream", "idle"];

const LARGEST_BURST: u64 = 100_000;

/// `[workload]`, checked; rate and payload may still be swept.
#[derive(Debug)]
pub(super) struct WorkloadDraft {
    kind: Kind,
    pub(super) rates: Swept<Rate>,
    /// For `connect` a single zero that nobody looks at.
    pub(super) payloads_bytes: Swept<u32>,
    pattern: Pattern,
    pub(super) encodings: Swept<Encoding>,
}

const ENCODINGS: &[(&str, Encoding)] = &[
    ("text", Encoding::Text),
    ("binary", Encoding::Binary),
    ("json", Encoding::Json),
];

/// As it is written in a scenario.
pub(super) fn encoding_word(encoding: Encoding) -> &'static str {
    let found = ENCODINGS.iter().find(|(_, known)| *known == encoding);
    found.map_or("", |(word, _)| word)
}

impl WorkloadDraft {
    /// The workload at one point of a sweep.
    pub(super) fn at(&self, rate: Rate, payload_bytes: u32, encoding: Encoding) -> Workload {
        let messages = Messages {
            rate,
            pattern: self.pattern,
            payload_bytes,
            encoding,
        };
        match self.kind {
            Kind::Push => Workload::Push(messages),
            Kind::Echo => Workload::Echo(messages),
            Kind::Connect => Workload::Connect { rate },
        }
    }
}

/// Reads the kind alone: other sections depend on it.
pub(super) fn kind(
    findings: &mut Findings,
    section: Option<&Spanned<Table<WorkloadSection>>>,
) -> Option<Kind> {
    let section = section?;
    let Some(value) = &section.get_ref().0.kind else {
        findings.missing(Some(section.span()), "`workload.kind`", r#"kind = "push""#);
        return None;
    };
    let text = findings.text(value, "workload.kind", "a word in quotes", r#"kind = "push""#)?;
    if PLANNED_KINDS.contains(&text) {
        let message = format!(
            "workload {} is planned, but this version does not run it",
            quoted(text)
        );
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let problem = Problem::at(value.span(), message, "not available yet");
        findings.add(problem.hint(format!("available: {}", names.join(", "))));
        return None;
    }
    findings.word(text, value.span(), "workload.kind", KINDS)
}

/// Reads the rest of the section.
pub(super) fn workload(
    findings: &mut Findings,
    section: Option<&Spanned<Table<WorkloadSection>>>,
    kind: Option<Kind>,
    catalogue: &Catalogue,
) -> Option<WorkloadDraft> {
    let Some(section) = section else {
        findings.missing(
            None,
            "`[workload]`",
            r#"[workload] with kind = "push", rate = "10/s", payload = "200 B""#,
        );
        return None;
    };
    let (place, section) = (section.span(), &section.get_ref().0);
    let rates = match &section.rate {
        Some(value) => findings.swept(value, "workload.rate", same_rate, |findings, value| {
            findings.rate(value, "workload.rate")
        }),
        None => {
            findings.missing(Some(place.clone()), "`workload.rate`", r#"rate = "10/s""#);
            None
        }
    };
    let payloads_bytes = payloads(findings, section, place, kind, catalogue);
    let encodings = match &section.encoding {
        None => Some(Swept::one(Encoding::Text)),
        Some(value) => findings.swept(value, "workload.encoding", PartialEq::eq, |findings, value| {
            let text = findings.text(value, "workload.encoding", "a word in quotes", "\"text\"")?;
            findings.word(text, value.span(), "workload.encoding", ENCODINGS)
        }),
    };
    let pattern = section
        .schedule
        .as_ref()
        .and_then(|field| pattern(findings, field));
    if kind == Some(Kind::Connect) {
        let message_keys = [
            ("payload", section.payload.as_ref().map(Spanned::span)),
            ("schedule", section.schedule.as_ref().map(Spanned::span)),
            ("encoding", section.encoding.as_ref().map(Spanned::span)),
        ];
        for (key, span) in message_keys {
            let Some(span) = span else { continue };
            let message = format!("`workload.{key}` has no meaning for a `connect` workload");
            findings
                .add(Problem::at(span, message, "not for `connect`").hint("leave it out: nothing is sent"));
        }
    }
    Some(WorkloadDraft {
        kind: kind?,
        rates: rates?,
        payloads_bytes: payloads_bytes?,
        pattern: pattern.unwrap_or(Pattern::Uniform),
        encodings: encodings?,
    })
}

/// `10/s` and `600/m` are one point of a sweep.
fn same_rate(a: &Rate, b: &Rate) -> bool {
    a.per_second() == b.per_second()
}

fn payloads(
    findings: &mut Findings,
    section: &WorkloadSection,
    place: Range<usize>,
    kind: Option<Kind>,
    catalogue: &Catalogue,
) -> Option<Swept<u32>> {
    let range = catalogue.smallest_payload_bytes..=catalogue.largest_payload_bytes;
    match &section.payload {
        _ if kind == Some(Kind::Connect) => Some(Swept::one(0)),
        Some(value) => findings.swept(value, "workload.payload", u32::eq, |findings, value| {
            findings.size_bytes(value, "workload.payload", range.clone())
        }),
        None => {
            // Of a kind that could not be read nobody knows whether it needs one.
            if kind.is_some() {
                findings.missing(Some(place), "`workload.payload`", r#"payload = "200 B""#);
            }
            None
        }
    }
}

fn pattern(findings: &mut Findings, field: &Spanned<ScheduleField>) -> Option<Pattern> {
    match field.get_ref() {
        ScheduleField::Word(word) => {
            let words = &[("uniform", Pattern::Uniform), ("poisson", Pattern::Poisson)];
            if word == "bursts" {
                let problem = Problem::at(
                    field.span(),
                    "`workload.schedule`: how large is a burst?",
                    "no size",
                );
                findings.add(problem.hint("write schedule = { bursts = 5 }"));
                return None;
            }
            findings.word(word, field.span(), "workload.schedule", words)
        }
        ScheduleField::Table(table) => {
            let Some(value) = &table.bursts else {
                findings.missing(Some(field.span()), "the key of `workload.schedule`", "bursts = 5");
                return None;
            };
            let size = findings.count(value, "workload.schedule.bursts", 1..=LARGEST_BURST)?;
            Some(Pattern::Bursts {
                size: u32::try_from(size).ok()?,
            })
        }
    }
}
