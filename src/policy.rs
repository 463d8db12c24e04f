//! The rules: who may see what. Pure, and the only place where a [`Permit`] is made.
//!
//! This floor knows purposes, callers' grants and the facts of a token. It must not know keys, stores or the wire.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{
    Error, Facts, FieldType, Label, Reason, Redaction, Result, SubjectState, Time, TokenRow, TokenState,
};

/// On what ground a purpose may process personal data (Art. 6(1) GDPR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Art. 6(1)(a). Until a ledger of consents exists, nobody has consented.
    Consent,
    /// Art. 6(1)(b).
    Contract,
    /// Art. 6(1)(c).
    LegalObligation,
    /// Art. 6(1)(f).
    LegitimateInterests,
    /// Art. 6(1)(e).
    PublicTask,
    /// Art. 6(1)(d).
    VitalInterests,
}

/// What personal data may be used for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// The lawful ground.
    pub basis: Basis,
    /// Whether a restriction spares it: legal claims, rights of others, important public interest (Art. 18(2) GDPR).
    #[serde(default)]
    pub despite_restriction: bool,
    /// Whether it profiles the person; their switch then decides.
    #[serde(default)]
    pub profiling: bool,
}

/// Every purpose there is, by code.
pub type Purposes = BTreeMap<String, Purpose>;

/// The purposes of a vault without configuration.
#[must_use]
pub fn default_purposes() -> Purposes {
    let purpose = |basis, despite_restriction| Purpose { basis, despite_restriction, profiling: false };
    [
        ("breach_notice", purpose(Basis::LegalObligation, true)),
        ("customer_care", purpose(Basis::Contract, false)),
        ("legal_claims", purpose(Basis::LegitimateInterests, true)),
        ("marketing.email", purpose(Basis::Consent, false)),
        ("order_confirmation", purpose(Basis::Contract, false)),
        ("regulator_request", purpose(Basis::LegalObligation, true)),
    ]
    .map(|(code, purpose)| (code.to_owned(), purpose))
    .into()
}

/// Which purposes a caller may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// Every purpose in the registry.
    All,
    /// These.
    Only(BTreeSet<String>),
}

/// Someone who has been authenticated.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Their name in the configuration; it stands in the audit log.
    pub name: String,
    /// What they may do.
    pub grants: Grants,
}

/// A purpose that its caller may name. The first half of every decision: it needs no token, so that a caller without
/// the grant learns nothing of what exists.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'p> {
    code: &'p str,
    purpose: &'p Purpose,
}

/// Leave to open one value. Only [`decide`] and [`for_upkeep`] make one.
#[derive(Debug)]
pub struct Permit {
    row: TokenRow,
    redaction: Redaction,
}

impl Permit {
    /// The token whose value may be opened.
    #[must_use]
    pub const fn row(&self) -> TokenRow {
        self.row
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
    /// To seal it again under another key.
    Reseal,
}

/// Leave to open a value for the vault's own work. What is opened must not leave the vault.
#[must_use]
pub fn for_upkeep(row: TokenRow, work: Upkeep) -> Permit {
    match work {
        Upkeep::Index | Upkeep::Reseal => Permit { row, redaction: Redaction::Redacted },
    }
}

/// Whether the caller may name the purpose at all.
///
/// # Errors
/// `PurposeRequired`, `PurposeUnknown`, `PurposeNotGranted`, or `NoConsent` for a purpose that rests on consent.
pub fn admit<'p>(caller: &Caller, code: &'p str, purposes: &'p Purposes) -> Result<Admission<'p>> {
    if code.is_empty() {
        return Err(Error::new(Reason::PurposeRequired, "every reveal needs a purpose").at("purpose"));
    }
    let Some((code, purpose)) = purposes.get_key_value(code) else {
        let error = Error::new(Reason::PurposeUnknown, "the vault's registry has no such purpose").at("purpose");
        // What is not even a code may be anything, a value too, and is not repeated.
        return Err(if Label::purpose(code).is_ok() { error.with("purpose", code) } else { error });
    };
    let granted = match &caller.grants {
        Grants::All => true,
        Grants::Only(codes) => codes.contains(code),
    };
    if !granted {
        let error = Error::new(Reason::PurposeNotGranted, "the caller holds no grant for this purpose");
        return Err(error.with("caller", &caller.name).with("purpose", code));
    }
    Ok(Admission { code, purpose })
}

impl Admission<'_> {
    /// The purpose's code.
    #[must_use]
    pub const fn code(&self) -> &str {
        self.code
    }
}

/// Where a token is in its life.
#[must_use]
pub fn token_state(facts: &Facts, now: Time) -> TokenState {
    let token = &facts.token;
    if matches!(facts.state, SubjectState::Shredding | SubjectState::Shredded) {
        TokenState::Erased
    } else if token.deleted_at.is_some() {
        TokenState::Deleted
    } else if token.spent_at.is_some() {
        TokenState::Spent
    } else if token.expires_at.is_some_and(|time| time <= now) {
        TokenState::Expired
    } else {
        TokenState::Active
    }
}

/// Decides about one token, in the order of the law: erased, gone, restricted, profiling, consent.
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
    check_alive(facts, token, now)?;
    check_subject(admission, facts, now)?;
    check_profiling(admission, facts)?;
    if admission.purpose.basis == Basis::Consent {
        let error = Error::new(Reason::NoConsent, "the purpose rests on consent, and the person has given none");
        return Err(error.with("purpose", admission.code).with("subject", facts.token.subject));
    }
    Ok(Permit { row: facts.token.row, redaction })
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
    let error = match token_state(facts, now) {
        TokenState::Active => return Ok(()),
        TokenState::Erased if facts.state == SubjectState::Shredding => Error::new(
            Reason::ErasurePending,
            "the subject is being erased and nothing of theirs is revealed; GetErasure tells what it waits for",
        ),
        TokenState::Erased => Error::new(Reason::SubjectErased, "the subject was erased; the value is gone for ever"),
        TokenState::Deleted => return Err(unknown_token(token)),
        TokenState::Spent => Error::new(Reason::TokenSpent, "the single-use token has been revealed before"),
        TokenState::Expired => Error::new(Reason::TokenExpired, "the token has expired"),
    };
    let error = tell_erasure(error.with("token", token), facts);
    let error = facts.token.spent_at.iter().fold(error, |error, time| error.with("spend_time", time));
    Err(facts.token.expires_at.iter().fold(error, |error, time| error.with("expire_time", time)))
}

/// A refusal with whose data it is about and, if there is one, their erasure or restriction.
#[must_use]
pub fn tell_erasure(error: Error, facts: &Facts) -> Error {
    let error = error.with("subject", facts.token.subject);
    let error = facts.erasure.iter().fold(error, |error, id| error.with("erasure", id));
    let error = facts.erased_at.iter().fold(error, |error, time| error.with("erase_time", time));
    let error = facts.execute_at.iter().fold(error, |error, time| error.with("execute_time", time));
    let restricted = error.reason == Reason::SubjectRestricted;
    facts.restricted_at.iter().filter(|_| restricted).fold(error, |error, time| error.with("since", time))
}

/// The refusal for a token that does not exist, or no longer does.
#[must_use]
pub fn unknown_token(token: &str) -> Error {
    Error::new(Reason::TokenUnknown, "there is no such token").with("token", token)
}

fn check_subject(admission: &Admission<'_>, facts: &Facts, now: Time) -> Result<()> {
    // A restriction that was set while an erasure was scheduled counts as well, but the schedule explains more.
    let error = match facts.state {
        SubjectState::Active => return Ok(()),
        _ if admission.purpose.despite_restriction && facts.execute_at.is_none_or(|time| time > now) => return Ok(()),
        SubjectState::Scheduled => Error::new(
            Reason::SubjectScheduled,
            "an erasure of the subject is scheduled; until then only purposes that a restriction spares may read",
        ),
        _ => Error::new(Reason::SubjectRestricted, "processing of the subject is restricted (Art. 18 GDPR)"),
    };
    Err(tell_erasure(error, facts))
}

fn check_profiling(admission: &Admission<'_>, facts: &Facts) -> Result<()> {
    let profiles = admission.purpose.profiling || facts.token.kind == FieldType::Score;
    if profiles && !facts.profiling {
        let error = Error::new(Reason::ProfilingOff, "the person has switched profiling off");
        return Err(error.with("subject", facts.token.subject));
    }
    Ok(())
}
