//! Mending the search index of a database that was restored: buckets, or a whole generation, that it has under keys
//! which are gone are made again from the values.

use std::collections::HashSet;

use super::custody::Custody;
use super::index::{self, Entry};
use super::leaves::hold;
use crate::model::{Error, Result, RotationKind, RotationState};
use crate::policy::is_there;
use crate::store::Tx;
use crate::store::index::{Bucket, Generation, Stage};
use crate::store::key::{CONDEMNED, Punctured};

/// Tokens read at once while the index is rebuilt.
const PAGE: u32 = 1000;

impl Custody {
    /// Has the next erasure write every bucket anew: copies of the time that a restore lost, or what a process left behind
    /// that ended in the midst of its work, may hold entries that this database never had, under the leaves that it has.
    pub(super) async fn distrust_buckets(&self, tx: &mut dyn Tx) -> Result<()> {
        let generations = tx.generations().await?;
        let numbers: Vec<u32> = generations.iter().flat_map(Generation::numbers).collect();
        tx.lock_buckets(&numbers).await?;
        tx.mark_buckets(&numbers).await
    }

    /// Takes out of the index, in a restored database, every token whose key was destroyed since: nobody can tell any
    /// more where its value is listed, so neither an erasure nor a correction would find the entry.
    pub(super) async fn unlist_unreadable(&self, tx: &mut dyn Tx) -> Result<()> {
        let tree = self.ring.epoch()?.tree;
        let (mut after, mut unreadable) = (None, Vec::new());
        loop {
            let page = tx.scan_tokens(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.token.row);
            let sealed = page.iter().filter(|facts| facts.token.sealed.is_some());
            unreadable.extend(sealed.filter(|facts| !tree.is_live(facts.token.leaf)).map(|facts| facts.token.row));
        }
        if unreadable.is_empty() {
            return Ok(());
        }
        let generations = tx.generations().await?;
        let numbers: Vec<u32> = generations.iter().flat_map(Generation::numbers).collect();
        tx.lock_buckets(&numbers).await?;
        let buckets = all_buckets(tx, &generations).await?;
        // Those under a leaf that is gone are made again from the values.
        let readable = buckets.iter().filter(|bucket| tree.is_live(bucket.leaf)).map(|bucket| bucket.bucket);
        index::remove(&self.ring, tx, &readable.collect::<Vec<_>>(), &unreadable).await
    }

    /// Rebuilds what a restored database has under leaves that were punctured since. Answers how many buckets.
    pub(super) async fn rebuild_index(&self) -> Result<u64> {
        let epoch = self.ring.epoch()?;
        let mut tx = self.store().read().await?;
        let generations = tx.generations().await?;
        let lost_key = index::current(&generations).is_none_or(|current| !epoch.tree.is_live(current.leaf));
        if lost_key {
            drop(tx);
            return self.replace_index(&generations).await;
        }
        let mut lost = all_buckets(&mut *tx, &generations).await?;
        drop(tx);
        lost.retain(|bucket| !epoch.tree.is_live(bucket.leaf));
        if lost.is_empty() {
            return Ok(0);
        }
        let numbers: HashSet<u32> = lost.iter().map(|bucket| bucket.bucket).collect();
        let mut entries = self.entries_of_live_tokens(&generations).await?;
        entries.retain(|entry| numbers.contains(&entry.spot.bucket));
        let first = self.take_bucket_leaves(u32::try_from(lost.len()).map_err(Error::internal)?).await?;
        for (bucket, leaf) in lost.iter_mut().zip(first..) {
            *bucket = Bucket { leaf, chunks: 1, dirty: false, ..*bucket };
        }
        let mut tx = self.store().write().await?;
        hold(&mut *tx, &lost.iter().map(|bucket| bucket.leaf).collect::<Vec<_>>()).await?;
        index::rebuild(&self.ring, &mut *tx, &lost, &entries).await?;
        tx.commit().await?;
        Ok(lost.len() as u64)
    }

    /// Makes a new generation in the place of all there are: the index key was rotated after the backup was taken, and
    /// destroyed.
    async fn replace_index(&self, old: &[Generation]) -> Result<u64> {
        let buckets = old.last().map_or(self.parts.index_buckets, |generation| generation.buckets);
        let leaf = self.take_bucket_leaves(buckets.saturating_add(1)).await?;
        let generation = next_generation(old, leaf, buckets, Stage::Current);
        let mut tx = self.store().write().await?;
        hold(&mut *tx, &generation.first_leaves().collect::<Vec<_>>()).await?;
        let entries = self.entries_of_live_tokens(&[generation]).await?;
        let fresh = |(bucket, leaf)| Bucket { bucket, leaf, chunks: 1, dirty: false };
        let leaves = generation.first_leaves().skip(1);
        let fresh: Vec<Bucket> = generation.numbers().zip(leaves).map(fresh).collect();
        index::rebuild(&self.ring, &mut *tx, &fresh, &entries).await?;
        for generation in old {
            discard(&mut *tx, generation).await?;
        }
        tx.put_generation(&generation).await?;
        self.fail_index_rotations(&mut *tx).await?;
        tx.commit().await?;
        self.see_generations(&[generation]);
        Ok(u64::from(buckets))
    }

    /// Gives up, in a restored database, a generation whose buckets were being made: which of them were, under which
    /// leaves, and who came to be in them in the time that was lost, nobody knows.
    pub(super) async fn give_up_unfinished(&self, tx: &mut dyn Tx) -> Result<()> {
        let mut generations = tx.generations().await?;
        generations.retain(|generation| generation.stage == Stage::Preparing);
        for generation in &generations {
            discard(tx, generation).await?;
        }
        if generations.is_empty() { Ok(()) } else { self.fail_index_rotations(tx).await }
    }

    async fn fail_index_rotations(&self, tx: &mut dyn Tx) -> Result<()> {
        let now = self.parts.clock.now();
        for mut rotation in tx.running_rotations().await? {
            if rotation.kind == RotationKind::IndexKey {
                rotation.finish(RotationState::Failed, "the database was restored meanwhile".to_owned(), now)?;
                tx.update_rotation(&rotation).await?;
            }
        }
        Ok(())
    }

    /// Walks through all tokens and answers their entries in the generations.
    async fn entries_of_live_tokens(&self, generations: &[Generation]) -> Result<Vec<Entry>> {
        let epoch = self.ring.epoch()?;
        let mut tx = self.store().read().await?;
        let (mut after, mut entries) = (None, Vec::new());
        loop {
            let page = tx.scan_tokens(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(entries) };
            after = Some(last.token.row);
            for facts in page.iter().filter(|facts| facts.token.sealed.is_some()) {
                let token = &facts.token;
                // What outlasts an erasure is found by nobody.
                if !is_there(facts.state) || !epoch.tree.is_live(token.leaf) {
                    continue;
                }
                match self.spots_of(token, generations) {
                    Ok(spots) => entries.extend(spots.into_iter().map(|spot| Entry { spot, row: token.row })),
                    Err(error) => tracing::error!(subject = %token.subject, %error, "a value cannot be indexed"),
                }
            }
        }
    }
}

/// A generation after `old`, with its key under `leaf` and its buckets under those behind it.
#[must_use]
pub fn next_generation(old: &[Generation], leaf: u32, buckets: u32, stage: Stage) -> Generation {
    Generation {
        generation: old.iter().map(|generation| generation.generation).max().unwrap_or_default() + 1,
        leaf,
        first_bucket: old.iter().map(|generation| generation.numbers().end).max().unwrap_or_default(),
        buckets,
        stage,
    }
}

/// Removes a generation with all its buckets and condemns what it is under.
async fn discard(tx: &mut dyn Tx, generation: &Generation) -> Result<()> {
    let numbers: Vec<u32> = generation.numbers().collect();
    destroy_buckets(tx, &numbers).await?;
    condemn(tx, vec![generation.leaf]).await?;
    tx.delete_generation(generation.generation).await
}

/// Removes buckets and condemns the leaves that they are under at this moment. They must be nobody's any more.
pub async fn destroy_buckets(tx: &mut dyn Tx, numbers: &[u32]) -> Result<()> {
    tx.lock_buckets(numbers).await?;
    let wanted: HashSet<u32> = numbers.iter().copied().collect();
    let mut buckets = tx.buckets_and_dirty(numbers).await?;
    buckets.retain(|bucket| wanted.contains(&bucket.bucket));
    condemn(tx, buckets.iter().map(|bucket| bucket.leaf).collect()).await?;
    tx.delete_buckets(numbers).await
}

/// Has the next change of the root take these leaves along.
pub async fn condemn(tx: &mut dyn Tx, mut leaves: Vec<u32>) -> Result<()> {
    leaves.sort_unstable();
    let runs = leaves.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let ranges: Vec<_> = runs.filter_map(|run| Some((*run.first()?, *run.last()?))).collect();
    condemn_ranges(tx, &ranges).await
}

/// The same for ranges of them.
pub(super) async fn condemn_ranges(tx: &mut dyn Tx, ranges: &[(u32, u32)]) -> Result<()> {
    let range = |&(first, last): &(u32, u32)| Punctured { first, last, epoch: CONDEMNED };
    tx.put_punctured(&ranges.iter().map(range).collect::<Vec<_>>()).await
}

async fn all_buckets(tx: &mut dyn Tx, generations: &[Generation]) -> Result<Vec<Bucket>> {
    let numbers: Vec<u32> = generations.iter().flat_map(Generation::numbers).collect();
    tx.buckets_and_dirty(&numbers).await
}
