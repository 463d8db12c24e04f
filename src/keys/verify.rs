//! Looking whether an erasure holds, in everything that can be looked at from here: the root slot as it is now, the
//! database, the copies of the keys, and the receipt. It trusts no row that says so.

use std::collections::{HashMap, HashSet};

use super::custody::Custody;
use super::index;
use super::receipt;
use super::status::{self, Copy};
use super::tree::{PageId, Tree};
use crate::model::{Erasure, ErasureState, Error, PlanItem, Reason, Result, SubjectId, TokenRow};
use crate::store::index::Generation;
use crate::store::key::SubjectKey;

/// Buckets of the index looked through at once.
const BUCKETS: usize = 256;

/// Tokens of a subject read at once.
const TOKENS: u32 = 1000;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// Whether it is as it must be.
    pub passed: bool,
    /// What was found, in words.
    pub detail: String,
}

impl Finding {
    fn new(check: &'static str, passed: bool, detail: impl Into<String>) -> Self {
        Self { check, passed, detail: detail.into() }
    }
}

impl Custody {
    /// Looks at everything that an erasure is to have changed.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` or `StoreUnavailable` when something cannot be looked at.
    pub async fn verify_erasure(&self, erasure: &Erasure) -> Result<Vec<Finding>> {
        let done = erasure.state == ErasureState::Shredded;
        let state = match (done, &erasure.pending_reason) {
            (true, _) => "the erasure is complete".to_owned(),
            (false, Some(why)) => format!("the erasure is not complete; it waits: {why}"),
            (false, None) => "the erasure is not complete".to_owned(),
        };
        Ok(vec![
            Finding::new("state", done, state),
            self.verify_keys(erasure).await?,
            self.verify_ciphertexts(erasure).await?,
            self.verify_index(erasure.subject).await?,
            self.verify_copies(erasure).await?,
            self.verify_receipt(erasure),
        ])
    }

    /// The keys follow from nothing that the root slot opens at this moment.
    async fn verify_keys(&self, erasure: &Erasure) -> Result<Finding> {
        let subject = erasure.subject;
        let empty = || Error::new(Reason::KeyCustodianUnavailable, "the root slot is empty");
        let content = self.parts.slot.load().await?.ok_or_else(empty)?;
        let mut tx = self.store().read().await?;
        let (keys, pages) = (tx.subject_keys(&[subject]).await?, tx.key_pages().await?);
        drop(tx);
        let by_id: HashMap<PageId, &[u8]> = pages.iter().map(|page| (page.id, page.blob.as_slice())).collect();
        let tree = Tree::load(content.tree, &content.current.key, |id| by_id.get(&id).copied()).map_err(|error| {
            let message = "the key state in the database does not open under the slot's root; try again";
            Error::new(Reason::KeyCustodianUnavailable, message).because(error)
        })?;
        let kept = kept(erasure, &keys);
        let live = keys.iter().filter(|key| tree.is_live(key.leaf) && !kept.contains(&key.leaf)).count();
        let detail = match (keys.len(), live) {
            (count, 0) if !kept.is_empty() => {
                format!("of the subject's {count} keys only {} outlast the erasure, as its receipt tells", kept.len())
            }
            (count, 0) => format!(
                "none of the subject's {count} keys follows from the root key of epoch {}",
                content.current.epoch
            ),
            (count, live) => format!("{live} of the subject's {count} keys still follow from the root key"),
        };
        Ok(Finding::new("keys", live == 0, detail))
    }

    async fn verify_ciphertexts(&self, erasure: &Erasure) -> Result<Finding> {
        let mut tx = self.store().read().await?;
        let kept = kept(erasure, &tx.subject_keys(&[erasure.subject]).await?);
        let mut left = tx.sealed_tokens(&[erasure.subject]).await?;
        left.extend(tx.held_of(&[erasure.subject]).await?);
        drop(tx);
        let all = left.len();
        left.retain(|token| !kept.contains(&token.leaf));
        let left = left.len();
        let detail = match left {
            0 if all > 0 => format!("the database holds {all} ciphertexts, all of what outlasts the erasure"),
            0 => "the database holds no ciphertext of the subject".to_owned(),
            left => format!("the database still holds {left} ciphertexts of the subject"),
        };
        Ok(Finding::new("ciphertexts", left == 0, detail))
    }

    /// No bucket of the index lists a token of the subject, and every bucket could be looked into.
    async fn verify_index(&self, subject: SubjectId) -> Result<Finding> {
        let rows = self.rows_of(subject).await?;
        let mut tx = self.store().read().await?;
        let numbers: Vec<u32> = tx.generations().await?.iter().flat_map(Generation::numbers).collect();
        let mut listed = 0;
        for some in numbers.chunks(BUCKETS) {
            match index::listed(&self.ring, &mut *tx, some).await? {
                Some(found) => listed += found.iter().filter(|row| rows.contains(row)).count(),
                None => {
                    return Ok(Finding::new("index", false, "a part of the search index cannot be opened; try again"));
                }
            }
        }
        let detail = match listed {
            0 => format!("none of the {} buckets of the search index lists a token of the subject", numbers.len()),
            listed => format!("the search index lists {listed} tokens of the subject"),
        };
        Ok(Finding::new("index", listed == 0, detail))
    }

    async fn rows_of(&self, subject: SubjectId) -> Result<HashSet<TokenRow>> {
        let (mut tx, mut rows, mut after) = (self.store().read().await?, HashSet::new(), None);
        loop {
            let page = tx.list_tokens(subject, after, TOKENS).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = Some(last.token.row);
            rows.extend(page.iter().map(|facts| facts.token.row));
        }
    }

    /// Every copy of the root slot, and every sink, stands at the erasure's epoch or later.
    async fn verify_copies(&self, erasure: &Erasure) -> Result<Finding> {
        let copies = status::ask_briefly(self.store(), self.slot(), self.sinks()).await?;
        let Some(epoch) = erasure.epoch.filter(|_| erasure.state == ErasureState::Shredded) else {
            return Ok(Finding::new("copies", false, "the erasure has no epoch yet"));
        };
        let all = copies.copies.iter().chain(&copies.sinks);
        let behind: Vec<String> = all.clone().filter(|copy| copy.epoch.is_none_or(|at| at < epoch)).map(tell).collect();
        let detail = if behind.is_empty() {
            format!("all {} copies and sinks stand at epoch {epoch} or later", all.count())
        } else {
            format!("not at epoch {epoch} yet: {}", behind.join(", "))
        };
        Ok(Finding::new("copies", behind.is_empty(), detail))
    }

    fn verify_receipt(&self, erasure: &Erasure) -> Finding {
        let Some(receipt) = &erasure.receipt else { return Finding::new("receipt", false, "there is no receipt") };
        let keys = self.signing_public_keys().unwrap_or_default();
        let keys: Vec<Vec<u8>> =
            keys.iter().filter_map(|key| data_encoding::BASE64.decode(key.as_bytes()).ok()).collect();
        let Ok(verified) = receipt::verify(receipt, Some(&keys)) else {
            return Finding::new("receipt", false, "no key of this vault has signed the receipt as it is");
        };
        let statement = verified.statement;
        let about = statement.erasure == erasure.id.to_string() && statement.subject == erasure.subject.to_string();
        let passed = about && Some(statement.epoch) == erasure.epoch;
        let detail = if passed {
            format!("the receipt is signed by {} and is about this erasure", statement.public_key)
        } else {
            "the receipt is about another erasure".to_owned()
        };
        Finding::new("receipt", passed, detail)
    }
}

/// The leaves of keys that outlast an erasure, as far as its receipt tells of them. Whether that is genuine is another question.
fn kept(erasure: &Erasure, keys: &[SubjectKey]) -> HashSet<u32> {
    let told = erasure.receipt.as_ref().and_then(|receipt| receipt::verify(receipt, None).ok());
    let plan = told.map(|told| told.statement.plan).unwrap_or_default();
    let is_told = |key: &&SubjectKey| {
        key.kept_until.zip(key.cohort).is_some_and(|(until, cohort)| {
            plan.iter().any(|item| *item == PlanItem::kept(&key.class, cohort, until, item.count))
        })
    };
    keys.iter().filter(is_told).map(|key| key.leaf).collect()
}

fn tell(copy: &Copy) -> String {
    match (copy.epoch, &copy.trouble) {
        (Some(epoch), _) => format!("{} (epoch {epoch})", copy.place),
        (None, trouble) => format!("{} ({})", copy.place, trouble.as_deref().unwrap_or("unknown")),
    }
}
