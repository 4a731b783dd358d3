//! `pushmark list`: scenarios, and the question each answers.

use std::fmt::Write;

use anyhow::Context;
use pushmark_scenario::ScenarioText;
use serde_json::json;

use crate::args::ListArgs;
use crate::exit::{End, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run(args: &ListArgs, terminal: &Terminal) -> Outcome {
    let entries = std::fs::read_dir(&args.dir).with_context(|| {
        format!(
            "cannot read {} (name the directory that holds your scenarios)",
            args.dir.display()
        )
    })?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match ScenarioText::read(&path).and_then(|text| pushmark_scenario::headline(&text)) {
            Ok(headline) => found.push((path, headline)),
            Err(e) => terminal.warning(&e.render(terminal.color_err)),
        }
    }
    if args.json {
        let list: Vec<_> = found
            .iter()
            .map(|(path, h)| json!({ "path": path.display().to_string(), "name": h.name, "question": h.question }))
            .collect();
        Terminal::result(&format!("{:#}\n", json!(list)));
        return Ok(End::Fine);
    }
    let width = found
        .iter()
        .map(|(path, _)| path.display().to_string().chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (path, headline) in &found {
        let path = path.display().to_string();
        let _ = writeln!(
            text,
            "{path:width$}  {}",
            pushmark_report::visible(&headline.question)
        );
    }
    Terminal::result(&text);
    Ok(End::Fine)
}
