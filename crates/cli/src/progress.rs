//! Progress on stderr: one line that redraws itself on a terminal, one line an interval elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pushmark_loadgen::run::TrialId;
use pushmark_measure::{Grade, Histogram, Interval, Metric, Nanos, Phase, TrialSummary, Verdict, clock};
use pushmark_scenario::Plan;

use crate::commands::check::minutes;
use crate::terminal::Terminal;

/// A trial takes about this much longer than its planned phases: processes start, drains end, sessions close.
const OVERHEAD: Duration = Duration::from_millis(700);

/// The run's progress.
pub(crate) struct Progress {
    terminal: Terminal,
    bar: ProgressBar,
    cells: Vec<(String, Duration)>,
    repeats: u32,
    trials: usize,
    finished: usize,
    remaining: Duration,
    trial_planned: Duration,
    trial_started: Nanos,
    label: String,
    phase: Phase,
    latency: Histogram,
}

impl Progress {
    pub(crate) fn new(plan: &Plan, terminal: Terminal) -> Self {
        let cells: Vec<_> = plan
            .cells
            .iter()
            .map(|c| (c.id.clone(), c.load.least_duration() + OVERHEAD))
            .collect();
        let trials = plan.trials().count();
        let bar = ProgressBar::with_draw_target(
            Some(trials as u64),
            if terminal.live {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        if let Ok(style) = ProgressStyle::with_template("{bar:12.cyan/dim} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self {
            terminal,
            bar,
            repeats: plan.repeats,
            trials,
            finished: 0,
            remaining: plan.trials().map(|(_, cell)| cells[cell].1).sum(),
            trial_planned: Duration::ZERO,
            trial_started: clock::now(),
            label: String::new(),
            phase: Phase::Ramp,
            latency: Histogram::new(),
            cells,
        }
    }

    pub(crate) fn trial_started(&mut self, trial: TrialId) {
        let (id, planned) = &self.cells[trial.cell_index];
        self.label = format!("{id} {}/{}", trial.repeat + 1, self.repeats);
        self.trial_planned = *planned;
        self.trial_started = clock::now();
        self.latency.clear();
        self.show(&format!("{}: starting", self.label), false);
    }

    pub(crate) fn phase(&mut self, phase: Phase, _at_most: Duration) {
        self.phase = phase;
    }

    pub(crate) fn interval(&mut self, interval: &Interval) {
        self.latency.merge(&interval.all(Metric::Latency));
        let seconds = interval.end.duration_since(interval.start).as_secs_f64();
        if seconds < 0.2 {
            // What is left over when a trial ends says nothing about a rate.
            return;
        }
        let c = &interval.counters;
        let mut line = format!(
            "{}: {:<7} {} open",
            self.label,
            interval.phase.as_str(),
            c.open_sessions
        );
        if c.failed > 0 {
            line += &format!(", {} failed", c.failed);
        }
        if c.delivered > 0 {
            line += &format!(", {:.0} deliveries/s", c.delivered as f64 / seconds);
        }
        if let (Some(p50), Some(p99)) = (self.latency.quantile(0.5), self.latency.quantile(0.99)) {
            line += &format!(", p50 {:.2} ms, p99 {:.2} ms", p50 as f64 / 1e6, p99 as f64 / 1e6);
        }
        line += &format!(", {} left", minutes(self.left()));
        self.show(&line, true);
    }

    pub(crate) fn trial_finished(&mut self, summary: &TrialSummary) {
        self.finished += 1;
        self.remaining = self.remaining.saturating_sub(self.trial_planned);
        self.bar.set_position(self.finished as u64);
        let verdict = Verdict::of(summary);
        for finding in &verdict.findings {
            let words = format!("{}: {}: {}", self.label, finding.grade.as_str(), finding.reason);
            self.bar.suspend(|| match finding.grade {
                Grade::Valid => self.terminal.remark(&words),
                Grade::Suspect | Grade::Invalid => self.terminal.warning(&words),
            });
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn left(&self) -> Duration {
        let spent = clock::now()
            .duration_since(self.trial_started)
            .min(self.trial_planned);
        self.remaining.saturating_sub(spent)
    }

    fn show(&self, line: &str, on_plain: bool) {
        if self.terminal.live {
            self.bar.set_message(line.to_owned());
        } else if on_plain {
            self.terminal
                .remark(&format!("[{}/{}] {line}", self.finished + 1, self.trials));
        }
    }
}
