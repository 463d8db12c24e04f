//! Parts of calls, to the wire and from it.

use std::sync::Arc;

use super::super::landing::Landing;
use super::super::{parse, status};
use super::wire::MOST_FIELDS;
use crate::crypto::SecretBytes;
use crate::crypto::derive::sha256;
use crate::formats::bare_address;
use crate::formats::vcon::PIECE;
use crate::model::{
    CallId, Content, Error, FieldType, Label, MOST_PARTS, MediaType, PartBody, PartId, PartKind, Reason, Reference,
    Result, Value, contains_card_data,
};
use crate::policy::Caller;
use crate::proto::v1;
use crate::proto::v1::attach_part_request::Body;
use crate::vault::Vault;
use crate::vault::call::{ATTACH, Attach, EraseParts, ShownPart};

/// Most bytes of an address.
const LONGEST_ADDRESS: usize = 2048;

/// The schemes of addresses that are taken.
const SCHEMES: &[&str] = &["https", "http", "s3", "gs", "az", "abfss", "wasbs", "sftp", "ftps", "rtsps", "file"];

/// A part to be attached.
pub fn attach(ask: v1::AttachPartRequest) -> Result<Attach> {
    let call = CallId::parse(&ask.call)?;
    let kind = kind(ask.kind).map_err(|error| error.at("kind"))?;
    let party = u8::try_from(ask.party).ok().filter(|party| *party > 0);
    let party = party.ok_or_else(|| Error::invalid("party", "is missing, or no party of this call"))?;
    let class = Label::retention_class(parse::optional(&ask.retention_class).unwrap_or_else(|| kind.class()))?;
    let digest = digest(&ask.sha256)?;
    let (body, content) = match ask.body {
        None => (PartBody::Elsewhere, None),
        Some(Body::Uri(text)) => (PartBody::Address, Some(address(text)?)),
        Some(Body::Text(text)) => (PartBody::Text, Some(written(text)?)),
        Some(Body::Content(bytes)) => (PartBody::Bytes, Some(plain(bytes)?)),
    };
    let media_type = MediaType::parse(&ask.media_type)?;
    if media_type.as_str() == PIECE {
        let message = "is that of pieces of a conversation, which is taken in as a whole: by ImportVcon";
        return Err(Error::invalid("media_type", message));
    }
    if let (Some(content), Some(digest), false) = (&content, digest, body.is_elsewhere())
        && sha256(&[content.raw()]) != digest
    {
        return Err(Error::invalid("sha256", "is not that of what was given"));
    }
    Ok(Attach {
        of: None,
        deed: ATTACH,
        part: parse::optional(&ask.part).map(PartId::parse).transpose()?,
        call,
        party,
        kind,
        class,
        media_type,
        sha256: digest,
        occurred_at: ask.time.map(|time| parse::time("time", time)).transpose()?,
        body,
        content,
        request: parse::request_id(&ask.request_id)?,
    })
}

/// The kinds of parts that a question names.
pub fn kinds(numbers: &[i32]) -> Result<Vec<PartKind>> {
    if numbers.len() > MOST_FIELDS {
        return Err(Error::invalid("part_kinds", "holds more than 10"));
    }
    numbers.iter().map(|number| kind(*number)).collect::<Result<_>>().map_err(|error| error.at("part_kinds"))
}

fn kind(number: i32) -> Result<PartKind> {
    PartKind::from_number(number).ok_or_else(|| Error::invalid("kind", "is missing, or not known"))
}

fn digest(bytes: &[u8]) -> Result<Option<[u8; 32]>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| Error::invalid("sha256", "expected 32 bytes"))
}

pub(super) fn address(text: String) -> Result<Arc<Value>> {
    let text = SecretBytes::from(text);
    let known = str::from_utf8(text.expose()).ok().filter(|text| text.len() <= LONGEST_ADDRESS);
    let bare = known.and_then(|text| bare_address(text, SCHEMES));
    let bare = bare.ok_or_else(|| {
        let message = "expected an address with a host, such as https://example.com/call.wav, at most 2048 bytes";
        Error::invalid("uri", message)
    })?;
    let value = Value::parse(FieldType::Text, Content::Text(bare.into()));
    value.map(Arc::new).map_err(|error| error.at("uri"))
}

fn written(text: String) -> Result<Arc<Value>> {
    let value = Value::parse(FieldType::Text, Content::Text(text.into()));
    value.map(Arc::new).map_err(|error| error.at("text"))
}

/// Bytes are not looked into, unless they are text.
fn plain(bytes: Vec<u8>) -> Result<Arc<Value>> {
    let bytes = SecretBytes::new(bytes);
    let text = str::from_utf8(bytes.expose()).unwrap_or_default();
    if contains_card_data(text) {
        let message = "holds what reads as payment card data, which the vault must not hold; remove it, or mask it";
        return Err(Error::new(Reason::CardData, message).at("content"));
    }
    let value = Value::parse(FieldType::Bytes, Content::Bytes(bytes));
    value.map(Arc::new).map_err(|error| error.at("content"))
}

/// Destroys parts.
pub async fn erase(vault: &Vault, caller: &Caller, ask: v1::ErasePartsRequest) -> Result<v1::ErasePartsResponse> {
    let call = CallId::parse(&ask.call)?;
    if ask.parts.is_empty() {
        return Err(Error::invalid("parts", "must hold at least one"));
    }
    parse::check_most("parts", ask.parts.len(), MOST_PARTS)?;
    let part = |(at, name): (usize, &String)| PartId::parse(name).map_err(|error| error.at(format!("parts[{at}]")));
    let ask = EraseParts {
        call,
        parts: ask.parts.iter().enumerate().map(part).collect::<Result<_>>()?,
        reason: Reference::parse("reason", &ask.reason)?,
        request: parse::request_id(&ask.request_id)?,
        validate_only: ask.validate_only,
    };
    let erased = vault.erase_parts(caller, ask).await?;
    let (run, receipt) =
        erased.run.map(|run| (run.id.to_string(), run.receipt.unwrap_or_default())).unwrap_or_default();
    Ok(v1::ErasePartsResponse {
        parts: erased.parts.into_iter().map(shown).collect(),
        run,
        pending_reason: erased.waiting.unwrap_or_default(),
        receipt,
    })
}

/// The key of a part.
pub async fn media_key(
    vault: &Vault,
    caller: &Caller,
    ask: v1::GetMediaKeyRequest,
    landing: &Landing,
) -> Result<v1::GetMediaKeyResponse> {
    let part = PartId::parse(&ask.part)?;
    let justification = parse::reference("justification", &ask.justification)?;
    let (key, subject, flight) = vault.media_key_of(caller, part, ask.purpose, justification).await?;
    landing.carry(flight)?;
    let media_key = key.expose().to_vec();
    Ok(v1::GetMediaKeyResponse { part: part.to_string(), media_key, subject: subject.to_string() })
}

/// A part, on the wire.
pub fn shown(shown: ShownPart) -> v1::CallPart {
    use v1::call_part::Outcome;
    let ShownPart { part, gone, token, outcome } = shown;
    let body = part.body;
    let outcome = outcome.map(|outcome| {
        let content = match outcome {
            Ok(content) => content,
            Err(error) => return Outcome::Error(status::to_item_status(&error)),
        };
        match (body, str::from_utf8(content.expose())) {
            (PartBody::Bytes, _) => Outcome::Content(content.expose().to_vec()),
            (PartBody::Address, Ok(text)) => Outcome::Uri(text.to_owned()),
            (_, Ok(text)) => Outcome::Text(text.to_owned()),
            (_, Err(_)) => Outcome::Error(status::to_item_status(&Error::internal("a text that is not UTF-8"))),
        }
    });
    v1::CallPart {
        part: part.id.to_string(),
        party: part.party.into(),
        kind: part.kind.number(),
        retention_class: part.class,
        media_type: part.media_type,
        sha256: part.sha256.map(Vec::from).unwrap_or_default(),
        time: part.occurred_at.map(parse::wire_time),
        create_time: Some(parse::wire_time(part.created_at)),
        gone: gone.map(status::reason_name).unwrap_or_default(),
        token,
        outcome,
    }
}
