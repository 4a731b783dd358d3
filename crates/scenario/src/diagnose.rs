//! Problems in a scenario, each with its place, and how they are shown to a person.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// More problems than this help nobody; the rest is counted.
const MOST_PROBLEMS: usize = 20;

/// A value quoted in a message is cut after so many characters.
const LONGEST_QUOTE_CHARS: usize = 60;

/// A text that problems point into: the file, or an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    name: String,
    text: String,
    /// Where this text begins when all texts are laid end to end.
    base: usize,
}

/// All texts that a plan is made of, laid end to end: one range of bytes names a place in any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origins(Vec<Origin>);

impl Origins {
    /// The file is first, so its ranges are what the TOML parser gives.
    pub(crate) fn new(file_name: &str, text: &str) -> Self {
        Origins(vec![Origin {
            name: printable(file_name),
            text: text.to_owned(),
            base: 0,
        }])
    }

    /// Adds an option of the command line and returns where it begins.
    pub(crate) fn add_option(&mut self, text: String) -> usize {
        // One byte apart, so that the end of a text is not the start of the next.
        let base = self.0.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.0.push(Origin {
            name: "command line".to_owned(),
            text,
            base,
        });
        base
    }

    /// Where something that is missing from the file would be added: after its last line.
    pub(crate) fn end_of_file(&self) -> Range<usize> {
        let end = self.0.first().map_or(0, |file| file.text.trim_end().len());
        end..end
    }

    /// The text in a range.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &str {
        self.locate(span)
            .and_then(|(origin, span)| origin.text.get(span))
            .unwrap_or("")
    }

    /// The text that a range lies in, and the range within it, moved to the borders of characters.
    fn locate(&self, span: &Range<usize>) -> Option<(&Origin, Range<usize>)> {
        let origin = self.0.iter().rev().find(|origin| origin.base <= span.start)?;
        let start = floor_char(&origin.text, span.start - origin.base);
        let end = floor_char(&origin.text, span.end.saturating_sub(origin.base)).max(start);
        Some((origin, start..end))
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// One thing that is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: String,
    label: String,
    hint: Option<String>,
    span: Option<Range<usize>>,
    /// Boxed, since few problems have one and every `Result` would carry its room.
    also: Option<Box<(Range<usize>, String)>>,
}

impl Problem {
    /// A problem with a place; the label stands under it.
    pub(crate) fn at(span: Range<usize>, message: impl AsRef<str>, label: impl AsRef<str>) -> Self {
        Problem {
            span: Some(span),
            label: printable(label.as_ref()),
            ..Problem::without_place(message)
        }
    }

    /// A problem of the file as a whole.
    pub(crate) fn without_place(message: impl AsRef<str>) -> Self {
        let message = printable(message.as_ref());
        Problem {
            message,
            label: String::new(),
            hint: None,
            span: None,
            also: None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(printable(hint.as_ref()));
        self
    }

    /// A second place that belongs to the problem.
    pub(crate) fn also(mut self, span: Range<usize>, label: impl AsRef<str>) -> Self {
        self.also = Some(Box::new((span, printable(label.as_ref()))));
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What stands under the place.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Where a problem is, as an editor counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, or `command line`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// Everything that is wrong with a scenario. Its `Display` is the plain rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    origins: Origins,
    problems: Vec<Problem>,
    left_out: usize,
}

impl ScenarioError {
    pub(crate) fn new(origins: Origins, mut problems: Vec<Problem>) -> Self {
        // The order of the file, whatever order they were found in.
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        let left_out = problems.len().saturating_sub(MOST_PROBLEMS);
        problems.truncate(MOST_PROBLEMS);
        ScenarioError {
            origins,
            problems,
            left_out,
        }
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Where a problem of this error is.
    pub fn place(&self, problem: &Problem) -> Option<Place> {
        let (origin, span) = self.origins.locate(problem.span.as_ref()?)?;
        let before = origin.text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some(Place {
            file: origin.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..)?.chars().count() + 1,
        })
    }

    /// All problems with their lines underlined, for a terminal.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut shown: Vec<String> = self
            .problems
            .iter()
            .map(|p| self.render_one(p, &renderer))
            .collect();
        if self.left_out > 0 {
            shown.push(format!("… and {} more problems", self.left_out));
        }
        shown.join("\n\n")
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
        let primary = problem.span.as_ref().and_then(|span| self.origins.locate(span));
        if let Some((origin, span)) = primary {
            let label = Some(problem.label.as_str()).filter(|label| !label.is_empty());
            let mut snippet = Snippet::source(masked(&origin.text))
                .path(origin.name.as_str())
                .annotation(AnnotationKind::Primary.span(span).label(label));
            let mut elsewhere = None;
            if let Some((span, label)) = problem.also.as_deref()
                && let Some((other, span)) = self.origins.locate(span)
            {
                let annotation = AnnotationKind::Context.span(span).label(label.as_str());
                if other == origin {
                    snippet = snippet.annotation(annotation);
                } else {
                    let other_snippet = Snippet::source(masked(&other.text)).path(other.name.as_str());
                    elsewhere = Some(other_snippet.annotation(annotation));
                }
            }
            group = group.element(snippet).elements(elsewhere);
        }
        let hint = problem.hint.as_deref().map(|hint| Level::HELP.message(hint));
        renderer.render(&[group.elements(hint)])
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ScenarioError {}

/// Characters that move a terminal's cursor, change its colours, or make text read other than it is.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text with its unprintable characters written out.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut shown, c| {
            match is_unprintable(c) {
                true => shown.extend(c.escape_unicode()),
                false => shown.push(c),
            }
            shown
        })
}

/// A value of the author's, quoted in a message: printable, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    let cut = text.chars().nth(LONGEST_QUOTE_CHARS).map_or("", |_| "…");
    let start: String = text.chars().take(LONGEST_QUOTE_CHARS).collect();
    format!("`{}{cut}`", printable(&start))
}

/// True if a text may be printed as it is.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.contains(is_unprintable)
}

/// A source text fit for a terminal. Every character keeps its length, so ranges stay right; the renderer itself
/// shows ASCII control characters as pictures of themselves.
fn masked(text: &str) -> String {
    let mask = |c: char| match c.len_utf8() {
        2 if is_unprintable(c) => '·',
        3 if is_unprintable(c) => '\u{fffd}',
        _ => c,
    };
    text.chars().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_any_text() {
        let mut origins = Origins::new("a.toml", "one\ntwö three\n");
        let base = origins.add_option("--set x=1".to_owned());
        let error = ScenarioError::new(
            origins,
            vec![
                Problem::at(base + 6..base + 7, "late", ""),
                Problem::at(9..14, "early", ""),
            ],
        );
        let places: Vec<_> = error
            .problems()
            .iter()
            .map(|p| error.place(p).expect("place"))
            .collect();
        assert_eq!(
            places[0],
            Place {
                file: "a.toml".to_owned(),
                line: 2,
                column: 5
            }
        );
        assert_eq!(
            places[1],
            Place {
                file: "command line".to_owned(),
                line: 1,
                column: 7
            }
        );
    }

    #[test]
    fn nothing_unprintable_is_rendered() {
        let text = "a = 1 # \u{1b}[31m \u{9b}31m \u{202e} \u{200b}\n";
        let error = ScenarioError::new(
            Origins::new("\u{1b}[2J.toml", text),
            vec![
                Problem::at(0..1, "m\u{1b}[0m\n", "l\u{7}")
                    .hint("h\u{9b}")
                    .also(4..5, "c\u{8}"),
            ],
        );
        let shown = error.render(false);
        assert!(shown.lines().all(is_printable), "{shown}");
    }

    #[test]
    fn odd_ranges_do_not_panic() {
        for text in ["", "ö", "a\n\n", "\r\n", "\u{feff}x = 1"] {
            let backwards = Range { start: 9, end: 3 };
            for span in [0..0, 0..1, 1..1, 1..9, backwards, usize::MAX..usize::MAX] {
                let problem = Problem::at(span.clone(), "m", "l").also(span, "c");
                let error = ScenarioError::new(Origins::new("x", text), vec![problem]);
                assert!(error.render(true).contains('m'));
                assert!(error.place(&error.problems()[0]).is_some());
            }
        }
    }

    #[test]
    fn a_flood_of_problems_is_cut() {
        let problems = vec![Problem::at(0..1, "m", "l"); 50];
        let error = ScenarioError::new(Origins::new("x", "text"), problems);
        assert_eq!(error.problems().len(), 20);
        assert!(error.render(false).ends_with("… and 30 more problems"));
    }
}
