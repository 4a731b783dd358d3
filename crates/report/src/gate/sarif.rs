//! A gate as SARIF 2.1.0, for code scanning views: a result for each regression and each failure, at the scenario's file.

use pushmark_measure::gate::{Role, Standing};
use pushmark_results::gate::{Gate, GateScenario};
use serde_json::{Value, json};

use super::{headline, lines};
use crate::escape::visible;
use crate::files::ReportError;

/// The scenario's file as a relative address: views refuse others.
fn place(scenario: Option<&GateScenario>) -> String {
    let path = scenario
        .map_or("scenario.toml", |s| s.path.as_str())
        .replace('\\', "/");
    let path = path.trim_start_matches("./");
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    path.to_owned()
}

/// The document.
pub(super) fn sarif(gate: &Gate) -> Result<String, ReportError> {
    let result = |rule: &str, level: &str, words: &str, scenario: &str| -> Value {
        let file = gate
            .scenarios
            .iter()
            .find(|s| scenario == s.name || scenario.starts_with(&format!("{}/", s.name)))
            .or(gate.scenarios.first());
        json!({
            "ruleId": rule,
            "level": level,
            "message": { "text": visible(words) },
            "partialFingerprints": { "pushmark/v1": format!("{rule}:{scenario}") },
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": { "uri": place(file) },
                    "region": { "startLine": 1 }
                }
            }]
        })
    };
    let mut results: Vec<Value> = Vec::new();
    for failure in &gate.failures {
        let scenario = failure.split(':').next().unwrap_or_default();
        results.push(result("failure", "error", failure, scenario));
    }
    for l in lines(gate) {
        let words = format!("{}: {}", l.scenario, l.sentence);
        match l.standing {
            Standing::Regression if l.role != Role::Advisory => {
                results.push(result("regression", "error", &words, &l.scenario));
            }
            Standing::Regression => results.push(result("advisory", "note", &words, &l.scenario)),
            _ => {}
        }
    }
    let rule = |id: &str, words: &str| json!({ "id": id, "shortDescription": { "text": words } });
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pushmark gate",
                "version": visible(&gate.pushmark_version),
                "rules": [
                    rule("regression", "A metric is worse, surely and by more than its floor"),
                    rule("failure", "The candidate broke down, or broke a promise that the baseline kept"),
                    rule("advisory", "A metric that decides nothing is worse"),
                ]
            }},
            "results": results,
            "properties": { "verdict": gate.verdict.as_str(), "headline": visible(&headline(gate)), "seed": gate.seed.to_string() }
        }]
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
