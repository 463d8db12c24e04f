//! From the wire to the model: what passes here is valid. And back.

use std::sync::Arc;

use prost_types::Timestamp;

use crate::crypto::SecretBytes;
use crate::model::{
    Channel, Content, Error, FieldType, Label, Reason, Redaction, Reference, RequestId, Result, Time, TokenFormat,
    TokenState, Value,
};
use crate::proto::v1::{self, field_input, update_token_request};
use crate::vault::token::{DEFAULT_CLASS, Field, MOST};

/// The most bytes that the values of one request may have together.
const LARGEST: usize = 8 << 20;

/// The most labels on a token.
const MOST_TAGS: usize = 10;

/// Refuses an empty list, or one of more than [`MOST`].
pub fn check_count(field: &'static str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid(field, "must hold at least one"));
    }
    check_most(field, count, MOST)
}

/// Refuses a list of more than `most`.
pub fn check_most(field: &'static str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    let error = Error::new(Reason::BatchTooLarge, format!("holds {count}; at most {most}"));
    Err(error.at(field).with("count", count).with("maximum", most))
}

/// Refuses values of more than [`LARGEST`] together.
pub fn check_size(fields: &[v1::FieldInput]) -> Result<()> {
    let size = |field: &v1::FieldInput| match &field.content {
        Some(field_input::Content::Value(text)) => text.len(),
        Some(field_input::Content::BytesValue(bytes)) => bytes.len(),
        None => 0,
    };
    if fields.iter().map(size).sum::<usize>() <= LARGEST {
        return Ok(());
    }
    let message = "the values are too large together; send them in several requests";
    Err(Error::new(Reason::ValueTooLarge, message).at("fields").with("maximum", LARGEST))
}

/// One value to be kept.
pub fn field(input: v1::FieldInput) -> Result<Field> {
    let kind = field_type(input.r#type)?;
    let content = match input.content {
        Some(field_input::Content::Value(text)) => Content::Text(text.into()),
        Some(field_input::Content::BytesValue(bytes)) => Content::Bytes(SecretBytes::new(bytes)),
        None => return Err(Error::invalid("value", "is missing")),
    };
    let class = if input.retention_class.is_empty() { DEFAULT_CLASS } else { &input.retention_class };
    if input.tags.len() > MOST_TAGS {
        return Err(Error::invalid("tags", "holds more than 10"));
    }
    Ok(Field {
        value: Arc::new(Value::parse(kind, content)?),
        format: format(input.format)?,
        class: Label::retention_class(class)?,
        deduplicate: input.deduplicate,
        tags: input.tags.iter().map(|tag| Label::tag(tag)).collect::<Result<_>>()?,
        expires_at: input.expire_time.map(|time| self::time("expire_time", time)).transpose()?,
        single_use: input.single_use,
    })
}

/// The new value of a token.
pub fn content(content: Option<update_token_request::Content>) -> Result<Content> {
    match content {
        Some(update_token_request::Content::Value(text)) => Ok(Content::Text(text.into())),
        Some(update_token_request::Content::BytesValue(bytes)) => Ok(Content::Bytes(SecretBytes::new(bytes))),
        None => Err(Error::invalid("value", "is missing")),
    }
}

/// What a value is. The numbers of the wire are those of the model.
pub fn field_type(number: i32) -> Result<FieldType> {
    let known = i16::try_from(number).ok().and_then(FieldType::from_number);
    known.ok_or_else(|| Error::invalid("type", "is missing, or not a FieldType that this vault knows"))
}

/// A channel; every one when none is named.
pub fn channel(number: i32) -> Result<Channel> {
    Channel::from_number(number).ok_or_else(|| Error::invalid("channel", "is not a Channel that this vault knows"))
}

fn format(number: i32) -> Result<TokenFormat> {
    match v1::TokenFormat::try_from(number) {
        Ok(v1::TokenFormat::Unspecified | v1::TokenFormat::Opaque) => Ok(TokenFormat::Opaque),
        Ok(v1::TokenFormat::Shaped) => Ok(TokenFormat::Shaped),
        Err(_) => Err(Error::invalid("format", "is not a TokenFormat that this vault knows")),
    }
}

/// How much of a value is shown.
pub fn redaction(number: i32) -> Result<Redaction> {
    match v1::Redaction::try_from(number) {
        Ok(v1::Redaction::Unspecified | v1::Redaction::PlainText) => Ok(Redaction::PlainText),
        Ok(v1::Redaction::Masked) => Ok(Redaction::Masked),
        Ok(v1::Redaction::LastFour) => Ok(Redaction::LastFour),
        Ok(v1::Redaction::Redacted) => Ok(Redaction::Redacted),
        Err(_) => Err(Error::invalid("redaction", "is not a Redaction that this vault knows")),
    }
}

/// A token's format, on the wire.
pub const fn wire_format(format: TokenFormat) -> v1::TokenFormat {
    match format {
        TokenFormat::Opaque => v1::TokenFormat::Opaque,
        TokenFormat::Shaped => v1::TokenFormat::Shaped,
    }
}

/// A token's state, on the wire.
pub const fn wire_token_state(state: TokenState) -> v1::TokenState {
    match state {
        TokenState::Active => v1::TokenState::Active,
        TokenState::Expired => v1::TokenState::Expired,
        TokenState::Spent => v1::TokenState::Spent,
        TokenState::Deleted => v1::TokenState::Deleted,
        TokenState::Erased => v1::TokenState::Erased,
        TokenState::Purged => v1::TokenState::Purged,
        TokenState::Ended => v1::TokenState::RetentionEnded,
    }
}

/// Text that may be left out.
pub fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A ticket that may be left out.
pub fn reference(field: &'static str, text: &str) -> Result<Option<Reference>> {
    optional(text).map(|text| Reference::parse(field, text)).transpose()
}

/// A request id that may be left out.
pub fn request_id(text: &str) -> Result<Option<RequestId>> {
    optional(text).map(RequestId::parse).transpose()
}

/// An etag that may be left out: the number of a version.
pub fn etag(text: &str) -> Result<Option<u64>> {
    let number = |text: &str| text.parse().map_err(|_| Error::invalid("etag", "is not an etag of this vault"));
    optional(text).map(number).transpose()
}

/// A moment.
pub fn time(field: &'static str, time: Timestamp) -> Result<Time> {
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000))
        .filter(|_| (0..1_000_000_000).contains(&time.nanos))
        .filter(|micros| (0..=Time::LAST.micros()).contains(micros));
    micros.map(Time::from_micros).ok_or_else(|| Error::invalid(field, "must lie between the years 1970 and 9999"))
}

/// A moment, on the wire.
pub fn wire_time(time: Time) -> Timestamp {
    let (seconds, micros) = (time.micros().div_euclid(1_000_000), time.micros().rem_euclid(1_000_000));
    Timestamp { seconds, nanos: i32::try_from(micros * 1_000).unwrap_or_default() }
}

/// The id after which a page begins.
pub fn page_token<T>(text: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
    let refuse = |_| Error::invalid("page_token", "is not a next_page_token of this list");
    optional(text).map(|text| parse(text).map_err(refuse)).transpose()
}
