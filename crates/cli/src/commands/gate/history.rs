//! `pushmark gate --history`: a build against a frozen reference server, and the ratio against those of earlier sessions.

use std::path::Path;

use pushmark_loadgen::block::Arm;
use pushmark_measure::gate::history::LEAST_SESSIONS;
use pushmark_results::gate::{Gate, GateVerdict};
use pushmark_results::history::{Head, History, HistoryGate};
use pushmark_results::write_report;

use super::{Setup, end};
use crate::args::GateArgs;
use crate::exit::{End, Failure, Outcome};
use crate::terminal::Terminal;

/// False alarms of a session, as a share.
const ALPHA: f64 = 0.01;
/// Longer labels are no commits.
const LONGEST_LABEL: usize = 200;

/// A history as it was found before any traffic.
pub(super) struct Before<'a> {
    path: &'a Path,
    history: Option<History>,
    head: Head,
}

impl<'a> Before<'a> {
    /// Reads the history, and looks at the reference: a program, since an address tells nothing about what answers there.
    /// A history that this gate's session would not belong to is refused before any traffic.
    pub(super) fn read(
        path: &'a Path,
        reference: &Arm,
        setup: &Setup,
        args: &GateArgs,
    ) -> Result<Self, Failure> {
        let Arm::Program(server) = reference else {
            return Err(Failure::usage(
                "with --history the baseline is the frozen reference, and must be a command: what runs at an address may be \
                 another server tomorrow",
            ));
        };
        if args
            .label
            .as_deref()
            .is_some_and(|l| l.chars().count() > LONGEST_LABEL)
        {
            return Err(Failure::usage(format!(
                "--label takes {LONGEST_LABEL} characters at the most"
            )));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Failure::usage(format!(
                "{} would be written into {}, which is no directory: make it first",
                path.display(),
                folder.display()
            )));
        }
        let history = History::read(path)?;
        let p = &setup.profile;
        let lengths = (
            p.plan.most_blocks(),
            p.warmup.as_secs_f64(),
            p.measure.as_secs_f64(),
        );
        let scenarios = setup.gate_scenarios();
        let head = Head::new((&server.program, &server.words), p.name, lengths, &scenarios)?;
        if let Some(why) = history.as_ref().and_then(|h| h.head.differs(&head)) {
            return Err(Failure::usage(format!(
                "{} is another history: {why}. Begin a new one with another --history",
                path.display()
            )));
        }
        Ok(Self { path, history, head })
    }

    /// How many earlier sessions count, in words.
    pub(super) fn announcement(&self) -> String {
        let count = self.history.as_ref().map_or(0, |h| h.held_against().len());
        match count {
            n if n < LEAST_SESSIONS => format!(
                "{}: {n} earlier sessions, and {LEAST_SESSIONS} are needed before anything can be said",
                self.path.display()
            ),
            n => format!("{}: held against {n} earlier sessions", self.path.display()),
        }
    }

    /// Judges the session, writes it down, and prints what history says of it.
    pub(super) fn judge(self, gate: Gate, args: &GateArgs, terminal: &Terminal) -> Outcome {
        let label = args.label.clone().unwrap_or_else(|| default_label(&gate));
        let said = HistoryGate::new(gate, self.history.as_ref(), &label, args.accept, ALPHA);
        let dir = match &args.out {
            Some(dir) => {
                said.write_into(dir)?;
                dir.clone()
            }
            None => said.write_new(&args.results, "history")?,
        };
        write_report(&dir, &pushmark_report::gate::render_history(&said)?)?;
        show(&said, args, terminal)?;
        let sound = !matches!(said.verdict, GateVerdict::Failure | GateVerdict::Invalid);
        if sound && !args.judge_only {
            History::append(self.path, &self.head, said.session.clone())?;
            terminal.remark(&format!("session added to {}", self.path.display()));
        } else {
            terminal.remark(&format!("{} stays as it was", self.path.display()));
        }
        terminal.remark(&format!("written to {}", dir.display()));
        Ok(ended(&said, said.verdict, args, terminal))
    }
}

/// The checkout's commit, or the time.
fn default_label(gate: &Gate) -> String {
    match &gate.git {
        Some(git) => git.commit.chars().take(12).collect(),
        None => format!("at {}", gate.started_unix_s),
    }
}

/// Prints it.
pub(super) fn show(said: &HistoryGate, args: &GateArgs, terminal: &Terminal) -> Result<(), Failure> {
    let text = match args.json {
        true => serde_json::to_string_pretty(said)? + "\n",
        false => pushmark_report::gate::history_text(said, terminal.color_out),
    };
    Terminal::result(&text);
    Ok(())
}

/// The verdict again, from the file of a gate with a history.
pub(super) fn replay(said: &HistoryGate, file: &Path, args: &GateArgs, terminal: &Terminal) -> Outcome {
    let verdict = said.judged_again().map_err(|what| Failure {
        code: End::NotValid,
        words: format!("{} is no verdict: {what}", file.display()),
    })?;
    show(said, args, terminal)?;
    Ok(ended(said, verdict, args, terminal))
}

/// The exit code of a session: a regression that was accepted is none, now and when its file is read again.
fn ended(said: &HistoryGate, verdict: GateVerdict, args: &GateArgs, terminal: &Terminal) -> End {
    if said.session.accepted && verdict == GateVerdict::Regression {
        terminal.remark("accepted: a new series begins with this session");
        return End::Fine;
    }
    end(verdict, args.strict, terminal)
}

/// A history needs one look of fixed length: sessions of different lengths do not vary alike.
///
/// # Errors
/// When the first look is too early to find anything.
pub(super) fn one_look(setup: &mut Setup) -> Result<(), Failure> {
    let plan = &mut setup.profile.plan;
    plan.looks.truncate(1);
    // A session is one number, and no signs are flipped: a block that is left out costs little.
    plan.looks.iter_mut().for_each(|look| look.spare = 0);
    plan.check()
        .map_err(|e| Failure::usage(format!("a history has one look, the first: {e}")))
}
