//! Leaves in stock: a node takes them from the durable counter by the block, so that opening a subject writes no
//! counter. Leaves left over at a stop are lost; there are 2^32.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::model::Result;
use crate::store::Store;

/// Leaves that no one has yet.
pub struct Leaves {
    /// How many are taken at once.
    block: u32,
    stock: Mutex<Vec<Range<u32>>>,
}

impl Leaves {
    /// Nothing in stock; what is taken comes in blocks of so many, each in a row.
    #[must_use]
    pub fn in_blocks_of(block: u32) -> Self {
        Self { block, stock: Mutex::default() }
    }

    /// A leaf that nobody had before. Usually from stock; otherwise after one small transaction.
    pub async fn take(&self, store: &dyn Store) -> Result<u32> {
        loop {
            if let Some(leaf) = self.stocked() {
                return Ok(leaf);
            }
            let mut tx = store.write().await?;
            let first = tx.take_leaves(self.block).await?;
            tx.commit().await?;
            self.stock.lock().unwrap_or_else(PoisonError::into_inner).push(first..first + self.block);
        }
    }

    /// Puts back a leaf that was taken and that no row names.
    pub fn put_back(&self, leaf: u32) {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner).push(leaf..leaf.saturating_add(1));
    }

    /// Takes no more from stock.
    pub fn forget(&self) {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn stocked(&self) -> Option<u32> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(block) = stock.last_mut() {
            if let Some(leaf) = block.next() {
                return Some(leaf);
            }
            stock.pop();
        }
        None
    }
}
