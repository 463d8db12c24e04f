//! A conversation becomes a document of the format's present version, which the schema of the working group describes.

use data_encoding::BASE64URL_NOPAD;

use super::model::{
    Analysis, Attachment, Body, Content, Conversation, Dialog, Earlier, LAWFUL_BASIS, LINKS, LawfulBasis, Others,
    Party, Seat,
};
use crate::formats::{Json, Plain};
use crate::model::{Result, Time};

/// The version that is written.
const VERSION: &str = "0.4.0";

/// Writes everything that is in the conversation.
///
/// # Errors
/// `Internal`, when it cannot be written.
pub fn write(conversation: &Conversation) -> Result<Plain> {
    document(conversation).write()
}

/// An object in the making.
#[derive(Default)]
struct Object(Others);

impl Object {
    fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    fn and(self, name: &str, value: Option<impl Into<Json>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn some(self, name: &str, values: Vec<Json>) -> Self {
        if values.is_empty() { self } else { self.with(name, Json::List(values)) }
    }

    /// What the format has no name for, unless it has by now.
    fn others(mut self, others: &Others) -> Json {
        let own = self.0.len();
        for (name, value) in others {
            if !self.0.iter().take(own).any(|(there, _)| there.expose() == name.expose()) {
                self.0.push((name.copy(), value.copy()));
            }
        }
        Json::Object(self.0)
    }
}

impl From<&Plain> for Json {
    fn from(text: &Plain) -> Self {
        Self::Text(text.copy())
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Time> for Json {
    fn from(time: Time) -> Self {
        time.to_string().as_str().into()
    }
}

fn texts(texts: &[Plain]) -> Vec<Json> {
    texts.iter().map(Json::from).collect()
}

/// Everything that is in the conversation.
pub fn document(conversation: &Conversation) -> Json {
    let list = |items: Vec<Json>| Json::List(items);
    Object::default()
        .with("vcon", VERSION)
        .with("uuid", &conversation.uuid)
        .some("extensions", texts(&extensions(conversation)))
        .some("critical", texts(&conversation.critical))
        .with("created_at", conversation.created_at)
        .and("updated_at", conversation.updated_at)
        .and("subject", conversation.subject.as_ref())
        .and("redacted", conversation.earlier.as_ref().and_then(redacted))
        .and("amended", conversation.earlier.as_ref().and_then(amended))
        .with("parties", list(conversation.parties.iter().map(party).collect()))
        .with("dialog", list(conversation.dialog.iter().map(dialog).collect()))
        .with("analysis", list(conversation.analysis.iter().map(analysis).collect()))
        .with("attachments", list(conversation.attachments.iter().map(|one| attachment(one, conversation)).collect()))
        .others(&conversation.others)
}

/// The extensions that it says, and those of which something is in it.
fn extensions(conversation: &Conversation) -> Vec<Plain> {
    let uses = [
        ("CC", conversation.parties.iter().any(|party| party.role.is_some())),
        ("lacuna_gaps", conversation.dialog.iter().any(|dialog| !dialog.gaps.is_empty())),
        (LAWFUL_BASIS, conversation.attachments.iter().any(|attachment| attachment.basis.is_some())),
    ];
    let mut names: Vec<Plain> = conversation.extensions.iter().map(Plain::copy).collect();
    for (name, used) in uses {
        if used && !names.iter().any(|there| there.expose() == name) {
            names.push(name.into());
        }
    }
    names
}

fn redacted(earlier: &Earlier) -> Option<Json> {
    let kind = earlier.redaction.as_ref()?;
    Some(reference(earlier, Object::default().with("type", kind)))
}

fn amended(earlier: &Earlier) -> Option<Json> {
    earlier.redaction.is_none().then(|| reference(earlier, Object::default()))
}

/// Where the document is from which this one was made. An address without a digest says nothing to rely on, and is not told.
fn reference(earlier: &Earlier, object: Object) -> Json {
    let url = earlier.url.as_ref().filter(|_| !earlier.hashes.is_empty());
    object
        .and("uuid", earlier.uuid.as_ref())
        .and("url", url)
        .some("content_hash", texts(&earlier.hashes))
        .others(&Vec::new())
}

/// Somebody who took part.
pub fn party(party: &Party) -> Json {
    let told = party.told.iter().fold(Object::default(), |object, (name, text)| object.with(name, text));
    let civic = party.civic.iter().map(|(name, text)| (name.copy(), Json::from(text))).collect::<Others>();
    let civic = (!civic.is_empty()).then_some(Json::Object(civic));
    told.and("civicaddress", civic).and("role", party.role.map(super::Role::name)).others(&party.others)
}

fn dialog(dialog: &Dialog) -> Json {
    let seat = |seat: &Seat| match seat {
        Seat::Nobody => Json::Null,
        Seat::One(party) => (*party).into(),
        Seat::Several(parties) => Json::List(parties.iter().map(|party| (*party).into()).collect()),
    };
    let event = |event: &super::model::Event| {
        let object = Object::default().with("party", event.party).with("time", event.time).with("event", event.event);
        object.others(&Vec::new())
    };
    let gap = |gap: &super::model::Gap| {
        let object = Object::default().with("start", gap.from).and("end", gap.to).with("reason", "pci");
        object.others(&Vec::new())
    };
    let mut object = Object::default()
        .with("type", dialog.kind.name())
        .with("start", dialog.start)
        .and("duration", dialog.duration.clone().map(Json::Number))
        .some("parties", dialog.parties.iter().map(seat).collect())
        .and("originator", dialog.originator)
        .and("disposition", dialog.disposition)
        .some("party_history", dialog.history.iter().map(event).collect())
        .some("lacuna_gaps", dialog.gaps.iter().map(gap).collect())
        .and("application", dialog.application.as_ref())
        .and("message_id", dialog.message_id.as_ref())
        .and("session_id", dialog.session.as_ref().map(Json::copy));
    for (name, numbers) in &dialog.links {
        let listed = *name == "recordings" || numbers.len() > 1;
        debug_assert!(LINKS.iter().any(|(known, ..)| known == name), "a link that the format has");
        object = match numbers.as_slice() {
            [number] if !listed => object.with(name, *number),
            several => object.some(name, several.iter().map(|number| (*number).into()).collect()),
        };
    }
    content(object, &dialog.content).others(&dialog.others)
}

fn content(object: Object, content: &Content) -> Object {
    let (encoding, body) = match &content.body {
        None => (None, None),
        Some(Body::Bytes(bytes)) => {
            (Some("base64url"), Some(Json::from(BASE64URL_NOPAD.encode(bytes.expose()).as_str())))
        }
        Some(Body::Json(json)) => (Some("json"), Some(json.copy())),
        Some(Body::Text(text)) => (Some("none"), Some(Json::from(text))),
    };
    object
        .and("mediatype", content.mediatype.as_ref())
        .and("filename", content.filename.as_ref())
        .and("encoding", encoding)
        .and("body", body)
        .and("url", content.url.as_ref())
        .some("content_hash", texts(&content.hashes))
}

fn numbers(object: Object, name: &str, numbers: &[usize]) -> Object {
    match numbers {
        [number] => object.with(name, *number),
        several => object.some(name, several.iter().map(|number| (*number).into()).collect()),
    }
}

/// Whoever made it has to be named; what names nobody is said to be of unknown make.
fn analysis(analysis: &Analysis) -> Json {
    let vendor = analysis.vendor.as_ref().map_or_else(|| "unknown".into(), Json::from);
    let object = Object::default().with("type", &analysis.kind).with("vendor", vendor);
    let object = object.and("product", analysis.product.as_ref()).and("schema", analysis.schema.as_ref());
    let object = numbers(object, "dialog", &analysis.dialogs);
    content(numbers(object, "attachment", &analysis.attachments), &analysis.content).others(&analysis.others)
}

/// The format wants to know when, whose, and where it belongs to. What is not known is the beginning of the conversation, the
/// first party and the first dialog.
fn attachment(attachment: &Attachment, conversation: &Conversation) -> Json {
    let dialog = attachment.dialog.unwrap_or_default();
    let start = conversation.dialog.get(dialog).map_or(conversation.created_at, |dialog| dialog.start);
    let object = Object::default()
        .and("purpose", attachment.purpose.as_ref())
        .with("start", attachment.start.unwrap_or(start))
        .with("party", attachment.party.unwrap_or_default())
        .with("dialog", dialog);
    let object = match &attachment.basis {
        Some(basis) => object.with("encoding", "json").with("body", lawful_basis(basis)),
        None => object,
    };
    content(object, &attachment.content).others(&attachment.others)
}

fn lawful_basis(basis: &LawfulBasis) -> Json {
    let grant = |grant: &super::model::Grant| {
        Object::default()
            .with("purpose", &grant.purpose)
            .with("granted", Json::Bool(grant.granted))
            .and("granted_at", grant.granted_at)
            .some("conditions", texts(&grant.conditions))
            .others(&Vec::new())
    };
    Object::default()
        .with("lawful_basis", basis.basis)
        .and("expiration", basis.expiration)
        .with("purpose_grants", Json::List(basis.grants.iter().map(grant).collect()))
        .others(&basis.others)
}
