//! Calls of Twilio: as a resource of its API, and as its callbacks tell of them.

use std::time::Duration;

use super::parts::{Draft, count, mapped_direction, text};
use super::{Mapping, time};
use crate::formats::Json;
use crate::model::{Direction, Disposition, Error, Result, Time};

/// How many callbacks of one second are told apart.
const OF_A_SECOND: u64 = 64;

/// Reads either.
pub fn read(json: &Json, mapping: &Mapping) -> Result<Draft> {
    // A resource and a callback have names of their own for the same.
    let either = |resource: &'static str, callback: &'static str| {
        let found = text(json, resource);
        if found.is_empty() { (callback, text(json, callback)) } else { (resource, found) }
    };
    let moment = |(name, text): (&'static str, String)| -> Result<Option<Time>> { time::read(name, &text, mapping) };
    let sid = either("sid", "CallSid").1;
    if sid.is_empty() {
        return Err(Error::invalid("sid", "is missing; is this a call of Twilio?"));
    }
    let parent = either("parent_call_sid", "ParentCallSid").1;
    let way = either("direction", "Direction").1;
    let usual = match way.split('-').next() {
        Some("inbound") => Some(Direction::Inbound),
        Some("outbound") => Some(Direction::Outbound),
        _ => None,
    };
    let status = either("status", "CallStatus").1;
    let disposition = ended(&status);
    let told_at = moment(either("date_updated", "Timestamp"))?;
    let (lasting, lasted) = either("duration", "CallDuration");
    let lasted = Duration::from_secs(count::<u32>(lasting, &lasted)?.into());
    let ended_at = moment(("end_time", text(json, "end_time")))?.or(told_at).filter(|_| disposition.is_some());
    let began =
        moment(("start_time", text(json, "start_time")))?.or(moment(("date_created", text(json, "date_created")))?);
    let sequence: u64 = count("SequenceNumber", &text(json, "SequenceNumber"))?;
    let place: Vec<String> = ["CallerCity", "CallerState", "CallerZip", "CallerCountry"]
        .iter()
        .map(|part| text(json, part))
        .filter(|part| !part.is_empty())
        .collect();
    Ok(Draft {
        group: if parent.is_empty() { sid.clone() } else { parent },
        source_call_id: sid,
        revision: revision(told_at, sequence),
        direction: mapped_direction(&way, mapping).or(usual),
        direction_field: "direction",
        caller: either("from", "From").1.into(),
        called: either("to", "To").1.into(),
        name: either("caller_name", "CallerName").1.into(),
        place: place.join(", ").into(),
        started_at: began.or(told_at.map(|time| time.minus(lasted))),
        start_field: "start_time",
        ended_at,
        disposition,
        ..Draft::default()
    })
}

/// Callbacks count what they say; between them and the resource the later one stands.
fn revision(told_at: Option<Time>, sequence: u64) -> u64 {
    let second = told_at.and_then(|time| u64::try_from(time.micros() / 1_000_000).ok()).unwrap_or_default();
    second.saturating_mul(OF_A_SECOND).saturating_add(sequence.min(OF_A_SECOND - 2)).saturating_add(1)
}

fn ended(status: &str) -> Option<Disposition> {
    match status {
        "completed" => Some(Disposition::Answered),
        "busy" => Some(Disposition::Busy),
        "no-answer" => Some(Disposition::NoAnswer),
        "canceled" => Some(Disposition::Abandoned),
        "failed" => Some(Disposition::Failed),
        _ => None,
    }
}
