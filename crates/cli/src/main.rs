//! pushmark: which realtime transport to use, and the day your server gets slower.

mod args;
mod commands;
mod exit;
mod progress;
mod signals;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Verb};
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = terminal::Terminal::new(cli.color);
    terminal::start_logging();
    let result = match cli.verb {
        Verb::Run(args) => commands::run::run(&args, &terminal),
        Verb::Gate(args) => commands::gate::run(&args, &terminal),
        Verb::Trend(args) => commands::trend::run(&args, &terminal),
        Verb::Check(args) => commands::check::run(&args, &terminal),
        Verb::Doctor(args) => commands::doctor::run(&args, &terminal),
        Verb::List(args) => commands::list::run(&args, &terminal),
        Verb::Report(args) => commands::report::run(&args, &terminal),
        Verb::Serve(args) => commands::serve::run(&args),
        Verb::Schema => commands::schema::run(),
        Verb::Completions { shell } => commands::completions::run(shell),
        Verb::Proxy => commands::proxy::run(),
        Verb::Worker => commands::worker::run(),
    };
    match result {
        Ok(end) => end.code(),
        Err(Failure { code, words }) => {
            terminal.error(&words);
            code.code()
        }
    }
}
