//! Who was disabled, and enabled again.

use async_trait::async_trait;

use crate::model::{Result, Time};

/// That a caller was disabled, or enabled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerChange {
    /// Its place among all of them, from 1.
    pub seq: i64,
    /// Whose.
    pub caller: String,
    /// Which.
    pub disabled: bool,
    /// A code or a ticket.
    pub reason: String,
    /// By whom.
    pub changed_by: String,
    /// When.
    pub changed_at: Time,
}

/// The operations on callers.
#[async_trait]
pub trait Accesses {
    /// Changes after a place, in order.
    async fn caller_changes(&mut self, after: i64) -> Result<Vec<CallerChange>>;

    /// Adds a change. `false`, and no change, when its place is taken.
    async fn insert_caller_change(&mut self, change: &CallerChange) -> Result<bool>;
}
