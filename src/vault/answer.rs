//! Answers that are kept, so that a request that is sent again is answered as the first time.

use super::Vault;
use crate::model::{Error, Reason, RequestId, Result, SubjectId, Time};
use crate::policy::Caller;
use crate::store::Tx;
use crate::store::request::Answer;

impl Vault {
    /// The answer that the same request got before, if it did.
    pub(super) async fn answered(
        &self,
        caller: &Caller,
        deed: &'static str,
        request: Option<RequestId>,
    ) -> Result<Option<Answer>> {
        if request.is_none() {
            return Ok(None);
        }
        given(&mut *self.custody.store().read().await?, &caller.name, deed, request).await
    }
}

/// The same within a transaction. Once the subject is locked, the answer to a request that was sent twice at the same time
/// is there.
pub(super) async fn given(
    tx: &mut dyn Tx,
    caller: &str,
    deed: &'static str,
    request: Option<RequestId>,
) -> Result<Option<Answer>> {
    let Some(id) = request else { return Ok(None) };
    let answer = tx.answers(&[(caller.to_owned(), id)]).await?.into_iter().next();
    match answer {
        Some(answer) if answer.deed != deed => Err(mismatch(id)),
        answer => Ok(answer),
    }
}

/// What is answered, and kept if the request has a name.
pub(super) struct Keep<'k> {
    /// Who asks.
    pub caller: &'k str,
    /// The rpc.
    pub deed: &'static str,
    /// The name of the request.
    pub request: Option<RequestId>,
    /// Whom it is about.
    pub subject: Option<SubjectId>,
}

/// Keeps an answer in the transaction that made it true.
pub(super) async fn keep(tx: &mut dyn Tx, of: &Keep<'_>, answer: String, now: Time) -> Result<()> {
    let Some(id) = of.request else { return Ok(()) };
    let (caller, deed) = (of.caller.to_owned(), of.deed.to_owned());
    tx.insert_answers(&[Answer { caller, id, deed, subject: of.subject, answer, created_at: now }]).await
}

/// The refusal for a request id that was used for something else.
pub(super) fn mismatch(id: RequestId) -> Error {
    Error::new(
        Reason::RequestMismatch,
        "this request_id was used by another kind of call, or for another subject or token",
    )
    .with("request_id", id)
}
