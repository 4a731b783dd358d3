//! Profiles: how long a gate is, and when it looks.

use std::time::Duration;

use pushmark_measure::Slots;
use pushmark_measure::gate::Plan;

use crate::args::{GateArgs, GateProfile};

/// A block takes about this much longer than its warm-up, its window and its ramps: processes start and end, connections
/// close, what is in flight arrives.
const OVERHEAD: Duration = Duration::from_millis(1_000);
/// What the quick profile may take for one scenario.
const QUICK: Duration = Duration::from_secs(345);
/// False alarms a gate.
const ALPHA: f64 = 0.01;

/// How long, and when.
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) plan: Plan,
    pub(super) warmup: Duration,
    /// The measured window of both arms together.
    pub(super) measure: Duration,
    /// One block of every cell, as a whole.
    pub(super) block: Duration,
}

impl Profile {
    /// The profile of these arguments for so many cells that are loaded in turns. `besides` is what a block takes besides their
    /// windows: ramps, and cells that cannot take turns.
    ///
    /// # Errors
    /// In words, when the looks cannot work.
    pub(super) fn of(args: &GateArgs, cells: usize, besides: Duration) -> Result<Self, String> {
        let in_turns = cells as u32;
        let cells = in_turns.max(1);
        let seconds = Duration::from_secs_f64;
        let wanted = match args.self_test {
            Some(_) if args.profile.is_none() => GateProfile::SelfTest,
            _ => args.profile.unwrap_or_default(),
        };
        let (name, looks, warmup, measure): (_, &[usize], _, _) = match wanted {
            GateProfile::Quick => {
                let looks: &[usize] = &[10, 14];
                let warmup = seconds(1.0);
                // As long as its time allows.
                let block = QUICK / 14;
                let free = block.saturating_sub(besides) / cells;
                let free = free.saturating_sub(OVERHEAD + warmup);
                ("quick", looks, warmup, free.clamp(seconds(2.0), seconds(12.0)))
            }
            GateProfile::Standard => ("standard", &[10, 20, 30], seconds(2.0), seconds(20.0)),
            GateProfile::Long => ("long", &[15, 30, 45], seconds(3.0), seconds(40.0)),
            GateProfile::SelfTest => {
                // Two cells in about a minute: blocks differ more from one another than their length mends.
                let measure = (seconds(2.0) / cells).max(seconds(1.0));
                ("self-test", &[14], seconds(0.4), measure)
            }
        };
        let looks = args.looks.as_deref().unwrap_or(looks);
        let plan = match (wanted, &args.looks, args.alpha) {
            (GateProfile::Standard, None, None) => Plan::default(),
            // One look with as few false alarms as the first one of a standard gate.
            (GateProfile::SelfTest, None, None) => {
                let alpha = Plan::default().looks.first().map_or(ALPHA, |look| look.alpha);
                Plan::spending(looks, alpha).map_err(|e| e.to_string())?
            }
            (_, _, alpha) => Plan::spending(looks, alpha.unwrap_or(ALPHA)).map_err(|e| e.to_string())?,
        };
        // What stands in for blocks that are left out takes time, too.
        let plan = match wanted {
            GateProfile::Quick => plan.without_spare(),
            _ => plan,
        };
        let millis = |given: Option<u64>, usual| whole_turns(given.map_or(usual, Duration::from_millis));
        let (warmup, measure) = (millis(args.warmup_ms, warmup), millis(args.measure_ms, measure));
        Ok(Self {
            name,
            plan,
            warmup,
            measure,
            block: besides + in_turns * (warmup + measure + OVERHEAD),
        })
    }
}

/// Rounded up to whole turns of both arms, so that both get the same messages.
fn whole_turns(span: Duration) -> Duration {
    let slots = Slots::of_two(0);
    let turn = slots.length_ns * u64::from(slots.of);
    let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2);
    Duration::from_nanos(ns.div_ceil(turn).max(1) * turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: Option<GateProfile>, cells: usize, ramp_s: u64) -> Profile {
        let args = GateArgs {
            profile,
            ..GateArgs::default()
        };
        Profile::of(&args, cells, Duration::from_secs(ramp_s)).unwrap()
    }

    #[test]
    fn the_quick_profile_keeps_within_its_time() {
        for (cells, ramps) in [(1, 0), (1, 4), (3, 3), (3, 12)] {
            let p = of(Some(GateProfile::Quick), cells, ramps);
            let most = p.block * p.plan.most_run() as u32;
            assert!(most <= Duration::from_secs(360), "{cells} cells: {most:?}");
        }
    }

    #[test]
    fn windows_are_whole_turns_and_plans_spend_what_they_may() {
        for profile in [
            None,
            Some(GateProfile::Quick),
            Some(GateProfile::Long),
            Some(GateProfile::SelfTest),
        ] {
            let p = of(profile, 2, 1);
            let whole = |d: Duration| d.as_nanos().is_multiple_of(200_000_000);
            assert!(whole(p.warmup) && whole(p.measure) && p.measure >= Duration::from_secs(1));
            let total = if p.name == "self-test" { 0.002 } else { 0.01 };
            assert!((p.plan.total_alpha() - total).abs() < 1e-9, "{}", p.name);
        }
    }
}
