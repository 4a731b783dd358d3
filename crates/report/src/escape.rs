//! Names as they may be shown: nothing that a terminal, a browser or a Markdown reader would act on.

/// The longest name or remark that is shown; the rest is cut with an ellipsis.
const LONGEST: usize = 600;

/// `text` on one line: every control, direction mark or invisible character written out as `\u{..}`.
pub fn visible(text: &str) -> String {
    write_out(text, false)
}

/// Like [`visible`], but line breaks and tabs stay: for a block of source text.
pub(crate) fn visible_block(text: &str) -> String {
    write_out(text, true)
}

/// `text` safe as Markdown, also within a table: on one line, markup characters escaped.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// At most `longest` characters, the last an ellipsis when something was cut.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars()
        .take(longest.saturating_sub(1))
        .chain(['…'])
        .collect()
}

fn write_out(text: &str, block: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if block => out.push(c),
            // A carriage return would overwrite the line it stands in; within CRLF it says nothing.
            '\r' if block => (),
            '\n' => out.push_str("\\n"),
            '\t' => out.push(' '),
            _ if is_hidden(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    if block { out } else { shorten(&out, LONGEST) }
}

/// Characters that act instead of showing: controls, direction overrides, line separators, marks of no width, and
/// those XML forbids.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(
            c,
            '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        )
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts() {
        let cases = [
            ("plain µs", "plain µs"),
            ("a\x1b[31mred", "a\\u{1b}[31mred"),
            ("a\nb\r", "a\\nb\\u{d}"),
            ("a\u{202e}b\u{feff}", "a\\u{202e}b\\u{feff}"),
            ("\u{9b}0m", "\\u{9b}0m"),
        ];
        for (text, expected) in cases {
            assert_eq!(visible(text), expected);
        }
        assert_eq!(visible_block("a\r\n\tb\x07"), "a\n\tb\\u{7}");
        assert_eq!(markdown("<b>|*x*\n[l](u)"), "&lt;b&gt;\\|\\*x\\*\\\\n\\[l\\](u)");
        assert_eq!(visible(&"x".repeat(5000)).chars().count(), 600);
        assert_eq!(shorten("abcdef", 4), "abc…");
    }
}
