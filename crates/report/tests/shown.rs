//! What people read: the table, Markdown and the sentence of several runs, held as snapshots.

mod support;

use pushmark_report::{Comparison, answer, check_expectations, markdown, table};

#[test]
fn tables() {
    for (name, run) in support::all() {
        insta::assert_snapshot!(format!("table_{name}"), table::text(&Comparison::of(&run), false));
    }
}

#[test]
fn a_sweep_in_full() {
    insta::assert_snapshot!(
        "table_sweep_full",
        table::full_text(&Comparison::of(&support::sweep()), false)
    );
}

#[test]
fn answers() {
    let mut runs = support::all();
    runs.push(("single", support::push_run(&[support::WS], &[1000], 3)));
    runs.push((
        "sweep_no_winner",
        support::push_run(&[support::WS, support::WS_TWIN], &[100, 1000], 3),
    ));
    runs.push(("sweep_mixed", support::sweep_mixed()));
    runs.push(("many", support::many()));
    let all: Vec<String> = runs
        .iter()
        .map(|(name, run)| format!("{name}: {}", answer(&Comparison::of(run))))
        .collect();
    insta::assert_snapshot!("answers", all.join("\n\n"));
}

#[test]
fn markdown_pages() {
    for (name, run) in [
        ("well", support::well()),
        ("invalid", support::invalid()),
        ("hostile", support::hostile()),
    ] {
        insta::assert_snapshot!(
            format!("markdown_{name}"),
            markdown(&Comparison::of(&run), &check_expectations(&run))
        );
    }
}

#[test]
fn json_has_a_version() {
    let run = support::connect_run(&[support::WS, support::SSE], 2);
    insta::assert_snapshot!(
        "json_connect",
        pushmark_report::json(&Comparison::of(&run), &[]).unwrap()
    );
}

#[test]
fn no_line_of_three_variants_is_wider_than_a_terminal() {
    for (name, run) in support::all() {
        let text = table::text(&Comparison::of(&run), false);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn many_variants_are_shown_in_blocks() {
    let text = table::full_text(&Comparison::of(&support::many()), false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    for carrier in ["h1", "h2c", "h1+tls"] {
        assert!(text.contains(&format!("over {carrier}")), "{text}");
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    for (name, run) in support::all() {
        let comparison = Comparison::of(&run);
        let (plain, colored) = (table::text(&comparison, false), table::text(&comparison, true));
        assert!(!plain.contains('\x1b') && colored.contains("\x1b["), "{name}");
        let mut stripped = String::new();
        let mut rest = colored.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&stripped), trimmed(&plain), "{name}");
    }
}
