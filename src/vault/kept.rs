//! What outlasts the erasure of its person: the copies of legal holds, and, because a law demands it, values of retention
//! classes that say so, each until its period is over. Their keys stay; the person is erased for everything else. Until when is settled by the erasure, in
//! its own transaction, and no later definition keeps anything longer.

use std::collections::{BTreeMap, HashSet};

use super::Vault;
use crate::model::{Cohort, KeyState, PlanItem, Result, SubjectId, Time};
use crate::store::Tx;
use crate::store::key::SubjectKey;

/// A key that an erasure leaves.
struct Demanded {
    leaf: u32,
    class: String,
    cohort: Cohort,
    until: Time,
    /// How many values are under it.
    values: u64,
}

/// What an erasure leaves.
#[derive(Default)]
pub(super) struct Kept {
    keys: Vec<Demanded>,
    /// Copies that legal holds keep, which are no values of a class.
    held: Vec<PlanItem>,
}

impl Kept {
    /// How many values of a class it leaves.
    pub(super) fn of_class(&self, class: &str) -> u64 {
        self.keys.iter().filter(|key| key.class == class).map(|key| key.values).sum()
    }

    /// What it leaves, by class and month.
    pub(super) fn plan(&self) -> Vec<PlanItem> {
        let mut counts: BTreeMap<(&str, Cohort, Time), u64> = BTreeMap::new();
        for key in &self.keys {
            *counts.entry((&key.class, key.cohort, key.until)).or_default() += key.values;
        }
        let item = |((class, cohort, until), count): (_, u64)| PlanItem::kept(class, cohort, until, count);
        counts.into_iter().map(item).chain(self.held.iter().cloned()).collect()
    }

    /// Has the keys outlast the erasure. Their subject must be locked.
    pub(super) async fn keep(&self, tx: &mut dyn Tx) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        tx.keep_keys(&self.keys.iter().map(|key| (key.leaf, key.cohort, key.until)).collect::<Vec<_>>()).await
    }
}

impl Vault {
    /// What an erasure of a person at `now` leaves, by the definitions that the transaction sees.
    pub(super) async fn demanded(&self, tx: &mut dyn Tx, subject: SubjectId, now: Time) -> Result<Kept> {
        let catalogue = self.library.read_in(tx).await?;
        let outlasts = |class: &str| catalogue.class(class).is_some_and(|class| class.outlasts_erasure);
        let mut keys = tx.subject_keys(&[subject]).await?;
        let mut kept = Kept { held: self.held(tx, &keys).await?, ..Kept::default() };
        keys.retain(|key| !key.ended && key.state != KeyState::Retired && !key.is_held() && outlasts(&key.class));
        if keys.is_empty() {
            return Ok(kept);
        }
        let (leaves, mut under) = (keys.iter().map(|key| key.leaf).collect::<HashSet<_>>(), BTreeMap::new());
        for token in tx.sealed_tokens(&[subject]).await? {
            if leaves.contains(&token.leaf) {
                let (count, newest) = under.entry(token.leaf).or_insert((0_u64, token.created_at));
                (*count, *newest) = (*count + 1, token.created_at.max(*newest));
            }
        }
        let mut undated: BTreeMap<&str, Time> = BTreeMap::new();
        for key in keys.iter().filter(|key| key.cohort.is_none()) {
            if let Some((_, newest)) = under.get(&key.leaf) {
                let known = undated.entry(&key.class).or_insert(*newest);
                *known = (*known).max(*newest);
            }
        }
        for key in &keys {
            let Some(&(values, newest)) = under.get(&key.leaf) else { continue };
            // As the sweep gives a month to keys that were made before their class had a period.
            let dated = || Cohort::of(undated.get(key.class.as_str()).copied().unwrap_or(newest));
            let cohort = key.cohort.unwrap_or_else(dated);
            let Some(until) = catalogue.outlasts_erasure(&key.class, cohort, now) else { continue };
            // A restored database may have values under a key that was destroyed since.
            if self.custody.ring.is_live(key.leaf)? {
                kept.keys.push(Demanded { leaf: key.leaf, class: key.class.clone(), cohort, until, values });
            }
        }
        Ok(kept)
    }

    /// What legal holds keep under these keys, by matter.
    async fn held(&self, tx: &mut dyn Tx, keys: &[SubjectKey]) -> Result<Vec<PlanItem>> {
        let mut counts: BTreeMap<&str, (Cohort, u64)> = BTreeMap::new();
        for key in keys.iter().filter(|key| key.is_held()) {
            let live = self.custody.ring.is_live(key.leaf)?;
            let Some(cohort) = key.cohort.filter(|_| live) else { continue };
            let (_, count) = counts.entry(&key.class).or_insert((cohort, 0));
            *count += tx.count_held(key.leaf).await?;
        }
        let item = |(class, (cohort, count))| PlanItem::kept(class, cohort, Time::LAST, count);
        Ok(counts.into_iter().map(item).collect())
    }
}
