//! The test of the gate: a sign-flip randomisation test over all metrics at once, step-down, with winsorised t.
//!
//! A coin decided in each block which arm went first, so under "no difference" every block's differences could as well
//! have come with the other sign. Each vector of signs gives a table that was as likely as the one seen; the share of
//! them whose largest t is at least the one seen is its p-value. The largest over all metrics makes it a test of the
//! whole family (Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 4.1; Romano and Wolf, JASA 2005),
//! exact whatever the distribution, the drift or the correlation between metrics. All metrics of a block share one sign.
//!
//! **The statistic.** t is a monotone function of r = Σ w / √(n Σ w²), which no flip can change but in the signs of
//! its sum. So r is compared in place of t: no root and no division for each flip, and no infinity where all
//! differences are alike. The sums come from tables over six blocks each, so that a flip of thirty blocks costs five
//! additions a metric.
//!
//! **Ties.** Flips that give the same r in real numbers may differ in the last bit, depending on the order of
//! additions. r lies within ±1 and its rounding error within 10⁻¹⁴, so whatever comes within 10⁻¹² of the value seen
//! counts as equal to it. That can only raise a p-value.

use crate::schedule::mix;

/// Up to this many blocks, all vectors of signs are tried.
pub const EXHAUSTIVE_BLOCKS: usize = 12;
/// Beyond it, this many random ones and the one that was seen.
pub const RANDOM_FLIPS: usize = 19_999;
/// How close two values of r count as equal.
const TIE: f64 = 1e-12;
/// Blocks to one table of sums.
const GROUP: usize = 6;
const PATTERNS: usize = 1 << GROUP;

/// What the test found.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxT {
    /// Each row's p-value, adjusted for the whole family, in the order of the rows.
    pub p: Vec<f64>,
    /// Each row's winsorised t; infinite when all its differences are alike.
    pub t: Vec<f64>,
    /// The t from which on the largest of the family is significant at the level asked for.
    pub critical_t: f64,
    /// How many sign vectors were tried, the one seen among them.
    pub flips: usize,
    /// What the random ones were drawn from: a hash of the data.
    pub seed: u64,
}

/// Differences with the largest fifth cut back: c is the ⌈0.8 n⌉-th smallest |d|, and no |d| counts for more.
pub fn winsorised(d: &[f64]) -> Vec<f64> {
    let mut sizes: Vec<f64> = d.iter().map(|d| d.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let Some(&cut) = sizes.get((4 * sizes.len()).div_ceil(5).wrapping_sub(1)) else {
        return Vec::new();
    };
    d.iter().map(|d| d.clamp(-cut, cut)).collect()
}

/// A hash of differences and of which are missing, the same on every machine. Plus and minus zero are one.
pub fn data_hash(rows: &[&[Option<f64>]]) -> u64 {
    let mut hash = mix(0x7075_7368_6d61_726b, rows.len() as u64);
    for row in rows {
        hash = mix(hash, row.len() as u64);
        for d in *row {
            // No finite number has these bits.
            let word = d.map_or(u64::MAX, |d| if d == 0.0 { 0 } else { d.to_bits() });
            hash = mix(hash ^ word, 1);
        }
    }
    hash
}

/// The smallest p-value that a look at `blocks` blocks can give.
pub fn smallest_p(blocks: usize) -> f64 {
    if blocks <= EXHAUSTIVE_BLOCKS {
        1.0 / (1u64 << blocks) as f64
    } else {
        1.0 / (RANDOM_FLIPS + 1) as f64
    }
}

/// One row, ready to be flipped.
struct Scaled {
    /// Winsorised differences over √(n Σ w²), zero where missing: their sum is r.
    u: Vec<f64>,
    /// How many are there.
    present: usize,
}

fn scaled(row: &[Option<f64>], blocks: usize) -> Scaled {
    let present: Vec<f64> = row.iter().flatten().copied().collect();
    let w = winsorised(&present);
    let squares: f64 = w.iter().map(|w| w * w).sum();
    let norm = (w.len() as f64 * squares).sqrt();
    let mut next = w.iter().map(|w| if norm > 0.0 { w / norm } else { 0.0 });
    let mut u: Vec<f64> = row
        .iter()
        .map(|d| d.and_then(|_| next.next()).unwrap_or(0.0))
        .collect();
    u.resize(blocks, 0.0);
    Scaled {
        u,
        present: present.len(),
    }
}

fn t_of(r: f64, blocks: usize) -> f64 {
    let rest = 1.0 - r * r;
    if rest < TIE {
        return f64::INFINITY.copysign(r);
    }
    r * (blocks.saturating_sub(1) as f64 / rest).sqrt()
}

/// Sums over groups of blocks for every pattern of signs, rows side by side.
struct Sums {
    width: usize,
    groups: usize,
    table: Vec<f64>,
}

impl Sums {
    fn new(rows: &[&Scaled], blocks: usize) -> Self {
        let (width, groups) = (rows.len(), blocks.div_ceil(GROUP));
        let mut table = Vec::with_capacity(groups * PATTERNS * width);
        for group in 0..groups {
            for pattern in 0..PATTERNS {
                table.extend(rows.iter().map(|row| {
                    row.u[group * GROUP..]
                        .iter()
                        .take(GROUP)
                        .enumerate()
                        .map(|(bit, u)| if pattern >> bit & 1 == 1 { -u } else { *u })
                        .sum::<f64>()
                }));
            }
        }
        Self { width, groups, table }
    }

    fn part(&self, group: usize, pattern: usize) -> &[f64] {
        let at = (group * PATTERNS + pattern) * self.width;
        &self.table[at..at + self.width]
    }

    /// r of every row when the blocks whose bit is set change sign.
    fn sum(&self, signs: &[u64], r: &mut [f64]) {
        for group in 0..self.groups {
            let (word, bit) = (group * GROUP / 60, group * GROUP % 60);
            let pattern = signs.get(word).map_or(0, |w| (w >> bit) as usize % PATTERNS);
            let part = self.part(group, pattern);
            if group == 0 {
                r.copy_from_slice(part);
            } else {
                for (r, part) in r.iter_mut().zip(part) {
                    *r += part;
                }
            }
        }
    }
}

/// Tests all rows together, one-sided: is any difference above zero? `level` is what [`MaxT::critical_t`] is asked for.
///
/// A row may end early or miss blocks; its t then has fewer degrees of freedom, and it is compared on the scale of the
/// longest. The reference distribution keeps what is missing missing.
pub fn max_t(rows: &[&[Option<f64>]], level: f64) -> MaxT {
    let blocks = rows.iter().map(|r| r.len()).max().unwrap_or(0);
    let seed = data_hash(rows);
    let all: Vec<Scaled> = rows.iter().map(|row| scaled(row, blocks)).collect();
    let longest = all.iter().map(|s| s.present).max().unwrap_or(0);
    let whole = longest.saturating_sub(1).max(1) as f64;
    // Degrees of freedom as a share of the longest row's.
    let share = |s: &Scaled| s.present.saturating_sub(1) as f64 / whole;
    let same_t = |r: f64, share: f64| {
        if share == 1.0 {
            r
        } else {
            r * (share / (1.0 - (1.0 - share) * r * r)).sqrt()
        }
    };
    let width = rows.len();
    let mut r = vec![0.0; width];
    Sums::new(&all.iter().collect::<Vec<_>>(), blocks).sum(&[], &mut r);
    let seen: Vec<f64> = all.iter().zip(&r).map(|(s, r)| same_t(*r, share(s))).collect();
    let t = all.iter().zip(&r).map(|(s, r)| t_of(*r, s.present)).collect();

    // From the largest t down: the order in which the step-down takes them out.
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|a, b| seen[*b].total_cmp(&seen[*a]));
    let ordered: Vec<&Scaled> = order.iter().map(|j| &all[*j]).collect();
    let uneven: Vec<(usize, f64)> = ordered
        .iter()
        .enumerate()
        .map(|(i, s)| (i, share(s)))
        .filter(|(_, share)| *share != 1.0)
        .collect();
    let least: Vec<f64> = order.iter().map(|j| seen[*j] - TIE).collect();
    let sums = Sums::new(&ordered, blocks);

    let exhaustive = blocks <= EXHAUSTIVE_BLOCKS;
    let flips = if exhaustive { 1 << blocks } else { RANDOM_FLIPS + 1 };
    let words = blocks.div_ceil(60).max(1);
    let mut signs = vec![0u64; words];
    let mut reached = vec![0u32; width];
    let mut largest = Vec::with_capacity(flips);
    for flip in 0..flips as u64 {
        if exhaustive {
            signs[0] = flip;
        } else if flip > 0 {
            for (word, signs) in signs.iter_mut().enumerate() {
                *signs = mix(seed, flip * words as u64 + word as u64);
            }
        }
        sums.sum(&signs, &mut r);
        for (i, share) in &uneven {
            r[*i] = same_t(r[*i], *share);
        }
        let mut max = f64::NEG_INFINITY;
        for ((r, least), reached) in r.iter().zip(&least).zip(&mut reached).rev() {
            max = if *r > max { *r } else { max };
            *reached += u32::from(max >= *least);
        }
        largest.push(max);
    }

    let mut p = vec![1.0; width];
    let mut so_far = 0.0f64;
    for (j, reached) in order.iter().zip(&reached) {
        so_far = so_far.max(f64::from(*reached) / flips as f64);
        p[*j] = so_far;
    }
    // The k-th largest: with it or more, at most the share asked for of all flips is as large.
    let k = ((level * flips as f64 + 1e-9) as usize).clamp(1, flips);
    let (_, critical, _) = largest.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let critical_t = if width == 0 {
        f64::INFINITY
    } else {
        t_of(*critical, longest)
    };
    MaxT {
        p,
        t,
        critical_t,
        flips,
        seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::random::Random;
    use proptest::prelude::*;

    type Rows = Vec<Vec<Option<f64>>>;

    fn test(rows: &Rows) -> MaxT {
        max_t(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0.01)
    }

    /// The definition, word by word: t of each row for each vector of signs, the largest of those still in.
    fn by_the_definition(rows: &Rows) -> Vec<f64> {
        let blocks = rows[0].len();
        let t = |row: &[Option<f64>], flip: usize| {
            let d: Vec<f64> = row.iter().flatten().copied().collect();
            let (n, w) = (d.len() as f64, winsorised(&d));
            let q: f64 = w.iter().map(|w| w * w).sum();
            if q == 0.0 {
                return 0.0;
            }
            let signs = (0..blocks)
                .filter(|k| row[*k].is_some())
                .map(|k| if flip >> k & 1 == 1 { -1.0 } else { 1.0 });
            let m = signs.zip(&w).map(|(s, w)| s * w).sum::<f64>() / n;
            let rest = q / n - m * m;
            if rest < 1e-12 * q / n {
                return f64::INFINITY.copysign(m);
            }
            m / (rest / (n - 1.0)).sqrt()
        };
        let mut left: Vec<usize> = (0..rows.len()).collect();
        left.sort_by(|a, b| t(&rows[*b], 0).total_cmp(&t(&rows[*a], 0)));
        let (mut p, mut so_far) = (vec![1.0; rows.len()], 0.0f64);
        while !left.is_empty() {
            let seen = t(&rows[left[0]], 0);
            let least = if seen.is_finite() {
                seen - 1e-9 * (1.0 + seen.abs())
            } else {
                seen
            };
            let reached = (0..1 << blocks)
                .filter(|flip| left.iter().any(|j| t(&rows[*j], *flip) >= least))
                .count();
            so_far = so_far.max(reached as f64 / (1 << blocks) as f64);
            p[left.remove(0)] = so_far;
        }
        p
    }

    fn rows(metrics: usize, blocks: usize) -> impl Strategy<Value = Rows> {
        // Coarse values make ties, which are what goes wrong.
        let coarse = prop_oneof![
            5 => (-6..7i32).prop_map(|d| Some(f64::from(d) * 0.01)),
            5 => (-0.1..0.2f64).prop_map(Some),
            1 => Just(None),
        ];
        prop::collection::vec(prop::collection::vec(coarse, blocks), metrics)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn equals_the_exhaustive_definition(rows in (1..5usize, 2..9usize).prop_flat_map(|(m, n)| rows(m, n))) {
            prop_assume!(rows.iter().all(|r| r.iter().flatten().count() > 1));
            let (found, defined) = (test(&rows), by_the_definition(&rows));
            for (a, b) in found.p.iter().zip(&defined) {
                prop_assert!((a - b).abs() < 1e-12, "{:?} {:?}", found.p, defined);
            }
        }

        #[test]
        fn the_same_data_give_the_same_answer(rows in rows(4, 15)) {
            let found = test(&rows);
            prop_assert_eq!(&found, &test(&rows));
            // In another order of metrics the random flips differ, and p-values by what that is worth.
            let turned: Rows = rows.iter().rev().cloned().collect();
            for (a, b) in found.p.iter().zip(test(&turned).p.iter().rev()) {
                prop_assert!((a - b).abs() < 0.02, "{} {}", a, b);
            }
        }

        #[test]
        fn scale_does_not_matter_and_worse_is_never_less_certain(rows in rows(3, 10), scale in 0.001..1000.0f64) {
            let found = test(&rows);
            let scaled: Rows = rows.iter().map(|r| r.iter().map(|d| d.map(|d| d * scale)).collect()).collect();
            prop_assert_eq!(&found.p, &test(&scaled).p);
            // The first metric's signs all turned to worse.
            let mut worse = rows.clone();
            worse[0].iter_mut().for_each(|d| *d = d.map(f64::abs));
            prop_assert!(test(&worse).p[0] <= found.p[0]);
        }

        #[test]
        fn one_row_in_both_directions_covers_everything(rows in rows(1, 9)) {
            // Every flip is at least as large, at most as large, or both.
            let negated: Rows = rows.iter().map(|r| r.iter().map(|d| d.map(|d| -d)).collect()).collect();
            prop_assert!(test(&rows).p[0] + test(&negated).p[0] >= 1.0);
        }
    }

    #[test]
    fn the_largest_fifth_is_cut_back() {
        let d = [0.1, -0.2, 0.3, -0.4, 0.5, 0.6, -0.7, 0.8, 9.0, -10.0];
        assert_eq!(
            winsorised(&d),
            [0.1, -0.2, 0.3, -0.4, 0.5, 0.6, -0.7, 0.8, 0.8, -0.8]
        );
        assert!(winsorised(&[]).is_empty());
        assert_eq!(winsorised(&[3.0]), [3.0]);
    }

    #[test]
    fn nothing_to_test_and_nothing_that_differs() {
        assert!(max_t(&[], 0.01).p.is_empty());
        let empty: Rows = vec![Vec::new(), vec![None; 4]];
        assert_eq!(test(&empty).p, [1.0, 1.0]);
        let same = test(&vec![vec![Some(0.0); 10], vec![Some(0.01); 10]]);
        assert_eq!(same.p, [1.0, 1.0 / 1024.0]);
        assert_eq!(same.t, [0.0, f64::INFINITY]);
        assert_eq!((smallest_p(10), smallest_p(30)), (1.0 / 1024.0, 1.0 / 20_000.0));
    }

    #[test]
    fn plus_and_minus_zero_are_one_and_missing_is_neither() {
        let hash = |d: Option<f64>| data_hash(&[&[d]]);
        assert_eq!(hash(Some(0.0)), hash(Some(-0.0)));
        assert_ne!(hash(Some(0.0)), hash(None));
        assert_ne!(data_hash(&[&[], &[None]]), data_hash(&[&[None], &[]]));
    }

    #[test]
    fn more_than_sixty_blocks() {
        let mut random = Random::new(9);
        let mut shifted = |shift: f64| (0..130).map(|_| Some(random.normal() + shift)).collect();
        let found = test(&vec![shifted(0.5), shifted(0.0)]);
        assert!(found.p[0] < 0.001 && found.p[1] > 0.01, "{found:?}");
        // Late blocks are flipped as the early ones are.
        let mut late = vec![Some(0.0); 130];
        late.iter_mut().skip(65).for_each(|d| *d = Some(1.0));
        let found = test(&vec![late]);
        assert!(found.p[0] < 0.001, "{found:?}");
    }

    #[test]
    fn the_critical_t_is_where_significance_begins() {
        let mut random = Random::new(4);
        let rows: Rows = (0..20)
            .map(|_| (0..10).map(|_| Some(random.normal())).collect())
            .collect();
        let found = test(&rows);
        for (t, p) in found.t.iter().zip(&found.p) {
            assert_eq!(*t >= found.critical_t, *p <= 0.01, "{t} {p} {}", found.critical_t);
        }
        assert!(
            found.critical_t > 3.0 && found.critical_t < 20.0,
            "{}",
            found.critical_t
        );
    }
}
