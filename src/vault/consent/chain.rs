//! A person's chain of events, and what it comes to.

use std::collections::{BTreeSet, HashMap};

use super::tell;
use crate::crypto::Random;
use crate::model::{Consent, ConsentEvent, ConsentEventId, OutboxEvent, Purpose, Result, Standing, SubjectId, Time};
use crate::policy::Catalogue;
use crate::store::Tx;
use crate::store::consent::{Recorded, Stood};
use crate::store::journal::Mark;

/// Most events of a person about one purpose.
pub(super) const MOST_EVENTS: u32 = 10_000;

/// A person's chain, as it grows.
pub(super) struct Chain {
    number: u64,
    hash: Option<[u8; 32]>,
    /// What was appended.
    pub added: Vec<Recorded>,
}

impl Chain {
    /// The chain as it is.
    pub async fn of(tx: &mut dyn Tx, subject: SubjectId) -> Result<Self> {
        let last = tx.last_consent_event(subject).await?;
        Ok(Self {
            number: last.as_ref().map_or(0, |last| last.number),
            hash: last.map(|last| last.hash),
            added: Vec::new(),
        })
    }

    /// Appends an event.
    pub fn push(&mut self, event: &ConsentEvent) -> Result<()> {
        let document = event.document()?;
        let hash = ConsentEvent::hash(self.hash.as_ref(), &document);
        self.number += 1;
        let previous_hash = self.hash.replace(hash);
        self.added.push(Recorded { event: event.clone(), number: self.number, document, previous_hash, hash });
        Ok(())
    }
}

/// How a person's consents to a purpose stand after these events, which are all there are.
pub(super) fn stood(purpose: &Purpose, subject: SubjectId, events: &[ConsentEvent]) -> Stood {
    let standing = Standing::of(events, Time::from_micros(i64::MAX));
    let due_at = standing.consents.values().filter_map(|consent| due(purpose, consent)).min();
    Stood { subject, purpose: purpose.code.clone(), standing, due_at }
}

/// Appends what was recorded before to a person's chain, as far as it goes on from its end, and works out how the
/// consents to the purposes stand then. Answers how many events were appended, and those that do not go on from it yet.
pub(in crate::vault) async fn append_recorded(
    tx: &mut dyn Tx,
    catalogue: &Catalogue,
    subject: SubjectId,
    mut recorded: Vec<Recorded>,
    (now, random): (Time, &dyn Random),
) -> Result<(u64, Vec<Recorded>)> {
    let chain = Chain::of(tx, subject).await?;
    let (mut number, mut hash) = (chain.number, chain.hash);
    recorded.sort_by_key(|one| one.number);
    recorded.retain(|one| one.number > number);
    recorded.dedup_by_key(|one| one.number);
    let fits = recorded.iter().take_while(|one| {
        let fits = one.number == number + 1 && one.previous_hash == hash;
        if fits {
            (number, hash) = (one.number, Some(one.hash));
        }
        fits
    });
    let fits = fits.count();
    let later = recorded.split_off(fits);
    tx.insert_consent_events(&recorded).await?;
    let standings = standings(tx, catalogue, subject, &recorded).await?;
    tx.put_standings(&standings, now).await?;
    tx.tell(&tell::of_entries(&recorded, false, now, random)).await?;
    Ok((recorded.len() as u64, later))
}

/// When a consent should be looked at, whatever the notices say.
fn due(purpose: &Purpose, consent: &Consent) -> Option<Time> {
    if !consent.state.is_yes() {
        return None;
    }
    let ends = [consent.valid_until, consent.of_age_at].map(|time| time.map(Time::from_micros));
    ends.into_iter().flatten().chain(purpose.review(Time::from_micros(consent.since))).min()
}

/// Appends the events of one person's chain to that of another, who turned out to be the same. Each stands where it was expressed.
/// Answers what is to be told.
pub(in crate::vault) async fn carry_over(
    tx: &mut dyn Tx,
    catalogue: &Catalogue,
    from: SubjectId,
    to: SubjectId,
    (now, random): (Time, &dyn Random),
) -> Result<Vec<OutboxEvent>> {
    let events = tx.consent_events(from, "", 0, MOST_EVENTS).await?;
    let (mut chain, mut names) = (Chain::of(tx, to).await?, HashMap::new());
    for recorded in &events {
        let (id, known) = (ConsentEventId::new(now, random), &recorded.event);
        let renamed = |named: Option<ConsentEventId>| named.and_then(|named| names.get(&named).copied());
        let (supersedes, along_with) = (renamed(known.supersedes), renamed(known.along_with));
        names.insert(known.id, id);
        chain.push(&ConsentEvent { id, subject: to, recorded_at: now, supersedes, along_with, ..known.clone() })?;
    }
    tx.insert_consent_events(&chain.added).await?;
    let standings = standings(tx, catalogue, to, &chain.added).await?;
    tx.put_standings(&standings, now).await?;
    tx.mark(&chain.added.iter().map(|added| Mark::ConsentEvent(to, added.number)).collect::<Vec<_>>()).await?;
    Ok(tell::of_entries(&chain.added, false, now, random))
}

/// How a person's consents stand to the purposes of events that were just recorded.
async fn standings(
    tx: &mut dyn Tx,
    catalogue: &Catalogue,
    subject: SubjectId,
    recorded: &[Recorded],
) -> Result<Vec<Stood>> {
    let purposes: BTreeSet<&str> = recorded.iter().map(|one| one.event.purpose.as_str()).collect();
    let mut standings = Vec::new();
    for purpose in purposes.into_iter().filter_map(|code| catalogue.purpose(code)) {
        let events = tx.consent_events(subject, &purpose.code, 0, MOST_EVENTS).await?;
        let events: Vec<ConsentEvent> = events.into_iter().map(|recorded| recorded.event).collect();
        standings.push(stood(purpose, subject, &events));
    }
    Ok(standings)
}
