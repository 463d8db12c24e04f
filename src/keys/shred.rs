//! Erasure, in the order that keeps two promises: nobody's key is ever lost who was not erased, and nothing is
//! acknowledged that a copy of any age could still open.
//!
//! One run serves many erasures. Before it, each subject is SHREDDING in the database and refuses reveals.
//!
//! 1. Read the slot; make up the next tree, without the subjects' leaves, without the old leaves of the index buckets
//!    they are in, and without the [leaves](super::leaves) that were handed out and that nothing is known to be under.
//! 2. Prepare the next root in the slot, in every mirror. A crash leaves harmless garbage.
//! 3. Write the next key state to every sink.
//! 4. Commit to the database: new pages beside the old, the index buckets under fresh leaves, which epoch is meant.
//! 5. Put the next tree into use, and wait until every reveal that may still hold an old key has landed.
//! 6. Advance the slot. **This is the moment of erasure.**
//! 7. Commit to the database: subjects SHREDDED, receipts, ciphertexts and old pages deleted. Only now answer.
//! 8. Let sinks drop checkpoints that nothing needs.
//!
//! Whatever interrupts a run, the next one begins again at 1 and goes forward, never back: the leaves that an
//! interrupted run meant to puncture stand in the database under an epoch that has not come yet.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::checkpoint::hex;
use super::custody::Custody;
use super::index::{self, Spot};
use super::recover;
use super::ring::Epoch;
use super::save::Change;
use super::slot::{Content, Root};
use super::tree::{PageId, Puncture, Tree};
use crate::crash;
use crate::model::{
    Erasure, ErasureId, ErasureState, Error, KeyEventKind, OutboxEvent, Reason, Result, SubjectId, SubjectState, Time,
    Token, TokenRow, Value,
};
use crate::policy::{self, Upkeep};
use crate::store::Tx;
use crate::store::index::{Bucket, Generation};
use crate::store::key::{Punctured, SubjectKey};

/// Pages that nothing needs once the slot has advanced.
pub(super) struct OldPages<'a> {
    /// Those that the next tree no longer names.
    removed: &'a [PageId],
    /// The epoch of the tree before. What was written between that and the present one was of attempts that failed.
    after: u64,
}

/// How often a run begins again at once because another was faster.
const TRIES: u32 = 5;

/// How long an erasure waits for a run under way before it looks whether it is done already.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// All that one run is about.
struct Run {
    /// The newest epoch that was announced when it was put together.
    fence: u64,
    /// The generations of the index then.
    generations: Vec<Generation>,
    erasures: Vec<Erasure>,
    subjects: Vec<SubjectId>,
    dead: HashSet<TokenRow>,
    /// Buckets to be written anew, each with its fresh leaf.
    fresh: Vec<(Bucket, u32)>,
    /// Leaves to be punctured.
    ranges: BTreeSet<(u32, u32)>,
}

impl Custody {
    /// Carries out the erasures that are PENDING among `ids`, and answers each as it is then: SHREDDED, or PENDING with
    /// what it waits for. One that is in another state is answered as it is.
    ///
    /// # Errors
    /// Only when the database cannot be read at all; the erasures then stay PENDING.
    pub async fn shred(&self, ids: &[ErasureId]) -> Result<Vec<Erasure>> {
        let outcome = match self.await_leader(|| self.are_done(ids)).await {
            Ok(true) => self.attempt(ids, false).await,
            outcome => outcome.map(|_| ()),
        };
        if let Err(error) = outcome {
            tracing::warn!(reason = ?error.reason, error = %error, erasures = ids.len(), "erasures wait");
            self.note_waiting(ids, &error).await?;
        }
        self.store().read().await?.erasures(ids).await
    }

    /// Puts a fresh root in the place of the present one, even with nobody to erase. Leaves that are condemned, and
    /// erasures that wait, go with the old root. Answers the epoch then.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` or `StoreUnavailable`; nothing has changed then, or the next run completes it.
    pub async fn renew(&self) -> Result<u64> {
        let before = self.recorded_epoch().await?;
        if !self.leads() {
            let mut tx = self.store().write().await?;
            tx.want_epoch(before + 1).await?;
            tx.commit().await?;
        }
        let is_past = || async { Ok(self.recorded_epoch().await? > before) };
        if self.await_leader(is_past).await? {
            self.attempt(&[], true).await?;
        }
        self.recorded_epoch().await
    }

    async fn recorded_epoch(&self) -> Result<u64> {
        let missing = || Error::internal("the database holds no vault any more");
        Ok(self.store().read().await?.tree_head().await?.ok_or_else(missing)?.epoch)
    }

    async fn are_done(&self, ids: &[ErasureId]) -> Result<bool> {
        let erasures = self.store().read().await?.erasures(ids).await?;
        Ok(erasures.iter().all(|erasure| erasure.state != ErasureState::Pending))
    }

    /// Does what other nodes wait for, unless a run is under way, which takes them along or is followed by another.
    pub(super) async fn attempt_if_idle(&self) -> Result<()> {
        self.arrivals.fence().await;
        let Ok(mut base) = self.base.try_lock() else { return Ok(()) };
        let pulse = self.store().read().await?.pulse().await?.unwrap_or_default();
        let pending = self.store().read().await?.erasures_in(ErasureState::Pending, self.parts.clock.now()).await?;
        let ids: Vec<ErasureId> = pending.iter().map(|erasure| erasure.id).collect();
        let outcome = self.attempt_from(&mut base, &ids, pulse.wanted > pulse.epoch).await;
        drop(base);
        if let Err(error) = &outcome {
            self.note_waiting(&ids, error).await?;
        }
        outcome
    }

    async fn attempt(&self, ids: &[ErasureId], renew: bool) -> Result<()> {
        let mut base = loop {
            tokio::select! {
                base = self.base.lock() => break base,
                // Another node may have done it while a run of this one hangs.
                () = tokio::time::sleep(IMPATIENCE) => if !renew && self.are_done(ids).await? { return Ok(()) },
            }
        };
        self.attempt_from(&mut base, ids, renew).await
    }

    /// Runs until it comes through. `held` is the tree that the slot opens, if it is known; afterwards, the one that it
    /// opens then.
    async fn attempt_from(&self, held: &mut Option<Tree>, ids: &[ErasureId], renew: bool) -> Result<()> {
        for _ in 0..TRIES {
            if self.run_once(held, ids, renew).await? {
                return Ok(());
            }
        }
        Err(Error::new(Reason::KeyCustodianUnavailable, "another node, or a rotation, was faster; it is tried again"))
    }

    /// One run; `false` when what it had gathered was not so any more.
    async fn run_once(&self, held: &mut Option<Tree>, ids: &[ErasureId], renew: bool) -> Result<bool> {
        let (content, base) = self.custodian(held.take()).await?;
        let run = self.gather(ids, renew, &content).await?;
        if run.erasures.is_empty() && !renew {
            *held = Some(base);
            return Ok(true);
        }
        let ranges: Vec<_> = run.ranges.iter().map(|&(first, last)| first..=last).collect();
        let puncture = base.puncture(&ranges, self.ring.random());
        let next = Root::of(&puncture, content.next_epoch());
        crash::point("shred::start");
        self.parts.slot.prepare(&content.current.id, &next).await?;
        crash::point("shred::prepared");
        let (dying, erasures) = (punctured(&run, next.epoch), &run.erasures);
        let from = Some(&content.current);
        self.save(&Change { puncture: &puncture, base: from, root: &next, punctured: &dying, erasures }).await?;
        crash::point("shred::checkpointed");
        if !self.write_next(&content, &run, &puncture, &next).await? {
            *held = Some(base);
            return Ok(false);
        }
        crash::point("shred::written");
        self.fence(&puncture, &next).await?;
        crash::point("shred::fenced");
        if self.member.is_some() && self.store().read().await?.has_dead_writers().await? {
            // A node has ended while it was waited for, perhaps in the midst of its work.
            *held = Some(base);
            return Ok(false);
        }
        self.parts.lease.check()?;
        self.parts.slot.advance(&content.current.id, &next.id).await?;
        crash::point("shred::advanced");
        let old = OldPages { removed: &puncture.removed, after: content.current.epoch };
        self.record_shredded(&run.erasures, &run.subjects, &next, Some(old)).await?;
        *held = Some(puncture.tree);
        crash::point("shred::settled");
        self.drop_old_checkpoints(&next.id).await;
        Ok(true)
    }

    /// Step 5.
    async fn fence(&self, puncture: &Puncture, next: &Root) -> Result<()> {
        let here = self.advance_to(Epoch { tree: puncture.tree.clone(), number: next.epoch });
        let ((), elsewhere) = tokio::join!(here, self.await_nodes(next.epoch));
        elsewhere
    }

    /// Step 1, first half: what the slot holds and the tree that it opens. What a run before this one left undone after
    /// the slot had advanced is completed.
    async fn custodian(&self, known: Option<Tree>) -> Result<(Content, Tree)> {
        let missing = |what| move || Error::new(Reason::KeyCustodianUnavailable, what);
        self.parts.lease.check()?;
        let mut tx = self.store().read().await?;
        // Before the slot, which is never behind it.
        let head = tx.tree_head().await?.ok_or_else(missing("the database holds no vault any more"))?;
        let content = self.parts.slot.load().await?.ok_or_else(missing("the root slot is empty"))?;
        if head.epoch > content.current.epoch {
            return Err(recover::old_slot(&content, head.epoch));
        }
        // What the database itself lacks, a tree in memory must not hide.
        let recorded = head.root_id == content.current.id;
        let tree = match known.filter(|tree| recorded && tree.root_id() == content.current.id) {
            Some(tree) => tree,
            None => recover::load(&content, &tx.key_pages().await?).map_err(|_| recover::behind(&content))?,
        };
        drop(tx);
        if head.root_id != content.current.id {
            self.roll_forward(&content, &tree).await?;
        }
        Ok((content, tree))
    }

    /// Step 1, second half: what dies, and which index buckets with it.
    async fn gather(&self, ids: &[ErasureId], renew: bool, content: &Content) -> Result<Run> {
        self.mark_doubtful().await?;
        if self.member.is_some() {
            self.mark_for_the_dead().await?;
        }
        let mut tx = self.store().read().await?;
        // First of all: what is announced from here on makes this run begin again.
        let fence = tx.tree_head().await?.map_or(0, |head| head.fence);
        let mut erasures = tx.erasures(ids).await?;
        erasures.retain(|erasure| erasure.state == ErasureState::Pending);
        if renew || !erasures.is_empty() {
            // Whoever waits from an earlier run comes along: their leaves die now, so the checkpoint must name them.
            erasures = tx.erasures_in(ErasureState::Pending, self.parts.clock.now()).await?;
        }
        let subjects: Vec<_> = erasures.iter().map(|erasure| erasure.subject).collect();
        let tokens = tx.sealed_tokens(&subjects).await?;
        let mut ranges: BTreeSet<(u32, u32)> =
            tx.subject_keys(&subjects).await?.iter().filter(|key| dies(key)).map(|key| (key.leaf, key.leaf)).collect();
        let generations = tx.generations().await?;
        let buckets = tx.buckets_and_dirty(&self.buckets_of(&tokens, &generations)?).await?;
        ranges.extend(buckets.iter().map(|bucket| (bucket.leaf, bucket.leaf)));
        drop(tx);
        // After the erasures: what was sealed for these people and never came to be is among what is closed.
        let first = self.close_leaves(u32::try_from(buckets.len()).map_err(Error::internal)?).await?;
        let fresh = buckets.into_iter().zip(first..).collect();
        // After the buckets: one that a rotation has taken away since is condemned, and comes along here.
        for range in self.store().read().await?.punctured_after(content.current.epoch).await? {
            ranges.insert((range.first, range.last));
        }
        Ok(Run {
            fence,
            generations,
            erasures,
            subjects,
            dead: tokens.iter().map(|token| token.row).collect(),
            fresh,
            ranges,
        })
    }

    /// The buckets that the tokens are in, in every generation of the index.
    fn buckets_of(&self, tokens: &[Token], generations: &[Generation]) -> Result<Vec<u32>> {
        let mut buckets = BTreeSet::new();
        for token in tokens {
            buckets.extend(self.buckets_of_token(token, generations)?);
        }
        Ok(buckets.into_iter().collect())
    }

    /// Where a token may be in the search index. One whose key is gone is in none: the run that punctured the key took it
    /// out, or, with a key that was rotated away after the backup, the restore did. One that does not open though its key
    /// is there was damaged, and could be in any bucket.
    pub fn buckets_of_token(&self, token: &Token, generations: &[Generation]) -> Result<BTreeSet<u32>> {
        if !self.ring.epoch()?.tree.is_live(token.leaf) {
            return Ok(BTreeSet::new());
        }
        match self.spots_of(token, generations) {
            Ok(spots) => Ok(spots.into_iter().map(|spot| spot.bucket).collect()),
            Err(error) if error.reason == Reason::SealBroken => {
                Ok(generations.iter().flat_map(Generation::numbers).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// Where the value of a token is in the search index; nowhere when it is not searchable.
    pub fn spots_of(&self, token: &Token, generations: &[Generation]) -> Result<Vec<Spot>> {
        let value = self.ring.open(&policy::for_upkeep(token.row, Upkeep::Index), token)?;
        self.spots_near(&value, generations)
    }

    /// Where a value is in the search index; nowhere when it is not searchable, nor in a generation that a rotation has
    /// destroyed.
    pub fn spots_near(&self, value: &Value, generations: &[Generation]) -> Result<Vec<Spot>> {
        let Some(normal) = value.normal() else { return Ok(Vec::new()) };
        let spot = |generation| index::spot(&self.ring, generation, value.kind(), normal);
        Ok(generations.iter().map(spot).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Where a value belongs in the generations that are written; nowhere when it is not searchable.
    pub fn spots_for(&self, value: &Value, written: &[Generation]) -> Result<Vec<Spot>> {
        let spots = self.spots_near(value, written)?;
        if value.normal().is_some() && spots.len() < written.len() {
            return Err(index::unreadable());
        }
        Ok(spots)
    }

    /// Step 4.
    async fn write_next(&self, content: &Content, run: &Run, puncture: &Puncture, next: &Root) -> Result<bool> {
        let mut tx = self.store().write().await?;
        let fresh: Vec<u32> = run.fresh.iter().map(|(_, leaf)| *leaf).collect();
        // Another run may have closed them.
        if tx.hold_leaves(&fresh).await?.len() < fresh.len() {
            return Ok(false);
        }
        if !tx.announce(&content.current.id, run.fence, next.epoch).await? || tx.generations().await? != run.generations
        {
            return Ok(false);
        }
        tx.insert_pages(next.epoch, &puncture.written).await?;
        index::rekey(&self.ring, &mut *tx, &run.fresh, &run.dead).await?;
        // After the buckets are locked, as whoever destroys a generation does it.
        tx.put_punctured(&punctured(run, next.epoch)).await?;
        let ids: Vec<_> = run.erasures.iter().map(|erasure| erasure.id).collect();
        let mut erasures = tx.lock_erasures(&ids).await?;
        erasures.retain(|erasure| erasure.state == ErasureState::Pending);
        for erasure in &mut erasures {
            erasure.epoch = Some(next.epoch);
        }
        tx.update_erasures(&erasures).await?;
        crash::point("shred::before-announcement");
        tx.commit().await?;
        Ok(true)
    }

    /// Records that the slot stands at `root` and that the erasures are complete; deletes what is of no more use.
    pub(super) async fn record_shredded(
        &self,
        erasures: &[Erasure],
        subjects: &[SubjectId],
        root: &Root,
        old: Option<OldPages<'_>>,
    ) -> Result<()> {
        let root = (root.epoch, &root.id);
        let now = self.parts.clock.now();
        let ids: Vec<_> = erasures.iter().map(|erasure| erasure.id).collect();
        let mut tx = self.store().write().await?;
        if advance_head(&mut *tx, root).await? {
            let detail = format!("epoch {}, root {}, {} erasures", root.0, hex(root.1), ids.len());
            tx.insert_key_events(&[self.parts.event(KeyEventKind::EpochAdvanced, detail)]).await?;
        }
        let mut locked = tx.lock_subjects(subjects).await?;
        let mut told = Vec::new();
        for subject in locked.iter_mut().filter(|subject| subject.state != SubjectState::Shredded) {
            subject.finish_shred(now)?;
            told.push(OutboxEvent::erased(subject, now, self.ring.random()));
        }
        tx.update_subjects(&locked).await?;
        tx.tell(&told).await?;
        let mut done = tx.lock_erasures(&ids).await?;
        done.retain(|erasure| erasure.state == ErasureState::Pending);
        for erasure in &mut done {
            self.complete(erasure, root, now)?;
        }
        tx.update_erasures(&done).await?;
        tx.delete_values(subjects).await?;
        if let Some(old) = old {
            tx.delete_pages(old.removed).await?;
            tx.delete_pages_between(old.after, root.0).await?;
            crash::point("shred::before-settlement");
        }
        tx.commit().await
    }

    pub(super) fn complete(&self, erasure: &mut Erasure, root: (u64, &[u8; 16]), at: Time) -> Result<()> {
        let slot = (self.parts.slot.kind(), self.parts.slot.assurance());
        erasure.finish(at)?;
        erasure.epoch = Some(root.0);
        erasure.receipt = Some(self.parts.signer.sign(erasure, root, slot, at)?);
        Ok(())
    }

    async fn note_waiting(&self, ids: &[ErasureId], error: &Error) -> Result<()> {
        let why = match error.reason {
            Reason::KeyCustodianUnavailable | Reason::StoreUnavailable => error.message.clone().into_owned(),
            _ => "a fault of the vault; the operator's log has the details".to_owned(),
        };
        let mut tx = self.store().write().await?;
        let mut erasures = tx.lock_erasures(ids).await?;
        erasures.retain(|erasure| erasure.state == ErasureState::Pending);
        for erasure in &mut erasures {
            erasure.hold_up(why.clone())?;
        }
        tx.update_erasures(&erasures).await?;
        tx.commit().await
    }
}

/// Whether an erasure takes a key of its subject along.
pub(super) const fn dies(key: &SubjectKey) -> bool {
    key.kept_until.is_none()
}

/// Moves the database's tree head to where the slot is. Answers whether it was elsewhere.
pub(super) async fn advance_head(tx: &mut dyn Tx, root: (u64, &[u8; 16])) -> Result<bool> {
    let missing = || Error::internal("the database has no key tree");
    let head = tx.tree_head().await?.ok_or_else(missing)?;
    if head.root_id == *root.1 {
        return Ok(false);
    }
    if head.epoch >= root.0 || !tx.advance_tree(&head.root_id, root.1, root.0).await? {
        return Err(Error::internal("the database's key tree is ahead of the slot"));
    }
    Ok(true)
}

fn punctured(run: &Run, epoch: u64) -> Vec<Punctured> {
    run.ranges.iter().map(|&(first, last)| Punctured { first, last, epoch }).collect()
}
