//! Leaves of the key tree: handing them out, and finding those that nobody names.

use async_trait::async_trait;

use crate::model::Result;

/// From one leaf to another.
pub type Range = (u32, u32);

/// The operations on leaves.
#[async_trait]
pub trait Leaves {
    /// Takes `count` leaves that nobody had before and answers the first.
    async fn take_leaves(&mut self, count: u32) -> Result<u32>;

    /// Never hands out a leaf below `floor` again.
    async fn raise_next_leaf(&mut self, floor: u32) -> Result<()>;

    /// The highest leaf that a subject's key, an index key or a bucket has.
    async fn highest_leaf(&mut self) -> Result<Option<u32>>;

    /// Notes leaves, in the transaction that takes them, as handed out and perhaps in use.
    async fn open_leaves(&mut self, first: u32, count: u32) -> Result<()>;

    /// Those of the leaves that are noted so. Until the transaction ends nobody can close them.
    async fn hold_leaves(&mut self, leaves: &[u32]) -> Result<Vec<u32>>;

    /// Removes all these notes, after the transactions that hold some of them have ended; answers the first and the last
    /// leaf of each.
    async fn close_leaves(&mut self) -> Result<Vec<Range>>;

    /// What they say at this moment.
    async fn open_ranges(&mut self) -> Result<Vec<Range>>;

    /// Of leaves within ranges, those that a subject's key, an index key or a bucket has, in order.
    async fn named_leaves(&mut self, ranges: &[Range]) -> Result<Vec<u32>>;

    /// Takes `count` leaves from those that are kept for buckets. Answers the first, and the end of what is kept: when
    /// that comes before the last one taken, there are not as many, and [`Leaves::put_spare_leaves`] must follow.
    async fn take_spare_leaves(&mut self, count: u32) -> Result<Range>;

    /// Keeps other leaves for buckets, from the first to before the end.
    async fn put_spare_leaves(&mut self, first: u32, end: u32) -> Result<()>;

    /// Those that are kept for buckets, from the first to before the end.
    async fn spare_leaves(&mut self) -> Result<Range>;
}
