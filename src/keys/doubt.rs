//! Doubt: what a transaction put into the search index, and never committed.
//!
//! It lies in files and logs like whatever else was undone, sealed under the leaf that its bucket goes on using. A
//! person's erasure writes the buckets of their *present* values anew, and would miss it. So each bucket that such a
//! transaction has touched is marked, like one from which an entry was taken out, and the next erasure writes it anew. Of
//! a process that ended in the midst of its work nobody knows which these are: then every bucket is marked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::custody::Custody;
use crate::model::Result;

/// Buckets that were touched by transactions of this process of which it is not known that they were committed.
#[derive(Default)]
pub struct Doubts(Arc<Mutex<BTreeSet<u32>>>);

/// Buckets that a transaction is about to touch. In doubt from its end on, unless that was good.
pub struct Doubt {
    buckets: BTreeSet<u32>,
    all: Arc<Mutex<BTreeSet<u32>>>,
}

impl Doubt {
    /// The transaction is committed.
    pub fn resolve(mut self) {
        self.buckets.clear();
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        lock(&self.all).append(&mut self.buckets);
    }
}

impl Custody {
    /// To be called before a transaction touches buckets, and resolved after its commit.
    #[must_use]
    pub fn doubt(&self, buckets: BTreeSet<u32>) -> Doubt {
        Doubt { buckets, all: Arc::clone(&self.doubts.0) }
    }

    /// Marks the buckets in doubt.
    pub(super) async fn mark_doubtful(&self) -> Result<()> {
        let doubtful: Vec<u32> = lock(&self.doubts.0).iter().copied().collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let mut tx = self.store().write().await?;
        tx.lock_buckets(&doubtful).await?;
        tx.mark_buckets(&doubtful).await?;
        tx.commit().await?;
        lock(&self.doubts.0).retain(|bucket| !doubtful.contains(bucket));
        Ok(())
    }

    /// Marks every bucket when a process has ended in the midst of its work.
    pub(super) async fn mark_for_the_dead(&self) -> Result<()> {
        if !self.store().read().await?.has_dead_writers().await? {
            return Ok(());
        }
        let mut tx = self.store().write().await?;
        tx.forget_dead_writers().await?;
        self.distrust_buckets(&mut *tx).await?;
        tx.commit().await
    }

    /// Notes that this process may be writing from now on.
    pub(super) async fn begin_to_write(&self) -> Result<()> {
        let mut tx = self.store().write().await?;
        tx.begin_writer(&self.node()).await?;
        tx.commit().await
    }

    /// Notes that it does not write any more, unless something is still in doubt.
    pub(super) async fn end_to_write(&self) -> Result<()> {
        self.mark_doubtful().await?;
        let mut tx = self.store().write().await?;
        tx.end_writer(&self.node()).await?;
        tx.commit().await
    }
}

fn lock(all: &Mutex<BTreeSet<u32>>) -> MutexGuard<'_, BTreeSet<u32>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
