//! CSV cells that hold text from outside: one line each, and never a formula.

use std::borrow::Cow;

use crate::error::plain;

/// Longer text is cut: a hostile peer chooses what stands in an error message.
const LONGEST_CHARS: usize = 500;

/// The text as a cell: control characters spelled out, and what a spreadsheet would take for a formula marked as text.
pub(crate) fn text_cell(text: &str) -> Cow<'_, str> {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    let mut cell = if text.contains(char::is_control) {
        Cow::Owned(plain(text))
    } else {
        Cow::Borrowed(text)
    };
    if let Some((end, _)) = cell.char_indices().nth(LONGEST_CHARS) {
        cell = Cow::Owned(format!("{}…", &cell[..end]));
    }
    if formula {
        Cow::Owned(format!("'{cell}"))
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_breaks_its_line() {
        let cases = [
            ("connect: refused", "connect: refused"),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\\tx"),
            ("\r=1", "'\\r=1"),
            ("a\nb", "a\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("＝1", "'＝1"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(text_cell(text), expected, "{text:?}");
        }
        assert_eq!(text_cell(&"é".repeat(9_000)).chars().count(), LONGEST_CHARS + 1);
    }
}
