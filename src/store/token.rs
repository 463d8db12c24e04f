//! Tokens and the sealed values behind them.

use async_trait::async_trait;

use crate::model::{Facts, FieldType, Result, SubjectId, Time, Token, TokenRow};

/// The operations on tokens.
#[async_trait]
pub trait Tokens {
    /// Adds tokens and answers which: one whose shape is taken is left out.
    async fn insert_tokens(&mut self, tokens: &[Token]) -> Result<Vec<TokenRow>>;

    /// The facts of those tokens that exist, by row id or by shape, each for a purpose: how the person's consents to it
    /// stand, read in the same statement.
    async fn facts_for(&mut self, rows: &[(TokenRow, &str)], shapes: &[(&str, &str)]) -> Result<Vec<Facts>>;

    /// The same for no purpose.
    async fn facts(&mut self, rows: &[TokenRow], shapes: &[&str]) -> Result<Vec<Facts>> {
        let rows: Vec<_> = rows.iter().map(|row| (*row, "")).collect();
        let shapes: Vec<_> = shapes.iter().map(|shape| (*shape, "")).collect();
        self.facts_for(&rows, &shapes).await
    }

    /// The facts of a subject's newest values that can be shown more than once, at most `each` of a type, for a purpose.
    async fn newest_facts(&mut self, subject: SubjectId, purpose: &str, each: u32) -> Result<Vec<Facts>>;

    /// When a value of each of the subjects was last added, or a call recorded in which they took part.
    async fn last_added(&mut self, subjects: &[SubjectId]) -> Result<Vec<(SubjectId, Time)>>;

    /// Writes what may change of each.
    async fn update_tokens(&mut self, tokens: &[Token]) -> Result<()>;

    /// Says that these of a subject's tokens, or all of them, are another's.
    async fn give_tokens(&mut self, from: SubjectId, to: SubjectId, rows: Option<&[TokenRow]>) -> Result<()>;

    /// Marks single-use tokens as revealed and answers those that were not yet.
    async fn spend_tokens(&mut self, rows: &[TokenRow], at: Time) -> Result<Vec<TokenRow>>;

    /// A page of a subject's tokens, oldest first.
    async fn list_tokens(&mut self, subject: SubjectId, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>>;

    /// A page of all tokens, oldest first.
    async fn scan_tokens(&mut self, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>>;

    /// All tokens of the subjects that still have a value.
    async fn sealed_tokens(&mut self, subjects: &[SubjectId]) -> Result<Vec<Token>>;

    /// A page of a subject's tokens whose values are sealed under one of the leaves, oldest first.
    async fn tokens_under(
        &mut self,
        subject: SubjectId,
        leaves: &[u32],
        after: Option<TokenRow>,
        limit: u32,
    ) -> Result<Vec<Token>>;

    /// How many values of a subject are sealed under one of the leaves.
    async fn count_under(&mut self, subject: SubjectId, leaves: &[u32]) -> Result<u64>;

    /// How many tokens have a value.
    async fn count_sealed(&mut self) -> Result<u64>;

    /// Removes the values of one type from a subject's tokens and answers how many; the tokens stay.
    async fn delete_values_of(&mut self, subject: SubjectId, kind: FieldType) -> Result<u64>;

    /// Removes the values of the subjects' tokens, but for those under keys that outlast an erasure; the tokens stay.
    async fn delete_values(&mut self, subjects: &[SubjectId]) -> Result<()>;
}
