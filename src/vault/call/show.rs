//! Showing calls: what is clear to whoever may read calls, values only as every value is shown, for a purpose.

use std::collections::HashMap;

use super::{Whole, unknown};
use crate::keys::flight::Flight;
use crate::model::{
    Call, CallEvent, CallField, CallFilter, CallId, Channel, Content, Error, Label, Leg, Part, PartKind, Party, Reason,
    Redaction, Reference, Result, SourceCallId,
};
use crate::policy::Caller;
use crate::vault::Vault;
use crate::vault::audit::{Touched, call};
use crate::vault::reveal::{By, Detokenize, Revealed};
use crate::vault::token::MOST;

/// What is to be shown of a call.
pub struct Show {
    /// Which call.
    pub call: CallId,
    /// What its values are needed for; empty to be shown none.
    pub purpose: String,
    /// How much of each is shown.
    pub redaction: Redaction,
    /// Which of them; all when this and `kinds` are empty.
    pub fields: Vec<CallField>,
    /// Which parts; all when this and `fields` are empty.
    pub kinds: Vec<PartKind>,
    /// The party that it is shown to, who sees nothing of the others.
    pub viewer: Option<u8>,
    /// A ticket.
    pub justification: Option<Reference>,
}

/// A call as it is shown.
pub struct Shown {
    /// What its legs have in common.
    pub call: Call,
    /// Its legs.
    pub legs: Vec<Leg>,
    /// Its parties.
    pub parties: Vec<ShownParty>,
    /// Its parts.
    pub parts: Vec<ShownPart>,
    /// What happened in it, in order of time; of one call that is shown by itself.
    pub events: Vec<CallEvent>,
}

/// A part as it is shown.
pub struct ShownPart {
    /// The part.
    pub part: Part,
    /// Why it is gone, if it is.
    pub gone: Option<Reason>,
    /// The token of its content; empty when that lies elsewhere.
    pub token: String,
    /// Its content, or where that lies, or why that is not shown; `None` when nobody asked, or it is hidden from the viewer.
    pub outcome: Option<Result<Content>>,
}

/// A party as it is shown.
pub struct ShownParty {
    /// The party.
    pub party: Party,
    /// Whether it is a placeholder for somebody who was erased.
    pub erased: bool,
    /// Its values.
    pub values: Vec<ShownValue>,
}

/// A value of a party.
pub struct ShownValue {
    /// What it is.
    pub field: CallField,
    /// Its token.
    pub token: String,
    /// What it is, or why that is not shown; `None` when nobody asked, or it is hidden from the viewer.
    pub outcome: Option<Result<Content>>,
}

impl Vault {
    /// Describes a call, with those of its values that the caller may see for the purpose. What is shown is shown, decided
    /// and recorded as `Detokenize` does it, and may leave only while its flight may land.
    pub async fn show_call(&self, caller: &Caller, ask: Show) -> Result<(Shown, Option<Flight>)> {
        let mut tx = self.custody.store().read().await?;
        let whole = Whole::read(&mut *tx, &[ask.call]).await?.pop().ok_or_else(|| unknown(ask.call))?;
        let events = tx.call_events_of(&[ask.call]).await?;
        drop(tx);
        call::touch(whole.people.values().map(Touched::described));
        if ask.viewer.is_some_and(|viewer| whole.parties.iter().all(|party| party.number != viewer)) {
            return Err(Error::invalid("viewer_party", "is no party of this call"));
        }
        if ask.purpose.is_empty() {
            return Ok((Shown { events, ..self.describe_call(whole) }, None));
        }
        let all = ask.fields.is_empty() && ask.kinds.is_empty();
        let sees = |party: u8| ask.viewer.is_none_or(|viewer| viewer == party);
        let values =
            whole.values.iter().filter(|value| sees(value.party) && (all || ask.fields.contains(&value.field)));
        let now = self.clock.now();
        let asked = |part: &&Part| sees(part.party) && (all || ask.kinds.contains(&part.kind));
        // Of what is gone it is told why, and nothing else.
        let parts = whole.parts.iter().filter(asked).filter(|part| whole.gone(part, now).is_none());
        let rows = values.map(|value| value.token).chain(parts.filter_map(|part| part.content)).take(MOST);
        let tokens: Vec<String> = rows.map(|row| self.custody.ring.opaque(row).to_string()).collect();
        let detokenize = Detokenize {
            tokens,
            purpose: ask.purpose,
            channel: Channel::Any,
            redaction: ask.redaction,
            justification: ask.justification,
            by: By::default(),
        };
        let (revealed, flight) = self.detokenize(caller, &detokenize).await?;
        let outcomes = detokenize.tokens.into_iter().zip(revealed).collect();
        Ok((Shown { events, ..self.shown_call(whole, outcomes) }, Some(flight)))
    }

    /// A page of calls, oldest recorded first, with the one after which the next page begins.
    pub async fn list_calls(
        &self,
        filter: &CallFilter,
        after: Option<CallId>,
        size: u32,
    ) -> Result<(Vec<Shown>, Option<CallId>)> {
        let mut tx = self.custody.store().read().await?;
        let mut calls = tx.list_calls(filter, after, size + 1).await?;
        let more = calls.len() > size as usize;
        calls.truncate(size as usize);
        let next = calls.last().map(|call| call.id).filter(|_| more);
        let wholes = Whole::of(&mut *tx, calls).await?;
        drop(tx);
        let people: HashMap<_, _> = wholes.iter().flat_map(|whole| &whole.people).collect();
        call::touch(people.into_values().map(Touched::described));
        Ok((wholes.into_iter().map(|whole| self.describe_call(whole)).collect(), next))
    }

    /// The call with the leg that a system calls so, if it has told of it.
    pub async fn calls_told(&self, system: &Label, source_id: &SourceCallId) -> Result<Vec<Shown>> {
        let mut tx = self.custody.store().read().await?;
        let legs = tx.legs_named(&[(system.as_str(), source_id.as_str())]).await?;
        let ids: Vec<CallId> = legs.iter().map(|leg| leg.call).collect();
        let wholes = Whole::read(&mut *tx, &ids).await?;
        drop(tx);
        call::touch(wholes.iter().flat_map(|whole| whole.people.values()).map(Touched::described));
        Ok(wholes.into_iter().map(|whole| self.describe_call(whole)).collect())
    }

    /// A call without values.
    #[must_use]
    pub fn describe_call(&self, whole: Whole) -> Shown {
        self.shown_call(whole, HashMap::new())
    }

    fn shown_call(&self, whole: Whole, mut outcomes: HashMap<String, Revealed>) -> Shown {
        let party = |party: &Party| {
            let own = whole.values.iter().filter(|value| value.party == party.number);
            let value = |token: String, field| {
                let outcome = outcomes.remove(&token).map(|revealed| revealed.outcome);
                ShownValue { field, token, outcome }
            };
            let names = own.map(|value| (self.custody.ring.opaque(value.token).to_string(), value.field));
            let mut value = value;
            let values = names.map(|(token, field)| value(token, field)).collect();
            ShownParty { erased: whole.is_erased(party), party: party.clone(), values }
        };
        let parties = whole.parties.iter().map(party).collect();
        let now = self.clock.now();
        let part = |part: &Part| {
            let token = part.content.map(|row| self.custody.ring.opaque(row).to_string()).unwrap_or_default();
            let outcome = outcomes.remove(&token).map(|revealed| revealed.outcome);
            ShownPart { gone: whole.gone(part, now), part: part.clone(), token, outcome }
        };
        let attached = whole.parts.iter().map(part).collect();
        Shown { parties, parts: attached, call: whole.call, legs: whole.legs, events: Vec::new() }
    }
}
