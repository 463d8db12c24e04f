//! Whether a call may be recorded.

use crate::grpc::{parse, status};
use crate::model::{Error, Jurisdiction, Label, RecordingRole, Result, SubjectId};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::recording::{DecideRecording, Decision, MOST_PARTIES, MOST_PURPOSES, Outcome, Party, Shown, ToTell};

/// The longest tag of a language.
const LANGUAGE: usize = 35;

pub async fn decide(
    vault: &Vault,
    caller: &Caller,
    ask: v1::DecideRecordingRequest,
) -> Result<v1::DecideRecordingResponse> {
    Ok(wire(vault.decide_recording(caller, asked(ask)?).await?))
}

fn asked(ask: v1::DecideRecordingRequest) -> Result<DecideRecording> {
    if ask.parties.is_empty() {
        return Err(Error::invalid("parties", "must hold at least one"));
    }
    parse::check_most("parties", ask.parties.len(), MOST_PARTIES)?;
    parse::check_most("purposes", ask.purposes.len(), MOST_PURPOSES)?;
    let within = |at: usize| move |error: Error| error.within(&format!("parties[{at}]"));
    let parties = ask.parties.iter().enumerate().map(|(at, one)| party(one).map_err(within(at)));
    let purposes = ask.purposes.iter().enumerate();
    let purposes = purposes.map(|(at, code)| Label::purpose(code).map_err(|error| error.at(format!("purposes[{at}]"))));
    let tag = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if ask.language.len() > LANGUAGE || !ask.language.chars().all(tag) {
        return Err(Error::invalid("language", "expected a tag of BCP 47, such as \"de\" or \"pt-BR\""));
    }
    Ok(DecideRecording {
        call: parse::reference("call", &ask.call)?,
        parties: parties.collect::<Result<_>>()?,
        purposes: purposes.collect::<Result<_>>()?,
        queue: parse::optional(&ask.queue).map(Label::queue).transpose()?,
        biometrics: parse::optional(&ask.biometrics)
            .map(Label::purpose)
            .transpose()
            .map_err(|error| error.at("biometrics"))?,
        language: ask.language,
    })
}

fn party(one: &v1::RecordingParty) -> Result<Party> {
    let role = match one.role() {
        v1::RecordingRole::Caller => RecordingRole::Caller,
        v1::RecordingRole::Agent => RecordingRole::Agent,
        v1::RecordingRole::Other => RecordingRole::Other,
        v1::RecordingRole::Unspecified => {
            return Err(Error::invalid("role", "is missing, or not a RecordingRole that this vault knows"));
        }
    };
    let subject = parse::optional(&one.subject).map(SubjectId::parse).transpose();
    Ok(Party {
        subject: subject.map_err(|error| error.at("subject"))?,
        jurisdiction: parse::optional(&one.jurisdiction).map(Jurisdiction::parse).transpose()?,
        role,
    })
}

fn wire(decision: Decision) -> v1::DecideRecordingResponse {
    v1::DecideRecordingResponse {
        decision: decision.recording.number(),
        explanation: decision.explanation,
        outcomes: decision.outcomes.into_iter().map(outcome).collect(),
        notices: decision.notices.into_iter().map(notice).collect(),
        biometrics: decision.biometrics.map(outcome),
        all_parties: decision.law.agreement == crate::model::Agreement::AllParty,
        jurisdiction: decision.law.jurisdiction,
        law: decision.law.source.to_owned(),
    }
}

fn outcome(of: Outcome) -> v1::RecordingOutcome {
    let verdict = |shown: Shown| v1::RecordingVerdict {
        decision: shown.verdict.recording.number(),
        reason: shown.verdict.reason.map(status::reason_name).unwrap_or_default(),
        state: shown.state.number(),
        evidence_event: shown.event,
    };
    v1::RecordingOutcome {
        purpose: of.purpose,
        basis: of.basis.number(),
        decision: of.recording.number(),
        parties: of.parties.into_iter().map(verdict).collect(),
    }
}

fn notice(tell: ToTell) -> v1::RecordingNotice {
    v1::RecordingNotice {
        notice: tell.notice,
        version: tell.version.cast_signed(),
        language: tell.language,
        sha256: tell.sha256.to_vec(),
    }
}
