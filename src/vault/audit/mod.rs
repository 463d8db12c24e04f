//! The audit: who did what to whom, and why, durable before anybody gets an answer.
//!
//! Entries gather into batches; each batch is a Merkle tree (RFC 6962) and names the hash of the batch before it, so
//! that an entry cannot be changed, removed or moved without breaking the chain. An entry holds pseudonyms, codes,
//! counts and times; never a value, nor any text that a caller could have put a value into.

pub mod affected;
pub mod call;
pub mod checkpoint;
mod cut;
pub mod keeper;
pub mod list;
pub mod outcome;
pub mod outside;
mod place;
pub mod proof;
pub mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::crypto::{derive, merkle};
use crate::keys::checkpoint::hex;
use crate::model::consent::moment;
use crate::model::{Error, Facts, Jurisdiction, Result, Subject, SubjectId, Time, Token};
use crate::store::Tx;
use crate::store::audit::{Batch, Link};
use crate::store::node::NodeId;
use crate::trace;

/// What a token is tagged with whose value is of a special category (Art. 9 GDPR); alone, or followed by a colon and more.
pub const SPECIAL: &str = "special_category";

/// One thing that happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub time: String,
    /// The call, by the id that was told to the caller.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// Who.
    pub caller: String,
    /// What: the rpc.
    pub deed: &'static str,
    /// For what purpose.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// How much was shown.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub redaction: &'static str,
    /// A ticket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub justification: String,
    /// The request for approval that it is about, or that let it through.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub approval: String,
    /// Why the whole call was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Each token or subject that was touched, with what came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Touched<'static>>,
    /// How many tokens the caller named that do not exist.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown: u64,
    /// What was decided about the recording of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Decided>,
}

/// A decision about the recording of a call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Decided {
    /// The answer.
    pub decision: &'static str,
    /// The answer for each purpose.
    pub purposes: BTreeMap<String, &'static str>,
    /// The purpose of a voice print with its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub biometrics: Option<(String, &'static str)>,
    /// The queue.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// Whose law was the strictest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jurisdiction: String,
    /// How many took part, also of whom nobody knows who they are.
    pub parties: u64,
}

impl Entry {
    /// What is the same in every entry.
    #[must_use]
    pub fn new(caller: &str, deed: &'static str, now: Time) -> Self {
        Self { time: now.to_string(), request: trace::request(), caller: caller.to_owned(), deed, ..Self::default() }
    }
}

/// One token or subject in an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched<'t> {
    /// The token's row, in hex.
    #[serde(default, borrow, skip_serializing_if = "str::is_empty")]
    pub row: Cow<'t, str>,
    /// The subject.
    #[serde(borrow)]
    pub subject: Cow<'t, str>,
    /// What kind of value it is.
    #[serde(default, borrow, rename = "type", skip_serializing_if = "str::is_empty")]
    pub kind: Cow<'t, str>,
    /// Under whose law the subject is.
    #[serde(default, borrow, skip_serializing_if = "str::is_empty")]
    pub jurisdiction: Cow<'t, str>,
    /// Whether the value is of a special category (Art. 9 GDPR).
    #[serde(default, skip_serializing_if = "is_false")]
    pub special: bool,
    /// One of [`outcome`], or the reason of the refusal.
    #[serde(borrow)]
    pub outcome: Cow<'t, str>,
    /// How much was shown, where a policy or the purpose demanded another redaction than was asked for.
    #[serde(default, borrow, skip_serializing_if = "str::is_empty")]
    pub shown: Cow<'t, str>,
    /// How many values were kept, where they are not told one by one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
}

impl Touched<'static> {
    /// Somebody.
    #[must_use]
    pub fn subject(id: SubjectId, jurisdiction: Option<&Jurisdiction>, outcome: &'static str) -> Self {
        let jurisdiction = jurisdiction.map(|known| known.as_str().to_owned()).unwrap_or_default();
        Self {
            subject: id.to_string().into(),
            jurisdiction: jurisdiction.into(),
            outcome: outcome.into(),
            ..Self::default()
        }
    }

    /// Somebody who is described to the caller.
    #[must_use]
    pub fn described(subject: &Subject) -> Self {
        Self::subject(subject.id, subject.jurisdiction.as_ref(), outcome::OK)
    }

    /// A token.
    #[must_use]
    pub fn token(token: &Token, outcome: impl Into<Cow<'static, str>>) -> Self {
        Self {
            row: hex(token.row.as_bytes()).into(),
            subject: token.subject.to_string().into(),
            kind: token.kind.name().into(),
            special: is_special(token),
            outcome: outcome.into(),
            ..Self::default()
        }
    }

    /// A token of somebody.
    #[must_use]
    pub fn facts(facts: &Facts, outcome: impl Into<Cow<'static, str>>) -> Self {
        let jurisdiction = facts.jurisdiction.as_ref().map(|known| known.as_str().to_owned()).unwrap_or_default();
        Self { jurisdiction: jurisdiction.into(), ..Self::token(&facts.token, outcome) }
    }
}

/// Whether the value behind a token is of a special category (Art. 9 GDPR).
#[must_use]
pub fn is_special(token: &Token) -> bool {
    let special = |tag: &String| tag.strip_prefix(SPECIAL).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    token.tags.iter().any(special)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    node: NodeId,
    /// How many batches there are.
    pub seq: u64,
    /// The hash of the newest.
    pub hash: [u8; 32],
}

impl Head {
    /// Where a chain begins.
    const fn first(node: NodeId) -> Self {
        Self { node, seq: 0, hash: [0; 32] }
    }

    /// Where the chain of a node stands in the database.
    pub async fn read(tx: &mut dyn Tx, node: NodeId) -> Result<Self> {
        let newest = tx.audit_head(&node).await?;
        Ok(newest.map_or(Self::first(node), |batch| Self { node, seq: batch.seq, hash: hash(&batch) }))
    }

    /// Appends entries within a transaction and answers where the chain stands once that is committed.
    pub async fn append(self, tx: &mut dyn Tx, entries: &[&Entry], now: Time) -> Result<Self> {
        let mut body = String::new();
        let (mut leaves, mut marks) = (Vec::new(), Vec::new());
        for entry in entries {
            let line = serde_json::to_string(entry).map_err(Error::internal)?;
            let leaf = merkle::leaf_hash(line.as_bytes());
            marks.extend(mark(&leaf));
            leaves.push(leaf);
            body.push_str(&line);
            body.push('\n');
        }
        let batch = Batch {
            node: self.node,
            seq: self.seq + 1,
            prev_hash: self.hash,
            merkle: merkle::root(&leaves),
            entries: entries.len() as u64,
            marks,
            body,
            created_at: now,
        };
        tx.insert_audit_batch(&batch).await?;
        Ok(Self { node: self.node, seq: batch.seq, hash: hash(&batch) })
    }
}

/// What is kept of the hash of an entry, to tell which one of its batch was altered.
fn mark(leaf: &[u8; 32]) -> [u8; 8] {
    leaf.first_chunk().copied().unwrap_or_default()
}

/// The hash by which the next batch names this one.
#[must_use]
pub fn hash(batch: &Batch) -> [u8; 32] {
    hash_of(&batch.node, &batch.link())
}

/// The same by what the chain is made of.
#[must_use]
pub fn hash_of(node: &NodeId, link: &Link) -> [u8; 32] {
    let (seq, entries) = (link.seq.to_be_bytes(), link.entries.to_be_bytes());
    let at = link.created_at.micros().to_be_bytes();
    derive::sha256(&[b"lacuna/audit-batch/v1", node, &seq, &link.prev_hash, &link.merkle, &entries, &at])
}

/// A value that was given to a caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Reveal {
    /// When.
    pub time: Time,
    /// For what.
    pub purpose: String,
    /// Whose it is.
    pub subject: SubjectId,
}

/// What of an entry tells of reveals.
#[derive(Deserialize)]
struct Told {
    #[serde(with = "moment")]
    time: Time,
    deed: String,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    touched: Vec<ToldOf>,
}

#[derive(Deserialize)]
struct ToldOf {
    subject: String,
    outcome: String,
}

/// The rpcs that show values.
const SHOWING: [&str; 3] = ["Detokenize", "GetMediaKey", "LookupByCaller"];

/// The reveals that a batch records.
///
/// # Errors
/// `Internal` when an entry makes no sense.
pub fn reveals(batch: &Batch) -> Result<Vec<Reveal>> {
    let mut reveals = Vec::new();
    for line in batch.body.lines() {
        let entry: Told = serde_json::from_str(line).map_err(Error::internal)?;
        let shows = SHOWING.contains(&entry.deed.as_str());
        for one in entry.touched.iter().filter(|one| shows && one.outcome == outcome::OK) {
            let subject = SubjectId::parse(&one.subject)?;
            reveals.push(Reveal { time: entry.time, purpose: entry.purpose.clone(), subject });
        }
    }
    Ok(reveals)
}
