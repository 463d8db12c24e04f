//! Compiles the protobuf files without protoc.

use std::{env, fs, path::PathBuf};

/// Messages that carry plaintext get no derived `Debug`: `proto.rs` writes one that shows nothing of it. Every request
/// is one of them, because a caller may put a value where it does not belong.
const PLAINTEXT: &[&str] = &[
    ".lacuna.v1.AcknowledgeEventRequest",
    ".lacuna.v1.AuditConsentsRequest",
    ".lacuna.v1.AuditFilter",
    ".lacuna.v1.BatchCheckPermissionRequest",
    ".lacuna.v1.CancelErasureRequest",
    ".lacuna.v1.CheckPermissionRequest",
    ".lacuna.v1.ConsentEvidence",
    ".lacuna.v1.CreateSubjectRequest",
    ".lacuna.v1.CreateWithdrawalLinkRequest",
    ".lacuna.v1.CreateWithdrawalLinkResponse",
    ".lacuna.v1.DecideRecordingRequest",
    ".lacuna.v1.DefineCollectionPointRequest",
    ".lacuna.v1.DefinePurposeRequest",
    ".lacuna.v1.DefineRetentionClassRequest",
    ".lacuna.v1.DeleteConsumerRequest",
    ".lacuna.v1.DeleteTokenRequest",
    ".lacuna.v1.DetokenizeRequest",
    ".lacuna.v1.DetokenizeResponse",
    ".lacuna.v1.DetokenizeResult",
    ".lacuna.v1.DetokenizeStreamResponse",
    ".lacuna.v1.DisableCallerRequest",
    ".lacuna.v1.EnableCallerRequest",
    ".lacuna.v1.EraseSubjectRequest",
    ".lacuna.v1.FieldInput",
    ".lacuna.v1.FindTokensRequest",
    ".lacuna.v1.GetApprovalRequest",
    ".lacuna.v1.GetCheckpointRequest",
    ".lacuna.v1.GetErasureRequest",
    ".lacuna.v1.GetKeyStatusRequest",
    ".lacuna.v1.GetNoticeRequest",
    ".lacuna.v1.GetPurposeRequest",
    ".lacuna.v1.GetReceiptRequest",
    ".lacuna.v1.GetRotationRequest",
    ".lacuna.v1.GetSubjectRequest",
    ".lacuna.v1.GetTokenRequest",
    ".lacuna.v1.GrantApprovalRequest",
    ".lacuna.v1.IssueReceiptRequest",
    ".lacuna.v1.LiftHoneyRequest",
    ".lacuna.v1.LiftRestrictionRequest",
    ".lacuna.v1.ListAffectedSubjectsRequest",
    ".lacuna.v1.ListApprovalsRequest",
    ".lacuna.v1.ListAuditEntriesRequest",
    ".lacuna.v1.ListCallersRequest",
    ".lacuna.v1.ListCollectionPointsRequest",
    ".lacuna.v1.ListConsentEventsRequest",
    ".lacuna.v1.ListConsentsRequest",
    ".lacuna.v1.ListConsumersRequest",
    ".lacuna.v1.ListDeliveriesRequest",
    ".lacuna.v1.ListDueForReviewRequest",
    ".lacuna.v1.ListErasuresRequest",
    ".lacuna.v1.ListHoneyRequest",
    ".lacuna.v1.ListKeyEventsRequest",
    ".lacuna.v1.ListNoticesRequest",
    ".lacuna.v1.ListPurposesRequest",
    ".lacuna.v1.ListRetentionClassesRequest",
    ".lacuna.v1.ListRetentionRunsRequest",
    ".lacuna.v1.ListRotationsRequest",
    ".lacuna.v1.ListSubjectsRequest",
    ".lacuna.v1.ListTokensRequest",
    ".lacuna.v1.ListWhoCanAccessRequest",
    ".lacuna.v1.LookupByCallerRequest",
    ".lacuna.v1.LookupByCallerResponse",
    ".lacuna.v1.PlaceHoneyRequest",
    ".lacuna.v1.PreviewRetentionRequest",
    ".lacuna.v1.ProveAuditEntryRequest",
    ".lacuna.v1.ProveConsentRequest",
    ".lacuna.v1.PublishNoticeRequest",
    ".lacuna.v1.RecordConsentRequest",
    ".lacuna.v1.RefuseApprovalRequest",
    ".lacuna.v1.RestrictSubjectRequest",
    ".lacuna.v1.RetirePurposeRequest",
    ".lacuna.v1.RotateIndexKeyRequest",
    ".lacuna.v1.RotateKekRequest",
    ".lacuna.v1.RotateRootRequest",
    ".lacuna.v1.RotateSigningKeyRequest",
    ".lacuna.v1.RotateSubjectKeyRequest",
    ".lacuna.v1.RunRetentionRequest",
    ".lacuna.v1.SetProfilingRequest",
    ".lacuna.v1.SimulateAccessRequest",
    ".lacuna.v1.SubjectFilter",
    ".lacuna.v1.TokenizeRequest",
    ".lacuna.v1.UpdateTokenRequest",
    ".lacuna.v1.VerifyAuditChainRequest",
    ".lacuna.v1.VerifyErasureRequest",
    ".lacuna.v1.WatchEventsRequest",
    ".lacuna.v1.WithdrawByLinkRequest",
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to a build script through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "lacuna/v1/access_service.proto",
        "lacuna/v1/audit_service.proto",
        "lacuna/v1/call_service.proto",
        "lacuna/v1/channel.proto",
        "lacuna/v1/consent_service.proto",
        "lacuna/v1/error_reason.proto",
        "lacuna/v1/event_service.proto",
        "lacuna/v1/key_service.proto",
        "lacuna/v1/retention_service.proto",
        "lacuna/v1/subject_service.proto",
        "lacuna/v1/token_service.proto",
    ])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("lacuna.binpb"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(PLAINTEXT);
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
