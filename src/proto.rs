//! The generated types of the API, and the descriptors that reflection serves.
//!
//! Messages that carry plaintext, or in which a caller could put it by mistake, have no derived `Debug`; the ones
//! written here show names only.

use std::fmt;

/// `google.rpc`: the status of a single item.
pub mod google {
    #[allow(clippy::allow_attributes, missing_docs, reason = "generated")]
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// `lacuna.v1`: the API.
pub mod lacuna {
    #[allow(clippy::allow_attributes, missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("lacuna.v1");
    }
}

pub use lacuna::v1;

/// Every message and service of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lacuna.binpb"));

/// A `Debug` that names the message and hides what it carries.
macro_rules! opaque_debug {
    ($($message:path),+ $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )+};
}

opaque_debug!(
    v1::AcknowledgeEventRequest,
    v1::AttachPartRequest,
    v1::AuditConsentsRequest,
    v1::AuditFilter,
    v1::BatchCheckPermissionRequest,
    v1::CallPart,
    v1::CallValue,
    v1::CancelErasureRequest,
    v1::CdrMapping,
    v1::CdrRow,
    v1::CheckPermissionRequest,
    v1::ConsentEvidence,
    v1::CreateSubjectRequest,
    v1::CreateWithdrawalLinkRequest,
    v1::CreateWithdrawalLinkResponse,
    v1::DecideRecordingRequest,
    v1::DefineCollectionPointRequest,
    v1::DefinePurposeRequest,
    v1::DefineRetentionClassRequest,
    v1::DeleteConsumerRequest,
    v1::DeleteTokenRequest,
    v1::DetokenizeRequest,
    v1::DetokenizeResponse,
    v1::DetokenizeResult,
    v1::DetokenizeStreamResponse,
    v1::DisableCallerRequest,
    v1::EnableCallerRequest,
    v1::EraseSubjectRequest,
    v1::FieldInput,
    v1::FindTokensRequest,
    v1::GetApprovalRequest,
    v1::GetCallRequest,
    v1::GetCheckpointRequest,
    v1::GetErasureRequest,
    v1::GetKeyStatusRequest,
    v1::GetMediaKeyRequest,
    v1::GetMediaKeyResponse,
    v1::GetNoticeRequest,
    v1::GetPurposeRequest,
    v1::GetReceiptRequest,
    v1::GetRotationRequest,
    v1::GetSubjectRequest,
    v1::GetTokenRequest,
    v1::GrantApprovalRequest,
    v1::ImportCdrRequest,
    v1::IssueReceiptRequest,
    v1::LiftHoneyRequest,
    v1::LiftRestrictionRequest,
    v1::ListAffectedSubjectsRequest,
    v1::ListApprovalsRequest,
    v1::ListAuditEntriesRequest,
    v1::ListCallersRequest,
    v1::ListCallsRequest,
    v1::ListCollectionPointsRequest,
    v1::ListConsentEventsRequest,
    v1::ListConsentsRequest,
    v1::ListConsumersRequest,
    v1::ListDeliveriesRequest,
    v1::ListDueForReviewRequest,
    v1::ListErasuresRequest,
    v1::ListHoneyRequest,
    v1::ListKeyEventsRequest,
    v1::ListNoticesRequest,
    v1::ListPurposesRequest,
    v1::ListRetentionClassesRequest,
    v1::ListRetentionRunsRequest,
    v1::ListRotationsRequest,
    v1::ListSubjectsRequest,
    v1::ListTokensRequest,
    v1::ListWhoCanAccessRequest,
    v1::LookupByCallerRequest,
    v1::LookupByCallerResponse,
    v1::PartyInput,
    v1::PlaceHoneyRequest,
    v1::PreviewRetentionRequest,
    v1::ProveAuditEntryRequest,
    v1::ProveConsentRequest,
    v1::PublishNoticeRequest,
    v1::RecordConsentRequest,
    v1::RefuseApprovalRequest,
    v1::RestrictSubjectRequest,
    v1::RetirePurposeRequest,
    v1::RotateIndexKeyRequest,
    v1::RotateKekRequest,
    v1::RotateRootRequest,
    v1::RotateSigningKeyRequest,
    v1::RotateSubjectKeyRequest,
    v1::RunRetentionRequest,
    v1::SetProfilingRequest,
    v1::SimulateAccessRequest,
    v1::SubjectFilter,
    v1::TokenizeRequest,
    v1::UpdateTokenRequest,
    v1::UpsertCallRequest,
    v1::VerifyAuditChainRequest,
    v1::VerifyErasureRequest,
    v1::WatchEventsRequest,
    v1::WithdrawByLinkRequest,
    v1::attach_part_request::Body,
    v1::call_part::Outcome,
    v1::call_value::Outcome,
    v1::detokenize_result::Outcome,
    v1::detokenize_stream_response::Outcome,
    v1::field_input::Content,
    v1::update_token_request::Content,
);
