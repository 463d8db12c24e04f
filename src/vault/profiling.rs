//! The switch of profiling: off, it destroys what was inferred about the person.
//!
//! Values of the type SCORE are in retention classes of their own, and so under leaves of their own. Switching off takes
//! their ciphertexts out of the rows, and the leaves out of the tree with the next change of the root, which is made
//! at once: then no backup opens them either.

use super::token::Field;
use super::{PATIENCE, Vault, renew_root};
use crate::keys::{Custody, condemn};
use crate::model::{Error, FieldType, HOLDS, KeyState, Label, Reason, Result, Subject, SubjectId};
use crate::policy::{Caller, SCORES};
use crate::store::Tx;
use crate::store::key::Punctured;

/// How often the root is changed for leaves that a run under way may not have known of.
const ATTEMPTS: usize = 3;

/// What became of the switch.
pub struct Switched {
    /// The person.
    pub subject: Subject,
    /// How many scores were destroyed.
    pub destroyed: u64,
    /// What the rest of their destruction waits for; `None` once no copy of them opens.
    pub pending: Option<String>,
}

/// Scores that were taken out of their rows.
#[derive(Default)]
pub(super) struct Purged {
    values: u64,
    /// What they are under, as far as the present root still leads there.
    pub leaves: Vec<u32>,
    /// Whether they were kept, because processing is restricted.
    kept: bool,
}

/// The retention class that a value is kept in: the one that was named or, of a score, one of its own beside that.
///
/// # Errors
/// `ValueInvalid` when another value is to be put beside scores.
pub(super) fn class_of(field: &Field) -> Result<Label> {
    let class = field.class.as_str();
    let among_scores = class.starts_with(SCORES);
    if class.starts_with(HOLDS) {
        return Err(Error::invalid("retention_class", "the classes below hold/ are for legal holds alone"));
    }
    match field.value.kind() {
        FieldType::Score if among_scores => Ok(field.class.clone()),
        FieldType::Score => Ok(Label::stored(format!("{SCORES}{class}"))),
        _ if among_scores => {
            Err(Error::invalid("retention_class", "the classes below score/ are for values of the type SCORE alone"))
        }
        _ => Ok(field.class.clone()),
    }
}

impl Vault {
    /// Switches profiling on or off. Off, the scores of the person are gone when this returns, from every backup too, unless
    /// the answer says what that waits for. Asking again goes on with it.
    pub async fn set_profiling(
        &self,
        caller: &Caller,
        id: SubjectId,
        enabled: bool,
        etag: Option<u64>,
    ) -> Result<Switched> {
        let switched = self.change(caller, "SetProfiling", id, etag, |subject| subject.set_profiling(enabled)).await?;
        let (subject, Purged { values, leaves, kept }) = switched;
        let pending = if kept {
            Some(
                "processing is restricted (Art. 18 GDPR): the scores are kept, unread, until that is lifted".to_owned(),
            )
        } else {
            self.finish_purge(&leaves).await.err().map(|error| why(&error))
        };
        Ok(Switched { subject, destroyed: values, pending })
    }

    /// Changes the root until it does not lead to leaves any more. Should that have to wait, upkeep goes on with it.
    pub(super) async fn finish_purge(&self, leaves: &[u32]) -> Result<()> {
        let Err(error) = self.destroy(leaves).await else { return Ok(()) };
        tracing::warn!(%error, "scores wait for a change of the root to be gone from backups");
        let mut tx = self.custody.store().write().await?;
        want_root(&mut *tx).await?;
        tx.commit().await?;
        Err(error)
    }

    async fn destroy(&self, leaves: &[u32]) -> Result<()> {
        let slow = || Error::new(Reason::KeyCustodianUnavailable, "it takes longer than usual and goes on; ask again");
        let change = async {
            for _ in 0..ATTEMPTS {
                if self.are_gone(leaves).await? {
                    return Ok(());
                }
                renew_root(&self.shreds).await?;
            }
            if self.are_gone(leaves).await? { Ok(()) } else { Err(slow()) }
        };
        tokio::time::timeout(PATIENCE, change).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn are_gone(&self, leaves: &[u32]) -> Result<bool> {
        if leaves.is_empty() {
            return Ok(true);
        }
        let waiting = waiting(&mut *self.custody.store().read().await?).await?;
        Ok(!leaves.iter().any(|leaf| is_among(*leaf, &waiting)))
    }

    /// Changes the root if somebody waits for that: somebody who may be gone.
    pub(super) async fn renew_if_wanted(&self) -> Result<()> {
        let pulse = self.custody.store().read().await?.pulse().await?.unwrap_or_default();
        if pulse.wanted > pulse.epoch {
            renew_root(&self.shreds).await?;
        }
        Ok(())
    }
}

/// Takes the scores of a person out of their rows, when that person is not to be profiled, and condemns what they are
/// under. While processing is restricted they stay, as everything does. The person must be locked.
pub(super) async fn purge_scores(custody: &Custody, tx: &mut dyn Tx, person: &Subject) -> Result<Purged> {
    if person.profiling {
        return Ok(Purged::default());
    }
    let mut keys = tx.subject_keys(&[person.id]).await?;
    keys.retain(|key| key.class.starts_with(SCORES));
    // What this process has no key of any more may still be under a root that the slot has: of a run that was
    // interrupted, or that is under way.
    let waiting = waiting(tx).await?;
    let mut leaves = Vec::new();
    for leaf in keys.iter().map(|key| key.leaf) {
        if custody.ring.is_live(leaf)? || is_among(leaf, &waiting) {
            leaves.push(leaf);
        }
    }
    if person.restriction.is_some() {
        return Ok(Purged { kept: !leaves.is_empty(), ..Purged::default() });
    }
    let fresh = keys.iter().filter(|key| key.state != KeyState::Retired && leaves.contains(&key.leaf));
    let fresh: Vec<u32> = fresh.map(|key| key.leaf).collect();
    // Should this process end before it has changed the root itself. Where there are several, whoever leads them may
    // change it at once, and this one again.
    if !leaves.is_empty() {
        want_root(tx).await?;
    }
    if !fresh.is_empty() {
        condemn(tx, fresh.clone()).await?;
        tx.put_key_states(&fresh, KeyState::Retired).await?;
    }
    let values = tx.delete_values_of(person.id, FieldType::Score).await?;
    Ok(Purged { values, leaves, kept: false })
}

/// Leaves that are to go and that the root leads to as far as anybody knows.
async fn waiting(tx: &mut dyn Tx) -> Result<Vec<Punctured>> {
    let epoch = tx.tree_head().await?.map_or(0, |head| head.epoch);
    tx.punctured_after(epoch).await
}

fn is_among(leaf: u32, ranges: &[Punctured]) -> bool {
    ranges.iter().any(|range| (range.first..=range.last).contains(&leaf))
}

/// Asks for another root than the present one, of whoever changes it next.
pub(super) async fn want_root(tx: &mut dyn Tx) -> Result<()> {
    let epoch = tx.tree_head().await?.map_or(0, |head| head.epoch);
    tx.want_epoch(epoch + 1).await
}

/// What the destruction waits for, in words that anybody may read.
pub(super) fn why(error: &Error) -> String {
    match error.reason {
        Reason::KeyCustodianUnavailable | Reason::StoreUnavailable => error.message.clone().into_owned(),
        _ => "a fault of the vault; the operator's log has the details".to_owned(),
    }
}
