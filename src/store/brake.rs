//! What callers have used of their limits, so that a restart forgets nothing and nodes know of each other.

use async_trait::async_trait;

use crate::model::{Result, SubjectId, Time};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Values that were shown.
    Reveals = 1,
    /// Look-ups that found nothing.
    Misses = 2,
    /// Numbers of callers that were looked up.
    Lookups = 3,
}

impl Counted {
    /// All that is counted.
    pub const ALL: [Self; 3] = [Self::Reveals, Self::Misses, Self::Lookups];
}

/// What was counted of one caller in one part of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// What.
    pub counted: Counted,
    /// Of whom.
    pub caller: String,
    /// When the part of time ends.
    pub part: Time,
    /// How many.
    pub count: u64,
}

/// A subject that does not exist, and that nobody has a reason to touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Honey {
    /// Its id.
    pub subject: SubjectId,
    /// What it is for: a code or a ticket, or empty.
    pub label: String,
    /// By whom it was placed.
    pub placed_by: String,
    /// When.
    pub placed_at: Time,
}

/// The operations on counts and honey.
#[async_trait]
pub trait Brakes: Send {
    /// Adds to what a process has counted.
    async fn add_used(&mut self, process: &[u8; 16], used: &[Used]) -> Result<()>;

    /// What all other processes have counted in parts of time that end after `since`, which is named for each of what is
    /// asked for.
    async fn used_elsewhere(&mut self, process: &[u8; 16], since: &[(Counted, Time)]) -> Result<Vec<Used>>;

    /// All honey, in the order of the subjects' ids.
    async fn honey(&mut self) -> Result<Vec<Honey>>;

    /// Places honey, unless it is there.
    async fn put_honey(&mut self, honey: &Honey) -> Result<()>;

    /// Lifts honey. Answers whether there was any.
    async fn remove_honey(&mut self, subject: SubjectId) -> Result<bool>;

    /// Removes counts of parts of time that ended before, which is named for each of what is counted.
    async fn remove_used_before(&mut self, before: &[(Counted, Time)]) -> Result<()>;
}
