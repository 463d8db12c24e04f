//! Tokens and the sealed values behind them.

use async_trait::async_trait;

use crate::model::{ErasureId, FieldType, Result, SubjectId, SubjectState, Time, TokenFormat, TokenRow};

/// A token's row.
#[derive(Clone, Debug)]
pub struct Record {
    /// The row id.
    pub row: TokenRow,
    /// Whose value it stands for.
    pub subject: SubjectId,
    /// What the value is.
    pub kind: FieldType,
    /// Retention class.
    pub class: String,
    /// What the token looks like.
    pub format: TokenFormat,
    /// The token itself, when it is shaped.
    pub shaped: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// When it stops revealing.
    pub expires_at: Option<Time>,
    /// Whether the first reveal is the last.
    pub single_use: bool,
    /// When it was made.
    pub created_at: Time,
    /// The leaf whose key seals the value.
    pub leaf: u32,
    /// The version of that key.
    pub key_version: u32,
    /// Where the value came from.
    pub source: String,
    /// Counts changes of the value.
    pub version: u64,
    /// When a single-use token was revealed.
    pub spent_at: Option<Time>,
    /// When a caller deleted it.
    pub deleted_at: Option<Time>,
    /// The envelope; absent once deleted or erased.
    pub sealed: Option<Vec<u8>>,
}

/// A token with what decides about it, read in one statement.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The token.
    pub token: Record,
    /// Where its subject is.
    pub state: SubjectState,
    /// Whether its subject may be profiled.
    pub profiling: bool,
    /// Since when its subject is restricted.
    pub restricted_at: Option<Time>,
    /// The erasure of its subject: scheduled, under way or done.
    pub erasure: Option<ErasureId>,
    /// When the scheduled erasure is due.
    pub execute_at: Option<Time>,
    /// When its subject was erased.
    pub erased_at: Option<Time>,
}

/// The operations on tokens.
#[async_trait]
pub trait Tokens {
    /// Adds tokens and answers which: one whose shape is taken is left out.
    async fn insert_tokens(&mut self, tokens: &[Record]) -> Result<Vec<TokenRow>>;

    /// The facts of those tokens that exist, by row id or by shape.
    async fn facts(&mut self, rows: &[TokenRow], shapes: &[&str]) -> Result<Vec<Facts>>;

    /// Writes what may change of each.
    async fn update_tokens(&mut self, tokens: &[Record]) -> Result<()>;

    /// Marks single-use tokens as revealed and answers those that were not yet.
    async fn spend_tokens(&mut self, rows: &[TokenRow], at: Time) -> Result<Vec<TokenRow>>;

    /// A page of a subject's tokens, oldest first.
    async fn list_tokens(&mut self, subject: SubjectId, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>>;

    /// A page of all tokens, oldest first.
    async fn scan_tokens(&mut self, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>>;

    /// All tokens of the subjects that still have a value.
    async fn sealed_tokens(&mut self, subjects: &[SubjectId]) -> Result<Vec<Record>>;

    /// Removes the values of the subjects' tokens; the tokens stay.
    async fn delete_values(&mut self, subjects: &[SubjectId]) -> Result<()>;
}
