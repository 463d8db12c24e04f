//! Calls as conversations in the vCon format: all that may be seen of one, or what one of its parties may have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Whole, unknown};
use crate::crypto::SecretBytes;
use crate::formats::vcon::{
    self, Attachment, BASES, Conversation, Grant, Held, LAWFUL_BASIS, LawfulBasis, Member, Other, PIECE,
};
use crate::formats::{Json, Plain};
use crate::keys::flight::Flight;
use crate::model::{
    CallEvent, CallField, CallId, Channel, Content, Error, Leg, Part, PartBody, Party, Redaction, Reference, Result,
    SubjectId, Time, TokenRow,
};
use crate::policy::{About, Action, Caller, Inquiry};
use crate::vault::Vault;
use crate::vault::audit::{Touched, call};
use crate::vault::consent::Shown;
use crate::vault::reveal::{By, Detokenize, Revealed};
use crate::vault::token::MOST;

/// The rpc.
const DEED: &str = "ExportVcon";

/// What is to be written.
pub struct ExportVcon {
    /// Which call.
    pub call: CallId,
    /// Who is to have it, if it is not for whoever may see it all.
    pub recipient: Option<SubjectId>,
    /// What it is needed for.
    pub purpose: String,
    /// A ticket.
    pub justification: Option<Reference>,
}

/// What was written.
pub struct Exported {
    /// The document.
    pub document: Plain,
    /// What is not in it.
    pub left_out: Vec<String>,
    /// What carries it.
    pub flight: Flight,
}

impl Vault {
    /// Writes a call as a conversation: what the caller may see of it for the purpose, or what one of its parties may have.
    /// Leaves only while its flight may land.
    ///
    /// # Errors
    /// `CallUnknown`; `ValueInvalid` when nobody of it is the recipient; those of [`Vault::detokenize`].
    pub async fn export_vcon(&self, caller: &Caller, ask: ExportVcon) -> Result<Exported> {
        let mut tx = self.custody.store().read().await?;
        let whole = Whole::read(&mut *tx, &[ask.call]).await?.pop().ok_or_else(|| unknown(ask.call))?;
        let events = tx.call_events_of(&[ask.call]).await?;
        drop(tx);
        call::touch(whole.people.values().map(Touched::described));
        if ask.recipient.is_some_and(|subject| whole.parties.iter().all(|party| party.subject != subject)) {
            return Err(Error::invalid("for_subject", "is no party of this call").with("call", ask.call));
        }
        let rows = whole.values.iter().map(|value| value.token);
        let now = self.clock.now();
        let parts = whole.parts.iter().filter(|part| whole.gone(part, now).is_none());
        let rows: Vec<TokenRow> = rows.chain(parts.filter_map(|part| part.content)).take(MOST).collect();
        let detokenize = Detokenize {
            tokens: rows.iter().map(|row| self.custody.ring.opaque(*row).to_string()).collect(),
            purpose: ask.purpose,
            channel: Channel::Any,
            redaction: Redaction::PlainText,
            justification: ask.justification,
            by: By { deed: DEED, ..By::default() },
        };
        let (revealed, flight) = self.detokenize(caller, &detokenize).await?;
        let mut export = Export {
            order: order(&whole),
            opened: rows.into_iter().zip(revealed).collect(),
            whole,
            now,
            labelled: ask.recipient.is_none(),
            unknown: BTreeSet::new(),
            left_out: Vec::new(),
        };
        let gathered = export.gather(&events);
        let mut concerned: Vec<usize> = (0..export.order.len()).collect();
        let mut recipient = None;
        if let Some(subject) = ask.recipient {
            let place = export.order.iter().position(|party| party.subject == subject);
            let place = place.ok_or_else(|| Error::internal("a recipient who is no party"))?;
            concerned = vec![place];
            export.unknown.remove(&place);
            recipient = Some((place, export.unknown.iter().copied().collect::<Vec<_>>()));
        }
        let custody = Arc::clone(&self.custody);
        let mut conversation = beside(move || {
            let conversation = vcon::together(gathered)?;
            let Some((place, unknown)) = recipient else { return Ok(conversation) };
            let mut conversation = vcon::redact(&conversation, place, now, custody.ring.random())?;
            vcon::withhold(&mut conversation, &unknown);
            Ok(conversation)
        })
        .await?;
        self.tell_bases(caller, &mut export, &concerned, &mut conversation).await?;
        let document = beside(move || vcon::write(&conversation)).await?;
        Ok(Exported { document, left_out: export.left_out, flight })
    }

    /// Adds what the processing of people's data rests on, as their ledgers say, for a caller who may read those.
    async fn tell_bases(
        &self,
        caller: &Caller,
        export: &mut Export,
        concerned: &[usize],
        conversation: &mut Conversation,
    ) -> Result<()> {
        let inquiry = Inquiry::new(caller, Action::ReadConsents, About::Vault, export.now);
        if self.authority.check(&inquiry, export.now).is_err() {
            export.left_out.push(LAWFUL_BASIS.to_owned());
            return Ok(());
        }
        let mut told = BTreeSet::new();
        for place in concerned {
            let Some(party) = export.order.get(*place).filter(|party| !export.whole.is_erased(party)) else { continue };
            if !told.insert(party.subject) {
                continue;
            }
            let (shown, _) = self.list_consents(caller, party.subject).await?;
            for basis in bases(&shown) {
                conversation.attachments.push(Attachment {
                    purpose: Some(LAWFUL_BASIS.into()),
                    start: Some(export.now),
                    party: Some(*place),
                    dialog: None,
                    content: vcon::Content::default(),
                    basis: Some(basis),
                    others: Vec::new(),
                });
                conversation.updated_at = Some(export.now);
            }
        }
        Ok(())
    }
}

/// Does work that takes a while where nobody else waits for it.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

/// What somebody's ledger says, basis by basis: purposes about which they have said something.
fn bases(shown: &[Shown]) -> Vec<LawfulBasis> {
    let mut by_basis: BTreeMap<i16, Vec<&Shown>> = BTreeMap::new();
    for one in shown.iter().filter(|one| !one.consent.event.is_empty()) {
        by_basis.entry(one.purpose.basis as i16).or_default().push(one);
    }
    let name = |number: i16| BASES.get(usize::try_from(number - 1).ok()?).copied();
    let basis = |(number, found): (i16, Vec<&Shown>)| {
        let until = found.iter().filter_map(|one| one.consent.valid_until).min();
        Some(LawfulBasis {
            basis: name(number)?,
            expiration: until.map(Time::from_micros),
            grants: found.iter().map(|one| grant(one)).collect(),
            others: vec![("proof_mechanisms".into(), Json::List(found.iter().map(|one| proof(one)).collect()))],
        })
    };
    by_basis.into_iter().filter_map(basis).collect()
}

fn grant(shown: &Shown) -> Grant {
    Grant {
        purpose: shown.purpose.code.as_str().into(),
        granted: shown.state.is_yes() && !shown.objected,
        granted_at: Some(Time::from_micros(shown.consent.since)),
        conditions: Vec::new(),
    }
}

/// Where it is on record, so that `ProveConsent` can be asked.
fn proof(shown: &Shown) -> Json {
    let data = vec![
        ("system_identifier".into(), "lacuna".into()),
        ("record_identifier".into(), shown.consent.event.as_str().into()),
        ("purpose".into(), shown.purpose.code.as_str().into()),
        ("state".into(), word(&shown.state)),
        ("channel".into(), word(&shown.channel)),
    ];
    Json::Object(vec![
        ("proof_type".into(), "external_system".into()),
        ("timestamp".into(), Time::from_micros(shown.consent.since).into()),
        ("proof_data".into(), Json::Object(data)),
    ])
}

/// The name of one of several, as documents have it.
fn word(one: &impl serde::Serialize) -> Json {
    let name = serde_json::to_value(one).ok();
    name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().into()
}

/// The leg that came as a document with parts of it, if one did.
fn document(whole: &Whole) -> Option<&Leg> {
    let pieces = || whole.parts.iter().filter(|part| part.media_type == PIECE);
    whole.legs.iter().find(|leg| pieces().any(|part| leg.place_of(part.id).is_some()))
}

/// The place of a part in its document. The names of those can be told in advance, but nobody attaches a piece.
fn place_in(leg: &Leg, part: &Part) -> Option<usize> {
    leg.place_of(part.id).filter(|_| part.media_type == PIECE || part.body == PartBody::Address)
}

/// The parties by their places in the document: those of the leg that was one, then everybody else.
fn order(whole: &Whole) -> Vec<Party> {
    let named = document(whole).map(|leg| leg.parties.as_slice()).unwrap_or_default();
    let told = named.iter().filter_map(|number| whole.parties.iter().find(|party| party.number == *number));
    told.chain(whole.parties.iter().filter(|party| !named.contains(&party.number))).cloned().collect()
}

/// What is written, while it is found.
struct Export {
    whole: Whole,
    order: Vec<Party>,
    opened: HashMap<TokenRow, Revealed>,
    now: Time,
    /// Whether people who were erased are called what they were.
    labelled: bool,
    /// Places of those of whom nobody may read what they are called.
    unknown: BTreeSet<usize>,
    left_out: Vec<String>,
}

impl Export {
    fn gather(&mut self, events: &[CallEvent]) -> vcon::Call {
        let parties = (0..self.order.len()).filter_map(|at| self.member(at)).collect();
        let mut gathered = vcon::Call {
            uuid: uuid::Uuid::from_bytes(*self.whole.call.id.as_bytes()).hyphenated().to_string(),
            recorded_at: self.whole.call.created_at,
            began_at: self.whole.call.started_at,
            parties,
            pieces: Vec::new(),
            addresses: Vec::new(),
            legs: Vec::new(),
            others: Vec::new(),
        };
        let came = document(&self.whole).cloned();
        if let Some(leg) = &came {
            // Of a document whose head is gone the id is known all the same.
            gathered.uuid.clone_from(&leg.source_id);
        }
        for leg in self.whole.legs.iter().filter(|leg| Some(*leg) != came.as_ref()) {
            gathered.legs.push(self.leg(leg, events));
        }
        for part in self.whole.parts.clone() {
            self.part(&part, came.as_ref(), &mut gathered);
        }
        gathered
    }

    fn place(&self, number: u8) -> Option<usize> {
        self.order.iter().position(|party| party.number == number)
    }

    fn leg(&self, leg: &Leg, events: &[CallEvent]) -> vcon::Leg {
        let own = events.iter().filter(|event| event.system == leg.system && event.source_id == leg.source_id);
        let event =
            |event: &CallEvent| (event.kind, event.party.and_then(|number| self.place(number)), event.happened_at);
        vcon::Leg {
            facts: leg.facts.clone(),
            parties: leg.parties.iter().filter_map(|number| self.place(*number)).collect(),
            events: own.map(event).collect(),
        }
    }

    /// Somebody, as far as they may be seen.
    fn member(&mut self, at: usize) -> Option<Member> {
        let party = self.order.get(at)?.clone();
        let erased = self.whole.is_erased(&party);
        let mut member = Member {
            role: party.role,
            label: Some(party.role.label(true)).filter(|_| erased && self.labelled),
            number: None,
            name: None,
            place: None,
            note: None,
            agent_id: None,
        };
        if erased {
            self.unknown.insert(at);
            self.left_out.push(format!("parties[{at}]"));
        }
        // Of two whom the document told with one number, what the first is called is known.
        if self.order.iter().take(at).any(|other| other.number == party.number) {
            self.unknown.insert(at);
            return Some(member);
        }
        let own = |value: &&crate::model::PartyValue| value.party == party.number && !erased;
        let values: Vec<_> = self.whole.values.iter().filter(own).copied().collect();
        // Of somebody of whom nothing is kept nobody knows what to look for.
        if values.is_empty() {
            self.unknown.insert(at);
        }
        for value in values {
            let (slot, name) = match value.field {
                CallField::Number => (&mut member.number, "tel"),
                CallField::Name => (&mut member.name, "name"),
                CallField::Place => (&mut member.place, "civicaddress"),
                CallField::Note => (&mut member.note, "note"),
                CallField::AgentId => (&mut member.agent_id, "uuid"),
            };
            let (text, whole) = shown(self.opened.get(&value.token));
            *slot = text;
            if !whole {
                self.unknown.insert(at);
                self.left_out.push(format!("parties[{at}].{name}"));
            }
        }
        Some(member)
    }

    /// A part: a piece of the document that it was, the address of a recording in that, or what somebody has attached.
    fn part(&mut self, part: &Part, came: Option<&Leg>, gathered: &mut vcon::Call) {
        let place = came.and_then(|leg| place_in(leg, part));
        let gone = self.whole.gone(part, self.now).is_some();
        let revealed = part.content.and_then(|row| self.opened.remove(&row));
        let whole = revealed.as_ref().is_some_and(|one| one.outcome.is_ok() && one.shown == Redaction::PlainText);
        if part.content.is_some() && !whole && (place.is_some() || !gone) {
            self.left_out.push(part.id.to_string());
        }
        let held = revealed.filter(|_| whole).and_then(|one| one.outcome.ok()).map(|content| match part.body {
            PartBody::Bytes => Held::Bytes(SecretBytes::new(content.expose().to_vec())),
            PartBody::Address => Held::Address(text(&content)),
            PartBody::Text | PartBody::Elsewhere => Held::Text(text(&content)),
        });
        match (place, held) {
            (Some(_), Some(Held::Text(text))) => gathered.pieces.push(text),
            (Some(at), Some(Held::Address(address))) => gathered.addresses.push((at, address)),
            (Some(_), _) => {}
            // Of a revision that another one has taken the place of meanwhile.
            (None, _) if gone || part.media_type == PIECE => {}
            (None, held) => {
                let Some(party) = self.place(part.party) else { return };
                gathered.others.push(Other {
                    party,
                    kind: part.kind,
                    mediatype: part.media_type.clone(),
                    sha256: part.sha256,
                    occurred_at: part.occurred_at,
                    held,
                });
            }
        }
    }
}

fn text(content: &Content) -> Plain {
    str::from_utf8(content.expose()).unwrap_or_default().into()
}

/// What may be seen of a value, and whether that is all of it.
fn shown(revealed: Option<&Revealed>) -> (Option<Plain>, bool) {
    match revealed.map(|one| (&one.outcome, one.shown)) {
        Some((Ok(content), shown)) => (Some(text(content)), shown == Redaction::PlainText),
        _ => (None, false),
    }
}
