//! `pushmark gate`: two servers under the same load in turns, and whether the candidate is worse.

mod arms;
mod blocks;
mod history;
mod profile;
mod replay;
mod self_test;

use std::path::Path;
use std::time::Duration;

use pushmark_loadgen::block::{Arm, has_phases};
use pushmark_loadgen::preflight::{self, Limits};
use pushmark_measure::gate::SensorLimits;
use pushmark_measure::{Slots, clock};
use pushmark_results::gate::{BlockShape, Gate, GateScenario, GateVerdict, ready_dir};
use pushmark_results::{host, write_report};
use pushmark_scenario::plan::{Cell as PlanCell, FaultMeans, Plan, TargetPlan};
use pushmark_transport::{process, registry};
use serde_json::to_string_pretty;

use crate::args::GateArgs;
use crate::commands::check::minutes;
use crate::commands::limits;
use crate::commands::run::UNUSED_TLS;
use crate::exit::{End, Failure, Outcome};
use crate::signals;
use crate::terminal::Terminal;
use blocks::{Cell, Ran};
use profile::Profile;

pub(crate) fn run(args: &GateArgs, terminal: &Terminal) -> Outcome {
    if let Some(file) = &args.replay {
        return replay::run(file, args, terminal);
    }
    if let Some(log) = &args.self_test_summary {
        return self_test::summary(log, args);
    }
    if args.change.quick {
        return Err(Failure::usage(
            "the lengths of a gate are its profile's: write --profile quick",
        ));
    }
    process::raise_open_files();
    if args.self_test.is_some() {
        return self_test::run(args, terminal);
    }
    let (Some(baseline), Some(candidate)) = (&args.baseline, &args.candidate) else {
        return Err(Failure::usage("a gate needs --baseline and --candidate"));
    };
    let parsed = |name: &str, text: &str| {
        arms::parse(text, args.change.allow_remote).map_err(|e| Failure::usage(format!("--{name}: {e}")))
    };
    let (baseline, candidate) = (parsed("baseline", baseline)?, parsed("candidate", candidate)?);
    let scenarios = args
        .scenarios
        .iter()
        .map(|path| {
            let plan = super::plan(path, &args.change, terminal)?;
            Ok(Scenario::new(plan, path))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut setup = Setup::new(args, scenarios, &|_| (baseline.clone(), candidate.clone()))?;
    let before = match &args.history {
        Some(path) => {
            history::one_look(&mut setup)?;
            Some(history::Before::read(path, &baseline, &setup, args)?)
        }
        None => None,
    };
    if args.change.target_tls() != Default::default() && !setup.cells.iter().any(Cell::keeps_running) {
        terminal.warning(UNUSED_TLS);
    }
    terminal.remark(&setup.announcement());
    if let Some(before) = &before {
        terminal.remark(&before.announcement());
    }
    if let Some(dir) = &args.out {
        ready_dir(dir)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let gate = tokio::task::LocalSet::new().block_on(&runtime, async {
        let interrupt = signals::count()?;
        setup.gate(args, interrupt, terminal).await
    })?;
    if let Some(before) = before {
        return before.judge(gate, args, terminal);
    }
    let name = setup.scenarios.first().map_or("gate", |s| s.plan.name.as_str());
    let dir = match &args.out {
        Some(dir) => {
            gate.write_into(dir)?;
            dir.clone()
        }
        None => gate.write_new(&args.results, name)?,
    };
    write_report(&dir, &pushmark_report::gate::render(&gate)?)?;
    show(&gate, args, terminal)?;
    terminal.remark(&format!("written to {}", dir.display()));
    Ok(end(gate.verdict, args.strict, terminal))
}

/// Prints a gate.
fn show(gate: &Gate, args: &GateArgs, terminal: &Terminal) -> Result<(), Failure> {
    let text = match args.json {
        true => to_string_pretty(gate)? + "\n",
        false => pushmark_report::gate::text(gate, terminal.color_out),
    };
    Terminal::result(&text);
    Ok(())
}

/// The exit code of a verdict, with a warning where it is not what it seems.
fn end(verdict: GateVerdict, strict: bool, terminal: &Terminal) -> End {
    let lenient = |code: End, words: &str| {
        if strict {
            return code;
        }
        terminal.warning(words);
        End::Fine
    };
    match verdict {
        GateVerdict::Pass | GateVerdict::Improvement => End::Fine,
        GateVerdict::Regression | GateVerdict::Failure => End::Missed,
        GateVerdict::Inconclusive => lenient(
            End::Inconclusive,
            "inconclusive: no regression was found, and none is ruled out; --strict makes it exit code 3",
        ),
        GateVerdict::Invalid => lenient(
            End::NotValid,
            "invalid: this machine could not tell anything; --strict makes it exit code 4",
        ),
    }
}

/// A scenario and where it came from.
pub(super) struct Scenario {
    plan: Plan,
    path: String,
}

impl Scenario {
    fn new(plan: Plan, path: &Path) -> Self {
        let path = path.display().to_string();
        Self { plan, path }
    }
}

/// All that a gate does, before it does it.
pub(super) struct Setup {
    scenarios: Vec<Scenario>,
    cells: Vec<Cell>,
    profile: Profile,
    seed: u64,
    limits: Limits,
    notes: Vec<String>,
}

impl Setup {
    /// Makes every cell of every scenario ready; `arms` gives the baseline and the candidate of each, by its number.
    fn new(
        args: &GateArgs,
        mut scenarios: Vec<Scenario>,
        arms: &dyn Fn(usize) -> (Arm, Arm),
    ) -> Result<Self, Failure> {
        let limits = limits(&host::gather());
        let mut notes = Vec::new();
        for s in &mut scenarios {
            refuse_what_cannot_be_gated(&s.plan)?;
            if !s.plan.expect.is_empty() {
                notes.push(format!("{}: thresholds of [expect] are for `run`", s.plan.name));
            }
            if s.plan.cells.iter().any(has_phases) {
                notes.push(format!(
                    "{}: its arms cannot take turns, so one runs after the other in each block, with the scenario's own lengths",
                    s.plan.name
                ));
            }
            let before = s.plan.cells.len();
            s.plan
                .cells
                .retain(|c| registry::row(&c.variant.transport).is_some_and(|row| !row.in_process));
            if s.plan.cells.len() < before {
                notes.push(format!("{}: what needs no server is left out", s.plan.name));
            }
        }
        let count: usize = scenarios.iter().map(|s| s.plan.cells.len()).sum();
        if count == 0 {
            return Err(Failure::usage("there is nothing to gate in these scenarios"));
        }
        let mut names: Vec<&str> = scenarios.iter().map(|s| s.plan.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|w| w[0] == w[1]) {
            return Err(Failure::usage(
                "two scenarios have the same name; their figures could not be told apart",
            ));
        }
        let all = || scenarios.iter().flat_map(|s| &s.plan.cells);
        // Arms get ready one after the other; where they cannot take turns, one whole trial follows the other.
        let ramps = |c: &PlanCell| 2 * c.load.arrival.duration(c.load.connections);
        let whole = |c: &PlanCell| 2 * (c.load.least_duration() + c.load.drain + PHASE_OVERHEAD);
        let besides: Duration = all()
            .map(|c| if has_phases(c) { whole(c) } else { ramps(c) })
            .sum();
        let in_turns = all().filter(|c| !has_phases(c)).count();
        let profile = Profile::of(args, in_turns, besides).map_err(Failure::usage)?;
        let mut cells = Vec::new();
        for s in &mut scenarios {
            for cell in s.plan.cells.iter_mut().filter(|c| !has_phases(c)) {
                (cell.load.warmup, cell.load.measure) = (profile.warmup, profile.measure);
            }
            let obstacles = preflight::obstacles(&s.plan, limits);
            if !obstacles.is_empty() {
                return Err(Failure::usage(format!(
                    "this machine cannot carry {}:\n  {}",
                    s.plan.name,
                    obstacles.join("\n  ")
                )));
            }
            for index in 0..s.plan.cells.len() {
                let (baseline, candidate) = arms(cells.len());
                let name = format!("{}/{}", s.plan.name, s.plan.cells[index].id);
                refuse_what_cannot_be_broken(&s.plan.cells[index], &name, [&baseline, &candidate])?;
                cells.push(Cell {
                    name,
                    plan: s.plan.clone(),
                    index,
                    baseline,
                    candidate,
                });
            }
        }
        Ok(Self {
            scenarios,
            cells,
            profile,
            seed: args.seed.unwrap_or_else(|| process::random_u128() as u64),
            limits,
            notes,
        })
    }

    /// The scenarios, as files keep them.
    fn gate_scenarios(&self) -> Vec<GateScenario> {
        let kept = |s: &Scenario| GateScenario {
            name: s.plan.name.clone(),
            path: s.path.clone(),
            question: s.plan.question.clone(),
            source: s.plan.source.clone(),
        };
        self.scenarios.iter().map(kept).collect()
    }

    fn announcement(&self) -> String {
        let p = &self.profile;
        format!(
            "{} × at most {} blocks of {:.1} + {:.1} s: {} at least, {} at most (seed {})",
            crate::commands::check::plural(self.cells.len(), "cell"),
            p.plan.most_run(),
            p.warmup.as_secs_f64(),
            p.measure.as_secs_f64(),
            minutes(p.block * p.plan.looks.first().map_or(0, |l| l.blocks) as u32),
            minutes(p.block * p.plan.most_run() as u32),
            self.seed,
        )
    }

    /// Runs the gate.
    async fn gate(
        &self,
        args: &GateArgs,
        interrupt: pushmark_loadgen::Interrupt,
        terminal: &Terminal,
    ) -> Result<Gate, Failure> {
        let (started_unix_s, begun) = (clock::unix_seconds(), clock::now());
        let host = host::gather();
        let sensors = SensorLimits::default();
        let Ran {
            courses,
            failures,
            notes,
            found,
        } = blocks::run(self, &sensors, interrupt, terminal).await?;
        let text = |arm: &Option<String>| arm.clone().unwrap_or_else(|| "this pushmark".to_owned());
        let gate = Gate {
            format_version: 0,
            document: String::new(),
            pushmark_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s,
            took_s: clock::now().duration_since(begun).as_secs_f64(),
            host,
            git: std::env::current_dir().ok().and_then(|dir| host::git_state(&dir)),
            profile: self.profile.name.to_owned(),
            seed: self.seed,
            block: BlockShape {
                warmup_s: self.profile.warmup.as_secs_f64(),
                measure_s: self.profile.measure.as_secs_f64(),
                slots: Slots::of_two(0),
            },
            baseline: text(&args.baseline),
            candidate: text(&args.candidate),
            scenarios: self.gate_scenarios(),
            plan: self.profile.plan.clone(),
            limits: sensors,
            courses,
            table: Default::default(),
            failures,
            notes: [self.notes.clone(), notes].concat(),
            found,
            verdict: GateVerdict::Invalid,
        };
        Ok(gate.sealed())
    }
}

/// Two processes that start and end, in a phase of a block.
const PHASE_OVERHEAD: Duration = Duration::from_millis(500);

/// What cannot be broken in a server that we did not start.
fn refuse_what_cannot_be_broken(cell: &PlanCell, name: &str, arms: [&Arm; 2]) -> Result<(), Failure> {
    let running = arms.iter().any(|arm| matches!(arm, Arm::Running(_)));
    let beyond = cell.faults.iter().find(|f| f.kind.means() != FaultMeans::Proxy);
    match beyond.filter(|_| running) {
        Some(fault) => Err(Failure::usage(format!(
            "{name} has the fault {}, which is made to a server that the gate starts itself: give commands for both arms, not \
             addresses",
            fault.kind.as_str()
        ))),
        None => Ok(()),
    }
}

/// What the paired mode cannot do, it does not do by halves.
fn refuse_what_cannot_be_gated(plan: &Plan) -> Result<(), Failure> {
    let name = &plan.name;
    if plan.cells.iter().any(|c| c.target != TargetPlan::Embedded) {
        return Err(Failure::usage(format!(
            "{name} names a target of its own; the targets of a gate are --baseline and --candidate"
        )));
    }
    Ok(())
}
