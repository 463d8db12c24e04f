//! What is kept only for a time: keys by the month of their values, the runs that destroy them, and what the clock has shown.

use async_trait::async_trait;

use crate::model::{Cohort, Result, RetentionRun, RetentionRunId, SubjectId, Time, TokenRow};

/// A key that may have been kept long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its leaf.
    pub leaf: u32,
    /// Whose.
    pub subject: SubjectId,
}

/// A key of a class with a period that was made before the class had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undated {
    /// Its leaf.
    pub leaf: u32,
    /// Whose.
    pub subject: SubjectId,
    /// When the newest value under it was kept; when it was made, if there is none.
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
    /// From when on it is believed.
    pub trusted_at: Time,
}

/// The operations on retention.
#[async_trait]
pub trait Retentions {
    /// A page of keys that nobody has ended, by leaf, of classes each up to a month; of people who are neither restricted
    /// nor erased.
    async fn due_keys(&mut self, upto: &[(String, Cohort)], after: Option<u32>, limit: u32) -> Result<Vec<Due>>;

    /// A page of keys of the classes that have no month, by leaf; of people who are not erased.
    async fn undated_keys(&mut self, classes: &[String], after: Option<u32>, limit: u32) -> Result<Vec<Undated>>;

    /// Gives keys a month. Their subjects must be locked.
    async fn date_keys(&mut self, keys: &[(u32, Cohort)]) -> Result<()>;

    /// Retires keys because their retention has ended. Their subjects must be locked.
    async fn end_keys(&mut self, leaves: &[u32], run: RetentionRunId) -> Result<()>;

    /// Removes values because their retention has ended; the tokens stay.
    async fn end_tokens(&mut self, rows: &[TokenRow], at: Time) -> Result<()>;

    /// How many values of these classes there are, by month, of people who are not erased.
    async fn count_cohorts(&mut self, classes: &[String]) -> Result<Vec<Counted>>;

    /// Whether a key that the run has ended is to go with an epoch after this one.
    async fn run_waits(&mut self, run: RetentionRunId, epoch: u64) -> Result<bool>;

    /// Adds a run, or writes what may change of it.
    async fn put_run(&mut self, run: &RetentionRun) -> Result<()>;

    /// One run, locked until the transaction ends.
    async fn lock_run(&mut self, run: RetentionRunId) -> Result<Option<RetentionRun>>;

    /// One run.
    async fn retention_run(&mut self, run: RetentionRunId) -> Result<Option<RetentionRun>>;

    /// Those that are not done, oldest first.
    async fn pending_runs(&mut self) -> Result<Vec<RetentionRun>>;

    /// A page, newest first.
    async fn list_runs(&mut self, after: Option<RetentionRunId>, limit: u32) -> Result<Vec<RetentionRun>>;

    /// What the clock has shown.
    async fn retention_clock(&mut self) -> Result<ClockSeen>;

    /// Writes what the clock shows.
    async fn put_retention_clock(&mut self, seen: &ClockSeen) -> Result<()>;
}
