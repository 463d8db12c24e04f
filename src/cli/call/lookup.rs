//! `lacuna call lookup`.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::bulk;
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::print::{self, Answer};
use crate::cli::table;
use crate::proto::v1;

/// Who is looked up.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  lacuna call lookup '030/1234567' --region DE --purpose customer_care --assurance verified"
)]
pub struct Lookup {
    /// The number as the exchange presents it: a number, a tel: or sip: URI
    #[arg(default_value = "", hide_default_value = true)]
    number: String,
    /// The country that a number without country code is from, such as DE
    #[arg(long, value_name = "COUNTRY", default_value = "", hide_default_value = true)]
    region: String,
    /// The number that was dialled; its country counts when there is no --region
    #[arg(long, value_name = "NUMBER", default_value = "", hide_default_value = true)]
    dialled: String,
    /// How sure it is that the number is that of whoever calls
    #[arg(long, value_enum, default_value = "number-only")]
    assurance: Assurance,
    /// What the values are needed for
    #[arg(long)]
    purpose: String,
    /// The subject of the agent who is shown the answer
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    agent: String,
    /// Ticket or call id that says why; kept with the audit entry
    #[arg(long, value_name = "TICKET", default_value = "", hide_default_value = true)]
    justification: String,
}

/// How sure it is who calls.
#[derive(Clone, Copy, ValueEnum)]
enum Assurance {
    /// A number was presented; anybody can present any.
    NumberOnly,
    /// The operator vouches for the number.
    StirA,
    /// The person was asked what they alone know.
    Verified,
}

impl Assurance {
    const fn number(self) -> v1::CallerAssurance {
        match self {
            Self::NumberOnly => v1::CallerAssurance::NumberOnly,
            Self::StirA => v1::CallerAssurance::StirA,
            Self::Verified => v1::CallerAssurance::Verified,
        }
    }
}

impl Lookup {
    /// Asks, and tells who it is.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::LookupByCallerRequest {
            number: self.number,
            region_hint: self.region,
            dialled_number: self.dialled,
            assurance: self.assurance.number().into(),
            purpose: self.purpose,
            agent: self.agent,
            justification: self.justification,
        };
        let found = remote.open().await?.calls.lookup_by_caller(request).await?.into_inner();
        let failed = found.values.iter().any(bulk::is_error);
        Ok(Answer { json: as_json(&found), human: as_text(&found), failed })
    }
}

fn as_json(found: &v1::LookupByCallerResponse) -> Value {
    let candidate = |one: &v1::CallerCandidate| {
        json!({
            "subject": one.subject,
            "token": one.token,
            "last_activity_time": print::time(one.last_activity_time),
        })
    };
    json!({
        "match": print::enum_name(found.r#match, v1::CallerMatch::as_str_name),
        "subject": found.subject,
        "values": found.values.iter().map(print::revealed).collect::<Vec<_>>(),
        "candidates": found.candidates.iter().map(candidate).collect::<Vec<_>>(),
        "degraded": found.degraded,
        "masked_number": found.masked_number,
    })
}

fn as_text(found: &v1::LookupByCallerResponse) -> String {
    let number = if found.masked_number.is_empty() { "No number" } else { &found.masked_number };
    if found.degraded {
        return format!("{number}: not looked up in time. Ask again.");
    }
    let rows = found
        .candidates
        .iter()
        .map(|one| vec![one.subject.clone(), one.token.clone(), table::time(one.last_activity_time)]);
    let people = || table::table(&["subject", "token", "last activity"], rows);
    match found.r#match() {
        v1::CallerMatch::One if found.values.is_empty() => format!("{number}: {}.", found.subject),
        v1::CallerMatch::One => format!("{number}: {}.\n\n{}", found.subject, table::revealed(&found.values)),
        v1::CallerMatch::Several => format!("{number}: several people. Ask who it is.\n\n{}", people()),
        _ => format!("{number}: unknown."),
    }
}
