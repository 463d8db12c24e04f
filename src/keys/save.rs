//! Saving the key state: a checkpoint of the next epoch goes to the sinks before the slot advances to it.

use std::collections::{BTreeMap, HashSet};

use super::checkpoint::{Checkpoint, Erased, State};
use super::custody::Custody;
use super::slot::Root;
use super::tree::{PageId, Puncture, Tree};
use crate::model::{Erasure, ErasureState, Error, Result, Time};
use crate::store::Tx;
use crate::store::key::{Page, Punctured};

/// A change of the key state that is about to happen.
pub(super) struct Change<'a> {
    /// The next tree and the pages that are new in it.
    pub puncture: &'a Puncture,
    /// Its root.
    pub root: &'a Root,
    /// What dies with it.
    pub punctured: &'a [Punctured],
    /// Who is erased by it.
    pub erasures: &'a [Erasure],
}

impl Custody {
    /// Writes a checkpoint of the state after a change to the sinks; durable in them when this returns.
    pub(super) async fn save(&self, change: &Change<'_>) -> Result<()> {
        let now = self.parts.clock.now();
        let mut tx = self.store().read().await?;
        let mut erased = shredded(&mut *tx).await?;
        erased.extend(change.erasures.iter().map(|erasure| erased_by(erasure, change.root.epoch, now)));
        let mut stored = tx.key_pages().await?;
        drop(tx);
        stored.extend(change.puncture.written.iter().map(|page| Page { id: page.id, blob: page.blob.clone() }));
        self.put_checkpoint(&change.puncture.tree, change.root, stored, change.punctured, erased).await
    }

    /// Writes a checkpoint of `tree` to every sink, picking its pages out of `stored`.
    async fn put_checkpoint(
        &self,
        tree: &Tree,
        root: &Root,
        stored: Vec<Page>,
        more: &[Punctured],
        erasures: Vec<Erased>,
    ) -> Result<()> {
        let mut tx = self.store().read().await?;
        let mut all: BTreeMap<_, _> =
            tx.punctured_after(0).await?.into_iter().map(|range| ((range.first, range.last), range)).collect();
        all.extend(more.iter().map(|range| ((range.first, range.last), *range)));
        let next_leaf = tx.tree_head().await?.map_or(0, |head| head.next_leaf);
        drop(tx);
        let wanted: HashSet<PageId> = tree.pages().collect();
        let pages: Vec<Page> = stored.into_iter().filter(|page| wanted.contains(&page.id)).collect();
        if pages.len() != wanted.len() {
            return Err(Error::internal("a page of the key tree is missing in the database"));
        }
        // What was damaged in the database must not become the only state that the slot opens.
        let by_id: BTreeMap<PageId, &[u8]> = pages.iter().map(|page| (page.id, page.blob.as_slice())).collect();
        Tree::load(tree.id(), &root.key, |id| by_id.get(&id).copied())
            .map_err(|error| Error::internal("the key state in the database is damaged").because(error))?;
        let punctured: Vec<_> = all.into_values().collect();
        let state = State { pages: &pages, punctured: &punctured, erasures };
        let taken_at = self.parts.clock.now().micros();
        let bytes = Checkpoint::new(&tree.id(), root, taken_at, next_leaf, state).seal(root)?;
        for sink in &self.parts.sinks {
            sink.put(root.epoch, &root.id, &bytes).await?;
        }
        Ok(())
    }

    /// Lets sinks drop what nothing needs once the slot stands at `root_id`.
    pub(super) async fn drop_old_checkpoints(&self, root_id: &[u8; 16]) {
        for sink in &self.parts.sinks {
            if let Err(error) = sink.collect_garbage(root_id).await {
                tracing::warn!(sink = sink.describe(), %error, "old checkpoints stay");
            }
        }
    }
}

/// Every erasure that is complete, as a checkpoint tells it.
async fn shredded(tx: &mut dyn Tx) -> Result<Vec<Erased>> {
    let done = tx.erasures_in(ErasureState::Shredded, Time::from_micros(i64::MAX)).await?;
    let told = |erasure: &Erasure| Some(erased_by(erasure, erasure.epoch?, erasure.shredded_at?));
    Ok(done.iter().filter_map(told).collect())
}

fn erased_by(erasure: &Erasure, epoch: u64, at: Time) -> Erased {
    Erased {
        erasure: erasure.id.to_string(),
        subject: erasure.subject.to_string(),
        reason: erasure.reason.as_str().to_owned(),
        requested_by: erasure.requested_by.clone(),
        requested_at: erasure.requested_at.micros(),
        erased_at: at.micros(),
        epoch,
    }
}
