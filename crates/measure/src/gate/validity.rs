//! Whether the blocks can be judged at all: sensors first, statistics afterwards.
//!
//! A block is dropped as a pair, by a rule that treats both arms alike. It looks at the generator and at the rest of the
//! machine, never at what the servers did: a rule that dropped blocks in which the *baseline* was slow would leave the
//! slow blocks of the candidate in, and raise false alarms by itself. So whether the baseline carries the offered load
//! is asked once, over the whole gate.

use serde::{Deserialize, Serialize};

use super::exact::median;
use super::sampling::{Sampling, quantile_rule};

/// What the sensors saw in one block. A figure that could not be had is `None`, and no rule holds it against the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    /// Baseline arm: achieved over offered rate.
    pub baseline_achieved: Option<f64>,
    /// Both arms: share of scheduled messages that the generator did not send through its own fault, the larger.
    pub generator_missed: Option<f64>,
    /// Both arms: p99 of the generator's own lateness in nanoseconds, the larger.
    pub lateness_p99_ns: Option<u64>,
    /// Both arms: p99 of how late the generator's loops came round for a timer, in nanoseconds, the larger. What arrives in
    /// one burst keeps a loop busy without making it wrong: it is held against the tail.
    #[serde(default)]
    pub loop_delay_p99_ns: Option<u64>,
    /// The same at p90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_delay_p90_ns: Option<u64>,
    /// How often it was looked how late they came, in the arm with fewer looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_looks: Option<u64>,
    /// Processor time of others (total less both servers and the generator), as a share of the machine.
    pub others_cpu: Option<f64>,
    /// Share of time that the hypervisor gave to others.
    pub steal: Option<f64>,
}

/// What is still good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorLimits {
    /// Least achieved share of the offered rate, of the baseline over the gate and of the generator in each block.
    pub achieved: f64,
    /// Most lateness at p99, in nanoseconds, whatever the latency.
    pub lateness_ns: u64,
    /// Lateness may reach this share of the typical latency if that is more.
    pub lateness_share: f64,
    /// Loops may come round as late as this share of the typical latency, at p99 or p90, if that is more than `lateness_ns`.
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
    /// The numbers of the blocks left out, for [`super::Table::without`].
    pub fn dropped_blocks(&self) -> Vec<usize> {
        self.dropped.iter().map(|d| d.block).collect()
    }
}

/// Above the limit, or no number at all.
fn beyond(value: f64, limit: f64) -> bool {
    value.is_nan() || value > limit
}

/// Latencies that sensors are held against: numbers for the whole gate that treat the arms alike, the smaller of their
/// medians over the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Typical {
    /// Of p50, in nanoseconds.
    pub p50_ns: Option<u64>,
    /// Of p90, in nanoseconds.
    pub p90_ns: Option<u64>,
    /// Of p99, in nanoseconds.
    pub p99_ns: Option<u64>,
}

/// How late a block's loops were, at the quantile that its looks suffice for: the name, the lateness and the latency at it.
fn loops(s: &Sensors, typical: &Typical) -> Option<(&'static str, u64, Option<u64>)> {
    let few = s
        .loop_looks
        .is_some_and(|looks| quantile_rule(0.99, looks) != Sampling::Gated);
    match few {
        true => Some(("p90", s.loop_delay_p90_ns?, typical.p90_ns)),
        false => Some(("p99", s.loop_delay_p99_ns?, typical.p99_ns)),
    }
}

/// Judges the sensors of all blocks.
pub fn validity(blocks: &[Sensors], typical: &Typical, limits: &SensorLimits) -> Validity {
    let mut v = Validity::default();
    if blocks.is_empty() {
        v.machine = Machine::Unfit;
        v.findings.push("no block was run".to_owned());
        return v;
    }
    let limit = |typical: Option<u64>, share: f64| {
        let part = typical.map_or(0, |typical| (typical as f64 * share) as u64);
        limits.lateness_ns.max(part)
    };
    let lateness_limit = limit(typical.p50_ns, limits.lateness_share);
    let percent = |x: f64| 100.0 * x;
    let (mut crowded, mut generator) = (Vec::new(), Vec::new());
    for s in blocks {
        let (mut own, mut machine) = (Vec::new(), Vec::new());
        if let Some(missed) = s.generator_missed
            && beyond(missed, 1.0 - limits.achieved)
        {
            own.push(format!("the generator left {:.1} % unsent", percent(missed)));
        }
        if let Some(late) = s.lateness_p99_ns
            && late > lateness_limit
        {
            let (late, limit) = (late as f64 / 1e6, lateness_limit as f64 / 1e6);
            machine.push(format!(
                "the generator was {late:.1} ms late at p99, {limit:.1} allowed"
            ));
        }
        if let Some((quantile, late, beside)) = loops(s, typical) {
            let most = limit(beside, limits.loop_share);
            let (late_ms, most_ms) = (late as f64 / 1e6, most as f64 / 1e6);
            if late > most {
                machine.push(format!(
                    "the generator's loops came round {late_ms:.1} ms late at {quantile}, {most_ms:.1} allowed"
                ));
            }
        }
        if let Some(others) = s.others_cpu
            && beyond(others, limits.others_cpu)
        {
            machine.push(format!("others used {:.0} % of the processors", percent(others)));
        }
        if let Some(steal) = s.steal
            && beyond(steal, limits.steal)
        {
            machine.push(format!("the hypervisor took {:.0} % away", percent(steal)));
        }
        generator.push(own);
        crowded.push(machine);
    }
    let too_many = |whys: &[Vec<String>]| {
        let bad = whys.iter().filter(|why| !why.is_empty()).count();
        bad as f64 > limits.dropped * blocks.len() as f64
    };
    if too_many(&crowded) {
        // Every block is as good as the next: none is dropped for it, and times are not judged.
        v.machine = Machine::Saturated;
        let bad = crowded.iter().filter(|why| !why.is_empty()).count();
        v.findings.push(format!(
            "the machine was taken by others, or too slow to be timed, in {bad} of {} blocks",
            blocks.len()
        ));
        crowded.iter_mut().for_each(Vec::clear);
    }
    for (block, (own, machine)) in generator.into_iter().zip(crowded).enumerate() {
        let why: Vec<String> = own.into_iter().chain(machine).collect();
        if !why.is_empty() {
            v.dropped.push(Dropped { block, why });
        }
    }
    if v.dropped.len() as f64 > limits.dropped * blocks.len() as f64 {
        v.machine = Machine::Unfit;
        v.findings.push(format!(
            "{} of {} blocks had to be dropped",
            v.dropped.len(),
            blocks.len()
        ));
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

    const GOOD: Sensors = Sensors {
        baseline_achieved: Some(1.0),
        generator_missed: Some(0.0),
        lateness_p99_ns: Some(900_000),
        loop_delay_p99_ns: Some(900_000),
        loop_delay_p90_ns: Some(700_000),
        loop_looks: Some(2_000),
        others_cpu: Some(0.2),
        steal: Some(0.0),
    };

    fn p50(ns: u64) -> Typical {
        Typical {
            p50_ns: Some(ns),
            ..Typical::default()
        }
    }

    fn with(bad: usize, change: impl Fn(&mut Sensors)) -> Validity {
        let mut blocks = [GOOD; 10];
        blocks.iter_mut().take(bad).for_each(change);
        validity(&blocks, &p50(2_000_000), &SensorLimits::default())
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
        let late = |s: &mut Sensors| s.lateness_p99_ns = Some(1_100_000);
        assert!(with(3, late).dropped[0].why[0].contains("1.1 ms late"));
        assert_eq!(with(4, late).machine, Machine::Saturated);
        // A generator that fails is worse.
        let both = with(4, |s| (s.others_cpu, s.generator_missed) = (Some(0.9), Some(0.2)));
        assert_eq!(both.machine, Machine::Unfit);
    }

    #[test]
    fn lateness_is_held_against_the_latency() {
        let late = |s: &mut Sensors| s.lateness_p99_ns = Some(4_000_000);
        let mut blocks = [GOOD; 10];
        late(&mut blocks[0]);
        let limits = SensorLimits::default();
        assert_eq!(
            validity(&blocks, &p50(50_000_000), &limits).dropped_blocks(),
            [0; 0]
        );
        assert_eq!(validity(&blocks, &p50(30_000_000), &limits).dropped_blocks(), [0]);
        assert_eq!(
            validity(&blocks, &Typical::default(), &limits).dropped_blocks(),
            [0]
        );
    }

    #[test]
    fn a_loop_that_is_busy_with_a_burst_is_held_against_the_tail() {
        let mut blocks = [GOOD; 10];
        blocks[0].loop_delay_p99_ns = Some(4_000_000);
        let limits = SensorLimits::default();
        let dropped = |blocks: &[Sensors], p90_ns, p99_ns| {
            let typical = Typical {
                p90_ns,
                p99_ns,
                ..p50(2_000_000)
            };
            validity(blocks, &typical, &limits).dropped_blocks()
        };
        assert_eq!(dropped(&blocks, None, Some(8_000_000)), [0; 0]);
        assert_eq!(dropped(&blocks, None, Some(7_000_000)), [0]);
        assert_eq!(dropped(&blocks, None, None), [0]);
        // The p99 of a hundred looks is the latest of them: p90 is asked.
        blocks[0].loop_looks = Some(137);
        assert_eq!(dropped(&blocks, None, None), [0; 0]);
        blocks[0].loop_delay_p90_ns = Some(3_000_000);
        assert_eq!(dropped(&blocks, Some(6_000_000), Some(900_000)), [0; 0]);
        assert_eq!(dropped(&blocks, Some(5_000_000), Some(900_000_000)), [0]);
    }

    #[test]
    fn a_baseline_that_cannot_carry_the_load_is_asked_once() {
        assert_eq!(
            with(5, |s| s.baseline_achieved = Some(0.9)).machine,
            Machine::Unfit
        );
        let few = with(4, |s| s.baseline_achieved = Some(0.9));
        assert_eq!((few.machine, few.dropped.len()), (Machine::Fit, 0));
        assert_eq!(
            validity(&[], &Typical::default(), &SensorLimits::default()).machine,
            Machine::Unfit
        );
    }
}
