//! People, by pseudonym.

use async_trait::async_trait;

use crate::model::{Result, Subject, SubjectId, SubjectState};

/// Which subjects to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<SubjectState>,
    /// Only those of this kind.
    pub kind: Option<String>,
}

/// The operations on subjects.
#[async_trait]
pub trait Subjects {
    /// Adds subjects.
    async fn insert_subjects(&mut self, subjects: &[Subject]) -> Result<()>;

    /// Those of `ids` that exist.
    async fn subjects(&mut self, ids: &[SubjectId]) -> Result<Vec<Subject>>;

    /// The same, locked in order until the transaction ends.
    async fn lock_subjects(&mut self, ids: &[SubjectId]) -> Result<Vec<Subject>>;

    /// Writes what may change of each.
    async fn update_subjects(&mut self, subjects: &[Subject]) -> Result<()>;

    /// A page, oldest first.
    async fn list_subjects(&mut self, filter: &Filter, after: Option<SubjectId>, limit: u32) -> Result<Vec<Subject>>;
}
