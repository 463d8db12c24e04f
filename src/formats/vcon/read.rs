//! A document becomes a conversation, or is refused with the name of the field that is wrong.
//!
//! Three generations of the format are read alike: what the draft calls by another name today is taken by either. What it
//! has no name for is kept apart ([`Others`](super::model::Others)).

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};

use super::clean::{self, CardRule, clean_text};
use super::fields::{Fields, LABEL, TEXT};
use super::model::{
    Analysis, Attachment, BASES, Body, Changes, Content, Conversation, Earlier, Grant, LAWFUL_BASIS, LawfulBasis,
    Others, PARTY, Party, Role,
};
use super::read_dialog::dialog;
use crate::crypto::SecretBytes;
use crate::formats::{Json, Plain, bare_address};
use crate::model::{Error, Result, Time};

/// Most of what a conversation has.
const MOST_PARTIES: usize = 256;
/// See [`MOST_PARTIES`].
pub const MOST_DIALOGS: usize = 10_000;
/// See [`MOST_PARTIES`].
pub const MOST_ANALYSES: usize = 2_000;
/// See [`MOST_PARTIES`].
pub const MOST_ATTACHMENTS: usize = 2_000;
const MOST_NAMES: usize = 64;

/// Room for what joins a conversation that is full: legs and parts of the call that it became.
pub const ROOM: usize = 4096;

/// Longest address, in bytes.
pub const URL: usize = 4096;

/// What an entry is called that is gone.
const GONE: &str = "gone";

/// Versions of the format that are read.
const VERSIONS: [&str; 7] = ["0.0.1", "0.0.2", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"];

/// Extensions that are understood, so that a document may demand them.
const UNDERSTOOD: [&str; 4] = ["CC", "cc", "lawful_basis", "lacuna_gaps"];

/// Reads what is no longer signed.
///
/// # Errors
/// `ValueInvalid` or `CardData`, with the field.
pub fn conversation(mut document: Json, cards: CardRule) -> Result<(Conversation, Changes)> {
    let mut changes = Changes::default();
    clean::clean(&mut document, cards, &mut changes)?;
    let mut reading = Reading { cards, changes, kept: None };
    let conversation = reading.conversation(document)?;
    Ok((conversation, reading.changes))
}

/// Reads what a call has kept, which began then. An entry that is none is gone, and the rest is read.
///
/// # Errors
/// `ValueInvalid`, when its members besides the lists are none of a conversation.
pub fn kept(mut document: Json, began_at: Time) -> Result<Conversation> {
    let mut reading = Reading { cards: CardRule::Mask, changes: Changes::default(), kept: Some(began_at) };
    if let Json::Object(members) = &mut document {
        for (list, value) in members {
            let Json::List(items) = value else { continue };
            for item in items.iter_mut().filter(|item| item.depth() > clean::DEEPEST - 2) {
                *item = gone(list.expose(), began_at);
            }
        }
    }
    clean::clean(&mut document, reading.cards, &mut reading.changes)?;
    reading.conversation(document)
}

/// Whether these are members of a conversation besides its lists.
pub fn is_head(members: &Others, at: Time) -> bool {
    let mut copies: Others = members.iter().map(|(name, value)| (name.copy(), value.copy())).collect();
    let has = |name: &str| members.iter().any(|(found, _)| found.expose() == name);
    if !has("uuid") {
        copies.push(("uuid".into(), uuid::Uuid::nil().to_string().as_str().into()));
    }
    if !has("created_at") {
        copies.push(("created_at".into(), at.into()));
    }
    conversation(Json::Object(copies), CardRule::Mask).is_ok()
}

/// Whether this tells of a party.
pub fn is_party(json: &Json) -> bool {
    json.depth() <= clean::DEEPEST - 2 && Reading::party(json.copy(), "").is_ok()
}

/// What stands in the place of what is gone.
pub fn gone(list: &str, began_at: Time) -> Json {
    match list {
        "dialog" => Json::Object(vec![("type".into(), "text".into()), ("start".into(), began_at.into())]),
        "analysis" => Json::Object(vec![("type".into(), GONE.into())]),
        _ => Json::Object(Vec::new()),
    }
}

/// How a document is read, and what that has changed so far.
pub struct Reading {
    cards: CardRule,
    /// What was changed.
    pub changes: Changes,
    /// When it began, if it is what a call has kept.
    kept: Option<Time>,
}

impl Reading {
    fn conversation(&mut self, document: Json) -> Result<Conversation> {
        let mut fields = Fields::of(document, "")?;
        let uuid =
            fields.uuid("uuid")?.ok_or_else(|| fields.refuse("uuid", "a conversation needs an id; add its UUID"))?;
        fields.word("vcon", &VERSIONS)?;
        let parties =
            self.each(fields.list("parties", MOST_PARTIES)?, "parties", |_, json, path| Self::party(json, path))?;
        let (created_at, updated_at) = (fields.time("created_at")?, fields.time("updated_at")?);
        let subject = fields.text("subject", TEXT)?;
        let (extensions, critical) = (fields.texts("extensions", MOST_NAMES)?, fields.texts("critical", MOST_NAMES)?);
        if let Some(at) = critical.iter().position(|name| !UNDERSTOOD.contains(&name.expose())) {
            let message = "it must not be read without an extension that is not known here";
            return Err(Error::invalid(format!("critical[{at}]"), message));
        }
        let earlier = Self::earlier(&mut fields)?;
        if !fields.list("group", MOST_NAMES)?.is_empty() {
            return Err(fields.refuse("group", "conversations within a conversation are not read; send each by itself"));
        }
        let dialogs = fields.list("dialog", MOST_DIALOGS + self.room())?;
        let counts = (parties.len(), dialogs.len());
        let dialog = self.each(dialogs, "dialog", |reading, json, path| dialog(reading, json, path, counts))?;
        let attachments = fields.list("attachments", MOST_ATTACHMENTS + self.room())?;
        let counts = (parties.len(), dialog.len(), attachments.len());
        let listed = fields.list("analysis", MOST_ANALYSES + self.room())?;
        let analysis = self.each(listed, "analysis", |reading, json, path| reading.analysis(json, path, counts))?;
        let attachments =
            self.each(attachments, "attachments", |reading, json, path| reading.attachment(json, path, counts))?;
        let began = dialog.iter().map(|dialog| dialog.start).min();
        let created_at = created_at.or(updated_at).or(began);
        let created_at = created_at.ok_or_else(|| fields.refuse("created_at", "it does not say when it was made"))?;
        self.changes.zones += fields.zones;
        let others = fields.rest();
        Ok(Conversation {
            uuid,
            created_at,
            updated_at,
            subject,
            extensions,
            critical,
            earlier,
            parties,
            dialog,
            analysis,
            attachments,
            others,
        })
    }

    fn room(&self) -> usize {
        self.kept.map_or(0, |_| ROOM)
    }

    fn each<T>(
        &mut self,
        items: Vec<Json>,
        name: &str,
        mut read: impl FnMut(&mut Self, Json, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut one = |(at, item)| {
            let path = format!("{name}[{at}]");
            match (read(self, item, &path), self.kept) {
                (Err(_), Some(began_at)) => read(self, gone(name, began_at), &path),
                (read, _) => read,
            }
        };
        items.into_iter().enumerate().map(&mut one).collect()
    }

    /// What it was made from: `amended` was once `appended`, and both were once there with nothing in them.
    fn earlier(fields: &mut Fields) -> Result<Option<Earlier>> {
        let mut found = None;
        for name in ["redacted", "amended", "appended"] {
            let Some(json) = fields.take(name) else { continue };
            if matches!(&json, Json::Object(members) if members.is_empty()) {
                continue;
            }
            let mut inner = Fields::of(json, name)?;
            let redaction = inner.text("type", LABEL)?;
            if name == "redacted" && redaction.is_none() {
                return Err(inner.refuse("type", "it does not say what kind of redaction it is"));
            }
            if found.is_some() {
                return Err(fields.refuse(name, "it is made from one conversation, not from two; leave one out"));
            }
            found = Some(Earlier {
                redaction: if name == "redacted" { redaction } else { None },
                uuid: inner.uuid("uuid")?,
                url: address(&mut inner)?,
                hashes: inner.texts("content_hash", MOST_NAMES)?,
            });
        }
        Ok(found)
    }

    fn party(json: Json, path: &str) -> Result<Party> {
        let mut fields = Fields::of(json, path)?;
        let mut party = Party { role: role(&mut fields)?, ..Party::default() };
        for name in PARTY {
            let aliases: &[&str] = if name == "mailto" { &["mailto", "email"] } else { &[name] };
            // What proves a caller's number is longer than anything else.
            if let Some(text) = fields.any_text(aliases, if name == "stir" { 16 << 10 } else { LABEL })? {
                party.told.push((name, text));
            }
        }
        if let Some(civic) = fields.take("civicaddress") {
            let mut inner = Fields::of(civic, &fields.at("civicaddress"))?;
            for name in CIVIC {
                if let Some(text) = inner.text(name, LABEL)? {
                    party.civic.push((name.into(), text));
                }
            }
        }
        party.others = fields.rest();
        Ok(party)
    }

    fn analysis(&mut self, json: Json, path: &str, counts: (usize, usize, usize)) -> Result<Analysis> {
        let mut fields = Fields::of(json, path)?;
        let kind = fields.text("type", LABEL)?;
        Ok(Analysis {
            kind: kind
                .ok_or_else(|| fields.refuse("type", "it does not say what was made: transcript, summary, ..."))?,
            vendor: fields.text("vendor", LABEL)?,
            product: fields.text("product", LABEL)?,
            schema: fields.text("schema", LABEL)?,
            dialogs: fields.indices("dialog", counts.1)?,
            attachments: fields.indices("attachment", counts.2)?,
            about: None,
            content: self.content(&mut fields)?,
            others: fields.rest(),
        })
    }

    fn attachment(&mut self, json: Json, path: &str, counts: (usize, usize, usize)) -> Result<Attachment> {
        let mut fields = Fields::of(json, path)?;
        let purpose = fields.any_text(&["purpose", "type"], LABEL)?;
        let start = fields.time("start")?;
        // A writer has to tell both, and tells the first where there is none.
        let party = fields.index("party", counts.0.max(1))?.filter(|at| *at < counts.0);
        let dialog = fields.index("dialog", counts.1.max(1))?.filter(|at| *at < counts.1);
        let mut content = self.content(&mut fields)?;
        let mut basis = None;
        if purpose.as_ref().is_some_and(|purpose| purpose.expose() == LAWFUL_BASIS) {
            let message = "what the processing rests on is told as a JSON object";
            let Some(Body::Json(json)) = content.body.take() else { return Err(fields.refuse("body", message)) };
            basis = Some(self.basis(json, &fields.at("body"))?);
        }
        self.changes.zones += fields.zones;
        Ok(Attachment { purpose, start, party, dialog, content, basis, others: fields.rest() })
    }

    fn basis(&mut self, json: Json, path: &str) -> Result<LawfulBasis> {
        let mut fields = Fields::of(json, path)?;
        let basis = fields.word("lawful_basis", &BASES)?;
        let basis = basis.ok_or_else(|| fields.refuse("lawful_basis", "it does not say which basis there is"))?;
        let expiration = fields.time("expiration")?;
        let grants = fields.list("purpose_grants", MOST_NAMES)?;
        let grants = self.each(grants, &fields.at("purpose_grants"), |reading, json, path| {
            let mut fields = Fields::of(json, path)?;
            let purpose = fields.text("purpose", LABEL)?;
            let purpose = purpose.ok_or_else(|| fields.refuse("purpose", "it does not say what for"))?;
            let Some(Json::Bool(granted)) = fields.take("granted") else {
                return Err(fields.refuse("granted", "true or false is expected"));
            };
            let granted_at = fields.time("granted_at")?;
            reading.changes.zones += fields.zones;
            Ok(Grant { purpose, granted, granted_at, conditions: fields.texts("conditions", MOST_NAMES)? })
        })?;
        self.changes.zones += fields.zones;
        Ok(LawfulBasis { basis, expiration, grants, others: fields.rest() })
    }

    /// What was recorded or written. An older form names digests by `alg` and `signature`, and kinds by `mimetype`.
    pub fn content(&mut self, fields: &mut Fields) -> Result<Content> {
        let kind = if fields.has("mediatype") { "mediatype" } else { "mimetype" };
        let mediatype = fields.text(kind, LABEL)?;
        if mediatype.as_ref().is_some_and(|text| !is_mediatype(text.expose())) {
            return Err(fields.refuse(kind, "a media type is expected, as audio/wav"));
        }
        let filename = fields.text("filename", LABEL)?;
        let url = address(fields)?;
        let mut hashes = fields.texts("content_hash", MOST_NAMES)?;
        let (alg, signature) = (fields.text("alg", LABEL)?, fields.text("signature", LABEL)?);
        if let (Some(alg), Some(signature)) = (alg, signature) {
            let name = alg.expose().replace("SHA-", "sha").to_ascii_lowercase();
            hashes.push(format!("{name}-{}", signature.expose()).into());
        }
        if let Some(at) = hashes.iter().position(|hash| !is_hash(hash.expose())) {
            let field = format!("{}[{at}]", fields.at("content_hash"));
            return Err(Error::invalid(
                field,
                "a digest is expected: its algorithm, a dash, and base64url, as sha512-...",
            ));
        }
        let body = self.body(fields, mediatype.as_ref())?;
        Ok(Content { mediatype, filename, body, url, hashes })
    }

    fn body(&mut self, fields: &mut Fields, mediatype: Option<&Plain>) -> Result<Option<Body>> {
        let encoding = fields.word("encoding", &["base64url", "json", "none"])?;
        let Some(body) = fields.take("body") else { return Ok(None) };
        let body = match (encoding, body) {
            (Some("base64url"), Json::Text(text)) => {
                let bytes = decode(text.expose()).ok_or_else(|| fields.refuse("body", "it is not base64url"))?;
                return self.bytes(bytes, mediatype, fields).map(Some);
            }
            (Some("base64url"), _) => return Err(fields.refuse("body", "base64url is expected, in quotation marks")),
            (None | Some("none"), Json::Text(text)) if text.expose().len() > TEXT => {
                return Err(fields.refuse("body", "the text is too long; 4 MiB are the most"));
            }
            (None | Some("none"), Json::Text(text)) => Body::Text(text),
            (Some("json"), body) | (_, body @ (Json::List(_) | Json::Object(_))) => Body::Json(body),
            _ => return Err(fields.refuse("body", "a text is expected, in quotation marks, or a document")),
        };
        if matches!(&body, Body::Json(json) if json.repeats()) {
            return Err(fields.refuse("body", "a member has the same name as another one; which of them is meant?"));
        }
        Ok(Some(body))
    }

    /// Bytes that are text become text, which is looked through like any other. What has noughts in it is no text that anybody could
    /// look for names in: it stays as it is, unless there is in it what must not be kept.
    fn bytes(&mut self, bytes: Vec<u8>, mediatype: Option<&Plain>, fields: &Fields) -> Result<Body> {
        let is_text = mediatype.is_none_or(|kind| {
            let essence = essence(kind.expose());
            essence.starts_with("text/") || essence.ends_with("json") || essence.starts_with("message/")
        });
        let (bytes, path) = (SecretBytes::new(bytes), fields.at("body"));
        let utf8 = std::str::from_utf8(bytes.expose()).ok().filter(|_| is_text);
        if let Some(text) = utf8.filter(|text| text.len() <= TEXT && !text.contains('\0')) {
            let mut text = Plain::from(text);
            clean_text(&mut text, &path, self.cards, &mut self.changes)?;
            return Ok(Body::Text(text));
        }
        if mediatype.is_some_and(|kind| is_seen_or_heard(kind.expose())) {
            return Ok(Body::Bytes(bytes));
        }
        let unmarked = MARKS.iter().find_map(|mark| bytes.expose().strip_prefix(mark));
        let mut text = Plain::from(&*String::from_utf8_lossy(unmarked.unwrap_or(bytes.expose())));
        let before = self.changes;
        clean_text(&mut text, &path, self.cards, &mut self.changes)?;
        let fits = text.expose().len() <= TEXT;
        let says_so = fits && (utf8.is_some() || (is_text && mediatype.is_some()));
        if self.changes.cards == before.cards && !(says_so && self.changes != before) {
            self.changes = before;
            return Ok(Body::Bytes(bytes));
        }
        Ok(Body::Text(if fits { text } else { clean::CARD.into() }))
    }
}

/// What a text in UTF-16 begins with.
const MARKS: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

/// What a party is. Some systems tell it beside the format, and some by another word.
fn role(fields: &mut Fields) -> Result<Option<Role>> {
    let told = fields.text("role", LABEL)?;
    let aside = fields.peek("meta").and_then(|meta| meta.get("role")).and_then(Json::text);
    let Some(word) = told.as_ref().map(Plain::expose).or(aside) else { return Ok(None) };
    let word = word.to_ascii_lowercase();
    Ok(match word.as_str() {
        "contact" | "caller" => Some(Role::Customer),
        word => Role::ALL.into_iter().find(|role| role.name() == word),
    })
}

/// The parts of a postal address (RFC 5139).
const CIVIC: [&str; 17] = [
    "country", "a1", "a2", "a3", "a4", "a5", "a6", "prd", "pod", "sts", "hno", "hns", "lmk", "loc", "flr", "nam", "pc",
];

/// The schemes of addresses that the format has.
pub const SCHEMES: &[&str] = &["https", "http", "s3", "gs"];

/// Where something is.
fn address(fields: &mut Fields) -> Result<Option<Plain>> {
    let Some(text) = fields.text("url", URL)? else { return Ok(None) };
    match bare_address(text.expose(), SCHEMES) {
        Some(address) => Ok(Some(Plain::from(address))),
        None => Err(fields.refuse("url", "an address is expected, as https://example.com/call.wav")),
    }
}

/// Base64url, and what some write instead.
fn decode(text: &str) -> Option<Vec<u8>> {
    let tries = [&BASE64URL_NOPAD, &BASE64URL, &BASE64_NOPAD, &BASE64];
    tries.iter().find_map(|base| base.decode(text.as_bytes()).ok())
}

/// `text/plain` of `text/plain; charset=UTF-8`.
pub fn essence(mediatype: &str) -> String {
    mediatype.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether it is sound or pictures, of which bytes tell no numbers.
fn is_seen_or_heard(mediatype: &str) -> bool {
    matches!(essence(mediatype).split_once('/'), Some(("audio" | "image" | "video", _)))
}

fn is_mediatype(text: &str) -> bool {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c));
    essence(text).split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

fn is_hash(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric());
    let base = |c: u8| c.is_ascii_alphanumeric() || b"-_+/=".contains(&c);
    text.split_once('-').is_some_and(|(alg, digest)| word(alg) && !digest.is_empty() && digest.bytes().all(base))
}
