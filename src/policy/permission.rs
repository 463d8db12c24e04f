//! Whether a person's data may be used for a purpose: one function, which reveals, searches and questions all obey.

use super::{Catalogue, erasure_refusal, restriction_refusal};
use crate::model::{
    Basis, Channel, Consent, ConsentState, Error, Mode, PersonFacts, Purpose, PurposeState, Reason, Result, Standing,
    SubjectState, Time,
};

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// The documents.
    pub catalogue: &'q Catalogue,
    /// For what, in the version that counts.
    pub purpose: &'q Purpose,
    /// Over which channels: any of them will do. Every one of the purpose's when empty.
    pub channels: &'q [Channel],
    /// When.
    pub at: Time,
}

/// An answer, and on what it rests.
#[derive(Debug)]
pub struct Permission {
    /// Whether, and why not.
    pub outcome: Result<()>,
    /// The channel that decided.
    pub channel: Channel,
    /// How the consent stands.
    pub state: ConsentState,
    /// What the person has said of the purpose, also where it does not rest on consent; `Unknown` where something else
    /// decided before that was looked at.
    pub said: ConsentState,
    /// The event that decided; empty without one.
    pub event: String,
    /// The version of the notice under which consent was given; 0 without one.
    pub notice_version: u32,
    /// Until when the answer holds if nothing happens.
    pub valid_until: Option<Time>,
}

impl Permission {
    fn refused(error: Error) -> Self {
        Self {
            outcome: Err(error),
            channel: Channel::Any,
            state: ConsentState::Unknown,
            said: ConsentState::Unknown,
            event: String::new(),
            notice_version: 0,
            valid_until: None,
        }
    }

    fn granted() -> Self {
        Self { outcome: Ok(()), ..Self::refused(Error::new(Reason::NoConsent, "")) }
    }
}

/// Decides, in the order of the law: erased, purpose, suppression, restriction, objection, profiling, basis.
#[must_use]
pub fn permission(question: &Question<'_>, person: &PersonFacts, standing: &Standing) -> Permission {
    if let Err(error) = check_person(question, person) {
        return Permission::refused(error.with("purpose", &question.purpose.code));
    }
    let used: Vec<Channel> = if !question.channels.is_empty() {
        question.channels.iter().copied().filter(|channel| question.purpose.uses(*channel)).collect()
    } else if question.purpose.channels.is_empty() {
        // Any channel that something was recorded of, and whatever stands for the rest.
        standing.consents.keys().copied().chain([Channel::Any]).collect()
    } else {
        question.purpose.channels.clone()
    };
    let mut answers: Vec<Permission> =
        used.into_iter().map(|channel| over(question, person, standing, channel)).collect();
    // Any channel will do; of refusals the one with most to say.
    let best = answers.iter().position(|answer| answer.outcome.is_ok()).or_else(|| {
        let told = |answer: &Permission| (!answer.event.is_empty(), answer.state);
        (0..answers.len()).max_by_key(|at| answers.get(*at).map(told))
    });
    if let Some(best) = best {
        return answers.swap_remove(best);
    }
    let error = Error::new(Reason::NoConsent, "the purpose does not use this channel");
    Permission::refused(error.with("purpose", &question.purpose.code).with("subject", person.subject))
}

fn check_person(question: &Question<'_>, person: &PersonFacts) -> Result<()> {
    let (purpose, now) = (question.purpose, question.at);
    if let Some(error) = erasure_refusal(person, now) {
        return Err(error);
    }
    match purpose.state {
        PurposeState::Active => {}
        PurposeState::Draft => {
            return Err(Error::new(Reason::PurposeInactive, "the purpose is a draft; nothing is permitted for it yet"));
        }
        PurposeState::Retired => {
            return Err(Error::new(Reason::PurposeInactive, "the purpose is retired; nothing is permitted for it"));
        }
    }
    if purpose.direct_marketing && person.suppressed_at.is_some_and(|time| time <= now) {
        let error =
            Error::new(Reason::Suppressed, "the person has objected to direct marketing; nothing overrides that");
        return Err(error.with("subject", person.subject));
    }
    restriction_refusal(purpose, person, now).map_or(Ok(()), Err)
}

fn over(question: &Question<'_>, person: &PersonFacts, standing: &Standing, channel: Channel) -> Permission {
    let purpose = question.purpose;
    let consent = standing.consent(channel);
    let refused = |reason, message: &'static str, event: &str| Permission {
        event: event.to_owned(),
        channel,
        ..Permission::refused(
            Error::new(reason, message).with("purpose", &purpose.code).with("subject", person.subject),
        )
    };
    if let Some(objection) = standing.objection(channel) {
        return refused(Reason::Objected, "the person has objected to this purpose (Art. 21 GDPR)", &objection.event);
    }
    if purpose.profiling && !person.profiling {
        return refused(Reason::ProfilingOff, "the person has switched profiling off", "");
    }
    if purpose.basis != Basis::Consent {
        return Permission { channel, said: consent.state_at(question.at), ..Permission::granted() };
    }
    by_consent(question, person, &consent, channel)
}

fn by_consent(question: &Question<'_>, person: &PersonFacts, consent: &Consent, channel: Channel) -> Permission {
    use ConsentState::{Expired, Given, Invalid, Invalidated, ReconfirmDue, Refused, Renewed, Revoked, Withdrawn};
    let (purpose, now) = (question.purpose, question.at);
    let changed = question.catalogue.reconfirm(purpose, consent, now);
    let state = match consent.state_at(now) {
        state if state.is_yes() && changed.is_some() => ReconfirmDue,
        state => state,
    };
    let explicit = consent.explicit_consent || !purpose.explicit_consent;
    let in_grace = changed.is_some_and(|changed| now < changed.usable_until) && consent.state_at(now).is_yes();
    let outcome = match state {
        Given | Renewed if explicit => Ok(()),
        ReconfirmDue if explicit && in_grace => Ok(()),
        Given | Renewed => Err((Reason::NoConsent, "the purpose needs explicit consent (Art. 9(2)(a) GDPR)")),
        ReconfirmDue => {
            Err((Reason::ReconfirmDue, "what the person consented to has changed; they have to be asked anew"))
        }
        Expired => Err((Reason::ConsentExpired, "the consent has expired; the person has to be asked anew")),
        Withdrawn => Err((Reason::ConsentWithdrawn, "the person has withdrawn their consent")),
        Refused => Err((Reason::ConsentRefused, "the person has refused")),
        Revoked | Invalidated => Err((Reason::ConsentWithdrawn, "the consent was revoked or declared void")),
        Invalid => Err((
            Reason::InvalidMethod,
            "the consent was recorded with a method that is none: a ticked box, an assumption or silence",
        )),
        _ if purpose.mode == Mode::OptOut && !consent.silence_is_no => Ok(()),
        _ => Err((Reason::NoConsent, "the purpose rests on consent, and the person has given none")),
    };
    let refusal = |(reason, message): (Reason, &'static str)| {
        Error::new(reason, message).with("purpose", &purpose.code).with("subject", person.subject)
    };
    let ends = [consent.valid_until, consent.of_age_at].into_iter().flatten().map(Time::from_micros);
    let ends = ends.chain(changed.map(|changed| changed.usable_until)).filter(|end| *end > now).min();
    Permission {
        valid_until: ends.filter(|_| outcome.is_ok()),
        outcome: outcome.map_err(refusal),
        channel,
        state,
        said: state,
        event: consent.event.clone(),
        notice_version: consent.notice_version,
    }
}

/// Whether a subject in this state can be decided about at all.
#[must_use]
pub const fn is_there(state: SubjectState) -> bool {
    !matches!(state, SubjectState::Shredding | SubjectState::Shredded)
}
