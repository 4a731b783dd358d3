//! Many pairs of transports and carriers: what is read of them at a glance, held as snapshots.

mod support;

use pushmark_report::{Comparison, Rasterizer, charts, check_expectations, markdown, render, table};
use support::matrix::pairs;

#[test]
fn the_terminal_shows_a_matrix_for_each_measure() {
    let text = table::text(&Comparison::of(&pairs()), false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("table", text);
}

#[test]
fn everything_is_in_the_full_table_a_carrier_at_a_time() {
    let run = pairs();
    let text = table::full_text(&Comparison::of(&run), false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    for carrier in ["h1", "h1+tls", "h2c", "h2+tls"] {
        assert!(text.contains(&format!("\nover {carrier}\n")), "{carrier}: {text}");
    }
    insta::assert_snapshot!("full_table", text);
}

#[test]
fn markdown_has_the_matrices_too() {
    let run = pairs();
    insta::assert_snapshot!(
        "markdown",
        markdown(&Comparison::of(&run), &check_expectations(&run))
    );
}

#[test]
fn the_heat_tables_are_drawn_the_same_each_time() {
    let run = pairs();
    let draw = || {
        let all = charts(&run, &Comparison::of(&run)).unwrap();
        let matrix = all.into_iter().find(|c| c.name == "matrix");
        matrix.unwrap().svg
    };
    let svg = draw();
    assert_eq!(svg, draw());
    // Eight tables of twelve cells, one pair of which was not measured.
    assert_eq!(svg.matches("latency p99, ms").count(), 1);
    assert_eq!(svg.matches("\n–\n").count(), 8);
    assert!(Rasterizer::new().png(&svg).is_ok());
    let files = render(&run).unwrap();
    let page = &files.iter().find(|(name, _)| name == "report.html").unwrap().1;
    let page = String::from_utf8_lossy(page);
    assert_eq!(page.matches("<figure id=\"matrix\">").count(), 1);
}

#[test]
fn one_transport_or_one_carrier_has_no_matrix() {
    use support::{Behaviour, SSE, WS, push_run};
    let over = |carrier| Behaviour { carrier, ..WS };
    for variants in [vec![WS, SSE], vec![over("h1"), over("h2c")]] {
        let run = push_run(&variants, &[1000], 3);
        let all = charts(&run, &Comparison::of(&run)).unwrap();
        assert!(all.iter().all(|c| c.name != "matrix"));
    }
}
