//! Handing what is kept of one subject to another, because it turned out to be about them.
//!
//! A value is sealed under the keys of whom it is about, and an erasure destroys those. So a value that changes hands is sealed anew
//! under a key of whom it comes to, of the same class and month, in one transaction; and the key that it was under dies with the
//! next change of the root, whatever else is under it being sealed anew too. From the commit on every erasure takes that key along:
//! no copy, whatever its age, opens the value once its new subject is erased. A link from one subject to the other would
//! need every later erasure to find it, also in a database that was restored from before it was made.

use std::collections::{BTreeSet, HashSet};

use super::Vault;
use super::profiling::want_root;
use crate::keys::leaves::{self, Leaf};
use crate::keys::{Custody, Place, condemn};
use crate::model::{
    Cohort, Error, KeyState, OutboxEvent, PermissionCause, Reason, Result, Subject, SubjectId, Time, Token, TokenRow,
    Value,
};
use crate::policy::{self, Upkeep};
use crate::store::Tx;
use crate::store::key::SubjectKey;

/// Values sealed again with one statement.
const PAGE: u32 = 64;

/// Leaves for the keys that a handover may have to make, by what they are for. Taken before its transaction: nothing is sealed
/// under a leaf that no committed row tells of. What is not needed goes back.
pub(super) struct Spares(Vec<(String, Option<Cohort>, Leaf)>);

/// What changes hands, and between whom. Both must be locked.
pub(super) struct Handover<'h> {
    pub custody: &'h Custody,
    pub from: &'h Subject,
    pub to: SubjectId,
    /// Which values; all of them without.
    pub rows: Option<HashSet<TokenRow>>,
    pub spares: Spares,
    pub now: Time,
}

impl Vault {
    /// Leaves for a handover of values under these keys.
    pub(super) async fn spares(&self, keys: &[SubjectKey]) -> Result<Spares> {
        let mut spares = Vec::new();
        for key in keys.iter().filter(|key| changes_hands(key)) {
            // One for whom it comes to, and one for what stays.
            for _ in 0..2 {
                let leaf = self.custody.take_leaf(key.cohort.map(|cohort| (key.class.clone(), cohort))).await?;
                spares.push((key.class.clone(), key.cohort, leaf));
            }
        }
        Ok(Spares(spares))
    }

    /// Has an objection to direct marketing hold for whom something comes to as it did for whom it was kept of, as when a value is kept that is
    /// on the list of those; and puts what they have by now on the list. Answers what is to be told, if that is new of them.
    pub(super) async fn carry_objection(
        &self,
        tx: &mut dyn Tx,
        from: &Subject,
        to: &mut Subject,
        now: Time,
    ) -> Result<Option<OutboxEvent>> {
        let new = from.suppressed_at.is_some_and(|since| to.suppress(since));
        if to.suppressed_at.is_some() {
            self.custody.suppress(tx, to.id).await?;
        }
        let random = self.custody.ring.random();
        Ok(new.then(|| OutboxEvent::of_switch(to.id, PermissionCause::Suppression, now, random)))
    }
}

impl Handover<'_> {
    /// Hands the values over, and condemns what they were under; answers that.
    ///
    /// # Errors
    /// `SealBroken` when a value does not open, and nothing may be lost of it; `KeyRetired` or `EtagMismatch` when keys have changed
    /// since the spares were taken: take others and try again.
    pub async fn carry_out(&mut self, tx: &mut dyn Tx) -> Result<Vec<u32>> {
        let mut keys = tx.subject_keys(&[self.from.id, self.to]).await?;
        let old = self.old(tx, &keys).await?;
        let mut after = None;
        loop {
            let mut page = tx.tokens_under(self.from.id, &old, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.row);
            let mut told = Vec::new();
            for token in &mut page {
                let value = self.open(token)?;
                let moves = self.rows.as_ref().is_none_or(|rows| rows.contains(&token.row));
                if moves {
                    token.version += 1;
                }
                let owner = if moves { self.to } else { self.from.id };
                self.seal(tx, token, owner, &value, &mut keys, &old).await?;
                told.extend(moves.then(|| OutboxEvent::of_token(token, self.now, self.custody.ring.random())));
            }
            tx.update_tokens(&page).await?;
            tx.tell(&told).await?;
        }
        // What has no value any more, or none that opens, is the new subject's too.
        let rows: Option<Vec<TokenRow>> = self.rows.as_ref().map(|rows| rows.iter().copied().collect());
        tx.give_tokens(self.from.id, self.to, rows.as_deref()).await?;
        if !old.is_empty() {
            tx.put_key_states(&old, KeyState::Retired).await?;
            condemn(tx, old.clone()).await?;
            want_root(tx).await?;
        }
        Ok(old)
    }

    /// The leaves that values to be handed over are under, as far as they open anything.
    async fn old(&self, tx: &mut dyn Tx, keys: &[SubjectKey]) -> Result<Vec<u32>> {
        let under: Option<BTreeSet<u32>> = match &self.rows {
            None => None,
            Some(rows) => {
                let rows: Vec<TokenRow> = rows.iter().copied().collect();
                let found = tx.facts(&rows, &[]).await?;
                let sealed = found.iter().filter(|facts| facts.token.sealed.is_some());
                Some(sealed.filter(|facts| facts.token.subject == self.from.id).map(|facts| facts.token.leaf).collect())
            }
        };
        let mut old = Vec::new();
        for key in keys.iter().filter(|key| key.subject == self.from.id && changes_hands(key)) {
            let concerned = under.as_ref().is_none_or(|under| under.contains(&key.leaf));
            if concerned && self.custody.ring.is_live(key.leaf)? {
                old.push(key.leaf);
            }
        }
        Ok(old)
    }

    /// Opens a value that is to be sealed anew.
    pub fn open(&self, token: &Token) -> Result<Value> {
        self.custody.ring.open(&policy::for_upkeep(token.row, Upkeep::Reseal), token)
    }

    /// Seals a value for its owner, under a key for what its old one was for.
    pub async fn seal(
        &mut self,
        tx: &mut dyn Tx,
        token: &mut Token,
        owner: SubjectId,
        value: &Value,
        keys: &mut Vec<SubjectKey>,
        old: &[u32],
    ) -> Result<()> {
        let lost = || Error::internal("a value under a key that nobody knows of");
        let from = keys.iter().find(|key| key.leaf == token.leaf).cloned().ok_or_else(lost)?;
        let fits = |key: &&SubjectKey| {
            key.subject == owner
                && key.serves_as(&from)
                && key.state == KeyState::Active
                && !key.ended
                && !old.contains(&key.leaf)
        };
        let key = if let Some(key) = keys.iter().rfind(fits) {
            key.clone()
        } else {
            let key = self.fresh(tx, &from, owner, keys).await?;
            keys.push(key.clone());
            key
        };
        (token.subject, token.leaf, token.key_version) = (owner, key.leaf, key.version);
        token.sealed = Some(self.custody.ring.seal(&Place::of(token), value)?);
        Ok(())
    }

    /// A key for somebody, for what another one is for.
    async fn fresh(
        &mut self,
        tx: &mut dyn Tx,
        from: &SubjectKey,
        owner: SubjectId,
        keys: &[SubjectKey],
    ) -> Result<SubjectKey> {
        let spares = &mut self.spares.0;
        let at = spares.iter().position(|(class, cohort, _)| *class == from.class && *cohort == from.cohort);
        let (_, _, leaf) = at.map(|at| spares.swap_remove(at)).ok_or_else(changed)?;
        leaves::hold(tx, &[leaf.number()]).await?;
        leaf.spend();
        let versions = keys.iter().filter(|key| key.subject == owner && key.class == from.class);
        let version = versions.map(|key| key.version).max().unwrap_or_default() + 1;
        let key = SubjectKey::active(leaf.number(), owner, from.class.clone(), version, self.now);
        let key = SubjectKey { cohort: from.cohort, part: from.part, ..key };
        tx.insert_subject_keys(std::slice::from_ref(&key)).await?;
        Ok(key)
    }
}

/// Whether what a key is for may change hands. The copies of a legal hold stay as they were found, until it is released.
fn changes_hands(key: &SubjectKey) -> bool {
    key.state != KeyState::Retired && !key.is_held()
}

/// The refusal to go on with what was read before something changed.
pub(super) fn changed() -> Error {
    Error::new(Reason::EtagMismatch, "what is kept of the subject has changed meanwhile; try again")
}

/// Whether the next attempt may go better.
pub(super) const fn is_passing(reason: Reason) -> bool {
    matches!(reason, Reason::EtagMismatch | Reason::KeyRetired)
}
