//! Nodes: processes that hold keys in memory, and which of them leads.

use async_trait::async_trait;

use crate::model::{Result, Time};

/// The name that a process has while it runs.
pub type NodeId = [u8; 16];

/// A process that holds keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which one.
    pub id: NodeId,
    /// The host, for people.
    pub name: String,
    /// By which a process on the same machine can tell whether it still runs.
    pub process: String,
    /// When it joined.
    pub joined_at: Time,
    /// Rises with every sign of life.
    pub renewals: u64,
    /// The newest announced epoch whose deaths it has applied.
    pub epoch: u64,
    /// The newest landing that it has answered.
    pub landed: u64,
    /// Its last sign of life, by its own clock.
    pub seen_at: Time,
}

/// What tells whether a leader still lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// As in [`Node`].
    pub renewals: u64,
    /// As in [`Node`].
    pub process: String,
}

/// How things stand among the nodes, in one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The newest epoch that was announced.
    pub fence: u64,
    /// The epoch that the database has recorded.
    pub epoch: u64,
    /// An epoch that somebody waits for.
    pub wanted: u64,
    /// How often the nodes were asked to let land what is under way.
    pub landing: u64,
    /// Whether an erasure is pending.
    pub pending: bool,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// How often the lead has changed hands.
    pub term: u64,
    /// The leader's row; `None` when it is gone.
    pub led_by: Option<Leader>,
}

/// The operations on nodes.
#[async_trait]
pub trait Nodes {
    /// Adds a node, or puts it back with its count of renewals begun anew. What it has under way has begun after every
    /// landing there was.
    async fn join_node(&mut self, node: &Node) -> Result<()>;

    /// A sign of life. `false` when the node is gone: its lease was ended by another.
    async fn renew_node(&mut self, id: &NodeId, epoch: u64, landed: u64, now: Time) -> Result<bool>;

    /// Asks the nodes to let land what is under way; answers which landing that is.
    async fn ask_landing(&mut self) -> Result<u64>;

    /// Every node.
    async fn nodes(&mut self) -> Result<Vec<Node>>;

    /// Ends the lease of a node that has given no sign of life since `renewals`. `false` when it has, or is gone.
    async fn expire_node(&mut self, id: &NodeId, renewals: u64) -> Result<bool>;

    /// Takes a node out that stops in good order, and the lead from it.
    async fn leave_node(&mut self, id: &NodeId) -> Result<()>;

    /// How things stand; `None` without a vault.
    async fn pulse(&mut self) -> Result<Option<Pulse>>;

    /// Takes the lead if it has not changed hands since `term`.
    async fn take_lead(&mut self, id: &NodeId, term: u64) -> Result<bool>;

    /// Asks whoever leads for an epoch.
    async fn want_epoch(&mut self, epoch: u64) -> Result<()>;

    /// Notes that a process may be writing.
    async fn begin_writer(&mut self, id: &NodeId) -> Result<()>;

    /// Notes that it does not any more.
    async fn end_writer(&mut self, id: &NodeId) -> Result<()>;

    /// Whether one is noted so that is no node.
    async fn has_dead_writers(&mut self) -> Result<bool>;

    /// Removes the notes of those.
    async fn forget_dead_writers(&mut self) -> Result<()>;
}
