//! Erasures, from the request to the receipt.

use async_trait::async_trait;

use crate::model::{Erasure, ErasureId, ErasureState, Result, SubjectId, Time};

/// The operations on erasures.
#[async_trait]
pub trait Erasures {
    /// Adds one.
    async fn insert_erasures(&mut self, erasures: &[Erasure]) -> Result<()>;

    /// Those of `ids` that exist, locked until the transaction ends.
    async fn lock_erasures(&mut self, ids: &[ErasureId]) -> Result<Vec<Erasure>>;

    /// Those of `ids` that exist.
    async fn erasures(&mut self, ids: &[ErasureId]) -> Result<Vec<Erasure>>;

    /// Writes what may change of each.
    async fn update_erasures(&mut self, erasures: &[Erasure]) -> Result<()>;

    /// A page, oldest first.
    async fn list_erasures(&mut self, after: Option<ErasureId>, limit: u32) -> Result<Vec<Erasure>>;

    /// All in a state, oldest first; of the scheduled ones only those due at `now`.
    async fn erasures_in(&mut self, state: ErasureState, now: Time) -> Result<Vec<Erasure>>;

    /// How many values each retention class of a subject holds.
    async fn count_values(&mut self, subject: SubjectId) -> Result<Vec<(String, u64)>>;
}
