//! `lacuna call upsert`, `show` and `list`.

use anyhow::Context as _;
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::{event, part};
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::names::{Direction, Disposition, Role, names};
use crate::cli::page::Paging;
use crate::cli::print::{self, Answer};
use crate::cli::token::Redaction;
use crate::cli::{table, value};
use crate::proto::v1;

/// What `call upsert` records.
#[derive(clap::Args)]
pub struct Upsert {
    /// What the system calls this leg
    #[arg(value_name = "SOURCE_CALL_ID")]
    source_call_id: String,
    /// Which system tells of it
    #[arg(long, value_name = "CODE")]
    system: String,
    /// Counts what the system says of this leg
    #[arg(long, value_name = "N", default_value = "1")]
    revision: u64,
    /// What the legs of the call have in common
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    group: String,
    /// Which way it goes
    #[arg(long, value_enum, default_value = "inbound")]
    direction: Direction,
    /// The company's number that was called
    #[arg(long, value_name = "NUMBER", default_value = "", hide_default_value = true)]
    dialled: String,
    /// The queue
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    queue: String,
    /// The skill
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    skill: String,
    /// The campaign
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    campaign: String,
    /// The contact list
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    contact_list: String,
    /// When it began (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    start: Timestamp,
    /// When it was answered (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    answer: Option<Timestamp>,
    /// When it ended (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    end: Option<Timestamp>,
    /// How it ended
    #[arg(long, value_enum)]
    disposition: Option<Disposition>,
    /// Who took part.
    #[arg(long, value_name = "FILE|-", help = parties_help())]
    parties: String,
    /// A UUID; repeating the call with the same one changes nothing
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What a line of `--parties` looks like.
const SHAPE: &str = r#"{"role", "number"?, "name"?, "place"?, "note"?, "agent_id"?, "subject"?, "retention_class"?}"#;

/// The help of `--parties`.
fn parties_help() -> String {
    format!(
        "Who took part, in an order that does not change, as lines of JSON from a file or standard input (-): {SHAPE}, \
         where a role is one of {}",
        names::<Role>()
    )
}

/// Somebody who took part.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Party {
    role: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    agent_id: String,
    #[serde(default)]
    number: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    retention_class: String,
}

/// What `call show` shows.
#[derive(clap::Args)]
pub struct Show {
    /// The call.
    call: String,
    /// What its values are needed for; none are shown without one
    #[arg(long, default_value = "", hide_default_value = true)]
    purpose: String,
    /// How much of each value is shown
    #[arg(long, value_enum, default_value = "plain-text")]
    redaction: Redaction,
    /// The number of the party that it is shown to, who sees nothing of the others
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    viewer: u32,
    /// Ticket or case that says why; kept with the audit entry
    #[arg(long, value_name = "TICKET", default_value = "", hide_default_value = true)]
    justification: String,
}

/// What `call list` lists.
#[derive(clap::Args)]
pub struct List {
    /// Only calls that this subject took part in
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// Only calls that this subject served
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true, conflicts_with = "subject")]
    agent: String,
    /// Only the call that this system told of
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true, requires = "source_call_id")]
    system: String,
    /// Only the call with the leg that the system calls so
    #[arg(
        long,
        value_name = "ID",
        default_value = "",
        hide_default_value = true,
        requires = "system",
        conflicts_with_all = ["subject", "agent", "queue", "from", "until", "payment_without_pause", "pauses_longer_than"]
    )]
    source_call_id: String,
    /// Only calls of this queue
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    queue: String,
    /// Only calls that began then or later (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    from: Option<Timestamp>,
    /// Only calls that began before (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    until: Option<Timestamp>,
    /// Only calls in which somebody paid by card while the recording was not interrupted for it
    #[arg(long)]
    payment_without_pause: bool,
    /// Only calls whose recording was interrupted for a card for longer, or never went on
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true)]
    pauses_longer_than: u32,
    #[command(flatten)]
    paging: Paging,
}

impl Upsert {
    /// Tells of a leg.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::UpsertCallRequest {
            source_system: self.system,
            source_call_id: self.source_call_id,
            revision: self.revision,
            group_id: self.group,
            direction: self.direction.number(),
            dialled: self.dialled,
            queue: self.queue,
            skill: self.skill,
            campaign: self.campaign,
            contact_list: self.contact_list,
            start_time: Some(self.start),
            answer_time: self.answer,
            end_time: self.end,
            disposition: self.disposition.map_or(0, Disposition::number),
            parties: parties(&self.parties)?,
            request_id: self.request_id,
            ..Default::default()
        };
        let response = remote.open().await?.calls.upsert_call(request).await?.into_inner();
        let call = response.call.unwrap_or_default();
        let outcome = print::enum_name(response.outcome, v1::UpsertOutcome::as_str_name);
        let human = format!("{}\n{}.", shown(&call), table::short(&outcome, "UPSERT_OUTCOME_"));
        Ok(Answer::new(json!({ "call": as_json(&call), "outcome": outcome, "stale": response.stale }), human))
    }
}

/// Reads who took part. What is wrong with a line is told by its number: a value may stand in it.
fn parties(from: &str) -> anyhow::Result<Vec<v1::PartyInput>> {
    let text = match from {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        path => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?,
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| party(line).with_context(|| format!("line {}", at + 1))).collect()
}

fn party(line: &str) -> anyhow::Result<v1::PartyInput> {
    let Party { role, subject, agent_id, number, name, place, note, retention_class } = value::json_line(line, SHAPE)?;
    let role = Role::parse(&role).context("role")?.number();
    Ok(v1::PartyInput { role, subject, agent_id, number, name, place, note, retention_class })
}

impl Show {
    /// Shows the call.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let (asked, viewer) = (!self.purpose.is_empty(), self.viewer);
        let hidden = |party| asked && viewer != 0 && party != viewer;
        let request = v1::GetCallRequest {
            call: self.call,
            purpose: self.purpose,
            redaction: self.redaction.number().into(),
            viewer_party: self.viewer,
            justification: self.justification,
            ..Default::default()
        };
        let call = remote.open().await?.calls.get_call(request).await?.into_inner().call.unwrap_or_default();
        let human = format!("{}\n{}", shown(&call), values(&call, &hidden));
        let parts = || part::table(&call.parts, &hidden);
        let human = if call.parts.is_empty() { human } else { format!("{human}\n\n{}", parts()) };
        let human = if call.events.is_empty() { human } else { format!("{human}\n\n{}", event::table(&call.events)) };
        Ok(Answer::new(json!({ "call": as_json(&call) }), human))
    }
}

impl List {
    /// Lists calls.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let Self { subject, agent, system, source_call_id, queue, from, until, payment_without_pause, .. } = self;
        let (pauses_longer_than, paging) = (self.pauses_longer_than, self.paging);
        let pause_longer_than_seconds = pauses_longer_than;
        let page = async |page_size, page_token| {
            let request = v1::ListCallsRequest {
                subject: subject.clone(),
                agent: agent.clone(),
                queue: queue.clone(),
                start_time: from,
                end_time: until,
                payment_without_pause,
                pause_longer_than_seconds,
                source_system: system.clone(),
                source_call_id: source_call_id.clone(),
                page_size,
                page_token,
            };
            let response = vault.calls.list_calls(request).await?.into_inner();
            Ok((response.calls, response.next_page_token))
        };
        let listed = paging.collect(page).await?;
        let calls: Vec<Value> = listed.entries.iter().map(as_json).collect();
        let json = json!({ "calls": calls, "next_page_token": listed.next_page_token });
        Ok(Answer::new(json, listed.human("call", rows)))
    }
}

fn state(call: &v1::Call) -> String {
    table::short(&print::enum_name(call.state, v1::CallState::as_str_name), "CALL_STATE_")
}

fn rows(calls: &[v1::Call]) -> String {
    let row = |call: &v1::Call| {
        let leg = call.legs.first().cloned().unwrap_or_default();
        let (began, parties) = (table::time(call.start_time), call.parties.len().to_string());
        vec![call.call.clone(), state(call), began, leg.queue, parties, leg.source_system, leg.source_call_id]
    };
    table::table(&["call", "state", "began", "queue", "parties", "system", "leg"], calls.iter().map(row))
}

/// A call and its legs, each with what is clear of it.
fn shown(call: &v1::Call) -> String {
    let mut text = table::record(&[
        ("call", call.call.clone()),
        ("state", state(call)),
        ("began", table::time(call.start_time)),
        ("ended", table::time(call.end_time)),
        ("group", call.group_id.clone()),
    ]);
    for leg in &call.legs {
        let direction = print::enum_name(leg.direction, v1::CallDirection::as_str_name);
        let disposition = print::enum_name(leg.disposition, v1::CallDisposition::as_str_name);
        let held = if leg.hold_count == 0 { String::new() } else { format!("{} s", leg.hold_seconds) };
        let leg = table::record(&[
            ("leg", format!("{} {}", leg.source_system, leg.source_call_id)),
            ("direction", table::short(&direction, "CALL_DIRECTION_")),
            ("dialled", leg.dialled.clone()),
            ("queue", leg.queue.clone()),
            ("skill", leg.skill.clone()),
            ("campaign", leg.campaign.clone()),
            ("contact list", leg.contact_list.clone()),
            ("began", table::time(leg.start_time)),
            ("answered", table::time(leg.answer_time)),
            ("on hold", held),
            ("ended", table::time(leg.end_time)),
            ("disposition", table::short(&disposition, "CALL_DISPOSITION_")),
        ]);
        text = format!("{text}\n{leg}");
    }
    text
}

/// The parties and their values, where `hidden` says whose are withheld from the viewer.
fn values(call: &v1::Call, hidden: &dyn Fn(u32) -> bool) -> String {
    let mut rows = Vec::new();
    for party in &call.parties {
        let who = vec![party.party.to_string(), party.label.clone(), party.subject.clone()];
        if party.values.is_empty() {
            rows.push([who.clone(), vec![String::new(), String::new()]].concat());
        }
        for value in &party.values {
            let field = print::enum_name(value.field, v1::CallField::as_str_name);
            let content = match &value.outcome {
                Some(v1::call_value::Outcome::Value(text)) => table::printable(text),
                Some(v1::call_value::Outcome::Error(error)) => table::printable(&error.message),
                None if hidden(party.party) => part::WITHHELD.to_owned(),
                None => value.token.clone(),
            };
            rows.push([who.clone(), vec![table::short(&field, "CALL_FIELD_"), content]].concat());
        }
    }
    table::table(&["party", "role", "subject", "field", "value"], rows)
}

fn as_json(call: &v1::Call) -> Value {
    let leg = |leg: &v1::CallLeg| {
        json!({
            "source_system": leg.source_system,
            "source_call_id": leg.source_call_id,
            "revision": leg.revision,
            "direction": print::enum_name(leg.direction, v1::CallDirection::as_str_name),
            "dialled": leg.dialled,
            "queue": leg.queue,
            "skill": leg.skill,
            "campaign": leg.campaign,
            "contact_list": leg.contact_list,
            "start_time": print::time(leg.start_time),
            "ring_time": print::time(leg.ring_time),
            "answer_time": print::time(leg.answer_time),
            "end_time": print::time(leg.end_time),
            "hold_count": leg.hold_count,
            "hold_seconds": leg.hold_seconds,
            "disposition": print::enum_name(leg.disposition, v1::CallDisposition::as_str_name),
            "parties": leg.parties,
        })
    };
    let value = |value: &v1::CallValue| {
        let mut json = json!({
            "field": print::enum_name(value.field, v1::CallField::as_str_name),
            "token": value.token,
        });
        match (&value.outcome, json.as_object_mut()) {
            (Some(v1::call_value::Outcome::Value(text)), Some(object)) => {
                object.insert("value".to_owned(), json!(text))
            }
            (Some(v1::call_value::Outcome::Error(error)), Some(object)) => {
                object.insert("error".to_owned(), json!(error.message))
            }
            _ => None,
        };
        json
    };
    let party = |party: &v1::CallParty| {
        json!({
            "party": party.party,
            "role": print::enum_name(party.role, v1::PartyRole::as_str_name),
            "subject": party.subject,
            "erased": party.erased,
            "label": party.label,
            "candidates": party.candidates,
            "values": party.values.iter().map(value).collect::<Vec<_>>(),
        })
    };
    json!({
        "call": call.call,
        "state": print::enum_name(call.state, v1::CallState::as_str_name),
        "start_time": print::time(call.start_time),
        "end_time": print::time(call.end_time),
        "group_id": call.group_id,
        "legs": call.legs.iter().map(leg).collect::<Vec<_>>(),
        "parties": call.parties.iter().map(party).collect::<Vec<_>>(),
        "create_time": print::time(call.create_time),
        "etag": call.etag,
        "events": call.events.iter().map(event::as_json).collect::<Vec<_>>(),
        "parts": call.parts.iter().map(part::as_json).collect::<Vec<_>>(),
    })
}
