//! Waiting for the other nodes: until they have done something, or certainly use their keys no more.

use std::collections::HashMap;
use std::time::Duration;

use super::{Custody, Error, LOOK, Node, NodeId, PATIENCE, Reason, Result, STILL, in_time, platform, uptime};

/// Rows that should move, with when each was first seen as it is.
#[derive(Default)]
pub struct Watched(HashMap<NodeId, (u64, Duration)>);

impl Watched {
    /// Whether a node is certainly out: its process has ended, or its row has stood still for longer than a lease lasts.
    pub fn is_out(&mut self, id: NodeId, renewals: u64, process: &str) -> bool {
        if platform::has_ended(process) {
            return true;
        }
        let now = uptime();
        let (seen, since) = self.0.entry(id).or_insert((renewals, now));
        if *seen != renewals {
            (*seen, *since) = (renewals, now);
        }
        now.saturating_sub(*since) >= STILL
    }
}

impl Custody {
    /// Returns when no reveal is under way on any node any more that has read its facts before.
    ///
    /// # Errors
    /// `StoreUnavailable` when the others cannot be asked.
    pub async fn land_all(&self) -> Result<()> {
        self.flights.fence().await;
        if self.member.is_none() {
            return Ok(());
        }
        let landing = in_time(async { self.store().watch().await?.ask_landing().await }).await?;
        self.await_each(|node| node.landed >= landing).await
    }

    /// Waits until every other node has applied `epoch`, or certainly uses its keys no more.
    pub(in crate::keys) async fn await_nodes(&self, epoch: u64) -> Result<()> {
        self.await_each(|node| node.epoch >= epoch).await
    }

    /// Waits until every other node is as `done` says, or certainly uses its keys no more.
    async fn await_each(&self, done: impl Fn(&Node) -> bool + Send + Sync) -> Result<()> {
        let Some(member) = &self.member else { return Ok(()) };
        let mut watched = Watched::default();
        loop {
            let mut behind = in_time(async { self.store().watch().await?.nodes().await }).await?;
            behind.retain(|node| node.id != member.id && !done(node));
            if behind.is_empty() {
                return Ok(());
            }
            for node in behind.iter().filter(|node| watched.is_out(node.id, node.renewals, &node.process)) {
                let ended = in_time(self.expire(&node.id, node.renewals)).await?;
                tracing::warn!(node = node.name, ended, "a node gave no sign of life; its lease is over");
            }
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    /// Waits until no other node uses the keys.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when one does and goes on.
    pub(in crate::keys) async fn await_solitude(&self) -> Result<()> {
        let alone = tokio::time::timeout(STILL + PATIENCE, self.await_nodes(u64::MAX)).await;
        alone.map_err(|_| {
            Error::new(
                Reason::KeyCustodianUnavailable,
                "the database is older than the root slot while other nodes serve it: stop them, then start one",
            )
        })?
    }
}
