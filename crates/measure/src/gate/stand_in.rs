//! Blocks that stand in for those left out.
//!
//! A look at ten blocks of which three were left out has only 2⁷ ways to flip signs: its smallest p-value is 1/128, and it
//! finds nothing at its level, however large the difference. So a further block is run for each that the sensors leave out.
//! They look at the generator and at the rest of the machine and treat both arms alike, and the further block has a coin of
//! its own: where nothing differs, the signs stay as fair as those of the blocks whose places are taken.
//!
//! How many blocks a look sees is a function of the data alone, so that a replay sees the same.

use super::difference::Row;
use super::evidence::{Course, Found};
use super::plan::Look;
use super::validity::{Machine, SensorLimits, Sensors, Validity, validity};

/// What a look sees of one scenario.
pub(super) struct Seen {
    pub(super) validity: Validity,
    /// As many blocks as the look is for, or as there are: without what was left out, with what stands in for it.
    pub(super) rows: Vec<Row>,
}

impl Course {
    /// What the sensors say of a look's own blocks, and which further ones stand in. Those are asked one by one: how many of
    /// them are bad says nothing of the look's own.
    fn validity(&self, at: &Look, limits: &SensorLimits) -> Validity {
        let own: Vec<Sensors> = self
            .blocks
            .iter()
            .take(at.blocks)
            .map(|b| b.sensors.clone())
            .collect();
        let mut found = validity(&own, limits);
        if found.machine != Machine::Unfit {
            let further = self.blocks.iter().enumerate().take(at.most_run()).skip(at.blocks);
            let good = further.filter(|(_, b)| b.sensors.against(found.machine, limits).is_empty());
            found.standing_in = good.map(|(k, _)| k).take(found.dropped.len()).collect();
        }
        found
    }

    /// Whether one more block has to be run before this look.
    pub fn wants_block(&self, at: &Look, limits: &SensorLimits) -> bool {
        let run = self.blocks.len();
        if run < at.blocks || run >= at.most_run() {
            return run < at.blocks;
        }
        let found = self.validity(at, limits);
        // More blocks do not mend what cannot be judged.
        found.machine != Machine::Unfit && found.standing_in.len() < found.dropped.len()
    }

    /// What a look sees. Of a scenario that was settled `before`, what the look saw that settled it.
    pub(super) fn seen(&self, at: &Look, limits: &SensorLimits, before: Option<&Found>) -> Seen {
        let mut rows = self.rows();
        if let Some(before) = before
            && !before.judgement.unsettled.contains(&self.scenario)
            && let Some((_, validity)) = before.validity.iter().find(|(name, _)| *name == self.scenario)
        {
            // Its readings stand; rows as short as these are not judged again.
            rows.iter_mut()
                .for_each(|row| row.d.truncate(before.judgement.at.blocks));
            return Seen {
                validity: validity.clone(),
                rows,
            };
        }
        let validity = self.validity(at, limits);
        for row in &mut rows {
            let whole = std::mem::take(&mut row.d);
            row.d = whole.iter().take(at.blocks).copied().collect();
            let mut further = validity.standing_in.iter();
            for dropped in &validity.dropped {
                // Missing, not removed: a block keeps its place.
                let other = further.next().and_then(|block| whole.get(*block)).copied();
                if let Some(d) = row.d.get_mut(dropped.block) {
                    *d = other.flatten();
                }
            }
        }
        Seen { validity, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Block, Figures, look, walk};
    use super::super::plan::Plan;
    use super::super::random::Random;
    use super::super::{Metric, Outcome};
    use super::*;

    const CPU: &str = "server_cpu_us_per_delivery";

    /// A block in which the candidate is worse by such a share.
    fn block(worse: f64, crowded: bool) -> Block {
        let figures = |us: f64| Figures {
            values: [(CPU.to_owned(), us)].into(),
            ..Figures::default()
        };
        let mut block = Block {
            baseline: figures(10.0),
            candidate: figures(10.0 * (1.0 + worse)),
            ..Block::default()
        };
        block.sensors.others_cpu = Some(if crowded { 0.9 } else { 0.1 });
        block
    }

    fn empty(scenario: &str) -> Course {
        Course {
            scenario: scenario.to_owned(),
            metrics: vec![Metric::resource(scenario, CPU)],
            ..Course::default()
        }
    }

    /// Runs blocks as a gate does for one look; those of these numbers are crowded.
    fn run(at: &Look, worse: f64, crowded: &[usize]) -> Course {
        let (mut course, limits) = (empty("feed"), SensorLimits::default());
        while course.wants_block(at, &limits) {
            let k = course.blocks.len();
            course
                .blocks
                .push(block(worse + 0.001 * (k % 3) as f64, crowded.contains(&k)));
        }
        course
    }

    /// Runs a gate of some scenarios, each with blocks of its own making, to its end.
    fn gate(plan: &Plan, scenarios: &mut [(Course, &mut dyn FnMut() -> Block)]) -> (Vec<Course>, Found) {
        let limits = SensorLimits::default();
        let mut before: Option<Found> = None;
        loop {
            let at = &plan.looks[before.as_ref().map_or(0, |b| b.judgement.look + 1)];
            for (course, make) in scenarios.iter_mut() {
                let settled = before
                    .as_ref()
                    .is_some_and(|b| !b.judgement.unsettled.contains(&course.scenario));
                while !settled && course.wants_block(at, &limits) {
                    course.blocks.push(make());
                }
            }
            let courses: Vec<Course> = scenarios.iter().map(|(course, _)| course.clone()).collect();
            let found = look(&courses, plan, &limits, before.as_ref()).unwrap();
            if found.judgement.outcome != Outcome::MoreBlocks {
                return (courses, found);
            }
            before = Some(found);
        }
    }

    #[test]
    fn what_is_left_out_is_made_up_for_and_the_difference_found() {
        let (plan, limits) = (Plan::default(), SensorLimits::default());
        let course = run(&plan.looks[0], 0.1, &[2, 5, 10]);
        assert_eq!(course.blocks.len(), 13);
        let found = look(std::slice::from_ref(&course), &plan, &limits, None).unwrap();
        assert_eq!(found.judgement.outcome, Outcome::Regression);
        assert_eq!(found.judgement.readings[0].blocks, 10);
        let validity = &found.validity[0].1;
        assert_eq!(validity.dropped_blocks(), [2, 5]);
        assert_eq!(validity.standing_in, [11, 12]);
        // Without them it cannot be.
        let mut plan = plan;
        plan.looks[0].spare = 0;
        let found = look(&[course], &plan, &limits, None).unwrap();
        assert_ne!(found.judgement.outcome, Outcome::Regression);
        assert!(found.validity[0].1.standing_in.is_empty());
    }

    #[test]
    fn no_more_are_run_than_the_look_has_or_than_help() {
        let at = Plan::default().looks[0];
        let blocks = |at: &Look, crowded: &[usize]| run(at, 0.0, crowded).blocks.len();
        assert_eq!(blocks(&at, &[]), 10);
        assert_eq!(blocks(&at, &[0, 1, 10]), 13);
        assert_eq!(blocks(&at, &[0, 1, 10, 11, 12]), 13);
        // A machine that is crowded in more than three of ten blocks leaves none out.
        assert_eq!(blocks(&at, &[0, 1, 2, 3]), 10);
        for spare in [0, 2] {
            assert_eq!(blocks(&Look { spare, ..at }, &[0, 1, 2]), 10 + spare);
        }
    }

    #[test]
    fn bad_ones_among_the_further_blocks_take_nothing_from_the_looks_own() {
        let plan = Plan::spending(&[16], 0.002).unwrap();
        // A quarter of its own are bad, and a third of all.
        let course = run(&plan.looks[0], 0.1, &[0, 1, 2, 3, 16, 17]);
        assert_eq!(course.blocks.len(), 20);
        let found = look(&[course], &plan, &SensorLimits::default(), None).unwrap();
        assert_eq!(found.machine, Machine::Fit);
        assert_eq!(found.validity[0].1.standing_in, [18, 19]);
        assert_eq!(found.judgement.readings[0].blocks, 14);
        assert_eq!(found.judgement.outcome, Outcome::Regression);
    }

    #[test]
    fn a_replay_sees_at_each_look_what_the_gate_saw() {
        let (plan, limits) = (Plan::default(), SensorLimits::default());
        let mut ends = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let (mut one, mut other) = (Random::new(2 * seed), Random::new(2 * seed + 1));
            let noisy = |random: &mut Random, spread: f64| {
                let crowded = random.uniform() < 0.15;
                block(spread * random.normal().clamp(-3.0, 3.0), crowded)
            };
            let (courses, found) = gate(
                &plan,
                &mut [
                    (empty("feed"), &mut || noisy(&mut one, 0.02)),
                    (empty("echo"), &mut || noisy(&mut other, 0.09)),
                ],
            );
            assert_eq!(walk(&courses, &plan, &limits).unwrap(), found, "seed {seed}");
            ends.insert(courses.iter().map(|c| c.blocks.len() / 10).collect::<Vec<_>>());
        }
        // Both to the end, one settled before, both settled at once.
        assert!(ends.len() >= 3, "{ends:?}");
    }

    #[test]
    fn where_nothing_differs_blocks_that_stand_in_raise_no_alarms() {
        const GATES: u32 = 3_000;
        let plan = Plan::spending(&[10], 0.02).unwrap();
        let mut alarms = 0;
        for seed in 0..GATES {
            let mut random = Random::new(u64::from(seed));
            // Some blocks are crowded, and differ more there; tails are heavy.
            let mut make = || {
                let crowded = random.uniform() < 0.15;
                let spread = if crowded { 0.5 } else { 0.1 };
                let tail = if random.uniform() < 0.1 { 3.0 } else { 1.0 };
                let d = spread * tail * random.normal();
                let mut block = block(0.0, crowded);
                block.candidate.values.insert(
                    CPU.to_owned(),
                    10.0 * super::super::exact::exp(d.clamp(-5.0, 5.0)),
                );
                block
            };
            let (_, found) = gate(&plan, &mut [(empty("feed"), &mut make)]);
            alarms += u32::from(found.judgement.outcome == Outcome::Regression);
        }
        // 2 % of 3,000 is 60, and its standard deviation below 8.
        assert!((30..=84).contains(&alarms), "{alarms} of {GATES}");
    }
}
