//! What callers write in one word or line: ids, cursors, moments, labels, values.

use std::fmt::{Debug, Display};

use super::{Named, Repeated, halves, text};
use crate::cli::document::Period;
use crate::cli::value as argument;
use crate::formats::bare_address;
use crate::grpc::parse;
use crate::keys::sink::{Entry, Name};
use crate::model::{
    CallId, ConsentEventId, Content, Cursor, ErasureId, EventId, FieldType, HoldId, Jurisdiction, KeyEventId, Label,
    MediaType, OpaqueToken, PartId, Presented, ReceiptId, Redaction, Reference, Region, RequestId, RetentionRunId,
    RotationId, SourceCallId, SubjectId, Time, Value, contains_card_number, looks_shaped, redact, shape,
};
use crate::store::journal::Mark;
use crate::trace::Parent;
use crate::vault::audit::list::{EntryId, Position};
use crate::vault::audit::outside;
use crate::vault::consent::review;

pub const TARGETS: &[Named] = &[
    ("ids", |bytes| ids(text(bytes))),
    ("cursors", |bytes| cursors(text(bytes))),
    ("names", |bytes| names(text(bytes))),
    ("marks", marks),
    ("parents", |bytes| parents(text(bytes))),
    ("times", |bytes| times(text(bytes))),
    ("labels", |bytes| labels(text(bytes))),
    ("values", values),
    ("sealed_values", sealed_values),
    ("presented", presented),
];

/// There is one spelling.
fn canonical<T: Display, E>(text: &str, read: Result<T, E>) {
    if let Ok(read) = read {
        assert_eq!(read.to_string(), text, "another spelling is taken");
    }
}

/// What is written reads back as what was read.
fn reads_back<T: Debug + Display + PartialEq>(text: &str, read: impl Fn(&str) -> Option<T>) {
    if let Some(first) = read(text) {
        assert_eq!(read(&first.to_string()).as_ref(), Some(&first));
    }
}

fn ids(text: &str) {
    canonical(text, SubjectId::parse(text));
    canonical(text, ConsentEventId::parse(text));
    canonical(text, CallId::parse(text));
    canonical(text, ReceiptId::parse(text));
    canonical(text, ErasureId::parse(text));
    canonical(text, EventId::parse(text));
    canonical(text, RetentionRunId::parse(text));
    canonical(text, HoldId::parse(text));
    canonical(text, PartId::parse(text));
    canonical(text, RotationId::parse(text));
    canonical(text, KeyEventId::parse(text));
    canonical(text, OpaqueToken::parse(text));
    canonical(text, EntryId::parse(text));
    reads_back(text, |text| RequestId::parse(text).ok());
    assert!(OpaqueToken::parse(text).is_err() || !looks_shaped(text), "a token of two kinds");
    if let Ok(etag) = parse::etag(text) {
        assert!(etag.is_some() || text.is_empty());
    }
}

fn cursors(text: &str) {
    canonical(text, Cursor::parse("cursor", text));
    reads_back(text, |text| Position::parse(text).ok());
    reads_back(text, |text| text.parse::<review::Position>().ok());
    let page = parse::page_token(text, SubjectId::parse);
    assert!(page.is_err() || page.is_ok_and(|page| page.is_some() != text.is_empty()));
}

/// Names of what is in sinks.
fn names(text: &str) {
    canonical(text, Name::parse(text).ok_or(()));
    canonical(text, Entry::parse(text).ok_or(()));
    assert!(outside::parse(text).is_none() || text.starts_with("audit-"));
}

fn marks(bytes: &[u8]) {
    let Some((kind, key)) = bytes.split_first() else { return };
    if let Ok(mark) = Mark::of((*kind).into(), text(key)) {
        let (kind, key) = mark.key();
        assert_eq!(Mark::of(kind, &key).ok(), Some(mark));
    }
}

/// What a caller says of its trace, which goes into lines of the log: digits in hex and nothing else.
fn parents(text: &str) {
    if Parent::parse(text).is_some() {
        let lengths: Vec<usize> = text.split('-').map(str::len).take(4).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        let told: String = text.split('-').take(4).collect();
        assert!(told.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert!(text.len() == 55 || !text.starts_with("00"), "only later versions tell more");
    }
}

fn times(text: &str) {
    reads_back(text, Time::parse);
    let (seconds, nanos) = text.split_once(' ').unwrap_or_default();
    if let (Ok(seconds), Ok(nanos)) = (seconds.parse(), nanos.parse()) {
        let given = prost_types::Timestamp { seconds, nanos };
        if let Ok(time) = parse::time("time", given) {
            assert_eq!(parse::time("time", parse::wire_time(time)).ok(), Some(time));
            assert!(Time::parse(&time.to_string()) == Some(time), "what the API takes can be written down");
        }
    }
    let _either = (argument::time(text), text.parse::<Period>());
}

/// They outlive people, so they must not be able to name one.
fn labels(text: &str) {
    let labels = [Label::source, Label::tag, Label::kind, Label::retention_class, Label::purpose, Label::consumer];
    let taken = labels.iter().any(|label| label(text).is_ok_and(|label| label.as_str() == text));
    let reference = Reference::parse("reason", text).is_ok_and(|reference| reference.as_str() == text);
    if taken || reference {
        assert!(!contains_card_number(text) && !text.contains('@') && text.chars().count() <= 128);
        let digits = |run: &str| run.len() > 8 && run.bytes().all(|byte| byte.is_ascii_digit());
        assert!(!text.split(|c: char| !c.is_ascii_digit()).any(digits), "a number of somebody");
    }
    if let Ok(name) = SourceCallId::parse("source_call_id", text) {
        assert!(name.as_str() == text && !contains_card_number(text) && !text.contains(['@', '+']));
    }
    if let Ok(kind) = MediaType::parse(text) {
        assert!(kind.as_str() == text && !contains_card_number(text) && !text.contains(['@', ';', ' ']));
    }
    if let Some(address) = bare_address(text, &["https", "s3"]) {
        assert!(!address.contains(['?', '#']) && bare_address(&address, &["https", "s3"]).as_ref() == Some(&address));
    }
    if let Ok(jurisdiction) = Jurisdiction::parse(text) {
        assert_eq!((jurisdiction.as_str(), jurisdiction.country().len()), (text, 2));
    }
    let _either = argument::field_type(text);
}

fn content(kind: FieldType, bytes: &[u8]) -> Content {
    let bytes = crate::crypto::SecretBytes::new(bytes.to_vec());
    if kind == FieldType::Bytes { Content::Bytes(bytes) } else { Content::Text(bytes) }
}

/// The first byte says of which type.
fn values(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let Some(kind) = FieldType::from_number(i16::from(*kind) % 16) else { return };
    let value = match Value::parse(kind, content(kind, bytes)) {
        Ok(value) => value,
        Err(error) => {
            let told = format!("{error} {error:?}");
            assert!(text(bytes).len() < 24 || !told.contains(text(bytes)), "the refusal repeats the value");
            return;
        }
    };
    assert_eq!(value.raw(), bytes, "what was given comes back");
    let opened = Value::decode(kind, value.encode().expose());
    assert!(opened.is_some_and(|opened| opened.raw() == bytes && opened.normal() == value.normal()));
    if let Some(normal) = value.normal()
        && let Ok(again) = Value::parse(kind, content(kind, normal))
    {
        assert_eq!(again.normal(), Some(normal), "a normal form has another normal form");
    }
    assert!(redact(&value, Redaction::Redacted).expose() == b"[redacted]");
    for redaction in Redaction::ALL {
        let shown = redact(&value, redaction);
        assert!(kind == FieldType::Bytes || std::str::from_utf8(shown.expose()).is_ok());
    }
    if let Ok(token) = shape(&value, &Repeated::default()) {
        assert!(looks_shaped(&token) && !contains_card_number(&token));
    }
    let _either = argument::read(&format!("text={}", text(bytes).trim_start_matches(['@', '-'])));
}

/// What a value is sealed as: the type, and what was opened.
fn sealed_values(bytes: &[u8]) {
    let (kind, bytes) = bytes.split_first().map_or((0, bytes), |(kind, rest)| (i16::from(*kind) % 16, rest));
    let Some(kind) = FieldType::from_number(kind) else { return };
    if let Some(value) = Value::decode(kind, bytes) {
        let again = value.encode();
        let again = Value::decode(kind, again.expose());
        assert!(again.is_some_and(|again| again.raw() == value.raw() && again.normal() == value.normal()));
        for redaction in Redaction::ALL {
            drop(redact(&value, redaction));
        }
    }
    let (one, other) = halves(bytes);
    assert!(!contains_card_number(text(one)) || contains_card_number(&format!("{} {}", text(one), text(other))));
}

/// Whatever an exchange presents, a number is looked for in normal forms.
fn presented(bytes: &[u8]) {
    let (region, number) = halves(bytes);
    let region = Region::named(text(region)).or_else(|| Region::of(text(region)));
    if let Ok(Presented::Number(forms)) = Presented::parse(text(number), region) {
        assert!((1..=3).contains(&forms.len()));
        for form in forms {
            assert!(form.kind() == FieldType::Phone && form.normal() == Some(form.raw()), "a form that is not normal");
        }
    }
}
