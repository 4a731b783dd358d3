//! Names of directories, made from names that people chose: nothing in them can leave the parent directory.

use pushmark_measure::clock::utc_text;

/// More of a name than this is cut off: file systems take 255 bytes, and dates and numbers are added around it.
const LONGEST: usize = 80;

/// `20261120T061000Z-feed`; `attempt` above one adds `-2`, `-3`, …
pub(crate) fn run_dir(started_unix_s: u64, scenario: &str, attempt: u32) -> String {
    let date = utc_text(started_unix_s).replace(['-', ':'], "");
    let name = safe(scenario);
    if attempt > 1 {
        format!("{date}-{name}-{attempt}")
    } else {
        format!("{date}-{name}")
    }
}

/// `000-alpha-h1-r1`: place in running order from zero, cell, repeat from one.
pub(crate) fn trial_dir(index: u32, cell_id: &str, repeat: u32) -> String {
    format!("{index:03}-{}-r{}", safe(cell_id), u64::from(repeat) + 1)
}

/// ASCII letters, digits, `.`, `_` and `-` stay; everything else becomes one `-`. Never empty, never begins with a dot.
fn safe(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            c
        } else {
            '-'
        };
        // A hyphen is not doubled and no name begins with `.` or `-`: hidden files and command-line options look so.
        let skip = (c == '-' && out.ends_with('-')) || (out.is_empty() && matches!(c, '-' | '.'));
        if !skip {
            out.push(c);
        }
        if out.len() == LONGEST {
            break;
        }
    }
    let kept = out.trim_end_matches(['-', '.']);
    if kept.is_empty() {
        "unnamed".to_owned()
    } else {
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_directory() {
        let long = "x".repeat(300);
        let cases = [
            ("feed", "feed"),
            ("alpha-h1-c1000", "alpha-h1-c1000"),
            ("../../x", "x"),
            ("a/b", "a-b"),
            ("a\0b", "a-b"),
            ("\u{1b}[31mred\u{1b}[0m", "31mred-0m"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("--out", "out"),
            (".hidden", "hidden"),
            ("größe 64 B", "gr-e-64-B"),
            ("C:\\run", "C-run"),
            ("line\nbreak", "line-break"),
            (&long, &long[..LONGEST]),
        ];
        for (name, expected) in cases {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }

    #[test]
    fn directories_sort_in_the_order_of_time() {
        assert_eq!(run_dir(1_795_154_999, "feed", 1), "20261120T060959Z-feed");
        assert_eq!(run_dir(1_795_154_999, "feed", 2), "20261120T060959Z-feed-2");
        assert_eq!(trial_dir(7, "alpha-h1", 0), "007-alpha-h1-r1");
        assert_eq!(trial_dir(u32::MAX, "a", u32::MAX), "4294967295-a-r4294967296");
        assert!(run_dir(u64::MAX, "x", 1).ends_with("Z-x"));
    }
}
