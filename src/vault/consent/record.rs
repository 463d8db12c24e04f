//! Recording what people decide.

use std::sync::Arc;

use super::chain::{Chain, MOST_EVENTS, stood};
use super::rules::{self, Deed, Suppression};
use super::tell;
use crate::crash;
use crate::crypto::SecretBytes;
use crate::model::{
    ConsentEvent, ConsentEventId, ConsentState, Content, Error, EventKind, FieldType, Label, Mode, Purpose, RequestId,
    Result, Standing, Subject, SubjectId, Time, TokenFormat, Value, comes_of_age,
};
use crate::policy::{self, Caller, Catalogue, Upkeep};
use crate::store::Tx;
use crate::store::consent::{Recorded, Stood};
use crate::store::journal::Mark;
use crate::vault::Vault;
use crate::vault::subject::unknown;
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
        self.record_asked(caller, "RecordConsent", subject, None).await?;
        // Another node may have defined an age rule a moment ago.
        let catalogue = self.library.refreshed().await?;
        let age = self.age(&catalogue, &ask).await?;
        // What does not fit is refused before anything is kept.
        {
            let now = self.clock.now();
            let person = self.subject(subject).await?;
            Deed { catalogue: &catalogue, person: &person, age, now }.complete(&mut ask)?;
        }
        self.keep_evidence(caller, &mut ask).await?;
        let given = self.append(caller, &mut ask, age).await?;
        self.custody.land_all().await?;
        Ok(given)
    }

    async fn recorded_before(&self, caller: &Caller, request: Option<RequestId>) -> Result<Option<Given>> {
        let Some(answer) = self.answered(caller, "RecordConsent", request).await? else { return Ok(None) };
        let mut tx = self.custody.store().read().await?;
        let mut given = Vec::new();
        for id in answer.answer.split(',') {
            let event = tx.consent_event(id.parse()?).await?;
            given.push(event.ok_or_else(|| Error::internal("a consent event is gone"))?);
        }
        Ok(Some(given))
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

    pub(super) async fn append(&self, caller: &Caller, ask: &mut RecordConsent, age: Age) -> Result<Given> {
        let id = ask.event.subject;
        let mut tx = self.custody.store().write().await?;
        let mut person = tx.lock_subjects(&[id]).await?.into_iter().next().ok_or_else(|| unknown(id))?;
        // The same request may have been faster.
        if self.answered_in(&mut *tx, caller, "RecordConsent", ask.request).await?.is_some() {
            drop(tx);
            return Ok(self.recorded_before(caller, ask.request).await?.unwrap_or_default());
        }
        let catalogue = self.library.read_in(&mut *tx).await?;
        let now = self.clock.now();
        let purpose = Deed { catalogue: &catalogue, person: &person, age, now }.complete(ask)?;
        if ask.once && is_withdrawn(&mut *tx, &catalogue, &purpose, &ask.event).await? {
            return Ok(Vec::new());
        }
        ask.event.caller.clone_from(&caller.name);
        ask.event.id = ConsentEventId::new(now, self.custody.ring.random());
        let mut chain = Chain::of(&mut *tx, id).await?;
        let mut stood = Vec::new();
        let standing = self.follow(&mut *tx, &mut chain, &purpose, &mut ask.event.clone(), &person).await?;
        stood.push(standing);
        if ask.event.kind.says_no() {
            for below in catalogue.below(&purpose.code) {
                let event = ConsentEvent {
                    id: ConsentEventId::new(now, self.custody.ring.random()),
                    purpose: below.code.clone(),
                    purpose_version: below.version,
                    along_with: Some(ask.event.id),
                    supersedes: None,
                    evidence: Vec::new(),
                    ..ask.event.clone()
                };
                // What nobody may object to is not objected to.
                if rules::check_kind(below, &event).is_ok() {
                    stood.push(self.follow(&mut *tx, &mut chain, below, &mut event.clone(), &person).await?);
                }
            }
        }
        let mut marks: Vec<Mark> = chain.added.iter().map(|added| Mark::ConsentEvent(id, added.number)).collect();
        let newest = newest_objection(&mut *tx, &catalogue, &ask.event).await?;
        let suppression = Suppression::of(&purpose, &ask.event, newest, &mut person);
        let switched = suppression != Suppression::Stays;
        if switched {
            tx.update_subjects(std::slice::from_ref(&person)).await?;
            marks.push(Mark::Subject(id));
        }
        match suppression {
            Suppression::Begins => self.custody.suppress(&mut *tx, id).await?,
            Suppression::Ends => self.custody.release(&mut *tx, id).await?,
            Suppression::Stays => {}
        }
        tx.mark(&marks).await?;
        tx.insert_consent_events(&chain.added).await?;
        tx.put_standings(&stood, now).await?;
        tx.tell(&tell::of_entries(&chain.added, switched, now, self.custody.ring.random())).await?;
        let ids: Vec<String> = chain.added.iter().map(|recorded| recorded.event.id.to_string()).collect();
        self.remember_answer(&mut *tx, caller, "RecordConsent", ask.request, Some(id), ids.join(",")).await?;
        crash::point("consent::before-commit");
        tx.commit().await?;
        crash::point("consent::recorded");
        Ok(chain.added)
    }

    /// Appends an event and answers how the consents to its purpose stand then.
    async fn follow(
        &self,
        tx: &mut dyn Tx,
        chain: &mut Chain,
        purpose: &Purpose,
        event: &mut ConsentEvent,
        person: &Subject,
    ) -> Result<Stood> {
        let recorded = tx.consent_events(person.id, &purpose.code, 0, MOST_EVENTS).await?;
        let mut events: Vec<ConsentEvent> = recorded.into_iter().map(|recorded| recorded.event).collect();
        let before = Standing::of(&events, event.effective_at);
        rules::check_follows(purpose, person, event, &before, &events)?;
        events.push(event.clone());
        let after = Standing::of(&events, event.effective_at).consent(event.channel);
        event.state = after.state_at(event.effective_at);
        chain.push(event)?;
        Ok(stood(purpose, person.id, &events))
    }
}

/// When the person of an event that takes an objection back last objected to direct marketing, whichever purpose they
/// named: their record tells only since when they do.
async fn newest_objection(tx: &mut dyn Tx, catalogue: &Catalogue, event: &ConsentEvent) -> Result<Option<Time>> {
    if event.kind != EventKind::WithdrawObjection {
        return Ok(None);
    }
    let (mut newest, mut after) = (None, 0);
    loop {
        let page = tx.consent_events(event.subject, "", after, MOST_EVENTS).await?;
        let Some(last) = page.last() else { return Ok(newest) };
        after = last.number;
        newest = newest.max(rules::newest_objection(catalogue, page.iter().map(|recorded| &recorded.event)));
    }
}

/// Whether a withdrawal would end nothing, neither of its purpose nor of one below.
async fn is_withdrawn(tx: &mut dyn Tx, catalogue: &Catalogue, purpose: &Purpose, event: &ConsentEvent) -> Result<bool> {
    use ConsentState::{Given, Invalidated, Pending, Refused, Renewed, Revoked, Withdrawn};
    let below: Vec<&Purpose> = catalogue.below(&purpose.code).collect();
    let of: Vec<_> =
        std::iter::once(purpose).chain(below.iter().copied()).map(|one| (event.subject, one.code.as_str())).collect();
    let stood = tx.standings(&of).await?;
    let state = |one: &Purpose| {
        let found = stood.iter().find(|stood| stood.purpose == one.code);
        found.map_or(ConsentState::Unknown, |found| found.standing.consent(event.channel).state)
    };
    let ended = |state| matches!(state, Withdrawn | Refused | Revoked | Invalidated);
    let permits = |one: &&Purpose| match state(one) {
        Given | Renewed | Pending => true,
        other => one.mode == Mode::OptOut && !ended(other),
    };
    Ok(ended(state(purpose)) && !below.iter().any(permits))
}
