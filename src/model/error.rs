//! The one error of the vault, free of any transport. `grpc/status.rs` alone turns it into a status.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Why something was refused or failed. The names are those of `lacuna.v1.ErrorReason`, which documents each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each value is documented once, in error_reason.proto")]
pub enum Reason {
    ApprovalClosed,
    ApprovalRequired,
    ApprovalUnknown,
    AuditUnavailable,
    BatchTooLarge,
    CallActive,
    CallConflict,
    CallUnknown,
    CallerDisabled,
    CallerMismatch,
    CallerUnknown,
    CardData,
    ClockDoubted,
    CollectionPointUnknown,
    ConsentEventUnknown,
    ConsentExpired,
    ConsentRefused,
    ConsentStateMismatch,
    ConsentWithdrawn,
    ConsumerUnknown,
    CursorLost,
    DeadlineExceeded,
    ErasurePending,
    ErasureUnknown,
    EtagMismatch,
    FourEyes,
    GuardianRequired,
    HoldReleased,
    HoldUnknown,
    Internal,
    InvalidMethod,
    KeyCustodianUnavailable,
    KeyRetired,
    LinkInvalid,
    LookupLimit,
    NoConsent,
    NoRecordingPermission,
    NotPermitted,
    NotProvisional,
    NotVerified,
    NoticeUnknown,
    Objected,
    Overloaded,
    PartConflict,
    PartErased,
    PartUnknown,
    ProfilingOff,
    PurposeBasisFixed,
    PurposeInactive,
    PurposeNotGranted,
    PurposeRequired,
    PurposeUnknown,
    ReconfirmDue,
    RequestMismatch,
    RetentionEnded,
    RevealBudget,
    RightAbsolute,
    RotationRunning,
    RotationUnknown,
    SealBroken,
    SourceRequired,
    StoreUnavailable,
    SubjectErased,
    SubjectRestricted,
    SubjectScheduled,
    SubjectUnknown,
    Suppressed,
    TokenExpired,
    TokenSpent,
    TokenUnknown,
    ValueInvalid,
    ValuePurged,
    ValueTooLarge,
}

/// A refusal or failure: a reason for programs, a sentence for people, and never a value of a person.
///
/// `message` and `metadata` reach the caller; `source` is for the operator's log only. None may hold plaintext.
pub struct Error {
    /// What went wrong, for programs.
    pub reason: Reason,
    /// What went wrong and what to do, for people: ids, counts and names of fields only.
    pub message: Cow<'static, str>,
    /// The input field at fault (`fields[2].value`), when there is one.
    pub field: Option<String>,
    /// Ids, times and counts that a program can act on.
    pub metadata: Vec<(&'static str, String)>,
    /// After how long the same call may succeed, when that is known.
    pub retry: Option<Duration>,
    /// What lies beneath, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What every floor returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its sentence.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), field: None, metadata: Vec::new(), retry: None, source: None }
    }

    /// Bad input in `field`: what is wrong with it, without the value.
    pub fn invalid(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::ValueInvalid, message).at(field)
    }

    /// Something that should never happen; the caller learns only that it did.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let mut error = Self::new(Reason::Internal, "internal error; the operator's log has the details");
        error.source = Some(source.into());
        error
    }

    /// The same refusal for another caller who shared the work. Of what lies beneath, each gets the words.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            reason: self.reason,
            message: self.message.clone(),
            field: self.field.clone(),
            metadata: self.metadata.clone(),
            retry: self.retry,
            source: self.source.as_ref().map(|source| source.to_string().into()),
        }
    }

    /// Whether this is a decision about what was asked, rather than a failure on the way, whose effect is unknown.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(
            self.reason,
            Reason::AuditUnavailable
                | Reason::DeadlineExceeded
                | Reason::Internal
                | Reason::KeyCustodianUnavailable
                | Reason::KeyRetired
                | Reason::Overloaded
                | Reason::SealBroken
                | Reason::StoreUnavailable
        )
    }

    /// Names the input field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the list in which the field at fault stands: `value` becomes `fields[2].value`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{prefix}.{field}"),
            None => prefix.to_owned(),
        });
        self
    }

    /// Adds one fact that a program can act on.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Says after how long the same call may succeed.
    #[must_use]
    pub const fn retry_in(mut self, delay: Option<Duration>) -> Self {
        self.retry = delay;
        self
    }

    /// Keeps what lies beneath, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl From<crate::batch::Failed> for Error {
    fn from(failed: crate::batch::Failed) -> Self {
        match failed {
            crate::batch::Failed::Full => {
                Self::new(Reason::Overloaded, "the vault has as much work at hand as it takes; try again with backoff")
            }
            crate::batch::Failed::FellOver => Self::internal("the work of a batch fell over"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self} {:?}", self.reason, self.metadata)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
