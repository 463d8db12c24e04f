//! A page: the seeds and the pages below it that together cover the living leaves of one block.

use std::sync::Arc;

use crate::crypto::{Secret, SecretBytes};

use super::block::Block;

const FORMAT: u8 = 1;

/// Bytes of a serialised page before its entries: format, number of seeds, number of children.
const HEAD: usize = 3;
/// Bytes of a serialised seed: heap index, seed.
const SEED: usize = 1 + 32;
/// Bytes of a serialised child: slot, page key.
const CHILD: usize = 1 + 32;

/// What a page covers its block with. Seeds and children never overlap; what neither covers is dead.
///
/// Everything is in the order of leaves, so finding a leaf is a binary search. Seeds of a page share one buffer: at
/// a million punctures the difference is hundreds of megabytes.
pub struct Page {
    /// The heap index of each seed.
    indices: Box<[u8]>,
    /// 32 bytes for each index, in the same order.
    seeds: SecretBytes,
    children: Box<[Child]>,
}

/// A slot that was touched, with the page that now stands for it.
#[derive(Clone)]
pub struct Child {
    pub slot: u8,
    pub version: Arc<Version>,
}

/// One version of a page below the root page: its public name, the key that opens it, its content.
pub struct Version {
    pub name: [u8; 16],
    pub key: Secret<32>,
    pub page: Page,
}

/// What covers a leaf in a page.
pub enum Tile<'a> {
    Seed(Block, &'a [u8; 32]),
    Child(Block, &'a Version),
}

impl Page {
    /// The page whose whole block follows from one seed.
    pub fn whole(seed: &Secret<32>) -> Self {
        Self { indices: Box::new([1]), seeds: seed.expose().as_slice().into(), children: Box::default() }
    }

    /// What covers `leaf` in this page over `block`.
    pub fn at(&self, block: Block, leaf: u32) -> Option<Tile<'_>> {
        let slot = block.slot_of(leaf);
        if let Ok(at) = self.children.binary_search_by_key(&slot.slot_number(), |child| child.slot) {
            return Some(Tile::Child(slot, &self.children.get(at)?.version));
        }
        let starts_before = |index: &u8| block.inside(*index).is_some_and(|seed| seed.first <= leaf);
        let at = self.indices.partition_point(starts_before).checked_sub(1)?;
        let covered = block.inside(*self.indices.get(at)?)?;
        let seed = self.seeds.expose().as_chunks().0.get(at)?;
        covered.holds(leaf).then_some(Tile::Seed(covered, seed))
    }

    /// The seeds of this page over `block`, each with the block it covers, in order.
    pub fn seeds(&self, block: Block) -> impl ExactSizeIterator<Item = (Block, &[u8; 32])> {
        // An index that the page does not have is refused when a page is read, and never made.
        let covered = move |index: &u8| block.inside(*index).unwrap_or(block);
        self.indices.iter().map(covered).zip(self.seeds.expose().as_chunks().0)
    }

    /// The pages below this page over `block`, each with the block it stands for, in order.
    pub fn children(&self, block: Block) -> impl ExactSizeIterator<Item = (Block, &Arc<Version>)> {
        self.children.iter().map(move |child| (block.slot(child.slot), &child.version))
    }

    /// Whether every leaf of the page is dead.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty() && self.children.is_empty()
    }

    /// The page as bytes: format, two counts, seeds in order, children in order; numbers big endian.
    pub fn to_bytes(&self) -> SecretBytes {
        let mut bytes = SecretBytes::with_capacity(HEAD + self.indices.len() * SEED + self.children.len() * CHILD);
        bytes.append(&[FORMAT, count(self.indices.len()), count(self.children.len())]);
        for (index, seed) in self.indices.iter().zip(self.seeds.expose().as_chunks::<32>().0) {
            bytes.append(&[*index]);
            bytes.append(seed);
        }
        for Child { slot, version } in &self.children {
            bytes.append(&[*slot]);
            bytes.append(version.key.expose());
        }
        bytes
    }
}

/// A page being put together.
pub struct Draft {
    indices: Vec<u8>,
    seeds: SecretBytes,
    children: Vec<Child>,
}

impl Draft {
    /// An empty draft with room for that many seeds.
    pub fn new(seeds: usize) -> Self {
        let seeds = SecretBytes::with_capacity(seeds * 32);
        Self { indices: Vec::new(), seeds, children: Vec::new() }
    }

    /// Adds a seed; seeds come in the order of leaves.
    pub fn seed(&mut self, index: u8, seed: &[u8; 32]) {
        self.indices.push(index);
        self.seeds.append(seed);
    }

    /// Adds a child; children come in any order.
    pub fn child(&mut self, slot: u8, version: Arc<Version>) {
        self.children.push(Child { slot, version });
    }

    /// The finished page, in buffers of exactly the size needed.
    pub fn finish(mut self) -> Page {
        self.children.sort_unstable_by_key(|child| child.slot);
        Page { indices: self.indices.into(), seeds: self.seeds.expose().into(), children: self.children.into() }
    }
}

/// A page as it was read, its children still to be fetched.
pub struct Parsed<'a> {
    /// The seeds, by heap index.
    pub seeds: Vec<(u8, &'a [u8; 32])>,
    /// The keys of the children, by slot.
    pub children: Vec<(u8, &'a [u8; 32])>,
}

/// Reads what [`Page::to_bytes`] wrote for the page over `block`; `None` if it wrote no such thing.
pub fn parse(block: Block, bytes: &[u8]) -> Option<Parsed<'_>> {
    let (&[FORMAT, seeds, children], rest) = bytes.split_first_chunk::<HEAD>()? else { return None };
    let (seeds, children_bytes) = rest.split_at_checked(usize::from(seeds) * SEED)?;
    if children_bytes.len() != usize::from(children) * CHILD {
        return None;
    }
    let seeds = seeds.as_chunks().0.iter().map(parse_entry).collect::<Option<_>>()?;
    let children = children_bytes.as_chunks().0.iter().map(parse_entry).collect::<Option<_>>()?;
    let parsed = Parsed { seeds, children };
    parsed.is_sound(block).then_some(parsed)
}

/// Seeds and children look alike: a number in the page, and 32 secret bytes.
fn parse_entry(bytes: &[u8; SEED]) -> Option<(u8, &[u8; 32])> {
    let (number, secret) = bytes.split_first()?;
    Some((*number, secret.as_array()?))
}

impl Parsed<'_> {
    /// Whether seeds and children are in order, apart from each other, and possible at this level.
    fn is_sound(&self, block: Block) -> bool {
        let seeds: Option<Vec<Block>> = self.seeds.iter().map(|(index, _)| block.inside(*index)).collect();
        let Some(seeds) = seeds else { return false };
        let slot = |(number, _): &(u8, _)| Some(block.slot(*number)).filter(|slot| slot.slot_number() == *number);
        let children: Option<Vec<Block>> = self.children.iter().map(slot).collect();
        let Some(children) = children else { return false };
        let mut all = [seeds.as_slice(), &children].concat();
        all.sort_by_key(|tile| tile.first);
        is_apart(&seeds) && is_apart(&children) && is_apart(&all) && (block.slot_bits() > 0 || children.is_empty())
    }
}

fn is_apart(blocks: &[Block]) -> bool {
    blocks.is_sorted_by(|one, next| one.last() < next.first)
}

/// A page has at most 128 entries of a kind.
fn count(entries: usize) -> u8 {
    u8::try_from(entries).unwrap_or(u8::MAX)
}
