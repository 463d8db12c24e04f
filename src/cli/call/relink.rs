//! `lacuna call relink`.

use clap::ValueEnum;
use serde_json::json;

use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::table;
use crate::proto::v1;

/// Whose a call turned out to be.
#[derive(clap::Args)]
pub struct Relink {
    /// The call.
    call: String,
    /// The subject that it is recorded under
    #[arg(long, value_name = "SUBJECT")]
    from: String,
    /// Whose it is; nobody knows unless given
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    to: String,
    /// Why; kept with the audit entry
    #[arg(long, value_enum)]
    reason: Why,
    /// What shows it: a ticket; kept with the audit entry
    #[arg(long, value_name = "TICKET")]
    evidence: String,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Why a call is somebody else's, as `call_service.proto` documents it.
#[derive(Clone, Copy, ValueEnum)]
enum Why {
    /// The number has another holder than before
    NumberReassigned,
    /// Several people use the number
    NumberShared,
    /// Somebody presented a number that is not theirs
    NumberSpoofed,
    /// They were taken for somebody else
    Mistaken,
}

impl Why {
    const fn number(self) -> v1::RelinkReason {
        match self {
            Self::NumberReassigned => v1::RelinkReason::NumberReassigned,
            Self::NumberShared => v1::RelinkReason::NumberShared,
            Self::NumberSpoofed => v1::RelinkReason::NumberSpoofed,
            Self::Mistaken => v1::RelinkReason::Mistaken,
        }
    }
}

impl Relink {
    /// Says so, and tells whose the call is now.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::RelinkCallerRequest {
            call: self.call,
            from_subject: self.from,
            to_subject: self.to,
            reason: self.reason.number().into(),
            evidence: self.evidence,
            request_id: self.request_id,
        };
        let relinked = remote.open().await?.calls.relink_caller(request).await?.into_inner();
        let call = relinked.call.map(|call| call.call).unwrap_or_default();
        let json = json!({
            "call": call,
            "to_subject": relinked.to_subject,
            "pending_reason": relinked.pending_reason,
        });
        let rows = [("call", call), ("is of", relinked.to_subject), ("waits for", relinked.pending_reason)];
        Ok(Answer::new(json, table::record(&rows)))
    }
}
