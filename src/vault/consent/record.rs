//! Recording what people decide.

use std::sync::Arc;

use super::append::{Append, DEED, recorded};
use super::chain::MOST_EVENTS;
use super::rules::Deed;
use crate::crypto::SecretBytes;
use crate::model::{
    ConsentEvent, Content, FieldType, Label, RequestId, Result, SubjectId, Time, TokenFormat, Value, comes_of_age,
};
use crate::policy::{self, Caller, Catalogue, Upkeep};
use crate::store::consent::Recorded;
use crate::vault::Vault;
use crate::vault::token::{Field, Tokenize};

/// The retention class of evidence.
const CLASS: &str = "consent_evidence";

/// What somebody decided, as it was told.
pub struct RecordConsent {
    /// The event; its id, times, versions and state are the vault's to say.
    pub event: ConsentEvent,
    /// When it was expressed, if not now.
    pub effective_at: Option<Time>,
    /// The personal part of each piece of evidence, if it has one.
    pub personal: Vec<Option<SecretBytes>>,
    /// When the person was born, if the caller knows.
    pub birth: Option<jiff::civil::Date>,
    /// Record nothing where there is nothing left to withdraw.
    pub once: bool,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// Whether a person decides alone (Art. 8 GDPR).
#[derive(Clone, Copy)]
pub(super) enum Age {
    /// They do.
    Grown,
    /// A guardian does, until then.
    ChildUntil(Time),
    /// Nobody knows.
    Unknown,
    /// Nobody has asked; where there is a rule nobody knows then.
    NotAsked,
}

/// What was recorded: the event, and those for the purposes below that it took along.
pub type Given = Vec<Recorded>;

impl Vault {
    /// Records what somebody decided. When this returns, no node reveals by what was permitted before.
    pub async fn record_consent(&self, caller: &Caller, mut ask: RecordConsent) -> Result<Given> {
        let subject = ask.event.subject;
        ask.event.check()?;
        if let Some(given) = self.recorded_before(caller, ask.request).await? {
            return Ok(given);
        }
        self.record_asked(caller, "RecordConsent", subject).await?;
        // Another node may have defined an age rule a moment ago.
        let catalogue = self.library.refreshed().await?;
        let age = self.age(&catalogue, &ask).await?;
        // What does not fit is refused before anything is kept.
        {
            let now = self.clock.now();
            let person = self.subject(subject).await?;
            Deed { catalogue: &catalogue, person: &person, age, now }.complete(&mut ask.event, ask.effective_at)?;
        }
        self.keep_evidence(caller, &mut ask).await?;
        let given = self.append(caller, ask, age).await?;
        self.custody.land_all().await?;
        Ok(given)
    }

    async fn recorded_before(&self, caller: &Caller, request: Option<RequestId>) -> Result<Option<Given>> {
        let Some(answer) = self.answered(caller, DEED, request).await? else { return Ok(None) };
        recorded(&mut *self.custody.store().read().await?, &answer).await.map(Some)
    }

    /// Whether the person decides alone, if the purpose asks for that now or did when it was expressed.
    async fn age(&self, catalogue: &Catalogue, ask: &RecordConsent) -> Result<Age> {
        let code = &ask.event.purpose;
        let then = ask.effective_at.and_then(|then| catalogue.purpose_at(code, then));
        let asks = catalogue.purpose(code).into_iter().chain(then).any(|purpose| purpose.age_rule);
        if !asks || !ask.event.kind.says_yes() {
            return Ok(Age::NotAsked);
        }
        let person = self.subject(ask.event.subject).await?;
        let birth = match ask.birth {
            Some(birth) => Some(birth),
            None => self.birth(ask.event.subject).await?,
        };
        let (law, now) = (person.jurisdiction.as_ref(), self.clock.now());
        let Some(birth) = birth else { return Ok(Age::Unknown) };
        Ok(comes_of_age(birth, law, now).map_or(Age::Grown, Age::ChildUntil))
    }

    /// When a person was born, if the vault keeps that. The value does not leave the vault.
    async fn birth(&self, subject: SubjectId) -> Result<Option<jiff::civil::Date>> {
        let facts = self.custody.store().read().await?.list_tokens(subject, None, MOST_EVENTS).await?;
        let now = self.clock.now();
        let live = |facts: &&crate::model::Facts| {
            facts.token.kind == FieldType::DateOfBirth
                && policy::token_state(facts, now) == crate::model::TokenState::Active
        };
        let Some(facts) = facts.iter().rev().find(live) else { return Ok(None) };
        let value = self.custody.ring.open(&policy::for_upkeep(facts.token.row, Upkeep::Age), &facts.token)?;
        Ok(value.normal().and_then(|normal| str::from_utf8(normal).ok()?.parse().ok()))
    }

    /// Keeps the personal parts of the evidence as values of the person.
    async fn keep_evidence(&self, caller: &Caller, ask: &mut RecordConsent) -> Result<()> {
        let mut fields = Vec::new();
        for (at, personal) in ask.personal.iter_mut().enumerate() {
            let Some(personal) = personal.take() else { continue };
            let value = Value::parse(FieldType::Text, Content::Text(personal))
                .map_err(|error| error.within(&format!("evidence[{at}]")))?;
            fields.push((
                at,
                Field {
                    value: Arc::new(value),
                    format: TokenFormat::Opaque,
                    class: Label::retention_class(CLASS)?,
                    deduplicate: false,
                    tags: Vec::new(),
                    expires_at: None,
                    single_use: false,
                },
            ));
        }
        if fields.is_empty() {
            return Ok(());
        }
        let (places, fields): (Vec<usize>, Vec<Field>) = fields.into_iter().unzip();
        let source = Label::source("consent:evidence")?;
        let keep = Tokenize { subject: Some(ask.event.subject), source, fields, request: None };
        let kept = self.tokenize(caller, keep).await?;
        for (at, token) in places.into_iter().zip(kept.tokens) {
            if let Some(evidence) = ask.event.evidence.get_mut(at) {
                evidence.token = token.name;
            }
        }
        Ok(())
    }

    /// Appends an event to the ledger, with those for the purposes below that it takes along.
    pub(super) async fn append(&self, caller: &Caller, ask: RecordConsent, age: Age) -> Result<Given> {
        let RecordConsent { event, effective_at, once, request, .. } = ask;
        self.appends.call(Append { caller: caller.name.clone(), event, effective_at, once, request, age }).await?
    }
}
