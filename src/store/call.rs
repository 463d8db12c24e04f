//! Calls, their legs, parties and values.

use async_trait::async_trait;

use crate::model::{Call, CallFilter, CallId, Leg, Party, PartyValue, Result, SubjectId, TokenRow};

/// The operations on calls.
#[async_trait]
pub trait Calls {
    /// The legs of these systems and names that there are.
    async fn legs_named(&mut self, names: &[(&str, &str)]) -> Result<Vec<Leg>>;

    /// The calls of these systems and groups that there are.
    async fn calls_grouped(&mut self, groups: &[(&str, &str)]) -> Result<Vec<Call>>;

    /// Those of the calls that there are, oldest first.
    async fn calls(&mut self, ids: &[CallId]) -> Result<Vec<Call>>;

    /// The same, locked in order until the transaction ends.
    async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<Call>>;

    /// The legs of calls, in order of their beginning.
    async fn legs_of(&mut self, ids: &[CallId]) -> Result<Vec<Leg>>;

    /// The parties of calls, by number.
    async fn parties_of(&mut self, ids: &[CallId]) -> Result<Vec<Party>>;

    /// The values of their parties.
    async fn party_values_of(&mut self, ids: &[CallId]) -> Result<Vec<PartyValue>>;

    /// The values of parties that these tokens stand for.
    async fn party_values_by(&mut self, tokens: &[TokenRow]) -> Result<Vec<PartyValue>>;

    /// Adds calls and answers how many: one whose group there is already is left out.
    async fn insert_calls(&mut self, calls: &[Call]) -> Result<u64>;

    /// Writes what may change of each.
    async fn update_calls(&mut self, calls: &[Call]) -> Result<()>;

    /// Adds legs, or writes what may change of each; answers of how many. One that is of another call is left out.
    async fn put_legs(&mut self, legs: &[Leg]) -> Result<u64>;

    /// Adds parties.
    async fn insert_parties(&mut self, parties: &[Party]) -> Result<()>;

    /// The calls that a subject is a party of, in order.
    async fn calls_with(&mut self, subject: SubjectId) -> Result<Vec<CallId>>;

    /// Says that another is whoever a subject is in calls, and nobody else.
    async fn give_parties(&mut self, from: SubjectId, to: SubjectId) -> Result<()>;

    /// Says who parties are.
    async fn put_parties(&mut self, parties: &[Party]) -> Result<()>;

    /// Says by which tokens the values of parties are.
    async fn put_party_values(&mut self, values: &[PartyValue]) -> Result<()>;

    /// A page of calls, oldest recorded first.
    async fn list_calls(&mut self, filter: &CallFilter, after: Option<CallId>, limit: u32) -> Result<Vec<Call>>;
}
