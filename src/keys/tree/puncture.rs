//! Puncturing: new versions of the pages on the way to the leaves that die.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::crypto::{Aad, Key, Random, Secret, derive, seal};

use super::block::{Block, Span, covers, merge, touching};
use super::page::{Draft, Page, Version};
use super::{PageId, Puncture, SealedPage, Tree};

/// Rewrites the tree whose root page is `root` (stored as `old`, if it ever was) without `ranges`.
pub fn rewrite(
    id: [u8; 16],
    root: &Page,
    old: Option<[u8; 16]>,
    ranges: &[RangeInclusive<u32>],
    random: &dyn Random,
) -> Puncture {
    let spans = merge(ranges.iter().map(|range| Span { first: *range.start(), last: *range.end() }).collect());
    let key = Secret::random(random);
    let root_id = derive::root_id(&key);
    let mut writer = Writer { id, random, written: Vec::new(), removed: Vec::new() };
    let page = writer.without(Block::ALL, root, &spans).0;
    writer.write(Block::ALL.page_id(root_id), &page, &key);
    writer.removed.extend(old.map(|old| Block::ALL.page_id(old)));
    let Writer { written, removed, .. } = writer;
    Puncture { tree: Tree { id, root_id, root: Arc::new(page) }, base: old, root: key, root_id, written, removed }
}

/// What a page version is bound to, besides the key it is sealed under.
pub fn place(tree: &[u8; 16], page: &PageId) -> Aad {
    let aad = Aad::new("lacuna/key-page/v1").bytes(tree).number(page.level.into());
    aad.number(page.prefix.into()).bytes(&page.version)
}

struct Writer<'a> {
    id: [u8; 16],
    random: &'a dyn Random,
    written: Vec<SealedPage>,
    removed: Vec<PageId>,
}

impl Writer<'_> {
    /// The page over `block` without `spans`, its children already written, and whether it differs from `page`.
    fn without(&mut self, block: Block, page: &Page, spans: &[Span]) -> (Page, bool) {
        let mut draft = Draft::new(room(page.seeds(block).len(), spans));
        let mut changed = false;
        for (covered, seed) in page.seeds(block) {
            changed |= self.carve(block, covered, seed, touching(spans, covered), &mut draft);
        }
        for (slot, version) in page.children(block) {
            changed |= self.child(slot, version, touching(spans, slot), &mut draft);
        }
        (draft.finish(), changed)
    }

    /// Puts what is left of the block `covered` by `seed` into `draft`, the page over `page`. Each half that loses
    /// nothing keeps its seed; the seeds above it are gone with the end of this call.
    fn carve(&mut self, page: Block, covered: Block, seed: &[u8; 32], spans: &[Span], draft: &mut Draft) -> bool {
        if spans.is_empty() {
            draft.seed(covered.index_in(page), seed);
            return false;
        }
        if covers(spans, covered) {
            return true;
        }
        if covered.bits == page.slot_bits() {
            self.open_slot(covered, seed, spans, draft);
            return true;
        }
        for (half, seed) in covered.halves().into_iter().zip(derive::children(seed)) {
            self.carve(page, half, seed.expose(), touching(spans, half), draft);
        }
        true
    }

    /// The first puncture inside a slot: a page of its own takes the place of the seed.
    fn open_slot(&mut self, slot: Block, seed: &[u8; 32], spans: &[Span], parent: &mut Draft) {
        let mut draft = Draft::new(room(0, spans));
        self.carve(slot, slot, seed, spans, &mut draft);
        self.adopt(slot, draft.finish(), parent);
    }

    /// Puts what is left of the page below `slot` into `parent`: the same version if it loses nothing.
    fn child(&mut self, slot: Block, version: &Arc<Version>, spans: &[Span], parent: &mut Draft) -> bool {
        if covers(spans, slot) {
            self.remove(slot, version);
            return true;
        }
        if !spans.is_empty() {
            let (page, changed) = self.without(slot, &version.page, spans);
            if changed {
                self.removed.push(slot.page_id(version.name));
                self.adopt(slot, page, parent);
                return true;
            }
        }
        parent.child(slot.slot_number(), Arc::clone(version));
        false
    }

    /// Seals `page` under a new key and hands the key to its parent; a page with nothing alive is left out.
    fn adopt(&mut self, slot: Block, page: Page, parent: &mut Draft) {
        if page.is_empty() {
            return;
        }
        let key = Secret::random(self.random);
        let name = derive::root_id(&key);
        self.write(slot.page_id(name), &page, &key);
        parent.child(slot.slot_number(), Arc::new(Version { name, key, page }));
    }

    fn write(&mut self, id: PageId, page: &Page, key: &Secret<32>) {
        let aad = place(&self.id, &id);
        let blob = seal(&Key::new(key), 0, &aad, page.to_bytes().expose(), self.random);
        self.written.push(SealedPage { id, blob });
    }

    /// Lists a page version and all below it as removed.
    fn remove(&mut self, block: Block, version: &Version) {
        self.removed.push(block.page_id(version.name));
        for (slot, below) in version.page.children(block) {
            self.remove(slot, below);
        }
    }
}

/// Seeds to make room for: those there are, and up to seven on either side of each span; never more than slots.
fn room(seeds: usize, spans: &[Span]) -> usize {
    spans.len().saturating_mul(14).saturating_add(seeds).min(128)
}
