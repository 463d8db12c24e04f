//! Verification: a walk along every chain that names the first batch, and where it can the first entry, that is not as it
//! was written.
//!
//! Each batch names the hash of the one before it, and a checkpoint vouches for all up to its size. Where hashes do not
//! fit it is not yet said which of two batches was altered: what the signed root comes to tells.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::checkpoint::{Checkpoint, VaultId, read_mark};
use super::{hash, mark};
use crate::crypto::merkle::{self, Frontier};
use crate::keys::checkpoint::hex;
use crate::model::{Reason, Result, Time};
use crate::store::Tx;
use crate::store::audit::{Batch, Mark, MarkKind};
use crate::store::node::NodeId;

/// How many batches are read at once.
const PAGE: u32 = 100;

/// Of how many batches at most it is tried out which of them were altered: for each one more it takes twice as long.
const TRIED: usize = 5;

/// How long what was signed may be on its way outside.
const UNDER_WAY: Duration = Duration::from_mins(2);

/// The checkpoints of each chain.
type Outside = BTreeMap<NodeId, Vec<Checkpoint>>;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The batch is not as it was written.
    Altered,
    /// It is not there, though a later one is.
    Missing,
    /// It is not there, nor any after it: the end was cut off, or the database is an older copy.
    CutOff,
    /// Everything from there to a checkpoint fits together, and was not so when the checkpoint was signed.
    Rewritten,
}

/// The first place of a chain that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose chain.
    pub node: NodeId,
    /// Which batch.
    pub batch: u64,
    /// Which entry of it, counted from 1, as far as that can be told.
    pub entry: Option<u64>,
    /// What is wrong.
    pub kind: FaultKind,
    /// The same for people.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit batch {} of node {}", self.batch, hex(&self.node))?;
        if let Some(entry) = self.entry {
            write!(f, ", entry {entry},")?;
        }
        write!(f, " {}", self.detail)
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// How many chains there are.
    pub chains: u64,
    /// How many batches.
    pub batches: u64,
    /// How many entries.
    pub entries: u64,
    /// How many checkpoints agree.
    pub checkpoints: u64,
    /// How many batches come after the last checkpoint of their chain: nothing outside vouches for them.
    pub unvouched: u64,
    /// The first fault of each chain that has one.
    pub faults: Vec<Fault>,
    /// What could not be looked at or compared, for people.
    pub troubles: Vec<String>,
}

impl Verified {
    /// Whether no chain has a fault, and nothing stood in the way of seeing one.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        self.faults.is_empty() && self.troubles.is_empty()
    }
}

/// What a database is held against.
#[derive(Clone, Copy)]
pub struct Witness<'w> {
    /// Whose log it should be. The database itself is not asked.
    pub vault: VaultId,
    /// Who has signed what the database says of cuts and checkpoints.
    pub keys: &'w [Vec<u8>],
    /// The checkpoints that were kept elsewhere.
    pub checkpoints: &'w [Checkpoint],
    /// The present moment.
    pub now: Time,
}

impl Witness<'_> {
    /// The checkpoints of each chain: those from outside, and those in the database, which should be the same.
    async fn checkpoints(&self, tx: &mut dyn Tx, troubles: &mut Vec<String>) -> Result<Outside> {
        let mut outside = Outside::new();
        for checkpoint in self.checkpoints.iter().filter(|checkpoint| checkpoint.vault == self.vault) {
            outside.entry(checkpoint.node).or_default().push(checkpoint.clone());
        }
        for mark in tx.audit_marks(MarkKind::Checkpoint).await? {
            let node = hex(&mark.node);
            let Some((signed, _)) = read_mark(&mark, &self.vault, self.keys) else {
                troubles.push(format!("what the database says of a checkpoint of node {node} is not signed"));
                continue;
            };
            let of_node = outside.entry(mark.node).or_default();
            let furthest = of_node.iter().map(|checkpoint| checkpoint.size).max().unwrap_or(0);
            if furthest < signed.size && signed.time.plus(UNDER_WAY) < self.now {
                let (time, size) = (signed.time, signed.size);
                let detail =
                    format!("the checkpoint of {time} of node {node}, of {size} batches, is in no place outside");
                troubles.push(detail);
            }
            of_node.push(signed);
        }
        Ok(outside)
    }

    fn begin(&self, node: NodeId, outside: &mut Outside, cuts: &[Mark]) -> Walk {
        let mut walk = Walk::begin(node, outside.remove(&node).unwrap_or_default());
        if let Some(cut) = cuts.iter().find(|cut| cut.node == node) {
            walk.begin_at_cut(read_mark(cut, &self.vault, self.keys));
        }
        walk
    }
}

/// Walks every chain of a database, and holds it against what was signed of it.
///
/// # Errors
/// When the database cannot be read at all.
pub async fn verify(tx: &mut dyn Tx, witness: &Witness<'_>) -> Result<Verified> {
    let mut verified = Verified::default();
    if tx.vault().await?.map(|vault| vault.tree) != Some(witness.vault) {
        verified.troubles.push("the database says that it is of another vault, or of none".to_owned());
    }
    let mut outside = witness.checkpoints(tx, &mut verified.troubles).await?;
    let cuts = tx.audit_marks(MarkKind::Cut).await?;
    let mut walk: Option<Walk> = None;
    let mut after: Option<(NodeId, u64)> = None;
    loop {
        let page = match read(tx, after).await? {
            Read::Page(page) => page,
            Read::Unreadable(node) => {
                let mut broken = match walk.take() {
                    Some(walk) if walk.node == node => walk,
                    other => {
                        if let Some(walk) = other {
                            walk.end(&mut verified);
                        }
                        witness.begin(node, &mut outside, &cuts)
                    }
                };
                broken.unreadable();
                broken.end(&mut verified);
                after = Some((node, u64::MAX >> 1));
                continue;
            }
        };
        let Some(last) = page.last() else { break };
        after = Some((last.node, last.seq));
        for batch in &page {
            let mut here = match walk.take() {
                Some(walk) if walk.node == batch.node => walk,
                other => {
                    if let Some(walk) = other {
                        walk.end(&mut verified);
                    }
                    witness.begin(batch.node, &mut outside, &cuts)
                }
            };
            if here.misses(batch) {
                // Perhaps it was cut off in this moment.
                let cuts = tx.audit_marks(MarkKind::Cut).await?;
                let cut = cuts.iter().find(|cut| cut.node == batch.node && cut.size > here.seq());
                if let Some(signed) = cut.and_then(|cut| read_mark(cut, &witness.vault, witness.keys)) {
                    here.begin_at_cut(Some(signed));
                }
            }
            here.step(batch, &mut verified);
            walk = Some(here);
        }
        tokio::task::yield_now().await;
    }
    if let Some(walk) = walk {
        walk.end(&mut verified);
    }
    if verified.batches > 0 && witness.checkpoints.iter().all(|checkpoint| checkpoint.vault != witness.vault) {
        let trouble = "there is no checkpoint outside the database: that the end was cut off, or everything rewritten, cannot be seen";
        verified.troubles.push(trouble.to_owned());
    }
    // Chains that are gone altogether.
    for (node, checkpoints) in outside {
        Walk::begin(node, checkpoints).end(&mut verified);
    }
    Ok(verified)
}

/// What was read of a database.
enum Read {
    Page(Vec<Batch>),
    /// Something of the chain of this node makes no sense.
    Unreadable(NodeId),
}

/// Reads the next batches; where one makes no sense, up to that one.
async fn read(tx: &mut dyn Tx, after: Option<(NodeId, u64)>) -> Result<Read> {
    match tx.list_audit_batches(after, PAGE).await {
        Err(error) if error.reason == Reason::Internal => {}
        page => return page.map(Read::Page),
    }
    match tx.list_audit_batches(after, 1).await {
        Err(error) if error.reason == Reason::Internal => {
            let nodes = tx.audit_nodes().await?;
            let here = after.map(|(node, _)| node);
            let more = match here {
                Some(node) => {
                    !matches!(tx.audit_links(&node, after.map_or(0, |(_, seq)| seq), 1).await.as_deref(), Ok([]))
                }
                None => false,
            };
            let next = nodes.into_iter().find(|node| here.is_none_or(|here| *node > here));
            match here.filter(|_| more).or(next) {
                Some(node) => Ok(Read::Unreadable(node)),
                None => Err(error),
            }
        }
        page => page.map(Read::Page),
    }
}

/// A batch that was passed and that no checkpoint has vouched for yet.
struct Step {
    /// Its hash.
    own: [u8; 32],
    /// What it says the hash of the one before is.
    prev: [u8; 32],
    /// Whether its entries are not what its root is over.
    unfit: Option<Unfit>,
}

/// That the entries of a batch are not what its root is over.
struct Unfit {
    /// The first entry that differs, from 1, as far as that can be told.
    entry: Option<u64>,
}

/// A walk along one chain.
struct Walk {
    node: NodeId,
    /// What is vouched for: how much, and the hash at its end.
    frontier: Frontier,
    head: [u8; 32],
    /// What was passed since.
    steps: Vec<Step>,
    /// Checkpoints that lie ahead, the nearest last.
    ahead: Vec<Checkpoint>,
    fault: Option<Fault>,
}

impl Walk {
    fn begin(node: NodeId, mut ahead: Vec<Checkpoint>) -> Self {
        ahead.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
        ahead.dedup_by(|a, b| (a.size, a.root, a.head) == (b.size, b.root, b.head));
        ahead.retain(|checkpoint| checkpoint.size > 0);
        Self { node, frontier: Frontier::default(), head: [0; 32], steps: Vec::new(), ahead, fault: None }
    }

    /// Goes on where what came before was cut off, if that is signed.
    fn begin_at_cut(&mut self, signed: Option<(Checkpoint, Frontier)>) {
        let Some((signed, frontier)) = signed.filter(|(signed, _)| signed.cut) else {
            let detail = "is missing: what the database says of a cut is not signed".to_owned();
            return self.say(1, None, FaultKind::Missing, detail);
        };
        if let Some(other) = self.ahead.iter().find(|known| known.size == signed.size && known.root != signed.root) {
            let (size, time) = (other.size, other.time);
            let detail = format!("or one before it was rewritten since the checkpoint of {time}, and then cut off");
            self.say(size, None, FaultKind::Rewritten, detail);
        }
        (self.head, self.frontier) = (signed.head, frontier);
        self.steps.clear();
        self.ahead.retain(|checkpoint| checkpoint.size > signed.size);
    }

    /// Whether there should be others before this batch.
    fn misses(&self, batch: &Batch) -> bool {
        self.fault.is_none() && batch.seq > self.seq() + 1
    }

    /// How far the walk has come.
    fn seq(&self) -> u64 {
        self.frontier.size() + self.steps.len() as u64
    }

    fn say(&mut self, batch: u64, entry: Option<u64>, kind: FaultKind, detail: String) {
        if self.fault.is_none() {
            self.fault = Some(Fault { node: self.node, batch, entry, kind, detail });
        }
    }

    fn altered(&mut self, at: usize) {
        let entry = self.steps.get(at).and_then(|step| step.unfit.as_ref()?.entry);
        let batch = self.frontier.size() + at as u64 + 1;
        self.say(batch, entry, FaultKind::Altered, "was altered, or another is in its place".to_owned());
    }

    fn step(&mut self, batch: &Batch, verified: &mut Verified) {
        verified.batches += 1;
        verified.entries = verified.entries.saturating_add(batch.entries);
        // What was cut off may not have been removed yet.
        if self.fault.is_some() || (batch.seq <= self.frontier.size() && self.steps.is_empty()) {
            return;
        }
        if batch.seq != self.seq() + 1 {
            self.judge_unvouched();
            let (missing, next) = (self.seq() + 1, batch.seq);
            self.say(missing, None, FaultKind::Missing, format!("is missing: the next one there is {next}"));
            return;
        }
        self.steps.push(Step { own: hash(batch), prev: batch.prev_hash, unfit: unfit(batch) });
        while let Some(checkpoint) = self.ahead.pop_if(|checkpoint| checkpoint.size == batch.seq) {
            if self.judge(&checkpoint) {
                verified.checkpoints += 1;
            }
        }
    }

    /// Says that what comes next cannot be read.
    fn unreadable(&mut self) {
        self.judge_unvouched();
        let next = self.seq() + 1;
        self.say(next, None, FaultKind::Altered, "was altered: it cannot be read any more".to_owned());
    }

    fn end(mut self, verified: &mut Verified) {
        verified.chains += 1;
        self.judge_unvouched();
        if let Some(furthest) = self.ahead.first() {
            let (size, time, next) = (furthest.size, furthest.time, self.seq() + 1);
            let detail = format!(
                "is missing: a checkpoint of {time} knows of {size} batches. The end of the log was cut off, or the database is \
                 an older copy"
            );
            self.say(next, None, FaultKind::CutOff, detail);
        }
        verified.unvouched += self.steps.len() as u64;
        verified.faults.extend(self.fault);
    }

    /// Holds what was passed against a checkpoint of just that size.
    fn judge(&mut self, checkpoint: &Checkpoint) -> bool {
        if self.fault.is_some() {
            return false;
        }
        let next = self.steps.iter().skip(1).map(|step| step.prev).chain([checkpoint.head]);
        let said: Vec<[u8; 32]> = next.collect();
        let doubtful: Vec<usize> = self
            .steps
            .iter()
            .zip(&said)
            .enumerate()
            .filter(|(_, (step, said))| step.own != **said)
            .map(|(at, _)| at)
            .collect();
        // At first as if every batch was right; then as if those that are doubtful were what the next one says.
        let tries: u32 = if doubtful.len() <= TRIED { 1 << doubtful.len() } else { 1 };
        for choice in 0..tries {
            let mut meant: Vec<[u8; 32]> = self.steps.iter().map(|step| step.own).collect();
            for (_, at) in doubtful.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1) {
                if let (Some(meant), Some(said)) = (meant.get_mut(*at), said.get(*at)) {
                    *meant = *said;
                }
            }
            let mut frontier = self.frontier.clone();
            for hash in &meant {
                frontier.push(leaf(hash));
            }
            if frontier.root() == checkpoint.root {
                let wrong = |(step, meant): (&Step, &[u8; 32])| step.own != *meant || step.unfit.is_some();
                if let Some(at) = self.steps.iter().zip(&meant).position(wrong) {
                    self.altered(at);
                    return false;
                }
                self.frontier = frontier;
                self.head = meant.last().copied().unwrap_or(self.head);
                self.steps.clear();
                return true;
            }
        }
        self.judge_unvouched();
        let (first, last, time) = (self.frontier.size() + 1, checkpoint.size, checkpoint.time);
        let detail = format!("or a later one up to {last} was rewritten since the checkpoint of {time}");
        self.say(first, None, FaultKind::Rewritten, detail);
        false
    }

    /// Looks among what was passed for what does not fit, with nobody to vouch for it.
    fn judge_unvouched(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let unfit = self.steps.iter().position(|step| step.unfit.is_some());
        let mut before = self.head;
        let mut broken = None;
        for (at, step) in self.steps.iter().enumerate() {
            if step.prev != before {
                let vouched = self.steps.get(at + 1).is_none_or(|next| next.prev == step.own);
                // What comes after a batch bears witness for it, and against the one before it.
                broken = Some(if vouched { at.saturating_sub(1) } else { at });
                break;
            }
            before = step.own;
        }
        let first = match (unfit, broken) {
            (Some(unfit), Some(broken)) => Some(unfit.min(broken)),
            (unfit, broken) => unfit.or(broken),
        };
        if let Some(at) = first {
            self.altered(at);
        }
    }
}

/// The leaf that a batch is in the log of its chain.
#[must_use]
pub fn leaf(hash: &[u8; 32]) -> [u8; 32] {
    merkle::leaf_hash(hash)
}

/// Whether the entries of a batch are not what its root is over, and the first one that differs if that can be told.
fn unfit(batch: &Batch) -> Option<Unfit> {
    let leaves: Vec<_> = batch.body.lines().map(|line| merkle::leaf_hash(line.as_bytes())).collect();
    let marks: Vec<u8> = leaves.iter().flat_map(mark).collect();
    let whole = batch.body.is_empty() || batch.body.ends_with('\n');
    let fits = batch.merkle == merkle::root(&leaves)
        && batch.entries == leaves.len() as u64
        && batch.marks == marks
        && whole
        && !batch.body.contains('\r');
    if fits {
        return None;
    }
    let (kept, _) = batch.marks.as_chunks::<8>();
    let differs = leaves.iter().zip(kept).position(|(leaf, kept)| mark(leaf) != *kept);
    let shorter = (leaves.len() != kept.len()).then(|| leaves.len().min(kept.len()));
    Some(Unfit { entry: differs.or(shorter).map(|at| at as u64 + 1) })
}
