//! The rest of `ConsentService`: withdrawing by a link, and what is shown to people and auditors.

use super::parse;
use super::subject::subject_id;
use crate::keys::statement;
use crate::model::{Error, Label, Result};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::consent::Check;

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
