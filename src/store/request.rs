//! Answers to writes that carried a `request_id`, so that the same id gets the first answer.

use async_trait::async_trait;

use crate::model::{RequestId, Result, SubjectId, Time};

/// What a write answered the first time.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who asked.
    pub caller: String,
    /// The id they gave.
    pub id: RequestId,
    /// Which rpc.
    pub deed: String,
    /// The subject that was answered.
    pub subject: Option<SubjectId>,
    /// Ids of what was made, as JSON.
    pub answer: String,
    /// When.
    pub created_at: Time,
}

/// The operations on answers.
#[async_trait]
pub trait Requests {
    /// The answers to those of the requests that were made before.
    async fn answers(&mut self, requests: &[(String, RequestId)]) -> Result<Vec<Answer>>;

    /// Keeps answers; one that is there stays.
    async fn insert_answers(&mut self, answers: &[Answer]) -> Result<()>;
}
