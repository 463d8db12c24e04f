//! Arithmetic of the tree: a block is all the leaves below one of its nodes.

use super::PageId;

/// How many bits of a leaf lie below the pages of each level: 7 bits go to the slots of the upper two, 6 to the others.
pub const LEVELS: [u32; 5] = [32, 25, 18, 12, 6];

/// `2^bits` leaves beginning at `first`, which is a multiple of their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The smallest leaf.
    pub first: u32,
    /// How many bits of a leaf lie below this node: 32 for the whole tree, 0 for a leaf.
    pub bits: u32,
}

/// Leaves from `first` to `last`, both among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: u32,
    pub last: u32,
}

impl Block {
    /// The whole tree, and the block of the root page.
    pub const ALL: Self = Self { first: 0, bits: 32 };

    /// The largest leaf.
    pub fn last(self) -> u32 {
        self.first | self.mask()
    }

    /// How many leaves: 1 to 2^32.
    pub fn len(self) -> u64 {
        1 << self.bits
    }

    /// Whether `leaf` is one of them.
    pub fn holds(self, leaf: u32) -> bool {
        (self.first..=self.last()).contains(&leaf)
    }

    /// The blocks of the two children; a leaf has none and is split no further.
    pub fn halves(self) -> [Self; 2] {
        let bits = self.bits.saturating_sub(1);
        [Self { first: self.first, bits }, Self { first: self.first | (1 << bits), bits }]
    }

    /// For the block of a page: that of the slot which holds `leaf`.
    pub fn slot_of(self, leaf: u32) -> Self {
        let slot = Self { first: 0, bits: self.slot_bits() };
        Self { first: leaf & !slot.mask(), ..slot }
    }

    /// For the block of a page: that of its slot number `slot`.
    pub fn slot(self, slot: u8) -> Self {
        let bits = self.slot_bits();
        Self { first: self.first | (u32::from(slot) << bits), bits }
    }

    /// For the block of a slot: its number in the page.
    pub fn slot_number(self) -> u8 {
        let slots = if self.bits >= 18 { 128 } else { 64 };
        let [.., number] = ((self.first >> self.bits) & (slots - 1)).to_be_bytes();
        number
    }

    /// For the block of a page: how many bits of a leaf lie below its slots.
    pub fn slot_bits(self) -> u32 {
        match self.bits {
            26.. => 25,
            19.. => 18,
            13.. => 12,
            7.. => 6,
            _ => 0,
        }
    }

    /// The heap index (1 for the top, the number of slots and up for the slots) of this block inside the page over
    /// `page`. It fits a byte because no page has more than 128 slots.
    pub fn index_in(self, page: Self) -> u8 {
        let inside = u64::from(self.first ^ page.first) >> self.bits;
        let index = (1_u64 << (page.bits - self.bits)) | inside;
        u8::try_from(index).unwrap_or(0)
    }

    /// The block with heap index `index` inside the page over this block; `None` if the page has no such index.
    pub fn inside(self, index: u8) -> Option<Self> {
        let depth = index.checked_ilog2().filter(|depth| *depth <= self.bits - self.slot_bits())?;
        let bits = self.bits - depth;
        let number = u64::from(index) ^ (1 << depth);
        let first = self.first | u32::try_from(number << bits).ok()?;
        Some(Self { first, bits })
    }

    /// For the block of a page: its name in the store.
    pub fn page_id(self, version: [u8; 16]) -> PageId {
        let prefix = self.first.checked_shr(self.bits).unwrap_or(0);
        PageId { level: self.level(), prefix, version }
    }

    /// The block of the page with this name; `None` for a level that no page has.
    pub fn of_page(page: &PageId) -> Option<Self> {
        let bits = *LEVELS.get(usize::from(page.level))?;
        Some(Self { first: page.prefix.checked_shl(bits).unwrap_or(0), bits })
    }

    fn level(self) -> u8 {
        match self.bits {
            26.. => 0,
            19.. => 1,
            13.. => 2,
            7.. => 3,
            _ => 4,
        }
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shr(32 - self.bits).unwrap_or(0)
    }
}

/// The part of `spans`, which are in order and apart, that has a leaf in common with `block`.
pub fn touching(spans: &[Span], block: Block) -> &[Span] {
    let from = spans.partition_point(|span| span.last < block.first);
    let to = spans.partition_point(|span| span.first <= block.last());
    spans.get(from..to).unwrap_or(&[])
}

/// Whether no leaf of `block` is left out by `spans`. A single span decides, because they never adjoin.
pub fn covers(spans: &[Span], block: Block) -> bool {
    spans.iter().any(|span| span.first <= block.first && block.last() <= span.last)
}

/// The same leaves as `spans`, in order, overlapping and adjoining ones made one.
pub fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.first <= span.last);
    spans.sort_unstable_by_key(|span| span.first);
    spans.dedup_by(|next, kept| {
        let joined = next.first <= kept.last.saturating_add(1);
        if joined {
            kept.last = kept.last.max(next.last);
        }
        joined
    });
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(first: u32, last: u32) -> Span {
        Span { first, last }
    }

    #[test]
    fn merges_what_overlaps_or_adjoins() {
        let spans = vec![span(8, 9), span(3, 1), span(0, 4), span(5, 6), span(2, 3), span(u32::MAX, u32::MAX)];
        let merged = merge(spans);
        assert_eq!(merged, [span(0, 6), span(8, 9), span(u32::MAX, u32::MAX)]);
        assert_eq!(merge(vec![span(0, u32::MAX), span(u32::MAX, u32::MAX)]), [span(0, u32::MAX)]);
    }

    #[test]
    fn knows_the_edges() {
        assert_eq!((Block::ALL.last(), Block::ALL.len()), (u32::MAX, 1 << 32));
        let leaf = Block { first: 7, bits: 0 };
        assert_eq!((leaf.last(), leaf.len()), (7, 1));
        assert_eq!(Block::ALL.inside(1), Some(Block::ALL));
        assert_eq!(Block::ALL.inside(0), None);
        let lowest = Block { first: 0, bits: 6 };
        assert_eq!(lowest.inside(127), Some(Block { first: 63, bits: 0 }));
        assert_eq!(lowest.inside(128), None);
    }

    proptest! {
        #[test]
        fn heap_indices_name_every_block_of_a_page(leaf: u32, level in 0_usize..5, index in 1_u8..=255) {
            let bits = LEVELS[level];
            let index = if level < 2 { index } else { index.div_ceil(2).min(127) };
            let page = Block { first: leaf & !Block { first: 0, bits }.mask(), bits };
            let block = page.inside(index).unwrap();
            prop_assert_eq!(block.index_in(page), index);
            prop_assert!(page.holds(block.first) && page.holds(block.last()));
        }

        #[test]
        fn slots_hold_their_leaves(leaf: u32, level in 0_usize..5) {
            let bits = LEVELS[level];
            let page = Block { first: leaf & !Block { first: 0, bits }.mask(), bits };
            let slot = page.slot_of(leaf);
            prop_assert_eq!(page.slot(slot.slot_number()), slot);
            prop_assert!(slot.holds(leaf));
            prop_assert_eq!(Block::of_page(&page.page_id([0; 16])), Some(page));
        }
    }
}
