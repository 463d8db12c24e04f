//! Whether a call may be recorded: one function of the law, the purposes, and how everybody stands to them.
//!
//! For each purpose and each party there is an answer; the last of them in the order of [`Recording`] is that of the call. So another
//! party or another purpose never makes it laxer, with the exception that the order documents: a legal duty to record
//! stands above every refusal.

mod law;

use std::fmt::Write as _;

pub use law::{Law, RecordingRules};

use crate::model::{
    Agreement, Basis, Channel, ConsentState, Error, Purpose, PurposeState, Reason, Recording, RecordingRole, Result,
    Stand,
};

/// Somebody who takes part in a call.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// What they are in it.
    pub role: RecordingRole,
    /// How they stand to the purpose; `None` when nobody knows who they are.
    pub stand: Option<Stand>,
}

/// An answer and what stands against it, or in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub recording: Recording,
    /// What is against it; of a duty, what is known and does not count.
    pub reason: Option<Reason>,
}

impl Verdict {
    const fn new(recording: Recording, reason: Option<Reason>) -> Self {
        Self { recording, reason }
    }
}

/// What becomes of one purpose.
#[derive(Clone, Debug)]
pub struct ForPurpose {
    /// The strictest answer among the parties.
    pub recording: Recording,
    /// The answer for each of them, in the order in which they were named.
    pub parties: Vec<Verdict>,
}

/// Why no call is recorded for a purpose, whoever takes part; `None` when one may be.
#[must_use]
pub fn closed(purpose: &Purpose) -> Option<Reason> {
    if purpose.state != PurposeState::Active {
        return Some(Reason::PurposeInactive);
    }
    // Who is not to be reached by voice for it cannot be asked either.
    if purpose.uses(Channel::Voice) { None } else { Some(Reason::NoConsent) }
}

/// Decides about one purpose.
#[must_use]
pub fn for_purpose(agreement: Agreement, basis: Basis, closed: Option<Reason>, parties: &[Present]) -> ForPurpose {
    let verdict = |party: &Present| match closed {
        Some(reason) => Verdict::new(Recording::DoNotRecord, Some(reason)),
        None => for_party(agreement, basis, *party),
    };
    gather(parties.iter().map(verdict).collect())
}

/// Decides whether a voice print may be made: special data (Art. 9 GDPR), for which nothing will do but an explicit consent
/// that stands. The recording itself is none, and is decided about as if nobody had asked for a print.
#[must_use]
pub fn for_print(closed: Option<Reason>, parties: &[Present]) -> ForPurpose {
    let mut decided = for_purpose(Agreement::AllParty, Basis::Consent, closed, parties);
    for verdict in &mut decided.parties {
        if verdict.recording == Recording::AnnounceThenRecord {
            verdict.recording = Recording::Ask;
        }
    }
    gather(decided.parties)
}

fn gather(parties: Vec<Verdict>) -> ForPurpose {
    let recording = strictest(parties.iter().map(|verdict| verdict.recording));
    ForPurpose { recording, parties }
}

/// The answer that counts of several.
#[must_use]
pub fn strictest(answers: impl IntoIterator<Item = Recording>) -> Recording {
    answers.into_iter().max().unwrap_or(Recording::DoNotRecord)
}

/// Whether a recording may begin by a decision, when everybody was told of it or was not.
///
/// # Errors
/// `NoRecordingPermission`.
pub fn may_begin(decision: Recording, announced: bool) -> Result<()> {
    let message = match decision {
        Recording::Record | Recording::MustRecord => return Ok(()),
        Recording::AnnounceThenRecord if announced => return Ok(()),
        Recording::AnnounceThenRecord => {
            "tell everybody that the call is recorded first, and say that it was announced"
        }
        Recording::Ask => "somebody has to agree first who has not yet: ask, record the answer, and begin again",
        Recording::DoNotRecord => "this call must not be recorded for these purposes; go on with it unrecorded",
    };
    Err(Error::new(Reason::NoRecordingPermission, message))
}

fn for_party(agreement: Agreement, basis: Basis, party: Present) -> Verdict {
    let against = party.stand.and_then(Stand::against);
    match basis {
        Basis::LegalObligation => Verdict::new(Recording::MustRecord, against),
        Basis::Consent => by_consent(agreement, party),
        Basis::Contract | Basis::LegitimateInterests | Basis::PublicTask | Basis::VitalInterests => {
            let forbids = party.stand.is_some_and(|stand| stand.refusal.is_some());
            // The ground of the processing is one thing, the secrecy of what is spoken another: where all have to agree, a
            // no is a no.
            if forbids || against.is_some() && agreement == Agreement::AllParty {
                Verdict::new(Recording::DoNotRecord, against)
            } else {
                Verdict::new(Recording::AnnounceThenRecord, against)
            }
        }
    }
}

/// Of a purpose that rests on consent. An agent is not asked while they speak with somebody: they were told when they began to
/// work there. What they have refused counts all the same.
fn by_consent(agreement: Agreement, party: Present) -> Verdict {
    use Reason::{ConsentExpired, InvalidMethod, NoConsent, ReconfirmDue};
    let agent = party.role == RecordingRole::Agent;
    let Some(stand) = party.stand else {
        return if agent {
            Verdict::new(Recording::Record, None)
        } else {
            Verdict::new(Recording::Ask, Some(NoConsent))
        };
    };
    match stand.refusal {
        Some(ConsentExpired | InvalidMethod | NoConsent | ReconfirmDue) | None if agent => {
            Verdict::new(Recording::Record, None)
        }
        Some(reason @ (ConsentExpired | InvalidMethod | NoConsent | ReconfirmDue)) => {
            Verdict::new(Recording::Ask, Some(reason))
        }
        Some(reason) => Verdict::new(Recording::DoNotRecord, Some(reason)),
        None if stand.said.is_yes() => Verdict::new(Recording::Record, None),
        // A yes that goes on for a while although what it was given under has changed.
        None if stand.said == ConsentState::ReconfirmDue => {
            Verdict::new(Recording::AnnounceThenRecord, Some(ReconfirmDue))
        }
        // Silence, of a purpose that is permitted until somebody says no.
        None if agreement == Agreement::OneParty => Verdict::new(Recording::AnnounceThenRecord, None),
        None => Verdict::new(Recording::Ask, Some(NoConsent)),
    }
}

/// Says for people why a purpose has its answer.
#[must_use]
pub fn explain(purpose: &Purpose, decided: &ForPurpose) -> String {
    let code = &purpose.code;
    let who = |meant: &dyn Fn(&Verdict) -> bool| {
        let mut named = String::new();
        for (at, _) in decided.parties.iter().enumerate().filter(|(_, verdict)| meant(verdict)) {
            let comma = if named.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(named, "{comma}parties[{at}]");
        }
        named
    };
    match decided.recording {
        Recording::Record => format!("{code}: whoever has to agree has."),
        Recording::AnnounceThenRecord => format!("{code}: say first that the call is recorded."),
        Recording::Ask => {
            let asked = who(&|verdict| verdict.recording == Recording::Ask);
            format!("{code}: rests on consent; ask {asked}.")
        }
        Recording::DoNotRecord if closed(purpose).is_some() => format!("{code}: no call is recorded for this purpose."),
        Recording::DoNotRecord => {
            let against = who(&|verdict| verdict.recording == Recording::DoNotRecord);
            format!("{code}: {against} may not be recorded.")
        }
        Recording::MustRecord => {
            let mut duty = String::new();
            for word in [&purpose.title, &purpose.assessment].into_iter().filter(|word| !word.is_empty()) {
                let comma = if duty.is_empty() { " (" } else { ", " };
                let _ = write!(duty, "{comma}{word}");
            }
            let end = if duty.is_empty() { "" } else { ")" };
            let against = who(&|verdict| verdict.reason.is_some());
            let all_the_same = if against.is_empty() {
                String::new()
            } else {
                format!("; what is known of {against} does not change that, tell them so")
            };
            format!(
                "{code}{duty}{end}: a legal obligation (Art. 6(1)(c) GDPR), the call has to be recorded{all_the_same}."
            )
        }
    }
}

#[cfg(test)]
mod tests;
