//! Leaves in stock: a node takes them from the durable counter by the block, so that opening a subject writes no
//! counter. Leaves left over at a stop are lost; there are 2^32.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::model::Result;
use crate::store::Store;

/// How many are taken at once.
const BLOCK: u32 = 1024;

/// Leaves that no one has yet.
#[derive(Default)]
pub struct Leaves(Mutex<Vec<Range<u32>>>);

impl Leaves {
    /// A leaf that nobody had before. Usually from stock; otherwise after one small transaction.
    pub async fn take(&self, store: &dyn Store) -> Result<u32> {
        loop {
            if let Some(leaf) = self.stocked() {
                return Ok(leaf);
            }
            let mut tx = store.write().await?;
            let first = tx.take_leaves(BLOCK).await?;
            tx.commit().await?;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(first..first + BLOCK);
        }
    }

    /// Puts back a leaf that was taken and that no row names.
    pub fn put_back(&self, leaf: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(leaf..leaf.saturating_add(1));
    }

    fn stocked(&self) -> Option<u32> {
        let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(block) = stock.last_mut() {
            if let Some(leaf) = block.next() {
                return Some(leaf);
            }
            stock.pop();
        }
        None
    }
}
