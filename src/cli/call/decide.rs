//! `lacuna call decide`.

use serde_json::{Value, json};

use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::names::Heard;
use crate::cli::print::{self, Answer};
use crate::cli::table;
use crate::proto::v1;

/// What is to be recorded.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  lacuna call decide --party caller:DE:sub_a4k3cj6b3f6twla36ga64eaaaa --party agent:PL --purpose quality")]
pub struct Decide {
    /// Somebody who is heard: caller, agent or other, where they are, and who, as far as that is known
    #[arg(long = "party", value_name = "ROLE[:JURISDICTION[:SUBJECT]]", required = true, value_parser = party)]
    parties: Vec<v1::RecordingParty>,
    /// What the call is to be recorded for; may be said several times
    #[arg(long = "purpose", value_name = "PURPOSE")]
    purposes: Vec<String>,
    /// The queue, whose calls may have to be recorded
    #[arg(long, default_value = "", hide_default_value = true)]
    queue: String,
    /// The purpose of a voice print, if one is to be made
    #[arg(long, value_name = "PURPOSE", default_value = "", hide_default_value = true)]
    biometrics: String,
    /// The language of the call, such as de
    #[arg(long, default_value = "", hide_default_value = true)]
    language: String,
    /// Ticket or call id; kept with the audit entry
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    call: String,
}

/// Reads `ROLE[:JURISDICTION[:SUBJECT]]`.
fn party(text: &str) -> Result<v1::RecordingParty, String> {
    let mut parts = text.splitn(3, ':');
    let role = Heard::parse(parts.next().unwrap_or_default()).map_err(|error| format!("ROLE: {error}"))?;
    let jurisdiction = parts.next().unwrap_or_default().to_owned();
    let subject = parts.next().unwrap_or_default().to_owned();
    Ok(v1::RecordingParty { subject, jurisdiction, role: role.number() })
}

impl Decide {
    /// Asks, and tells what to do and why.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::DecideRecordingRequest {
            call: self.call,
            parties: self.parties,
            purposes: self.purposes,
            queue: self.queue,
            biometrics: self.biometrics,
            language: self.language,
        };
        let decided = remote.open().await?.calls.decide_recording(request).await?.into_inner();
        let failed = decided.decision() == v1::RecordingDecision::DoNotRecord;
        Ok(Answer { json: as_json(&decided), human: as_text(&decided), failed })
    }
}

fn decision(number: i32) -> Value {
    print::enum_name(number, v1::RecordingDecision::as_str_name)
}

fn outcome(of: &v1::RecordingOutcome) -> Value {
    let verdict = |one: &v1::RecordingVerdict| {
        json!({
            "decision": decision(one.decision),
            "reason": one.reason,
            "state": print::enum_name(one.state, v1::ConsentState::as_str_name),
            "evidence_event": one.evidence_event,
        })
    };
    json!({
        "purpose": of.purpose,
        "basis": print::enum_name(of.basis, v1::LawfulBasis::as_str_name),
        "decision": decision(of.decision),
        "parties": of.parties.iter().map(verdict).collect::<Vec<_>>(),
    })
}

fn as_json(decided: &v1::DecideRecordingResponse) -> Value {
    let notice = |one: &v1::RecordingNotice| {
        json!({
            "notice": one.notice,
            "version": one.version,
            "language": one.language,
            "sha256": data_encoding::BASE64.encode(&one.sha256),
        })
    };
    json!({
        "decision": decision(decided.decision),
        "explanation": decided.explanation,
        "outcomes": decided.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "notices": decided.notices.iter().map(notice).collect::<Vec<_>>(),
        "biometrics": decided.biometrics.as_ref().map(outcome),
        "all_parties": decided.all_parties,
        "jurisdiction": decided.jurisdiction,
        "law": decided.law,
    })
}

fn as_text(decided: &v1::DecideRecordingResponse) -> String {
    let word = |number| table::short(&decision(number), "RECORDING_DECISION_").replace('_', " ");
    let who = if decided.all_parties { "all have to agree" } else { "one who speaks has to agree" };
    let notices = decided.notices.iter().map(|one| format!("{} {} ({})", one.notice, one.version, one.language));
    let notices: Vec<String> = notices.collect();
    let mut rows = vec![
        ("decision", word(decided.decision)),
        ("why", decided.explanation.clone()),
        ("law", format!("{} {who}: {}", decided.jurisdiction, decided.law).trim().to_owned()),
        ("say", notices.join(", ")),
    ];
    if let Some(print) = &decided.biometrics {
        rows.push(("voice print", word(print.decision)));
    }
    table::record(&rows)
}
