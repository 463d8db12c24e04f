//! Whose a call turned out to be.

use std::sync::Arc;

use super::wire;
use crate::grpc::parse;
use crate::model::{CallId, Error, Reference, RelinkReason, Result, SubjectId};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::audit::call::carry;
use crate::vault::call::Relink;

/// Says that a call was somebody else's.
pub async fn caller(
    vault: &Arc<Vault>,
    caller: Caller,
    ask: v1::RelinkCallerRequest,
) -> Result<v1::RelinkCallerResponse> {
    let no_reason = || Error::invalid("reason", "is missing, or no RelinkReason that this vault knows");
    let ask = Relink {
        call: CallId::parse(&ask.call)?,
        from: SubjectId::parse(&ask.from_subject).map_err(|error| error.at("from_subject"))?,
        to: parse::optional(&ask.to_subject)
            .map(SubjectId::parse)
            .transpose()
            .map_err(|error| error.at("to_subject"))?,
        reason: RelinkReason::from_number(ask.reason).ok_or_else(no_reason)?,
        evidence: Reference::parse("evidence", &ask.evidence)?,
        request: parse::request_id(&ask.request_id)?,
    };
    let reads = vault.may_read_calls(&caller);
    // The work goes on if the caller hangs up: what has begun is finished.
    let doing = Arc::clone(vault);
    let relinked = tokio::spawn(carry(async move { doing.relink_caller(&caller, ask).await }));
    let relinked = relinked.await.map_err(Error::internal)??;
    let call = wire::call(vault.describe_call(relinked.call));
    Ok(v1::RelinkCallerResponse {
        call: Some(if reads { call } else { wire::of_nobody(call) }),
        to_subject: relinked.to.to_string(),
        pending_reason: relinked.waiting.unwrap_or_default(),
    })
}
