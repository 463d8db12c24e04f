//! The rules: who may see what. Pure, and the only place where a [`Permit`] is made.
//!
//! This floor knows the operator's policies, the catalogue of purposes and notices, and the facts of a token and of a
//! person. It must not know keys, stores or the wire.

mod action;
mod authority;
mod catalogue;
mod cedar;
mod permission;
pub mod recording;
#[cfg(test)]
mod tests;

pub use action::{Action, Over};
pub use authority::{About, Authority, Caller, Decision, Inquiry, Registered, Term, not_permitted};
pub use catalogue::{Catalogue, Reconfirm, SCORES, Seeds, default_classes, default_purposes};
pub use cedar::{Named, Policies, PolicyFile, SCHEMA, Unusable};
pub use permission::{Permission, Question, is_there, permission};
pub use recording::{Law, RecordingRules};

use crate::model::{
    Channel, Error, Facts, FieldType, Label, PersonFacts, Purpose, PurposeState, Reason, Redaction, Result,
    SubjectState, Time, Token, TokenRow, TokenState,
};

/// A purpose that its caller may name. The first half of every decision: it needs no token, so that a caller without
/// the grant learns nothing of what exists.
#[derive(Clone, Copy)]
pub struct Admission<'p> {
    authority: &'p Authority,
    caller: &'p Caller,
    action: Action,
    catalogue: &'p Catalogue,
    purpose: &'p Purpose,
    channel: Channel,
    approved: bool,
}

/// Leave to open one value. Only [`decide`] and [`for_upkeep`] make one.
#[derive(Debug)]
pub struct Permit {
    row: TokenRow,
    redaction: Redaction,
    of_hold: bool,
}

impl Permit {
    /// The token whose value may be opened.
    #[must_use]
    pub const fn row(&self) -> TokenRow {
        self.row
    }

    /// Whether it is for the copy that a legal hold keeps, and not for the value itself.
    #[must_use]
    pub const fn is_of_hold(&self) -> bool {
        self.of_hold
    }

    /// How much of it may be shown.
    #[must_use]
    pub const fn redaction(&self) -> Redaction {
        self.redaction
    }
}

/// Work of the vault itself on a value that nobody will see.
#[derive(Clone, Copy, Debug)]
pub enum Upkeep {
    /// To find or renew its entry in the search index.
    Index,
    /// To see whether a person is of age.
    Age,
    /// To see whether it is what is told again.
    Compare,
    /// To seal it again under another key.
    Reseal,
    /// To remember that its person objects to direct marketing, or to forget that.
    Suppression,
    /// To keep a copy of it for a case.
    Hold,
    /// To see that it opens, in a copy of the vault that nobody is served from.
    Drill,
}

/// Leave to open a value for the vault's own work. What is opened must not leave the vault.
#[must_use]
pub fn for_upkeep(row: TokenRow, work: Upkeep) -> Permit {
    match work {
        Upkeep::Index
        | Upkeep::Age
        | Upkeep::Compare
        | Upkeep::Reseal
        | Upkeep::Suppression
        | Upkeep::Hold
        | Upkeep::Drill => Permit { row, redaction: Redaction::Redacted, of_hold: false },
    }
}

/// Who wants to do what.
#[derive(Clone, Copy)]
pub struct Claim<'p> {
    /// Whose policies decide.
    pub authority: &'p Authority,
    /// Who.
    pub caller: &'p Caller,
    /// What.
    pub action: Action,
    /// Over which channel.
    pub channel: Channel,
    /// Whether somebody else has approved it.
    pub approved: bool,
}

/// Whether the caller may name the purpose at all.
///
/// # Errors
/// `PurposeRequired`, `PurposeUnknown` or `PurposeNotGranted`.
pub fn admit<'p>(claim: &Claim<'p>, code: &str, catalogue: &'p Catalogue, now: Time) -> Result<Admission<'p>> {
    if code.is_empty() {
        return Err(Error::new(Reason::PurposeRequired, "every reveal needs a purpose").at("purpose"));
    }
    let Some(purpose) = catalogue.purpose(code) else { return Err(unknown_purpose(code)) };
    let Claim { authority, caller, action, channel, approved } = *claim;
    authority.check_purpose(caller, code, now)?;
    Ok(Admission { authority, caller, action, catalogue, purpose, channel, approved })
}

/// The refusal for a purpose that does not exist.
#[must_use]
pub fn unknown_purpose(code: &str) -> Error {
    let error = Error::new(Reason::PurposeUnknown, "the vault's catalogue has no such purpose").at("purpose");
    // What is not even a code may be anything, a value too, and is not repeated.
    if Label::purpose(code).is_ok() { error.with("purpose", code) } else { error }
}

impl Admission<'_> {
    /// The purpose's code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.purpose.code
    }

    /// Whether the purpose may read values of a type.
    #[must_use]
    pub fn may_read(&self, kind: FieldType) -> bool {
        self.purpose.may_read(kind)
    }

    /// Whether the purpose is one for which values are kept after their end: because a law demands it, or a legal hold.
    #[must_use]
    pub fn opens_kept(&self) -> bool {
        let purpose = self.purpose;
        OPENS_KEPT.contains(&purpose.code.as_str())
            && purpose.despite_restriction
            && purpose.state == PurposeState::Active
    }

    /// What the policies say of one value, or of a token that does not exist. Answers the redaction that they demand.
    fn check(&self, redaction: Redaction, facts: Option<&Facts>, now: Time) -> Result<Redaction> {
        let about = About::value(facts);
        let inquiry = Inquiry::new(self.caller, self.action, about, now);
        self.authority.check(&Inquiry { purpose: &self.purpose.code, redaction, ..inquiry }, now)
    }

    /// The refusal for a token that does not exist: whoever may not read every type of value does not learn that.
    #[must_use]
    pub fn unknown(&self, redaction: Redaction, refusal: Error, now: Time) -> Error {
        self.check(redaction, None, now).err().unwrap_or(refusal)
    }
}

/// For which purposes a value opens that outlasts the erasure of its person, or that a legal hold keeps.
pub const OPENS_KEPT: [&str; 2] = ["legal_claims", "regulator_request"];

/// Where a token is in its life.
#[must_use]
pub fn token_state(facts: &Facts, now: Time) -> TokenState {
    if matches!(facts.state, SubjectState::Shredding | SubjectState::Shredded) {
        TokenState::Erased
    } else {
        value_state(&facts.token, now)
    }
}

/// The same, whatever has become of the person.
fn value_state(token: &Token, now: Time) -> TokenState {
    if token.deleted_at.is_some() {
        TokenState::Deleted
    } else if token.ended_at.is_some() {
        TokenState::Ended
    } else if token.spent_at.is_some() {
        TokenState::Spent
    } else if token.kind == FieldType::Score && token.sealed.is_none() {
        TokenState::Purged
    } else if token.expires_at.is_some_and(|time| time <= now) {
        TokenState::Expired
    } else {
        TokenState::Active
    }
}

/// Decides about one token: whether the caller may, whether it is there, whether its person's data may be used, how much
/// of it is shown.
///
/// # Errors
/// The reason, with the ids and times that a program can act on; `token` is the name the caller used.
pub fn decide(
    admission: &Admission<'_>,
    redaction: Redaction,
    facts: &Facts,
    token: &str,
    now: Time,
) -> Result<Permit> {
    let demanded = admission.check(redaction, Some(facts), now)?;
    let kind = facts.token.kind;
    // What the purpose may not read is there, and not shown.
    let readable = if admission.purpose.may_read(kind) { Redaction::PlainText } else { Redaction::Redacted };
    let permit = Permit { row: facts.token.row, redaction: redaction.max(demanded).max(readable), of_hold: false };
    if admission.opens_kept() {
        let outlasts = facts.kept_until.is_some_and(|end| end > now).then(|| check_value(facts, token, now));
        let of_hold = facts.held.is_some() && token_state(facts, now) != TokenState::Active;
        match outlasts {
            Some(Err(error)) if !of_hold => return Err(error),
            Some(Ok(())) if admission.approved => return Ok(permit),
            _ if of_hold && admission.approved => return Ok(Permit { of_hold, ..permit }),
            Some(_) => return Err(unapproved(facts, token)),
            None if of_hold => return Err(unapproved(facts, token)),
            None => {}
        }
    }
    check_alive(facts, token, now)?;
    let asked = [admission.channel];
    let channels = if admission.channel == Channel::Any { Channel::served_by(kind) } else { &asked };
    let question = Question { catalogue: admission.catalogue, purpose: admission.purpose, channels, at: now };
    permission(&question, &facts.person(), &facts.standing).outcome?;
    if kind == FieldType::Score && !facts.profiling {
        let error = Error::new(Reason::ProfilingOff, "the person has switched profiling off");
        return Err(error.with("subject", facts.token.subject));
    }
    Ok(permit)
}

/// The refusal to open what outlasts an erasure, or what a legal hold keeps, before a second person has approved it.
fn unapproved(facts: &Facts, token: &str) -> Error {
    let message = "the value is kept for what a law demands or a legal hold needs alone, and opens only with the approval of another caller";
    tell_erasure(Error::new(Reason::ApprovalRequired, message).with("token", token), &facts.person())
}

/// What a caller wants to do with the values of a subject, other than reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add one of this type.
    Add(FieldType),
    /// Correct one (Art. 16 GDPR). A restriction does not stand in the way: it is often why there is one.
    Correct(FieldType),
    /// Delete one. A restriction forbids it, as it forbids everything but storing (Art. 18(2)).
    Delete,
}

/// Whether the values of a subject in this state may be changed.
pub fn check_change(state: SubjectState, profiling: bool, change: Change) -> Result<()> {
    match (state, change) {
        (SubjectState::Active, _) | (SubjectState::Restricted, Change::Correct(_)) => {}
        (SubjectState::Restricted, _) => {
            return Err(Error::new(
                Reason::SubjectRestricted,
                "processing of this subject is restricted; its values may only be corrected until that is lifted",
            ));
        }
        (SubjectState::Scheduled, _) => {
            return Err(Error::new(
                Reason::SubjectScheduled,
                "an erasure of this subject is scheduled; cancel it first",
            ));
        }
        (SubjectState::Shredding, _) => {
            return Err(Error::new(Reason::ErasurePending, "the subject is being erased; nothing can be changed"));
        }
        (SubjectState::Shredded, _) => {
            return Err(Error::new(Reason::SubjectErased, "the subject was erased; open a new one"));
        }
    }
    let score = matches!(change, Change::Add(FieldType::Score) | Change::Correct(FieldType::Score));
    if score && !profiling {
        return Err(Error::new(Reason::ProfilingOff, "the person has switched profiling off; no score may be kept"));
    }
    Ok(())
}

fn check_alive(facts: &Facts, token: &str, now: Time) -> Result<()> {
    let person = facts.person();
    if let Some(error) = erasure_refusal(&person, now) {
        return Err(error.with("token", token));
    }
    check_value(facts, token, now)
}

/// Whether the value is there, whatever has become of the person.
fn check_value(facts: &Facts, token: &str, now: Time) -> Result<()> {
    let person = facts.person();
    let error = match value_state(&facts.token, now) {
        TokenState::Active | TokenState::Erased => return Ok(()),
        TokenState::Deleted => return Err(unknown_token(token)),
        TokenState::Purged => return Err(tell_erasure(purged(token), &person)),
        TokenState::Ended => return Err(tell_erasure(ended(token, facts.token.ended_at), &person)),
        TokenState::Spent => Error::new(Reason::TokenSpent, "the single-use token has been revealed before"),
        TokenState::Expired => Error::new(Reason::TokenExpired, "the token has expired"),
    };
    let error = tell_erasure(error.with("token", token), &person);
    let error = facts.token.spent_at.iter().fold(error, |error, time| error.with("spend_time", time));
    Err(facts.token.expires_at.iter().fold(error, |error, time| error.with("expire_time", time)))
}

/// A refusal with whose data it is about and, if there is one, their erasure or restriction.
#[must_use]
pub fn tell_erasure(error: Error, person: &PersonFacts) -> Error {
    let error = error.with("subject", person.subject);
    let error = person.erasure.iter().fold(error, |error, id| error.with("erasure", id));
    let error = person.erased_at.iter().fold(error, |error, time| error.with("erase_time", time));
    let error = person.execute_at.iter().fold(error, |error, time| error.with("execute_time", time));
    let restricted = error.reason == Reason::SubjectRestricted;
    person.restricted_at.iter().filter(|_| restricted).fold(error, |error, time| error.with("since", time))
}

/// The refusal for a token whose value was destroyed when its person switched profiling off.
#[must_use]
pub fn purged(token: &str) -> Error {
    let message = "the value was inferred about the person and is gone for ever: they switched profiling off";
    Error::new(Reason::ValuePurged, message).with("token", token)
}

/// The refusal for a token whose value was kept long enough.
#[must_use]
pub fn ended(token: &str, at: Option<Time>) -> Error {
    let message = "the value was kept as long as its retention class says, and is gone for ever";
    let error = Error::new(Reason::RetentionEnded, message).with("token", token);
    at.iter().fold(error, |error, time| error.with("end_time", time))
}

/// The refusal for a token that does not exist, or no longer does.
#[must_use]
pub fn unknown_token(token: &str) -> Error {
    Error::new(Reason::TokenUnknown, "there is no such token").with("token", token)
}

/// Why nothing of a person can be used any more; `None` when they are there.
fn erasure_refusal(person: &PersonFacts, now: Time) -> Option<Error> {
    let error = match person.state {
        SubjectState::Shredded if person.erased_at.is_none_or(|time| time <= now) => {
            Error::new(Reason::SubjectErased, "the subject was erased; the value is gone for ever")
        }
        SubjectState::Shredding => Error::new(
            Reason::ErasurePending,
            "the subject is being erased and nothing of theirs is revealed; GetErasure tells what it waits for",
        ),
        _ => return None,
    };
    Some(tell_erasure(error, person))
}

/// Why a restriction forbids a purpose (Art. 18 GDPR); `None` when it does not.
fn restriction_refusal(purpose: &Purpose, person: &PersonFacts, now: Time) -> Option<Error> {
    // A restriction that was set while an erasure was scheduled counts as well, but the schedule explains more.
    let error = match person.state {
        SubjectState::Active | SubjectState::Shredding | SubjectState::Shredded => return None,
        _ if purpose.despite_restriction && person.execute_at.is_none_or(|time| time > now) => return None,
        SubjectState::Scheduled => Error::new(
            Reason::SubjectScheduled,
            "an erasure of the subject is scheduled; until then only purposes that a restriction spares may read",
        ),
        SubjectState::Restricted if person.restricted_at.is_some_and(|time| time > now) => return None,
        SubjectState::Restricted => {
            Error::new(Reason::SubjectRestricted, "processing of the subject is restricted (Art. 18 GDPR)")
        }
    };
    Some(tell_erasure(error, person))
}
