//! Opening the keys: a new vault, a vault as it was left, one that a crash interrupted, or an old backup.
//!
//! The slot has the last word. What the database lacks of the slot's state is taken from a checkpoint; what it holds
//! beyond that state is forgotten. Nothing is acknowledged as erased unless the tree that the slot opens lacks it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::{Erased, Kept, State, hex};
use super::create::{begin_again, create};
use super::custody::{Custody, Parts};
use super::index;
use super::leaves::gaps;
use super::node::Member;
use super::reindex::condemn_ranges;
use super::ring::{Epoch, FIRST_LEAF, Keyring};
use super::shred::{advance_head, dies};
use super::slot::Content;
use super::tree::{PageId, Tree};
use crate::crash;
use crate::model::{
    Cohort, Erasure, ErasureId, ErasureState, Error, Label, Mark, OutboxEvent, PlanItem, Reason, Reference, Result,
    Subject, SubjectId, SubjectState, Time, Verdict,
};
use crate::store::Tx;
use crate::store::key::{Page, Vault};

/// How many leaves are skipped after a restore: those that were handed out after the checkpoint was taken.
const SKIPPED_LEAVES: u32 = 1 << 22;

/// How long a scheduled erasure waits at least after a restore: it may have been cancelled in the time that was lost.
const RECONSIDER: Duration = Duration::from_hours(24);

/// How often the slot and the key state are looked at together before giving up.
const LOOKS: u32 = 5;

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// A new vault was made.
    pub created: bool,
    /// The epoch that the database had recorded.
    pub epoch_before: u64,
    /// The epoch of the slot.
    pub epoch: u64,
    /// The key state came from a checkpoint, because the database was older than the slot.
    pub from_checkpoint: bool,
    /// Erasures that the checkpoint knew and the database did not.
    pub erasures_reapplied: u64,
    /// Which.
    pub reapplied: Vec<String>,
    /// Erasures that a crash had interrupted after the slot had advanced.
    pub erasures_completed: u64,
    /// Erasures that are yet to be carried out.
    pub erasures_pending: u64,
    /// Buckets of the search index that were rebuilt.
    pub buckets_rebuilt: u64,
    /// What was done about the time that a restore lost.
    pub lost: LostTime,
}

/// What was done about the time between a backup and its restore, of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LostTime {
    /// Leaves that may have been handed out then: nobody gets them, and they die with the next erasure.
    pub leaves_given_up: u64,
    /// Scheduled erasures that wait longer, because they may have been cancelled then.
    pub erasures_put_off: u64,
}

impl Custody {
    /// Opens the keys of the vault in the database, making a new vault when neither slot nor database has one.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable`, explaining what does not fit together and what to do.
    pub async fn open(parts: Parts) -> Result<(Self, Report)> {
        let slot = parts.slot.load().await?;
        let vault = parts.store.read().await?.vault().await?;
        let (custody, report) = match (slot, vault) {
            (None, None) => create(parts).await?,
            (Some(content), None) => return Err(no_vault().with("epoch", content.current.epoch)),
            (None, Some(_)) => begin_again(parts).await?,
            (Some(_), Some(vault)) => take_up(parts, vault).await?,
        };
        custody.settle_signer(&report).await?;
        Ok((custody, report))
    }

    /// Sets up again what a restored database does not know, and finishes what a crash interrupted.
    async fn reconcile(
        &self,
        content: &Content,
        base: &Tree,
        checkpoint: Option<&State>,
        report: &mut Report,
    ) -> Result<()> {
        if let Some(checkpoint) = checkpoint {
            report.from_checkpoint = true;
            (report.reapplied, report.lost) = self.import(content, checkpoint).await?;
            report.erasures_reapplied = report.reapplied.len() as u64;
            crash::point("recover::imported");
        }
        self.raise_next_leaf().await?;
        self.mark_for_the_dead().await?;
        report.erasures_completed = match self.roll_forward(content, base).await {
            Err(error) if error.reason == Reason::KeyCustodianUnavailable => {
                tracing::warn!(%error, "a copy of the slot may still hold an old root; interrupted erasures stay pending");
                0
            }
            completed => completed?,
        };
        report.buckets_rebuilt = self.rebuild_index().await?;
        let mut tx = self.store().read().await?;
        report.erasures_pending = tx.erasures_in(ErasureState::Pending, self.parts.clock.now()).await?.len() as u64;
        Ok(())
    }

    /// Sees to it that no leaf which a row names is handed out again, should the counter ever fall behind.
    async fn raise_next_leaf(&self) -> Result<()> {
        let mut tx = self.store().write().await?;
        if let Some(highest) = tx.highest_leaf().await? {
            tx.raise_next_leaf(highest.saturating_add(1)).await?;
        }
        tx.commit().await
    }

    /// Brings a checkpoint's state into the database. Answers the erasures that were new to it.
    async fn import(&self, content: &Content, checkpoint: &State) -> Result<(Vec<String>, LostTime)> {
        // What is recorded as erased here must be gone from every copy of the slot.
        self.parts.slot.settle().await?;
        let mut tx = self.store().write().await?;
        tx.insert_pages(content.current.epoch, &checkpoint.pages()).await?;
        // What was only condemned may be in use in this database, which does not know of that.
        let epoch = content.current.epoch;
        let gone: Vec<_> = checkpoint.punctured().into_iter().filter(|range| range.epoch <= epoch).collect();
        tx.put_punctured(&gone).await?;
        tx.retire_punctured_keys(epoch).await?;
        advance_head(&mut *tx, (content.current.epoch, &content.current.id)).await?;
        let mut reapplied = Vec::new();
        for erased in checkpoint.erasures() {
            if self.reapply(&mut *tx, content, erased).await? {
                reapplied.push(erased.erasure.clone());
            }
        }
        self.unlist_unreadable(&mut *tx).await?;
        let lost = self.give_up_lost_time(&mut *tx, checkpoint.next_leaf).await?;
        tx.commit().await?;
        Ok((reapplied, lost))
    }

    /// Sets right what a backup of the present epoch cannot know: which leaves were handed out since, and which index
    /// entries were made. With an older backup, opening it does the same. Close the vault afterwards.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when another node serves the vault.
    pub async fn after_restore(&self) -> Result<LostTime> {
        self.with_lease(self.set_right_after_restore()).await
    }

    async fn set_right_after_restore(&self) -> Result<LostTime> {
        // What is about to be given up may be in use by a node that does not know.
        self.await_solitude().await?;
        let mut tx = self.store().write().await?;
        let Some(head) = tx.tree_head().await? else { return Ok(LostTime::default()) };
        let lost = self.give_up_lost_time(&mut *tx, head.next_leaf).await?;
        tx.commit().await?;
        Ok(lost)
    }

    /// Prepares for what happened between the backup and now, of which nothing is known: leaves that were handed out
    /// are not handed out again and die with the next erasure, as copies of that time may hold values of people who
    /// are erased later; scheduled erasures wait a day, as they may have been cancelled.
    async fn give_up_lost_time(&self, tx: &mut dyn Tx, next_leaf: u32) -> Result<LostTime> {
        let floor = next_leaf.saturating_add(SKIPPED_LEAVES);
        tx.raise_next_leaf(floor).await?;
        // Whoever was told of that time must not go on as if it had been.
        let mut name = Mark::default();
        self.ring.random().fill(&mut name);
        tx.rename_history(&name).await?;
        self.give_up_unfinished(tx).await?;
        tx.close_leaves().await?;
        tx.put_spare_leaves(0, 0).await?;
        let last = floor.saturating_sub(1);
        let orphans = gaps(&tx.named_leaves(&[(FIRST_LEAF, last)]).await?, FIRST_LEAF, last);
        let leaves_given_up = orphans.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        condemn_ranges(tx, &orphans).await?;
        let earliest = self.parts.clock.now().plus(RECONSIDER);
        let mut scheduled = tx.erasures_in(ErasureState::Scheduled, earliest).await?;
        for erasure in &mut scheduled {
            erasure.execute_at = Some(earliest);
        }
        tx.update_erasures(&scheduled).await?;
        self.distrust_buckets(tx).await?;
        Ok(LostTime { leaves_given_up, erasures_put_off: scheduled.len() as u64 })
    }

    /// Marks one subject as erased if the database has them otherwise.
    async fn reapply(&self, tx: &mut dyn Tx, content: &Content, erased: &Erased) -> Result<bool> {
        let (id, subject) = (ErasureId::parse(&erased.erasure)?, SubjectId::parse(&erased.subject)?);
        let at = Time::from_micros(erased.erased_at);
        let mut locked = tx.lock_subjects(&[subject]).await?;
        if locked.is_empty() {
            // The backup is older than the person. They are told apart from one who never was all the same.
            let source = Label::stored("restore".to_owned());
            let kind = Label::stored("unknown".to_owned());
            let at = Time::from_micros(erased.requested_at);
            locked.push(Subject::open(subject, kind, None, source, false, at));
            tx.insert_subjects(&locked).await?;
        }
        let Some(row) = locked.first_mut().filter(|row| row.state != SubjectState::Shredded) else {
            return Ok(false);
        };
        let leftover = row.erasure.filter(|leftover| row.state == SubjectState::Scheduled && *leftover != id);
        if row.state != SubjectState::Shredding {
            row.begin_shred(id)?;
        }
        row.erasure = Some(id);
        row.finish_shred(at)?;
        let told = OutboxEvent::erased(row, self.parts.clock.now(), self.ring.random());
        tx.update_subjects(&locked).await?;
        tx.tell(&[told]).await?;
        if let Some(leftover) = leftover {
            // It was called off after the backup was taken, or another erasure overtook it.
            let mut scheduled = tx.lock_erasures(&[leftover]).await?;
            scheduled.iter_mut().try_for_each(Erasure::cancel)?;
            tx.update_erasures(&scheduled).await?;
        }
        let mut known = tx.lock_erasures(&[id]).await?;
        if known.is_empty() {
            let reason = Reference::stored(erased.reason.clone());
            let requested_at = Time::from_micros(erased.requested_at);
            known.push(Erasure::immediate(id, subject, reason, &erased.requested_by, requested_at));
            tx.insert_erasures(&known).await?;
        }
        let kept = self.keep_again(tx, subject, &erased.kept).await?;
        for erasure in &mut known {
            if erasure.state == ErasureState::Scheduled {
                erasure.begin()?;
            }
            if erasure.state == ErasureState::Pending {
                erasure.plan.retain(|item| item.verdict != Verdict::KeepRestricted);
                erasure.plan.extend(kept.iter().cloned());
                self.complete(erasure, (content.current.epoch, &content.current.id), at)?;
            }
        }
        tx.update_erasures(&known).await?;
        tx.delete_values(&[subject]).await?;
        Ok(true)
    }

    /// Has the keys outlast an erasure that outlasted it before the restore, as far as this database has them and they were not
    /// destroyed since. Answers what is kept.
    async fn keep_again(&self, tx: &mut dyn Tx, subject: SubjectId, kept: &[Kept]) -> Result<Vec<PlanItem>> {
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let (tree, mut keys, mut plan) = (self.ring.epoch()?.tree, Vec::new(), Vec::new());
        for key in tx.subject_keys(&[subject]).await? {
            let Some(kept) = kept.iter().find(|kept| kept.leaf == key.leaf && tree.is_live(kept.leaf)) else {
                continue;
            };
            let (cohort, until) = (Cohort::from_number(kept.cohort), Time::from_micros(kept.until));
            keys.push((key.leaf, cohort, until));
            // A value, or the copy of one.
            let count = tx.count_under(subject, &[key.leaf]).await? + tx.count_held(key.leaf).await?;
            plan.push(PlanItem::kept(&key.class, cohort, until, count));
        }
        tx.keep_keys(&keys).await?;
        Ok(plan)
    }

    /// Completes what a run left undone after the slot had advanced: the erasures whose keys are gone from `tree`, which
    /// the slot opens, and the pages that it does not name.
    pub(super) async fn roll_forward(&self, content: &Content, tree: &Tree) -> Result<u64> {
        self.parts.slot.settle().await?;
        let mut tx = self.store().read().await?;
        let mut done = Vec::new();
        for erasure in tx.erasures_in(ErasureState::Pending, self.parts.clock.now()).await? {
            let reached = erasure.epoch.is_some_and(|epoch| epoch <= content.current.epoch);
            let keys = tx.subject_keys(&[erasure.subject]).await?;
            if reached && keys.iter().all(|key| !dies(key) || !tree.is_live(key.leaf)) {
                done.push(erasure);
            }
        }
        drop(tx);
        let subjects: Vec<_> = done.iter().map(|erasure| erasure.subject).collect();
        crash::point("recover::settled");
        self.record_shredded(&done, &subjects, &content.current, None).await?;
        crash::point("recover::completed");
        self.delete_stray_pages(tree, content.current.epoch).await?;
        crash::point("recover::swept");
        Ok(done.len() as u64)
    }

    /// Deletes page versions up to the present epoch that the tree does not refer to: left by a run that was interrupted.
    /// Those of a later epoch belong to a run under way.
    async fn delete_stray_pages(&self, tree: &Tree, epoch: u64) -> Result<()> {
        let wanted: HashSet<PageId> = tree.pages().collect();
        let mut tx = self.store().write().await?;
        let stray: Vec<_> = tx.key_page_ids(epoch).await?.into_iter().filter(|page| !wanted.contains(page)).collect();
        tx.delete_pages(&stray).await?;
        tx.commit().await
    }
}

/// Takes up a vault that slot and database agree on, or that the slot is ahead in.
async fn take_up(parts: Parts, vault: Vault) -> Result<(Custody, Report)> {
    let member = if parts.store.is_shared() { Some(Member::join(&parts).await?) } else { None };
    let epoch_before = parts.store.read().await?.tree_head().await?.map_or(0, |head| head.epoch);
    let (content, tree) = present(&parts).await?;
    if content.tree != vault.tree {
        return Err(refuse("the root slot belongs to another vault than the database")
            .with("slot", hex(&content.tree))
            .with("database", hex(&vault.tree)));
    }
    let (base, checkpoint) = if let Some(tree) = tree {
        (tree, None)
    } else {
        let checkpoint = parts.sinks.rebuild(&content.current).await.ok_or_else(|| lost(&content))?;
        (load(&content, &checkpoint.pages())?, Some(checkpoint))
    };
    let epoch = Epoch { tree: base.clone(), number: content.current.epoch };
    let ring = Keyring::new(epoch, Arc::clone(&parts.random))?;
    let generations = index::written(&mut *parts.store.read().await?).await?;
    let custody = Custody::new(parts, ring, generations, base.clone(), member);
    let mut report = Report { epoch_before, epoch: content.current.epoch, ..Report::default() };
    // An old copy of the database may name a leader of its own time, who gives no sign of life any more.
    if custody.stand_for_lead(checkpoint.is_some()).await? {
        let reconciled = async {
            if checkpoint.is_some() {
                // What is about to be given up may be in use by a node that does not know.
                custody.await_solitude().await?;
            }
            custody.reconcile(&content, &base, checkpoint.as_ref(), &mut report).await
        };
        custody.with_lease(reconciled).await?;
    } else if checkpoint.is_some() {
        return Err(refuse("the database lacks the key state of the slot's root while another node leads; try again"));
    }
    match &custody.member {
        Some(member) => custody.catch_up(member).await?,
        None => custody.begin_to_write().await?,
    }
    Ok((custody, report))
}

/// What the slot holds, and the tree that it opens if the database has that. Other nodes may be at work meanwhile.
pub(super) async fn present(parts: &Parts) -> Result<(Content, Option<Tree>)> {
    let empty = || refuse("the root slot is empty");
    let mut content = load_slot(parts).await?.ok_or_else(empty)?;
    for _ in 0..LOOKS {
        let pages = parts.store.read().await?.key_pages().await?;
        if let Ok(tree) = load(&content, &pages) {
            return Ok((content, Some(tree)));
        }
        let again = load_slot(parts).await?.ok_or_else(empty)?;
        if again.current.id == content.current.id {
            return Ok((again, None));
        }
        content = again;
    }
    Err(refuse("the root slot moves faster than the key state can be read; try again"))
}

/// The slot's content, compared with what the database and the sinks know: one that is behind them is an old copy,
/// which would bring back what was erased. A root is prepared in the slot before its checkpoint is written, so no
/// sink is ahead of both roots of the present slot.
async fn load_slot(parts: &Parts) -> Result<Option<Content>> {
    // Before the slot, which is never behind either.
    let head = parts.store.read().await?.tree_head().await?;
    let newest = parts.sinks.newest().await?;
    let Some(mut content) = parts.slot.load().await? else { return Ok(None) };
    if let Some(head) = head.filter(|head| head.epoch > content.current.epoch) {
        if content.next.as_ref().is_none_or(|next| next.id != head.root_id) {
            return Err(old_slot(&content, head.epoch));
        }
        // Every copy missed the advance, or the one that did not is gone.
        parts.slot.advance(&content.current.id, &head.root_id).await?;
        content = parts.slot.load().await?.ok_or_else(|| refuse("the root slot is empty"))?;
    }
    if let Some((epoch, sink)) = newest.filter(|(epoch, _)| *epoch > content.latest_epoch()) {
        return Err(refuse(
            "a checkpoint sink knows a later epoch than the root slot: the slot is an old copy, under which erased \
             people could be read again. Bring back the present slot, and destroy the old copy",
        )
        .with("sink", sink)
        .with("sink_epoch", epoch)
        .with("slot_epoch", content.current.epoch));
    }
    Ok(Some(content))
}

/// The refusal of a database that is empty where the slot is not.
#[must_use]
pub fn no_vault() -> Error {
    refuse(
        "the root slot belongs to a vault, but the database is empty: restore a backup of the database with \
         `lacuna restore`, or point to the right database",
    )
}

/// The refusal of a slot that is behind the database.
pub(super) fn old_slot(content: &Content, epoch: u64) -> Error {
    refuse(
        "the root slot is older than the database: this is an old copy of it, under which erased people could be \
         read again. Bring back the present slot or a mirror of it, and destroy the old copy",
    )
    .with("slot_epoch", content.current.epoch)
    .with("database_epoch", epoch)
}

pub(super) fn load(content: &Content, pages: &[Page]) -> Result<Tree> {
    let by_id: HashMap<PageId, &[u8]> = pages.iter().map(|page| (page.id, page.blob.as_slice())).collect();
    Tree::load(content.tree, &content.current.key, |id| by_id.get(&id).copied())
        .map_err(|error| refuse("the key state does not open under the slot's root").because(error))
}

/// The refusal of a database that lacks the key state of the slot's root.
pub(super) fn behind(content: &Content) -> Error {
    refuse(
        "the database lacks the key state of the root slot: it is an older copy, or a standby that lagged behind has \
         taken over. Stop every node, then start one: it takes up the newest checkpoint",
    )
    .with("root_id", hex(&content.current.id))
    .with("epoch", content.current.epoch)
}

pub(super) fn lost(content: &Content) -> Error {
    refuse(
        "neither the database nor a checkpoint sink holds the key state of the slot's root: bring back the newest \
         checkpoint, or the database as it was after the last erasure",
    )
    .with("root_id", hex(&content.current.id))
    .with("epoch", content.current.epoch)
}

fn refuse(message: &'static str) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, message)
}
