//! Doing again what a restored database does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fetch;
use super::record::Record;
use crate::keys::Custody;
use crate::model::{Clock, Erasure, ErasureState, Reason, Result, SubjectId, SubjectState, Terms};
use crate::store::consent::{Document, Recorded};
use crate::store::journal::Mark;
use crate::store::suppression::Name;
use crate::vault::consent::{Library, append_recorded};
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
    /// Versions of purposes, notices and collection points.
    pub documents: u64,
    /// People whose restriction, profiling switch or objection was set again.
    pub subjects: u64,
    /// Names that came onto the suppression list.
    pub suppressed: u64,
    /// Consent events.
    pub consent_events: u64,
    /// Erasures that were scheduled or cancelled again.
    pub erasures: u64,
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
/// `KeyCustodianUnavailable` when too few sinks answer, `StoreUnavailable`.
pub async fn replay(custody: &Custody, clock: &dyn Clock) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    let upto = custody.store().read().await?.journal_upto().await?;
    let entries = custody.sinks().entries_after(upto).await?;
    for entry in &entries {
        match fetch(custody, entry).await {
            Ok(records) => {
                replayed.entries += 1;
                replayed.until = replayed.until.max(entry.last);
                Replay { custody, clock, replayed: &mut replayed }.apply(records).await?;
            }
            Err(error) if error.reason == Reason::StoreUnavailable => return Err(error),
            Err(error) => {
                tracing::error!(%entry, %error, "an entry of the journal cannot be read; what it tells is lost");
                replayed.lost += u64::from(entry.records);
            }
        }
    }
    if replayed == Replayed::default() {
        return Ok(replayed);
    }
    if replayed.until > upto {
        let mut tx = custody.store().write().await?;
        // A node that leads may have moved it on meanwhile.
        tx.advance_journal(upto, replayed.until).await?;
        tx.commit().await?;
    }
    tracing::warn!(?replayed, "the sinks knew of more than the database; it was done again");
    Ok(replayed)
}

struct Replay<'r> {
    custody: &'r Custody,
    clock: &'r dyn Clock,
    replayed: &'r mut Replayed,
}

impl Replay<'_> {
    async fn apply(&mut self, records: Vec<Record>) -> Result<()> {
        let (mut documents, mut terms, mut erasures) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut events: BTreeMap<SubjectId, Vec<Recorded>> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for record in records {
            match record {
                Record::Document(document) => documents.push(document.stored()?),
                Record::Subject(subject) => {
                    let (id, found) = subject.terms()?;
                    terms.insert(id, found);
                }
                Record::ConsentEvent(recorded) => {
                    let recorded = recorded.stored()?;
                    events.entry(recorded.event.subject).or_default().push(recorded);
                }
                Record::Erasure(scheduled) => erasures.push(scheduled.erasure()?),
                Record::Suppression(found) => drop(names.insert(found.name, found.listed)),
            }
        }
        self.names(names).await?;
        self.documents(documents).await?;
        self.terms(terms).await?;
        self.events(events).await?;
        for erasure in erasures {
            self.erasure(erasure).await?;
        }
        Ok(())
    }

    async fn names(&mut self, names: BTreeMap<Name, bool>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let (on, off): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, listed)| *listed);
        let [on, off] = [on, off].map(|names| names.into_iter().map(|(name, _)| name).collect::<Vec<Name>>());
        let mut tx = self.custody.store().write().await?;
        tx.suppress(&on).await?;
        tx.release(&off).await?;
        tx.commit().await?;
        self.replayed.suppressed += on.len() as u64;
        Ok(())
    }

    async fn documents(&mut self, documents: Vec<Document>) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        for document in documents {
            let newest = tx.document(document.kind, &document.code, 0).await?.map_or(0, |newest| newest.version);
            if document.version <= newest {
                continue;
            }
            let generation = tx.catalogue_generation().await?;
            let fits = document.version == newest + 1;
            let (kind, code, version) = (document.kind, document.code.clone(), document.version);
            if fits && tx.insert_documents(generation, &[document]).await? {
                tx.mark(&[Mark::Document(kind, code, version)]).await?;
                self.replayed.documents += 1;
            } else {
                self.replayed.lost += 1;
            }
        }
        tx.commit().await
    }

    async fn terms(&mut self, terms: BTreeMap<SubjectId, Terms>) -> Result<()> {
        let terms: Vec<_> = terms.into_iter().collect();
        for some in terms.chunks(AT_ONCE) {
            let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
            let mut tx = self.custody.store().write().await?;
            let mut people = tx.lock_subjects(&ids).await?;
            self.replayed.of_unknown_people += (ids.len() - people.len()) as u64;
            let by_id: BTreeMap<_, _> = some.iter().cloned().collect();
            people.retain_mut(|person| by_id.get(&person.id).is_some_and(|terms| person.take_over(terms.clone())));
            tx.update_subjects(&people).await?;
            for person in &people {
                purge_scores(self.custody, &mut *tx, person).await?;
            }
            tx.commit().await?;
            self.replayed.subjects += people.len() as u64;
        }
        Ok(())
    }

    async fn events(&mut self, events: BTreeMap<SubjectId, Vec<Recorded>>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let library = Library::open(self.custody.share_store(), Vec::new(), self.clock.now()).await?;
        let (catalogue, events): (_, Vec<_>) = (library.known(), events.into_iter().collect());
        for some in events.chunks(AT_ONCE) {
            let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
            let mut tx = self.custody.store().write().await?;
            let known: Vec<_> = tx.lock_subjects(&ids).await?.into_iter().map(|person| person.id).collect();
            for (id, recorded) in some {
                if !known.contains(id) {
                    self.replayed.of_unknown_people += recorded.len() as u64;
                    continue;
                }
                let (added, lost) = append_recorded(&mut *tx, &catalogue, *id, recorded, self.clock.now()).await?;
                self.replayed.consent_events += added;
                self.replayed.lost += lost;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn erasure(&mut self, mut erasure: Erasure) -> Result<()> {
        let mut tx = self.custody.store().write().await?;
        let Some(mut person) = tx.lock_subjects(&[erasure.subject]).await?.into_iter().next() else {
            self.replayed.of_unknown_people += 1;
            return Ok(());
        };
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
        tx.update_subjects(std::slice::from_ref(&person)).await?;
        tx.commit().await?;
        self.replayed.erasures += 1;
        Ok(())
    }
}
