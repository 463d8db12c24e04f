//! Tokens by their values: what a search finds is what the purpose may read, and it leaves a durable record before it is
//! answered.

use std::sync::Arc;

use super::Vault;
use super::audit::{Entry, Touched, outcome};
use super::token::Described;
use super::write::Record;
use crate::keys::index;
use crate::model::{Error, Facts, FieldType, Redaction, Result, Time, TokenState, Value};
use crate::policy::{self, Action, Caller, Catalogue, Claim};
use crate::trace;

/// Values to be looked for.
pub(super) struct Search<'s> {
    /// Who looks.
    pub claim: &'s Claim<'s>,
    /// By which rpc.
    pub deed: &'static str,
    /// What the values are.
    pub kind: FieldType,
    /// Their normal forms.
    pub normals: &'s [&'s [u8]],
    /// For what.
    pub purpose: &'s str,
}

/// What was found.
pub(super) struct Searched {
    /// Of each value the tokens that the purpose may read, oldest first.
    pub found: Vec<Vec<Facts>>,
    /// The documents by which that was decided.
    pub catalogue: Arc<Catalogue>,
    /// When.
    pub now: Time,
}

impl Vault {
    /// Finds tokens by exact value, among those that the purpose may read.
    pub async fn find_tokens(&self, caller: &Caller, value: Value, purpose: &str) -> Result<Vec<Described>> {
        let claim = self.claim(caller, Action::Find);
        let catalogue = self.admit_search(&claim, "FindTokens", value.kind(), purpose).await?;
        let normal = value.normal().ok_or_else(|| {
            Error::invalid("type", "values of this type, or as long as this one, cannot be searched for")
        })?;
        let flight = self.custody.flights.begin();
        let search = Search { claim: &claim, deed: "FindTokens", kind: value.kind(), normals: &[normal], purpose };
        let searched = self.search(&search, catalogue).await?;
        drop(value);
        let found: Vec<Facts> = searched.found.into_iter().flatten().collect();
        let touched = found.iter().map(|facts| Touched::facts(facts, outcome::OK)).collect();
        let entry =
            Entry { purpose: purpose.to_owned(), touched, ..Entry::new(&caller.name, "FindTokens", searched.now) };
        self.record(Record::of(entry)).await?;
        flight.may_land()?;
        Ok(found.into_iter().map(|facts| self.describe(facts.token, TokenState::Active)).collect())
    }

    /// The catalogue by which a caller may search values of a type for a purpose. A refusal is recorded.
    pub(super) async fn admit_search(
        &self,
        claim: &Claim<'_>,
        deed: &'static str,
        kind: FieldType,
        purpose: &str,
    ) -> Result<Arc<Catalogue>> {
        let catalogue = self.admit(claim, deed, purpose).await?;
        match self.authority.check_search(claim.caller, kind, purpose, self.clock.now()) {
            Ok(()) => Ok(catalogue),
            Err(error) => Err(self.record_refusal(claim.caller, deed, error).await),
        }
    }

    /// Searches. A refusal is recorded.
    pub(super) async fn search(&self, search: &Search<'_>, catalogue: Arc<Catalogue>) -> Result<Searched> {
        let (under, facts) = {
            let _reading = trace::stage("store.read");
            // Given back before anything else is asked of the database: who holds one connection and waits for another keeps
            // both from everybody.
            let mut tx = self.custody.store().read().await?;
            let under = index::find(&self.custody.ring, &mut *tx, search.kind, search.normals).await?;
            let asked: Vec<_> = under.iter().flatten().map(|row| (*row, search.purpose)).collect();
            let facts = tx.facts_for(&asked, &[]).await?;
            (under, facts)
        };
        self.callers_at_least(facts.iter().map(|facts| facts.callers).max()).await?;
        let generation = facts.iter().map(|facts| facts.catalogue).max().unwrap_or(0);
        let catalogue = self.catalogue_since(catalogue, generation).await?;
        let now = self.clock.now();
        let admission = match policy::admit(search.claim, search.purpose, &catalogue, now) {
            Ok(admission) => admission,
            Err(error) => return Err(self.record_refusal(search.claim.caller, search.deed, error).await),
        };
        let mut found: Vec<Vec<Facts>> = under.iter().map(|_| Vec::new()).collect();
        for facts in facts {
            let at = under.iter().position(|rows| rows.contains(&facts.token.row));
            if let Some(of) = at.and_then(|at| found.get_mut(at))
                && policy::decide(&admission, Redaction::Redacted, &facts, "", now).is_ok()
            {
                of.push(facts);
            }
        }
        for of in &mut found {
            of.sort_by_key(|facts| facts.token.row);
        }
        Ok(Searched { found, catalogue, now })
    }
}
