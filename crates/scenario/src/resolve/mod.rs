//! From the file to the plan: every value checked, every list multiplied out, every default filled in, and all
//! problems found in one go.

mod compression;
mod condition;
mod expect;
mod gate;
mod load;
mod sharing;
mod sides;
mod sweep;
mod trouble;
mod values;
mod variants;
mod workload;

use std::time::Duration;

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::diagnose::{Origins, Problem, is_printable};
use crate::plan::{Catalogue, Plan};
use crate::raw::{Field, ScenarioFile};
use crate::units::show_duration;

use values::Findings;

/// Longer than this, a plan is a typing error and not a run.
const LONGEST_PLAN: Duration = Duration::from_secs(7 * 24 * 3600);

const LONGEST_QUESTION_CHARS: usize = 300;

/// What a file is checked against, apart from itself.
pub(crate) struct Surroundings<'s> {
    pub(crate) origins: &'s Origins,
    pub(crate) catalogue: &'s Catalogue,
    pub(crate) allow_remote: bool,
}

/// The plan of a file, still without its source; or its misfits and everything else that is wrong with it.
pub(crate) fn plan(
    file: ScenarioFile,
    misfits: Vec<Problem>,
    name: String,
    surroundings: &Surroundings<'_>,
) -> Result<Plan, Vec<Problem>> {
    let Surroundings {
        origins,
        catalogue,
        allow_remote,
    } = *surroundings;
    let mut findings = Findings::new(misfits, origins);

    // Each part says what it finds, also when an earlier one could not be read.
    let question = question(&mut findings, &file.question);
    let kind = workload::kind(&mut findings, file.workload.as_ref());
    let variants = variants::variants(&mut findings, &file, kind, catalogue);
    let load = load::load(&mut findings, file.load.as_ref(), kind);
    let workload = workload::workload(&mut findings, file.workload.as_ref(), kind, catalogue);
    let sides = sides::sides(&mut findings, &file, allow_remote);
    sides.sharing.check(&mut findings, &variants, catalogue);
    let compressions = compression::compressions(&mut findings, &file, catalogue);
    let troubles = trouble::troubles(&mut findings, &file, &sides.target);
    sweep::check_troubles(&mut findings, &file, kind, catalogue, load.as_ref(), &troubles);
    let expect = expect::expectations(&mut findings, file.expect.as_ref(), kind);
    let gate = gate::limits(&mut findings, file.gate.as_ref());
    let cells = match (&load, &workload) {
        (Some(load), Some(workload)) => {
            let settings = (&sides, &troubles, &compressions);
            sweep::cells(&mut findings, (&variants, catalogue), load, workload, settings)
        }
        _ => None,
    };

    match (question, load, cells) {
        (Some(question), Some(load), Some((axis, cells))) if findings.problems.is_empty() => Ok(Plan {
            name,
            question,
            source: String::new(),
            quick: false,
            seed: load.seed,
            repeats: load.repeats,
            axis,
            cells,
            expect,
            gate,
        }),
        _ => Err(findings.problems),
    }
}

/// The question alone.
pub(crate) fn question_of(tree: &Spanned<DeTable<'_>>, origins: &Origins) -> Result<String, Vec<Problem>> {
    let mut findings = Findings::new(Vec::new(), origins);
    let field = tree.get_ref().get("question").and_then(|value| {
        // Any TOML value can be read as a given one; one too large to hold is as good as missing.
        Deserialize::deserialize(ValueDeserializer::from(value.clone())).ok()
    });
    question(&mut findings, &field).ok_or(findings.problems)
}

fn question(findings: &mut Findings, field: &Field) -> Option<String> {
    let example = r#"question = "How long does a message take?""#;
    let Some(value) = field else {
        findings.missing(None, "`question`", example);
        return None;
    };
    let text = findings.text(value, "question", "a text", example)?;
    // Line breaks are the author's way to keep lines short.
    let question = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wrong = match question.chars().count() {
        0 => Some(("`question` is empty", "empty")),
        n if n > LONGEST_QUESTION_CHARS => Some(("`question` is too long", "too long")),
        _ if !is_printable(&question) => {
            Some(("`question` holds control characters", "not fit for a terminal"))
        }
        _ => None,
    };
    if let Some((message, label)) = wrong {
        let hint = format!("one plain sentence, {LONGEST_QUESTION_CHARS} characters at the most");
        findings.add(Problem::at(value.span(), message, label).hint(hint));
        return None;
    }
    Some(question)
}

/// Refuses a plan that would not end within a week.
pub(crate) fn check_length(
    plan: &Plan,
    tree: &Spanned<DeTable<'_>>,
    origins: &Origins,
) -> Result<(), Vec<Problem>> {
    let length = plan.least_duration();
    if length <= LONGEST_PLAN {
        return Ok(());
    }
    let section = tree.get_ref().get("load");
    let measure = section.and_then(|load| load.get_ref().get("measure"));
    let span = measure
        .or(section)
        .map_or_else(|| origins.end_of_file(), Spanned::<DeValue<'_>>::span);
    let hours = Duration::from_secs(length.as_secs() / 3600 * 3600);
    let (cells, repeats) = (plan.cells.len(), plan.repeats);
    let label = format!(
        "{cells} cells x {repeats} repeats take {} and more",
        show_duration(hours)
    );
    let hint = format!(
        "{} is the most; fewer cells, fewer repeats or shorter times",
        show_duration(LONGEST_PLAN)
    );
    Err(vec![
        Problem::at(span, "the whole plan takes too long", label).hint(hint),
    ])
}
