//! Whether the blocks can be judged at all: sensors first, statistics afterwards.
//!
//! A block is dropped as a pair, by a rule that treats both arms alike. It looks at the generator and at the rest of the
//! machine, never at what the servers did: a rule that dropped blocks in which the *baseline* was slow would leave the
//! slow blocks of the candidate in, and raise false alarms by itself. So whether the baseline carries the offered load
//! is asked once, over the whole gate.

use serde::{Deserialize, Serialize};

use super::exact::median;

/// How late something of an arm's generator was, beside the latency of the same arm in the same block.
///
/// Beside its own: bursts of a slow server keep its generator's loop busy without making it wrong, and a limit that came
/// from the other arm, or from both over all blocks, would depend on which arm is which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// The quantile of the lateness.
    pub quantile: f64,
    /// In nanoseconds.
    pub late_ns: u64,
    /// In nanoseconds; `None` where nothing was timed.
    pub latency_ns: Option<u64>,
}

impl Lateness {
    /// What may not be exceeded: `least_ns`, or `share` of the latency where that is more.
    fn limit_ns(&self, least_ns: u64, share: f64) -> u64 {
        let part = self
            .latency_ns
            .map_or(0, |latency| (latency as f64 * share) as u64);
        least_ns.max(part)
    }
}

/// What the sensors saw in one block. A figure that could not be had is `None`, and no rule holds it against the block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    /// Baseline arm: achieved over offered rate.
    pub baseline_achieved: Option<f64>,
    /// Both arms: share of scheduled messages that the generator did not send through its own fault, the larger.
    pub generator_missed: Option<f64>,
    /// How late each arm's generator sent, through its own fault.
    #[serde(default)]
    pub sends: Vec<Lateness>,
    /// How late each arm's loops came round for a timer.
    #[serde(default)]
    pub loops: Vec<Lateness>,
    /// Processor time of others (total less both servers and the generator), as a share of the machine.
    pub others_cpu: Option<f64>,
    /// Share of time that the hypervisor gave to others.
    pub steal: Option<f64>,
}

impl Sensors {
    /// What the generator did wrong, in words.
    fn faults(&self, limits: &SensorLimits) -> Vec<String> {
        let missed = self
            .generator_missed
            .filter(|m| beyond(*m, 1.0 - limits.achieved));
        let words = missed.map(|missed| format!("the generator left {:.1} % unsent", 100.0 * missed));
        words.into_iter().collect()
    }

    /// What the machine had no time for, in words.
    fn crowded(&self, limits: &SensorLimits) -> Vec<String> {
        let mut all = Vec::new();
        for (lateness, what, share) in [
            (&self.sends, "generator sent", limits.lateness_share),
            (&self.loops, "generator's loops came round", limits.loop_share),
        ] {
            let most = |l: &&Lateness| l.limit_ns(limits.lateness_ns, share);
            let over = lateness.iter().filter(|l| l.late_ns > most(l));
            if let Some(worst) = over.max_by_key(|l| l.late_ns) {
                all.push(format!(
                    "the {what} {:.1} ms late at p{:.0}, {:.1} allowed",
                    worst.late_ns as f64 / 1e6,
                    100.0 * worst.quantile,
                    most(&worst) as f64 / 1e6
                ));
            }
        }
        if let Some(others) = self.others_cpu.filter(|o| beyond(*o, limits.others_cpu)) {
            all.push(format!("others used {:.0} % of the processors", 100.0 * others));
        }
        if let Some(steal) = self.steal.filter(|s| beyond(*s, limits.steal)) {
            all.push(format!("the hypervisor took {:.0} % away", 100.0 * steal));
        }
        all
    }

    /// Why a block is left out, where so much can be judged of its scenario.
    pub(super) fn against(&self, machine: Machine, limits: &SensorLimits) -> Vec<String> {
        let mut all = self.faults(limits);
        if machine != Machine::Saturated {
            all.extend(self.crowded(limits));
        }
        all
    }
}

/// What is still good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorLimits {
    /// Least achieved share of the offered rate, of the baseline over the gate and of the generator in each block.
    pub achieved: f64,
    /// Most lateness, in nanoseconds, whatever the latency.
    pub lateness_ns: u64,
    /// Sends may be late by this share of the latency if that is more.
    pub lateness_share: f64,
    /// Loops may come round as late as this share of the latency if that is more.
    pub loop_share: f64,
    /// Most processor time of others.
    pub others_cpu: f64,
    /// Most steal.
    pub steal: f64,
    /// Most blocks that may be dropped, as a share.
    pub dropped: f64,
}

impl Default for SensorLimits {
    fn default() -> Self {
        Self {
            achieved: 0.995,
            lateness_ns: 1_000_000,
            lateness_share: 0.10,
            loop_share: 0.50,
            others_cpu: 0.50,
            steal: 0.50,
            dropped: 0.30,
        }
    }
}

/// What the machine allows to be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// Everything.
    #[default]
    Fit,
    /// It had no processor free, or none in time: CPU a message, memory and loss are judged, times are not.
    Saturated,
    /// Nothing.
    Unfit,
}

/// Why a block was dropped, or a gate is invalid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Which block, from zero.
    pub block: usize,
    /// What was seen.
    pub why: Vec<String>,
}

/// Which blocks can be judged, and how far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// How far.
    pub machine: Machine,
    /// Blocks left out, as pairs.
    pub dropped: Vec<Dropped>,
    /// Blocks that stand in for some of those, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standing_in: Vec<usize>,
    /// What was seen over the whole gate.
    pub findings: Vec<String>,
}

impl Validity {
    /// The numbers of the blocks left out.
    pub fn dropped_blocks(&self) -> Vec<usize> {
        self.dropped.iter().map(|d| d.block).collect()
    }
}

/// Above the limit, or no number at all.
fn beyond(value: f64, limit: f64) -> bool {
    value.is_nan() || value > limit
}

/// Judges the sensors of the blocks of a look. Of each block by itself, and the same whichever arm is which: what is left
/// out does not depend on the signs that are tested.
pub fn validity(blocks: &[Sensors], limits: &SensorLimits) -> Validity {
    let mut v = Validity::default();
    if blocks.is_empty() {
        v.machine = Machine::Unfit;
        v.findings.push("no block was run".to_owned());
        return v;
    }
    let percent = |x: f64| 100.0 * x;
    let too_many = |bad: usize| bad as f64 > limits.dropped * blocks.len() as f64;
    let count = |bad: &dyn Fn(&Sensors) -> bool| blocks.iter().filter(|s| bad(s)).count();
    let faulty = count(&|s| !s.faults(limits).is_empty());
    let bad = count(&|s| !s.against(Machine::Fit, limits).is_empty());
    if too_many(faulty) {
        v.machine = Machine::Unfit;
        v.findings
            .push(format!("{faulty} of {} blocks had to be dropped", blocks.len()));
    } else if too_many(bad) {
        // Every block is as good as the next: none is dropped for it, and times are not judged.
        v.machine = Machine::Saturated;
        v.findings.push(format!(
            "the machine was taken by others, or too slow to be timed, in {bad} of {} blocks",
            blocks.len()
        ));
    }
    for (block, s) in blocks.iter().enumerate() {
        let why = s.against(v.machine, limits);
        if !why.is_empty() {
            v.dropped.push(Dropped { block, why });
        }
    }
    let achieved: Vec<f64> = blocks
        .iter()
        .filter_map(|s| s.baseline_achieved)
        .map(|a| if a.is_nan() { 0.0 } else { a })
        .collect();
    if let Some(achieved) = median(&achieved)
        && achieved < limits.achieved
    {
        v.machine = Machine::Unfit;
        v.findings.push(format!(
            "the baseline reached {:.1} % of the offered rate: offer less",
            percent(achieved)
        ));
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(quantile: f64, late_us: u64, latency_us: Option<u64>) -> Lateness {
        Lateness {
            quantile,
            late_ns: late_us * 1_000,
            latency_ns: latency_us.map(|us| us * 1_000),
        }
    }

    fn good() -> Sensors {
        Sensors {
            baseline_achieved: Some(1.0),
            generator_missed: Some(0.0),
            sends: vec![late(0.99, 900, Some(2_000)); 2],
            loops: vec![late(0.99, 900, None); 2],
            others_cpu: Some(0.2),
            steal: Some(0.0),
        }
    }

    fn with(bad: usize, change: impl Fn(&mut Sensors)) -> Validity {
        let mut blocks = vec![good(); 10];
        blocks.iter_mut().take(bad).for_each(change);
        validity(&blocks, &SensorLimits::default())
    }

    #[test]
    fn good_sensors_drop_nothing() {
        assert_eq!(with(0, |_| ()), Validity::default());
        // Sensors that a system does not have say nothing.
        assert_eq!(with(10, |s| *s = Sensors::default()), Validity::default());
    }

    #[test]
    fn a_bad_block_is_dropped_and_too_many_are_invalid() {
        type Change = fn(&mut Sensors);
        let changes: [(Change, &str); 2] = [
            (|s| s.generator_missed = Some(0.01), "1.0 % unsent"),
            (|s| s.generator_missed = Some(f64::NAN), "unsent"),
        ];
        for (change, word) in changes {
            let some = with(3, change);
            assert_eq!(some.machine, Machine::Fit);
            assert_eq!(some.dropped_blocks(), [0, 1, 2]);
            assert!(some.dropped[0].why[0].contains(word), "{some:?}");
            assert_eq!(with(4, change).machine, Machine::Unfit);
        }
    }

    #[test]
    fn a_crowded_machine_still_judges_what_it_can() {
        let crowd = |s: &mut Sensors| s.others_cpu = Some(0.9);
        assert_eq!(with(3, crowd).dropped_blocks(), [0, 1, 2]);
        let saturated = with(4, crowd);
        assert_eq!(
            (saturated.machine, saturated.dropped.len()),
            (Machine::Saturated, 0)
        );
        assert_eq!(with(4, |s| s.steal = Some(0.6)).machine, Machine::Saturated);
        // A generator that comes late to its own timers cannot time others, and counts as well as ever.
        let slow = |s: &mut Sensors| s.sends[1].late_ns = 1_100_000;
        assert!(with(3, slow).dropped[0].why[0].contains("1.1 ms late at p99, 1.0 allowed"));
        assert_eq!(with(4, slow).machine, Machine::Saturated);
        // A generator that fails is worse.
        let both = with(4, |s| (s.others_cpu, s.generator_missed) = (Some(0.9), Some(0.2)));
        assert_eq!(both.machine, Machine::Unfit);
    }

    #[test]
    fn more_that_is_bad_never_lets_more_be_judged() {
        let missed = |s: &mut Sensors| s.generator_missed = Some(0.1);
        let mut last = Machine::Fit;
        for crowded in 0..=9 {
            let mut blocks = vec![good(); 10];
            blocks.iter_mut().take(crowded).for_each(|s| s.steal = Some(0.9));
            missed(&mut blocks[9]);
            let found = validity(&blocks, &SensorLimits::default());
            assert!(found.machine >= last, "{crowded}: {found:?}");
            last = found.machine;
            let dropped = if crowded < 3 { crowded + 1 } else { 1 };
            assert_eq!((crowded, found.dropped.len()), (crowded, dropped));
        }
        assert_eq!(last, Machine::Saturated);
    }

    #[test]
    fn lateness_is_held_against_the_arms_own_latency() {
        let with = |sends: Vec<Lateness>, loops: Vec<Lateness>| {
            let mut blocks = vec![good(); 10];
            (blocks[0].sends, blocks[0].loops) = (sends, loops);
            validity(&blocks, &SensorLimits::default()).dropped_blocks()
        };
        let sends = |latency_us| with(vec![late(0.99, 4_000, latency_us)], Vec::new());
        assert_eq!(sends(Some(50_000)), [0; 0]);
        assert_eq!(sends(Some(30_000)), [0]);
        assert_eq!(sends(None), [0]);
        let loops = |arms: [(u64, u64); 2]| {
            let arms = arms.map(|(late_us, latency_us)| late(0.9, late_us, Some(latency_us)));
            with(Vec::new(), arms.to_vec())
        };
        assert_eq!(loops([(4_000, 8_000), (15_000, 30_000)]), [0; 0]);
        // Either arm's, and not the other's latency.
        assert_eq!(loops([(4_000, 7_000), (15_000, 30_000)]), [0]);
        assert_eq!(loops([(15_000, 30_000), (4_000, 7_000)]), [0]);
    }

    #[test]
    fn a_baseline_that_cannot_carry_the_load_is_asked_once() {
        assert_eq!(
            with(5, |s| s.baseline_achieved = Some(0.9)).machine,
            Machine::Unfit
        );
        let few = with(4, |s| s.baseline_achieved = Some(0.9));
        assert_eq!((few.machine, few.dropped.len()), (Machine::Fit, 0));
        assert_eq!(validity(&[], &SensorLimits::default()).machine, Machine::Unfit);
    }
}
