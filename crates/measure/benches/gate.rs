//! What a gate's statistics cost: `cargo bench -p pushmark-measure --bench gate`.
#![allow(missing_docs, reason = "criterion makes public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pushmark_measure::gate::maxt::max_t;
use pushmark_measure::gate::random::Random;
use pushmark_measure::gate::simulate::{Experiment, Simulation};
use pushmark_measure::gate::{Creep, Machine, Plan, change_points, judge};

fn gate(c: &mut Criterion) {
    let mut machine = Simulation::new(&Experiment::new(1, 1), 1);
    (0..30).for_each(|_| machine.block(&[false; 4]));
    let table = machine.table;
    for blocks in [10, 12, 30] {
        let rows: Vec<&[Option<f64>]> = table.rows.iter().map(|r| &r.d[..blocks]).collect();
        c.bench_function(&format!("max-T, 20 metrics, {blocks} blocks"), |b| {
            b.iter(|| max_t(black_box(&rows), 0.01));
        });
    }
    let last = Plan {
        looks: Plan::default().looks[2..].to_vec(),
        ..Plan::default()
    };
    c.bench_function("a whole look at 30 blocks", |b| {
        b.iter(|| judge(black_box(&table), &last, None, &|_| Machine::Fit));
    });
    let mut random = Random::new(2);
    let series: Vec<f64> = (0..100)
        .map(|i| 0.02 * random.normal() + if i > 50 { 0.1 } else { 0.0 })
        .collect();
    c.bench_function("change points in 100 sessions", |b| {
        b.iter(|| change_points(black_box(&series), &Creep::default()));
    });
}

criterion_group!(benches, gate);
criterion_main!(benches);
