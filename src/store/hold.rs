//! Legal holds and the copies that they keep.

use async_trait::async_trait;

use crate::model::{HeldSubject, Hold, HoldId, Result, SubjectId, Token, TokenRow};

/// Which holds a list is of; all that are not said are of it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of one matter.
    pub matter: Option<String>,
    /// Those over one subject.
    pub subject: Option<SubjectId>,
    /// Those that run, or those that were released.
    pub released: Option<bool>,
}

/// The operations on holds.
#[async_trait]
pub trait Holds {
    /// Adds one, with whom it is over. The subjects must be locked.
    async fn insert_hold(&mut self, hold: &Hold, over: &[HeldSubject]) -> Result<()>;

    /// Adds copies: each a token whose envelope is the copy, under the leaf of the hold.
    async fn insert_held(&mut self, hold: HoldId, copies: &[Token]) -> Result<()>;

    /// One hold, locked until the transaction ends. Its subjects are locked before it.
    async fn lock_hold(&mut self, id: HoldId) -> Result<Option<Hold>>;

    /// Those of `ids` that exist.
    async fn holds(&mut self, ids: &[HoldId]) -> Result<Vec<Hold>>;

    /// A page, oldest first.
    async fn list_holds(&mut self, filter: &Filter, after: Option<HoldId>, limit: u32) -> Result<Vec<Hold>>;

    /// Whom holds are over, in the order of the subjects.
    async fn held_subjects(&mut self, ids: &[HoldId]) -> Result<Vec<(HoldId, HeldSubject)>>;

    /// The tokens that a hold keeps copies of, in order.
    async fn held_rows(&mut self, id: HoldId) -> Result<Vec<TokenRow>>;

    /// The copies of the values of these tokens, of the oldest hold each: as tokens in the class of the hold, under its key.
    async fn held_tokens(&mut self, rows: &[TokenRow]) -> Result<Vec<Token>>;

    /// All copies of values of these subjects, in the same form.
    async fn held_of(&mut self, subjects: &[SubjectId]) -> Result<Vec<Token>>;

    /// How many copies are under a leaf.
    async fn count_held(&mut self, leaf: u32) -> Result<u64>;

    /// Writes the end of a hold and removes its copies. It must be locked.
    async fn release_hold(&mut self, hold: &Hold) -> Result<()>;
}
