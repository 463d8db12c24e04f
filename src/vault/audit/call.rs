//! The call that is being answered, and whether the audit knows of it.
//!
//! What a deed records it records itself, with all that it knows. Whatever it did not record is recorded when the call ends,
//! before the answer leaves: so no rpc can be forgotten, and no refusal. [`UNRECORDED`] lists what is not.

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Entry, Touched, outcome};
use crate::model::{Reason, Result};
use crate::policy::Caller;
use crate::trace;
use crate::vault::Vault;
use crate::vault::write::Record;

/// The rpcs that leave no entry when they succeed, each with the reason. Refusals by them are recorded like others.
pub const UNRECORDED: [(&str, &str); 3] = [
    ("AcknowledgeEvent", "the acknowledgement is kept with its time and caller, and shown by ListDeliveries"),
    ("BatchCheckPermission", "as CheckPermission"),
    (
        "CheckPermission",
        "answers yes or no about a pseudonym, before every contact with a person; the reveal that follows is recorded",
    ),
];

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// One call.
pub struct Call {
    vault: Arc<Vault>,
    /// The name of whoever calls.
    caller: String,
    /// Whether an entry tells that it was made.
    recorded: AtomicBool,
    /// Whether one tells that it was refused.
    refused: AtomicBool,
    /// Whom it has told of.
    touched: Mutex<Vec<Touched<'static>>>,
}

impl Call {
    /// A call that begins.
    #[must_use]
    pub fn begin(vault: Arc<Vault>, caller: &Caller) -> Arc<Self> {
        Arc::new(Self::of(vault, caller.name.clone()))
    }

    fn of(vault: Arc<Vault>, caller: String) -> Self {
        let touched = Mutex::default();
        Self { vault, caller, recorded: AtomicBool::new(false), refused: AtomicBool::new(false), touched }
    }

    /// One question of a stream of them.
    #[must_use]
    pub fn item(&self) -> Arc<Self> {
        Arc::new(Self::of(Arc::clone(&self.vault), self.caller.clone()))
    }

    /// The call that is being answered, if it came through a door.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CALL.try_with(Arc::clone).ok()
    }

    /// Does something as part of this call.
    pub fn scope<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        CALL.scope(self, work)
    }

    /// Records what the deed has not: that it was done, or that it was refused. Answers what the caller is told.
    ///
    /// # Errors
    /// `AuditUnavailable` instead of an answer that could not be recorded.
    pub async fn settle<T>(&self, rpc: &'static str, outcome: Result<T>) -> Result<T> {
        let mut touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        let refusal = match &outcome {
            Ok(_) => None,
            // Where somebody was looked at, even that the question made no sense tells of them.
            Err(error) if is_refusal(error.reason) || is_answer(error.reason) && !touched.is_empty() => {
                Some(outcome::refused(error.reason))
            }
            Err(_) => return outcome,
        };
        let known = match &refusal {
            Some(_) => self.refused.load(Ordering::Acquire),
            None => self.recorded.load(Ordering::Acquire) || UNRECORDED.iter().any(|(name, _)| *name == rpc),
        };
        if known {
            return outcome;
        }
        if let Some(reason) = &refusal {
            for one in &mut touched {
                one.outcome = Cow::Owned(reason.clone());
            }
        }
        let entry = Entry { refused: refusal, touched, ..Entry::new(&self.caller, rpc, self.vault.clock.now()) };
        self.vault.record(Record::of(entry)).await?;
        outcome
    }
}

/// Whether the reason is one for which somebody was refused something, and not that the question made no sense or the vault
/// could not answer any. Questions that make no sense are not recorded: they tell of nobody, and would fill the log.
const fn is_refusal(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::AuditUnavailable
            | Reason::BatchTooLarge
            | Reason::CallerUnknown
            | Reason::CardData
            | Reason::Internal
            | Reason::KeyCustodianUnavailable
            | Reason::Overloaded
            | Reason::PurposeRequired
            | Reason::SourceRequired
            | Reason::StoreUnavailable
            | Reason::ValueInvalid
            | Reason::ValueTooLarge
    )
}

/// Whether the reason says something of the question, and not that the vault could not answer any.
const fn is_answer(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::AuditUnavailable
            | Reason::Internal
            | Reason::KeyCustodianUnavailable
            | Reason::Overloaded
            | Reason::StoreUnavailable
    )
}

/// Goes on with something as part of the present call, in a task of its own.
pub fn carry<F: Future + Send + 'static>(work: F) -> impl Future<Output = F::Output> + Send + 'static
where
    F::Output: Send,
{
    let call = Call::current();
    trace::carry(async move {
        match call {
            Some(call) => call.scope(work).await,
            None => work.await,
        }
    })
}

/// Notes whom the present call tells of, for its entry.
pub fn touch(touched: impl IntoIterator<Item = Touched<'static>>) {
    // What the vault does by itself answers nobody.
    let _ = CALL.try_with(|call| call.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(touched));
}

/// Notes that an entry of the present call is durable.
pub fn note(refused: bool) {
    let _ = CALL.try_with(|call| {
        call.recorded.store(true, Ordering::Release);
        call.refused.fetch_or(refused, Ordering::AcqRel);
    });
}
