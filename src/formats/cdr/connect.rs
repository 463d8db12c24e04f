//! Contact records of Amazon Connect.

use super::parts::{Draft, count, mapped_direction, text};
use super::{Mapping, time};
use crate::formats::Json;
use crate::model::{Direction, Disposition, Error, Result, Time};

/// Reads a contact record. Its attributes are passed over: anything can stand in them.
pub fn read(json: &Json, mapping: &Mapping) -> Result<Draft> {
    let channel = text(json, "Channel");
    if !matches!(channel.as_str(), "" | "VOICE") {
        return Err(Error::invalid("Channel", "is not VOICE: what is no call is not recorded as one"));
    }
    let moment = |name: &str| -> Result<Option<Time>> { time::read(name, &text(json, name), mapping) };
    let method = text(json, "InitiationMethod");
    let usual = match method.as_str() {
        "INBOUND" | "TRANSFER" | "QUEUE_TRANSFER" | "DISCONNECT" => Some(Direction::Inbound),
        "OUTBOUND" | "EXTERNAL_OUTBOUND" | "CALLBACK" | "API" => Some(Direction::Outbound),
        "MONITOR" => Some(Direction::Internal),
        _ => None,
    };
    let direction = mapped_direction(&method, mapping).or(usual);
    let (customer, company) = (text(json, "CustomerEndpoint.Address"), text(json, "SystemEndpoint.Address"));
    let inbound = direction.or(mapping.direction) == Some(Direction::Inbound);
    let (from, to) = if inbound { (customer, company) } else { (company, customer) };
    let username = text(json, "Agent.Username");
    let arn = text(json, "Agent.ARN");
    let agent_id = arn.rsplit('/').next().filter(|id| !id.is_empty()).unwrap_or(&username).to_owned();
    let answered_at = moment("Agent.ConnectedToAgentTimestamp")?;
    let ended_at = moment("DisconnectTimestamp")?;
    let contact = text(json, "ContactId");
    let first = text(json, "InitialContactId");
    Ok(Draft {
        group: if first.is_empty() { contact.clone() } else { first },
        source_call_id: contact,
        revision: revision(moment("LastUpdateTimestamp")?),
        direction,
        direction_field: "InitiationMethod",
        caller: from.into(),
        called: to.into(),
        queue: text(json, "Queue.Name"),
        campaign: text(json, "Campaign.CampaignId"),
        started_at: moment("InitiationTimestamp")?,
        start_field: "InitiationTimestamp",
        answered_at,
        ended_at,
        holds: count("Agent.NumberOfHolds", &text(json, "Agent.NumberOfHolds"))?,
        held_for: count("Agent.CustomerHoldDuration", &text(json, "Agent.CustomerHoldDuration"))?,
        disposition: ended_at.and_then(|_| {
            let waited = json.get("Queue").is_some_and(|queue| !matches!(queue, Json::Null));
            ended(&text(json, "DisconnectReason"), answered_at.is_some(), waited)
        }),
        agent_id: agent_id.into(),
        agent_name: username.into(),
        ..Draft::default()
    })
}

/// A record is sent again when something changes, and says when it did.
fn revision(changed: Option<Time>) -> u64 {
    changed.and_then(|time| u64::try_from(time.micros() / 1_000).ok()).unwrap_or(1)
}

fn ended(reason: &str, answered: bool, waited: bool) -> Option<Disposition> {
    match reason {
        _ if answered => Some(Disposition::Answered),
        "TELECOM_BUSY" => Some(Disposition::Busy),
        "TELECOM_UNANSWERED" => Some(Disposition::NoAnswer),
        other if other.starts_with("TELECOM_") => Some(Disposition::Failed),
        "CUSTOMER_DISCONNECT" if waited => Some(Disposition::Abandoned),
        _ => None,
    }
}
