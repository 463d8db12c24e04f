//! Consents, permissions and events, as people and programs read them.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::cli::print;
use crate::cli::table::{self, channel};
use crate::proto::v1;

/// What is permitted: a row for each purpose, a column for each channel, the reason where it is not. Empty where a
/// purpose does not use a channel.
pub fn permissions(consents: &[v1::Consent]) -> String {
    let channels: BTreeSet<i32> = consents.iter().map(|consent| consent.channel).collect();
    let names: Vec<String> = channels.iter().map(|number| channel(*number)).collect();
    let head: Vec<&str> = std::iter::once("purpose").chain(names.iter().map(String::as_str)).collect();
    // They come purpose by purpose.
    let rows = consents.chunk_by(|one, next| one.purpose == next.purpose).map(|consents| {
        let cell = |number: &i32| {
            consents.iter().find(|consent| consent.channel == *number).map(permitted).unwrap_or_default()
        };
        let purpose = consents.first().map(|consent| consent.purpose.clone()).unwrap_or_default();
        std::iter::once(purpose).chain(channels.iter().map(cell)).collect()
    });
    table::table(&head, rows)
}

/// The same with how each consent stands, one a row.
pub fn consents_table(consents: &[v1::Consent]) -> String {
    let rows = consents.iter().map(|consent| {
        vec![
            consent.purpose.clone(),
            channel(consent.channel),
            permitted(consent),
            state(consent.state),
            table::time(consent.since),
            table::time(consent.valid_until),
            consent.last_event.clone(),
        ]
    });
    table::table(&["purpose", "channel", "permitted", "consent", "since", "until", "event"], rows)
}

fn permitted(consent: &v1::Consent) -> String {
    let permission = consent.permission.clone().unwrap_or_default();
    if permission.allowed { "yes".to_owned() } else { permission.reason }
}

/// Events, one a row.
pub fn events_table(events: &[v1::ConsentEvent]) -> String {
    let rows = events.iter().map(|event| {
        vec![
            event.consent_event.clone(),
            event.purpose.clone(),
            channel(event.channel),
            kind(event.kind),
            state(event.state),
            table::time(event.effective_time),
            event.caller.clone(),
        ]
    });
    table::table(&["event", "purpose", "channel", "what", "consent", "when", "recorded by"], rows)
}

/// How a consent stands; nothing when nothing was recorded.
pub fn state(number: i32) -> String {
    table::short(&print::enum_name(number, v1::ConsentState::as_str_name), "CONSENT_STATE_")
}

fn kind(number: i32) -> String {
    table::short(&print::enum_name(number, v1::ConsentEventKind::as_str_name), "CONSENT_EVENT_KIND_")
}

/// A permission, as JSON.
pub fn permission(permission: &v1::Permission) -> Value {
    json!({
        "allowed": permission.allowed,
        "reason": permission.reason,
        "basis": print::enum_name(permission.basis, v1::LawfulBasis::as_str_name),
        "evidence_event": permission.evidence_event,
        "purpose_version": permission.purpose_version,
        "notice_version": permission.notice_version,
        "valid_until": print::time(permission.valid_until),
        "state": print::enum_name(permission.state, v1::ConsentState::as_str_name),
    })
}

/// A consent, as JSON.
pub fn consent(consent: &v1::Consent) -> Value {
    json!({
        "purpose": consent.purpose,
        "channel": print::enum_name(consent.channel, v1::Channel::as_str_name),
        "state": print::enum_name(consent.state, v1::ConsentState::as_str_name),
        "since": print::time(consent.since),
        "valid_until": print::time(consent.valid_until),
        "review_time": print::time(consent.review_time),
        "objected": consent.objected,
        "last_event": consent.last_event,
        "permission": consent.permission.as_ref().map(permission),
    })
}

/// An event, as JSON.
pub fn event(event: &v1::ConsentEvent) -> Value {
    let evidence = |evidence: &v1::ConsentEvidence| json!({ "kind": evidence.kind, "sha256": HEXLOWER.encode(&evidence.sha256), "token": evidence.token });
    json!({
        "consent_event": event.consent_event,
        "subject": event.subject,
        "purpose": event.purpose,
        "purpose_version": event.purpose_version,
        "channel": print::enum_name(event.channel, v1::Channel::as_str_name),
        "kind": print::enum_name(event.kind, v1::ConsentEventKind::as_str_name),
        "state": print::enum_name(event.state, v1::ConsentState::as_str_name),
        "method": print::enum_name(event.method, v1::ConsentMethod::as_str_name),
        "affirmative_action": event.affirmative_action,
        "explicit_consent": event.explicit_consent,
        "actor": print::enum_name(event.actor, v1::ConsentActor::as_str_name),
        "notice": event.notice,
        "notice_version": event.notice_version,
        "language": event.language,
        "notice_sha256": HEXLOWER.encode(&event.notice_sha256),
        "collection_point": event.collection_point,
        "effective_time": print::time(event.effective_time),
        "record_time": print::time(event.record_time),
        "valid_until": print::time(event.valid_until),
        "evidence": event.evidence.iter().map(evidence).collect::<Vec<_>>(),
        "bundled": event.bundled,
        "reason": event.reason,
        "supersedes": event.supersedes,
        "caller": event.caller,
        "previous_hash": HEXLOWER.encode(&event.previous_hash),
        "hash": HEXLOWER.encode(&event.hash),
    })
}
