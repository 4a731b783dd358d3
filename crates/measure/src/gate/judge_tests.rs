//! Tables whose answer is known.

use super::*;

/// A row of `blocks` differences around `shift`, up to 1.2 % on both sides; rows of other `turn`s go other ways.
fn row(metric: Metric, blocks: usize, shift: f64, turn: usize) -> Row {
    const AROUND: [f64; 10] = [0.5, -1.2, 0.3, -0.6, 1.1, -0.9, 0.2, -0.4, 0.8, -0.1];
    Row {
        metric,
        d: (0..blocks)
            .map(|k| Some(shift + 0.01 * AROUND[(k + 3 * turn) % 10]))
            .collect(),
    }
}

fn table(rows: Vec<Row>) -> Table {
    Table { rows }
}

/// Walks through the plan's looks as far as the data reach.
fn replay(table: &Table, plan: &Plan, machine: Machine) -> Result<Judgement, JudgeError> {
    let mut last = judge(table, plan, None, &|_| machine)?;
    while last.outcome == Outcome::MoreBlocks
        && plan
            .looks
            .get(last.look + 1)
            .is_some_and(|next| next.blocks <= table.blocks())
    {
        last = judge(table, plan, Some(&last), &|_| machine)?;
    }
    Ok(last)
}

fn say(rows: Vec<Row>) -> Judgement {
    replay(&table(rows), &Plan::default(), Machine::Fit).unwrap()
}

fn p50(blocks: usize, shift: f64) -> Row {
    row(Metric::latency("feed", "p50", 0.5), blocks, shift, 1)
}

fn cpu(blocks: usize, shift: f64) -> Row {
    row(Metric::resource("feed", "CPU"), blocks, shift, 2)
}

#[test]
fn the_four_ends() {
    let pass = say(vec![p50(10, 0.0), cpu(10, 0.0)]);
    assert_eq!((pass.outcome, pass.at.blocks), (Outcome::Pass, 10));
    assert!(pass.readings.iter().all(|r| r.standing == Standing::Pass));

    let worse = say(vec![p50(10, 0.0), cpu(10, 0.08)]);
    assert_eq!(worse.outcome, Outcome::Regression);
    assert_eq!(worse.readings[0].standing, Standing::Pass);
    assert_eq!(worse.readings[1].standing, Standing::Regression);
    assert_eq!(worse.readings[1].p, Some(1.0 / 1024.0));

    let better = say(vec![p50(10, 0.0), cpu(10, -0.08)]);
    assert_eq!(better.outcome, Outcome::Improvement);
    assert_eq!(better.readings[1].p_better, Some(1.0 / 1024.0));

    // Around the budget nothing is proven, and below the floor nothing is called worse.
    let mut wide = p50(30, 0.0);
    wide.d.iter_mut().for_each(|d| *d = d.map(|d| d * 50.0));
    let unknown = say(vec![wide, cpu(30, 0.0)]);
    assert_eq!((unknown.outcome, unknown.at.blocks), (Outcome::Inconclusive, 30));
    assert_eq!(unknown.unsettled, ["feed"]);
}

#[test]
fn a_sure_difference_below_the_floor_is_no_regression() {
    let said = say(vec![p50(30, 0.0), cpu(30, 0.02)]);
    assert!(said.readings[1].p.unwrap() < 0.001);
    assert_eq!(said.readings[1].standing, Standing::Pass);
    // In doubt as long as there are looks to come; passed at the last.
    assert_eq!((said.outcome, said.at.blocks), (Outcome::Pass, 30));
}

#[test]
fn roles() {
    let with = |role, shift| {
        let mut tail = row(Metric::latency("feed", "p99.9", 0.999), 10, shift, 3);
        tail.metric.role = role;
        say(vec![p50(10, 0.0), tail])
    };
    let told = with(Role::Advisory, 0.5);
    assert_eq!(
        (told.outcome, told.readings[1].standing),
        (Outcome::Pass, Standing::Regression)
    );
    assert_eq!(with(Role::Tested, 0.5).outcome, Outcome::Regression);
    // Not proven: decisive only where proof is asked for.
    assert_eq!(with(Role::Tested, 0.0).outcome, Outcome::Pass);
    let mut noisy = row(Metric::latency("feed", "p99.9", 0.999), 30, 0.0, 3);
    noisy.d.iter_mut().for_each(|d| *d = d.map(|d| d * 150.0));
    noisy.metric.role = Role::Required;
    assert_eq!(
        say(vec![p50(30, 0.0), noisy.clone()]).outcome,
        Outcome::Inconclusive
    );
    noisy.metric.role = Role::Advisory;
    assert_eq!(say(vec![p50(30, 0.0), noisy.clone()]).outcome, Outcome::Pass);
    // Nothing required, nothing proven.
    assert_eq!(say(vec![noisy]).outcome, Outcome::Inconclusive);
}

#[test]
fn what_is_missing_never_passes() {
    let mut holes = cpu(30, 0.0);
    holes.d.iter_mut().take(4).for_each(|d| *d = None);
    let said = judge(
        &table(vec![p50(10, 0.0), holes.clone()]),
        &Plan::default(),
        None,
        &|_| Machine::Fit,
    )
    .unwrap();
    assert_eq!(said.outcome, Outcome::MoreBlocks);
    assert_eq!(said.readings[1].standing, Standing::NotTested);
    assert!(
        said.readings[1]
            .why
            .as_ref()
            .unwrap()
            .contains("only 6 of 10 blocks")
    );
    // Three of ten may be missing.
    holes.d[3] = Some(0.0);
    let said = judge(&table(vec![p50(10, 0.0), holes]), &Plan::default(), None, &|_| {
        Machine::Fit
    })
    .unwrap();
    assert_eq!(said.outcome, Outcome::Pass);
    // A row that ends before the first look.
    let short = say(vec![p50(30, 0.0), cpu(9, 0.0)]);
    assert_eq!(short.outcome, Outcome::Inconclusive);
    assert!(
        short.readings[1]
            .why
            .as_ref()
            .unwrap()
            .contains("ended after 9 of 30 blocks")
    );
    for rows in [vec![], vec![p50(0, 0.0)], vec![p50(9, 0.0)]] {
        assert!(replay(&table(rows), &Plan::default(), Machine::Fit).is_err());
    }
}

#[test]
fn a_settled_scenario_may_end_and_an_unsettled_one_may_not() {
    let other = |name, blocks, shift| row(Metric::resource("echo", name), blocks, shift, 7);
    // The echo scenario is in doubt at the first look; the feed is settled and ends.
    let rows = |feed: usize, echo: usize| vec![p50(feed, 0.0), cpu(feed, 0.0), other("CPU", echo, 0.02)];
    let first = judge(&table(rows(10, 10)), &Plan::default(), None, &|_| Machine::Fit).unwrap();
    assert_eq!(
        (first.outcome, &first.unsettled[..]),
        (Outcome::MoreBlocks, &["echo".to_owned()][..])
    );
    let said = say(rows(10, 30));
    assert_eq!((said.outcome, said.at.blocks), (Outcome::Pass, 30));
    assert_eq!(said.readings[0], first.readings[0]);
    let twice = said.readings[2].p.unwrap() / 2.0;
    assert!(twice < 0.001, "two scenarios share the false alarms");
    let ended = say(rows(30, 10));
    assert_eq!(ended.outcome, Outcome::Inconclusive);
}

#[test]
fn a_saturated_machine_judges_cpu_and_not_times() {
    let say = |shift| {
        let rows = vec![p50(30, 3.0), cpu(30, shift)];
        replay(&table(rows), &Plan::default(), Machine::Saturated).unwrap()
    };
    assert_eq!(say(0.0).outcome, Outcome::Inconclusive);
    assert_eq!(say(0.0).readings[1].standing, Standing::Pass);
    assert_eq!(say(0.08).outcome, Outcome::Regression);
    let unfit = replay(&table(vec![cpu(30, 3.0)]), &Plan::default(), Machine::Unfit).unwrap();
    assert_eq!(unfit.outcome, Outcome::Invalid);
}

#[test]
fn a_scenario_that_cannot_be_judged_takes_nothing_from_another() {
    let other = |shift| row(Metric::resource("herd", "CPU"), 10, shift, 7);
    let with = |rows: Vec<Row>, herd: Machine| {
        let machine = |scenario: &str| if scenario == "herd" { herd } else { Machine::Fit };
        judge(&table(rows), &Plan::default(), None, &machine).unwrap()
    };
    let said = with(vec![p50(10, 0.08), other(0.0)], Machine::Saturated);
    assert_eq!(said.outcome, Outcome::Regression);
    let said = with(vec![p50(10, 0.08), other(0.0)], Machine::Unfit);
    assert_eq!(said.outcome, Outcome::Regression);
    assert_eq!(said.readings[1].standing, Standing::NotTested);
    // It is not proven either.
    let said = with(vec![p50(10, 0.0), other(0.0)], Machine::Unfit);
    assert_eq!(
        (said.outcome, &said.unsettled[..]),
        (Outcome::MoreBlocks, &["herd".to_owned()][..])
    );
    assert_eq!(with(vec![other(0.0)], Machine::Unfit).outcome, Outcome::Invalid);
}

#[test]
fn a_rate_that_fell_and_messages_that_were_lost() {
    let (rate, _) = Row::of(Metric::rate("feed", "rate"), &[(100.0, 0.0); 10]);
    let said = say(vec![rate, cpu(10, 0.0)]);
    assert_eq!(said.readings[0].standing, Standing::Regression);
    let loss = |lost| Row::of(Metric::fraction("feed", "loss"), &[(0.0, lost); 10]).0;
    assert_eq!(say(vec![loss(0.0), cpu(10, 0.0)]).outcome, Outcome::Pass);
    let lossy = say(vec![loss(0.005), cpu(10, 0.0)]);
    assert_eq!(lossy.outcome, Outcome::Regression);
    // Sure, but below a tenth of a percentage point.
    assert_ne!(
        say(vec![loss(0.000_5), cpu(10, 0.0)]).outcome,
        Outcome::Regression
    );
}

#[test]
fn one_block_that_lost_everything_is_no_proof_of_a_share() {
    let with = |worst: f64| {
        let mut sides = [(0.0, 0.0); 30];
        sides[4].1 = worst;
        let (lost, _) = Row::of(Metric::fraction("feed", "not_recovered"), &sides);
        say(vec![lost, cpu(30, 0.0)])
    };
    // The bound says that nothing happened: ranks do not see one of thirty.
    let all = with(1.0);
    assert_eq!(all.readings[0].estimate.unwrap().upper, Some(0.0));
    assert!(!all.readings[0].proven);
    assert_eq!(all.outcome, Outcome::Inconclusive);
    // Over thirty blocks, less than the budget.
    assert_eq!(with(0.05).outcome, Outcome::Pass);
}

#[test]
fn a_replay_from_the_file_is_the_same_to_the_last_bit() {
    for shift in [0.0, 0.02, 0.035, 0.08] {
        let (table, plan) = (table(vec![p50(30, 0.0), cpu(30, shift)]), Plan::default());
        let written = (
            serde_json::to_string(&table).unwrap(),
            serde_json::to_string(&plan).unwrap(),
        );
        let read: (Table, Plan) = (
            serde_json::from_str(&written.0).unwrap(),
            serde_json::from_str(&written.1).unwrap(),
        );
        assert_eq!((&read.0, &read.1), (&table, &plan));
        let (first, again) = (
            replay(&table, &plan, Machine::Fit).unwrap(),
            replay(&read.0, &read.1, Machine::Fit).unwrap(),
        );
        assert_eq!(first, again);
        let said: Judgement = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        assert_eq!(said, first);
    }
}

#[test]
fn what_can_be_detected_shrinks_with_blocks() {
    let at = |look: usize| {
        let table = table(vec![p50(30, 0.0), cpu(30, 0.0)]);
        let mut said = judge(&table, &Plan::default(), None, &|_| Machine::Fit).unwrap();
        for _ in 0..look {
            said = judge(&table, &Plan::default(), Some(&said), &|_| Machine::Fit).unwrap();
        }
        said.readings[1].detectable.unwrap()
    };
    assert!(at(0) > at(1) && at(1) > at(2), "{} {} {}", at(0), at(1), at(2));
    assert!((0.005..0.05).contains(&at(2)), "{}", at(2));
}
