//! The audit log: batches of entries, each chained to the one before.

use async_trait::async_trait;

use crate::model::{Result, Time};

/// Entries that became durable together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose chain.
    pub node: [u8; 16],
    /// Position in the chain, from 1.
    pub seq: u64,
    /// Hash of the batch before.
    pub prev_hash: [u8; 32],
    /// RFC 6962 root over the entries.
    pub merkle: [u8; 32],
    /// How many entries.
    pub entries: u64,
    /// One JSON document a line.
    pub body: String,
    /// When it was written.
    pub created_at: Time,
}

/// The operations on the audit log.
#[async_trait]
pub trait Audits {
    /// Appends a batch; refuses a position that is taken.
    async fn insert_audit_batch(&mut self, batch: &Batch) -> Result<()>;

    /// The newest batch of a chain.
    async fn audit_head(&mut self, node: &[u8; 16]) -> Result<Option<Batch>>;

    /// When the newest batch of any chain, erasure, subject or token was written.
    async fn newest_record(&mut self) -> Result<Option<Time>>;

    /// Whose chains there are.
    async fn audit_nodes(&mut self) -> Result<Vec<[u8; 16]>>;

    /// Batches of one chain before a position, the newest first.
    async fn audit_batches_before(&mut self, node: &[u8; 16], seq: u64, limit: u32) -> Result<Vec<Batch>>;

    /// Batches of every chain in order, after a position.
    async fn list_audit_batches(&mut self, after: Option<([u8; 16], u64)>, limit: u32) -> Result<Vec<Batch>>;
}
