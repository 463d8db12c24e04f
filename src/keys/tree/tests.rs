use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::*;
use crate::crypto::testing::{Seeded, secret, vectors};

pub(super) const ID: [u8; 16] = *b"the tree of test";

/// What a database and a root slot do: keep what was written, delete what was removed, remember one root key.
struct Stored {
    pages: HashMap<PageId, Vec<u8>>,
    root: Secret<32>,
}

impl Stored {
    fn new(genesis: Puncture) -> (Tree, Self) {
        let mut stored = Self { pages: HashMap::new(), root: Secret::build(|_| {}) };
        let tree = stored.apply(genesis);
        (tree, stored)
    }

    fn apply(&mut self, puncture: Puncture) -> Tree {
        for page in puncture.written {
            assert!(self.pages.insert(page.id, page.blob).is_none(), "{:?} was written twice", page.id);
        }
        for id in puncture.removed {
            assert!(self.pages.remove(&id).is_some(), "{id:?} was never written");
        }
        self.root = puncture.root;
        puncture.tree
    }

    fn load(&self) -> Result<Tree, LoadError> {
        Tree::load(ID, &self.root, |id| self.pages.get(&id))
    }

    /// The tree refers to exactly what is stored, and it is what comes back.
    fn check(&self, tree: &Tree) {
        let referenced: Vec<_> = tree.pages().collect();
        assert_eq!(referenced.len(), self.pages.len());
        assert_eq!(referenced.into_iter().collect::<HashSet<_>>(), self.pages.keys().copied().collect());
        let loaded = self.load().unwrap();
        assert_eq!(loaded.stats(), tree.stats());
        assert!(loaded.pages().eq(tree.pages()));
    }
}

/// The naive tree: the first seed, all 32 steps for every leaf, and a list of the dead.
struct Naive {
    genesis: Secret<32>,
    /// First and last leaf of each dead range; ranges are apart.
    dead: BTreeMap<u32, u32>,
}

impl Naive {
    fn of(tree: &Tree) -> Self {
        let (block, seed) = tree.cover(0).unwrap();
        assert_eq!(block, Block::ALL);
        Self { genesis: Secret::from_slice(seed).unwrap(), dead: BTreeMap::new() }
    }

    fn derive(&self, leaf: u32) -> Option<Secret<32>> {
        let dead = self.dead.range(..=leaf).next_back().is_some_and(|(_, last)| leaf <= *last);
        (!dead).then(|| {
            let bits = (0..32).rev().map(|at| leaf >> at & 1 == 1);
            let start = Secret::from_slice(self.genesis.expose()).unwrap();
            bits.fold(start, |seed, bit| derive::child(&seed, bit))
        })
    }

    fn puncture(&mut self, ranges: &[RangeInclusive<u32>]) {
        for range in ranges {
            self.puncture_one(range);
        }
    }

    fn puncture_one(&mut self, range: &RangeInclusive<u32>) {
        let (mut first, mut last) = (*range.start(), *range.end());
        while let Some((&from, &to)) = self.dead.range(..=last).next_back() {
            if to < first {
                break;
            }
            (first, last) = (first.min(from), last.max(to));
            self.dead.remove(&from);
        }
        self.dead.insert(first, last);
    }

    fn dead_leaves(&self) -> u64 {
        self.dead.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    fn check_all(&self, tree: &Tree, leaves: &[u32]) {
        for leaf in leaves {
            self.check(tree, *leaf);
        }
    }

    fn check(&self, tree: &Tree, leaf: u32) {
        let (expected, found) = (self.derive(leaf), tree.derive(leaf));
        assert_eq!(tree.is_live(leaf), expected.is_some(), "leaf {leaf:#x}");
        assert!(expected.as_ref().map(Secret::expose) == found.as_ref().map(Secret::expose), "leaf {leaf:#x}");
    }
}

/// The leaves at either end of a range, and those next to it.
fn edges(range: &RangeInclusive<u32>) -> [u32; 4] {
    let (first, last) = (*range.start(), *range.end());
    [first.saturating_sub(1), first, last, last.saturating_add(1)]
}

pub(super) fn punctured(tree: &Tree, leaves: impl IntoIterator<Item = u32>) -> Tree {
    let ranges: Vec<_> = leaves.into_iter().map(|leaf| leaf..=leaf).collect();
    tree.puncture(&ranges, &Seeded::new(99)).tree
}

fn genesis() -> (Tree, Stored) {
    Stored::new(Tree::genesis(ID, &Seeded::new(1)))
}

#[test]
fn derives_what_another_implementation_derives() {
    let vectors = vectors();
    let vector = &vectors["tree"];
    let page = Page::whole(&secret(&vector["genesis"]));
    let whole = Tree { id: ID, root_id: [0; 16], root: Arc::new(page) };
    // The same leaves must come out of the fresh tree and out of one with punctures all around them.
    let neighbours = punctured(&whole, [3, 254, 257, 65_534, 65_537, 0x1234_5679, 0x7fff_fffe, 0x8000_0001]);
    for (leaf, seed) in vector["leaves"].as_object().unwrap() {
        for tree in [&whole, &neighbours] {
            let derived = tree.derive(leaf.parse().unwrap()).unwrap();
            assert_eq!(HEXLOWER.encode(derived.expose()), seed.as_str().unwrap(), "leaf {leaf}");
        }
    }
}

#[test]
fn a_new_tree_is_one_page_with_one_seed() {
    let genesis = Tree::genesis(ID, &Seeded::new(1));
    assert_eq!(genesis.root_id, derive::root_id(&genesis.root));
    assert_eq!(genesis.tree.root_id(), genesis.root_id);
    assert_eq!(genesis.tree.id(), ID);
    assert_eq!(genesis.tree.stats(), Stats { pages: 1, seeds: 1, punctured_leaves: 0 });
    assert_eq!(genesis.written.len(), 1);
    assert_eq!(genesis.written[0].blob.len(), 35 + 3 + 33);
    assert!(genesis.removed.is_empty());
}

#[test]
fn one_leaf_costs_five_pages() {
    let (tree, mut stored) = genesis();
    let puncture = tree.puncture(&[7..=7], &Seeded::new(2));
    let sizes: Vec<_> = puncture.written.iter().map(|page| (page.id.level, page.blob.len())).collect();
    // A seed beside the way for every bit of each page, and a child in all but the last.
    assert_eq!(sizes, [(4, 236), (3, 269), (2, 269), (1, 302), (0, 302)]);
    assert_eq!(puncture.removed, [Block::ALL.page_id(tree.root_id())]);
    assert_eq!(puncture.tree.stats(), Stats { pages: 5, seeds: 32, punctured_leaves: 1 });
    assert!(puncture.tree.derive(7).is_none());
    assert!(tree.derive(7).is_some(), "the tree before must stay as it was");
    let next = stored.apply(puncture);
    stored.check(&next);
    assert_eq!(next.puncture(&[8..=8], &Seeded::new(3)).written.len(), 5);
}

#[test]
fn a_contiguous_range_collapses() {
    let (tree, _) = genesis();
    let figures = |range| {
        let puncture = tree.puncture(&[range], &Seeded::new(2));
        let bytes: usize = puncture.written.iter().map(|page| page.blob.len()).sum();
        (puncture.written.len(), bytes)
    };
    // 65,536 leaves that fill sixteen slots of level 2: they are left out, and nothing is below them.
    assert_eq!(figures(0x10_0000..=0x10_ffff), (3, 708));
    // As many that begin anywhere: a page of level 3 and one of level 4 at either end.
    assert_eq!(figures(0x10_1234..=0x11_1233), (7, 1454));
    // Half of everything; and everything.
    assert_eq!(figures(0..=u32::MAX / 2), (1, 71));
    assert_eq!(figures(0..=u32::MAX), (1, 38));
}

#[test]
fn a_cohort_punctured_leaf_by_leaf_collapses_too() {
    let (mut tree, mut stored) = genesis();
    let random = Seeded::new(4);
    for leaf in 0x300..0x500 {
        tree = stored.apply(tree.puncture(&[leaf..=leaf], &random));
    }
    stored.check(&tree);
    // Eight pages of the lowest level came and went; what is left is one path of four pages.
    assert_eq!(tree.stats().pages, 4);
    assert_eq!(tree.stats().punctured_leaves, 0x200);
}

#[test]
fn what_is_dead_already_costs_the_root_page_only() {
    let (tree, mut stored) = genesis();
    let tree = stored.apply(tree.puncture(&[0x100..=0x2ff], &Seeded::new(2)));
    #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is tested")]
    for ranges in [&[][..], &[0x150..=0x150], &[0x100..=0x2ff, 0x180..=0x190], &[9..=8]] {
        let puncture = tree.puncture(ranges, &Seeded::new(3));
        assert_eq!(puncture.written.len(), 1);
        assert_eq!(puncture.removed, [Block::ALL.page_id(tree.root_id())]);
        assert_eq!(puncture.tree.stats(), tree.stats());
        assert_ne!(puncture.root_id, tree.root_id());
    }
}

#[test]
fn overlapping_ranges_are_one() {
    let (tree, _) = genesis();
    let split = tree.puncture(&[500..=600, 10..=20, 15..=499, 10..=20], &Seeded::new(2));
    let whole = tree.puncture(&[10..=600], &Seeded::new(2));
    assert_eq!(split.tree.stats(), whole.tree.stats());
    let blobs = |puncture: Puncture| puncture.written.into_iter().map(|page| page.blob).collect::<Vec<_>>();
    assert!(blobs(split) == blobs(whole), "the same seeds in the same order under the same keys");
}

#[test]
fn the_root_page_stays_when_everything_is_dead() {
    let (tree, mut stored) = genesis();
    let tree = stored.apply(tree.puncture(&[5..=5, 0x8000_0000..=0x8000_0001], &Seeded::new(2)));
    let puncture = tree.puncture(&[0..=u32::MAX], &Seeded::new(3));
    assert_eq!(puncture.removed.len(), 9);
    let tree = stored.apply(puncture);
    assert_eq!(tree.stats(), Stats { pages: 1, seeds: 0, punctured_leaves: 1 << 32 });
    stored.check(&tree);
    let tree = stored.apply(tree.puncture(&[1..=1], &Seeded::new(4)));
    stored.check(&tree);
}

#[test]
fn a_root_key_opens_its_own_time_only() {
    let (tree, mut stored) = genesis();
    let tree = stored.apply(tree.puncture(&[5..=5], &Seeded::new(2)));
    let before = (stored.pages.clone(), Secret::from_slice(stored.root.expose()).unwrap());
    stored.apply(tree.puncture(&[6..=6], &Seeded::new(3)));
    let load = |root: &Secret<32>, pages: &HashMap<PageId, Vec<u8>>| Tree::load(ID, root, |id| pages.get(&id)).err();
    // Positive control: each key opens the pages of its time.
    assert_eq!(load(&before.1, &before.0), None);
    assert_eq!(load(&stored.root, &stored.pages), None);
    for (root, pages) in [(&before.1, &stored.pages), (&stored.root, &before.0)] {
        assert!(matches!(load(root, pages), Some(LoadError::Missing { level: 0, prefix: 0, .. })));
        // The same with a store that confuses versions: the blob is there and does not open.
        let confused = |id: PageId| {
            let place = |other: &&PageId| (other.level, other.prefix) == (id.level, id.prefix);
            pages.keys().find(place).map(|other| &pages[other])
        };
        let loaded = Tree::load(ID, root, confused).err();
        assert_eq!(loaded, Some(LoadError::Broken { level: 0, prefix: 0 }));
    }
}

#[test]
fn a_page_opens_in_its_own_place_only() {
    let (tree, mut stored) = genesis();
    let old = stored.apply(tree.puncture(&[5..=5], &Seeded::new(2)));
    let old_pages = stored.pages.clone();
    stored.apply(old.puncture(&[0x105..=0x105], &Seeded::new(3)));
    let pages = &stored.pages;
    let at = |level, prefix| *pages.keys().find(|id| (id.level, id.prefix) == (level, prefix)).unwrap();
    let swapped = |one: PageId, other: PageId| {
        let swap = |id| if id == one { other } else { id };
        Tree::load(ID, &stored.root, |id| pages.get(&swap(id))).err()
    };
    assert_eq!(swapped(at(4, 0), at(4, 4)), Some(LoadError::Broken { level: 4, prefix: 0 }));
    assert_eq!(swapped(at(2, 0), at(1, 0)), Some(LoadError::Broken { level: 2, prefix: 0 }));
    // An older version of a page, in its old place.
    let before = old.pages().find(|id| id.level == 2).unwrap();
    let older = |id: PageId| if id.level == 2 { old_pages.get(&before) } else { pages.get(&id) };
    assert_eq!(Tree::load(ID, &stored.root, older).err(), Some(LoadError::Broken { level: 2, prefix: 0 }));
    // The same pages in another tree.
    let other = Tree::load([0; 16], &stored.root, |id| pages.get(&id)).err();
    assert_eq!(other, Some(LoadError::Broken { level: 0, prefix: 0 }));
}

/// The attack that the design is measured by: every blob ever written, every key that a blob ever held, and the
/// current root key. What opens is opened until nothing more does.
#[test]
fn old_copies_and_the_current_root_do_not_reach_the_dead() {
    let (tree, mut stored) = genesis();
    let mut everything = stored.pages.clone();
    let mut tree = tree;
    for leaf in [9, 10, 0x20_0000] {
        tree = stored.apply(tree.puncture(&[leaf..=leaf], &Seeded::new(leaf.into())));
        everything.extend(stored.pages.clone());
    }
    let reached = reach(&everything, &stored.root);
    assert!(reached.iter().all(|block| ![9, 10, 0x20_0000].iter().any(|leaf| block.holds(*leaf))));
    assert!([0, 8, 11, 0x20_0001].iter().all(|leaf| reached.iter().any(|block| block.holds(*leaf))));
    // Positive control: one puncture earlier, the same closure reaches the last of them.
    let (tree, mut stored) = genesis();
    let first = Secret::from_slice(stored.root.expose()).unwrap();
    let mut everything = stored.pages.clone();
    stored.apply(tree.puncture(&[9..=9], &Seeded::new(5)));
    everything.extend(stored.pages.clone());
    assert!(reach(&everything, &first).iter().any(|block| block.holds(9)));
    assert!(!reach(&everything, &stored.root).iter().any(|block| block.holds(9)));
}

/// Every block whose seed can be had from `blobs` by whoever knows `root`.
fn reach(blobs: &HashMap<PageId, Vec<u8>>, root: &Secret<32>) -> Vec<Block> {
    let mut keys = vec![Secret::<32>::from_slice(root.expose()).unwrap()];
    let mut reached = Vec::new();
    while let Some(key) = keys.pop() {
        for (id, blob) in blobs {
            let key = crate::crypto::Key::new(&key);
            let Ok(plain) = crate::crypto::open(&key, &puncture::place(&ID, id), blob) else { continue };
            let block = Block::of_page(id).unwrap();
            let parsed = page::parse(block, plain.expose()).unwrap();
            reached.extend(parsed.seeds.iter().map(|(index, _)| block.inside(*index).unwrap()));
            keys.extend(parsed.children.iter().map(|(_, key)| Secret::from_slice(*key).unwrap()));
        }
    }
    reached
}

#[test]
fn loading_says_what_is_wrong() {
    let (tree, mut stored) = genesis();
    let tree = stored.apply(tree.puncture(&[0x0102_0304..=0x0102_0304], &Seeded::new(2)));
    stored.check(&tree);
    for id in tree.pages() {
        let PageId { level, prefix, version } = id;
        let missing = Tree::load(ID, &stored.root, |wanted| stored.pages.get(&wanted).filter(|_| wanted != id));
        assert_eq!(missing.err(), Some(LoadError::Missing { level, prefix, version }));
        let mut changed = stored.pages.clone();
        changed.get_mut(&id).unwrap()[30] ^= 1;
        let broken = Tree::load(ID, &stored.root, |id| changed.get(&id));
        assert_eq!(broken.err(), Some(LoadError::Broken { level, prefix }));
    }
    let prefixes: Vec<_> = tree.pages().map(|id| (id.level, id.prefix)).collect();
    assert_eq!(prefixes, [(0, 0), (1, 0), (2, 0x0102_0304 >> 18), (3, 0x0102_0304 >> 12), (4, 0x0102_0304 >> 6)]);
}

#[test]
fn a_malformed_page_is_refused() {
    let block = Block { first: 0x300, bits: 6 };
    let entry = |number: u8| [&[number][..], &[7; 32]].concat();
    let page = |head: [u8; 3], entries: &[Vec<u8>]| [&head[..], &entries.concat()].concat();
    let above = Block { first: 0, bits: 12 };
    // Positive controls.
    assert!(page::parse(block, &page([1, 2, 0], &[entry(2), entry(3)])).is_some());
    assert!(page::parse(above, &page([1, 1, 1], &[entry(2), entry(0x20)])).is_some());
    let malformed = [
        (block, page([2, 1, 0], &[entry(1)])),
        (block, page([1, 2, 0], &[entry(1)])),
        (block, page([1, 0, 0], &[entry(1)])),
        (block, page([1, 1, 0], &[entry(0)])),
        (block, page([1, 1, 0], &[entry(128)])),
        (block, page([1, 2, 0], &[entry(3), entry(2)])),
        (block, page([1, 2, 0], &[entry(1), entry(2)])),
        (block, page([1, 0, 1], &[entry(1)])),
        (above, page([1, 1, 1], &[entry(2), entry(0x1f)])),
        (above, page([1, 0, 1], &[entry(64)])),
        (above, page([1, 0, 2], &[entry(2), entry(1)])),
        (above, page([1, 0, 2], &[entry(2), entry(2)])),
        (above, Vec::new()),
    ];
    for (number, (block, bytes)) in malformed.iter().enumerate() {
        assert!(page::parse(*block, bytes).is_none(), "case {number}");
    }
}

/// What can happen to a tree.
#[derive(Clone, Debug)]
enum Step {
    Derive(u32),
    Puncture(Vec<RangeInclusive<u32>>),
    Reload,
    Rotate,
}

/// Leaves crowd in a few places, so that punctures meet in the same pages, and also lie anywhere.
fn leaf() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0_u32..600, 2 => 0xff_ff00_u32..0x0100_0100, 1 => (u32::MAX - 300)..=u32::MAX, 1 => any::<u32>()]
}

fn range() -> impl Strategy<Value = RangeInclusive<u32>> {
    let length = prop_oneof![4 => Just(0_u32), 2 => 1_u32..300, 1 => 1_u32..200_000];
    (leaf(), length).prop_map(|(first, length)| first..=first.saturating_add(length))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => leaf().prop_map(Step::Derive),
        4 => prop::collection::vec(range(), 1..4).prop_map(Step::Puncture),
        1 => Just(Step::Reload),
        1 => Just(Step::Rotate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_the_naive_tree(steps in prop::collection::vec(step(), 1..80), seed: u64) {
        let random = Seeded::new(seed);
        let (mut tree, mut stored) = Stored::new(Tree::genesis(ID, &random));
        let mut naive = Naive::of(&tree);
        for step in steps {
            match step {
                Step::Derive(leaf) => naive.check(&tree, leaf),
                Step::Puncture(ranges) => {
                    let edges: Vec<_> = ranges.iter().flat_map(edges).collect();
                    let next = tree.puncture(&ranges, &random);
                    naive.check_all(&tree, &edges);
                    naive.puncture(&ranges);
                    naive.check_all(&next.tree, &edges);
                    tree = stored.apply(next);
                }
                Step::Reload => tree = stored.load().unwrap(),
                Step::Rotate => tree = stored.apply(tree.puncture(&[], &random)),
            }
        }
        prop_assert_eq!(tree.stats().punctured_leaves, naive.dead_leaves());
        stored.check(&tree);
    }
}

/// As above, once, for very long: punctures, cohorts, rotations and reloads among derivations.
#[test]
#[ignore = "a million operations: cargo test --release --lib -- --ignored million"]
fn a_million_operations() {
    let random = Seeded::new(2026);
    let mut dice = ChaCha20Rng::seed_from_u64(2027);
    let (mut tree, mut stored) = Stored::new(Tree::genesis(ID, &random));
    let mut naive = Naive::of(&tree);
    for operation in 0..1_000_000_u32 {
        let leaf = dice.next_u32() >> (dice.next_u32() % 24);
        let ranges = match dice.next_u32() % 1000 {
            0..500 => {
                naive.check(&tree, leaf);
                continue;
            }
            500..990 => vec![leaf..=leaf],
            990..998 => vec![leaf..=leaf.saturating_add(dice.next_u32() >> 14)],
            _ => Vec::new(),
        };
        naive.puncture(&ranges);
        tree = stored.apply(tree.puncture(&ranges, &random));
        if operation % 50_000 == 0 {
            tree = stored.load().unwrap();
        }
    }
    assert_eq!(tree.stats().punctured_leaves, naive.dead_leaves());
    stored.check(&tree);
}
