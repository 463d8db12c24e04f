//! What is kept only for a time: keys by the month of their values, the runs that destroy them, and what the clock has shown.

use async_trait::async_trait;

use super::node::NodeId;
use crate::model::{Cohort, Result, RetentionRun, RetentionRunId, SubjectId, Time, TokenRow};

/// A key that may have been kept long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its leaf.
    pub leaf: u32,
    /// Whose.
    pub subject: SubjectId,
    /// Its month.
    pub cohort: Cohort,
}

/// Keys of one subject and class that were made before the class had a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undated {
    /// Whose.
    pub subject: SubjectId,
    /// When the newest value under any of them was kept; when the newest was made, if there is none.
    pub newest_at: Time,
}

/// Values of one class and month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The class.
    pub class: String,
    /// The month; `None` of keys that are not dated yet.
    pub cohort: Option<Cohort>,
    /// Whether processing of their subjects is restricted.
    pub restricted: bool,
    /// Until when they outlast the erasure of their subjects; `None` of subjects who are not erased.
    pub kept_until: Option<Time>,
    /// So many subjects.
    pub subjects: u64,
    /// So many values.
    pub values: u64,
}

/// What the clock has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSeen {
    /// When somebody last looked.
    pub seen_at: Time,
    /// When a doubt ends; [`Time::LAST`] when only a person can end it.
    pub trusted_at: Time,
    /// The highest time that was believed.
    pub believed_at: Time,
}

/// The operations on retention.
#[async_trait]
pub trait Retentions {
    /// A page of keys of a class that nobody has ended, up to a month, by month and leaf; of people who are neither restricted
    /// nor erased.
    async fn due_keys(
        &mut self,
        class: &str,
        upto: Cohort,
        after: Option<(Cohort, u32)>,
        limit: u32,
    ) -> Result<Vec<Due>>;

    /// A page, by leaf, of keys that outlasted the erasure of their subject until a time that is over.
    async fn due_kept(&mut self, now: Time, after: Option<u32>, limit: u32) -> Result<Vec<Due>>;

    /// Subjects, in order, with keys of a class that have no month and under which nothing is younger than `before`; who are
    /// not erased. All keys of a subject count as one: a rotation may be moving values between them.
    async fn undated_keys(
        &mut self,
        class: &str,
        before: Time,
        after: Option<SubjectId>,
        limit: u32,
    ) -> Result<Vec<Undated>>;

    /// Gives the keys of a subject and class that have no month one. The subjects must be locked.
    async fn date_keys(&mut self, class: &str, keys: &[(SubjectId, Cohort)]) -> Result<()>;

    /// Retires keys because their retention has ended. Their subjects must be locked.
    async fn end_keys(&mut self, leaves: &[u32], run: RetentionRunId) -> Result<()>;

    /// Removes values because their retention has ended; the tokens stay.
    async fn end_tokens(&mut self, rows: &[TokenRow], at: Time) -> Result<()>;

    /// How many values of these classes there are, by month, of people who are not erased.
    async fn count_cohorts(&mut self, classes: &[String]) -> Result<Vec<Counted>>;

    /// How much outlasts the erasure of its subject, by class, month and end.
    async fn count_kept(&mut self) -> Result<Vec<Counted>>;

    /// Whether a key that the run has ended is to go with an epoch after this one.
    async fn run_waits(&mut self, run: RetentionRunId, epoch: u64) -> Result<bool>;

    /// Adds a run that a node makes, or writes what it has destroyed. `false` when the run is not that node's any more.
    async fn sweep_run(&mut self, run: &RetentionRun, owner: &NodeId) -> Result<bool>;

    /// Has a node go on with a run. `false` when it is not SWEEPING, or another node that is there makes it.
    async fn adopt_run(&mut self, run: RetentionRunId, owner: &NodeId) -> Result<bool>;

    /// Ends the sweep of a run that a node makes: it is PENDING from then on. `false` as in `sweep_run`.
    async fn close_run(&mut self, run: RetentionRunId, owner: &NodeId) -> Result<bool>;

    /// Writes that a PENDING run is done, with its receipt.
    async fn settle_run(&mut self, run: &RetentionRun) -> Result<()>;

    /// Lets go of the runs that a node makes.
    async fn leave_runs(&mut self, owner: &NodeId) -> Result<()>;

    /// The oldest run that is SWEEPING and that this node may go on with.
    async fn left_run(&mut self, owner: &NodeId) -> Result<Option<RetentionRunId>>;

    /// One run, locked until the transaction ends.
    async fn lock_run(&mut self, run: RetentionRunId) -> Result<Option<RetentionRun>>;

    /// One run.
    async fn retention_run(&mut self, run: RetentionRunId) -> Result<Option<RetentionRun>>;

    /// Those that are PENDING, oldest first.
    async fn pending_runs(&mut self) -> Result<Vec<RetentionRun>>;

    /// A page, newest first.
    async fn list_runs(&mut self, after: Option<RetentionRunId>, limit: u32) -> Result<Vec<RetentionRun>>;

    /// What the clock has shown.
    async fn retention_clock(&mut self) -> Result<ClockSeen>;

    /// Writes what the clock shows.
    async fn put_retention_clock(&mut self, seen: &ClockSeen) -> Result<()>;
}
