//! The only place where an [`Error`] becomes a gRPC status.

use std::collections::HashMap;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::model::{Error, Reason};
use crate::proto::google::rpc;
use crate::proto::v1::ErrorReason;
use crate::trace;

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "lacuna";

/// The status of a call that failed. What lies beneath an error goes to the log, not to the caller.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    trace::note_reason(&reason_name(error.reason));
    status(error)
}

fn status(error: &Error) -> Status {
    let (code, reason) = code(error.reason);
    if matches!(code, Code::Internal | Code::DataLoss | Code::Unavailable) {
        tracing::error!(reason = ?error.reason, ?error, "a call failed");
    }
    let metadata: HashMap<String, String> =
        error.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut details = ErrorDetails::with_error_info(name(reason), DOMAIN, metadata);
    if let Some(field) = &error.field {
        details.add_bad_request_violation(field, error.message.clone());
    }
    if let Some(delay) = error.retry {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code, error.to_string(), details)
}

/// The same for one item of a batch.
#[must_use]
pub fn to_item_status(error: &Error) -> rpc::Status {
    let status = status(error);
    rpc::Status::decode(status.details()).unwrap_or_else(|_| rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The name of a reason as callers see it.
#[must_use]
pub fn reason_name(reason: Reason) -> String {
    name(code(reason).1)
}

fn name(reason: ErrorReason) -> String {
    reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned()
}

const fn code(reason: Reason) -> (Code, ErrorReason) {
    match reason {
        Reason::ApprovalClosed => (Code::FailedPrecondition, ErrorReason::ApprovalClosed),
        Reason::ApprovalRequired => (Code::FailedPrecondition, ErrorReason::ApprovalRequired),
        Reason::ApprovalUnknown => (Code::NotFound, ErrorReason::ApprovalUnknown),
        Reason::AuditUnavailable => (Code::Unavailable, ErrorReason::AuditUnavailable),
        Reason::BatchTooLarge => (Code::InvalidArgument, ErrorReason::BatchTooLarge),
        Reason::CallActive => (Code::FailedPrecondition, ErrorReason::CallActive),
        Reason::CallConflict => (Code::AlreadyExists, ErrorReason::CallConflict),
        Reason::CallUnknown => (Code::NotFound, ErrorReason::CallUnknown),
        Reason::CallerDisabled => (Code::PermissionDenied, ErrorReason::CallerDisabled),
        Reason::CallerMismatch => (Code::FailedPrecondition, ErrorReason::CallerMismatch),
        Reason::CallerUnknown => (Code::Unauthenticated, ErrorReason::CallerUnknown),
        Reason::CardData => (Code::InvalidArgument, ErrorReason::CardData),
        Reason::ClockDoubted => (Code::FailedPrecondition, ErrorReason::ClockDoubted),
        Reason::CollectionPointUnknown => (Code::FailedPrecondition, ErrorReason::CollectionPointUnknown),
        Reason::ConsentEventUnknown => (Code::NotFound, ErrorReason::ConsentEventUnknown),
        Reason::ConsentExpired => (Code::PermissionDenied, ErrorReason::ConsentExpired),
        Reason::ConsentRefused => (Code::PermissionDenied, ErrorReason::ConsentRefused),
        Reason::ConsentStateMismatch => (Code::FailedPrecondition, ErrorReason::ConsentStateMismatch),
        Reason::ConsentWithdrawn => (Code::PermissionDenied, ErrorReason::ConsentWithdrawn),
        Reason::ConsumerUnknown => (Code::NotFound, ErrorReason::ConsumerUnknown),
        Reason::CursorLost => (Code::OutOfRange, ErrorReason::CursorLost),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded),
        Reason::ErasurePending => (Code::FailedPrecondition, ErrorReason::ErasurePending),
        Reason::ErasureUnknown => (Code::NotFound, ErrorReason::ErasureUnknown),
        Reason::EtagMismatch => (Code::Aborted, ErrorReason::EtagMismatch),
        Reason::FourEyes => (Code::PermissionDenied, ErrorReason::FourEyes),
        Reason::GuardianRequired => (Code::FailedPrecondition, ErrorReason::GuardianRequired),
        Reason::HoldReleased => (Code::FailedPrecondition, ErrorReason::HoldReleased),
        Reason::HoldUnknown => (Code::NotFound, ErrorReason::HoldUnknown),
        Reason::Internal => (Code::Internal, ErrorReason::Internal),
        Reason::InvalidMethod => (Code::PermissionDenied, ErrorReason::InvalidMethod),
        Reason::KeyCustodianUnavailable => (Code::Unavailable, ErrorReason::KeyCustodianUnavailable),
        Reason::KeyRetired => (Code::DataLoss, ErrorReason::KeyRetired),
        Reason::LinkInvalid => (Code::PermissionDenied, ErrorReason::LinkInvalid),
        Reason::LookupLimit => (Code::ResourceExhausted, ErrorReason::LookupLimit),
        Reason::NoConsent => (Code::PermissionDenied, ErrorReason::NoConsent),
        Reason::NoRecordingPermission => (Code::FailedPrecondition, ErrorReason::NoRecordingPermission),
        Reason::NotPermitted => (Code::PermissionDenied, ErrorReason::NotPermitted),
        Reason::NotProvisional => (Code::FailedPrecondition, ErrorReason::NotProvisional),
        Reason::NotVerified => (Code::FailedPrecondition, ErrorReason::NotVerified),
        Reason::NoticeUnknown => (Code::FailedPrecondition, ErrorReason::NoticeUnknown),
        Reason::Objected => (Code::PermissionDenied, ErrorReason::Objected),
        Reason::Overloaded => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Reason::PartConflict => (Code::AlreadyExists, ErrorReason::PartConflict),
        Reason::PartErased => (Code::FailedPrecondition, ErrorReason::PartErased),
        Reason::PartUnknown => (Code::NotFound, ErrorReason::PartUnknown),
        Reason::ProfilingOff => (Code::FailedPrecondition, ErrorReason::ProfilingOff),
        Reason::PurposeBasisFixed => (Code::FailedPrecondition, ErrorReason::PurposeBasisFixed),
        Reason::PurposeInactive => (Code::FailedPrecondition, ErrorReason::PurposeInactive),
        Reason::PurposeNotGranted => (Code::PermissionDenied, ErrorReason::PurposeNotGranted),
        Reason::PurposeRequired => (Code::InvalidArgument, ErrorReason::PurposeRequired),
        Reason::PurposeUnknown => (Code::InvalidArgument, ErrorReason::PurposeUnknown),
        Reason::ReconfirmDue => (Code::PermissionDenied, ErrorReason::ReconfirmDue),
        Reason::RequestMismatch => (Code::AlreadyExists, ErrorReason::RequestMismatch),
        Reason::RetentionEnded => (Code::FailedPrecondition, ErrorReason::RetentionEnded),
        Reason::RevealBudget => (Code::ResourceExhausted, ErrorReason::RevealBudget),
        Reason::RightAbsolute => (Code::InvalidArgument, ErrorReason::RightAbsolute),
        Reason::RotationRunning => (Code::FailedPrecondition, ErrorReason::RotationRunning),
        Reason::RotationUnknown => (Code::NotFound, ErrorReason::RotationUnknown),
        Reason::SealBroken => (Code::DataLoss, ErrorReason::SealBroken),
        Reason::SourceRequired => (Code::InvalidArgument, ErrorReason::SourceRequired),
        Reason::StoreUnavailable => (Code::Unavailable, ErrorReason::StoreUnavailable),
        Reason::SubjectErased => (Code::FailedPrecondition, ErrorReason::SubjectErased),
        Reason::SubjectRestricted => (Code::FailedPrecondition, ErrorReason::SubjectRestricted),
        Reason::SubjectScheduled => (Code::FailedPrecondition, ErrorReason::SubjectScheduled),
        Reason::SubjectUnknown => (Code::NotFound, ErrorReason::SubjectUnknown),
        Reason::Suppressed => (Code::PermissionDenied, ErrorReason::Suppressed),
        Reason::TokenExpired => (Code::FailedPrecondition, ErrorReason::TokenExpired),
        Reason::TokenSpent => (Code::FailedPrecondition, ErrorReason::TokenSpent),
        Reason::TokenUnknown => (Code::NotFound, ErrorReason::TokenUnknown),
        Reason::ValueInvalid => (Code::InvalidArgument, ErrorReason::ValueInvalid),
        Reason::ValuePurged => (Code::NotFound, ErrorReason::ValuePurged),
        Reason::ValueTooLarge => (Code::InvalidArgument, ErrorReason::ValueTooLarge),
    }
}
