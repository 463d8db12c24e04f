//! Keeping the audit: the chain that this process writes, and checkpoints of every chain.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};

use super::checkpoint::{Checkpoint, flatten, read_mark};
use super::outside::Outside;
use super::walk::{Verified, Witness, leaf, verify};
use super::{Entry, Head, hash, hash_of};
use crate::crash;
use crate::crypto::merkle::Frontier;
use crate::keys::Custody;
use crate::keys::checkpoint::hex;
use crate::keys::receipt;
use crate::keys::sink::CheckpointSink;
use crate::model::{Error, Reason, Result};
use crate::store::audit::{Link, Mark, MarkKind};
use crate::store::node::NodeId;
use crate::vault::Vault;
use crate::vault::write::Record;

/// How many links of a chain are read at once.
const PAGE: u32 = 1000;

/// How many may read much of the log at once.
const READERS: usize = 2;

/// Who does what the vault does by itself.
pub const VAULT: &str = "lacuna";

/// How the audit is kept.
#[derive(Clone)]
pub struct Settings {
    /// Where checkpoints go, outside the database.
    pub places: Vec<Arc<dyn CheckpointSink>>,
    /// How often one is signed, if anything has happened.
    pub every: Duration,
    /// How long entries are kept; for ever when not said.
    pub keep: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { places: Vec::new(), every: Duration::from_mins(1), keep: None }
    }
}

/// What keeps the audit.
pub struct Keeper {
    pub(super) outside: Outside,
    pub(super) settings: Settings,
    /// The chain that this process writes.
    chain: NodeId,
    /// How far each chain is known, for one at a time.
    pub(super) known: Mutex<HashMap<NodeId, Known>>,
    /// Whether the chains that the places know of were looked for in the database.
    compared: AtomicBool,
    /// Of those who read much of the log at once there are few: the connections are for whoever reveals.
    pub(super) readers: Semaphore,
    /// Whether the last entry could not be made durable.
    failing: AtomicBool,
}

/// What came of signing how far the chains have come.
#[derive(Debug, Default)]
pub struct Signed {
    /// How many checkpoints were signed.
    pub fresh: usize,
    /// The chains of which none could be, with the reason: `Internal` when the chain does not go on from its last
    /// checkpoint, for nothing is signed that would hide it; `KeyCustodianUnavailable` when no place answers.
    pub failed: Vec<(NodeId, Error)>,
}

/// How far a chain is known.
#[derive(Clone, Default)]
pub(super) struct Known {
    frontier: Frontier,
    head: [u8; 32],
    /// The newest checkpoint, and whether every place has it.
    signed: Option<(Checkpoint, String)>,
    kept: bool,
}

impl Keeper {
    /// Finds out which chain to go on with. In a database that was restored the former one would be written anew where
    /// checkpoints know of other batches: then it stays as it is, and a new one begins.
    pub async fn start(custody: &Custody, settings: Settings) -> Result<Self> {
        let outside = Outside::new(settings.places.clone());
        let (keys, mut chain) = (public_keys(custody)?, custody.node());
        let mut tx = custody.store().read().await?;
        let head = Head::read(&mut *tx, chain).await?;
        let new = head.seq == 0 && tx.audit_marks(MarkKind::Checkpoint).await?.is_empty();
        if new && let Err(error) = outside.make().await {
            tracing::warn!(%error, "a place for checkpoints of the audit cannot be made");
        }
        let known = outside.newest(&keys, &custody.vault(), &chain).await;
        for trouble in known.troubles {
            tracing::warn!(trouble, "checkpoints of the audit cannot be read");
        }
        let cuts = tx.audit_marks(MarkKind::Cut).await?;
        let cut = of(&cuts, &chain).and_then(|cut| read_mark(cut, &custody.vault(), &keys));
        let cut = cut.map_or(0, |(signed, _)| signed.size);
        let mut ahead = None;
        for checkpoint in known.checkpoints.into_iter().filter(|checkpoint| checkpoint.size > cut) {
            let at = tx.audit_batches_before(&chain, checkpoint.size.saturating_add(1), 1).await?.pop();
            let there = at.filter(|batch| batch.seq == checkpoint.size).map(|batch| hash(&batch));
            if there != Some(checkpoint.head) {
                ahead = Some(checkpoint);
            }
        }
        if let Some(ahead) = ahead {
            let (has, lost) = (head.seq, ahead.size);
            tracing::error!(
                node = hex(&chain),
                has,
                lost,
                "the database lacks audit entries that a checkpoint knows of: it is an older copy, \
                 or the end of its log was cut off. A new chain begins; see lacuna audit verify"
            );
            custody.ring.random().fill(&mut chain);
        }
        let (known, compared, failing) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { outside, settings, chain, known, compared, readers: Semaphore::new(READERS), failing })
    }

    /// The chain that this process writes.
    #[must_use]
    pub const fn chain(&self) -> NodeId {
        self.chain
    }

    /// How often a checkpoint is signed.
    #[must_use]
    pub const fn every(&self) -> Duration {
        self.settings.every
    }

    /// Notes whether an entry could be made durable.
    pub fn note(&self, durable: bool) {
        self.failing.store(!durable, Ordering::Release);
    }
}

/// The public keys of the vault, the newest first.
pub fn public_keys(custody: &Custody) -> Result<Vec<Vec<u8>>> {
    receipt::public_keys(&custody.signing_public_keys()?.join("\n"))
}

impl Vault {
    /// Whether what is answered can be put on record. After a failure this tries, and leaves an entry when it succeeds.
    pub(in crate::vault) async fn check_audit(&self) -> Result<()> {
        if !self.audit.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let entry = Entry::new(VAULT, "ResumeAudit", self.clock.now());
        self.record(Record::of(entry)).await.map(drop)
    }

    /// How the audit is kept.
    #[must_use]
    pub const fn audit(&self) -> &Keeper {
        &self.audit
    }

    /// Signs how far the chains have come, each that has come further since, and keeps that outside. The node that leads
    /// sees to every chain, the others to their own.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn checkpoint_audit(&self) -> Result<Signed> {
        let mut known = self.audit.known.lock().await;
        let keys = public_keys(&self.custody)?;
        let (mut nodes, mut signed) = (BTreeSet::from([self.audit.chain]), Signed::default());
        let (cuts, checkpoints) = {
            let mut tx = self.custody.store().read().await?;
            if self.custody.leads() {
                nodes.extend(tx.audit_nodes().await?);
            }
            (tx.audit_marks(MarkKind::Cut).await?, tx.audit_marks(MarkKind::Checkpoint).await?)
        };
        if self.custody.leads() {
            // A chain that is gone altogether is missed by whoever has known it.
            nodes.extend(known.keys());
            if !self.audit.compared.load(Ordering::Acquire) {
                let (chains, troubles) = self.audit.outside.chains(&self.custody.vault()).await;
                nodes.extend(chains);
                self.audit.compared.store(troubles.is_empty(), Ordering::Release);
            }
        }
        for node in nodes {
            // Somebody else may have led meanwhile, and cut off what this process knows.
            let cut = of(&cuts, &node).map_or(0, |cut| cut.size);
            let before = known.get(&node).filter(|known| known.frontier.size() >= cut).cloned();
            let before = before.unwrap_or_else(|| self.known_of(of(&cuts, &node), of(&checkpoints, &node), &keys));
            match self.checkpoint_chain(node, before.clone(), &keys).await {
                Ok((now, fresh)) => {
                    known.insert(node, now);
                    signed.fresh += usize::from(fresh);
                }
                Err(error) => {
                    known.insert(node, before);
                    signed.failed.push((node, error));
                }
            }
        }
        let broken = signed.failed.iter().any(|(_, error)| error.reason == Reason::Internal);
        if broken || signed.failed.is_empty() {
            metrics::gauge!("lacuna_audit_intact").set(if broken { 0.0 } else { 1.0 });
        }
        if signed.failed.is_empty() && known.values().all(|known| known.kept) {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("lacuna_audit_checkpoint_time_seconds").set(self.clock.now().micros() as f64 / 1e6);
        }
        Ok(signed)
    }

    /// How far a chain is known by what was signed, in the database.
    fn known_of(&self, cut: Option<&Mark>, newest: Option<&Mark>, keys: &[Vec<u8>]) -> Known {
        let mut known = Known::default();
        for mark in cut.into_iter().chain(newest) {
            let Some((signed, frontier)) = self.read_mark(mark, keys) else { continue };
            if signed.size >= known.frontier.size() {
                let checkpoint = (!signed.cut).then(|| (signed.clone(), mark.note.clone()));
                known = Known { frontier, head: signed.head, signed: checkpoint, kept: false };
            }
        }
        known
    }

    /// What the database says that was signed; `None` when it was not.
    pub(super) fn read_mark(&self, mark: &Mark, keys: &[Vec<u8>]) -> Option<(Checkpoint, Frontier)> {
        read_mark(mark, &self.custody.vault(), keys)
    }

    async fn checkpoint_chain(&self, node: NodeId, before: Known, keys: &[Vec<u8>]) -> Result<(Known, bool)> {
        let first = before.signed.as_ref().is_none_or(|(signed, _)| signed.size != before.frontier.size());
        let mut known = before;
        // What the places know is looked at when this process has not signed anything of the chain yet.
        let outside = if known.kept { Vec::new() } else { self.known_outside(&node, keys).await? };
        if let Some(other) = outside.iter().find(|other| {
            known.signed.as_ref().is_some_and(|(signed, _)| signed.size == other.size && signed.root != other.root)
        }) {
            return Err(broken(&node, other.size));
        }
        let ahead: HashMap<u64, [u8; 32]> = outside.iter().map(|known| (known.size, known.root)).collect();
        let from = known.frontier.size();
        loop {
            let mut tx = self.custody.store().read().await?;
            let links = tx.audit_links(&node, known.frontier.size(), PAGE).await?;
            if links.is_empty() {
                break;
            }
            for link in links {
                follow(&node, &mut known.frontier, &mut known.head, &link)?;
                let size = known.frontier.size();
                if ahead.get(&size).is_some_and(|root| *root != known.frontier.root()) {
                    return Err(broken(&node, size));
                }
            }
        }
        let size = known.frontier.size();
        if let Some(further) = ahead.keys().find(|further| **further > size) {
            return Err(broken(&node, *further));
        }
        let fresh = size > 0 && (size > from || first);
        if fresh {
            self.sign_checkpoint(node, &mut known).await?;
        }
        if let Some((checkpoint, note)) = known.signed.as_ref().filter(|_| !known.kept) {
            let troubles = self.audit.outside.put(checkpoint, note, keys).await;
            crash::point("audit::checkpoint-kept");
            known.kept = troubles.is_empty();
            for trouble in troubles {
                tracing::warn!(trouble, "a checkpoint of the audit is not kept in every place yet");
            }
        }
        Ok((known, fresh))
    }

    /// The newest checkpoint of a chain that each place knows.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when no place answers: what is not compared with anything is not signed.
    pub(super) async fn known_outside(&self, node: &NodeId, keys: &[Vec<u8>]) -> Result<Vec<Checkpoint>> {
        let known = self.audit.outside.newest(keys, &self.custody.vault(), node).await;
        if known.unread > 0 && known.unread == self.audit.outside.count() {
            let message = format!("no place for checkpoints of the audit answers: {}", known.troubles.join("; "));
            return Err(Error::new(Reason::KeyCustodianUnavailable, message));
        }
        Ok(known.checkpoints)
    }

    async fn sign_checkpoint(&self, node: NodeId, known: &mut Known) -> Result<()> {
        let checkpoint = self.state_of(node, &known.frontier, known.head, false);
        let signed = self.custody.sign_note(&checkpoint.text(), &checkpoint.origin());
        self.keep_mark(&checkpoint, &known.frontier, &signed).await?;
        crash::point("audit::checkpointed");
        (known.signed, known.kept) = (Some((checkpoint, signed)), false);
        Ok(())
    }

    /// What is to be signed of a chain.
    pub(super) fn state_of(&self, node: NodeId, frontier: &Frontier, head: [u8; 32], cut: bool) -> Checkpoint {
        let (vault, time) = (self.custody.vault(), self.clock.now());
        Checkpoint { vault, node, size: frontier.size(), root: frontier.root(), head, time, cut }
    }

    /// Keeps what was signed in the database.
    pub(super) async fn keep_mark(&self, checkpoint: &Checkpoint, frontier: &Frontier, note: &str) -> Result<()> {
        let mut tx = self.custody.store().write().await?;
        tx.put_audit_mark(&mark_of(checkpoint, frontier, note)).await?;
        tx.commit().await
    }

    /// The newest checkpoint of each chain, or of one, as it was signed.
    pub async fn audit_checkpoints(&self, node: Option<NodeId>) -> Result<Vec<(Checkpoint, String)>> {
        let keys = public_keys(&self.custody)?;
        let marks = self.custody.store().read().await?.audit_marks(MarkKind::Checkpoint).await?;
        let marks = marks.into_iter().filter(|mark| node.is_none_or(|node| node == mark.node));
        Ok(marks.filter_map(|mark| Some((Checkpoint::open(&mark.note, &keys)?, mark.note))).collect())
    }

    /// Walks every chain, and holds it against the checkpoints that are kept outside.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn verify_audit(&self) -> Result<Verified> {
        // So that what happened up to now is vouched for. A chain of which none can be signed shows below what is wrong with it.
        self.checkpoint_audit().await?;
        let keys = public_keys(&self.custody)?;
        let known = self.audit.outside.read(&keys).await;
        let _one_reader = self.audit.readers.acquire().await.map_err(Error::internal)?;
        let (vault, now) = (self.custody.vault(), self.clock.now());
        let witness = Witness { vault, keys: &keys, checkpoints: &known.checkpoints, now };
        let mut verified = verify(&mut *self.custody.store().read().await?, &witness).await?;
        verified.troubles.extend(known.troubles);
        Ok(verified)
    }
}

/// The mark of a chain.
pub(super) fn of<'m>(marks: &'m [Mark], node: &NodeId) -> Option<&'m Mark> {
    marks.iter().find(|mark| mark.node == *node)
}

/// Goes on along a chain by one batch.
///
/// # Errors
/// `Internal` when the batch does not go on from there.
pub(super) fn follow(node: &NodeId, frontier: &mut Frontier, head: &mut [u8; 32], link: &Link) -> Result<()> {
    let expected = frontier.size() + 1;
    if link.seq != expected || link.prev_hash != *head {
        return Err(broken(node, expected));
    }
    *head = hash_of(node, link);
    frontier.push(leaf(head));
    Ok(())
}

fn mark_of(checkpoint: &Checkpoint, frontier: &Frontier, note: &str) -> Mark {
    Mark {
        node: checkpoint.node,
        kind: if checkpoint.cut { MarkKind::Cut } else { MarkKind::Checkpoint },
        size: checkpoint.size,
        frontier: flatten(frontier),
        note: note.to_owned(),
        created_at: checkpoint.time,
    }
}

/// That a chain is not what was signed of it.
pub(super) fn broken(node: &NodeId, batch: u64) -> Error {
    let message = format!(
        "the audit of node {} does not go on from its checkpoints at batch {batch}: run `lacuna audit verify`. No checkpoint is \
         signed that would hide it",
        hex(node)
    );
    Error::new(Reason::Internal, message)
}
