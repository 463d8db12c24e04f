//! `lacuna approval`: four eyes on what a caller wants to read in bulk.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use crate::proto::v1;

/// What can be done with requests for approval.
#[derive(Subcommand)]
pub enum Verb {
    /// List requests, the newest first.
    List {
        /// Only those that wait for a decision
        #[arg(long)]
        pending: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Describe a request: who wants to read how much, and what came of it.
    Show {
        /// The request.
        approval: String,
    },
    /// Let another caller have what it asked for, once.
    Grant(Decide),
    /// Refuse a request, or take back an approval that was not used.
    Refuse(Decide),
}

/// A decision.
#[derive(clap::Args)]
pub struct Decide {
    /// The request.
    approval: String,
    /// Why: a code or a ticket
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let mut vault = remote.open().await?;
    let answer = match verb {
        Verb::List { pending, paging } => {
            let page = async |page_size, page_token| {
                let request = v1::ListApprovalsRequest { pending, page_size, page_token };
                let response = vault.access.list_approvals(request).await?.into_inner();
                Ok((response.approvals, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let approvals: Vec<Value> = listed.entries.iter().map(as_json).collect();
            let json = json!({ "approvals": approvals, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("request", requests))
        }
        Verb::Show { approval } => {
            let request = v1::GetApprovalRequest { approval };
            shown(vault.access.get_approval(request).await?.into_inner().approval)
        }
        Verb::Grant(Decide { approval, reason }) => {
            let request = v1::GrantApprovalRequest { approval, reason };
            shown(vault.access.grant_approval(request).await?.into_inner().approval)
        }
        Verb::Refuse(Decide { approval, reason }) => {
            let request = v1::RefuseApprovalRequest { approval, reason };
            shown(vault.access.refuse_approval(request).await?.into_inner().approval)
        }
    };
    remote.output.show(&answer)
}

fn shown(approval: Option<v1::Approval>) -> Answer {
    let approval = approval.unwrap_or_default();
    let id = &approval.approval;
    let next = match approval.state() {
        v1::ApprovalState::Pending => format!("Let them have it with: lacuna approval grant {id}"),
        v1::ApprovalState::Granted => format!("{} may ask for exactly the same again, once.", approval.caller),
        v1::ApprovalState::Used => format!("{} has used it.", approval.caller),
        v1::ApprovalState::Refused => "Refused.".to_owned(),
        v1::ApprovalState::Expired | v1::ApprovalState::Unspecified => "Its time is over.".to_owned(),
    };
    let human = table::record(&[
        ("approval", id.clone()),
        ("state", state(approval.state)),
        ("caller", approval.caller.clone()),
        ("purpose", approval.purpose.clone()),
        ("shown", table::short(&redaction(&approval), "REDACTION_")),
        ("channel", if approval.channel == 0 { String::new() } else { table::channel(approval.channel) }),
        ("justification", approval.justification.clone()),
        ("tokens", approval.tokens.to_string()),
        ("digest", approval.digest.clone()),
        ("asked", table::time(approval.create_time)),
        ("expires", table::time(approval.expire_time)),
        ("decided by", approval.decided_by.clone()),
        ("decided", table::time(approval.decide_time)),
        ("reason", approval.reason.clone()),
        ("used", table::time(approval.use_time)),
    ]);
    Answer::new(json!({ "approval": as_json(&approval) }), format!("{human}\n{next}"))
}

fn redaction(approval: &v1::Approval) -> Value {
    print::enum_name(approval.redaction, v1::Redaction::as_str_name)
}

fn state(number: i32) -> String {
    table::short(&print::enum_name(number, v1::ApprovalState::as_str_name), "APPROVAL_STATE_")
}

fn as_json(approval: &v1::Approval) -> Value {
    json!({
        "approval": approval.approval,
        "caller": approval.caller,
        "purpose": approval.purpose,
        "redaction": redaction(approval),
        "channel": print::enum_name(approval.channel, v1::Channel::as_str_name),
        "justification": approval.justification,
        "tokens": approval.tokens,
        "digest": approval.digest,
        "create_time": print::time(approval.create_time),
        "expire_time": print::time(approval.expire_time),
        "state": print::enum_name(approval.state, v1::ApprovalState::as_str_name),
        "decided_by": approval.decided_by,
        "decide_time": print::time(approval.decide_time),
        "reason": approval.reason,
        "use_time": print::time(approval.use_time),
    })
}

fn requests(approvals: &[v1::Approval]) -> String {
    let head = ["approval", "state", "caller", "purpose", "tokens", "justification", "asked", "expires", "decided by"];
    table::table(
        &head,
        approvals.iter().map(|approval| {
            vec![
                approval.approval.clone(),
                state(approval.state),
                approval.caller.clone(),
                approval.purpose.clone(),
                approval.tokens.to_string(),
                approval.justification.clone(),
                table::time(approval.create_time),
                table::time(approval.expire_time),
                approval.decided_by.clone(),
            ]
        }),
    )
}
