//! Recording what people decide.

use std::sync::Arc;
use std::time::Duration;

use super::catalogue::unknown_notice;
use super::tell;
use crate::crypto::SecretBytes;
use crate::model::{
    Actor, Basis, Channel, Consent, ConsentEvent, ConsentEventId, ConsentState, Content, Error, EventKind, FieldType,
    Label, Method, Mode, Purpose, PurposeState, Reason, RequestId, Result, Standing, Subject, SubjectId, Time,
    TokenFormat, Value, comes_of_age,
};
use crate::policy::{self, Caller, Catalogue, Upkeep, unknown_purpose};
use crate::store::Tx;
use crate::store::consent::{Recorded, Stood};
use crate::vault::Vault;
use crate::vault::subject::unknown;
use crate::vault::token::{Field, Tokenize};

/// How long ago something may have happened that is recorded live.
const LIVE: Duration = Duration::from_mins(5);
/// By how much the clocks of callers may be ahead.
const AHEAD: Duration = Duration::from_mins(1);
/// The retention class of evidence.
const CLASS: &str = "consent_evidence";
/// Most events of a person about one purpose.
const MOST_EVENTS: u32 = 10_000;

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
    /// They do, or nobody asks.
    Grown,
    /// A guardian does, until then.
    ChildUntil(Time),
    /// Nobody knows.
    Unknown,
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
        let age = self.age(&ask).await?;
        // What does not fit is refused before anything is kept.
        let catalogue = self.library.refreshed().await?;
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

    /// Whether the person decides alone.
    async fn age(&self, ask: &RecordConsent) -> Result<Age> {
        let catalogue = self.library.known();
        let asks = catalogue.purpose(&ask.event.purpose).is_some_and(|purpose| purpose.age_rule);
        if !asks || !ask.event.kind.says_yes() {
            return Ok(Age::Grown);
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
        let (_, tokens) = self.tokenize(caller, keep).await?;
        for (at, token) in places.into_iter().zip(tokens) {
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
                if check_kind(below, &event).is_ok() {
                    stood.push(self.follow(&mut *tx, &mut chain, below, &mut event.clone(), &person).await?);
                }
            }
        }
        let switched = note_suppression(&purpose, &ask.event, &mut person);
        if switched {
            tx.update_subjects(std::slice::from_ref(&person)).await?;
        }
        tx.insert_consent_events(&chain.added).await?;
        tx.put_standings(&stood, now).await?;
        tx.tell(&tell::of_entries(&chain.added, switched, now, self.custody.ring.random())).await?;
        let ids: Vec<String> = chain.added.iter().map(|recorded| recorded.event.id.to_string()).collect();
        self.remember_answer(&mut *tx, caller, "RecordConsent", ask.request, Some(id), ids.join(",")).await?;
        tx.commit().await?;
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
        check_follows(purpose, event, &before, &events)?;
        events.push(event.clone());
        let after = Standing::of(&events, event.effective_at).consent(event.channel);
        event.state = after.state_at(event.effective_at);
        chain.push(event)?;
        let standing = Standing::of(&events, Time::from_micros(i64::MAX));
        let due_at = standing.consents.values().filter_map(|consent| due(purpose, consent)).min();
        Ok(Stood { subject: person.id, purpose: purpose.code.clone(), standing, due_at })
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

/// When a consent should be looked at, whatever the notices say.
fn due(purpose: &Purpose, consent: &Consent) -> Option<Time> {
    if !consent.state.is_yes() {
        return None;
    }
    let ends = [consent.valid_until, consent.of_age_at].map(|time| time.map(Time::from_micros));
    ends.into_iter().flatten().chain(purpose.review(Time::from_micros(consent.since))).min()
}

/// A person's chain, as it grows.
struct Chain {
    number: u64,
    hash: Option<[u8; 32]>,
    added: Vec<Recorded>,
}

impl Chain {
    async fn of(tx: &mut dyn Tx, subject: SubjectId) -> Result<Self> {
        let last = tx.last_consent_event(subject).await?;
        Ok(Self {
            number: last.as_ref().map_or(0, |last| last.number),
            hash: last.map(|last| last.hash),
            added: Vec::new(),
        })
    }

    fn push(&mut self, event: &ConsentEvent) -> Result<()> {
        let document = event.document()?;
        let hash = ConsentEvent::hash(self.hash.as_ref(), &document);
        self.number += 1;
        let previous_hash = self.hash.replace(hash);
        self.added.push(Recorded { event: event.clone(), number: self.number, document, previous_hash, hash });
        Ok(())
    }
}

/// What an event has to fit.
struct Deed<'d> {
    catalogue: &'d Catalogue,
    person: &'d Subject,
    age: Age,
    now: Time,
}

impl Deed<'_> {
    /// Refuses an event that does not fit, and adds what the vault knows of it. Answers its purpose.
    fn complete(&self, ask: &mut RecordConsent) -> Result<Purpose> {
        self.person.alive()?;
        let (now, event) = (self.now, &mut ask.event);
        let present = self.catalogue.purpose(&event.purpose).ok_or_else(|| unknown_purpose(&event.purpose))?;
        event.recorded_at = now;
        event.effective_at = ask.effective_at.unwrap_or(now);
        let late = self.check_point(event)?;
        if event.effective_at > now.plus(AHEAD) {
            return Err(Error::invalid("effective_time", "lies in the future"));
        }
        if !late && event.effective_at.plus(LIVE) < now {
            let message = "lies more than five minutes back; only collection points of kind IMPORT or PAPER tell of the \
                           past";
            return Err(Error::invalid("effective_time", message));
        }
        let purpose = self.catalogue.purpose_at(&event.purpose, event.effective_at).unwrap_or(present);
        event.purpose_version = purpose.version;
        event.jurisdiction = self.person.jurisdiction.as_ref().map(ToString::to_string).unwrap_or_default();
        if !purpose.uses(event.channel) && !event.kind.says_no() {
            return Err(Error::invalid("channel", "the purpose does not use this channel"));
        }
        check_kind(purpose, event)?;
        if event.kind.says_yes() {
            self.check_yes(present, purpose, event, late)?;
        } else if event.kind == EventKind::Confirm {
            event.valid_until = purpose.ends(event.effective_at);
        } else if event.kind == EventKind::Request {
            check_active(present)?;
            self.check_suppression(purpose)?;
        }
        Ok(purpose.clone())
    }

    /// Whether the event may come from where it does; answers whether it may come late.
    fn check_point(&self, event: &ConsentEvent) -> Result<bool> {
        if event.collection_point.is_empty() {
            return Ok(false);
        }
        let point = self.catalogue.point(&event.collection_point).ok_or_else(|| {
            let error = Error::new(Reason::CollectionPointUnknown, "there is no such collection point");
            error.at("collection_point")
        })?;
        point.check_use(&event.notice)?;
        Ok(point.kind.is_late())
    }

    fn check_suppression(&self, purpose: &Purpose) -> Result<()> {
        if purpose.direct_marketing && self.person.suppressed_at.is_some() {
            let message = "the person has objected to direct marketing; they must not even be asked, unless they take \
                           that back";
            return Err(Error::new(Reason::Suppressed, message).with("subject", self.person.id));
        }
        Ok(())
    }

    fn check_yes(&self, present: &Purpose, purpose: &Purpose, event: &mut ConsentEvent, late: bool) -> Result<()> {
        if purpose.basis != Basis::Consent {
            return Err(Error::invalid("kind", "the purpose does not rest on consent; there is nothing to say yes to"));
        }
        check_active(present)?;
        self.check_suppression(purpose)?;
        if !event.method.is_some_and(Method::is_valid) && !late {
            let message = "a ticked box, an assumption or silence is no consent (Art. 4(11) GDPR)";
            return Err(Error::new(Reason::InvalidMethod, message).at("method").with("purpose", &purpose.code));
        }
        if purpose.explicit_consent && !event.explicit_consent && !late {
            return Err(Error::invalid("explicit_consent", "the purpose needs explicit consent (Art. 9(2)(a) GDPR)"));
        }
        self.check_notice(purpose, event, late)?;
        event.valid_until = purpose.ends(event.effective_at);
        event.to_be_confirmed = purpose.double_opt_in;
        event.of_age_at = None;
        if !purpose.age_rule {
            return Ok(());
        }
        match self.age {
            Age::Grown => {}
            Age::Unknown => {
                let message = "the purpose has an age rule, and nobody knows the person's age";
                return Err(Error::invalid("birth_date", message));
            }
            Age::ChildUntil(_) if event.actor != Actor::Guardian => {
                let message = "the person is below the age of consent; a guardian decides (Art. 8 GDPR)";
                return Err(Error::new(Reason::GuardianRequired, message).with("purpose", &purpose.code));
            }
            Age::ChildUntil(day) => {
                event.of_age_at = Some(day);
                // That it is a guardian has to be verified, with reasonable effort (Art. 8(2)).
                event.to_be_confirmed = true;
            }
        }
        Ok(())
    }

    fn check_notice(&self, purpose: &Purpose, event: &mut ConsentEvent, late: bool) -> Result<()> {
        if event.notice.is_empty() {
            if purpose.notice.is_empty() {
                return Ok(());
            }
            return Err(Error::invalid("notice", "say which notice the person was shown"));
        }
        let versions = self.catalogue.notice_versions(&event.notice);
        let Some(digest) = event.notice_sha256 else {
            return Err(Error::invalid("notice_sha256", "give the SHA-256 of the text as it was shown"));
        };
        let unknown_text = |message: &'static str| {
            let error = Error::new(Reason::NoticeUnknown, message).at("notice_sha256");
            error.with("notice", &event.notice).with("purpose", &purpose.code)
        };
        let newest = versions.last().ok_or_else(|| unknown_notice(&event.notice))?;
        let (notice, text) = versions
            .iter()
            .rev()
            .find_map(|notice| notice.text(&digest).map(|text| (notice, text)))
            .ok_or_else(|| unknown_text("no version of the notice has a text with this hash"))?;
        if !late && notice.version != newest.version {
            return Err(unknown_text("this text is of an old version of the notice; show the present one"));
        }
        if !notice.tells_of(&purpose.code) {
            return Err(unknown_text("the notice does not tell of this purpose"));
        }
        event.notice_version = notice.version;
        event.language.clone_from(&text.language);
        Ok(())
    }
}

fn check_active(purpose: &Purpose) -> Result<()> {
    if purpose.state == PurposeState::Active {
        return Ok(());
    }
    let message = "the purpose is a draft or retired; nobody can be asked for it";
    Err(Error::new(Reason::PurposeInactive, message).with("purpose", &purpose.code))
}

/// Whether such an event can be about the purpose at all.
fn check_kind(purpose: &Purpose, event: &ConsentEvent) -> Result<()> {
    let objectionable = purpose.direct_marketing || purpose.basis.knows_objection();
    match event.kind {
        EventKind::Object | EventKind::WithdrawObjection if !objectionable => {
            let message = "nobody can object to a purpose on this basis that is no direct marketing (Art. 21 GDPR)";
            Err(Error::invalid("kind", message))
        }
        EventKind::OverrideObjection if purpose.direct_marketing => {
            let message = "an objection to direct marketing is absolute (Art. 21(3) GDPR)";
            Err(Error::new(Reason::RightAbsolute, message).at("kind").with("purpose", &purpose.code))
        }
        EventKind::OverrideObjection if !objectionable => Err(Error::invalid("kind", "there is nothing to override")),
        _ => Ok(()),
    }
}

/// Whether the event follows on what was recorded before.
fn check_follows(purpose: &Purpose, event: &ConsentEvent, before: &Standing, events: &[ConsentEvent]) -> Result<()> {
    let consent = before.consent(event.channel);
    let state = consent.state_at(event.effective_at);
    let mismatch = |message: &'static str| {
        let error = Error::new(Reason::ConsentStateMismatch, message).with("purpose", &purpose.code);
        Err(error.with("state", format!("{state:?}")))
    };
    if let Some(id) = event.supersedes
        && !events.iter().any(|known| known.id == id)
    {
        let error = Error::new(Reason::ConsentEventUnknown, "no such event of this person and purpose");
        return Err(error.at("supersedes").with("consent_event", id));
    }
    match event.kind {
        EventKind::Confirm if state != ConsentState::Pending => mismatch("there is no yes that waits to be confirmed"),
        EventKind::Renew if !state.is_yes() && state != ConsentState::ReconfirmDue => {
            mismatch("there is no yes to be renewed; record a GIVE")
        }
        EventKind::WithdrawObjection | EventKind::OverrideObjection
            if before.objection(event.channel).is_none() && before.objection(Channel::Any).is_none() =>
        {
            mismatch("there is no objection")
        }
        EventKind::Request if state == ConsentState::Refused => {
            let again = Time::from_micros(consent.since).plus(Duration::from_secs(purpose.ask_again_after));
            if event.effective_at >= again {
                return Ok(());
            }
            let error = Error::new(Reason::ConsentRefused, "the person has refused, and must not be asked again yet");
            Err(error.with("purpose", &purpose.code).with("ask_again_time", again))
        }
        _ => Ok(()),
    }
}

/// An objection to direct marketing is to all of it, and only the person takes it back.
fn note_suppression(purpose: &Purpose, event: &ConsentEvent, person: &mut Subject) -> bool {
    if !purpose.direct_marketing {
        return false;
    }
    match event.kind {
        EventKind::Object => person.suppress(event.effective_at),
        EventKind::WithdrawObjection => person.suppressed_at.take().is_some(),
        _ => false,
    }
}
