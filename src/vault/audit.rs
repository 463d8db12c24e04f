//! The audit: who did what to whom, and why, durable before anybody gets an answer.
//!
//! Entries gather into batches; each batch is a Merkle tree (RFC 6962) and names the hash of the batch before it, so
//! that an entry cannot be changed, removed or moved without breaking the chain. An entry holds pseudonyms, codes,
//! counts and times; never a value, nor any text that a caller could have put a value into.

use serde::{Deserialize, Serialize};

use crate::crypto::{derive, merkle};
use crate::keys::checkpoint::hex;
use crate::model::consent::moment;
use crate::model::{Error, Result, SubjectId, Time};
use crate::store::Tx;
use crate::store::audit::Batch;
use crate::store::node::NodeId;

/// One thing that happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub time: String,
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
    /// Why the whole call was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Each token or subject that was touched, with what came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Touched>,
    /// How many tokens the caller named that do not exist.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown: u64,
}

/// One token or subject in an entry.
#[derive(Clone, Debug, Serialize)]
pub struct Touched {
    /// The token's row, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// The subject.
    pub subject: String,
    /// `OK`, the reason of the refusal, `ASKED` for a change that is about to be made, `SAME` for a token that was answered
    /// because it stands for the same value, or `SUPPRESSED` for one whose value is on the suppression list.
    pub outcome: String,
    /// How much was shown, where a policy or the purpose demanded another redaction than was asked for.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub shown: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    node: NodeId,
    seq: u64,
    hash: [u8; 32],
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
        let mut leaves = Vec::new();
        for entry in entries {
            let line = serde_json::to_string(entry).map_err(Error::internal)?;
            leaves.push(merkle::leaf_hash(line.as_bytes()));
            body.push_str(&line);
            body.push('\n');
        }
        let batch = Batch {
            node: self.node,
            seq: self.seq + 1,
            prev_hash: self.hash,
            merkle: merkle::root(&leaves),
            entries: entries.len() as u64,
            body,
            created_at: now,
        };
        tx.insert_audit_batch(&batch).await?;
        Ok(Self { node: self.node, seq: batch.seq, hash: hash(&batch) })
    }
}

/// The hash by which the next batch names this one.
#[must_use]
pub fn hash(batch: &Batch) -> [u8; 32] {
    let (seq, at) = (batch.seq.to_be_bytes(), batch.created_at.micros().to_be_bytes());
    derive::sha256(&[b"lacuna/audit-batch/v1", &batch.node, &seq, &batch.prev_hash, &batch.merkle, &at])
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

/// The reveals that a batch records.
///
/// # Errors
/// `Internal` when an entry makes no sense.
pub fn reveals(batch: &Batch) -> Result<Vec<Reveal>> {
    let mut reveals = Vec::new();
    for line in batch.body.lines() {
        let entry: Told = serde_json::from_str(line).map_err(Error::internal)?;
        for one in entry.touched.iter().filter(|one| entry.deed == "Detokenize" && one.outcome == "OK") {
            let subject = SubjectId::parse(&one.subject)?;
            reveals.push(Reveal { time: entry.time, purpose: entry.purpose.clone(), subject });
        }
    }
    Ok(reveals)
}

/// Walks every node's chain. Answers how many entries they hold.
///
/// # Errors
/// `Internal`, naming the first batch that does not fit.
pub async fn verify(tx: &mut dyn Tx) -> Result<u64> {
    let (mut after, mut head, mut entries) = (None, Head::first(NodeId::default()), 0);
    loop {
        let page = tx.list_audit_batches(after, 100).await?;
        let Some(last) = page.last() else { return Ok(entries) };
        after = Some((last.node, last.seq));
        for batch in &page {
            if batch.node != head.node {
                head = Head::first(batch.node);
            }
            let leaves: Vec<_> = batch.body.lines().map(|line| merkle::leaf_hash(line.as_bytes())).collect();
            let fits = batch.seq == head.seq + 1
                && batch.prev_hash == head.hash
                && batch.merkle == merkle::root(&leaves)
                && batch.entries == leaves.len() as u64;
            if !fits {
                let (node, seq) = (hex(&batch.node), batch.seq);
                return Err(Error::internal(format!("audit batch {seq} of node {node} was altered or moved")));
            }
            entries += batch.entries;
            head = Head { node: batch.node, seq: batch.seq, hash: hash(batch) };
        }
    }
}
