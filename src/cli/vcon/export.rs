//! `lacuna vcon export`: a call of a vault as a conversation.

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;

use super::out::Out;
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::print::{self, Answer};
use crate::proto::v1;

/// What `vcon export` writes.
#[derive(clap::Args)]
pub struct Export {
    /// The call
    call: String,
    /// How much of it
    #[arg(long, value_enum, default_value = "full")]
    view: View,
    /// The subject whom it is for, where it is redacted
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    #[arg(required_if_eq("view", "redacted"))]
    for_subject: String,
    /// What it is needed for
    #[arg(long)]
    purpose: String,
    /// Ticket or case that says why; kept with the audit entry
    #[arg(long, value_name = "TICKET", default_value = "", hide_default_value = true)]
    justification: String,
    #[command(flatten)]
    out: Out,
}

#[derive(Clone, Copy, ValueEnum)]
enum View {
    /// All that the caller may see.
    Full,
    /// What one party may have.
    Redacted,
}

impl Export {
    /// Writes the conversation.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        let view = match self.view {
            View::Full => v1::VconView::Full,
            View::Redacted => v1::VconView::Redacted,
        };
        let out = self.out.begin()?;
        let ask = v1::ExportVconRequest {
            call: self.call.clone(),
            view: view.into(),
            for_subject: self.for_subject,
            purpose: self.purpose,
            justification: self.justification,
        };
        let exported = remote.open().await?.calls.export_vcon(ask).await?.into_inner();
        let Some(out) = out else {
            if !exported.left_out.is_empty() {
                eprintln!("Not in it: {}", exported.left_out.join(", "));
            }
            let text = String::from_utf8(exported.document).context("the document is no text")?;
            return print::line(&text);
        };
        let out = out.write(&exported.document)?;
        let mut human = format!("{} is {}", out.display(), self.call);
        if !exported.left_out.is_empty() {
            human = format!("{human}, without {}", exported.left_out.join(", "));
        }
        let json = json!({ "file": out, "call": self.call, "left_out": exported.left_out });
        remote.output.show(&Answer::new(json, human))
    }
}
