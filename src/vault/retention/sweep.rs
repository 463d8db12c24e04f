//! Destroying what was kept long enough. Values go out of the rows and out of the search index, and their leaves out of the
//! tree with the next change of the root, which serves all of them and is made at once: then no backup opens them either.
//! A run is done, and has a receipt, when that has happened; whatever interrupts it, upkeep goes on with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::clock::Moment;
use super::{asked, over};
use crate::crash;
use crate::keys::{condemn, index};
use crate::model::{
    Cohort, Error, OutboxEvent, Result, RetentionRun, RetentionRunId, RunState, Subject, SubjectId, SubjectState, Time,
    Token, TokenRow,
};
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
pub(in crate::vault) const FOUND: RetentionRunId = RetentionRunId::from_bytes([0; 16]);

/// Where a sweep is: first what outlasted the erasure of its person, then class by class.
#[derive(Default)]
pub(super) struct Place {
    class: Option<String>,
    /// The key that was looked at last.
    after: Option<(Cohort, u32)>,
    /// Of the class after that, the last person whose keys were given a month.
    dated: Option<SubjectId>,
}

/// What came of a sweep.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether it has come to its end.
    pub all: bool,
    /// How many keys that are due it has left there.
    pub kept: u64,
}

/// What one transaction ends.
struct Ending {
    keys: Vec<SubjectKey>,
    tokens: Vec<Token>,
}

impl Vault {
    /// Takes everything that was kept long enough out of the rows, and condemns what it is under. Without trust in the clock
    /// only what is under keys that are gone already. Goes on from `place`, for so many pages at most.
    pub(super) async fn sweep(
        &self,
        run: &mut RetentionRun,
        moment: Moment,
        pages: u32,
        place: &mut Place,
    ) -> Result<Outcome> {
        // What was decided after a backup was made may be that something is kept longer, or that somebody is restricted.
        let mut progress = self.journal.lock().await;
        self.learn_from_journal(&mut progress).await?;
        drop(progress);
        let outcome = self.sweep_pages(run, moment, pages, place).await;
        if !run.items.is_empty() {
            // Once for all pages, also of a sweep that goes on later.
            let mut tx = self.custody.store().write().await?;
            want_root(&mut *tx).await?;
            tx.commit().await?;
        }
        outcome
    }

    async fn sweep_pages(
        &self,
        run: &mut RetentionRun,
        moment: Moment,
        mut pages: u32,
        place: &mut Place,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let classes = self.library.refreshed().await?.ending_classes().into_iter().map(Some);
        for class in std::iter::once(None).chain(classes) {
            if class < place.class {
                continue;
            }
            if let Some(code) = class.as_ref().filter(|_| class != place.class) {
                if !self.date_keys(code, moment.now, &mut pages, &mut place.dated).await? {
                    return Ok(outcome);
                }
                *place = Place { class: class.clone(), ..Place::default() };
            }
            loop {
                let due = self.due(class.as_deref(), moment.now, place.after).await?;
                let Some(last) = due.last() else { break };
                if pages == 0 {
                    return Ok(outcome);
                }
                pages -= 1;
                let (all, after) = (due.len() as u64, (last.cohort, last.leaf));
                let due = if moment.trusted { due } else { self.gone(due)? };
                // Without trust, what is there stays.
                outcome.kept += all - due.len() as u64;
                outcome.kept += self.end_or_leave(run, &due, moment).await?;
                place.after = Some(after);
            }
        }
        *place = Place::default();
        outcome.all = true;
        Ok(outcome)
    }

    /// A page of what is due of a class, or of what outlasted an erasure.
    async fn due(&self, class: Option<&str>, now: Time, after: Option<(Cohort, u32)>) -> Result<Vec<Due>> {
        let store = self.custody.store();
        let Some(class) = class else {
            return store.read().await?.due_kept(now, after.map(|(_, leaf)| leaf), PAGE).await;
        };
        // As it is now: a longer period stops a sweep that is under way.
        let Some(upto) = self.library.refreshed().await?.over(class, now) else { return Ok(Vec::new()) };
        store.read().await?.due_keys(class, upto, after, PAGE).await
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

    /// Gives keys a month that were made before their class had a period: that of the newest value under any of the person's,
    /// once no value can come to them any more. Answers whether it came to the end.
    async fn date_keys(&self, class: &str, now: Time, pages: &mut u32, after: &mut Option<SubjectId>) -> Result<bool> {
        let begins = Cohort::of(now).begins();
        while *pages > 0 {
            let page = self.custody.store().read().await?.undated_keys(class, begins, *after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(true) };
            *pages -= 1;
            let before = after.replace(last.subject);
            let mut tx = self.custody.store().write().await?;
            let subjects: BTreeSet<SubjectId> = page.iter().map(|key| key.subject).collect();
            tx.lock_subjects(&subjects.iter().copied().collect::<Vec<_>>()).await?;
            // Now that nobody can add to them.
            let page = tx.undated_keys(class, begins, before, PAGE).await?;
            let locked = page.iter().filter(|key| subjects.contains(&key.subject));
            let dated: Vec<_> = locked.map(|key| (key.subject, Cohort::of(key.newest_at))).collect();
            tx.date_keys(class, &dated).await?;
            tx.commit().await?;
        }
        Ok(false)
    }

    /// Ends a page. When that fails, each person by themselves: nobody's values stay because somebody else's cannot be ended.
    /// Answers how many keys are left.
    async fn end_or_leave(&self, run: &mut RetentionRun, due: &[Due], moment: Moment) -> Result<u64> {
        let Err(error) = self.end_page(run, due, moment).await else { return Ok(0) };
        // Then it is about nobody.
        self.custody.store().check().await?;
        self.assert_ours(run).await?;
        tracing::warn!(%error, "a page of what was kept long enough cannot be ended; each person is tried by themselves");
        let mut people: BTreeMap<SubjectId, Vec<Due>> = BTreeMap::new();
        for due in due {
            people.entry(due.subject).or_default().push(*due);
        }
        let mut left = 0;
        for (subject, due) in people {
            if let Err(error) = self.end_page(run, &due, moment).await {
                tracing::error!(%error, %subject, "what was kept long enough cannot be ended");
                left += due.len() as u64;
            }
        }
        metrics::counter!("lacuna_retention_failed_total").increment(left);
        Ok(left)
    }

    /// Nobody else goes on with the run.
    async fn assert_ours(&self, run: &RetentionRun) -> Result<()> {
        let begun = self.custody.store().read().await?.retention_run(run.id).await?.is_some();
        let mut tx = self.custody.store().write().await?;
        if begun && !tx.adopt_run(run.id, &self.custody.node()).await? {
            return Err(taken());
        }
        Ok(())
    }

    async fn end_page(&self, run: &mut RetentionRun, due: &[Due], moment: Moment) -> Result<()> {
        if due.is_empty() {
            return Ok(());
        }
        let subjects: BTreeSet<SubjectId> = due.iter().map(|due| due.subject).collect();
        let subjects: Vec<SubjectId> = subjects.into_iter().collect();
        self.record_ending(run, subjects.iter().copied().map(asked).collect()).await?;
        let (custody, now) = (&*self.custody, moment.now);
        let mut tx = custody.store().write().await?;
        let people = tx.lock_subjects(&subjects).await?;
        let free: Vec<&Subject> = people.iter().filter(|person| may_end(person)).collect();
        // By the present definitions: they may have changed since the page was read.
        let catalogue = self.library.read_in(&mut *tx).await?;
        let over = over(&catalogue, now);
        let ending = ending(&mut *tx, &free, due, &over, now).await?;
        let (mut live, mut gone) = (Vec::new(), Vec::new());
        for key in &ending.keys {
            if custody.ring.is_live(key.leaf)? { live.push(key.leaf) } else { gone.push(key.leaf) }
        }
        if !moment.trusted && !live.is_empty() {
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
        let mut grown = run.clone();
        count(&mut grown, &ending, &live);
        condemn(&mut *tx, live).await?;
        if !tx.sweep_run(&grown, &custody.node()).await? {
            return Err(taken());
        }
        crash::point("retention::before-commit");
        tx.commit().await?;
        *run = grown;
        metrics::counter!("lacuna_retention_ended_total").increment(ending.tokens.len() as u64);
        crash::point("retention::ended");
        Ok(())
    }

    /// Takes tokens out of the search index. Old copies of the buckets die with the leaves.
    pub(in crate::vault) async fn unlist(&self, tx: &mut dyn Tx, tokens: &[Token]) -> Result<()> {
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
    pub(in crate::vault) async fn finish_run(&self, run: RetentionRun) -> Result<(RetentionRun, Option<String>)> {
        match run.state {
            RunState::Done => return Ok((run, None)),
            RunState::Sweeping => return Ok((run, Some("another node makes it; ask again".to_owned()))),
            RunState::Pending => {}
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
            tx.settle_run(&run).await?;
            tx.commit().await?;
        }
        Ok((run, None))
    }

    async fn destroy_run(&self, run: &RetentionRun) -> Result<bool> {
        let mut listing: Option<BTreeMap<u32, u32>> = None;
        for attempt in 0..=ATTEMPTS {
            let mut tx = self.custody.store().read().await?;
            let epoch = tx.tree_head().await?.map_or(0, |head| head.epoch);
            let dirty = tx.buckets_and_dirty(&[]).await?;
            let dirty: BTreeMap<u32, u32> = dirty.iter().map(|bucket| (bucket.bucket, bucket.leaf)).collect();
            let dying = tx.punctured_after(epoch).await?;
            let waits = tx.run_waits(run.id, epoch).await?;
            drop(tx);
            // A change of the root that was under way may have known of the run's leaves, and not of the buckets that list its
            // values: these have to go under other leaves, and the old ones have to be gone.
            let listing =
                listing.get_or_insert_with(|| if run.items.is_empty() { BTreeMap::new() } else { dirty.clone() });
            let lists = |(bucket, leaf): (&u32, &u32)| {
                dirty.get(bucket) == Some(leaf) || dying.iter().any(|range| (range.first..=range.last).contains(leaf))
            };
            if !waits && !listing.iter().any(lists) {
                return Ok(true);
            }
            if attempt < ATTEMPTS {
                renew_root(&self.shreds).await?;
            }
        }
        Ok(false)
    }
}

fn taken() -> Error {
    Error::internal("another node goes on with this run of retention")
}

/// Whether what is kept of a person may end. What is restricted stays as it is (Art. 18 GDPR), until an erasure.
fn may_end(person: &Subject) -> bool {
    match person.state {
        SubjectState::Active | SubjectState::Scheduled => person.restriction.is_none(),
        SubjectState::Restricted | SubjectState::Shredding => false,
        SubjectState::Shredded => true,
    }
}

/// What is due, now that its people are locked.
async fn ending(
    tx: &mut dyn Tx,
    free: &[&Subject],
    due: &[Due],
    over: &BTreeMap<String, Cohort>,
    now: Time,
) -> Result<Ending> {
    let due: HashSet<u32> = due.iter().map(|due| due.leaf).collect();
    let erased = free.iter().filter(|person| person.state == SubjectState::Shredded);
    let erased: HashSet<SubjectId> = erased.map(|person| person.id).collect();
    let free: Vec<SubjectId> = free.iter().map(|person| person.id).collect();
    let mut keys = tx.subject_keys(&free).await?;
    let is_over = |key: &SubjectKey| {
        if erased.contains(&key.subject) {
            return key.kept_until.is_some_and(|end| end <= now);
        }
        over.get(&key.class).is_some_and(|over| key.cohort.is_some_and(|month| month <= *over))
    };
    keys.retain(|key| due.contains(&key.leaf) && !key.ended && is_over(key));
    let leaves: HashSet<u32> = keys.iter().map(|key| key.leaf).collect();
    let mut tokens = tx.sealed_tokens(&free).await?;
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
            run.add(&key.class, Some(cohort), 1, values.get(&key.leaf).copied().unwrap_or_default());
        }
    }
}
