//! `ImportCdr`: rows of telephone systems, each recorded as a leg of a call.

use std::sync::Arc;

use jiff::tz::Offset;
use tonic::{Request, Response, Status, Streaming};

use super::super::identity::caller;
use super::super::stream::{self, Answers};
use super::super::{parse, status};
use super::wire;
use crate::formats::cdr::{self, Format, Mapping, Party, Told};
use crate::model::{Direction, Disposition, Error, Label, Result};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::call::IMPORT;

/// Most columns, and most words that are told.
const MOST_NAMES: usize = 256;
/// Most characters of a format of times.
const LONGEST_FORMAT: usize = 64;

/// What all rows of a stream have in common.
struct Import {
    vault: Arc<Vault>,
    caller: Caller,
    system: String,
    mapping: Mapping,
}

/// Takes the rows of a stream in.
pub async fn rows(
    vault: &Arc<Vault>,
    request: Request<Streaming<v1::ImportCdrRequest>>,
) -> Result<Response<Answers<v1::ImportCdrResponse>>, Status> {
    let caller = caller(&request).map_err(|error| status::to_status(&error))?;
    let mut rows = request.into_inner();
    let mut first = rows.message().await?.unwrap_or_default();
    let mapping = first
        .mapping
        .take()
        .ok_or_else(|| Error::invalid("mapping", "is missing: the first message says how rows are read"));
    let mapping = mapping.and_then(|told| mapping_of(told).map_err(|error| error.within("mapping")));
    let (system, mapping) = mapping.map_err(|error| status::to_status(&error))?;
    let import = Arc::new(Import { vault: Arc::clone(vault), caller, system, mapping });
    let deed = move |ask: v1::ImportCdrRequest| {
        let import = Arc::clone(&import);
        async move { import.row(ask).await }
    };
    let number = |ask: &v1::ImportCdrRequest| ask.row.as_ref().map_or(0, |row| row.row);
    let told = |row: u64, leg: Result<v1::ImportedLeg>| {
        use v1::import_cdr_response::Outcome;
        let outcome = leg.map_or_else(|error| Outcome::Error(status::to_item_status(&error)), Outcome::Leg);
        v1::ImportCdrResponse { row, outcome: Some(outcome) }
    };
    Ok(stream::begun((first, rows), IMPORT, number, deed, told))
}

impl Import {
    async fn row(&self, ask: v1::ImportCdrRequest) -> Result<v1::ImportedLeg> {
        if ask.mapping.is_some() {
            return Err(Error::invalid("mapping", "is told already: it belongs into the first message"));
        }
        let row = ask.row.ok_or_else(|| Error::invalid("row", "is missing"))?;
        let told = cdr::read(&row.content, &self.mapping)?;
        let ask = wire::upsert(leg(told, self.system.clone()), IMPORT)?;
        let (whole, outcome) = self.vault.upsert_call(&self.caller, ask).await?;
        Ok(v1::ImportedLeg { call: whole.call.id.to_string(), outcome: wire::outcome(outcome).into() })
    }
}

fn mapping_of(told: v1::CdrMapping) -> Result<(String, Mapping)> {
    let system = Label::code("source_system", &told.source_system)?.as_str().to_owned();
    let format = match told.format() {
        v1::CdrFormat::AsteriskCsv => Format::AsteriskCsv,
        v1::CdrFormat::FreeswitchJson => Format::FreeswitchJson,
        v1::CdrFormat::Connect => Format::Connect,
        v1::CdrFormat::Twilio => Format::Twilio,
        v1::CdrFormat::GenericCsv => Format::GenericCsv,
        v1::CdrFormat::Unspecified => return Err(Error::invalid("format", "is missing, or not known")),
    };
    let delimiter = match told.delimiter.as_bytes() {
        [] => b',',
        [one] => *one,
        _ => return Err(Error::invalid("delimiter", "expected one character such as ; or a tab")),
    };
    let counts = [
        ("header", told.header.len()),
        ("columns", told.columns.len()),
        ("directions", told.directions.len()),
        ("dispositions", told.dispositions.len()),
    ];
    if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count > MOST_NAMES) {
        return Err(Error::invalid(field, format!("holds more than {MOST_NAMES}")));
    }
    if told.time_format.chars().count() > LONGEST_FORMAT {
        return Err(Error::invalid("time_format", format!("is longer than {LONGEST_FORMAT} characters")));
    }
    let usual = match told.direction {
        0 => None,
        number => Some(direction("direction", number)?),
    };
    let directions = told.directions.into_iter().map(|(word, number)| Ok((word, direction("directions", number)?)));
    let dispositions = told.dispositions.into_iter().map(|(word, number)| {
        let known =
            Disposition::from_number(number).ok_or_else(|| Error::invalid("dispositions", "are not all known"))?;
        Ok((word, known))
    });
    let mapping = Mapping {
        format,
        header: told.header,
        delimiter,
        columns: told.columns.into_iter().collect(),
        direction: usual,
        directions: directions.collect::<Result<_>>()?,
        dispositions: dispositions.collect::<Result<_>>()?,
        offset: offset(&told.utc_offset)?,
        time_format: parse::optional(&told.time_format).map(str::to_owned),
    };
    Ok((system, mapping.checked()?))
}

fn direction(field: &'static str, number: i32) -> Result<Direction> {
    Direction::from_number(number).ok_or_else(|| Error::invalid(field, "is not known"))
}

/// `+01:00`, `-0330` or nothing, which is UTC.
fn offset(text: &str) -> Result<Offset> {
    let refused = || Error::invalid("utc_offset", "expected an offset such as +01:00");
    if text.is_empty() {
        return Ok(Offset::UTC);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(refused()),
    };
    let digits = rest.replace(':', "");
    let number: i32 = if digits.len() == 4 { digits.parse().map_err(|_| refused())? } else { return Err(refused()) };
    let minutes = number / 100 * 60 + number % 100;
    let fits = (0..=14 * 60).contains(&minutes) && (0..60).contains(&(number % 100));
    fits.then(|| Offset::from_seconds(sign * minutes * 60).ok()).flatten().ok_or_else(refused)
}

/// What a row tells, as anybody may tell it.
pub(super) fn leg(told: Told, source_system: String) -> v1::UpsertCallRequest {
    let facts = told.facts;
    let time = |time: Option<crate::model::Time>| time.map(parse::wire_time);
    v1::UpsertCallRequest {
        source_system,
        source_call_id: told.source_call_id,
        revision: told.revision,
        group_id: told.group,
        direction: facts.direction.number(),
        dialled: facts.dialled,
        queue: facts.queue,
        skill: facts.skill,
        campaign: facts.campaign,
        contact_list: facts.contact_list,
        start_time: time(Some(facts.started_at)),
        ring_time: time(facts.rung_at),
        answer_time: time(facts.answered_at),
        end_time: time(facts.ended_at),
        hold_count: facts.holds,
        hold_seconds: facts.held_for,
        disposition: facts.disposition.map_or(0, Disposition::number),
        parties: told.parties.iter().map(party).collect(),
        request_id: String::new(),
    }
}

fn party(told: &Party) -> v1::PartyInput {
    v1::PartyInput {
        role: told.role.number(),
        agent_id: told.agent_id.expose().to_owned(),
        number: told.number.expose().to_owned(),
        name: told.name.expose().to_owned(),
        place: told.place.expose().to_owned(),
        note: told.note.expose().to_owned(),
        ..Default::default()
    }
}
