//! A conversation as one of its parties may have it: what is theirs, what was said with them, and nothing of the others.
//!
//! It is made anew of what the format knows, so that nothing gets along that nobody looked at. Parties, dialogs, analyses and
//! attachments keep their numbers: what is not shown leaves an empty one behind. Sound and pictures are never shown,
//! because nobody can take a voice out of them; nor is where they are.

use super::mask::Masker;
use super::model::{
    Analysis, Attachment, Body, Content, Conversation, Dialog, Earlier, Grant, LAWFUL_BASIS, LawfulBasis, Party, Role,
};
use super::read::essence;
use crate::crypto::Random;
use crate::formats::{Json, Plain};
use crate::model::{Error, Result, Time};

/// What kind of redaction this is.
const KIND: &str = "one party";

/// Whom a party is called when it is not shown who they are.
const ANONYMOUS: &str = "anonymous";

/// What an analysis is called that is not shown.
const WITHHELD: &str = "withheld";

/// Members of which a copy of a whole conversation has at least one.
const WHOLE: [&str; 6] = ["vcon", "parties", "dialog", "payload", "signatures", "ciphertext"];

/// The conversation for one of its parties, under an id of its own.
///
/// # Errors
/// `ValueInvalid`, when there is no such party.
pub fn redact(conversation: &Conversation, party: usize, now: Time, random: &dyn Random) -> Result<Conversation> {
    let own = conversation.parties.get(party).ok_or_else(|| {
        let message =
            format!("there is no such party; they are counted from 0 to {}", conversation.parties.len().max(1) - 1);
        Error::invalid("party", message)
    })?;
    let others = conversation.parties.iter().enumerate().filter(|(at, _)| *at != party).map(|(_, other)| other);
    let redaction =
        Redaction { conversation, party, there: there(conversation, party), masker: Masker::new(own, others) };
    Ok(Conversation {
        uuid: fresh(now, random),
        created_at: now,
        updated_at: None,
        subject: redaction.text(conversation.subject.as_ref()),
        extensions: Vec::new(),
        critical: Vec::new(),
        earlier: Some(Earlier {
            redaction: Some(KIND.into()),
            uuid: Some(conversation.uuid.clone()),
            url: None,
            hashes: Vec::new(),
        }),
        parties: conversation.parties.iter().enumerate().map(|(at, other)| redaction.person(at, other)).collect(),
        dialog: conversation
            .dialog
            .iter()
            .zip(&redaction.there)
            .map(|(one, there)| redaction.dialog(one, *there))
            .collect(),
        analysis: conversation.analysis.iter().map(|analysis| redaction.analysis(analysis)).collect(),
        attachments: conversation.attachments.iter().map(|attachment| redaction.attachment(attachment)).collect(),
        others: Vec::new(),
    })
}

/// Leaves out whatever may name somebody whom nobody can find in it any more, because what they are called is not known: all texts
/// of dialogs in which they were, and all that was made of any.
pub fn withhold(conversation: &mut Conversation, unknown: &[usize]) {
    if unknown.is_empty() {
        return;
    }
    for dialog in &mut conversation.dialog {
        if dialog.may_include(unknown) {
            dialog.content = Content { mediatype: dialog.content.mediatype.take(), ..Content::default() };
            dialog.application = None;
        }
    }
    for analysis in &mut conversation.analysis {
        (analysis.content, analysis.kind) = (Content::default(), WITHHELD.into());
        (analysis.vendor, analysis.product, analysis.schema) = (None, None, None);
    }
    for attachment in &mut conversation.attachments {
        attachment.content = Content::default();
        // Conditions are texts as well.
        (attachment.purpose, attachment.basis) = (None, None);
    }
    conversation.subject = None;
}

/// A UUID of version 8 that begins with the time, so that documents sort by when they were made.
fn fresh(now: Time, random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let millis = now.micros().div_euclid(1000).to_be_bytes();
    bytes.iter_mut().zip(millis.iter().skip(2)).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string()
}

/// In which dialogs somebody took part. A message often names its sender alone: it was to the other one, if there is one other.
fn there(conversation: &Conversation, party: usize) -> Vec<bool> {
    let was_there = |dialog: &Dialog| {
        let people = dialog.people();
        people.contains(&party) || (people.len() < 2 && conversation.parties.len() <= 2)
    };
    conversation.dialog.iter().map(was_there).collect()
}

struct Redaction<'c> {
    conversation: &'c Conversation,
    party: usize,
    /// Whether they took part, dialog by dialog.
    there: Vec<bool>,
    masker: Masker,
}

impl Redaction<'_> {
    fn text(&self, text: Option<&Plain>) -> Option<Plain> {
        text.map(|text| self.masker.text(text))
    }

    fn person(&self, at: usize, party: &Party) -> Party {
        if at != self.party {
            return Party { role: party.role, told: vec![("name", ANONYMOUS.into())], ..Party::default() };
        }
        // What proves a call names whom it was to.
        let told = party.told.iter().filter(|(name, _)| *name != "stir");
        Party {
            role: party.role,
            told: told.map(|(name, text)| (*name, text.copy())).collect(),
            civic: party.civic.iter().map(|(name, text)| (name.copy(), text.copy())).collect(),
            others: Vec::new(),
        }
    }

    fn dialog(&self, dialog: &Dialog, there: bool) -> Dialog {
        Dialog {
            kind: dialog.kind,
            start: dialog.start,
            duration: dialog.duration.clone(),
            parties: dialog.parties.clone(),
            originator: dialog.originator,
            content: if there { self.content(&dialog.content) } else { Content::default() },
            disposition: dialog.disposition,
            history: if there { dialog.history.clone() } else { Vec::new() },
            gaps: dialog.gaps.clone(),
            application: if there { self.text(dialog.application.as_ref()) } else { None },
            message_id: None,
            session: None,
            links: dialog.links.clone(),
            others: Vec::new(),
        }
    }

    /// What was said, if it is text. Of a kind of content its parameters may be the name of a file.
    fn content(&self, content: &Content) -> Content {
        let essence = content.mediatype.as_ref().map(|kind| essence(kind.expose()));
        let readable = essence.as_deref().is_none_or(|kind| {
            matches!(kind, "text/plain" | "text/markdown" | "application/json") || kind.ends_with("+json")
        });
        let body = content.body.as_ref().filter(|_| readable).and_then(|body| self.body(body));
        let mediatype = essence.filter(|kind| self.masker.without(kind).is_none()).map(Plain::from);
        Content { mediatype, body, ..Content::default() }
    }

    fn body(&self, body: &Body) -> Option<Body> {
        match body {
            Body::Bytes(_) => None,
            Body::Json(json) if is_whole(json) => None,
            Body::Json(json) => Some(Body::Json(self.masker.json(json))),
            Body::Text(text) => {
                let inner = Json::within(text.expose());
                if inner.as_ref().is_some_and(is_whole) || text.expose().contains("\"parties\"") {
                    return None;
                }
                match self.masker.embedded(text.expose()) {
                    Some(Json::Text(masked)) => Some(Body::Text(masked)),
                    _ => Some(Body::Text(self.masker.text(text))),
                }
            }
        }
    }

    /// Whether somebody's assessment is of them. What does not say of whom it is, is of the agent, if there is one agent only.
    fn is_assessed(&self, analysis: &Analysis) -> bool {
        let is_agent = |party: &Party| party.role == Some(Role::Agent);
        let mut agents =
            self.conversation.parties.iter().enumerate().filter(|(_, party)| is_agent(party)).map(|(at, _)| at);
        let agent = agents.next().filter(|_| agents.next().is_none());
        analysis.about.or(agent) == Some(self.party)
    }

    fn analysis(&self, analysis: &Analysis) -> Analysis {
        let of = |at: &usize| self.there.get(*at).is_some_and(|there| *there);
        let of_all = || self.there.iter().all(|there| *there);
        let shown = analysis.attachments.is_empty()
            && (!analysis.is_score() || self.is_assessed(analysis))
            && if analysis.dialogs.is_empty() { of_all() } else { analysis.dialogs.iter().all(of) };
        Analysis {
            kind: self.masker.text(&analysis.kind),
            vendor: self.text(analysis.vendor.as_ref()),
            product: if shown { self.text(analysis.product.as_ref()) } else { None },
            schema: if shown { self.text(analysis.schema.as_ref()) } else { None },
            dialogs: analysis.dialogs.clone(),
            attachments: analysis.attachments.clone(),
            about: analysis.about,
            content: if shown { self.content(&analysis.content) } else { Content::default() },
            others: Vec::new(),
        }
    }

    /// What they sent themselves, and what they agreed to. Of another's nothing is told but that it was there.
    fn attachment(&self, attachment: &Attachment) -> Attachment {
        let own = attachment.party == Some(self.party);
        let basis = attachment.basis.as_ref().filter(|_| own).map(|basis| self.basis(basis));
        let purpose = if attachment.basis.is_some() {
            basis.is_some().then(|| LAWFUL_BASIS.into())
        } else {
            self.text(attachment.purpose.as_ref()).filter(|_| own)
        };
        Attachment {
            purpose,
            start: attachment.start,
            party: attachment.party,
            dialog: attachment.dialog,
            content: if own { self.content(&attachment.content) } else { Content::default() },
            basis,
            others: Vec::new(),
        }
    }

    fn basis(&self, basis: &LawfulBasis) -> LawfulBasis {
        let grant = |grant: &Grant| Grant {
            purpose: self.masker.text(&grant.purpose),
            granted: grant.granted,
            granted_at: grant.granted_at,
            conditions: grant.conditions.iter().map(|text| self.masker.text(text)).collect(),
        };
        let grants = basis.grants.iter().map(grant).collect();
        LawfulBasis { basis: basis.basis, expiration: basis.expiration, grants, others: Vec::new() }
    }
}

/// Whether a document, or one within it, is a whole conversation.
fn is_whole(json: &Json) -> bool {
    match json {
        Json::List(items) => items.iter().any(is_whole),
        Json::Object(members) => {
            let named = members.iter().filter(|(name, _)| WHOLE.contains(&name.expose())).count();
            let lists = |name: &str| matches!(json.get(name), Some(Json::List(_)));
            named >= 2 || lists("parties") || members.iter().any(|(_, value)| is_whole(value))
        }
        _ => false,
    }
}
