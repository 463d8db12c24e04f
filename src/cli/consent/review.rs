//! What should be looked at, and what an auditor is told.

use std::fmt::Write as _;

use prost_types::Timestamp;
use serde_json::{Value, json};

use super::shown;
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::page::Paging;
use crate::cli::print::{self, Answer};
use crate::cli::table;
use crate::proto::v1;

/// Lists the consents that are due.
pub async fn due(remote: &Remote, before: Option<Timestamp>, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListDueForReviewRequest { before, page_size, page_token };
        let response = vault.consents.list_due_for_review(request).await?.into_inner();
        Ok((response.due, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let json = json!({
        "due": listed.entries.iter().map(due_consent).collect::<Vec<_>>(),
        "next_page_token": listed.next_page_token,
    });
    Ok(Answer::new(json, listed.human("due consent", due_table)))
}

/// Reports on all consents. That there is something to be looked at does not make the command fail.
pub async fn audit(remote: &Remote) -> Result<Answer> {
    let report = remote.open().await?.consents.audit_consents(v1::AuditConsentsRequest {}).await?.into_inner();
    let count = |count: &v1::ConsentCount| {
        json!({
            "purpose": count.purpose,
            "state": print::enum_name(count.state, v1::ConsentState::as_str_name),
            "count": count.count,
        })
    };
    let json = json!({
        "counts": report.counts.iter().map(count).collect::<Vec<_>>(),
        "invalid_methods": report.invalid_methods,
        "without_notice": report.without_notice,
        "purposes_without_notice": report.purposes_without_notice,
        "silent_collection_points": report.silent_collection_points,
        "reveals_after_end": report.reveals_after_end,
    });
    Ok(Answer::new(json, audited(&report)))
}

fn audited(report: &v1::AuditConsentsResponse) -> String {
    let rows = report
        .counts
        .iter()
        .map(|count| vec![count.purpose.clone(), shown::state(count.state), count.count.to_string()]);
    let mut text = match report.counts.as_slice() {
        [] => "No consents.".to_owned(),
        _ => table::table(&["purpose", "state", "consents"], rows),
    };
    let none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let findings = table::record(&[
        ("by a method that is none", report.invalid_methods.to_string()),
        ("in force without a notice", report.without_notice.to_string()),
        ("purposes without a notice", none(&report.purposes_without_notice)),
        ("silent collection points", none(&report.silent_collection_points)),
        ("revealed after the end", report.reveals_after_end.to_string()),
    ]);
    let _ = write!(text, "\n\n{findings}");
    text
}

fn due_table(due: &[v1::DueConsent]) -> String {
    let rows = due.iter().map(|due| {
        let consent = due.consent.clone().unwrap_or_default();
        vec![
            due.subject.clone(),
            consent.purpose,
            table::channel(consent.channel),
            shown::state(consent.state),
            table::short(&print::enum_name(due.reason, v1::ReviewReason::as_str_name), "REVIEW_REASON_"),
            table::time(due.due_time),
        ]
    });
    table::table(&["subject", "purpose", "channel", "consent", "why", "due"], rows)
}

fn due_consent(due: &v1::DueConsent) -> Value {
    json!({
        "subject": due.subject,
        "consent": due.consent.as_ref().map(shown::consent),
        "reason": print::enum_name(due.reason, v1::ReviewReason::as_str_name),
        "due_time": print::time(due.due_time),
    })
}
