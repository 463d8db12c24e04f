//! What is written in files and rows: configuration, policies, documents of consent, the journal, rows to be imported.

use std::fmt::Debug;
use std::io::Cursor;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Named, Repeated, halves, text};
use crate::cli::consent::import::row::Defaults;
use crate::cli::consent::import::source::{Format, Source};
use crate::cli::import;
use crate::config;
use crate::crypto::Secret;
use crate::formats::media;
use crate::model::{
    CollectionPoint, ConsentEvent, Notice, OutboxBody, PartId, Purpose, RetentionClass, Standing, Time,
};
use crate::policy::{Policies, PolicyFile};
use crate::vault::journal;
use crate::vault::journal::record::Record;

pub const TARGETS: &[Named] = &[
    ("config", |bytes| drop(config::parse(text(bytes)))),
    ("policies", policies),
    ("consent_events", |bytes| consent_events(text(bytes))),
    ("catalogue", |bytes| catalogue(text(bytes))),
    ("journal", journal),
    ("token_rows", token_rows),
    ("consent_rows_csv", |bytes| consent_rows(Format::Csv, bytes)),
    ("media", envelopes),
    ("consent_rows_jsonl", |bytes| consent_rows(Format::Jsonl, bytes)),
];

/// What was read is written as one document and no other.
fn document<T: Debug + PartialEq + Serialize + DeserializeOwned>(text: &str) -> Option<T> {
    let read: T = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&read).unwrap_or_default();
    assert_eq!(serde_json::from_str::<T>(&written).ok().as_ref(), Some(&read), "it does not read back: {written}");
    Some(read)
}

fn policies(bytes: &[u8]) {
    let (one, other) = halves(bytes);
    let file = |name: &str, bytes| PolicyFile { name: name.to_owned(), text: text(bytes).to_owned() };
    let files = [file("one.cedar", one), file("other.cedar", other)];
    match Policies::parse(Some(&files)) {
        Ok(policies) => assert!(policies.named().iter().all(|policy| !policy.name.is_empty())),
        Err(error) => assert!(error.to_string().contains(".cedar"), "which file? {error}"),
    }
}

fn consent_events(text: &str) {
    let Some(event) = document::<ConsentEvent>(text) else { return };
    let written = event.document().unwrap_or_default();
    assert_eq!(ConsentEvent::read(&written).ok().as_ref(), Some(&event));
    let _either = event.check();
    for events in [vec![event.clone()], vec![event.clone(), event]] {
        let _standing = Standing::of(&events, Time::from_micros(0));
    }
}

fn catalogue(text: &str) {
    if let Some(purpose) = document::<Purpose>(text) {
        let _either = purpose.check();
    }
    if let Some(notice) = document::<Notice>(text) {
        let _either = notice.check();
    }
    if let Some(point) = document::<CollectionPoint>(text) {
        let _either = point.check();
    }
    if let Some(class) = document::<RetentionClass>(text) {
        let _either = class.check();
    }
    document::<OutboxBody>(text);
    document::<Standing>(text);
}

fn journal(bytes: &[u8]) {
    for record in journal::parse(bytes).1.into_iter().flatten() {
        let _either: bool = match record {
            Record::Document(definition) => definition.stored().is_ok(),
            Record::Subject(person) => person.terms().is_ok(),
            Record::ConsentEvent(recorded) => recorded.stored().is_ok(),
            Record::Erasure(scheduled) => scheduled.erasure().is_ok(),
            Record::Suppression(listed) => listed.name.len() == 32,
            Record::Caller(admission) => admission.change(1).seq == 1,
            Record::Hold(case) => case.kept().is_ok(),
        };
    }
}

fn token_rows(bytes: &[u8]) {
    let defaults = import::Defaults { subject: None, source: Some("import:fuzz".to_owned()) };
    for line in text(bytes).lines() {
        if let Ok(request) = import::request(line, &defaults) {
            assert!(!request.source.is_empty() || line.contains("source"));
        }
    }
}

/// Each row is one call, or says what is wrong with it.
fn consent_rows(format: Format, bytes: &[u8]) {
    let source = Source::over("rows", format, b',', Box::new(Cursor::new(bytes.to_vec())));
    let mut rows = source.start(16);
    let (mut last, mut ended) = (0, false);
    while let Some(read) = rows.blocking_recv() {
        assert!(!ended, "something comes after the end");
        let Ok(read) = read else {
            ended = true;
            continue;
        };
        assert!(read.line > last, "line {} after {last}", read.line);
        last = read.line;
        if let Ok(mut wanted) = read.row.and_then(|row| row.wanted(&Defaults::default())) {
            wanted.name("sub_a".to_owned());
            assert!(!wanted.request.request_id.is_empty());
        }
    }
}

/// What opens is what this key sealed, and it is sealed anew and opened again. What does not open wrote no more than it was given.
fn envelopes(bytes: &[u8]) {
    let key = Secret::build(|key| (0..).zip(key).for_each(|(at, byte)| *byte = at));
    let mut plain = Vec::new();
    if let Ok((part, length)) = media::decrypt(&key, None, &mut &*bytes, &mut plain) {
        assert_eq!(media::Header::read(&mut &*bytes).ok().map(|header| header.part), Some(part));
        assert_eq!(media::plain_size(bytes.len() as u64), Some(length));
    }
    assert!(plain.len() <= bytes.len());
    let (part, mut envelope, mut again) = (PartId::from_bytes([1; 16]), Vec::new(), Vec::new());
    let sealed = media::encrypt(&key, part, &Repeated::default(), &mut &*bytes, &mut envelope);
    let opened = media::decrypt(&key, Some(part), &mut &*envelope, &mut again);
    assert_eq!((sealed.ok(), opened.ok()), (Some(bytes.len() as u64), Some((part, bytes.len() as u64))));
    assert!(again == bytes, "another recording came out");
    if let Some(last) = envelope.last_mut() {
        *last ^= 1;
    }
    assert!(media::decrypt(&key, Some(part), &mut &*envelope, &mut Vec::new()).is_err());
}
