//! What a call keeps, put together to a conversation: of one that was a vCon before as that was, of any other as the format has
//! words for it.
//!
//! What is gone, because its person was erased or it was kept long enough, leaves an empty entry behind, so that numbers go on
//! saying the same.

use std::collections::{BTreeMap, HashSet};

use data_encoding::BASE64URL_NOPAD;

use super::apart::{CONTINUED, COUNTS, LISTS};
use super::fields::{LABEL, MOST_SECONDS};
use super::model::{Conversation, LINKS, Others, Role};
use super::read::{self, MOST_ANALYSES, MOST_ATTACHMENTS, MOST_DIALOGS, ROOM, URL};
use super::read_dialog::MOST_EVENTS;
use crate::crypto::SecretBytes;
use crate::formats::{Json, Plain, bare_address};
use crate::model::{CallEventKind, Disposition, Error, LegFacts, PartKind, PartyRole, Result, Time};

/// A call, as far as it may be shown.
pub struct Call {
    /// Under which id it is written, unless it says itself.
    pub uuid: String,
    /// When it was recorded.
    pub recorded_at: Time,
    /// When it began.
    pub began_at: Time,
    /// Who took part.
    pub parties: Vec<Member>,
    /// The pieces of a document that it was, in the order in which they were kept.
    pub pieces: Vec<Plain>,
    /// Where recordings of that document lie, by their place among its parts.
    pub addresses: Vec<(usize, Plain)>,
    /// Its legs that never were a document.
    pub legs: Vec<Leg>,
    /// Its parts that never were in a document.
    pub others: Vec<Other>,
}

/// Somebody who took part.
pub struct Member {
    /// What they are in the call.
    pub role: PartyRole,
    /// What to call them who are erased.
    pub label: Option<&'static str>,
    /// Their number.
    pub number: Option<Plain>,
    /// Their name.
    pub name: Option<Plain>,
    /// Where they are.
    pub place: Option<Plain>,
    /// What else was written of them; of one that came in a document, the rest of what that told of them.
    pub note: Option<Plain>,
    /// What the telephone system calls them.
    pub agent_id: Option<Plain>,
}

/// A leg.
pub struct Leg {
    /// What is known in clear.
    pub facts: LegFacts,
    /// Who took part in it.
    pub parties: Vec<usize>,
    /// What happened in it.
    pub events: Vec<(CallEventKind, Option<usize>, Time)>,
}

/// A part that somebody has attached.
pub struct Other {
    /// Whose it is.
    pub party: usize,
    /// What it is.
    pub kind: PartKind,
    /// What kind of content it stands for.
    pub mediatype: String,
    /// SHA-256 of what lies elsewhere.
    pub sha256: Option<[u8; 32]>,
    /// When it was made.
    pub occurred_at: Option<Time>,
    /// What is shown of it.
    pub held: Option<Held>,
}

/// What is shown of a part.
pub enum Held {
    /// Where it lies.
    Address(Plain),
    /// It itself.
    Bytes(SecretBytes),
    /// It itself.
    Text(Plain),
}

/// Puts a call together.
///
/// # Errors
/// `Internal`, when what was kept is no conversation.
pub fn together(call: Call) -> Result<Conversation> {
    let (head, mut lists) = whole(&call);
    let (count, came) = (call.parties.len(), (lists.dialog.len(), lists.analysis.len()));
    let labelled = call.parties.iter().enumerate().filter(|(_, member)| member.label.is_some());
    let erased: Vec<usize> = labelled.map(|(at, _)| at).collect();
    // A call may have more legs than a reader takes. What was attached to it is little, and goes first.
    let attached = call.others.iter().filter(|other| other.kind == PartKind::Recording).count();
    let room = (MOST_DIALOGS + ROOM).saturating_sub(came.0 + attached);
    lists.dialog.extend(call.legs.iter().take(room).map(|leg| Some(of_leg(leg))));
    let mut about = Vec::new();
    for other in call.others {
        let party = other.party;
        let (list, entry) = of_part(other, call.began_at);
        if list == "analysis" {
            about.push(party);
        }
        lists.named(list).push(Some(entry));
    }
    let has = |name: &str| head.iter().any(|(found, _)| found.expose() == name);
    let mut members: Others = vec![("vcon".into(), "0.4.0".into())];
    if !has("uuid") {
        members.push(("uuid".into(), call.uuid.as_str().into()));
    }
    if !has("created_at") {
        members.push(("created_at".into(), call.recorded_at.into()));
    }
    members.extend(head);
    members.push(("parties".into(), Json::List(call.parties.into_iter().map(person).collect())));
    for name in LISTS {
        let entries = std::mem::take(lists.named(name)).into_iter();
        let entries = entries.map(|entry| entry.unwrap_or_else(|| read::gone(name, call.began_at)));
        members.push((name.into(), Json::List(entries.collect())));
    }
    let mut conversation = read::kept(Json::Object(members), call.began_at).map_err(|error| {
        // What was kept was read before, so nobody can do anything about it.
        Error::internal(format!("a call is no conversation, at {}", error.field.unwrap_or_default()))
    })?;
    debug_assert_eq!(conversation.parties.len(), count, "nobody got lost");
    for (analysis, party) in conversation.analysis.iter_mut().skip(came.1).zip(about) {
        analysis.about = Some(party);
    }
    forget(&mut conversation, &erased, came.0);
    Ok(conversation)
}

/// Leaves out what systems noted in a document beside what the format knows, and how they called its sessions and messages, as far as that
/// may be about somebody who was erased: it is kept with others, and nobody can tell whom it names.
fn forget(conversation: &mut Conversation, erased: &[usize], came: usize) {
    if erased.is_empty() {
        return;
    }
    conversation.others.clear();
    for dialog in conversation.dialog.iter_mut().take(came).filter(|dialog| dialog.may_include(erased)) {
        dialog.others.clear();
        (dialog.session, dialog.message_id) = (None, None);
    }
}

/// The entries of a document's lists, as far as they are there.
#[derive(Default)]
struct Lists {
    dialog: Vec<Option<Json>>,
    analysis: Vec<Option<Json>>,
    attachments: Vec<Option<Json>>,
}

impl Lists {
    fn named(&mut self, name: &str) -> &mut Vec<Option<Json>> {
        match name {
            "dialog" => &mut self.dialog,
            "analysis" => &mut self.analysis,
            _ => &mut self.attachments,
        }
    }
}

/// Members of the document besides its lists, and those. What is no piece says nothing.
fn whole(call: &Call) -> (Others, Lists) {
    let (mut head, mut lists, mut counts) = (Vec::new(), Lists::default(), Vec::new());
    for text in texts(&call.pieces) {
        let Ok(Json::Object(members)) = Json::parse(text.expose().as_bytes(), "piece") else { continue };
        for (name, value) in members {
            match (LISTS.iter().find(|list| **list == name.expose()), value) {
                (Some(list), Json::List(entries)) => {
                    for entry in entries {
                        place(&mut lists, list, entry, &call.addresses);
                    }
                }
                (None, Json::Object(members)) if name.expose() == "head" => head = members,
                (None, Json::Object(members)) if name.expose() == COUNTS => counts.extend(members),
                _ => {}
            }
        }
    }
    // How many there were, whoever of them is gone: as the pieces say, and as the head of older ones does.
    let (counted, mut head): (Others, Others) = head.into_iter().partition(|(name, _)| LISTS.contains(&name.expose()));
    head.retain(|(name, _)| !matches!(name.expose(), "parties" | "vcon"));
    for (name, count) in counts.iter().chain(&counted) {
        if let (Some(list), Some(count)) = (LISTS.iter().find(|list| **list == name.expose()), number(count)) {
            lists.extend(list, count.min(most(list)));
        }
    }
    lists.refer();
    if !read::is_head(&head, call.began_at) {
        head.clear();
    }
    (head, lists)
}

/// Most entries of a list.
fn most(list: &str) -> usize {
    match list {
        "dialog" => MOST_DIALOGS,
        "analysis" => MOST_ANALYSES,
        _ => MOST_ATTACHMENTS,
    }
}

fn number(json: &Json) -> Option<usize> {
    if let Json::Number(number) = json { usize::try_from(number.as_u64()?).ok() } else { None }
}

impl Lists {
    /// Makes a list so long at least.
    fn extend(&mut self, name: &str, count: usize) {
        let list = self.named(name);
        if list.len() < count {
            list.resize_with(count, || None);
        }
    }

    /// What is referred to has a place, even if nothing says any more that it was there.
    fn refer(&mut self) {
        let mut ends: Vec<(&'static str, usize)> = Vec::new();
        let mut look = |entries: &[Option<Json>], names: &[(&str, &'static str)]| {
            for entry in entries.iter().flatten() {
                for (name, list) in names {
                    let numbers = match entry.get(name) {
                        Some(Json::List(items)) => items.as_slice(),
                        Some(one) => std::slice::from_ref(one),
                        None => &[],
                    };
                    let last = numbers.iter().filter_map(number).filter(|at| *at < most(list)).max();
                    ends.extend(last.map(|last| (*list, last + 1)));
                }
            }
        };
        let links: Vec<_> = LINKS.iter().filter(|(_, party, _)| !party).map(|(name, ..)| (*name, "dialog")).collect();
        look(&self.dialog, &links);
        look(&self.analysis, &[("dialog", "dialog"), ("attachment", "attachments")]);
        look(&self.attachments, &[("dialog", "dialog")]);
        for (list, count) in ends {
            self.extend(list, count);
        }
    }
}

/// Puts an entry where its number says, if there may be one of that number.
fn place(lists: &mut Lists, list: &'static str, entry: Json, addresses: &[(usize, Plain)]) {
    let Json::List(items) = entry else { return };
    let mut items = items.into_iter();
    let (Some(at), Some(mut item)) = (items.next(), items.next()) else { return };
    let Some(at) = number(&at).filter(|at| *at < most(list)) else { return };
    if let (Some(part), Json::Object(members)) = (items.next(), &mut item) {
        let known = addresses.iter().find(|(place, _)| Some(*place) == number(&part));
        if let Some((_, address)) = known {
            members.push(("url".into(), Json::Text(address.copy())));
        }
    }
    lists.extend(list, at + 1);
    if let Some(entry) = lists.named(list).get_mut(at) {
        *entry = Some(item);
    }
}

/// The texts of which pieces are. One of which a piece is missing is left out.
fn texts(pieces: &[Plain]) -> Vec<Plain> {
    let mut whole = Vec::new();
    let mut continued: BTreeMap<String, Vec<(usize, usize, &str)>> = BTreeMap::new();
    for piece in pieces {
        let Some(rest) = piece.expose().strip_prefix(CONTINUED) else {
            whole.push(piece.copy());
            continue;
        };
        let Some((head, text)) = rest.split_once('\n') else { continue };
        let mut words = head.split(' ');
        let (Some(number), Some(at), Some(count)) = (words.next(), words.next(), words.next()) else { continue };
        let (Ok(at), Ok(count)) = (at.parse(), count.parse()) else { continue };
        continued.entry(number.to_owned()).or_default().push((at, count, text));
    }
    for mut found in continued.into_values() {
        found.sort_unstable_by_key(|(at, ..)| *at);
        found.dedup_by_key(|(at, ..)| *at);
        if found.first().is_some_and(|(_, count, _)| *count == found.len()) {
            let mut text = SecretBytes::with_capacity(found.iter().map(|(_, _, text)| text.len()).sum());
            for (_, _, piece) in &found {
                text.append(piece.as_bytes());
            }
            whole.push(std::str::from_utf8(text.expose()).unwrap_or_default().into());
        }
    }
    whole
}

fn person(member: Member) -> Json {
    let mut members = Vec::new();
    let rest = member.note.as_ref().filter(|note| note.expose().starts_with('{'));
    // A note in braces that somebody wrote by hand is a note.
    let rest = rest.and_then(|note| Json::parse(note.expose().as_bytes(), "note").ok()).filter(read::is_party);
    let came = rest.is_some();
    if let Some(Json::Object(rest)) = rest {
        members.extend(rest.into_iter().filter(|(name, _)| !matches!(name.expose(), "name" | "role")));
    }
    let has = |members: &[(Plain, Json)], name: &str| members.iter().any(|(found, _)| found.expose() == name);
    if let Some(number) = member.number {
        let lower = number.expose().to_ascii_lowercase();
        let name = if lower.starts_with("sip:") || lower.starts_with("sips:") { "sip" } else { "tel" };
        if !has(&members, name) {
            members.push(told(name, number));
        }
    }
    let name = member.label.map(Plain::from).or(member.name);
    members.extend(name.map(|name| told("name", name)));
    if !came {
        // A document tells this of somebody in words of its own.
        members.extend(member.agent_id.map(|id| told("uuid", id)));
        members.extend(member.place.map(|place| match told("loc", place) {
            (name, place) if name.expose() == "loc" => ("civicaddress".into(), Json::Object(vec![(name, place)])),
            long => long,
        }));
        members.extend(member.note.map(|note| ("note".into(), Json::Text(note))));
    }
    members.push(("role".into(), role(member.role).name().into()));
    Json::Object(members)
}

/// A text by the name of the format, or by one of ours when it is longer than the format has it.
fn told(name: &str, text: Plain) -> (Plain, Json) {
    let name = if text.expose().len() <= LABEL { name.into() } else { format!("lacuna_{name}").into() };
    (name, Json::Text(text))
}

const fn role(role: PartyRole) -> Role {
    match role {
        PartyRole::Agent => Role::Agent,
        PartyRole::Customer => Role::Customer,
        PartyRole::Sme => Role::Sme,
        PartyRole::Supervisor => Role::Supervisor,
        PartyRole::ThirdParty => Role::ThirdParty,
    }
}

/// A leg as a dialog: one in which they talked, or one that nobody answered.
fn of_leg(leg: &Leg) -> Json {
    let facts = &leg.facts;
    let kind = match facts.disposition {
        None | Some(Disposition::Answered) => None,
        Some(Disposition::NoAnswer) => Some("no-answer"),
        Some(Disposition::Busy) => Some("busy"),
        Some(Disposition::Failed) => Some("failed"),
        Some(Disposition::Congestion) => Some("congestion"),
        Some(Disposition::Abandoned) => Some("hung-up"),
        Some(Disposition::Voicemail) => Some("voicemail-no-message"),
    };
    // One number in several seats is one of them.
    let mut known = HashSet::new();
    let parties = leg.parties.iter().filter(|party| known.insert(**party)).map(|party| (*party).into());
    let mut members: Vec<(Plain, Json)> = vec![
        ("type".into(), kind.map_or("recording", |_| "incomplete").into()),
        ("start".into(), facts.started_at.into()),
        ("parties".into(), Json::List(parties.collect())),
    ];
    members.extend(kind.map(|kind| ("disposition".into(), kind.into())));
    let seconds = facts.ended_at.map(|end| (end.micros() - facts.started_at.micros()) / 1_000_000);
    let seconds = seconds.and_then(|seconds| usize::try_from(seconds).ok());
    let seconds = seconds.map(|seconds| seconds.min(MOST_SECONDS));
    members.extend(seconds.map(|seconds| ("duration".into(), seconds.into())));
    for (name, code) in [("skill", &facts.skill), ("campaign", &facts.campaign), ("contact_list", &facts.contact_list)]
    {
        if !code.is_empty() {
            members.push((name.into(), code.as_str().into()));
        }
    }
    members.extend(events(leg));
    Json::Object(members)
}

/// Who came and went in a leg, and what of it was not recorded.
fn events(leg: &Leg) -> Others {
    let mut history = Vec::new();
    let mut gaps: Vec<(Time, Option<Time>)> = Vec::new();
    for (kind, party, at) in &leg.events {
        let event = match kind {
            CallEventKind::Join => "join",
            CallEventKind::Leave => "drop",
            CallEventKind::Hold => "hold",
            CallEventKind::Retrieve => "unhold",
            CallEventKind::CardPause => {
                gaps.push((*at, None));
                continue;
            }
            CallEventKind::CardResume => {
                if let Some((_, end)) = gaps.last_mut().filter(|(from, end)| end.is_none() && from <= at) {
                    *end = Some(*at);
                }
                continue;
            }
            _ => continue,
        };
        if let Some(party) = party {
            let members =
                vec![("party".into(), (*party).into()), ("time".into(), (*at).into()), ("event".into(), event.into())];
            history.push(Json::Object(members));
        }
    }
    let gap = |(from, to): (Time, Option<Time>)| {
        let end = to.map(|to| ("end".into(), to.into()));
        Json::Object([("start".into(), from.into())].into_iter().chain(end).collect())
    };
    let lists = [("party_history", history), ("lacuna_gaps", gaps.into_iter().map(gap).collect())];
    let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
    lists.map(|(name, items)| (name.into(), Json::List(items.into_iter().take(MOST_EVENTS).collect()))).collect()
}

/// What somebody has attached, and the list that it belongs to.
fn of_part(part: Other, began_at: Time) -> (&'static str, Json) {
    let mut members: Vec<(Plain, Json)> = Vec::new();
    let started = part.occurred_at.unwrap_or(began_at);
    let list = match part.kind {
        PartKind::Recording => {
            members.push(("type".into(), "recording".into()));
            members.push(("start".into(), started.into()));
            members.push(("parties".into(), Json::List(vec![part.party.into()])));
            "dialog"
        }
        PartKind::Transcript | PartKind::Summary | PartKind::Scorecard => {
            let name = match part.kind {
                PartKind::Transcript => "transcript",
                PartKind::Summary => "summary",
                _ => "scorecard",
            };
            members.push(("type".into(), name.into()));
            "analysis"
        }
        PartKind::Note | PartKind::Screen => {
            members.push(("purpose".into(), if part.kind == PartKind::Note { "note" } else { "screen" }.into()));
            members.push(("start".into(), started.into()));
            members.push(("party".into(), part.party.into()));
            "attachments"
        }
    };
    if !part.mediatype.is_empty() {
        members.push(("mediatype".into(), part.mediatype.as_str().into()));
    }
    let digest = part.sha256.map(|digest| format!("sha256-{}", BASE64URL_NOPAD.encode(&digest)));
    members.extend(digest.map(|digest| ("content_hash".into(), Json::from(digest.as_str()))));
    match part.held {
        None => {}
        // The format knows fewer kinds of addresses than there are.
        Some(Held::Address(url)) => {
            let fits = url.expose().len() <= URL && bare_address(url.expose(), read::SCHEMES).is_some();
            let name = if fits { "url" } else { "lacuna_address" };
            members.push((name.into(), Json::Text(url)));
        }
        Some(Held::Text(text)) => {
            members.extend([("encoding".into(), "none".into()), ("body".into(), Json::Text(text))]);
        }
        Some(Held::Bytes(bytes)) => {
            let text = Json::Text(BASE64URL_NOPAD.encode(bytes.expose()).into());
            members.extend([("encoding".into(), "base64url".into()), ("body".into(), text)]);
        }
    }
    (list, Json::Object(members))
}
