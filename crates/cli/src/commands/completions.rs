//! `pushmark completions`: completions for a shell, from the same definitions as the help.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{End, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pushmark", &mut script);
    Terminal::result(&String::from_utf8_lossy(&script));
    Ok(End::Fine)
}
