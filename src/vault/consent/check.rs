//! Asking what is permitted, and what was.

use std::collections::HashMap;
use std::sync::Arc;

use super::chain::MOST_EVENTS;
use crate::model::{
    Basis, Channel, Consent, ConsentEvent, ConsentState, Error, PersonFacts, Purpose, Reason, Result, Standing,
    Subject, SubjectId, Time,
};
use crate::policy::{Caller, Catalogue, Permission, Question, permission, unknown_purpose};
use crate::store::Tx;
use crate::store::consent::{Recorded, Stood};
use crate::vault::Vault;
use crate::vault::audit::{Touched, call, outcome};
use crate::vault::subject::unknown;

/// A question.
#[derive(Clone)]
pub struct Check {
    /// Whose data.
    pub subject: SubjectId,
    /// For what.
    pub purpose: String,
    /// Over which channel.
    pub channel: Channel,
    /// When, if not now.
    pub at: Option<Time>,
}

/// An answer.
pub struct Checked {
    /// The permission.
    pub permission: Permission,
    /// The basis of the purpose.
    pub basis: Basis,
    /// The version of the purpose that counted.
    pub purpose_version: u32,
}

/// How a person's consent to a purpose over a channel stands, for people.
pub struct Shown {
    /// The purpose.
    pub purpose: Arc<Purpose>,
    /// The channel.
    pub channel: Channel,
    /// What was recorded.
    pub consent: Consent,
    /// How it stands now.
    pub state: ConsentState,
    /// When it should be reviewed.
    pub review_at: Option<Time>,
    /// Whether there is an objection that holds.
    pub objected: bool,
    /// What is permitted now.
    pub checked: Checked,
}

impl Vault {
    /// Answers questions, in order; one that cannot be answered does not fail the rest, nor one about a purpose that the
    /// caller may not name.
    pub async fn check_permissions(&self, caller: &Caller, checks: &[Check]) -> Result<Vec<Result<Checked>>> {
        let mut tx = self.custody.store().read().await?;
        let now = self.clock.now();
        let mut ids: Vec<SubjectId> = checks.iter().map(|check| check.subject).collect();
        ids.sort_unstable();
        ids.dedup();
        let people: HashMap<SubjectId, PersonFacts> = self.people(&mut *tx, &ids).await?;
        let asked: Vec<(SubjectId, &str)> = checks
            .iter()
            .filter(|check| check.at.is_none_or(|at| at >= now))
            .map(|check| (check.subject, check.purpose.as_str()))
            .collect();
        let mut stood: HashMap<(SubjectId, String), Standing> = HashMap::new();
        for found in tx.standings(&asked).await? {
            stood.insert((found.subject, found.purpose), found.standing);
        }
        let catalogue = self.library.at_least(tx.catalogue_generation().await?).await?;
        let mut answers = Vec::with_capacity(checks.len());
        for check in checks {
            if catalogue.purpose(&check.purpose).is_some()
                && let Err(error) = self.authority.check_purpose(caller, &check.purpose, now)
            {
                answers.push(Err(error));
                continue;
            }
            let Some(person) = people.get(&check.subject) else {
                answers.push(Err(unknown(check.subject)));
                continue;
            };
            let at = check.at.unwrap_or(now);
            let standing = match stood.get(&(check.subject, check.purpose.clone())) {
                Some(standing) if at >= now => standing.clone(),
                _ if at >= now => Standing::default(),
                _ => Standing::of(&events(&mut *tx, check).await?, at),
            };
            answers.push(answer(&catalogue, check, person, &standing, at));
        }
        Ok(answers)
    }

    pub(in crate::vault) async fn people(
        &self,
        tx: &mut dyn Tx,
        ids: &[SubjectId],
    ) -> Result<HashMap<SubjectId, PersonFacts>> {
        let subjects = tx.subjects(ids).await?;
        let erasures: Vec<_> = subjects.iter().filter_map(|subject| subject.erasure).collect();
        let due = crate::vault::erasure::due(tx, &erasures).await?;
        Ok(subjects
            .iter()
            .map(|subject| {
                let execute_at = subject.erasure.and_then(|erasure| due.get(&erasure).copied());
                (subject.id, facts(subject, execute_at))
            })
            .collect())
    }

    /// How all consents of a person stand now: every purpose of the catalogue that the caller may name, with each of its
    /// channels. Answers also whether the person has objected to all direct marketing, to whom that concerns.
    pub async fn list_consents(&self, caller: &Caller, id: SubjectId) -> Result<(Vec<Shown>, bool)> {
        let mut tx = self.custody.store().read().await?;
        let now = self.clock.now();
        let people = self.people(&mut *tx, &[id]).await?;
        let person = people.get(&id).ok_or_else(|| unknown(id))?;
        call::touch([Touched::subject(id, None, outcome::OK)]);
        let stood: HashMap<String, Stood> =
            tx.standings_of(id).await?.into_iter().map(|stood| (stood.purpose.clone(), stood)).collect();
        let catalogue = self.library.at_least(tx.catalogue_generation().await?).await?;
        let nothing = Standing::default();
        let mut shown = Vec::new();
        for purpose in catalogue.purposes() {
            if !self.authority.may_name(caller, &purpose.code, now)? {
                continue;
            }
            let standing = stood.get(&purpose.code).map_or(&nothing, |stood| &stood.standing);
            let mut channels = purpose.channels.clone();
            if channels.is_empty() {
                channels = standing.consents.keys().copied().filter(|channel| *channel != Channel::Any).collect();
                channels.insert(0, Channel::Any);
            }
            let known = Arc::new(purpose.clone());
            for channel in channels {
                shown.push(shown_over(&catalogue, &known, channel, person, standing, now)?);
            }
        }
        Ok((shown, person.suppressed_at.is_some() && self.authority.may_market(caller, &catalogue, now)?))
    }

    /// A page of a person's events, in the order of their recording, with the number after which the next one begins.
    pub async fn list_consent_events(
        &self,
        id: SubjectId,
        after: u64,
        size: u32,
    ) -> Result<(Vec<Recorded>, Option<u64>)> {
        let mut tx = self.custody.store().read().await?;
        let known = tx.subjects(&[id]).await?.pop().ok_or_else(|| unknown(id))?;
        call::touch([Touched::described(&known)]);
        let mut found = tx.consent_events(id, "", after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|event| event.number).filter(|_| more);
        Ok((found, next))
    }
}

/// How a consent stands over a channel, and what follows from it.
pub(super) fn shown_over(
    catalogue: &Catalogue,
    purpose: &Arc<Purpose>,
    channel: Channel,
    person: &PersonFacts,
    standing: &Standing,
    now: Time,
) -> Result<Shown> {
    let check = Check { subject: person.subject, purpose: purpose.code.clone(), channel, at: None };
    let consent = standing.consent(channel);
    let checked = answer(catalogue, &check, person, standing, now)?;
    Ok(Shown {
        purpose: Arc::clone(purpose),
        channel,
        state: state(catalogue, purpose, &consent, now),
        review_at: purpose.review(Time::from_micros(consent.since)).filter(|_| consent.state.is_yes()),
        consent,
        objected: standing.objection(channel).is_some(),
        checked,
    })
}

/// How a consent stands, changes of the catalogue included.
pub(super) fn state(catalogue: &Catalogue, purpose: &Purpose, consent: &Consent, now: Time) -> ConsentState {
    match consent.state_at(now) {
        state if state.is_yes() && catalogue.reconfirm(purpose, consent, now).is_some() => ConsentState::ReconfirmDue,
        state => state,
    }
}

async fn events(tx: &mut dyn Tx, check: &Check) -> Result<Vec<ConsentEvent>> {
    let recorded = tx.consent_events(check.subject, &check.purpose, 0, MOST_EVENTS).await?;
    Ok(recorded.into_iter().map(|recorded| recorded.event).collect())
}

fn answer(
    catalogue: &Catalogue,
    check: &Check,
    person: &PersonFacts,
    standing: &Standing,
    at: Time,
) -> Result<Checked> {
    let purpose = catalogue.purpose_at(&check.purpose, at).ok_or_else(|| unknown_purpose(&check.purpose))?;
    let asked = [check.channel];
    let channels: &[Channel] = if check.channel == Channel::Any { &[] } else { &asked };
    let permission = permission(&Question { catalogue, purpose, channels, at }, person, standing);
    if let Err(error) = &permission.outcome
        && error.reason == Reason::Internal
    {
        return Err(Error::internal("a permission cannot be decided"));
    }
    Ok(Checked { permission, basis: purpose.basis, purpose_version: purpose.version })
}

/// What decides about a person.
fn facts(subject: &Subject, execute_at: Option<Time>) -> PersonFacts {
    PersonFacts {
        subject: subject.id,
        state: subject.state,
        profiling: subject.profiling,
        restricted_at: subject.restriction.as_ref().map(|restriction| restriction.since),
        erasure: subject.erasure,
        execute_at,
        erased_at: subject.erased_at,
        suppressed_at: subject.suppressed_at,
    }
}
