//! The terminal: results to stdout, everything else to stderr, color where it is wanted.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// When to use color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is known of where output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// stdout takes color.
    pub(crate) color_out: bool,
    /// stderr takes color.
    pub(crate) color_err: bool,
    /// stderr is a terminal: progress may redraw itself.
    pub(crate) live: bool,
}

impl Terminal {
    pub(crate) fn new(color: Color) -> Self {
        // https://no-color.org: set and not empty means no color.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let wanted = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !refused,
        };
        let live = io::stderr().is_terminal();
        Self {
            color_out: wanted(io::stdout().is_terminal()),
            color_err: wanted(live),
            live,
        }
    }

    /// Writes a result to stdout. A reader that has gone away has seen all it wanted.
    pub(crate) fn result(text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes a remark to stderr.
    pub(crate) fn remark(self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Writes an error to stderr.
    pub(crate) fn error(self, words: &str) {
        // A scenario's errors come with their own heading.
        if words.starts_with("error") || words.starts_with("\x1b[") {
            self.remark(words.trim_end());
        } else if self.color_err {
            self.remark(&format!("\x1b[1;31merror\x1b[0m: {words}"));
        } else {
            self.remark(&format!("error: {words}"));
        }
    }

    /// Writes a warning to stderr.
    pub(crate) fn warning(self, words: &str) {
        if self.color_err {
            self.remark(&format!("\x1b[1;33mwarning\x1b[0m: {words}"));
        } else {
            self.remark(&format!("warning: {words}"));
        }
    }
}

/// Logs go to stderr; `PUSHMARK_LOG=debug` and the like say how much.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_env("PUSHMARK_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .init();
}
