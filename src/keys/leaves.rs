//! Leaves: handing them out, and giving up those under which something was sealed that never came to be.
//!
//! A transaction that is undone leaves its rows behind in a write-ahead log, in PostgreSQL's files and in base backups.
//! What it sealed under a leaf that no row names would outlive every erasure, because an erasure punctures the leaves
//! that rows name. So nothing is sealed under a leaf before a committed row, in `open_leaf`, says that it was handed out;
//! the transaction that names the leaf holds that row; and each change of the root removes these rows, once the
//! transactions that hold them have ended, and punctures whatever of their leaves no row names by then. Whoever still
//! has one of them takes another and seals again. It does not matter why a transaction came to nothing, nor whether its
//! process lives, nor whether it was told.
//!
//! People's leaves are taken by the block, so that opening a subject writes no counter. What will end together, the keys of one
//! retention class and month, has blocks of its own: its leaves then go as few ranges. A block is small after a change
//! of the root and grows while it is used up, so that little is given up. There are 2^32 leaves.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::custody::Custody;
use super::reindex::condemn_ranges;
use crate::model::{Cohort, Error, Reason, Result};
use crate::store::{Store, Tx};

/// The first block after a change of the root.
const SMALLEST: u32 = 16;
/// No block is larger.
const LARGEST: u32 = 1024;
/// So many are kept at once for index buckets, which are under new ones after every erasure: apart from the others and
/// close to each other, so that those of one erasure share pages of the tree.
const FOR_BUCKETS: u32 = 4096;

/// Whose leaves are next to each other: those of a retention class with a period and of a month, or all others.
pub type Lot = Option<(String, Cohort)>;

/// Leaves in stock, that no one has yet.
#[derive(Default)]
pub struct Leaves(Arc<Mutex<Stock>>);

#[derive(Default)]
struct Stock {
    lots: HashMap<Lot, Blocks>,
    /// How often the stock was dropped.
    drops: u64,
}

#[derive(Default)]
struct Blocks {
    blocks: Vec<Range<u32>>,
    /// How large the block before was; zero when there was none since the stock was dropped.
    size: u32,
}

/// A leaf that nobody else has. Goes back into stock when it is dropped, unless it was used.
pub struct Leaf {
    number: u32,
    lot: Lot,
    drops: u64,
    used: AtomicBool,
    stock: Arc<Mutex<Stock>>,
}

impl Leaf {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Says that something sealed under it goes to the database now, whatever becomes of it there.
    pub fn spend(&self) {
        self.used.store(true, Ordering::SeqCst);
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let mut stock = lock(&self.stock);
        if !self.used.load(Ordering::SeqCst) && self.drops == stock.drops {
            let freed = self.number..self.number.saturating_add(1);
            stock.lots.entry(self.lot.take()).or_default().blocks.push(freed);
        }
    }
}

impl Leaves {
    /// A leaf that nobody had before. Usually from stock; otherwise after one small transaction.
    pub async fn take(&self, store: &dyn Store, lot: Lot) -> Result<Leaf> {
        loop {
            let (drops, size) = {
                let mut stock = lock(&self.0);
                let drops = stock.drops;
                let blocks = stock.lots.entry(lot.clone()).or_default();
                if let Some(number) = blocks.next() {
                    let stock = Arc::clone(&self.0);
                    return Ok(Leaf { number, lot, drops, used: AtomicBool::new(false), stock });
                }
                (drops, (blocks.size * 2).clamp(SMALLEST, LARGEST))
            };
            let mut tx = store.write().await?;
            let first = tx.take_leaves(size).await?;
            tx.open_leaves(first, size).await?;
            tx.commit().await?;
            let mut stock = lock(&self.0);
            // Dropped meanwhile: these may be closed already.
            if stock.drops == drops {
                let blocks = stock.lots.entry(lot.clone()).or_default();
                blocks.size = size;
                blocks.blocks.push(first..first.saturating_add(size));
            }
        }
    }

    /// Drops what is in stock.
    pub fn forget(&self) {
        let mut stock = lock(&self.0);
        stock.lots.clear();
        stock.drops += 1;
    }
}

impl Blocks {
    fn next(&mut self) -> Option<u32> {
        while let Some(block) = self.blocks.last_mut() {
            if let Some(leaf) = block.next() {
                return Some(leaf);
            }
            self.blocks.pop();
        }
        None
    }
}

impl Custody {
    /// A leaf that nobody had before, for a subject's key. [`hold`] it in the transaction that names it.
    pub async fn take_leaf(&self, lot: Lot) -> Result<Leaf> {
        self.leaves.take(self.store(), lot).await
    }

    /// Takes no more from stock.
    pub fn forget_leaves(&self) {
        self.leaves.forget();
    }

    /// Gives up every leaf that was handed out and that no row names: it dies with the next change of the root. Takes
    /// `count` fresh ones in the same transaction, for buckets of the index, and answers the first.
    pub(super) async fn close_leaves(&self, count: u32) -> Result<u32> {
        let mut tx = self.store().write().await?;
        let closed = tx.close_leaves().await?;
        let named = tx.named_leaves(&closed).await?;
        let unnamed: Vec<_> = closed.iter().flat_map(|&(first, last)| gaps(&named, first, last)).collect();
        condemn_ranges(&mut *tx, &unnamed).await?;
        let first = take_for_buckets(&mut *tx, count).await?;
        tx.commit().await?;
        self.forget_leaves();
        Ok(first)
    }

    /// Takes leaves in a row, for buckets of the index or a key of it, and answers the first.
    pub(super) async fn take_bucket_leaves(&self, count: u32) -> Result<u32> {
        let mut tx = self.store().write().await?;
        let first = take_for_buckets(&mut *tx, count).await?;
        tx.commit().await?;
        Ok(first)
    }
}

async fn take_for_buckets(tx: &mut dyn Tx, count: u32) -> Result<u32> {
    if count == 0 {
        return Ok(0);
    }
    let (mut first, end) = tx.take_spare_leaves(count).await?;
    if first.saturating_add(count) > end {
        if first < end {
            condemn_ranges(tx, &[(first, end - 1)]).await?;
        }
        let many = count.max(FOR_BUCKETS);
        first = tx.take_leaves(many).await?;
        tx.put_spare_leaves(first.saturating_add(count), first.saturating_add(many)).await?;
    }
    tx.open_leaves(first, count).await?;
    Ok(first)
}

/// Makes certain that leaves which are about to be named are not given up before the transaction ends.
///
/// # Errors
/// `KeyRetired` when some were given up already: whatever is sealed under them must be sealed anew, under others.
pub async fn hold(tx: &mut dyn Tx, leaves: &[u32]) -> Result<()> {
    let held = tx.hold_leaves(leaves).await?;
    if leaves.iter().all(|leaf| held.contains(leaf)) { Ok(()) } else { Err(given_up()) }
}

/// The refusal to name a leaf that a change of the root takes along.
#[must_use]
pub fn given_up() -> Error {
    Error::new(Reason::KeyRetired, "the root key changed before the value was kept; try again")
}

/// The ranges of leaves from `first` to `last` that `used`, which is sorted, leaves out.
pub(super) fn gaps(used: &[u32], first: u32, last: u32) -> Vec<(u32, u32)> {
    let (mut next, mut gaps) = (u64::from(first), Vec::new());
    let used = used.iter().filter(|leaf| (first..=last).contains(leaf)).map(|&leaf| u64::from(leaf));
    for leaf in used.chain(std::iter::once(u64::from(last) + 1)) {
        if leaf > next {
            gaps.extend(u32::try_from(next).ok().zip(u32::try_from(leaf - 1).ok()));
        }
        next = next.max(leaf + 1);
    }
    gaps
}

fn lock(stock: &Mutex<Stock>) -> MutexGuard<'_, Stock> {
    stock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::gaps;

    #[test]
    fn gaps_are_what_lies_between() {
        assert_eq!(gaps(&[], 16, 19), [(16, 19)]);
        assert_eq!(gaps(&[1, 16, 17, 20, 30], 16, 24), [(18, 19), (21, 24)]);
        assert_eq!(gaps(&[16, 17, 18, 19], 16, 19), []);
        assert_eq!(gaps(&[u32::MAX - 1], u32::MAX - 1, u32::MAX), [(u32::MAX, u32::MAX)]);
    }
}
