//! The puncturable tree: one secret from which 2^32 leaf seeds follow, until a leaf is punctured.
//!
//! It is a GGM tree (Goldreich, Goldwasser, Micali 1986) used as a puncturable pseudorandom function. A seed gives
//! its two children by HMAC-SHA256, and nobody can climb back up. To puncture a leaf, every seed above it is
//! replaced by the seeds beside the way down: all other leaves still follow from them, this one from nothing.
//!
//! The seeds lie in *pages*, five levels deep: two of 128 slots (leaf bits 31..25 and 24..18) and three of 64 (17..12,
//! 11..6 and 5..0). A page is sealed under a key of its own, used once and kept in the page above; the key of the root
//! page is the root key R. A page version is named by a digest of its key, so whoever holds the key knows the name. A
//! puncture rewrites the pages on the way under fresh keys, so whoever forgets R forgets what was punctured, and
//! old copies of pages are noise. Pages without punctures do not exist: they follow from a seed above.
//!
//! The levels are cut so that puncturing one leaf writes five pages at most, and less than 14 KiB in the worst of all
//! trees: an entry has 33 bytes, and a page never has more entries than slots.
//!
//! This module is pure: no file, no database, no clock. It says which pages to write and which to delete.

pub(crate) mod block;
#[cfg(test)]
mod cost;
mod load;
pub(crate) mod page;
pub(crate) mod puncture;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::crypto::{Random, Secret, derive};

use block::Block;
pub use load::LoadError;
pub(super) use load::{Branch, Loose};
use page::{Page, Tile};

/// A page as it is stored: noise without the key that its parent, or the root slot, holds.
pub use crate::store::key::{Page as SealedPage, PageId};

/// The state of the keys at one moment. Cloning is cheap, and a clone keeps working while its successor is made:
/// pages are shared, never changed, and wiped when the last tree that holds them is dropped.
#[derive(Clone)]
pub struct Tree {
    id: [u8; 16],
    root_id: [u8; 16],
    root: Arc<Page>,
}

/// What a change leaves behind: the next tree, its root key, and what the store has to do.
#[must_use = "a puncture that is not stored has not happened"]
pub struct Puncture {
    /// The tree after the change. The one before it is untouched.
    pub tree: Tree,
    /// The public name of the root key of the tree before it, if there was one.
    pub base: Option<[u8; 16]>,
    /// The next root key, to be put into the root slot in place of the last one.
    pub root: Secret<32>,
    /// The public name of the next root key.
    pub root_id: [u8; 16],
    /// The pages to write before the root slot advances, each below its parent.
    pub written: Vec<SealedPage>,
    /// The page versions that the next tree no longer refers to, to be deleted after the root slot has advanced.
    pub removed: Vec<PageId>,
}

/// How large a tree is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pages, the root page among them.
    pub pages: u64,
    /// Seeds in all pages.
    pub seeds: u64,
    /// Leaves that follow from no seed any more, of 2^32.
    pub punctured_leaves: u64,
}

impl Tree {
    /// A new tree with every leaf alive: one page with one random seed.
    pub fn genesis(id: [u8; 16], random: &dyn Random) -> Puncture {
        let seed = Secret::random(random);
        puncture::rewrite(id, &Page::whole(&seed), None, &[], random)
    }

    /// The tree without the leaves of `ranges`, under a new root key.
    ///
    /// Ranges may overlap and may name leaves that are dead already; a range whose end lies before its start is
    /// empty. Only pages in which something dies are rewritten, and the root page always: no range at all rotates
    /// the root key. The cost grows with the number of ranges, not with the number of leaves in them.
    pub fn puncture(&self, ranges: &[RangeInclusive<u32>], random: &dyn Random) -> Puncture {
        puncture::rewrite(self.id, &self.root, Some(self.root_id), ranges, random)
    }

    /// The seed of `leaf`; `None` once it is punctured.
    ///
    /// Takes one HMAC for each bit between the nearest seed and the leaf: none beside a punctured leaf, 32 in a
    /// fresh tree.
    #[must_use]
    pub fn derive(&self, leaf: u32) -> Option<Secret<32>> {
        let (block, seed) = self.cover(leaf)?;
        Some(derive::descend(seed, leaf, block.bits))
    }

    /// Whether `leaf` can still be derived; costs no cryptography.
    #[must_use]
    pub fn is_live(&self, leaf: u32) -> bool {
        self.cover(leaf).is_some()
    }

    /// The id the tree was made with; every page is bound to it.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The public name of the root key that opens this tree.
    #[must_use]
    pub fn root_id(&self) -> [u8; 16] {
        self.root_id
    }

    /// Every page version that this tree consists of, parents first: what a checkpoint has to contain.
    pub fn pages(&self) -> impl Iterator<Item = PageId> {
        let mut open = vec![(Block::ALL, self.root_id, &*self.root)];
        std::iter::from_fn(move || {
            let (block, name, page) = open.pop()?;
            open.extend(page.children(block).map(|(block, version)| (block, version.name, &version.page)));
            Some(block.page_id(name))
        })
    }

    /// Counts pages, seeds and dead leaves by walking through the whole tree.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { punctured_leaves: Block::ALL.len(), ..Stats::default() };
        let mut open = vec![(Block::ALL, &*self.root)];
        while let Some((block, page)) = open.pop() {
            stats.pages += 1;
            for (seed, _) in page.seeds(block) {
                stats.seeds += 1;
                stats.punctured_leaves -= seed.len();
            }
            open.extend(page.children(block).map(|(block, version)| (block, &version.page)));
        }
        stats
    }

    /// The seed from which `leaf` follows and the block of leaves that it covers.
    fn cover(&self, leaf: u32) -> Option<(Block, &[u8; 32])> {
        let (mut block, mut page) = (Block::ALL, &*self.root);
        loop {
            match page.at(block, leaf)? {
                Tile::Seed(covered, seed) => return Some((covered, seed)),
                Tile::Child(below, version) => (block, page) = (below, &version.page),
            }
        }
    }
}
