//! What `mod_json_cdr` of FreeSWITCH writes of a channel.

use percent_encoding::percent_decode_str;

use super::parts::{Draft, at, count, mapped_direction, text};
use super::{Mapping, time};
use crate::formats::Json;
use crate::model::{Direction, Disposition, Error, Result, Time};

/// Variables are written as in an address, unless it is told not to.
fn variable(json: &Json, name: &str) -> String {
    let written = text(json, &format!("variables.{name}"));
    percent_decode_str(&written).decode_utf8().map_or_else(|_| written.clone(), std::borrow::Cow::into_owned)
}

/// Reads the object of a channel.
pub fn read(json: &Json, mapping: &Mapping) -> Result<Draft> {
    if at(json, "variables").is_none() {
        return Err(Error::invalid("variables", "is missing; is this of mod_json_cdr?"));
    }
    // What was dialled first stands last.
    let flow = match json.get("callflow") {
        Some(Json::List(flow)) => flow.last().and_then(|first| first.get("caller_profile")),
        Some(flow) => flow.get("caller_profile"),
        None => None,
    };
    let profile = |name: &str| flow.map(|profile| text(profile, name)).unwrap_or_default();
    let either = |one: String, other: String| if one.is_empty() { other } else { one };
    let moment = |name: &str| -> Result<Option<Time>> {
        time::read(&format!("variables.{name}"), &variable(json, name), mapping)
    };
    let answered_at = moment("answer_epoch")?;
    let ended_at = moment("end_epoch")?;
    let usual = match variable(json, "direction").as_str() {
        "inbound" => Some(Direction::Inbound),
        "outbound" => Some(Direction::Outbound),
        _ => None,
    };
    let uuid = variable(json, "uuid");
    let group = either(variable(json, "call_uuid"), uuid.clone());
    Ok(Draft {
        source_call_id: uuid,
        group,
        direction: mapped_direction(&profile("context"), mapping).or(usual),
        direction_field: "variables.direction",
        caller: either(profile("caller_id_number"), variable(json, "sip_from_user")).into(),
        called: either(profile("destination_number"), variable(json, "sip_to_user")).into(),
        name: name_of(&profile("caller_id_name"), &profile("caller_id_number")).into(),
        queue: variable(json, "cc_queue"),
        agent_id: variable(json, "cc_agent").into(),
        started_at: moment("start_epoch")?,
        start_field: "variables.start_epoch",
        rung_at: moment("progress_epoch")?,
        answered_at,
        ended_at,
        held_for: count("variables.hold_accum_seconds", &variable(json, "hold_accum_seconds"))?,
        disposition: ended_at.map(|_| ended(&variable(json, "hangup_cause"), answered_at.is_some())),
        ..Draft::default()
    })
}

/// A name, where it is not the number once more.
fn name_of(name: &str, number: &str) -> String {
    let name = percent_decode_str(name).decode_utf8_lossy();
    if name == number { String::new() } else { name.into_owned() }
}

fn ended(cause: &str, answered: bool) -> Disposition {
    match cause {
        _ if answered => Disposition::Answered,
        "NO_ANSWER" | "NO_USER_RESPONSE" | "ALLOTTED_TIMEOUT" => Disposition::NoAnswer,
        "USER_BUSY" | "CALL_REJECTED" => Disposition::Busy,
        "ORIGINATOR_CANCEL" => Disposition::Abandoned,
        "NORMAL_CIRCUIT_CONGESTION" | "SWITCH_CONGESTION" => Disposition::Congestion,
        _ => Disposition::Failed,
    }
}
