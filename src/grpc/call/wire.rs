//! Calls, to the wire and from it.

use std::sync::Arc;

use super::super::{parse, status};
use super::{event, part};
use crate::model::{
    CallField, CallId, Content, Direction, Disposition, Error, FieldType, Label, Leg, LegFacts, PartyRole, Presented,
    Reason, Region, Result, SourceCallId, SubjectId, Value, check_dialled,
};
use crate::proto::v1;
use crate::vault::call::{AGENT_CLASS, CLASS, Outcome, Show, Shown, ShownParty, ShownValue, ToldParty, Upsert};

/// Most parties of a leg.
const MOST_PARTIES: usize = 50;
/// Most fields that a question names.
pub(super) const MOST_FIELDS: usize = 10;
/// Most characters of a number, and of what a system calls an agent.
const LONGEST_NAME: usize = 64;

/// A leg that is told.
pub fn upsert(ask: v1::UpsertCallRequest, deed: &'static str) -> Result<Upsert> {
    let system = Label::code("source_system", &ask.source_system)?;
    let source_id = SourceCallId::parse("source_call_id", &ask.source_call_id)?;
    if ask.revision == 0 || i64::try_from(ask.revision).is_err() {
        return Err(Error::invalid("revision", "expected a number from 1"));
    }
    let group = parse::optional(&ask.group_id).map(|group| SourceCallId::parse("group_id", group)).transpose()?;
    let direction =
        Direction::from_number(ask.direction).ok_or_else(|| Error::invalid("direction", "is missing, or not known"))?;
    check_dialled(direction, &ask.dialled)?;
    let code = |field, text: &str| match parse::optional(text) {
        Some(text) => Label::code(field, text).map(|label| label.as_str().to_owned()),
        None => Ok(String::new()),
    };
    let time = |field, given: Option<prost_types::Timestamp>| given.map(|time| parse::time(field, time)).transpose();
    let started_at = time("start_time", ask.start_time)?.ok_or_else(|| Error::invalid("start_time", "is missing"))?;
    let ended_at = time("end_time", ask.end_time)?;
    if ended_at.is_some_and(|end| end < started_at) {
        return Err(Error::invalid("end_time", "lies before start_time"));
    }
    let answered_at = time("answer_time", ask.answer_time)?;
    if answered_at.is_some_and(|answer| answer < started_at || ended_at.is_some_and(|end| end < answer)) {
        return Err(Error::invalid("answer_time", "lies before start_time or after end_time"));
    }
    let disposition = match ask.disposition {
        0 => None,
        number => Some(Disposition::from_number(number).ok_or_else(|| Error::invalid("disposition", "is not known"))?),
    };
    let facts = LegFacts {
        direction,
        queue: code("queue", &ask.queue)?,
        skill: code("skill", &ask.skill)?,
        campaign: code("campaign", &ask.campaign)?,
        contact_list: code("contact_list", &ask.contact_list)?,
        dialled: ask.dialled,
        started_at,
        rung_at: time("ring_time", ask.ring_time)?,
        answered_at,
        ended_at,
        holds: ask.hold_count,
        held_for: ask.hold_seconds,
        disposition,
    };
    check_parties(ask.parties.len())?;
    let region = Region::of(&facts.dialled);
    let told = |(at, input)| party(input, region).map_err(|error: Error| error.within(&format!("parties[{at}]")));
    let parties = ask.parties.into_iter().enumerate().map(told).collect::<Result<Vec<_>>>()?;
    Ok(Upsert {
        deed,
        system,
        source_id,
        revision: ask.revision,
        group,
        facts,
        parties,
        document: None,
        request: parse::request_id(&ask.request_id)?,
    })
}

fn check_parties(count: usize) -> Result<()> {
    match count {
        0 => Err(Error::invalid("parties", "is missing: say who took part")),
        1..=MOST_PARTIES => Ok(()),
        _ => {
            let error =
                Error::new(Reason::BatchTooLarge, format!("holds {count}; at most {MOST_PARTIES}")).at("parties");
            Err(error.with("count", count).with("maximum", MOST_PARTIES))
        }
    }
}

fn party(input: v1::PartyInput, region: Option<Region>) -> Result<ToldParty> {
    let role = PartyRole::from_number(input.role).ok_or_else(|| Error::invalid("role", "is missing, or not known"))?;
    let subject = parse::optional(&input.subject).map(SubjectId::parse).transpose();
    let subject = subject.map_err(|error| error.at("subject"))?;
    match (role.serves(), input.agent_id.is_empty()) {
        (true, true) if subject.is_none() => {
            return Err(Error::invalid("agent_id", "is missing: say what the system calls whoever serves"));
        }
        (false, false) => return Err(Error::invalid("agent_id", "is taken of an AGENT, SUPERVISOR or SME only")),
        _ => {}
    }
    let class = if role.serves() { AGENT_CLASS } else { CLASS };
    let class = Label::retention_class(parse::optional(&input.retention_class).unwrap_or(class))?;
    for (field, text) in [("agent_id", &input.agent_id), ("number", &input.number)] {
        if text.chars().count() > LONGEST_NAME {
            let error =
                Error::new(Reason::ValueTooLarge, format!("is longer than {LONGEST_NAME} characters")).at(field);
            return Err(error.with("maximum", LONGEST_NAME));
        }
    }
    let mut values = Vec::new();
    values.extend(number(&input.number, region)?.map(|value| (CallField::Number, Arc::new(value))));
    let mut add = |of, field: &'static str, kind, text: String| -> Result<()> {
        if !text.is_empty() {
            let value = Value::parse(kind, Content::Text(text.into())).map_err(|error| error.at(field))?;
            values.push((of, Arc::new(value)));
        }
        Ok(())
    };
    add(CallField::AgentId, "agent_id", FieldType::Text, input.agent_id)?;
    add(CallField::Name, "name", FieldType::PersonName, input.name)?;
    add(CallField::Place, "place", FieldType::PostalAddress, input.place)?;
    add(CallField::Note, "note", FieldType::Text, input.note)?;
    Ok(ToldParty { role, subject, class, values })
}

/// Who calls, as whoever looks them up reads it; `None` when that is withheld.
fn number(text: &str, region: Option<Region>) -> Result<Option<Value>> {
    let given = |kind| Value::parse(kind, Content::Text(text.to_owned().into()));
    Ok(match Presented::parse(text, region)? {
        Presented::Withheld => None,
        Presented::Name => Some(given(FieldType::Text).map_err(|error| error.at("number"))?),
        Presented::Number(forms) => {
            let surest = forms.into_iter().next();
            // As it was given, where that is found by the same.
            let as_given = given(FieldType::Phone).ok();
            as_given.filter(|given| surest.as_ref().is_some_and(|surest| surest.normal() == given.normal())).or(surest)
        }
    })
}

/// What is to be shown of a call.
pub fn show(ask: v1::GetCallRequest) -> Result<Show> {
    if ask.fields.len() > MOST_FIELDS {
        return Err(Error::invalid("fields", "holds more than 10"));
    }
    let field =
        |number: &i32| CallField::from_number(*number).ok_or_else(|| Error::invalid("fields", "are not all known"));
    let viewer =
        u8::try_from(ask.viewer_party).map_err(|_| Error::invalid("viewer_party", "is no party of this call"))?;
    Ok(Show {
        call: CallId::parse(&ask.call)?,
        purpose: ask.purpose,
        redaction: parse::redaction(ask.redaction)?,
        fields: ask.fields.iter().map(field).collect::<Result<_>>()?,
        kinds: part::kinds(&ask.part_kinds)?,
        viewer: Some(viewer).filter(|viewer| *viewer > 0),
        justification: parse::reference("justification", &ask.justification)?,
    })
}

/// A call, on the wire.
pub fn call(shown: Shown) -> v1::Call {
    let Shown { call, legs, parties, parts, events } = shown;
    let state = if call.ended_at.is_some() { v1::CallState::Ended } else { v1::CallState::Active };
    v1::Call {
        call: call.id.to_string(),
        state: state.into(),
        start_time: Some(parse::wire_time(call.started_at)),
        end_time: call.ended_at.map(parse::wire_time),
        group_id: call.group.unwrap_or_default(),
        legs: legs.into_iter().map(leg).collect(),
        parties: parties.into_iter().map(shown_party).collect(),
        create_time: Some(parse::wire_time(call.created_at)),
        etag: call.version.to_string(),
        events: events.into_iter().map(event::wire).collect(),
        parts: parts.into_iter().map(part::shown).collect(),
    }
}

/// The same for whoever may not see whose a number is.
pub fn of_nobody(mut call: v1::Call) -> v1::Call {
    for party in &mut call.parties {
        let v1::CallParty { party: number, role, .. } = *party;
        *party = v1::CallParty { party: number, role, ..Default::default() };
    }
    call.parts.clear();
    call
}

fn leg(leg: Leg) -> v1::CallLeg {
    let facts = leg.facts;
    v1::CallLeg {
        source_system: leg.system,
        source_call_id: leg.source_id,
        revision: leg.revision,
        direction: facts.direction.number(),
        dialled: facts.dialled,
        queue: facts.queue,
        skill: facts.skill,
        campaign: facts.campaign,
        contact_list: facts.contact_list,
        start_time: Some(parse::wire_time(facts.started_at)),
        ring_time: facts.rung_at.map(parse::wire_time),
        answer_time: facts.answered_at.map(parse::wire_time),
        end_time: facts.ended_at.map(parse::wire_time),
        hold_count: facts.holds,
        hold_seconds: facts.held_for,
        disposition: facts.disposition.map_or(0, Disposition::number),
        parties: leg.parties.into_iter().map(u32::from).collect(),
    }
}

fn shown_party(shown: ShownParty) -> v1::CallParty {
    let ShownParty { party, erased, values } = shown;
    v1::CallParty {
        party: party.number.into(),
        role: party.role.number(),
        subject: party.subject.to_string(),
        erased,
        label: party.role.label(erased).to_owned(),
        candidates: party.candidates.iter().map(ToString::to_string).collect(),
        values: values.into_iter().map(value).collect(),
    }
}

fn value(shown: ShownValue) -> v1::CallValue {
    use v1::call_value::Outcome;
    let outcome = shown.outcome.map(|outcome| match outcome {
        Ok(content) => match std::str::from_utf8(content.expose()) {
            Ok(text) => Outcome::Value(text.to_owned()),
            Err(_) => Outcome::Error(status::to_item_status(&Error::internal("a text that is not UTF-8"))),
        },
        Err(error) => Outcome::Error(status::to_item_status(&error)),
    });
    v1::CallValue { field: shown.field.number(), token: shown.token, outcome }
}

/// What became of what was told, on the wire.
pub const fn outcome(outcome: Outcome) -> v1::UpsertOutcome {
    match outcome {
        Outcome::Created => v1::UpsertOutcome::Created,
        Outcome::Merged => v1::UpsertOutcome::Merged,
        Outcome::Same => v1::UpsertOutcome::Same,
        Outcome::Stale => v1::UpsertOutcome::Stale,
    }
}
