//! What was negotiated is shown in every form of a report, on as few lines as tell it.

mod support;

use std::collections::BTreeMap;

use pushmark_measure::Negotiation;
use pushmark_report::{Comparison, check_expectations, json, markdown::markdown, render, table};
use pushmark_results::Run;

const TLS: &str = "HTTP/2, ALPN h2, TLS 1.3 TLS13_AES_128_GCM_SHA256";

/// A run in which every trial of each variant agreed on `words`.
fn run_with(words: &[&[(&str, u64)]], connections: u64) -> Run {
    let mut run = support::well();
    for trial in &mut run.trials {
        let Some(summary) = &mut trial.summary else {
            continue;
        };
        let agreed: BTreeMap<String, u64> = words[trial.cell_index.min(words.len() - 1)]
            .iter()
            .map(|(words, n)| ((*words).to_owned(), *n))
            .collect();
        summary.negotiation = Negotiation {
            agreed,
            connections,
            ..Negotiation::default()
        };
    }
    run
}

#[test]
fn every_form_says_it() {
    let run = run_with(&[&[(TLS, 1_000)]], 10);
    let comparison = Comparison::of(&run);
    let repeats = u64::from(comparison.repeats);
    let line = format!(
        "{TLS}, 1,000 streams on 10 connections ({0},000 of {0},000 sessions)",
        repeats
    );
    let [agreed] = &comparison.negotiated[..] else {
        panic!("{:#?}", comparison.negotiated);
    };
    // Variants that agreed on the same are told together.
    assert_eq!(agreed.variants.len(), comparison.variants.len());
    assert!(agreed.text.ends_with(&line), "{}", agreed.text);
    let checks = check_expectations(&run);
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat(table::text(&comparison, false)).contains(&line));
    assert!(markdown(&comparison, &checks).replace('\\', "").contains(&line));
    assert!(json(&comparison, &checks).unwrap().contains(&line));
    let page = render(&run).unwrap();
    let page = page.iter().find(|file| file.0.ends_with(".html")).unwrap();
    // A slash is escaped where it stands in a page.
    let page = String::from_utf8_lossy(&page.1).replace("&#x2f;", "/");
    assert!(page.contains(&line));
}

#[test]
fn two_things_take_two_lines_and_nothing_takes_none() {
    let other = "HTTP/2, ALPN h2, TLS 1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let comparison = Comparison::of(&run_with(&[&[(TLS, 900), (other, 100)], &[(TLS, 1_000)]], 1_000));
    let texts: Vec<_> = comparison.negotiated.iter().map(|n| n.text.as_str()).collect();
    let repeats = u64::from(comparison.repeats);
    let of = |hundreds: u64| whole_thousands(hundreds * repeats);
    // What holds for all sessions of a variant stands once.
    let (other, most) = (
        format!(
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, {} of {} sessions",
            of(1),
            of(10)
        ),
        format!(
            "{} of {} sessions; together 1,000 sessions on 1,000 connections",
            of(9),
            of(10)
        ),
    );
    for end in [other, most] {
        assert!(texts.iter().any(|t| t.ends_with(&end)), "{end}: {texts:#?}");
    }
    assert_eq!(texts.len(), 3, "{texts:#?}");
    assert!(Comparison::of(&support::well()).negotiated.is_empty());
}

/// So many hundreds, as a report writes them.
fn whole_thousands(hundreds: u64) -> String {
    match (hundreds / 10, hundreds % 10) {
        (0, rest) => format!("{rest}00"),
        (thousands, rest) => format!("{thousands},{rest}00"),
    }
}
