//! Links by which people withdraw.

use std::io::Read as _;

use anyhow::Context as _;
use serde_json::json;

use super::{About, shown};
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::print::{self, Answer};
use crate::cli::table;
use crate::proto::v1;

/// Longer than any link.
const LONGEST: u64 = 4096;

/// Makes a link. For people it is nothing but the link, so that a script can take it as it is.
pub async fn create(remote: &Remote, about: About) -> Result<Answer> {
    let channel = about.channel();
    let request = v1::CreateWithdrawalLinkRequest { subject: about.subject, purpose: about.purpose, channel };
    let link = remote.open().await?.consents.create_withdrawal_link(request).await?.into_inner().link;
    Ok(Answer::new(json!({ "link": link }), link))
}

/// Withdraws by a link; `-` keeps it out of the shell's history.
pub async fn follow(remote: &Remote, link: String, purpose: String) -> Result<Answer> {
    let link = if link == "-" { from_input()? } else { link };
    let request = v1::WithdrawByLinkRequest { link, purpose };
    let withdrawn = remote.open().await?.consents.withdraw_by_link(request).await?.into_inner();
    let json = json!({
        "purpose": withdrawn.purpose,
        "state": print::enum_name(withdrawn.state, v1::ConsentState::as_str_name),
        "withdraw_time": print::time(withdrawn.withdraw_time),
    });
    let human = table::record(&[
        ("purpose", withdrawn.purpose.clone()),
        ("consent", shown::state(withdrawn.state)),
        ("since", table::time(withdrawn.withdraw_time)),
    ]);
    Ok(Answer::new(json, human))
}

fn from_input() -> Result<String> {
    let mut link = String::new();
    std::io::stdin().lock().take(LONGEST).read_to_string(&mut link).context("cannot read the link")?;
    Ok(link.trim().to_owned())
}
