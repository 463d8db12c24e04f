//! Whether a call may be recorded. What everybody has said is looked up as by `CheckPermission`, for all parties at once; what
//! follows from it says [`crate::policy::recording`]. The decision is on record before it is answered.

use std::collections::BTreeMap;

use super::Vault;
use super::audit::{Decided, Entry, Touched, outcome};
use super::consent::{Check, Checked};
use super::write::Record;
use crate::model::{
    Agreement, Basis, Channel, ConsentState, Error, Jurisdiction, Label, Notice, Purpose, Reason, Recording,
    RecordingRole, Reference, Result, Stand, SubjectId,
};
use crate::policy::recording::{ForPurpose, Present, Verdict, closed, explain, for_print, for_purpose, strictest};
use crate::policy::{self, Action, Caller, Catalogue, Claim, Law};

/// The rpc.
const DEED: &str = "DecideRecording";

/// The most who take part in a call.
pub const MOST_PARTIES: usize = 32;

/// The most purposes that are asked for.
pub const MOST_PURPOSES: usize = 16;

/// Somebody who takes part in a call.
pub struct Party {
    /// Who, if that is known.
    pub subject: Option<SubjectId>,
    /// Where, if that is known.
    pub jurisdiction: Option<Jurisdiction>,
    /// What they are in it.
    pub role: RecordingRole,
}

/// A call that is to be recorded.
pub struct DecideRecording {
    /// What its keeper calls it.
    pub call: Option<Reference>,
    /// Who takes part.
    pub parties: Vec<Party>,
    /// What it is to be recorded for.
    pub purposes: Vec<Label>,
    /// Where it was answered.
    pub queue: Option<Label>,
    /// What a voice print is to be made for.
    pub biometrics: Option<Label>,
    /// In which language it is held; empty when that is not known.
    pub language: String,
}

/// How one party stands to one purpose.
pub struct Shown {
    /// The answer.
    pub verdict: Verdict,
    /// What they have said.
    pub state: ConsentState,
    /// The event that decided; empty without one.
    pub event: String,
}

/// What becomes of one purpose.
pub struct Outcome {
    /// The purpose.
    pub purpose: String,
    /// What it rests on.
    pub basis: Basis,
    /// The answer.
    pub recording: Recording,
    /// How everybody stands to it, in the order asked.
    pub parties: Vec<Shown>,
}

/// What people are to be told.
#[derive(PartialEq, Eq)]
pub struct ToTell {
    /// The notice.
    pub notice: String,
    /// Its version.
    pub version: u32,
    /// The language of the text.
    pub language: String,
    /// SHA-256 of the text.
    pub sha256: [u8; 32],
}

/// An answer.
pub struct Decision {
    /// The answer.
    pub recording: Recording,
    /// Why, for people.
    pub explanation: String,
    /// By purpose: in the order asked, then those of the queue.
    pub outcomes: Vec<Outcome>,
    /// What people are to be told.
    pub notices: Vec<ToTell>,
    /// Whether a voice print may be made, when that was asked.
    pub biometrics: Option<Outcome>,
    /// The strictest law.
    pub law: Law,
}

impl Vault {
    /// Decides whether a call may be recorded.
    ///
    /// # Errors
    /// `PurposeUnknown` or `PurposeNotGranted` before anybody is looked at, naming the purpose; `SubjectUnknown`, naming the party. Who was
    /// erased is no error, as for `CheckPermission`: the answer says so.
    pub async fn decide_recording(&self, caller: &Caller, ask: DecideRecording) -> Result<Decision> {
        let catalogue = self.catalogue().await?;
        let claim = self.claim(caller, Action::DecideRecording);
        let topics = self.topics(&claim, &catalogue, &ask)?;
        let print = ask.biometrics.as_ref().map(|code| self.print(&claim, &catalogue, code, &topics)).transpose()?;
        let asked: Vec<&Purpose> = topics.iter().copied().chain(print).collect();
        let stands = self.stands(caller, &asked, &ask.parties).await?;
        let law = self.recording.strictest(ask.parties.iter().map(|party| party.jurisdiction.as_ref()));
        let decided = asked.iter().zip(stands).map(|(purpose, stands)| {
            let is_print = print.is_some_and(|print| print.code == purpose.code);
            decide(purpose, is_print, law.agreement, &ask.parties, stands)
        });
        let (explained, mut outcomes): (Vec<String>, Vec<Outcome>) = decided.unzip();
        let explanation = explained.join(" ");
        let notices = notices(&catalogue, &asked, &outcomes, &ask.language);
        // It comes last, and is no answer to whether the call may be recorded.
        let biometrics = print.and_then(|_| outcomes.pop());
        let recording = strictest(outcomes.iter().map(|outcome| outcome.recording));
        let decision = Decision { recording, explanation, outcomes, notices, biometrics, law };
        self.record_decision(caller, &ask, &decision).await?;
        Ok(decision)
    }

    /// The purposes that are asked for and those of the queue, each once, which the caller may name.
    fn topics<'c>(
        &self,
        claim: &Claim<'_>,
        catalogue: &'c Catalogue,
        ask: &DecideRecording,
    ) -> Result<Vec<&'c Purpose>> {
        let named = ask.purposes.iter().enumerate().map(|(at, code)| (format!("purposes[{at}]"), code.as_str()));
        let of_queue = ask.queue.iter().flat_map(|queue| self.recording.purposes_of(queue.as_str()));
        let of_queue = of_queue.map(|code| ("queue".to_owned(), code.as_str()));
        let mut topics: Vec<&Purpose> = Vec::new();
        for (field, code) in named.chain(of_queue) {
            let purpose = self.named(claim, catalogue, code).map_err(|error| error.at(field))?;
            if !topics.iter().any(|known| known.code == purpose.code) {
                topics.push(purpose);
            }
        }
        if topics.is_empty() {
            let message = "name at least one purpose, or a queue for which the vault's configuration has some";
            return Err(Error::invalid("purposes", message));
        }
        Ok(topics)
    }

    /// The purpose of a voice print: one of its own.
    fn print<'c>(
        &self,
        claim: &Claim<'_>,
        catalogue: &'c Catalogue,
        code: &Label,
        topics: &[&Purpose],
    ) -> Result<&'c Purpose> {
        let purpose = self.named(claim, catalogue, code.as_str()).map_err(|error| error.at("biometrics"))?;
        if purpose.basis != Basis::Consent || !purpose.explicit_consent {
            let message = "a voice print needs a purpose that rests on explicit consent (Art. 9(2)(a) GDPR)";
            return Err(Error::invalid("biometrics", message));
        }
        if topics.iter().any(|topic| topic.code == purpose.code) {
            let message = "a voice print needs a consent of its own: name a purpose that the call is not recorded for";
            return Err(Error::invalid("biometrics", message));
        }
        Ok(purpose)
    }

    fn named<'c>(&self, claim: &Claim<'_>, catalogue: &'c Catalogue, code: &str) -> Result<&'c Purpose> {
        policy::admit(claim, code, catalogue, self.clock.now())?;
        catalogue.purpose(code).ok_or_else(|| policy::unknown_purpose(code))
    }

    /// How everybody stands to each purpose, in one read; `None` for whom nobody knows.
    async fn stands(
        &self,
        caller: &Caller,
        purposes: &[&Purpose],
        parties: &[Party],
    ) -> Result<Vec<Vec<Option<Checked>>>> {
        let mut checks = Vec::new();
        for purpose in purposes {
            for subject in parties.iter().filter_map(|party| party.subject) {
                checks.push(Check { subject, purpose: purpose.code.clone(), channel: Channel::Voice, at: None });
            }
        }
        let mut answers = self.check_permissions(caller, &checks).await?.into_iter();
        let mut stands = Vec::with_capacity(purposes.len());
        for _ in purposes {
            let mut of_purpose = Vec::with_capacity(parties.len());
            for (at, party) in parties.iter().enumerate() {
                if party.subject.is_none() {
                    of_purpose.push(None);
                    continue;
                }
                let answer = answers.next().ok_or_else(|| Error::internal("a question was not answered"))?;
                of_purpose.push(Some(answer.map_err(|error| match error.reason {
                    Reason::SubjectUnknown => error.at(format!("parties[{at}].subject")),
                    _ => error,
                })?));
            }
            stands.push(of_purpose);
        }
        Ok(stands)
    }

    /// Puts a decision on record: the answers, and who takes part, as far as they are known.
    async fn record_decision(&self, caller: &Caller, ask: &DecideRecording, decision: &Decision) -> Result<()> {
        let name = |outcome: &Outcome| (outcome.purpose.clone(), outcome.recording.name());
        let touched = ask.parties.iter().enumerate().filter_map(|(at, party)| {
            let told = Touched::subject(party.subject?, party.jurisdiction.as_ref(), outcome::OK);
            // Of several purposes, the one that is decided most strictly.
            let verdicts = decision.outcomes.iter().filter_map(|outcome| outcome.parties.get(at));
            let strictest = verdicts.max_by_key(|shown| (shown.verdict.recording, shown.verdict.reason.is_some()));
            Some(match strictest.and_then(|shown| shown.verdict.reason) {
                Some(reason) => Touched { outcome: outcome::refused(reason).into(), ..told },
                None => told,
            })
        });
        let purposes: BTreeMap<String, &'static str> = decision.outcomes.iter().map(name).collect();
        let alone = match decision.outcomes.as_slice() {
            [one] => one.purpose.clone(),
            _ => String::new(),
        };
        let decided = Decided {
            decision: decision.recording.name(),
            purposes,
            biometrics: decision.biometrics.as_ref().map(name),
            queue: ask.queue.as_ref().map(|queue| queue.as_str().to_owned()).unwrap_or_default(),
            jurisdiction: decision.law.jurisdiction.clone(),
            parties: ask.parties.len() as u64,
        };
        let entry = Entry {
            purpose: alone,
            justification: ask.call.as_ref().map(|call| call.as_str().to_owned()).unwrap_or_default(),
            touched: touched.collect(),
            recording: Some(decided),
            ..Entry::new(&caller.name, DEED, self.clock.now())
        };
        self.record(Record::of(entry)).await.map(drop)
    }
}

/// Decides about a purpose, and says why.
fn decide(
    purpose: &Purpose,
    is_print: bool,
    agreement: Agreement,
    parties: &[Party],
    stands: Vec<Option<Checked>>,
) -> (String, Outcome) {
    let stand = |checked: &Checked| Stand {
        refusal: checked.permission.outcome.as_ref().err().map(|error| error.reason),
        said: checked.permission.said,
    };
    let present: Vec<Present> = parties
        .iter()
        .zip(&stands)
        .map(|(party, checked)| Present { role: party.role, stand: checked.as_ref().map(stand) })
        .collect();
    let decided: ForPurpose = if is_print {
        for_print(closed(purpose), &present)
    } else {
        for_purpose(agreement, purpose.basis, closed(purpose), &present)
    };
    let explanation = explain(purpose, &decided);
    let shown = |(verdict, checked): (Verdict, Option<Checked>)| {
        let permission = checked.map(|checked| checked.permission);
        let state = permission.as_ref().map_or(ConsentState::Unknown, |known| known.said);
        Shown { verdict, state, event: permission.map(|known| known.event).unwrap_or_default() }
    };
    let parties = decided.parties.into_iter().zip(stands).map(shown).collect();
    let (code, basis) = (purpose.code.clone(), purpose.basis);
    (explanation, Outcome { purpose: code, basis, recording: decided.recording, parties })
}

/// The notices of what has to be announced or asked for, each once.
fn notices(catalogue: &Catalogue, purposes: &[&Purpose], outcomes: &[Outcome], language: &str) -> Vec<ToTell> {
    let mut notices: Vec<ToTell> = Vec::new();
    for (purpose, outcome) in purposes.iter().zip(outcomes) {
        if matches!(outcome.recording, Recording::Record | Recording::DoNotRecord) {
            continue;
        }
        if let Some(tell) = catalogue.notice(&purpose.notice).and_then(|notice| to_tell(notice, language))
            && !notices.contains(&tell)
        {
            notices.push(tell);
        }
    }
    notices
}

/// The text of a notice in a language: exactly that, one of the same language, or the first.
fn to_tell(notice: &Notice, language: &str) -> Option<ToTell> {
    let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
    let exact = notice.texts.iter().find(|text| text.language.eq_ignore_ascii_case(language));
    let near = || notice.texts.iter().find(|text| !language.is_empty() && primary(&text.language) == primary(language));
    let text = exact.or_else(near).or_else(|| notice.texts.first())?;
    Some(ToTell {
        notice: notice.notice.clone(),
        version: notice.version,
        language: text.language.clone(),
        sha256: text.sha256,
    })
}
