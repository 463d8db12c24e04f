//! Proofs that an entry is in the log that a signed checkpoint stands for, which anybody can check offline.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, unflatten};
use super::list::EntryId;
use super::walk::leaf;
use super::{hash, hash_of};
use crate::crypto::merkle::{self, Frontier};
use crate::keys::checkpoint::{hex, unhex};
use crate::model::{Error, Reason, Result, Time};
use crate::store::Tx;
use crate::store::audit::{Link, MarkKind};
use crate::store::node::NodeId;
use crate::vault::Vault;

/// How many links are read at once.
const PAGE: u32 = 1000;

/// The format of a proof.
const VERSION: u32 = 1;

/// A proof. Two ways up: from the entry to the root of its batch, and from the batch to the root of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The format.
    pub version: u32,
    /// Whose chain, in hexadecimal.
    pub node: String,
    /// Which batch.
    pub batch: u64,
    /// The hash of the batch before, base64.
    pub prev_hash: String,
    /// When the batch was written, in microseconds since 1970.
    pub created_at: i64,
    /// How many entries it has.
    pub entries: u64,
    /// Which of them is meant, from 1.
    pub entry: u64,
    /// The entry, byte for byte.
    pub line: String,
    /// What lies beside the way from the entry to the root of its batch, base64.
    pub entry_path: Vec<String>,
    /// What lies beside the way from the batch to the root of the log, base64.
    pub batch_path: Vec<String>,
    /// The signed note.
    pub checkpoint: String,
}

/// What a proof that holds proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Where the entry is.
    pub id: EntryId,
    /// The entry.
    pub line: String,
}

/// Checks a proof against the keys of a vault.
///
/// # Errors
/// `ValueInvalid`, saying what does not hold.
pub fn check(proof: &[u8], keys: &[Vec<u8>]) -> Result<Proven> {
    let refuse = |what: &'static str| Error::invalid("proof", what);
    let proof: Proof = serde_json::from_slice(proof).map_err(|_| refuse("is not a proof of an audit entry"))?;
    if proof.version != VERSION {
        return Err(refuse("its format is not known here"));
    }
    let checkpoint = Checkpoint::open(&proof.checkpoint, keys)
        .ok_or_else(|| refuse("its checkpoint is not signed by one of the expected keys"))?;
    let node = unhex(&proof.node).filter(|node| *node == checkpoint.node && !checkpoint.cut);
    let node = node.ok_or_else(|| refuse("its checkpoint is of another chain"))?;
    let (entry_path, batch_path) = (hashes(&proof.entry_path), hashes(&proof.batch_path));
    let (Some(entry_path), Some(batch_path)) = (entry_path, batch_path) else {
        return Err(refuse("its paths are no hashes"));
    };
    let prev_hash = one(&proof.prev_hash).ok_or_else(|| refuse("the hash of the batch before is no hash"))?;
    let of_entry = merkle::leaf_hash(proof.line.as_bytes());
    let merkle = merkle::follow(of_entry, proof.entry.wrapping_sub(1), proof.entries, &entry_path);
    let merkle = merkle.ok_or_else(|| refuse("the way from the entry to its batch has another length"))?;
    let (seq, entries, created_at) = (proof.batch, proof.entries, Time::from_micros(proof.created_at));
    let link = Link { seq, prev_hash, merkle, entries, created_at };
    let of_batch = leaf(&hash_of(&node, &link));
    let root = merkle::follow(of_batch, proof.batch.wrapping_sub(1), checkpoint.size, &batch_path);
    if root != Some(checkpoint.root) {
        return Err(refuse("the entry, its batch and its checkpoint do not belong together"));
    }
    let id = EntryId { node, batch: proof.batch, entry: proof.entry };
    Ok(Proven { checkpoint, id, line: proof.line })
}

/// Proves that an entry is in the log of a checkpoint.
///
/// # Errors
/// `ValueInvalid` for an entry that is not there, or not covered by the checkpoint.
pub async fn prove(tx: &mut dyn Tx, id: EntryId, checkpoint: &Checkpoint, note: &str) -> Result<Proof> {
    let unknown = || Error::invalid("entry", "is not in the log, or came after its newest checkpoint");
    let batch = tx.audit_batches_before(&id.node, id.batch.saturating_add(1), 1).await?.pop();
    let batch = batch.filter(|batch| batch.seq == id.batch && id.batch <= checkpoint.size).ok_or_else(unknown)?;
    let lines: Vec<&str> = batch.body.lines().collect();
    let at = usize::try_from(id.entry).ok().and_then(|entry| entry.checked_sub(1)).ok_or_else(unknown)?;
    let line = lines.get(at).ok_or_else(unknown)?;
    let entries: Vec<_> = lines.iter().map(|line| merkle::leaf_hash(line.as_bytes())).collect();
    let entry_path = merkle::prove(&Frontier::default(), &entries, at as u64).ok_or_else(unknown)?;
    let (frontier, leaves) = leaves(tx, id.node, checkpoint.size).await?;
    let batch_path = merkle::prove(&frontier, &leaves, id.batch - 1).ok_or_else(unknown)?;
    let of_batch = leaf(&hash(&batch));
    if merkle::follow(of_batch, id.batch - 1, checkpoint.size, &batch_path) != Some(checkpoint.root) {
        let message = "the log is not the one that the checkpoint stands for: run `lacuna audit verify`";
        return Err(Error::new(Reason::Internal, message));
    }
    let encode = |path: Vec<[u8; 32]>| path.iter().map(|hash| BASE64.encode(hash)).collect();
    Ok(Proof {
        version: VERSION,
        node: hex(&id.node),
        batch: id.batch,
        prev_hash: BASE64.encode(&batch.prev_hash),
        created_at: batch.created_at.micros(),
        entries: entries.len() as u64,
        entry: id.entry,
        line: (*line).to_owned(),
        entry_path: encode(entry_path),
        batch_path: encode(batch_path),
        checkpoint: note.to_owned(),
    })
}

/// The leaves of the log of a chain up to a size, after what was cut off.
async fn leaves(tx: &mut dyn Tx, node: NodeId, size: u64) -> Result<(Frontier, Vec<[u8; 32]>)> {
    let cuts = tx.audit_marks(MarkKind::Cut).await?;
    let cut = cuts.iter().find(|cut| cut.node == node).and_then(|cut| unflatten(cut.size, &cut.frontier));
    let (frontier, mut leaves) = (cut.unwrap_or_default(), Vec::new());
    loop {
        let links = tx.audit_links(&node, frontier.size() + leaves.len() as u64, PAGE).await?;
        if links.is_empty() {
            return Ok((frontier, leaves));
        }
        for link in links.iter().filter(|link| link.seq <= size) {
            if link.seq != frontier.size() + leaves.len() as u64 + 1 {
                let message =
                    "the log was cut off in this moment, or lacks a batch: try again, or run `lacuna audit verify`";
                return Err(Error::new(Reason::StoreUnavailable, message));
            }
            leaves.push(leaf(&hash_of(&node, link)));
        }
        if links.last().is_some_and(|link| link.seq >= size) {
            return Ok((frontier, leaves));
        }
    }
}

fn hashes(path: &[String]) -> Option<Vec<[u8; 32]>> {
    path.iter().map(|text| one(text)).collect()
}

fn one(text: &str) -> Option<[u8; 32]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl Vault {
    /// Proves that an entry is in the log, by a checkpoint that is signed for it if need be.
    ///
    /// # Errors
    /// `ValueInvalid` for an entry that is not there.
    pub async fn prove_audit_entry(&self, id: EntryId) -> Result<Vec<u8>> {
        // What another chain has to be blamed for stands in nobody's way.
        let signed = self.checkpoint_audit().await?;
        let broken =
            signed.failed.into_iter().find(|(node, error)| *node == id.node && error.reason == Reason::Internal);
        if let Some((_, error)) = broken {
            return Err(error);
        }
        let _one_reader = self.audit().readers.acquire().await.map_err(Error::internal)?;
        let newest = self.audit_checkpoints(Some(id.node)).await?.pop();
        let (checkpoint, note) = newest.ok_or_else(|| Error::invalid("entry", "is not in the log"))?;
        let proof = prove(&mut *self.custody.store().read().await?, id, &checkpoint, &note).await?;
        serde_json::to_vec_pretty(&proof).map_err(Error::internal)
    }
}
