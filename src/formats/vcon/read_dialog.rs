//! One leg or one message of a conversation.

use super::fields::{Fields, LABEL, index, numbered};
use super::model::{Dialog, DialogKind, EVENTS, Event, Gap, LINKS, Seat};
use super::read::Reading;
use crate::formats::Json;
use crate::model::{Error, Result};

/// Why nobody was reached.
const DISPOSITIONS: [&str; 6] = ["no-answer", "congestion", "failed", "busy", "hung-up", "voicemail-no-message"];

/// Most that happens in a dialog.
pub const MOST_EVENTS: usize = 10_000;

/// What some systems tell of recordings that were stopped while card data was told.
const PAUSES: [(&str, bool); 4] =
    [("pci_pause", true), ("pci-pause", true), ("pci_resume", false), ("pci-resume", false)];

/// Reads a dialog, where there are so many parties and dialogs.
pub fn dialog(reading: &mut Reading, json: Json, path: &str, (parties, dialogs): (usize, usize)) -> Result<Dialog> {
    let mut fields = Fields::of(json, path)?;
    let kind = fields.word("type", &DialogKind::ALL.map(DialogKind::name))?;
    let kind = DialogKind::ALL.into_iter().find(|known| Some(known.name()) == kind);
    let kind = kind.ok_or_else(|| fields.refuse("type", "it does not say whether it is a recording, a text, ..."))?;
    let start = fields.time("start")?;
    let start = start.ok_or_else(|| fields.refuse("start", "it does not say when it began"))?;
    let duration = fields.duration("duration")?;
    let seats = seats(&mut fields, parties)?;
    let originator = fields.index("originator", parties)?;
    let content = reading.content(&mut fields)?;
    let disposition = if kind == DialogKind::Incomplete { fields.word("disposition", &DISPOSITIONS)? } else { None };
    if kind == DialogKind::Incomplete && disposition.is_none() {
        return Err(fields.refuse("disposition", "it does not say why nobody was reached"));
    }
    let mut gaps = told_gaps(&mut fields)?;
    let history = history(reading, &mut fields, parties, &mut gaps)?;
    let mut links = Vec::new();
    for (name, party, several) in LINKS {
        let found = fields.indices(name, if party { parties } else { dialogs })?;
        if found.len() > 1 && !several {
            return Err(fields.refuse(name, "one number is expected"));
        }
        if !found.is_empty() {
            links.push((name, found));
        }
    }
    let session = fields.take("session_id").map(|json| sessions(json, &fields.at("session_id"))).transpose()?;
    reading.changes.zones += fields.zones;
    Ok(Dialog {
        kind,
        start,
        duration,
        parties: seats,
        originator,
        content,
        disposition,
        history,
        gaps,
        application: fields.text("application", LABEL)?,
        message_id: fields.text("message_id", LABEL)?,
        session,
        links,
        others: fields.rest(),
    })
}

/// Who took part: a number, numbers, or numbers for each channel.
fn seats(fields: &mut Fields, count: usize) -> Result<Vec<Seat>> {
    let path = fields.at("parties");
    match fields.take("parties") {
        None => Ok(Vec::new()),
        Some(Json::List(items)) => {
            if items.len() > count.max(1) * 4 {
                return Err(Error::invalid(path, "it has more entries than there are parties to name"));
            }
            let seat = |(at, item): (usize, &Json)| {
                let path = format!("{path}[{at}]");
                match item {
                    Json::Null => Ok(Seat::Nobody),
                    Json::List(several) => numbered(several, count, &path).map(Seat::Several),
                    one => index(one, count, &path).map(Seat::One),
                }
            };
            items.iter().enumerate().map(seat).collect()
        }
        Some(one) => Ok(vec![Seat::One(index(&one, count, &path)?)]),
    }
}

/// Events by name. A pause for card data is no event of the format: it becomes a gap.
fn history(reading: &mut Reading, fields: &mut Fields, parties: usize, gaps: &mut Vec<Gap>) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let items = fields.list("party_history", MOST_EVENTS)?;
    for (at, item) in items.into_iter().enumerate() {
        let mut inner = Fields::of(item, &format!("{}[{at}]", fields.at("party_history")))?;
        let time = inner.time("time")?.ok_or_else(|| inner.refuse("time", "it does not say when it happened"))?;
        let names: Vec<&'static str> = EVENTS.into_iter().chain(PAUSES.map(|(name, _)| name)).collect();
        let event =
            inner.word("event", &names)?.ok_or_else(|| inner.refuse("event", "it does not say what happened"))?;
        reading.changes.digits += usize::from(inner.take("button").is_some());
        reading.changes.zones += inner.zones;
        match PAUSES.iter().find(|(name, _)| *name == event) {
            Some((_, true)) => gaps.push(Gap { from: time, to: None }),
            Some((_, false)) => {
                let open = gaps.last_mut().filter(|gap| gap.to.is_none() && gap.from <= time);
                open.ok_or_else(|| inner.refuse("event", "a recording goes on that was not paused"))?.to = Some(time);
            }
            None => {
                let party = inner.index("party", parties)?;
                let party = party.ok_or_else(|| inner.refuse("party", "it does not say to whom it happened"))?;
                events.push(Event { party, time, event });
            }
        }
    }
    Ok(events)
}

/// The gaps that we write ourselves.
fn told_gaps(fields: &mut Fields) -> Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    for (at, item) in fields.list("lacuna_gaps", MOST_EVENTS)?.into_iter().enumerate() {
        let mut inner = Fields::of(item, &format!("{}[{at}]", fields.at("lacuna_gaps")))?;
        let from = inner.time("start")?.ok_or_else(|| inner.refuse("start", "it does not say when it begins"))?;
        let to = inner.time("end")?;
        if to.is_some_and(|to| to < from) {
            return Err(inner.refuse("end", "it ends before it begins"));
        }
        gaps.push(Gap { from, to });
    }
    Ok(gaps)
}

/// Ids of sessions: objects with `local` and `remote`, or lists of those.
fn sessions(json: Json, path: &str) -> Result<Json> {
    fn fits(json: &Json, levels: usize) -> bool {
        match json {
            Json::Object(members) => members.iter().all(|(name, value)| {
                matches!(name.expose(), "local" | "remote") && value.text().is_some_and(|text| text.len() <= LABEL)
            }),
            Json::List(items) => levels > 0 && items.len() <= LABEL && items.iter().all(|item| fits(item, levels - 1)),
            _ => false,
        }
    }
    if fits(&json, 2) && !json.repeats() {
        Ok(json)
    } else {
        Err(Error::invalid(path, "objects with the texts local and remote are expected"))
    }
}
