//! The search index: encrypted buckets of fixed-size chunks, in generations under one index key each.

use async_trait::async_trait;

use crate::model::Result;

/// What a generation of the index is used for. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its buckets are being made; nobody uses it.
    Preparing = 1,
    /// It is written, and filled with what was there before it.
    Building = 2,
    /// It is written and read. One is.
    Current = 3,
    /// Nobody uses it; its buckets are being destroyed.
    Retired = 4,
}

impl Stage {
    /// The number that stores keep.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The stage with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Preparing,
            2 => Self::Building,
            3 => Self::Current,
            4 => Self::Retired,
            _ => return None,
        })
    }
}

/// An index under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub generation: u32,
    /// The leaf of the key that names its buckets.
    pub leaf: u32,
    /// The number of its first bucket: no two generations share one.
    pub first_bucket: u32,
    /// How many buckets it has.
    pub buckets: u32,
    /// What it is used for.
    pub stage: Stage,
}

impl Generation {
    /// Whether new entries are put into it.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        matches!(self.stage, Stage::Building | Stage::Current)
    }

    /// The leaves that it was made with: that of its key, then one for each bucket in order.
    #[must_use]
    pub const fn first_leaves(&self) -> std::ops::RangeInclusive<u32> {
        self.leaf..=self.leaf.saturating_add(self.buckets)
    }

    /// The numbers of its buckets.
    #[must_use]
    pub const fn numbers(&self) -> std::ops::Range<u32> {
        self.first_bucket..self.first_bucket.saturating_add(self.buckets)
    }
}

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
    /// Every generation, in order.
    async fn generations(&mut self) -> Result<Vec<Generation>>;

    /// Adds a generation, or moves the one of its number to another stage.
    async fn put_generation(&mut self, generation: &Generation) -> Result<()>;

    /// Removes a generation whose buckets are gone.
    async fn delete_generation(&mut self, generation: u32) -> Result<()>;

    /// Removes buckets with their chunks.
    async fn delete_buckets(&mut self, buckets: &[u32]) -> Result<()>;

    /// Adds buckets, or replaces what they are sealed under and how long they are.
    async fn put_buckets(&mut self, buckets: &[Bucket]) -> Result<()>;

    /// Adds or replaces chunks; their buckets must exist.
    async fn put_chunks(&mut self, chunks: &[Chunk]) -> Result<()>;

    /// Removes every chunk of the buckets.
    async fn delete_chunks(&mut self, buckets: &[u32]) -> Result<()>;

    /// Those of the buckets that exist, and every dirty one, in order.
    async fn buckets_and_dirty(&mut self, buckets: &[u32]) -> Result<Vec<Bucket>>;

    /// Marks buckets dirty. They must be locked.
    async fn mark_buckets(&mut self, buckets: &[u32]) -> Result<()>;

    /// Locks the buckets, in order, until the transaction ends. Read their chunks afterwards, not before.
    async fn lock_buckets(&mut self, buckets: &[u32]) -> Result<()>;

    /// The last chunk of each bucket: the only one that may have room.
    async fn tail_chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>>;

    /// Every chunk of the buckets, in order.
    async fn chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>>;
}
