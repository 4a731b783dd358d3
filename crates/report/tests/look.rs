//! Sample reports for the eye: `cargo test -p pushmark-report --test look -- --ignored` writes them under the target
//! directory and names the place.

mod support;

use std::path::Path;

#[test]
#[ignore = "writes files to look at"]
fn sample_reports() {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-samples");
    let mut runs = support::all();
    runs.push(("hostile", support::hostile()));
    runs.push(("pairs", support::matrix::pairs()));
    runs.extend(support::faults::all());
    runs.push(("hostile_faults", support::faults::hostile()));
    for (name, run) in runs {
        for (path, bytes) in pushmark_report::render(&run).unwrap() {
            let path = base.join(name).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let color = pushmark_report::table::text(&pushmark_report::Comparison::of(&run), true);
        std::fs::write(base.join(name).join("table.ansi"), color).unwrap();
    }
    println!("{}", base.display());
}
