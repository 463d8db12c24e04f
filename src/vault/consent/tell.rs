//! What is told to other systems of a change of the catalogue or the ledger.

use super::library::read;
use crate::crypto::Random;
use crate::model::{ConsentEvent, EventKind, OutboxEvent, PermissionCause, Result, Time};
use crate::store::consent::{Document, DocumentKind, Recorded};

/// Of entries of a person's ledger that were recorded together. `switched` says that they have changed the person's
/// objection to all direct marketing. That somebody was asked, or has read something, changes no answer, unless it takes the
/// place of an entry that did.
pub(super) fn of_entries(added: &[Recorded], switched: bool, now: Time, random: &dyn Random) -> Vec<OutboxEvent> {
    let asks = |kind| matches!(kind, EventKind::Request | EventKind::Defer | EventKind::Acknowledge);
    let counts = |event: &ConsentEvent| event.supersedes.is_some() || !asks(event.kind);
    let entries = added.iter().map(|recorded| &recorded.event);
    let mut told: Vec<_> =
        entries.filter(|event| counts(event)).map(|event| OutboxEvent::of_consent(event, now, random)).collect();
    let subject = added.first().filter(|_| switched).map(|recorded| recorded.event.subject);
    told.extend(subject.map(|subject| OutboxEvent::of_switch(subject, PermissionCause::Suppression, now, random)));
    told
}

/// Of a document that was added to the catalogue.
pub(in crate::vault) fn of_document(
    document: &Document,
    now: Time,
    random: &dyn Random,
) -> Result<Option<OutboxEvent>> {
    Ok(match document.kind {
        DocumentKind::Purpose => Some(OutboxEvent::of_purpose(&read(&document.document)?, now, random)),
        DocumentKind::Notice => Some(OutboxEvent::of_notice(&read(&document.document)?, now, random)),
        DocumentKind::Point | DocumentKind::Retention => None,
    })
}
