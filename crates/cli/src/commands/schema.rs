//! `pushmark schema`: the JSON Schema of scenario files.

use crate::commands::catalogue;
use crate::exit::{End, Outcome};
use crate::terminal::Terminal;

pub(crate) fn run() -> Outcome {
    Terminal::result(&pushmark_scenario::schema_text(&catalogue()));
    Ok(End::Fine)
}
