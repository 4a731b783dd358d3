//! `pushmark trend`: what crept in over the sessions of a history.

use pushmark_report::gate::{Trend, render_trend, trend_text};
use pushmark_results::gate::ready_dir;
use pushmark_results::history::History;
use pushmark_results::write_report;

use crate::args::TrendArgs;
use crate::exit::{End, Failure, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run(args: &TrendArgs, terminal: &Terminal) -> Outcome {
    let history = History::read(&args.history)?.ok_or_else(|| {
        Failure::usage(format!(
            "there is no history {}; `pushmark gate --history` makes one",
            args.history.display()
        ))
    })?;
    let trend = Trend::of(&history);
    if let Some(dir) = &args.out {
        ready_dir(dir)?;
        write_report(dir, &render_trend(&trend)?)?;
        terminal.remark(&format!("written to {}", dir.display()));
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&trend)? + "\n",
        false => trend_text(&trend),
    };
    Terminal::result(&text);
    Ok(match (args.strict, trend.crept()) {
        (false, _) => End::Fine,
        (true, true) => End::Missed,
        (true, false) if !trend.can_tell() => End::Inconclusive,
        (true, false) => End::Fine,
    })
}
