//! New keys for one subject.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Next, Step, Worker, row_after};
use crate::keys::checkpoint::hex;
use crate::keys::{Place, condemn};
use crate::model::{
    Cohort, Error, KeyState, PartId, Reason, Result, Rotation, RotationState, SubjectId, SubjectState, Time, Token,
};
use crate::policy::{self, Upkeep};
use crate::store::Tx;
use crate::store::key::SubjectKey;

/// Values sealed again in one transaction.
const PAGE: u32 = 64;

/// Where the rotation of a subject's keys stands.
#[derive(Serialize, Deserialize)]
pub struct Reseal {
    subject: String,
    moves: Vec<Move>,
    /// The last row that was looked at, in hex.
    after: Option<String>,
    /// Values that did not open.
    damaged: u64,
}

/// From one key to the next.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Move {
    from: u32,
    to: u32,
    version: u32,
}

/// What there is to do for a subject.
pub struct Plan {
    /// The keys that go.
    pub old: Vec<SubjectKey>,
    /// Values to be sealed again.
    pub values: u64,
}

impl Plan {
    fn leaves(&self) -> Vec<u32> {
        self.old.iter().map(|key| key.leaf).collect()
    }
}

impl Reseal {
    /// What the rotation of a subject's keys would do. A key that a rotation which was given up has left retiring goes
    /// with the rest.
    pub async fn plan(tx: &mut dyn Tx, subject: SubjectId) -> Result<Plan> {
        let mut plan = Plan { old: tx.subject_keys(&[subject]).await?, values: 0 };
        // What a legal hold keeps stays as it is.
        plan.old.retain(|key| key.state != KeyState::Retired && key.kept_until.is_none());
        plan.values = tx.count_under(subject, &plan.leaves()).await?;
        Ok(plan)
    }

    /// The first step of a plan. From the commit on, new values are sealed under the new keys only. The subject must be
    /// locked.
    pub async fn begin(tx: &mut dyn Tx, subject: SubjectId, plan: &Plan, now: Time) -> Result<Step> {
        let mut newest: BTreeMap<(&str, Option<Cohort>, Option<PartId>), u32> = BTreeMap::new();
        for key in &plan.old {
            let version = newest.entry((&key.class, key.cohort, key.part)).or_default();
            *version = key.version.max(*version);
        }
        // Nothing is sealed under them before this is committed.
        let first = tx.take_leaves(u32::try_from(newest.len()).map_err(Error::internal)?).await?;
        let fresh: Vec<SubjectKey> = newest
            .into_iter()
            .zip(first..)
            .map(|(((class, cohort, part), version), leaf)| {
                let key = SubjectKey::active(leaf, subject, class.to_owned(), version + 1, now);
                SubjectKey { cohort, part, ..key }
            })
            .collect();
        let made = |old: &SubjectKey| {
            let fresh = fresh.iter().find(|fresh| fresh.serves_as(old))?;
            Some(Move { from: old.leaf, to: fresh.leaf, version: fresh.version })
        };
        let moves = plan.old.iter().filter_map(made).collect();
        tx.put_key_states(&plan.leaves(), KeyState::Retiring).await?;
        tx.insert_subject_keys(&fresh).await?;
        Ok(Step::Reseal(Self { subject: subject.to_string(), moves, after: None, damaged: 0 }))
    }
}

/// Takes a fresh key in place of each that nothing may come under any more: retention has ended it, or its values end in
/// another month than those that are to come. Answers whether it made one: nothing may be sealed under that before the
/// commit, or an undone transaction would leave behind what no erasure reaches (see `keys::leaves`). The subject must be
/// locked.
async fn renew_targets(tx: &mut dyn Tx, moves: &mut [Move], subject: SubjectId, now: Time) -> Result<bool> {
    let mut renewed = false;
    let mut keys = tx.subject_keys(&[subject]).await?;
    let find = |keys: &[SubjectKey], leaf: u32| keys.iter().find(|key| key.leaf == leaf).cloned();
    for made in moves {
        let Some(from) = find(&keys, made.from).filter(|key| !key.ended) else { continue };
        let fits = |to: &SubjectKey| to.state == KeyState::Active && !to.ended && to.cohort == from.cohort;
        if find(&keys, made.to).is_some_and(|to| fits(&to)) {
            continue;
        }
        let newest = keys.iter().filter(|key| key.serves_as(&from)).max_by_key(|key| key.version);
        let fresh = if let Some(key) = newest.filter(|key| fits(key)) {
            key.clone()
        } else {
            let version = newest.map_or(from.version, |key| key.version) + 1;
            let leaf = tx.take_leaves(1).await?;
            let fresh = SubjectKey { leaf, version, created_at: now, state: KeyState::Active, ended: false, ..from };
            tx.insert_subject_keys(std::slice::from_ref(&fresh)).await?;
            keys.push(fresh.clone());
            renewed = true;
            fresh
        };
        (made.to, made.version) = (fresh.leaf, fresh.version);
    }
    Ok(renewed)
}

impl Worker {
    /// Seals the next values again; after the last, condemns the old keys.
    pub(super) async fn reseal(&self, seen: &Rotation, mut step: Reseal) -> Result<()> {
        let subject = SubjectId::parse(&step.subject)?;
        let old: Vec<u32> = step.moves.iter().map(|made| made.from).collect();
        let Some((mut tx, rotation)) = self.lock(seen).await? else { return Ok(()) };
        let state = tx.lock_subjects(&[subject]).await?.first().map(|subject| subject.state);
        if matches!(state, None | Some(SubjectState::Shredding | SubjectState::Shredded)) {
            let detail = "the person was erased meanwhile, and every key of theirs with them".to_owned();
            return self.settle(tx, rotation, Next::End(RotationState::Done, detail)).await;
        }
        if renew_targets(&mut *tx, &mut step.moves, subject, self.clock.now()).await? {
            return self.settle(tx, rotation, Next::Step(Step::Reseal(step), 0)).await;
        }
        let mut page = tx.tokens_under(subject, &old, row_after(step.after.as_deref())?, PAGE).await?;
        let Some(last) = page.last() else { return self.retire(tx, rotation, &step, subject, old).await };
        step.after = Some(hex(last.row.as_bytes()));
        let looked_at = page.len() as u64;
        let mut sealed = Vec::with_capacity(page.len());
        for mut token in page.drain(..) {
            match self.seal_again(&mut token, &step.moves) {
                Ok(()) => sealed.push(token),
                // A restored database has it under a key that was destroyed since: nothing can be done for it.
                Err(error) if error.reason == Reason::KeyRetired => {}
                Err(error) if error.reason == Reason::SealBroken => {
                    tracing::error!(%subject, ?error, "a stored ciphertext does not open");
                    step.damaged += 1;
                }
                Err(error) => return Err(error),
            }
        }
        tx.update_tokens(&sealed).await?;
        self.settle(tx, rotation, Next::Step(Step::Reseal(step), looked_at)).await
    }

    fn seal_again(&self, token: &mut Token, moves: &[Move]) -> Result<()> {
        let value = self.custody.ring.open(&policy::for_upkeep(token.row, Upkeep::Reseal), token)?;
        let lost = || Error::internal("a rotation came upon a key that it is not about");
        let made = moves.iter().find(|made| made.from == token.leaf).ok_or_else(lost)?;
        (token.leaf, token.key_version) = (made.to, made.version);
        token.sealed = Some(self.custody.ring.seal(&Place::of(token), &value)?);
        Ok(())
    }

    /// Condemns the old keys, unless a value is still under one of them that could be read.
    async fn retire(
        &self,
        mut tx: Box<dyn Tx>,
        rotation: Rotation,
        step: &Reseal,
        subject: SubjectId,
        old: Vec<u32>,
    ) -> Result<()> {
        let mut live = Vec::new();
        for leaf in &old {
            if self.custody.ring.is_live(*leaf)? {
                live.push(*leaf);
            }
        }
        let left = tx.count_under(subject, &live).await?;
        if left > 0 {
            let detail = format!(
                "{left} values are still under the old key, {} of which do not open: it stays, and new values are sealed \
                 under the new one",
                step.damaged
            );
            return self.settle(tx, rotation, Next::End(RotationState::Failed, detail)).await;
        }
        condemn(&mut *tx, live).await?;
        tx.put_key_states(&old, KeyState::Retired).await?;
        let renew = Step::Renew { detail: format!("{} values sealed again", rotation.done) };
        self.settle(tx, rotation, Next::Step(renew, 0)).await
    }
}
