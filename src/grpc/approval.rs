//! Approvals on the wire.

use super::access::wire_redaction;
use super::parse;
use crate::keys::checkpoint::hex;
use crate::model::{Approval, ApprovalId, Result};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::{Vault, page_size};

/// Lists requests.
pub async fn list(vault: &Vault, ask: v1::ListApprovalsRequest) -> Result<v1::ListApprovalsResponse> {
    let before = parse::page_token(&ask.page_token, ApprovalId::parse)?;
    let (found, next) = vault.list_approvals(before, ask.pending, page_size(ask.page_size)?).await?;
    Ok(v1::ListApprovalsResponse {
        approvals: found.into_iter().map(|approval| wire(vault, approval)).collect(),
        next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
    })
}

/// Answers one.
pub async fn get(vault: &Vault, approval: &str) -> Result<v1::Approval> {
    Ok(wire(vault, vault.approval(ApprovalId::parse(approval)?).await?))
}

/// Grants one, or refuses it.
pub async fn decide(vault: &Vault, by: &Caller, approval: &str, granted: bool, reason: &str) -> Result<v1::Approval> {
    let (id, reason) = (ApprovalId::parse(approval)?, parse::reference("reason", reason)?);
    Ok(wire(vault, vault.decide_approval(by, id, granted, reason.as_ref()).await?))
}

fn wire(vault: &Vault, approval: Approval) -> v1::Approval {
    let state = vault.approval_state(&approval);
    v1::Approval {
        approval: approval.id.to_string(),
        caller: approval.bulk.caller,
        purpose: approval.bulk.purpose,
        redaction: wire_redaction(approval.bulk.redaction).into(),
        channel: approval.bulk.channel.number(),
        justification: approval.bulk.justification,
        tokens: approval.bulk.tokens.cast_signed(),
        digest: hex(&approval.bulk.digest),
        create_time: Some(parse::wire_time(approval.requested_at)),
        expire_time: Some(parse::wire_time(approval.expires_at)),
        state: state.number(),
        decided_by: approval.decided_by,
        decide_time: approval.decided_at.map(parse::wire_time),
        reason: approval.reason,
        use_time: approval.used_at.map(parse::wire_time),
    }
}
