//! Calls of a contact centre: recording what a telephone system tells of them, and showing it.
//!
//! What is clear of a call stands in its rows and names nobody. What its parties say of themselves is values of theirs like
//! any other, each under the key of whom it is about; so an erasure takes one party out of a call, and the call stays.

mod erase;
mod event;
mod export;
mod media;
mod part;
mod plan;
mod relink;
mod show;
mod upsert;
mod vcon;
mod who;

pub use erase::{EraseParts, ErasedParts};
pub use event::{APPEND, AppendEvent, Appended, MOST_EVENTS, Terms};
pub use export::{ExportVcon, Exported};
pub use part::{ATTACH, Attach, Attached};
pub use relink::{Relink, Relinked};
pub use show::{Show, Shown, ShownPart, ShownParty, ShownValue};
pub use upsert::{IMPORT, Outcome, ToldParty, UPSERT, Upsert};
pub use vcon::{IMPORT as IMPORT_VCON, ImportVcon, Imported};
pub use who::{Choice, Found, choose};

use std::collections::HashMap;

use crate::model::{
    Call, CallId, Error, Facts, Leg, Part, Party, PartyRole, PartyValue, Reason, Result, Subject, SubjectId,
    SubjectState, TokenRow,
};
use crate::store::Tx;

/// The retention class of a value that is told with a call, unless another is named.
pub const CLASS: &str = "call.ops";

/// The same of somebody who serves.
pub const AGENT_CLASS: &str = "agent.hr";

/// What a subject is who serves.
pub const AGENT: &str = "agent";

/// What a subject is of whom nobody knows more than how they called.
pub const PROVISIONAL: &str = "provisional";

/// A call with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The call.
    pub call: Call,
    /// Its legs, in order of their beginning.
    pub legs: Vec<Leg>,
    /// Its parties, by number.
    pub parties: Vec<Party>,
    /// Their values.
    pub values: Vec<PartyValue>,
    /// Their parts, in the order in which they were attached.
    pub parts: Vec<Part>,
    /// What the parts' tokens are now.
    pub facts: HashMap<TokenRow, Facts>,
    /// Who they are.
    pub people: HashMap<SubjectId, Subject>,
}

impl Whole {
    /// Reads calls; one that does not exist is left out.
    pub(super) async fn read(tx: &mut dyn Tx, ids: &[CallId]) -> Result<Vec<Self>> {
        let calls = tx.calls(ids).await?;
        Self::of(tx, calls).await
    }

    /// Reads what belongs to calls.
    pub(super) async fn of(tx: &mut dyn Tx, calls: Vec<Call>) -> Result<Vec<Self>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<CallId> = calls.iter().map(|call| call.id).collect();
        let (legs, parties) = (tx.legs_of(&ids).await?, tx.parties_of(&ids).await?);
        let (values, parts) = (tx.party_values_of(&ids).await?, tx.parts_of(&ids).await?);
        let rows: Vec<TokenRow> = parts.iter().filter_map(Part::token).collect();
        let facts = if rows.is_empty() { Vec::new() } else { tx.facts(&rows, &[]).await? };
        let facts: HashMap<_, _> = facts.into_iter().map(|facts| (facts.token.row, facts)).collect();
        let mut subjects: Vec<SubjectId> = parties.iter().map(|party| party.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let people: HashMap<_, _> = tx.subjects(&subjects).await?.into_iter().map(|one| (one.id, one)).collect();
        let whole = |call: Call| {
            let parties: Vec<Party> = parties.iter().filter(|party| party.call == call.id).cloned().collect();
            let own = |party: &Party| Some((party.subject, people.get(&party.subject)?.clone()));
            let parts: Vec<Part> = parts.iter().filter(|part| part.call == call.id).cloned().collect();
            let kept = |part: &Part| Some((part.token()?, facts.get(&part.token()?)?.clone()));
            Self {
                legs: legs.iter().filter(|leg| leg.call == call.id).cloned().collect(),
                people: parties.iter().filter_map(own).collect(),
                values: values.iter().filter(|value| value.call == call.id).copied().collect(),
                facts: parts.iter().filter_map(kept).collect(),
                parts,
                parties,
                call,
            }
        };
        Ok(calls.into_iter().map(whole).collect())
    }

    /// Whether a party was erased, or is being erased.
    #[must_use]
    pub fn is_erased(&self, party: &Party) -> bool {
        let state = self.people.get(&party.subject).map(|subject| subject.state);
        state.is_some_and(|state| state >= SubjectState::Shredding)
    }

    /// Whoever was erased in a role, where nobody else has it.
    fn erased_in(&self, role: PartyRole) -> Option<&Party> {
        let mut all = self.parties.iter().filter(|party| party.role == role);
        let erased = all.clone().find(|party| self.is_erased(party));
        erased.filter(|_| all.all(|party| self.is_erased(party)))
    }
}

/// The refusal for a call that does not exist.
fn unknown(id: CallId) -> Error {
    Error::new(Reason::CallUnknown, "there is no such call").with("call", id)
}
