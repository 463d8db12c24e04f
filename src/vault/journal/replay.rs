//! Doing again what a restored database does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::{Admission, Kept, Record};
use super::{Fetched, fetch};
use crate::keys::Custody;
use crate::model::{
    Clock, Erasure, ErasureState, Error, OutboxEvent, PermissionCause, Reason, Result, Subject, SubjectId,
    SubjectState, Terms,
};
use crate::policy::Seeds;
use crate::store::Tx;
use crate::store::consent::{Document, Recorded};
use crate::store::journal::Mark;
use crate::store::suppression::Name;
use crate::vault::consent::{Library, append_recorded, tell};
use crate::vault::hold::copy::again;
use crate::vault::profiling::purge_scores;

/// How long a scheduled erasure waits at least after a restore: it may have been cancelled in the last moment.
const RECONSIDER: Duration = Duration::from_hours(24);

/// How many people are done at once.
const AT_ONCE: usize = 200;

/// What the journal knew and the database did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Entries of the journal that were read.
    pub entries: u64,
    /// Versions of purposes, notices, collection points and retention classes.
    pub documents: u64,
    /// People whose restriction, profiling switch or objection was set again.
    pub subjects: u64,
    /// Names that came onto the suppression list.
    pub suppressed: u64,
    /// Consent events.
    pub consent_events: u64,
    /// Erasures that were scheduled or cancelled again.
    pub erasures: u64,
    /// Callers who were disabled, or enabled, again.
    pub callers: u64,
    /// Legal holds that were placed or released again.
    pub holds: u64,
    /// Copies that such holds kept and of which the values are not there any more.
    pub held_lost: u64,
    /// Records about people that the database has never known.
    pub of_unknown_people: u64,
    /// What could not be done again, because entries before it are missing or damaged.
    pub lost: u64,
    /// Until when the journal knows, in microseconds since 1970; 0 when there was nothing to read.
    pub until: i64,
}

/// Does again what the sinks know of and the database does not; nothing when it knows everything. Safe at any time, and
/// from several nodes at once.
///
/// # Errors
/// `KeyCustodianUnavailable` when too few sinks answer, `StoreUnavailable`. What was done by then is done, and the database
/// is not taken to know the rest.
pub async fn replay(custody: &Custody, clock: &dyn Clock) -> Result<Replayed> {
    let upto = custody.store().read().await?.journal_upto().await?;
    let entries = custody.sinks().entries_after(upto).await?;
    let mut replay = Replay::new(custody, clock);
    for entry in &entries {
        match fetch(custody, entry).await? {
            Fetched::Records(records) => {
                replay.done.entries += 1;
                replay.done.until = replay.done.until.max(entry.last);
                replay.apply(records).await?;
            }
            Fetched::Nothing(why) => {
                tracing::error!(%entry, why, "an entry of the journal cannot be read; what it tells is lost");
                replay.done.lost += u64::from(entry.records);
            }
        }
    }
    replay.end(upto).await
}

/// What is being done.
struct Replay<'r> {
    custody: &'r Custody,
    clock: &'r dyn Clock,
    done: Replayed,
    /// What does not go on from what the database has, and may do so after another entry.
    documents: Vec<Document>,
    events: BTreeMap<SubjectId, Vec<Recorded>>,
    /// What is on the suppression list in the end, or off it.
    names: BTreeMap<Name, bool>,
}

impl<'r> Replay<'r> {
    fn new(custody: &'r Custody, clock: &'r dyn Clock) -> Self {
        let (done, documents) = (Replayed::default(), Vec::new());
        Self { custody, clock, done, documents, events: BTreeMap::new(), names: BTreeMap::new() }
    }

    async fn apply(&mut self, records: Vec<Record>) -> Result<()> {
        let (mut terms, mut erasures) = (BTreeMap::new(), Vec::new());
        let (mut callers, mut holds) = (Vec::new(), Vec::new());
        for record in records {
            // One that makes no sense is no reason to lose the others.
            let understood = match record {
                Record::Document(document) => document.stored().map(|document| self.documents.push(document)),
                Record::Subject(subject) => subject.terms().map(|(id, found)| drop(terms.insert(id, found))),
                Record::ConsentEvent(recorded) => recorded
                    .stored()
                    .map(|recorded| self.events.entry(recorded.event.subject).or_default().push(recorded)),
                Record::Erasure(scheduled) => scheduled.erasure().map(|erasure| erasures.push(erasure)),
                Record::Suppression(found) => {
                    self.names.insert(found.name, found.listed);
                    Ok(())
                }
                Record::Caller(found) => {
                    callers.push(found);
                    Ok(())
                }
                Record::Hold(case) => case.kept().map(|kept| holds.push(kept)),
            };
            if let Err(error) = understood {
                tracing::error!(%error, "a record of the journal makes no sense");
                self.done.lost += 1;
            }
        }
        self.documents().await?;
        self.terms(terms).await?;
        self.events().await?;
        for erasure in erasures {
            self.erasure(erasure).await?;
        }
        for kept in &holds {
            self.hold(kept).await?;
        }
        self.callers(&callers).await
    }

    /// Places a hold again, or releases one. What a hold is over that this database has not is counted as lost.
    async fn hold(&mut self, kept: &Kept) -> Result<()> {
        let Some(over) = again(self.custody, kept, self.clock.now()).await? else { return Ok(()) };
        let lost = over.iter().map(|held| held.lost).sum::<u64>();
        self.done.holds += 1;
        self.done.held_lost += lost;
        self.done.of_unknown_people += kept.over.len().saturating_sub(over.len()) as u64;
        if lost > 0 {
            tracing::error!(hold = %kept.hold.id, lost, "the database has no copy of values that this legal hold kept");
        }
        Ok(())
    }

    /// Notes that the database knows everything, unless somebody else has done that meanwhile.
    async fn end(mut self, upto: i64) -> Result<Replayed> {
        self.done.lost += self.documents.len() as u64 + self.events.values().map(|left| left.len() as u64).sum::<u64>();
        if self.done == Replayed::default() {
            return Ok(self.done);
        }
        let mut tx = self.custody.store().write().await?;
        if self.done.until <= upto || tx.advance_journal(upto, self.done.until).await? {
            self.done.suppressed = self.names(&mut *tx).await?;
            tx.commit().await?;
        }
        tracing::warn!(replayed = ?self.done, "the sinks knew of more than the database; it was done again");
        Ok(self.done)
    }

    /// Who objects must not be forgotten: a name that was put on the list and is not in the journal yet stays there.
    async fn names(&self, tx: &mut dyn Tx) -> Result<u64> {
        let (on, off): (Vec<_>, Vec<_>) = self.names.iter().partition(|(_, listed)| **listed);
        let [on, mut off] = [on, off].map(|names| names.into_iter().map(|(name, _)| *name).collect::<Vec<Name>>());
        let marks: Vec<_> = off.iter().copied().map(Mark::Suppression).collect();
        let marked = tx.marked(&marks).await?;
        off.retain(|name| !marked.contains(&Mark::Suppression(*name)));
        tx.suppress(&on).await?;
        tx.release(&off).await?;
        Ok(on.len() as u64)
    }

    /// What was decided about a caller last counts, be it here or in the journal.
    async fn callers(&mut self, admissions: &[Admission]) -> Result<()> {
        if admissions.is_empty() {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        let known = tx.caller_changes(0).await?;
        let mut last = known.last().map_or(0, |change| change.seq);
        let mut decided: BTreeMap<_, _> = known.into_iter().map(|known| (known.caller, known.changed_at)).collect();
        for admission in admissions {
            let change = admission.change(last + 1);
            if decided.get(&change.caller).is_some_and(|at| *at >= change.changed_at) {
                continue;
            }
            if !tx.insert_caller_change(&change).await? {
                return Err(Error::new(Reason::StoreUnavailable, "callers are being changed; try again"));
            }
            tx.mark(&[Mark::Caller(change.caller.clone())]).await?;
            last = change.seq;
            decided.insert(change.caller, change.changed_at);
            self.done.callers += 1;
        }
        tx.commit().await
    }

    async fn documents(&mut self) -> Result<()> {
        if self.documents.is_empty() {
            return Ok(());
        }
        let mut documents = std::mem::take(&mut self.documents);
        documents.sort_by_key(|document| document.version);
        let mut tx = self.custody.store().write().await?;
        for document in documents {
            let newest = tx.document(document.kind, &document.code, 0).await?.map_or(0, |newest| newest.version);
            if document.version <= newest {
                continue;
            }
            if document.version > newest + 1 {
                self.documents.push(document);
                continue;
            }
            let generation = tx.catalogue_generation().await?;
            let mark = Mark::Document(document.kind, document.code.clone(), document.version);
            if !tx.insert_documents(generation, std::slice::from_ref(&document)).await? {
                return Err(Error::new(Reason::StoreUnavailable, "the catalogue is being changed; try again"));
            }
            let (now, random) = (self.clock.now(), self.custody.ring.random());
            tx.tell(tell::of_document(&document, now, random)?.as_slice()).await?;
            tx.mark(&[mark]).await?;
            self.done.documents += 1;
        }
        tx.commit().await
    }

    async fn terms(&mut self, terms: BTreeMap<SubjectId, Terms>) -> Result<()> {
        let terms: Vec<_> = terms.into_iter().collect();
        for some in terms.chunks(AT_ONCE) {
            let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
            let mut tx = self.custody.store().write().await?;
            let mut people = tx.lock_subjects(&ids).await?;
            self.done.of_unknown_people += (ids.len() - people.len()) as u64;
            let by_id: BTreeMap<_, _> = some.iter().cloned().collect();
            let before: BTreeMap<_, _> = people.iter().map(|person| (person.id, person.clone())).collect();
            people.retain_mut(|person| by_id.get(&person.id).is_some_and(|terms| person.take_over(terms.clone())));
            tx.update_subjects(&people).await?;
            let changed = people.iter().filter_map(|person| Some((before.get(&person.id)?, person)));
            tx.tell(&changed.flat_map(|(before, after)| self.told(before, after)).collect::<Vec<_>>()).await?;
            for person in &people {
                purge_scores(self.custody, &mut *tx, person).await?;
            }
            tx.commit().await?;
            self.done.subjects += people.len() as u64;
        }
        Ok(())
    }

    /// What other systems are told of a change of terms.
    fn told(&self, before: &Subject, after: &Subject) -> Vec<OutboxEvent> {
        let (now, random) = (self.clock.now(), self.custody.ring.random());
        let mut told: Vec<_> = OutboxEvent::of_use(before.state, after, now, random).into_iter().collect();
        let perhaps = [
            (before.profiling != after.profiling, PermissionCause::Profiling),
            (before.suppressed_at != after.suppressed_at, PermissionCause::Suppression),
        ];
        let switches = perhaps.into_iter().filter(|(changed, _)| *changed);
        told.extend(switches.map(|(_, cause)| OutboxEvent::of_switch(after.id, cause, now, random)));
        told
    }

    async fn events(&mut self) -> Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        let library = Library::open(self.custody.share_store(), &Seeds::default(), self.clock.now()).await?;
        let catalogue = library.known();
        let events: Vec<_> = std::mem::take(&mut self.events).into_iter().collect();
        for some in events.chunks(AT_ONCE) {
            let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
            let mut tx = self.custody.store().write().await?;
            let known: Vec<_> = tx.lock_subjects(&ids).await?.into_iter().map(|person| person.id).collect();
            for (id, recorded) in some {
                if !known.contains(id) {
                    self.done.of_unknown_people += recorded.len() as u64;
                    continue;
                }
                let recorded = recorded.clone();
                let (added, later) = append_recorded(
                    &mut *tx,
                    &catalogue,
                    *id,
                    recorded,
                    (self.clock.now(), self.custody.ring.random()),
                )
                .await?;
                self.done.consent_events += added;
                if !later.is_empty() {
                    self.events.insert(*id, later);
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn erasure(&mut self, mut erasure: Erasure) -> Result<()> {
        let mut tx = self.custody.store().write().await?;
        let Some(mut person) = tx.lock_subjects(&[erasure.subject]).await?.into_iter().next() else {
            self.done.of_unknown_people += 1;
            return Ok(());
        };
        // The version is that of the terms, which tell of this change already.
        let (version, before) = (person.version, person.clone());
        let known = tx.lock_erasures(&[erasure.id]).await?.into_iter().next();
        match known {
            None if erasure.state == ErasureState::Scheduled && person.schedule(erasure.id).is_ok() => {
                let earliest = self.clock.now().plus(RECONSIDER);
                erasure.execute_at = erasure.execute_at.max(Some(earliest));
                tx.insert_erasures(&[erasure]).await?;
            }
            Some(mut known)
                if erasure.state == ErasureState::Cancelled
                    && person.state == SubjectState::Scheduled
                    && person.erasure == Some(known.id) =>
            {
                known.cancel()?;
                person.cancel()?;
                tx.update_erasures(&[known]).await?;
            }
            _ => return Ok(()),
        }
        person.version = version;
        tx.update_subjects(std::slice::from_ref(&person)).await?;
        tx.tell(&self.told(&before, &person)).await?;
        tx.commit().await?;
        self.done.erasures += 1;
        Ok(())
    }
}
