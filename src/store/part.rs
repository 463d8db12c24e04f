//! Parts of calls.

use async_trait::async_trait;

use crate::model::{CallId, Part, PartId, Result};

/// The operations on parts.
#[async_trait]
pub trait Parts {
    /// Those of the parts that there are.
    async fn parts(&mut self, ids: &[PartId]) -> Result<Vec<Part>>;

    /// The parts of calls, in the order in which they were attached.
    async fn parts_of(&mut self, calls: &[CallId]) -> Result<Vec<Part>>;

    /// Adds parts and answers how many: one whose name there is already is left out.
    async fn insert_parts(&mut self, parts: &[Part]) -> Result<u64>;

    /// Notes that calls have changed, once for each time that they are named.
    async fn touch_calls(&mut self, calls: &[CallId]) -> Result<()>;
}
