//! `lacuna call erase-parts`.

use data_encoding::BASE64;
use serde_json::json;

use super::part;
use crate::cli::client::Remote;
use crate::cli::confirm::{self, Sure};
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::{retention, table};
use crate::proto::v1;

/// Which parts are destroyed.
#[derive(clap::Args)]
pub struct EraseParts {
    /// The call.
    call: String,
    /// A part of it; may be said several times
    #[arg(long = "part", value_name = "PART", required = true)]
    parts: Vec<String>,
    /// A legal ground or a ticket; kept with the receipt
    #[arg(long, value_name = "TICKET")]
    reason: String,
    #[command(flatten)]
    sure: Sure,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

impl EraseParts {
    /// Destroys them, and tells what became of them.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        confirm::erasing(&self.sure, "the call's id", &self.call)?;
        let request = v1::ErasePartsRequest {
            call: self.call,
            parts: self.parts,
            reason: self.reason,
            request_id: self.request_id,
            validate_only: self.sure.dry_run,
        };
        let erased = remote.open().await?.calls.erase_parts(request).await?.into_inner();
        let json = json!({
            "parts": erased.parts.iter().map(part::as_json).collect::<Vec<_>>(),
            "run": erased.run,
            "pending_reason": erased.pending_reason,
            "receipt": BASE64.encode(&erased.receipt),
        });
        let next = if self.sure.dry_run {
            confirm::LOOKED.to_owned()
        } else {
            retention::proof(&erased.run, &erased.pending_reason, &erased.receipt)
        };
        let run = table::record(&[("run", erased.run), ("waits for", erased.pending_reason)]);
        Ok(Answer::new(json, format!("{}\n\n{run}{next}", part::table(&erased.parts, &|_| false))))
    }
}
