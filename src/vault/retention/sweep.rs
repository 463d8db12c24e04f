//! Destroying what was kept long enough. Values go out of the rows and out of the search index, and their leaves out of the
//! tree with the next change of the root, which serves all of them and is made at once: then no backup opens them either.
//! A run is done, and has a receipt, when that has happened; whatever interrupts it, upkeep goes on with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{asked, over, with_period};
use crate::crash;
use crate::keys::{condemn, index};
use crate::model::{
    Cohort, OutboxEvent, Result, RetentionRun, RetentionRunId, RunState, Subject, SubjectId, SubjectState, Time, Token,
    TokenRow,
};
use crate::policy::Catalogue;
use crate::store::Tx;
use crate::store::index::Generation;
use crate::store::key::SubjectKey;
use crate::store::retention::Due;
use crate::vault::profiling::{want_root, why};
use crate::vault::{PATIENCE, Vault, renew_root};

/// Keys that are ended in one transaction.
const PAGE: u32 = 128;

/// How often the root is changed for leaves that a run under way may not have known of.
const ATTEMPTS: usize = 3;

/// By which run a key has ended that a restored database had, and that was destroyed before.
const FOUND: RetentionRunId = RetentionRunId::from_bytes([0; 16]);

/// What one transaction ends.
struct Ending {
    keys: Vec<SubjectKey>,
    tokens: Vec<Token>,
}

impl Vault {
    /// Takes everything that was kept long enough out of the rows, and condemns what it is under. Without trust in the clock
    /// only what is under keys that are gone already. Answers whether nothing is left, after so many pages at most.
    pub(super) async fn sweep(&self, run: &mut RetentionRun, trusted: bool, pages: u32) -> Result<bool> {
        // What was decided after a backup was made may be that something is kept longer, or that somebody is restricted.
        let mut progress = self.journal.lock().await;
        self.learn_from_journal(&mut progress).await?;
        drop(progress);
        let (catalogue, now) = (self.library.refreshed().await?, self.clock.now());
        self.date_keys(&catalogue, now).await?;
        let over = over(&catalogue, now);
        let mut after = None;
        for _ in 0..pages {
            let due = self.custody.store().read().await?.due_keys(&over, after, PAGE).await?;
            let Some(last) = due.last() else { return Ok(true) };
            after = Some(last.leaf);
            let due = if trusted { due } else { self.gone(due)? };
            if !due.is_empty() {
                self.end_page(run, &due, trusted).await?;
            }
        }
        Ok(false)
    }

    fn gone(&self, mut due: Vec<Due>) -> Result<Vec<Due>> {
        let mut gone = Vec::with_capacity(due.len());
        for due in due.drain(..) {
            if !self.custody.ring.is_live(due.leaf)? {
                gone.push(due);
            }
        }
        Ok(gone)
    }

    /// Gives keys a month that were made before their class had a period: that of the newest value under each, once no value
    /// can come to it any more.
    async fn date_keys(&self, catalogue: &Catalogue, now: Time) -> Result<()> {
        let (classes, month, mut after) = (with_period(catalogue), Cohort::of(now), None);
        loop {
            let page = self.custody.store().read().await?.undated_keys(&classes, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            let before = after.replace(last.leaf);
            let past: BTreeSet<u32> =
                page.iter().filter(|key| Cohort::of(key.newest_at) < month).map(|key| key.leaf).collect();
            if past.is_empty() {
                continue;
            }
            let mut tx = self.custody.store().write().await?;
            let subjects: BTreeSet<SubjectId> = page.iter().map(|key| key.subject).collect();
            tx.lock_subjects(&subjects.into_iter().collect::<Vec<_>>()).await?;
            // Now that nobody can add to them.
            let page = tx.undated_keys(&classes, before, PAGE).await?;
            let dated = page.iter().map(|key| (key.leaf, Cohort::of(key.newest_at)));
            let dated: Vec<_> = dated.filter(|(leaf, cohort)| *cohort < month && past.contains(leaf)).collect();
            tx.date_keys(&dated).await?;
            tx.commit().await?;
        }
    }

    async fn end_page(&self, run: &mut RetentionRun, due: &[Due], trusted: bool) -> Result<()> {
        let subjects: BTreeSet<SubjectId> = due.iter().map(|due| due.subject).collect();
        let subjects: Vec<SubjectId> = subjects.into_iter().collect();
        self.record_ending(&run.started_by, subjects.iter().copied().map(asked).collect()).await?;
        let (custody, now) = (&*self.custody, self.clock.now());
        let mut tx = custody.store().write().await?;
        let people = tx.lock_subjects(&subjects).await?;
        let free: Vec<SubjectId> = people.iter().filter(|person| may_end(person)).map(|person| person.id).collect();
        let ending = ending(&mut *tx, &free, due).await?;
        let (mut live, mut gone) = (Vec::new(), Vec::new());
        for key in &ending.keys {
            if custody.ring.is_live(key.leaf)? { live.push(key.leaf) } else { gone.push(key.leaf) }
        }
        if !trusted && !live.is_empty() {
            // The tree in use has changed since.
            return Ok(());
        }
        self.unlist(&mut *tx, &ending.tokens).await?;
        let rows: Vec<TokenRow> = ending.tokens.iter().map(|token| token.row).collect();
        tx.end_tokens(&rows, now).await?;
        tx.end_keys(&live, run.id).await?;
        tx.end_keys(&gone, FOUND).await?;
        let told = ending.tokens.iter().map(|token| Token { ended_at: Some(now), ..token.clone() });
        let told: Vec<_> = told.map(|token| OutboxEvent::of_token(&token, now, custody.ring.random())).collect();
        tx.tell(&told).await?;
        if live.is_empty() {
            return tx.commit().await;
        }
        let before = run.items.clone();
        count(run, &ending, &live);
        condemn(&mut *tx, live).await?;
        tx.put_run(run).await?;
        want_root(&mut *tx).await?;
        crash::point("retention::before-commit");
        if let Err(error) = tx.commit().await {
            run.items = before;
            return Err(error);
        }
        metrics::counter!("lacuna_retention_ended_total").increment(ending.tokens.len() as u64);
        crash::point("retention::ended");
        Ok(())
    }

    /// Takes tokens out of the search index. Old copies of the buckets die with the leaves.
    async fn unlist(&self, tx: &mut dyn Tx, tokens: &[Token]) -> Result<()> {
        let custody = &*self.custody;
        let touched = |generations: &[Generation]| {
            let mut buckets = BTreeSet::new();
            for token in tokens {
                buckets.extend(custody.buckets_of_token(token, generations)?);
            }
            Ok(buckets)
        };
        let generations = index::lock(tx, &custody.generations(), touched).await?;
        custody.see_generations(&generations);
        let buckets: Vec<u32> = touched(&generations)?.into_iter().collect();
        let rows: Vec<TokenRow> = tokens.iter().map(|token| token.row).collect();
        index::remove(&custody.ring, tx, &buckets, &rows).await
    }

    /// Changes the root until it leads to nothing any more that a run has ended, and writes its receipt. Answers what that waits
    /// for, if it does: upkeep goes on with it.
    pub(super) async fn finish_run(&self, run: RetentionRun) -> Result<(RetentionRun, Option<String>)> {
        if run.state == RunState::Done {
            return Ok((run, None));
        }
        let destroyed = tokio::time::timeout(PATIENCE, self.destroy_run(&run)).await;
        let waiting = match destroyed {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) | Err(_) => Some("it takes longer than usual and goes on".to_owned()),
            Ok(Err(error)) => {
                tracing::warn!(%error, run = %run.id, "what was kept long enough waits for a change of the root");
                Some(why(&error))
            }
        };
        if waiting.is_some() {
            return Ok((run, waiting));
        }
        crash::point("retention::destroyed");
        let mut tx = self.custody.store().write().await?;
        let Some(mut run) = tx.lock_run(run.id).await? else { return Ok((run, None)) };
        if run.state == RunState::Pending {
            let (now, head) = (self.clock.now(), tx.tree_head().await?);
            if tx.run_waits(run.id, head.as_ref().map_or(0, |head| head.epoch)).await? {
                // It has destroyed more since.
                return Ok((run, Some("it goes on".to_owned())));
            }
            (run.state, run.ended_at) = (RunState::Done, Some(now));
            if let Some(head) = head.filter(|_| !run.items.is_empty()) {
                run.epoch = Some(head.epoch);
                run.receipt = Some(self.custody.sign_run(&run, (head.epoch, &head.root_id), now)?);
            }
            tx.put_run(&run).await?;
            tx.commit().await?;
        }
        Ok((run, None))
    }

    async fn destroy_run(&self, run: &RetentionRun) -> Result<bool> {
        for attempt in 0..=ATTEMPTS {
            let mut tx = self.custody.store().read().await?;
            let epoch = tx.tree_head().await?.map_or(0, |head| head.epoch);
            let waits = tx.run_waits(run.id, epoch).await?;
            // A change of the root that was under way may have known of the leaves, and not yet of the buckets.
            let listed = !run.items.is_empty() && !tx.buckets_and_dirty(&[]).await?.is_empty();
            drop(tx);
            if !waits && (!listed || attempt > 0) {
                return Ok(true);
            }
            if attempt < ATTEMPTS {
                renew_root(&self.shreds).await?;
            }
        }
        Ok(false)
    }
}

/// Whether what is kept of a person may end. What is restricted stays as it is (Art. 18 GDPR).
fn may_end(person: &Subject) -> bool {
    matches!(person.state, SubjectState::Active | SubjectState::Scheduled) && person.restriction.is_none()
}

/// What is due, now that its people are locked.
async fn ending(tx: &mut dyn Tx, free: &[SubjectId], due: &[Due]) -> Result<Ending> {
    let due: HashSet<u32> = due.iter().map(|due| due.leaf).collect();
    let mut keys = tx.subject_keys(free).await?;
    keys.retain(|key| due.contains(&key.leaf) && !key.ended);
    let leaves: HashSet<u32> = keys.iter().map(|key| key.leaf).collect();
    let mut tokens = tx.sealed_tokens(free).await?;
    tokens.retain(|token| leaves.contains(&token.leaf));
    Ok(Ending { keys, tokens })
}

/// Adds to the run what its keys and values are, by class and month.
fn count(run: &mut RetentionRun, ending: &Ending, live: &[u32]) {
    let live: HashSet<u32> = live.iter().copied().collect();
    let mut values: BTreeMap<u32, u64> = BTreeMap::new();
    for token in &ending.tokens {
        *values.entry(token.leaf).or_default() += 1;
    }
    for key in ending.keys.iter().filter(|key| live.contains(&key.leaf)) {
        if let Some(cohort) = key.cohort {
            run.add(&key.class, cohort, 1, values.get(&key.leaf).copied().unwrap_or_default());
        }
    }
}
