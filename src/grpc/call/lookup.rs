//! Who calls.

use tonic::{Response, Status};

use crate::grpc::landing::Landing;
use crate::grpc::{answer, parse, token};
use crate::model::{Assurance, Error, Presented, Redaction, Region, Result, SubjectId, redact};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::lookup::{Candidate, Looked, Lookup};

pub async fn by_caller(
    vault: &Vault,
    caller: &Caller,
    ask: v1::LookupByCallerRequest,
) -> Result<Response<v1::LookupByCallerResponse>, Status> {
    let landing = Landing::default();
    let answered = answer("LookupByCaller", async {
        let lookup = lookup(ask)?;
        let masked_number = masked(&lookup.presented);
        let mut looked = vault.look_up(caller, lookup).await?;
        looked.flight.take().map_or(Ok(()), |flight| landing.carry(flight))?;
        Ok(wire(looked, masked_number))
    })
    .await?;
    Ok(landing.watch_over(answered))
}

fn lookup(ask: v1::LookupByCallerRequest) -> Result<Lookup> {
    let region = match parse::optional(&ask.region_hint) {
        Some(code) => Some(Region::named(code).ok_or_else(|| {
            Error::invalid("region_hint", "is not a country that this vault knows; write two capitals, such as DE")
        })?),
        None if ask.dialled_number.len() > 64 => {
            return Err(Error::invalid("dialled_number", "is longer than 64 bytes"));
        }
        None => Region::of(&ask.dialled_number),
    };
    Ok(Lookup {
        presented: Presented::parse(&ask.number, region)?,
        assurance: assurance(ask.assurance)?,
        purpose: ask.purpose,
        agent: parse::optional(&ask.agent).map(SubjectId::parse).transpose().map_err(|error| error.at("agent"))?,
        justification: parse::reference("justification", &ask.justification)?,
    })
}

/// How sure somebody is of whose a number is.
pub fn assurance(number: i32) -> Result<Assurance> {
    match v1::CallerAssurance::try_from(number) {
        Ok(v1::CallerAssurance::Unspecified | v1::CallerAssurance::NumberOnly) => Ok(Assurance::NumberOnly),
        Ok(v1::CallerAssurance::StirA) => Ok(Assurance::StirA),
        Ok(v1::CallerAssurance::Verified) => Ok(Assurance::Verified),
        Err(_) => Err(Error::invalid("assurance", "is not a CallerAssurance that this vault knows")),
    }
}

/// What of the number the agent is shown in any case.
fn masked(presented: &Presented) -> String {
    let Presented::Number(forms) = presented else { return String::new() };
    let shown = forms.first().map(|surest| redact(surest, Redaction::Masked));
    shown.map(|shown| String::from_utf8_lossy(shown.expose()).into_owned()).unwrap_or_default()
}

fn wire(looked: Looked, masked_number: String) -> v1::LookupByCallerResponse {
    let (found, subject) = match looked.candidates.as_slice() {
        [] => (v1::CallerMatch::Unknown, String::new()),
        [one] => (v1::CallerMatch::One, one.subject.to_string()),
        _ => (v1::CallerMatch::Several, String::new()),
    };
    v1::LookupByCallerResponse {
        r#match: found.into(),
        subject,
        values: looked.values.into_iter().map(token::result).collect(),
        candidates: looked.candidates.into_iter().map(candidate).collect(),
        degraded: looked.degraded,
        masked_number,
    }
}

fn candidate(of: Candidate) -> v1::CallerCandidate {
    v1::CallerCandidate {
        subject: of.subject.to_string(),
        token: of.token,
        last_activity_time: Some(parse::wire_time(of.active_at)),
    }
}
