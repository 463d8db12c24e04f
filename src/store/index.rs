//! The search index: encrypted buckets of fixed-size chunks.

use async_trait::async_trait;

use crate::model::Result;

/// What a bucket is sealed under and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its number.
    pub bucket: u32,
    /// The leaf whose key seals its chunks.
    pub leaf: u32,
    /// How many chunks it has, at least one.
    pub chunks: u32,
    /// Whether an entry was taken out since it got its leaf.
    pub dirty: bool,
}

/// One sealed chunk of a bucket.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The bucket as it was when the chunk was read.
    pub bucket: Bucket,
    /// Which chunk of it, from 0.
    pub chunk: u32,
    /// The envelope.
    pub blob: Vec<u8>,
}

/// The operations on the index.
#[async_trait]
pub trait Indexes {
    /// Adds buckets, or replaces what they are sealed under and how long they are.
    async fn put_buckets(&mut self, buckets: &[Bucket]) -> Result<()>;

    /// Adds or replaces chunks; their buckets must exist.
    async fn put_chunks(&mut self, chunks: &[Chunk]) -> Result<()>;

    /// Removes every chunk of the buckets.
    async fn delete_chunks(&mut self, buckets: &[u32]) -> Result<()>;

    /// Those of the buckets that exist, and every dirty one, in order.
    async fn buckets_and_dirty(&mut self, buckets: &[u32]) -> Result<Vec<Bucket>>;

    /// Locks the buckets, in order, until the transaction ends. Read their chunks afterwards, not before.
    async fn lock_buckets(&mut self, buckets: &[u32]) -> Result<()>;

    /// The last chunk of each bucket: the only one that may have room.
    async fn tail_chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>>;

    /// Every chunk of the buckets, in order.
    async fn chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>>;
}
