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
    /// The first 8 bytes of the leaf hash of each entry, to tell which one was altered.
    pub marks: Vec<u8>,
    /// One JSON document a line.
    pub body: String,
    /// When it was written.
    pub created_at: Time,
}

/// What of a batch the chain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Position in the chain.
    pub seq: u64,
    /// Hash of the batch before.
    pub prev_hash: [u8; 32],
    /// RFC 6962 root over the entries.
    pub merkle: [u8; 32],
    /// How many entries.
    pub entries: u64,
    /// When it was written.
    pub created_at: Time,
}

impl Batch {
    /// What of it the chain is made of.
    #[must_use]
    pub const fn link(&self) -> Link {
        let Self { seq, prev_hash, merkle, entries, created_at, .. } = *self;
        Link { seq, prev_hash, merkle, entries, created_at }
    }
}

/// What a signed note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// How far a chain has come.
    Checkpoint = 0,
    /// How far it was cut off when that was old enough.
    Cut = 1,
}

/// A signed note about a chain, with what is needed to go on from there.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Whose chain.
    pub node: [u8; 16],
    /// What it is about.
    pub kind: MarkKind,
    /// Up to which batch.
    pub size: u64,
    /// The roots of the complete trees up to there, one after the other.
    pub frontier: Vec<u8>,
    /// The note.
    pub note: String,
    /// When it was signed.
    pub created_at: Time,
}

/// Where a walk in the order of time has come: when a batch was written, in whose chain and where in it.
pub type Place = (Time, [u8; 16], u64);

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

    /// What a chain is made of after a position, in order.
    async fn audit_links(&mut self, node: &[u8; 16], after: u64, limit: u32) -> Result<Vec<Link>>;

    /// Batches of every chain that were written after a place, until a time at most, in the order of time.
    async fn audit_batches_since(&mut self, after: Place, until: Time, limit: u32) -> Result<Vec<Batch>>;

    /// The signed notes of a kind, the newest of each chain.
    async fn audit_marks(&mut self, kind: MarkKind) -> Result<Vec<Mark>>;

    /// Keeps a signed note instead of the one before, unless that goes further.
    async fn put_audit_mark(&mut self, mark: &Mark) -> Result<()>;

    /// The last batch of a chain that was written before a time, of those up to `most`.
    async fn last_audit_batch_before(&mut self, node: &[u8; 16], time: Time, most: u64) -> Result<Option<u64>>;

    /// Removes batches of a chain up to a position, as many as `limit` at a time. Answers how many.
    async fn delete_audit_batches(&mut self, node: &[u8; 16], upto: u64, limit: u32) -> Result<u64>;
}
