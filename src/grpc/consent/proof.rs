//! The rest of `ConsentService`: withdrawing by a link, and what is shown to people and auditors.

use super::super::parse;
use super::super::subject::subject_id;
use super::wire::wire_consent;
use crate::keys::statement;
use crate::model::{Error, Label, Result};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::consent::Check;
use crate::vault::page_size;

pub(super) async fn create_link(
    vault: &Vault,
    caller: &Caller,
    ask: v1::CreateWithdrawalLinkRequest,
) -> Result<v1::CreateWithdrawalLinkResponse> {
    let (subject, channel) = (subject_id(&ask.subject)?, parse::channel(ask.channel)?);
    Label::purpose(&ask.purpose)?;
    let link = vault.create_withdrawal_link(caller, subject, &ask.purpose, channel).await?;
    Ok(v1::CreateWithdrawalLinkResponse { link })
}

pub(super) async fn withdraw(
    vault: &Vault,
    caller: &Caller,
    ask: v1::WithdrawByLinkRequest,
) -> Result<v1::WithdrawByLinkResponse> {
    if ask.link.is_empty() {
        return Err(Error::invalid("link", "is missing"));
    }
    let withdrawn = vault.withdraw_by_link(caller, &ask.link, &ask.purpose).await?;
    Ok(v1::WithdrawByLinkResponse {
        purpose: withdrawn.purpose,
        state: withdrawn.state.number(),
        withdraw_time: withdrawn.since.map(parse::wire_time),
    })
}

pub(super) async fn prove(
    vault: &Vault,
    caller: &Caller,
    ask: v1::ProveConsentRequest,
) -> Result<v1::ProveConsentResponse> {
    Label::purpose(&ask.purpose)?;
    let check = Check {
        subject: subject_id(&ask.subject)?,
        purpose: ask.purpose,
        channel: parse::channel(ask.channel)?,
        at: ask.at.map(|time| parse::time("at", time)).transpose()?,
    };
    let bundle = vault.prove_consent(caller, check).await?;
    Ok(v1::ProveConsentResponse { json: statement::json(&bundle)?, bundle })
}

pub(super) async fn issue(
    vault: &Vault,
    caller: &Caller,
    ask: v1::IssueReceiptRequest,
) -> Result<v1::IssueReceiptResponse> {
    let issued = vault.issue_receipt(caller, subject_id(&ask.subject)?).await?;
    let json = statement::json(&issued.document)?;
    Ok(v1::IssueReceiptResponse { receipt: issued.id.to_string(), document: issued.document, json })
}

pub(super) async fn due(vault: &Vault, ask: v1::ListDueForReviewRequest) -> Result<v1::ListDueForReviewResponse> {
    let before = ask.before.map(|time| parse::time("before", time)).transpose()?;
    let from = Some(ask.page_token.as_str()).filter(|token| !token.is_empty()).map(str::parse).transpose()?;
    let (due, next) = vault.list_due(before, from, page_size(ask.page_size)?).await?;
    let due = due.into_iter().map(|due| v1::DueConsent {
        subject: due.subject.to_string(),
        consent: Some(wire_consent(&due.shown)),
        reason: due.reason as i32,
        due_time: Some(parse::wire_time(due.due_at)),
    });
    Ok(v1::ListDueForReviewResponse {
        due: due.collect(),
        next_page_token: next.map(|position| position.to_string()).unwrap_or_default(),
    })
}

pub(super) async fn audit(vault: &Vault, caller: &Caller) -> Result<v1::AuditConsentsResponse> {
    let report = vault.audit_consents(caller).await?;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let counts = report.counts.into_iter().map(|((purpose, state), number)| v1::ConsentCount {
        purpose,
        state: state.number(),
        count: count(number),
    });
    Ok(v1::AuditConsentsResponse {
        counts: counts.collect(),
        invalid_methods: count(report.invalid_methods),
        without_notice: count(report.without_notice),
        reveals_after_end: count(report.reveals_after_end),
        purposes_without_notice: report.purposes_without_notice,
        silent_collection_points: report.silent_points,
    })
}
