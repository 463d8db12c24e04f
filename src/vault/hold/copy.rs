//! The copies of a hold: each opened under its own key and sealed again under one that is for this hold and this person alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::keys::leaves::{self, Leaf};
use crate::keys::{Custody, Place, condemn};
use crate::model::{HeldSubject, Hold, OutboxEvent, Reason, Result, Subject, SubjectId, Time, Token, TokenRow};
use crate::policy::{self, Upkeep};
use crate::store::Tx;
use crate::store::key::SubjectKey;
use crate::vault::journal::record::Kept;
use crate::vault::profiling::want_root;
use crate::vault::retention::FOUND;

/// Which values of its subjects a hold copies.
pub enum Wanted {
    /// All that were kept by then.
    Until(Time),
    /// Those of these tokens.
    Of(HashSet<TokenRow>),
}

impl Wanted {
    fn has(&self, token: &Token) -> bool {
        match self {
            Self::Until(time) => token.created_at <= *time,
            Self::Of(rows) => rows.contains(&token.row),
        }
    }
}

/// Leaves for the keys of so many people, to be taken before the transaction that uses them.
pub async fn take_leaves(custody: &Custody, count: usize) -> Result<Vec<Leaf>> {
    let mut leaves = Vec::with_capacity(count);
    for _ in 0..count {
        leaves.push(custody.take_leaf(None).await?);
    }
    Ok(leaves)
}

/// Copies that are made and not in the store yet.
pub struct Copies {
    /// Of whom how much, in the order of the subjects.
    pub over: Vec<HeldSubject>,
    keys: Vec<SubjectKey>,
    tokens: Vec<Token>,
}

impl Copies {
    /// Copies what is wanted of these people, which are in order, each under one of the leaves. They must be locked and alive.
    ///
    /// # Errors
    /// `KeyRetired` when a leaf was given up meanwhile: begin again with others.
    pub async fn make(
        custody: &Custody,
        tx: &mut dyn Tx,
        hold: &Hold,
        (subjects, wanted): (&[SubjectId], &Wanted),
        leaves: &[Leaf],
    ) -> Result<Self> {
        let mut values: BTreeMap<SubjectId, Vec<Token>> = subjects.iter().map(|id| (*id, Vec::new())).collect();
        for token in tx.sealed_tokens(subjects).await?.into_iter().filter(|token| wanted.has(token)) {
            values.entry(token.subject).or_default().push(token);
        }
        let class = hold.class();
        let mut versions: BTreeMap<SubjectId, u32> = BTreeMap::new();
        for key in tx.subject_keys(subjects).await?.iter().filter(|key| key.class == class) {
            let version = versions.entry(key.subject).or_default();
            *version = key.version.max(*version);
        }
        leaves::hold(tx, &leaves.iter().map(Leaf::number).collect::<Vec<_>>()).await?;
        let mut made = Self { over: Vec::new(), keys: Vec::new(), tokens: Vec::new() };
        for ((subject, values), leaf) in values.into_iter().zip(leaves) {
            let version = versions.get(&subject).map_or(1, |version| version + 1);
            let key = SubjectKey::of_hold(leaf.number(), subject, class.clone(), version, hold.placed_at);
            let (before, mut lost) = (made.tokens.len(), 0);
            for token in &values {
                match copy(custody, token, &key, leaf) {
                    Ok(copy) => made.tokens.push(copy),
                    // A restored database has it under a key that was destroyed since, or it was damaged: nothing is there.
                    Err(error) if matches!(error.reason, Reason::KeyRetired | Reason::SealBroken) => lost += 1,
                    Err(error) => return Err(error),
                }
            }
            let copied = (made.tokens.len() - before) as u64;
            let used = (copied > 0).then_some(key);
            made.over.push(HeldSubject { subject, leaf: used.as_ref().map(|key| key.leaf), copied, lost });
            made.keys.extend(used);
        }
        Ok(made)
    }

    /// Puts them in the store, with their hold.
    pub async fn store(&self, tx: &mut dyn Tx, hold: &Hold) -> Result<()> {
        tx.insert_subject_keys(&self.keys).await?;
        tx.insert_hold(hold, &self.over).await?;
        tx.insert_held(hold.id, &self.tokens).await
    }
}

/// A token with a copy of its value, under the key of a hold.
fn copy(custody: &Custody, token: &Token, key: &SubjectKey, leaf: &Leaf) -> Result<Token> {
    let value = custody.ring.open(&policy::for_upkeep(token.row, Upkeep::Hold), token)?;
    let mut copy = Token { class: key.class.clone(), leaf: key.leaf, key_version: key.version, ..token.clone() };
    leaf.spend();
    copy.sealed = Some(custody.ring.seal(&Place::of(&copy), &value)?);
    Ok(copy)
}

/// Does again what the journal tells of a hold, if this database does not know it: places it, with copies of what is there, or
/// releases it. Answers of whom it keeps how much, and how much is lost; `None` when there was nothing to do.
pub async fn again(custody: &Custody, kept: &Kept, now: Time) -> Result<Option<Vec<HeldSubject>>> {
    let Kept { hold, over: told, .. } = kept;
    let ids: BTreeSet<SubjectId> = told.iter().map(|(id, _)| *id).collect();
    let ids: Vec<SubjectId> = ids.into_iter().collect();
    let leaves = if hold.released.is_none() { take_leaves(custody, ids.len()).await? } else { Vec::new() };
    let mut tx = custody.store().write().await?;
    let people = tx.lock_subjects(&ids).await?;
    let known = tx.lock_hold(hold.id).await?;
    let over = match (known, &hold.released) {
        (None, None) => place_again(custody, &mut *tx, (kept, &people), &leaves).await?,
        (None, Some(_)) => {
            let gone = |(subject, copied): (SubjectId, u64)| HeldSubject { subject, leaf: None, copied, lost: 0 };
            let over = told.iter().copied().map(gone).filter(|held| people.iter().any(|one| one.id == held.subject));
            let over: Vec<_> = over.collect();
            tx.insert_hold(hold, &over).await?;
            over
        }
        (Some(known), Some(_)) if known.released.is_none() => release_again(custody, &mut *tx, hold).await?,
        (Some(_), _) => return Ok(None),
    };
    let random = custody.ring.random();
    let events: Vec<_> = over.iter().map(|held| OutboxEvent::of_hold(hold, held.subject, now, random)).collect();
    tx.tell(&events).await?;
    tx.commit().await?;
    Ok(Some(over))
}

/// Copies once more what a restored database still has, and counts what it has not.
async fn place_again(
    custody: &Custody,
    tx: &mut dyn Tx,
    (kept, people): (&Kept, &[Subject]),
    leaves: &[Leaf],
) -> Result<Vec<HeldSubject>> {
    let (alive, gone): (Vec<_>, Vec<_>) = people.iter().partition(|person| person.alive().is_ok());
    let alive: Vec<SubjectId> = alive.into_iter().map(|person| person.id).collect();
    let mut copies = Copies::make(custody, tx, &kept.hold, (&alive, &kept.wanted), leaves).await?;
    copies.over.extend(gone.iter().map(|one| HeldSubject { subject: one.id, leaf: None, copied: 0, lost: 0 }));
    for held in &mut copies.over {
        let told = kept.over.iter().find(|(id, _)| *id == held.subject).map_or(0, |(_, copied)| *copied);
        held.lost = held.lost.max(told.saturating_sub(held.copied));
    }
    copies.store(tx, &kept.hold).await?;
    Ok(copies.over)
}

/// Takes the copies out of a restored database, and has the next change of the root take along what is left of their keys.
async fn release_again(custody: &Custody, tx: &mut dyn Tx, hold: &Hold) -> Result<Vec<HeldSubject>> {
    let over: Vec<_> = tx.held_subjects(&[hold.id]).await?.into_iter().map(|(_, held)| held).collect();
    let leaves: HashSet<u32> = over.iter().filter_map(|held| held.leaf).collect();
    // Those of this database: it may know of more people than the record.
    let subjects: Vec<SubjectId> = over.iter().map(|held| held.subject).collect();
    let mut keys = tx.subject_keys(&subjects).await?;
    keys.retain(|key| leaves.contains(&key.leaf) && !key.ended);
    let mut live = Vec::new();
    for key in &keys {
        if custody.ring.is_live(key.leaf)? {
            live.push(key.leaf);
        }
    }
    tx.release_hold(hold).await?;
    tx.end_keys(&keys.iter().map(|key| key.leaf).collect::<Vec<_>>(), FOUND).await?;
    if !live.is_empty() {
        condemn(tx, live).await?;
        want_root(tx).await?;
    }
    Ok(over)
}
