//! Retention of the audit itself: what is old enough is cut off, and the cut is signed.

use super::Entry;
use super::checkpoint::Checkpoint;
use super::keeper::{VAULT, broken, follow, of, public_keys};
use crate::crash;
use crate::crypto::merkle::Frontier;
use crate::model::{Error, Reason, Result, Time};
use crate::store::audit::{Mark, MarkKind};
use crate::store::node::NodeId;
use crate::vault::Vault;
use crate::vault::write::Record;

/// How many links of a chain are read at once.
const PAGE: u32 = 1000;

/// How many batches are removed at once.
const REMOVED: u32 = 500;

/// Where a chain begins.
type Start = (Frontier, [u8; 32]);

impl Vault {
    /// Cuts off what is older than entries are kept, by whole days (UTC): a cut is signed and recorded, and one a day is
    /// enough. The chain goes on from there. Answers how many batches went.
    ///
    /// # Errors
    /// `Internal` when a chain is not what was signed of it: nothing goes then that would tell. `AuditUnavailable` when
    /// the cut cannot be kept outside.
    pub async fn cut_audit(&self) -> Result<u64> {
        let Some(keep) = self.audit.settings.keep.filter(|_| self.custody.leads()) else { return Ok(0) };
        let _one_at_a_time = self.audit.known.lock().await;
        let (keys, before) = (public_keys(&self.custody)?, self.clock.now().minus(keep).day());
        let mut tx = self.custody.store().read().await?;
        let (cuts, newest) = (tx.audit_marks(MarkKind::Cut).await?, tx.audit_marks(MarkKind::Checkpoint).await?);
        let nodes = tx.audit_nodes().await?;
        drop(tx);
        let (mut removed, mut broken) = (0, None);
        for node in nodes {
            // What is wrong with one chain keeps no other.
            match self.cut_if_due(node, (of(&cuts, &node), of(&newest, &node)), before, &keys).await {
                Ok(some) => removed += some,
                Err(error) => broken = Some(error),
            }
        }
        broken.map_or(Ok(removed), Err)
    }

    async fn cut_if_due(
        &self,
        node: NodeId,
        (cut, newest): (Option<&Mark>, Option<&Mark>),
        before: Time,
        keys: &[Vec<u8>],
    ) -> Result<u64> {
        let (mut start, mut removed) = ((Frontier::default(), [0; 32]), 0);
        if let Some(cut) = cut {
            let signed = self.read_mark(cut, keys).filter(|(signed, _)| signed.cut);
            let (signed, frontier) = signed.ok_or_else(|| broken(&node, cut.size))?;
            // What a crash has left, or somebody has put where nobody looks.
            removed = self.remove(&node, signed.size).await?;
            start = (frontier, signed.head);
        }
        // What no checkpoint vouches for stays, and so does the newest batch.
        let Some((newest, _)) = newest.and_then(|mark| self.read_mark(mark, keys)) else { return Ok(removed) };
        let mut tx = self.custody.store().read().await?;
        let upto = tx.last_audit_batch_before(&node, before, newest.size.saturating_sub(1)).await?;
        drop(tx);
        match upto.filter(|upto| *upto > start.0.size()) {
            Some(upto) => Ok(removed + self.cut_chain(node, start, upto, keys).await?),
            None => Ok(removed),
        }
    }

    async fn cut_chain(&self, node: NodeId, start: Start, upto: u64, keys: &[Vec<u8>]) -> Result<u64> {
        let outside = self.known_outside(&node, keys).await?;
        let Some(vouches) = outside.into_iter().max_by_key(|known| known.size) else { return Ok(0) };
        let upto = upto.min(vouches.size.saturating_sub(1));
        if upto <= start.0.size() {
            return Ok(0);
        }
        let (frontier, head) = self.walk_to(&node, start, upto, &vouches).await?;
        let cut = self.state_of(node, &frontier, head, true);
        let signed = self.custody.sign_note(&cut.text(), &cut.origin());
        if let Some(trouble) = self.audit.outside.put(&cut, &signed, keys).await.first() {
            let message = format!("a cut of the audit is not kept outside: {trouble}");
            return Err(Error::new(Reason::AuditUnavailable, message));
        }
        crash::point("audit::cut-kept");
        let entry = Entry::new(VAULT, "CutAudit", self.clock.now());
        self.record(Record::of(entry)).await?;
        self.keep_mark(&cut, &frontier, &signed).await?;
        crash::point("audit::cut");
        self.remove(&node, upto).await
    }

    /// Where the chain stood at `upto`, if it is the one that the checkpoint vouches for.
    async fn walk_to(&self, node: &NodeId, start: Start, upto: u64, vouches: &Checkpoint) -> Result<Start> {
        let ((mut frontier, mut head), mut found) = (start, None);
        while frontier.size() < vouches.size {
            let left = u32::try_from(vouches.size - frontier.size()).unwrap_or(PAGE).min(PAGE);
            let links = self.custody.store().read().await?.audit_links(node, frontier.size(), left).await?;
            if links.is_empty() {
                return Err(broken(node, frontier.size() + 1));
            }
            for link in links {
                follow(node, &mut frontier, &mut head, &link)?;
                if frontier.size() == upto {
                    found = Some((frontier.clone(), head));
                }
            }
        }
        let same = (frontier.root(), head) == (vouches.root, vouches.head);
        found.filter(|_| same).ok_or_else(|| broken(node, vouches.size))
    }

    async fn remove(&self, node: &NodeId, upto: u64) -> Result<u64> {
        let mut removed = 0;
        loop {
            let mut tx = self.custody.store().write().await?;
            let some = tx.delete_audit_batches(node, upto, REMOVED).await?;
            tx.commit().await?;
            crash::point("audit::cut-removed");
            removed += some;
            if some == 0 {
                return Ok(removed);
            }
        }
    }
}
