//! What a puncture costs, counted in rows and bytes: exact, whatever the machine.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::block::{Block, LEVELS};
use super::tests::{ID, punctured};
use super::{Puncture, Tree};
use crate::crypto::testing::Seeded;

/// Rows and bytes of a puncture.
fn cost(puncture: &Puncture) -> (usize, usize) {
    (puncture.written.len(), puncture.written.iter().map(|page| page.blob.len()).sum())
}

/// What one puncture may cost, whatever the tree.
fn assert_cheap((rows, bytes): (usize, usize)) {
    assert!(rows <= 5 && bytes <= 20 * 1024, "{rows} rows, {bytes} bytes");
}

#[test]
fn one_puncture_in_the_worst_of_all_trees_stays_cheap() {
    // Every slot beside the way of one leaf is a page below, on every level, and in the lowest every other leaf is dead.
    let target = 0x1234_5678 | 1;
    let beside = LEVELS.into_iter().flat_map(|bits| {
        let page = Block { first: target & !Block { first: 0, bits }.last(), bits };
        let step = if bits == 6 { 2 } else { 1_usize << page.slot_bits() };
        (page.first..=page.last()).step_by(step)
    });
    let full = punctured(&Tree::genesis(ID, &Seeded::new(1)).tree, beside);
    assert!(full.is_live(target));
    let puncture = full.puncture(&[target..=target], &Seeded::new(2));
    let sizes: Vec<_> = puncture.written.iter().map(|page| page.blob.len()).collect();
    // The envelope, the head, and an entry for every slot: no page has more. The lowest has had every other leaf alive.
    let page = |entries: usize| 35 + 3 + entries * 33;
    assert_eq!(sizes, [page(31), page(64), page(64), page(128), page(128)]);
    assert_cheap(cost(&puncture));
    // It cannot be worse: what a page says of its leaves does not overlap, so it has no more entries than slots.
    let most: usize = LEVELS.map(|bits| page(1 << (bits - Block { first: 0, bits }.slot_bits()))).iter().sum();
    assert_cheap((LEVELS.len(), most));
}

/// One puncture and one hundred in a tree of `leaves` of which `punctures`, drawn at random, are dead.
fn punctures_in_a_tree_of(leaves: u32, punctures: u32) {
    let mut dice = ChaCha20Rng::seed_from_u64(leaves.into());
    let mut draw = |count: u32| (0..count).map(|_| dice.next_u32() % leaves).collect::<Vec<_>>();
    let tree = punctured(&Tree::genesis(ID, &Seeded::new(1)).tree, draw(punctures));
    let mut worst = (0, 0);
    for leaf in draw(100) {
        let (rows, bytes) = cost(&tree.puncture(&[leaf..=leaf], &Seeded::new(2)));
        worst = (rows.max(worst.0), bytes.max(worst.1));
    }
    assert_cheap(worst);
    let ranges: Vec<_> = draw(100).into_iter().map(|leaf| leaf..=leaf).collect();
    let together = cost(&tree.puncture(&ranges, &Seeded::new(3)));
    let cohort = cost(&tree.puncture(&[leaves / 4..=leaves / 4 + 65_535], &Seeded::new(4)));
    assert!(cohort.0 <= 9 && cohort.1 <= 2 * 20 * 1024, "{cohort:?}");
    println!(
        "{leaves} leaves, {punctures} punctured: worst of 100 {worst:?}, 100 at once {together:?}, cohort {cohort:?}"
    );
}

#[test]
fn one_puncture_is_cheap_whatever_the_size_and_density() {
    for (leaves, punctures) in [(10_000, 100), (10_000, 7_000), (1_000_000, 10_000)] {
        punctures_in_a_tree_of(leaves, punctures);
    }
}

#[test]
#[ignore = "a million punctures: cargo test --release --lib -- --ignored --nocapture huge"]
fn one_puncture_is_cheap_in_huge_trees() {
    // 700,000 draws hit half of a million leaves.
    for (leaves, punctures) in [(1_000_000, 700_000), (100_000_000, 1_000_000)] {
        punctures_in_a_tree_of(leaves, punctures);
    }
}
