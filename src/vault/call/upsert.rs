//! Recording what a telephone system tells of a call: at least once, in any order, and amended later.

use std::sync::Arc;

use super::{Whole, plan::Plan, unknown};
use crate::crypto::SecretBytes;
use crate::model::{
    CallField, CallId, Error, FieldType, Label, Leg, LegFacts, PartyRole, Reason, RequestId, Result, SourceCallId,
    SubjectId, Time, TokenState, Value,
};
use crate::policy::{self, About, Action, Caller, Inquiry, Upkeep};
use crate::store::Tx;
use crate::vault::audit::{Touched, call, outcome};
use crate::vault::profiling::class_of;
use crate::vault::token::{ATTEMPTS, Field};
use crate::vault::write::{NewCall, Write, Written};
use crate::vault::{Vault, answer};

/// The rpc for one leg.
pub const UPSERT: &str = "UpsertCall";

/// The rpc for rows that tell of legs.
pub const IMPORT: &str = "ImportCdr";

/// A leg of a call, as it is told.
pub struct Upsert {
    /// The rpc that tells of it.
    pub deed: &'static str,
    /// Which system tells of it.
    pub system: Label,
    /// What that calls it.
    pub source_id: SourceCallId,
    /// Counts what it says.
    pub revision: u64,
    /// What the legs of the call have in common.
    pub group: Option<SourceCallId>,
    /// What is known in clear.
    pub facts: LegFacts,
    /// Who took part.
    pub parties: Vec<ToldParty>,
    /// SHA-256 of the document that it was told with, whose parts come with it; those of an earlier revision go.
    pub document: Option<[u8; 32]>,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// Somebody in a leg, as they are told.
pub struct ToldParty {
    /// What they are in it.
    pub role: PartyRole,
    /// Who they are, where that is known for certain.
    pub subject: Option<SubjectId>,
    /// Retention class of what is kept of them.
    pub class: Label,
    /// What is told of them.
    pub values: Vec<(CallField, Arc<Value>)>,
}

impl ToldParty {
    /// The value that they are found by: of whoever serves what the system calls them, of everybody else their number.
    pub(super) fn identity(&self) -> Option<(CallField, &Arc<Value>)> {
        let by = if self.role.serves() { CallField::AgentId } else { CallField::Number };
        let found = self.values.iter().find(|(field, _)| *field == by && self.subject.is_none());
        found
            .filter(|(_, value)| by == CallField::AgentId || value.kind() == FieldType::Phone)
            .map(|(of, value)| (*of, value))
    }
}

/// What became of what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a new call.
    Created,
    /// It is a new leg, or a higher revision of one.
    Merged,
    /// It was there already.
    Same,
    /// More than that was there already.
    Stale,
}

impl Vault {
    /// Whether the caller may see what calls there are. Whoever may only record them is not told whose a number is.
    #[must_use]
    pub fn may_read_calls(&self, caller: &Caller) -> bool {
        let now = self.clock.now();
        self.authority.check(&Inquiry::new(caller, Action::ReadCalls, About::Vault, now), now).is_ok()
    }

    /// Records a leg of a call, unless it is there, or more than that is.
    pub async fn upsert_call(&self, caller: &Caller, ask: Upsert) -> Result<(Whole, Outcome)> {
        let now = self.clock.now();
        let fields: Vec<Field> =
            ask.parties.iter().flat_map(|party| ask.fields(party)).map(|(_, field)| field).collect();
        for (at, party) in ask.parties.iter().enumerate() {
            let own = ask.fields(party).try_for_each(|(_, field)| class_of(&field).map(drop));
            own.map_err(|error| error.within(&format!("parties[{at}]")))?;
        }
        self.check_fields(caller, ask.deed, &fields, now).await?;
        drop(fields);
        let digest = self.custody.ring.call_digest(ask.content().expose())?;
        let mut attempts = 0;
        loop {
            if let Some(answer) = self.answered(caller, ask.deed, ask.request).await? {
                let id = CallId::parse(&answer.answer).map_err(Error::internal)?;
                return self.told_before(&ask, id).await;
            }
            attempts += 1;
            match self.try_to_upsert(caller, &ask, &digest, now).await {
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => {
                    if error.reason == Reason::KeyRetired {
                        self.custody.forget_leaves();
                    }
                }
                outcome => {
                    let (id, outcome) = outcome?;
                    let mut tx = self.custody.store().read().await?;
                    let whole = Whole::read(&mut *tx, &[id]).await?.pop().ok_or_else(|| unknown(id))?;
                    return Ok((whole, outcome));
                }
            }
        }
    }

    /// The answer to a request that was carried out before.
    async fn told_before(&self, ask: &Upsert, id: CallId) -> Result<(Whole, Outcome)> {
        let mut tx = self.custody.store().read().await?;
        let whole = Whole::read(&mut *tx, &[id]).await?.pop().ok_or_else(|| unknown(id))?;
        let request = ask.request.ok_or_else(|| Error::internal("an answer without a request"))?;
        let leg = whole.legs.iter().find(|leg| ask.tells_of(leg)).ok_or_else(|| answer::mismatch(request))?;
        let outcome = if leg.revision > ask.revision { Outcome::Stale } else { Outcome::Same };
        touch(&whole);
        Ok((whole, outcome))
    }

    async fn try_to_upsert(
        &self,
        caller: &Caller,
        ask: &Upsert,
        digest: &[u8; 32],
        now: Time,
    ) -> Result<(CallId, Outcome)> {
        let mut tx = self.custody.store().read().await?;
        let known = self.whole_told(&mut *tx, ask).await?;
        let leg = known.as_ref().and_then(|whole| whole.legs.iter().find(|leg| ask.tells_of(leg))).cloned();
        if let (Some(whole), Some(leg)) = (&known, &leg)
            && leg.revision >= ask.revision
        {
            touch(whole);
            let outcome = self.compare(&mut *tx, whole, leg, ask, digest).await?;
            drop(tx);
            self.keep_answer(caller, ask, whole.call.id, now).await?;
            return Ok((whole.call.id, outcome));
        }
        let outcome = if known.is_some() { Outcome::Merged } else { Outcome::Created };
        let plan = Plan::of(self, &mut *tx, ask, known.as_ref(), leg.as_ref(), now).await?;
        drop(tx);
        let new = self.seal_call(caller, ask, known, leg, plan, digest, now).await?;
        let id = new.call.id;
        self.write_call(new).await?;
        Ok((id, outcome))
    }

    /// The call that a leg is of, or its group.
    pub(super) async fn whole_told(&self, tx: &mut dyn Tx, ask: &Upsert) -> Result<Option<Whole>> {
        let (system, name) = (ask.system.as_str(), ask.source_id.as_str());
        let leg = tx.legs_named(&[(system, name)]).await?.pop();
        let group = match &ask.group {
            Some(group) => tx.calls_grouped(&[(system, group.as_str())]).await?.pop(),
            None => None,
        };
        let Some(id) = leg.map(|leg| leg.call).or(group.as_ref().map(|call| call.id)) else { return Ok(None) };
        let whole = Whole::read(tx, &[id]).await?.pop().ok_or_else(|| unknown(id))?;
        let other_group = match (&ask.group, &whole.call.group) {
            (Some(told), Some(known)) => told.as_str() != known,
            (Some(_), None) => group.is_some_and(|call| call.id != id),
            (None, _) => false,
        };
        if other_group {
            let message = "is not that of the call which this leg was first told in; a leg stays in its call";
            return Err(Error::invalid("group_id", message).with("call", id));
        }
        Ok(Some(whole))
    }

    /// Whether what is told of a revision that is there is what was told of it before. Of somebody who was erased
    /// nobody can tell any more.
    async fn compare(
        &self,
        tx: &mut dyn Tx,
        whole: &Whole,
        leg: &Leg,
        ask: &Upsert,
        digest: &[u8; 32],
    ) -> Result<Outcome> {
        if leg.revision > ask.revision {
            return Ok(Outcome::Stale);
        }
        let known = match leg.digest {
            Some(row) => tx.facts(&[row], &[]).await?.pop(),
            None => None,
        };
        let kept = known.filter(|facts| policy::token_state(facts, self.clock.now()) == TokenState::Active);
        let opened = kept.and_then(|facts| {
            self.custody.ring.open(&policy::for_upkeep(facts.token.row, Upkeep::Compare), &facts.token).ok()
        });
        if leg.facts == ask.facts && opened.is_none_or(|value| value.raw() == digest) {
            return Ok(Outcome::Same);
        }
        let message = "another content was told with this revision; tell what is new with a higher one";
        Err(Error::new(Reason::CallConflict, message).with("call", whole.call.id).with("revision", leg.revision))
    }

    async fn keep_answer(&self, caller: &Caller, ask: &Upsert, id: CallId, now: Time) -> Result<()> {
        if ask.request.is_none() {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        let of = answer::Keep { caller: &caller.name, deed: ask.deed, request: ask.request, subject: None };
        answer::keep(&mut *tx, &of, id.to_string(), now).await?;
        tx.commit().await
    }

    async fn write_call(&self, new: NewCall) -> Result<()> {
        match self.writes.call(Write::Call(Box::new(new))).await?? {
            Written::Call => {
                // Its entry was written along with it.
                call::note(false);
                Ok(())
            }
            _ => Err(Error::internal("a call was answered as something else")),
        }
    }
}

impl Upsert {
    /// Whether a leg is the one that is told of.
    pub(super) fn tells_of(&self, leg: &Leg) -> bool {
        leg.system == self.system.as_str() && leg.source_id == self.source_id.as_str()
    }

    /// Whether parties of these roles may be the same one. Documents that tell of a call more than once tell a role now and then.
    pub(super) const fn are_alike(&self, one: PartyRole, other: PartyRole) -> bool {
        one as u8 == other as u8 || self.document.is_some() && one.serves() == other.serves()
    }

    /// The mark on what this system calls an agent.
    pub(super) fn agent_mark(&self) -> Result<Label> {
        Label::tag(&format!("agent_id:{}", self.system))
    }

    /// Where values come from that are told with a call.
    pub(super) fn source(&self) -> Result<Label> {
        Label::source(&format!("call:{}", self.system))
    }

    /// What is told of a party, as values to be kept.
    pub(super) fn fields<'u>(&'u self, party: &'u ToldParty) -> impl Iterator<Item = (CallField, Field)> + 'u {
        party.values.iter().map(|(of, value)| {
            let mark = (*of == CallField::AgentId).then(|| self.agent_mark().ok()).flatten();
            let field = Field {
                value: Arc::clone(value),
                format: crate::model::TokenFormat::Opaque,
                class: party.class.clone(),
                deduplicate: false,
                tags: mark.into_iter().collect(),
                expires_at: None,
                single_use: false,
            };
            (*of, field)
        })
    }

    /// All that is told of people, in an unmistakable form. What is clear is compared as it is.
    fn content(&self) -> SecretBytes {
        let group = self.group.as_ref().map_or(&[][..], |group| group.as_str().as_bytes());
        let room: usize =
            self.parties.iter().flat_map(|party| &party.values).map(|(_, value)| value.raw().len() + 16).sum();
        let mut content = SecretBytes::with_capacity(room + group.len() + 48 + 128 * self.parties.len());
        let mut push = |bytes: &[u8]| {
            content.append(&(bytes.len() as u64).to_be_bytes());
            content.append(bytes);
        };
        push(group);
        if let Some(document) = &self.document {
            push(document);
        }
        for party in &self.parties {
            push(&[party.role as u8, u8::try_from(party.values.len()).unwrap_or(u8::MAX)]);
            push(party.subject.as_ref().map_or(&[], |id| id.as_bytes().as_slice()));
            push(party.class.as_str().as_bytes());
            for (of, value) in &party.values {
                push(&[*of as u8]);
                push(value.raw());
            }
        }
        content
    }
}

/// Whether the next attempt may go better: something has changed since it was read.
const fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ErasurePending
            | Reason::EtagMismatch
            | Reason::KeyRetired
            | Reason::SubjectErased
            | Reason::SubjectRestricted
            | Reason::SubjectScheduled
    )
}

/// Notes whom a call tells of that was told before.
fn touch(whole: &Whole) {
    call::touch(whole.parties.iter().map(|party| Touched::subject(party.subject, None, outcome::REPEATED)));
}
