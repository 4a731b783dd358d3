//! Blocks that stand in for those left out.
//!
//! A look at ten blocks of which three were left out has only 2⁷ ways to flip signs: its smallest p-value is 1/128, and it
//! finds nothing at its level, however large the difference. So a further block is run for each that the sensors leave out.
//! They look at the generator and at the rest of the machine and treat both arms alike, and the further block has a coin of
//! its own: where nothing differs, the signs stay as fair as those of the blocks whose places are taken.
//!
//! How many blocks a look sees is a function of the data alone, so that a replay sees the same.

use super::difference::Row;
use super::evidence::Course;
use super::plan::{Look, Plan};
use super::validity::{Machine, SensorLimits, Validity};

/// What a look sees of one scenario.
pub(super) struct Seen {
    pub(super) validity: Validity,
    /// As many blocks as the look is for, or as there are: without what was left out, with what stands in for it.
    pub(super) rows: Vec<Row>,
}

/// Whether `course` has too few blocks for a look, after `run` of them.
fn falls_short(course: &Course, run: usize, at: &Look, plan: &Plan, limits: &SensorLimits) -> bool {
    if run < at.blocks {
        return true;
    }
    if run >= plan.most_run(at) {
        return false;
    }
    let found = course.validity(run, limits);
    // More blocks do not mend a machine on which too many are bad.
    found.machine != Machine::Unfit && run - found.dropped.len() < at.blocks
}

impl Course {
    /// Whether one more block has to be run before this look.
    pub fn wants_block(&self, at: &Look, plan: &Plan, limits: &SensorLimits) -> bool {
        falls_short(self, self.blocks.len(), at, plan, limits)
    }

    /// What a look sees.
    pub(super) fn seen(&self, at: &Look, plan: &Plan, limits: &SensorLimits) -> Seen {
        let all = self.blocks.len();
        let run = (at.blocks..all).find(|run| !falls_short(self, *run, at, plan, limits));
        let run = run.unwrap_or(all);
        let mut validity = self.validity(run, limits);
        let dropped = validity.dropped_blocks();
        let vacant = dropped.iter().copied().filter(|block| *block < at.blocks);
        let further = (at.blocks..run).filter(|block| !dropped.contains(block));
        let places: Vec<(usize, usize)> = vacant.zip(further).collect();
        validity.standing_in = places.iter().map(|(_, block)| *block).collect();
        let mut rows = self.rows();
        for row in &mut rows {
            let whole = std::mem::take(&mut row.d);
            row.d = whole.iter().take(run.min(at.blocks)).copied().collect();
            for (block, d) in row.d.iter_mut().enumerate() {
                // Missing, not removed: a block keeps its place.
                *d = d.filter(|_| !dropped.contains(&block));
            }
            for (vacant, block) in &places {
                row.d[*vacant] = whole[*block];
            }
        }
        Seen { validity, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Block, Figures, look, walk};
    use super::super::{Metric, Outcome};
    use super::*;

    const CPU: &str = "server_cpu_us_per_delivery";

    /// Blocks in which the candidate is as much worse, those of these numbers on a crowded machine.
    fn course(blocks: usize, worse: f64, crowded: &[usize]) -> Course {
        let figures = |us: f64| Figures {
            values: [(CPU.to_owned(), us)].into(),
            ..Figures::default()
        };
        let block = |k: usize| {
            let mut block = Block {
                baseline: figures(10.0 + (k * 7 % 5) as f64),
                candidate: figures((10.0 + (k * 7 % 5) as f64) * (1.0 + worse + 0.001 * (k % 3) as f64)),
                ..Block::default()
            };
            block.sensors.others_cpu = Some(if crowded.contains(&k) { 0.9 } else { 0.1 });
            block
        };
        Course {
            scenario: "feed".to_owned(),
            metrics: vec![Metric::resource("feed", CPU)],
            blocks: (0..blocks).map(block).collect(),
        }
    }

    /// Runs blocks as a gate does for its first look.
    fn run(plan: &Plan, worse: f64, crowded: &[usize]) -> Course {
        let limits = SensorLimits::default();
        let mut blocks = 0;
        while course(blocks, worse, crowded).wants_block(&plan.looks[0], plan, &limits) {
            blocks += 1;
        }
        course(blocks, worse, crowded)
    }

    #[test]
    fn what_is_left_out_is_made_up_for_and_the_difference_found() {
        let (plan, limits) = (Plan::default(), SensorLimits::default());
        let course = run(&plan, 0.1, &[2, 5, 10]);
        assert_eq!(course.blocks.len(), 13);
        let found = look(std::slice::from_ref(&course), &plan, &limits, None).unwrap();
        assert_eq!(found.judgement.outcome, Outcome::Regression);
        assert_eq!(found.judgement.readings[0].blocks, 10);
        let validity = &found.validity[0].1;
        assert_eq!(validity.dropped_blocks(), [2, 5, 10]);
        assert_eq!(validity.standing_in, [11, 12]);
        // Without them it cannot be.
        let plan = Plan {
            looks: plan.looks[..1].to_vec(),
            spare: 0,
            ..plan
        };
        let found = look(&[course], &plan, &limits, None).unwrap();
        assert_ne!(found.judgement.outcome, Outcome::Regression);
        assert!(found.validity[0].1.standing_in.is_empty());
    }

    #[test]
    fn no_more_are_run_than_the_plan_has_or_than_help() {
        let plan = Plan::default();
        assert_eq!(run(&plan, 0.0, &[]).blocks.len(), 10);
        assert_eq!(run(&plan, 0.0, &[0, 1, 10]).blocks.len(), 13);
        // A machine that is crowded in more than three of ten blocks leaves none out.
        assert_eq!(run(&plan, 0.0, &[0, 1, 2, 3]).blocks.len(), 10);
        assert_eq!(run(&plan, 0.0, &[0, 1, 10, 11]).blocks.len(), 12);
        let spare = |spare| Plan {
            looks: plan.looks[..1].to_vec(),
            spare,
            ..plan.clone()
        };
        assert_eq!(run(&spare(2), 0.0, &[0, 1, 2]).blocks.len(), 12);
        assert_eq!(run(&spare(0), 0.0, &[0, 1, 2]).blocks.len(), 10);
    }

    #[test]
    fn a_replay_sees_at_each_look_what_the_gate_saw() {
        let (plan, limits) = (Plan::default(), SensorLimits::default());
        // Neither worse nor proven, so that all looks are made.
        let whole = course(36, 0.049, &[3, 4, 15]);
        let first = course(12, 0.049, &[3, 4, 15]);
        let before = look(&[first], &plan, &limits, None).unwrap();
        let again = look(std::slice::from_ref(&whole), &plan, &limits, None).unwrap();
        assert_eq!(before, again);
        assert_eq!(before.validity[0].1.standing_in, [10, 11]);
        let second = look(
            std::slice::from_ref(&whole),
            &plan,
            &limits,
            Some(&before.judgement),
        )
        .unwrap();
        assert_eq!(second.validity[0].1.standing_in, [20, 21, 22]);
        assert_eq!(second.judgement.readings[0].blocks, 20);
        let walked = walk(&[whole], &plan, &limits).unwrap();
        assert!(walked.judgement.look >= before.judgement.look);
    }
}
