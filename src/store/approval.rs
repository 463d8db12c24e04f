//! Requests for approval.

use async_trait::async_trait;

use crate::model::{Approval, ApprovalId, Result, Time};

/// The operations on approvals.
#[async_trait]
pub trait Approvals: Send {
    /// Keeps a request, unless the same caller waits for exactly the same already. Answers whether it is kept.
    async fn insert_approval(&mut self, approval: &Approval) -> Result<bool>;

    /// One of them.
    async fn approval(&mut self, id: ApprovalId) -> Result<Option<Approval>>;

    /// The same, which nobody else can change until the transaction ends.
    async fn lock_approval(&mut self, id: ApprovalId) -> Result<Option<Approval>>;

    /// Requests of a caller for exactly this that are pending or granted, the newest first.
    async fn approvals_for(&mut self, caller: &str, digest: &[u8; 32], now: Time) -> Result<Vec<Approval>>;

    /// How many requests of a caller are pending.
    async fn approvals_pending(&mut self, caller: &str, now: Time) -> Result<u64>;

    /// Requests before an id, the newest first; only open ones if asked to.
    async fn list_approvals(
        &mut self,
        before: Option<ApprovalId>,
        open: Option<Time>,
        limit: u32,
    ) -> Result<Vec<Approval>>;

    /// Writes what was decided.
    async fn update_approval(&mut self, approval: &Approval) -> Result<()>;

    /// Uses one that is granted. `false`, and no change, when it is not, or is used already.
    async fn use_approval(&mut self, id: ApprovalId, now: Time) -> Result<bool>;

    /// Removes those that could be used until before a time.
    async fn remove_approvals_before(&mut self, time: Time) -> Result<()>;
}
