//! A conversation taken apart into what a call keeps of it: what is clear of its leg, who took part, and parts that each
//! belong to one of them. [`together()`](super::together()) makes a conversation of those again.
//!
//! A message belongs to whoever wrote it, a recording and what was made of it to the customer, a scorecard to the agent. So each
//! goes with its person. What stands in a part is a piece of the document with the numbers that its entries have there.

use std::collections::{HashMap, HashSet};

use data_encoding::BASE64URL_NOPAD;

use super::model::{Analysis, Attachment, Conversation, Dialog, DialogKind, Party, Role};
use super::read::essence;
use super::write;
use crate::formats::cdr::{self, Told};
use crate::formats::{Json, Plain};
use crate::model::{
    CallEventKind, Direction, Disposition, Error, Label, LegFacts, MediaType, PartKind, PartyRole, Reason, Result,
    Time, is_withheld,
};

/// The media type of a part that is a piece of a conversation.
pub const PIECE: &str = "application/vcon+json";

/// The lists of a conversation whose entries are kept in pieces.
pub const LISTS: [&str; 3] = ["dialog", "analysis", "attachments"];

/// The member of every piece that says how many entries each list has, whoever of them is gone.
pub const COUNTS: &str = "counts";

/// Begins what is one of several pieces of one text.
pub const CONTINUED: &str = "vcon piece ";

/// Most bytes of a piece; a part may have 64 KiB.
const LARGEST: usize = 60 << 10;

/// Most characters of a number.
const LONGEST_NUMBER: usize = 64;

/// Most events that are told of one conversation.
const MOST_EVENTS: usize = 500;

/// What a call keeps of a conversation.
pub struct Apart {
    /// The leg and who took part in it, in the order of the document.
    pub leg: Told,
    /// Its parts.
    pub parts: Vec<Kept>,
    /// What happened in it.
    pub events: Vec<Happened>,
}

/// A part of it.
pub struct Kept {
    /// Whose it is: the number in the document.
    pub party: usize,
    /// What it is.
    pub kind: PartKind,
    /// What kind of content it stands for.
    pub mediatype: String,
    /// SHA-256 of what lies elsewhere.
    pub sha256: Option<[u8; 32]>,
    /// When it was made.
    pub occurred_at: Option<Time>,
    /// What is kept.
    pub body: KeptBody,
}

/// What is kept of a part.
pub enum KeptBody {
    /// Where it lies.
    Address(Plain),
    /// A piece of the document.
    Piece(Plain),
}

/// Something that happened.
pub struct Happened {
    /// A name for it that stays the same when the document is told again.
    pub id: String,
    /// What.
    pub kind: CallEventKind,
    /// When.
    pub at: Time,
    /// To whom: the number in the document.
    pub party: Option<usize>,
}

/// Takes a conversation apart.
///
/// # Errors
/// `ValueInvalid`, when nobody took part or it is older than 1970.
pub fn apart(conversation: &Conversation) -> Result<Apart> {
    let people = &conversation.parties;
    if people.is_empty() {
        return Err(Error::invalid("parties", "nobody took part; a call has at least one party"));
    }
    let parties: Vec<cdr::Party> =
        people.iter().enumerate().map(|(at, _)| party(conversation, at)).collect::<Result<_>>()?;
    let mut taking = Taking {
        conversation,
        people: conversation.dialog.iter().map(Dialog::people).collect(),
        customer: people.iter().position(|party| !serves(party)).unwrap_or_default(),
        agent: people.iter().position(serves),
        parts: Vec::new(),
        pieces: Vec::new(),
    };
    taking.take()?;
    let revision = revision(conversation)?;
    let leg = Told {
        source_call_id: conversation.uuid.clone(),
        revision,
        group: String::new(),
        facts: facts(conversation),
        parties,
    };
    Ok(Apart { leg, parts: taking.finish()?, events: events(conversation) })
}

/// Counts what is said of a conversation: by when it was changed, in microseconds. One that does not say is the later, the more there is
/// in it: writers add what was made of a conversation and leave the time as it was.
fn revision(conversation: &Conversation) -> Result<u64> {
    let Conversation { dialog, analysis, attachments, .. } = conversation;
    let made_at = u64::try_from(conversation.created_at.micros()).ok().filter(|micros| *micros > 0);
    let made_at = made_at.ok_or_else(|| Error::invalid("created_at", "a time after 1970 is expected"))?;
    let entries = dialog.len() + analysis.len() + attachments.len();
    Ok(match conversation.updated_at.map(|at| u64::try_from(at.micros()).unwrap_or_default()) {
        Some(changed_at) => changed_at.max(made_at),
        None => made_at.saturating_add(entries as u64),
    })
}

fn serves(party: &Party) -> bool {
    role(party).serves()
}

fn role(party: &Party) -> PartyRole {
    match party.role {
        Some(Role::Agent) => PartyRole::Agent,
        Some(Role::Customer) => PartyRole::Customer,
        Some(Role::Sme) => PartyRole::Sme,
        Some(Role::Supervisor) => PartyRole::Supervisor,
        Some(Role::ThirdParty) | None => PartyRole::ThirdParty,
    }
}

/// What a call keeps of somebody: number and name by which they are found, and everything else as a note.
fn party(conversation: &Conversation, at: usize) -> Result<cdr::Party> {
    let own = conversation.parties.get(at).ok_or_else(|| Error::internal("a party that is not there"))?;
    let role = role(own);
    let fits = |name: &&&str| own.get(name).is_some_and(|text| text.chars().count() <= LONGEST_NUMBER);
    let by = ["tel", "sip"].iter().find(fits).copied();
    let number = by.and_then(|name| own.get(name)).filter(|number| !is_withheld(number)).unwrap_or_default();
    let Json::Object(mut members) = write::party(own) else { return Err(Error::internal("a party is no object")) };
    members.retain(|(name, _)| {
        let name = name.expose();
        !(matches!(name, "name" | "role") || Some(name) == by && !number.is_empty())
    });
    let note = if members.is_empty() { Plain::default() } else { Json::Object(members).write()? };
    Ok(cdr::Party {
        role,
        agent_id: if role.serves() { agent_id(conversation, own, at) } else { Plain::default() },
        number: number.into(),
        name: own.get("name").unwrap_or_default().into(),
        place: Plain::default(),
        note,
    })
}

/// What an agent is known by in every conversation of a system. One of whom nothing is told is somebody else in each.
fn agent_id(conversation: &Conversation, own: &Party, at: usize) -> Plain {
    let told = ["uuid", "mailto", "sip", "tel", "name"].into_iter().find_map(|name| own.get(name));
    match told.filter(|id| id.chars().count() <= LONGEST_NUMBER) {
        Some(id) => id.into(),
        None => format!("{}/{at}", conversation.uuid).into(),
    }
}

fn facts(conversation: &Conversation) -> LegFacts {
    let dialogs = &conversation.dialog;
    let end = |dialog: &Dialog| {
        let seconds = dialog.duration.as_ref().and_then(serde_json::Number::as_f64).unwrap_or_default();
        dialog.start.plus(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
    };
    let started_at = dialogs.iter().map(|dialog| dialog.start).min().unwrap_or(conversation.created_at);
    let (mut holds, mut held_for) = (0, 0);
    for dialog in dialogs {
        let mut back = HashMap::new();
        for event in dialog.history.iter().rev() {
            match event.event {
                "unhold" => drop(back.insert(event.party, event.time)),
                "hold" => {
                    let held = back.get(&event.party).map_or(0, |back| back.micros() - event.time.micros());
                    held_for = u32::saturating_add(held_for, u32::try_from(held / 1_000_000).unwrap_or_default());
                    holds += 1;
                }
                _ => {}
            }
        }
    }
    let code = |name: &str| {
        let told = dialogs.iter().flat_map(|dialog| &dialog.others).chain(&conversation.others);
        let found = told.filter(|(found, _)| found.expose() == name).find_map(|(_, value)| value.text());
        found.and_then(|code| Label::code("code", code).ok()).map(|code| code.as_str().to_owned()).unwrap_or_default()
    };
    LegFacts {
        direction: direction(conversation),
        dialled: String::new(),
        queue: String::new(),
        skill: code("skill"),
        campaign: code("campaign"),
        contact_list: code("contact_list"),
        started_at,
        rung_at: None,
        answered_at: None,
        ended_at: Some(dialogs.iter().map(end).max().unwrap_or(started_at)),
        holds,
        held_for,
        disposition: disposition(dialogs),
    }
}

/// Which way it went: to whom the first dialog was, if that is told beside the format, or else who began it.
fn direction(conversation: &Conversation) -> Direction {
    let told = conversation.dialog.iter().flat_map(|dialog| &dialog.others);
    let told = told.filter(|(name, _)| name.expose() == "meta").find_map(|(_, meta)| meta.get("direction")?.text());
    match told.unwrap_or_default() {
        "in" | "inbound" => return Direction::Inbound,
        "out" | "outbound" => return Direction::Outbound,
        _ => {}
    }
    if conversation.parties.iter().all(serves) {
        return Direction::Internal;
    }
    let first = conversation.dialog.first().and_then(|dialog| dialog.originator.or_else(|| dialog.first()));
    let began = first.and_then(|at| conversation.parties.get(at));
    if began.is_some_and(serves) { Direction::Outbound } else { Direction::Inbound }
}

fn disposition(dialogs: &[Dialog]) -> Option<Disposition> {
    let talked = |dialog: &&Dialog| matches!(dialog.kind, DialogKind::Recording | DialogKind::Text);
    if dialogs.iter().any(|dialog| talked(&dialog)) {
        return Some(Disposition::Answered);
    }
    match dialogs.iter().find_map(|dialog| dialog.disposition)? {
        "no-answer" => Some(Disposition::NoAnswer),
        "congestion" => Some(Disposition::Congestion),
        "failed" => Some(Disposition::Failed),
        "busy" => Some(Disposition::Busy),
        "hung-up" => Some(Disposition::Abandoned),
        "voicemail-no-message" => Some(Disposition::Voicemail),
        _ => None,
    }
}

/// What happened, as far as a call has a word for it. All of it stays in the pieces.
fn events(conversation: &Conversation) -> Vec<Happened> {
    let (mut events, mut known) = (Vec::new(), HashSet::new());
    let mut add = |kind: CallEventKind, at: Time, party: Option<usize>| {
        let whom = party.map_or_else(|| "all".to_owned(), |party| party.to_string());
        let happened = Happened { id: format!("vcon.{}.{}.{whom}", kind.number(), at.micros()), kind, at, party };
        if events.len() < MOST_EVENTS && known.insert(happened.id.clone()) {
            events.push(happened);
        }
    };
    for dialog in &conversation.dialog {
        for event in &dialog.history {
            let kind = match event.event {
                "join" => CallEventKind::Join,
                "drop" => CallEventKind::Leave,
                "hold" => CallEventKind::Hold,
                "unhold" => CallEventKind::Retrieve,
                _ => continue,
            };
            add(kind, event.time, Some(event.party));
        }
        for gap in &dialog.gaps {
            add(CallEventKind::CardPause, gap.from, None);
            if let Some(to) = gap.to {
                add(CallEventKind::CardResume, to, None);
            }
        }
        if dialog.kind == DialogKind::Transfer {
            let by = dialog.links.iter().find(|(name, _)| *name == "transferor");
            add(CallEventKind::Transfer, dialog.start, by.and_then(|(_, parties)| parties.first()).copied());
        }
    }
    events
}

/// Entries of one person's part, by the list that they are of.
type Entries = Vec<(&'static str, Json)>;

struct Taking<'c> {
    conversation: &'c Conversation,
    /// Who was in each dialog.
    people: Vec<Vec<usize>>,
    customer: usize,
    agent: Option<usize>,
    parts: Vec<Kept>,
    pieces: Vec<(usize, PartKind, Entries)>,
}

impl Taking<'_> {
    fn take(&mut self) -> Result<()> {
        let Json::Object(members) = write::document(self.conversation) else {
            return Err(Error::internal("a conversation is no object"));
        };
        let mut head = Vec::new();
        for (name, value) in members {
            match (LISTS.iter().find(|list| **list == name.expose()), value) {
                (Some(list), Json::List(items)) => {
                    for (at, item) in items.into_iter().enumerate() {
                        self.entry(list, at, item);
                    }
                }
                (None, _) if matches!(name.expose(), "parties" | "vcon") => {}
                (_, value) => head.push((name, value)),
            }
        }
        self.push(self.customer, PartKind::Note, "head", Json::Object(head));
        Ok(())
    }

    fn entry(&mut self, list: &'static str, at: usize, mut item: Json) {
        let (owner, kind) = match list {
            "dialog" => {
                self.conversation.dialog.get(at).map_or((self.customer, PartKind::Recording), |own| self.of_dialog(own))
            }
            "analysis" => self
                .conversation
                .analysis
                .get(at)
                .map_or((self.customer, PartKind::Summary), |own| self.of_analysis(own)),
            _ => (
                self.conversation.attachments.get(at).map_or(self.customer, |own| self.of_attachment(own)),
                PartKind::Note,
            ),
        };
        let mut entry = vec![at.into()];
        if let Some(dialog) = self.conversation.dialog.get(at).filter(|dialog| list == "dialog" && is_media(dialog)) {
            let url = dialog.content.url.as_ref().map(Plain::copy).unwrap_or_default();
            if let Json::Object(members) = &mut item {
                members.retain(|(name, _)| name.expose() != "url");
            }
            entry.extend([item, self.parts.len().into()]);
            self.parts.push(media(dialog, url, owner));
        } else {
            entry.push(item);
        }
        self.push(owner, kind, list, Json::List(entry));
    }

    fn push(&mut self, owner: usize, kind: PartKind, list: &'static str, entry: Json) {
        match self.pieces.iter_mut().find(|(party, of, _)| (*party, *of) == (owner, kind)) {
            Some((_, _, entries)) => entries.push((list, entry)),
            None => self.pieces.push((owner, kind, vec![(list, entry)])),
        }
    }

    fn of_dialog(&self, dialog: &Dialog) -> (usize, PartKind) {
        let people = dialog.people();
        match dialog.kind {
            DialogKind::Text => {
                (dialog.originator.or_else(|| dialog.first()).unwrap_or(self.customer), PartKind::Transcript)
            }
            _ if people.contains(&self.customer) => (self.customer, PartKind::Recording),
            _ => (people.first().copied().unwrap_or(self.customer), PartKind::Recording),
        }
    }

    fn of_analysis(&self, analysis: &Analysis) -> (usize, PartKind) {
        let name = analysis.kind.expose().to_ascii_lowercase();
        // What was made of a dialog in which the customer was not is not the customer's.
        let mut dialogs =
            analysis.dialogs.iter().filter_map(|at| self.people.get(*at)).filter(|there| !there.is_empty());
        let other = dialogs.clone().find_map(|there| there.first().copied());
        let owner = other.filter(|_| !dialogs.any(|there| there.contains(&self.customer))).unwrap_or(self.customer);
        match self.agent {
            Some(agent) if name.contains("score") => (agent, PartKind::Scorecard),
            _ if name.contains("transcript") || name.contains("diariz") => (owner, PartKind::Transcript),
            _ => (owner, PartKind::Summary),
        }
    }

    fn of_attachment(&self, attachment: &Attachment) -> usize {
        attachment.party.unwrap_or(self.customer)
    }

    /// All parts: addresses of recordings first, because the pieces name them by their place.
    fn finish(mut self) -> Result<Vec<Kept>> {
        let Conversation { dialog, analysis, attachments, .. } = self.conversation;
        let counts = LISTS.into_iter().zip([dialog.len(), analysis.len(), attachments.len()]);
        for (number, (party, kind, entries)) in self.pieces.into_iter().enumerate() {
            let counts = counts.clone().map(|(list, count)| (list.into(), count.into())).collect();
            let mut members: Vec<(Plain, Json)> = vec![(COUNTS.into(), Json::Object(counts))];
            for (list, entry) in entries {
                match members.iter_mut().find(|(name, _)| name.expose() == list) {
                    Some((_, Json::List(items))) => items.push(entry),
                    _ if list == "head" => members.push((list.into(), entry)),
                    _ => members.push((list.into(), Json::List(vec![entry]))),
                }
            }
            let text = Json::Object(members).write()?;
            for piece in cut(text.expose(), number) {
                let body = KeptBody::Piece(piece);
                self.parts.push(Kept {
                    party,
                    kind,
                    mediatype: PIECE.to_owned(),
                    sha256: None,
                    occurred_at: None,
                    body,
                });
            }
        }
        Ok(self.parts)
    }
}

/// Whether it is a recording that lies elsewhere.
fn is_media(dialog: &Dialog) -> bool {
    dialog.kind == DialogKind::Recording && dialog.content.url.is_some()
}

fn media(dialog: &Dialog, url: Plain, party: usize) -> Kept {
    let content = &dialog.content;
    let mediatype = content.mediatype.as_ref().map(|kind| essence(kind.expose()));
    let mediatype = mediatype.filter(|kind| MediaType::parse(kind).is_ok()).unwrap_or_default();
    let digest = |hash: &Plain| {
        let digest = hash.expose().strip_prefix("sha256-")?;
        BASE64URL_NOPAD.decode(digest.trim_end_matches('=').as_bytes()).ok()?.try_into().ok()
    };
    let sha256 = content.hashes.iter().find_map(digest);
    let body = KeptBody::Address(url);
    Kept { party, kind: PartKind::Recording, mediatype, sha256, occurred_at: Some(dialog.start), body }
}

/// The text, or the pieces of it when it is too long for one part.
fn cut(text: &str, number: usize) -> Vec<Plain> {
    if text.len() <= LARGEST {
        return vec![text.into()];
    }
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = (0..=LARGEST.min(rest.len())).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    let count = pieces.len();
    let named = |(at, piece): (usize, &str)| Plain::from(format!("{CONTINUED}{number} {at} {count}\n{piece}"));
    pieces.into_iter().enumerate().map(named).collect()
}

/// Refuses a conversation that has more parts than a call may have.
///
/// # Errors
/// `ValueTooLarge`.
pub fn check_parts(apart: &Apart, most: usize) -> Result<()> {
    if apart.parts.len() <= most {
        return Ok(());
    }
    let message = "what was said and made of it is too much for one call; put recordings and transcripts beside it";
    Err(Error::new(Reason::ValueTooLarge, message)
        .at("document")
        .with("count", apart.parts.len())
        .with("maximum", most))
}
