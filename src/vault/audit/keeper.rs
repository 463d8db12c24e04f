//! Keeping the audit: the chain that this process writes, checkpoints of every chain, cuts of what is old enough.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::checkpoint::{Checkpoint, flatten, unflatten};
use super::outside::Outside;
use super::walk::{Verified, leaf, verify};
use super::{Entry, Head, hash_of};
use crate::crash;
use crate::crypto::merkle::Frontier;
use crate::keys::Custody;
use crate::keys::checkpoint::hex;
use crate::keys::receipt;
use crate::keys::sink::CheckpointSink;
use crate::model::{Error, Reason, Result};
use crate::store::Tx;
use crate::store::audit::{Mark, MarkKind};
use crate::store::node::NodeId;
use crate::vault::Vault;
use crate::vault::write::Record;

/// How many links of a chain are read at once.
const PAGE: u32 = 1000;

/// How many batches are removed at once.
const REMOVED: u32 = 500;

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
    outside: Outside,
    settings: Settings,
    /// The chain that this process writes.
    chain: NodeId,
    /// How far each chain is known, for one at a time.
    known: Mutex<HashMap<NodeId, Known>>,
    /// Whether the last entry could not be made durable.
    failing: AtomicBool,
}

/// How far a chain is known.
struct Known {
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
        let known = outside.newest(&keys, &chain).await;
        for trouble in known.troubles {
            tracing::warn!(trouble, "checkpoints of the audit cannot be read");
        }
        let of_this = known.checkpoints.iter().filter(|checkpoint| checkpoint.vault == custody.vault());
        let ahead =
            of_this.filter(|known| known.size > head.seq || (known.size == head.seq && known.head != head.hash));
        if let Some(ahead) = ahead.max_by_key(|checkpoint| checkpoint.size) {
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
        Ok(Self { outside, settings, chain, known: Mutex::default(), failing: AtomicBool::new(false) })
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
    /// sees to every chain, the others to their own. Answers how many were signed.
    ///
    /// # Errors
    /// `Internal` when a chain does not go on from its last checkpoint: nothing is signed then that would hide it.
    pub async fn checkpoint_audit(&self) -> Result<usize> {
        let mut known = self.audit.known.lock().await;
        let (keys, mut tx) = (public_keys(&self.custody)?, self.custody.store().read().await?);
        let nodes = if self.custody.leads() { tx.audit_nodes().await? } else { vec![self.audit.chain] };
        let (mut signed, mut broken) = (0, None);
        for node in nodes {
            let before = match known.remove(&node) {
                Some(before) => before,
                None => self.known_of(&mut *tx, node, &keys).await?,
            };
            match self.checkpoint_chain(&mut *tx, node, before).await {
                Ok((now, fresh)) => {
                    known.insert(node, now);
                    signed += usize::from(fresh);
                }
                Err(error) => broken = Some(error),
            }
        }
        metrics::gauge!("lacuna_audit_intact").set(if broken.is_some() { 0.0 } else { 1.0 });
        let all_kept = broken.is_none() && known.values().all(|known| known.kept);
        if all_kept {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("lacuna_audit_checkpoint_time_seconds").set(self.clock.now().micros() as f64 / 1e6);
        }
        broken.map_or(Ok(signed), Err)
    }

    /// How far a chain is known by what was signed: in the database, where a cut is the least.
    async fn known_of(&self, tx: &mut dyn Tx, node: NodeId, keys: &[Vec<u8>]) -> Result<Known> {
        let (cut, newest) = (mark(tx, MarkKind::Cut, &node).await?, mark(tx, MarkKind::Checkpoint, &node).await?);
        let (mut known, mut best) = (None, 0);
        for kept in cut.into_iter().chain(newest) {
            let signed = Checkpoint::open(&kept.note, keys).filter(|signed| signed.vault == self.custody.vault());
            let signed = signed.filter(|signed| signed.node == node && signed.size == kept.size && signed.size >= best);
            let frontier = unflatten(kept.size, &kept.frontier);
            if let Some((signed, frontier)) =
                signed.zip(frontier).filter(|(signed, frontier)| frontier.root() == signed.root)
            {
                best = signed.size;
                let checkpoint = (!signed.cut).then(|| (signed.clone(), kept.note));
                known = Some(Known { frontier, head: signed.head, signed: checkpoint, kept: false });
            }
        }
        Ok(known.unwrap_or(Known { frontier: Frontier::default(), head: [0; 32], signed: None, kept: false }))
    }

    async fn checkpoint_chain(&self, tx: &mut dyn Tx, node: NodeId, before: Known) -> Result<(Known, bool)> {
        let first = before.signed.as_ref().is_none_or(|(signed, _)| signed.size != before.frontier.size());
        let mut known = before;
        // What the places know is looked at when this process has not signed anything of the chain yet.
        let outside = if known.kept { Vec::new() } else { self.known_outside(&node).await? };
        if let Some(other) = outside.iter().find(|other| {
            known.signed.as_ref().is_some_and(|(signed, _)| signed.size == other.size && signed.root != other.root)
        }) {
            return Err(broken(&node, other.size));
        }
        let ahead: HashMap<u64, [u8; 32]> = outside.iter().map(|known| (known.size, known.root)).collect();
        let from = known.frontier.size();
        loop {
            let links = tx.audit_links(&node, known.frontier.size(), PAGE).await?;
            if links.is_empty() {
                break;
            }
            for link in links {
                let expected = known.frontier.size() + 1;
                if link.seq != expected || link.prev_hash != known.head {
                    return Err(broken(&node, expected));
                }
                known.head = hash_of(&node, &link);
                known.frontier.push(leaf(&known.head));
                if ahead.get(&expected).is_some_and(|root| *root != known.frontier.root()) {
                    return Err(broken(&node, expected));
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
            let troubles = self.audit.outside.put(checkpoint, note).await;
            crash::point("audit::checkpoint-kept");
            known.kept = troubles.is_empty();
            for trouble in troubles {
                tracing::warn!(trouble, "a checkpoint of the audit is not kept in every place yet");
            }
        }
        Ok((known, fresh))
    }

    async fn known_outside(&self, node: &NodeId) -> Result<Vec<Checkpoint>> {
        let mut known = self.audit.outside.newest(&public_keys(&self.custody)?, node).await.checkpoints;
        known.retain(|checkpoint| checkpoint.vault == self.custody.vault());
        Ok(known)
    }

    async fn sign_checkpoint(&self, node: NodeId, known: &mut Known) -> Result<()> {
        let checkpoint = self.state_of(node, &known.frontier, known.head, false);
        let signed = self.custody.sign_note(&checkpoint.text(), &checkpoint.origin());
        let mark = mark_of(&checkpoint, &known.frontier, &signed);
        let mut tx = self.custody.store().write().await?;
        tx.put_audit_mark(&mark).await?;
        tx.commit().await?;
        crash::point("audit::checkpointed");
        (known.signed, known.kept) = (Some((checkpoint, signed)), false);
        Ok(())
    }

    fn state_of(&self, node: NodeId, frontier: &Frontier, head: [u8; 32], cut: bool) -> Checkpoint {
        let (vault, time) = (self.custody.vault(), self.clock.now());
        Checkpoint { vault, node, size: frontier.size(), root: frontier.root(), head, time, cut }
    }

    /// The newest checkpoint of each chain, or of one, as it was signed.
    pub async fn audit_checkpoints(&self, node: Option<NodeId>) -> Result<Vec<(Checkpoint, String)>> {
        let keys = public_keys(&self.custody)?;
        let marks = self.custody.store().read().await?.audit_marks(MarkKind::Checkpoint).await?;
        let marks = marks.into_iter().filter(|mark| node.is_none_or(|node| node == mark.node));
        Ok(marks.filter_map(|mark| Some((Checkpoint::open(&mark.note, &keys)?, mark.note))).collect())
    }

    /// Walks every chain, and holds it against the checkpoints that are kept outside. Answers also what could not be read.
    pub async fn verify_audit(&self) -> Result<(Verified, Vec<String>)> {
        let keys = public_keys(&self.custody)?;
        let known = self.audit.outside.read(&keys).await;
        let mut tx = self.custody.store().read().await?;
        Ok((verify(&mut *tx, &keys, &known.checkpoints).await?, known.troubles))
    }

    /// Cuts off what is older than entries are kept, by whole days (UTC): a cut is signed and recorded, and one a day is
    /// enough. The chain goes on from there.
    /// Answers how many batches went.
    pub async fn cut_audit(&self) -> Result<u64> {
        let Some(keep) = self.audit.settings.keep.filter(|_| self.custody.leads()) else { return Ok(0) };
        let _one_at_a_time = self.audit.known.lock().await;
        let before = self.clock.now().minus(keep).day();
        let (keys, mut tx) = (public_keys(&self.custody)?, self.custody.store().read().await?);
        let mut removed = 0;
        for node in tx.audit_nodes().await? {
            // What no checkpoint vouches for stays, and so does the newest batch.
            let Some(newest) = mark(&mut *tx, MarkKind::Checkpoint, &node).await? else { continue };
            let upto = tx.last_audit_batch_before(&node, before, newest.size.saturating_sub(1)).await?;
            if let Some(upto) = upto {
                removed += self.cut_chain(&mut *tx, node, upto, &keys).await?;
            }
        }
        Ok(removed)
    }

    async fn cut_chain(&self, tx: &mut dyn Tx, node: NodeId, upto: u64, keys: &[Vec<u8>]) -> Result<u64> {
        let (mut frontier, mut head) = (Frontier::default(), [0; 32]);
        if let Some(cut) = mark(tx, MarkKind::Cut, &node).await? {
            let signed = Checkpoint::open(&cut.note, keys).filter(|signed| signed.cut).map(|signed| signed.head);
            let known = unflatten(cut.size, &cut.frontier).zip(signed).ok_or_else(|| broken(&node, cut.size))?;
            (frontier, head) = known;
        }
        while frontier.size() < upto {
            let left = u32::try_from(upto - frontier.size()).unwrap_or(PAGE).min(PAGE);
            let links = tx.audit_links(&node, frontier.size(), left).await?;
            if links.is_empty() {
                return Err(broken(&node, frontier.size() + 1));
            }
            for link in links {
                if link.seq != frontier.size() + 1 || link.prev_hash != head {
                    return Err(broken(&node, frontier.size() + 1));
                }
                head = hash_of(&node, &link);
                frontier.push(leaf(&head));
            }
        }
        let entry = Entry::new(VAULT, "CutAudit", self.clock.now());
        self.record(Record::of(entry)).await?;
        let checkpoint = self.state_of(node, &frontier, head, true);
        let signed = self.custody.sign_note(&checkpoint.text(), &checkpoint.origin());
        if let Some(trouble) = self.audit.outside.put(&checkpoint, &signed).await.first() {
            let message = format!("a cut of the audit is not kept outside: {trouble}");
            return Err(Error::new(Reason::AuditUnavailable, message));
        }
        crash::point("audit::cut-kept");
        let mut tx = self.custody.store().write().await?;
        tx.put_audit_mark(&mark_of(&checkpoint, &frontier, &signed)).await?;
        tx.commit().await?;
        crash::point("audit::cut");
        let mut removed = 0;
        loop {
            let mut tx = self.custody.store().write().await?;
            let some = tx.delete_audit_batches(&node, upto, REMOVED).await?;
            tx.commit().await?;
            crash::point("audit::cut-removed");
            removed += some;
            if some == 0 {
                return Ok(removed);
            }
        }
    }
}

async fn mark(tx: &mut dyn Tx, kind: MarkKind, node: &NodeId) -> Result<Option<Mark>> {
    Ok(tx.audit_marks(kind).await?.into_iter().find(|mark| mark.node == *node))
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

fn broken(node: &NodeId, batch: u64) -> Error {
    let message = format!(
        "the audit of node {} does not go on from its checkpoints at batch {batch}: run `lacuna audit verify`. No checkpoint is \
         signed that would hide it",
        hex(node)
    );
    Error::new(Reason::Internal, message)
}
