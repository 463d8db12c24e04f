//! `ConsentService`.

mod proof;
mod wire;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::subject::subject_id;
use super::{answer, parse, status};
use crate::model::{Error, Notice, Purpose, PurposeState, Result};
use crate::proto::v1;
use crate::proto::v1::consent_service_server::ConsentService;
use crate::vault::Vault;
use crate::vault::consent::{Check, DefinePurpose, PublishNotice};
use crate::vault::page_size;
use wire::{
    change, check, notice, point, purpose, record, wire_consent, wire_event, wire_notice, wire_permission, wire_point,
    wire_purpose,
};

/// The service.
pub struct Consents {
    vault: Arc<Vault>,
}

impl Consents {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl ConsentService for Consents {
    async fn define_purpose(
        &self,
        request: Request<v1::DefinePurposeRequest>,
    ) -> Result<Response<v1::DefinePurposeResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DefinePurpose", async {
            let ask = request.into_inner();
            let given = ask.purpose.ok_or_else(|| Error::invalid("purpose", "is missing"))?;
            let state = if ask.draft { PurposeState::Draft } else { PurposeState::Active };
            let purpose = Purpose { state, change: change(ask.change)?, ..purpose(given)? };
            let request = parse::request_id(&ask.request_id)?;
            let defined = self.vault.define_purpose(&caller, DefinePurpose { purpose, request }).await?;
            Ok(v1::DefinePurposeResponse { purpose: Some(wire_purpose(&defined)) })
        })
        .await
    }

    async fn get_purpose(
        &self,
        request: Request<v1::GetPurposeRequest>,
    ) -> Result<Response<v1::GetPurposeResponse>, Status> {
        answer("GetPurpose", async {
            let ask = request.into_inner();
            let catalogue = self.vault.catalogue().await?;
            let found = match u32::try_from(ask.version) {
                Ok(0) => catalogue.purpose(&ask.code),
                Ok(version) => catalogue.purpose_version(&ask.code, version),
                Err(_) => return Err(Error::invalid("version", "must not be negative")),
            };
            let found = found.ok_or_else(|| crate::policy::unknown_purpose(&ask.code).at("code"))?;
            Ok(v1::GetPurposeResponse { purpose: Some(wire_purpose(found)) })
        })
        .await
    }

    async fn list_purposes(
        &self,
        request: Request<v1::ListPurposesRequest>,
    ) -> Result<Response<v1::ListPurposesResponse>, Status> {
        answer("ListPurposes", async {
            let ask = request.into_inner();
            let size = page_size(ask.page_size)? as usize;
            let catalogue = self.vault.catalogue().await?;
            let later = catalogue.purposes().filter(|purpose| purpose.code > ask.page_token);
            let mut purposes: Vec<_> = later.take(size + 1).map(wire_purpose).collect();
            let more = purposes.len() > size;
            purposes.truncate(size);
            let next = purposes.last().filter(|_| more).map(|purpose| purpose.code.clone());
            Ok(v1::ListPurposesResponse { purposes, next_page_token: next.unwrap_or_default() })
        })
        .await
    }

    async fn retire_purpose(
        &self,
        request: Request<v1::RetirePurposeRequest>,
    ) -> Result<Response<v1::RetirePurposeResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RetirePurpose", async {
            let retired = self.vault.retire_purpose(&caller, &request.into_inner().code).await?;
            Ok(v1::RetirePurposeResponse { purpose: Some(wire_purpose(&retired)) })
        })
        .await
    }

    async fn publish_notice(
        &self,
        request: Request<v1::PublishNoticeRequest>,
    ) -> Result<Response<v1::PublishNoticeResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("PublishNotice", async {
            let ask = request.into_inner();
            let given = ask.notice.ok_or_else(|| Error::invalid("notice", "is missing"))?;
            let notice = Notice { change: change(ask.change)?, ..notice(given) };
            let request = parse::request_id(&ask.request_id)?;
            let published = self.vault.publish_notice(&caller, PublishNotice { notice, request }).await?;
            Ok(v1::PublishNoticeResponse { notice: Some(wire_notice(published)) })
        })
        .await
    }

    async fn get_notice(
        &self,
        request: Request<v1::GetNoticeRequest>,
    ) -> Result<Response<v1::GetNoticeResponse>, Status> {
        answer("GetNotice", async {
            let ask = request.into_inner();
            crate::model::Label::purpose(&ask.notice).map_err(|error| error.at("notice"))?;
            let version = u32::try_from(ask.version).map_err(|_| Error::invalid("version", "must not be negative"))?;
            let notice = self.vault.notice(&ask.notice, version).await?;
            Ok(v1::GetNoticeResponse { notice: Some(wire_notice(notice)) })
        })
        .await
    }

    async fn list_notices(
        &self,
        request: Request<v1::ListNoticesRequest>,
    ) -> Result<Response<v1::ListNoticesResponse>, Status> {
        answer("ListNotices", async {
            let ask = request.into_inner();
            let size = page_size(ask.page_size)? as usize;
            let catalogue = self.vault.catalogue().await?;
            let later = catalogue.notices().filter(|notice| notice.notice > ask.page_token);
            let mut notices: Vec<_> = later.take(size + 1).cloned().map(wire_notice).collect();
            let more = notices.len() > size;
            notices.truncate(size);
            let next = notices.last().filter(|_| more).map(|notice| notice.notice.clone());
            Ok(v1::ListNoticesResponse { notices, next_page_token: next.unwrap_or_default() })
        })
        .await
    }

    async fn define_collection_point(
        &self,
        request: Request<v1::DefineCollectionPointRequest>,
    ) -> Result<Response<v1::DefineCollectionPointResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DefineCollectionPoint", async {
            let given = request.into_inner().collection_point;
            let point = point(given.ok_or_else(|| Error::invalid("collection_point", "is missing"))?)?;
            let defined = self.vault.define_collection_point(&caller, point).await?;
            Ok(v1::DefineCollectionPointResponse { collection_point: Some(wire_point(&defined)) })
        })
        .await
    }

    async fn list_collection_points(
        &self,
        request: Request<v1::ListCollectionPointsRequest>,
    ) -> Result<Response<v1::ListCollectionPointsResponse>, Status> {
        answer("ListCollectionPoints", async {
            let ask = request.into_inner();
            let size = page_size(ask.page_size)? as usize;
            let catalogue = self.vault.catalogue().await?;
            let later = catalogue.points().filter(|point| point.id > ask.page_token);
            let mut points: Vec<_> = later.take(size + 1).map(wire_point).collect();
            let more = points.len() > size;
            points.truncate(size);
            let next = points.last().filter(|_| more).map(|point| point.collection_point.clone());
            Ok(v1::ListCollectionPointsResponse {
                collection_points: points,
                next_page_token: next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn record_consent(
        &self,
        request: Request<v1::RecordConsentRequest>,
    ) -> Result<Response<v1::RecordConsentResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RecordConsent", async {
            let given = Box::pin(self.vault.record_consent(&caller, record(request.into_inner())?)).await?;
            Ok(v1::RecordConsentResponse { events: given.into_iter().map(wire_event).collect() })
        })
        .await
    }

    async fn check_permission(
        &self,
        request: Request<v1::CheckPermissionRequest>,
    ) -> Result<Response<v1::CheckPermissionResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("CheckPermission", async {
            let check = check(request.into_inner())?;
            let checked = self.vault.check_permissions(&caller, &[check]).await?.pop();
            let checked = checked.ok_or_else(|| Error::internal("a question was not answered"))??;
            Ok(v1::CheckPermissionResponse { permission: Some(wire_permission(&checked)) })
        })
        .await
    }

    async fn batch_check_permission(
        &self,
        request: Request<v1::BatchCheckPermissionRequest>,
    ) -> Result<Response<v1::BatchCheckPermissionResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("BatchCheckPermission", async {
            use v1::batch_check_permission_result::Outcome;
            let asks = request.into_inner().checks;
            parse::check_count("checks", asks.len())?;
            let parsed: Vec<Result<Check>> = asks.into_iter().map(check).collect();
            let good: Vec<Check> = parsed.iter().filter_map(|check| check.as_ref().ok().cloned()).collect();
            let mut answers = self.vault.check_permissions(&caller, &good).await?.into_iter();
            let results = parsed.into_iter().map(|parsed| {
                let lost = || Err(Error::internal("a question was not answered"));
                let outcome = match parsed.and_then(|_| answers.next().unwrap_or_else(lost)) {
                    Ok(checked) => Outcome::Permission(wire_permission(&checked)),
                    Err(error) => Outcome::Error(status::to_item_status(&error)),
                };
                v1::BatchCheckPermissionResult { outcome: Some(outcome) }
            });
            Ok(v1::BatchCheckPermissionResponse { results: results.collect() })
        })
        .await
    }

    async fn list_consents(
        &self,
        request: Request<v1::ListConsentsRequest>,
    ) -> Result<Response<v1::ListConsentsResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ListConsents", async {
            let subject = subject_id(&request.into_inner().subject)?;
            let (shown, suppressed) = self.vault.list_consents(&caller, subject).await?;
            Ok(v1::ListConsentsResponse { consents: shown.iter().map(wire_consent).collect(), suppressed })
        })
        .await
    }

    async fn list_consent_events(
        &self,
        request: Request<v1::ListConsentEventsRequest>,
    ) -> Result<Response<v1::ListConsentEventsResponse>, Status> {
        answer("ListConsentEvents", async {
            let ask = request.into_inner();
            let after = match ask.page_token.as_str() {
                "" => 0,
                token => token.parse().map_err(|_| Error::invalid("page_token", "is not one that the vault gave"))?,
            };
            let subject = subject_id(&ask.subject)?;
            let (events, next) = self.vault.list_consent_events(subject, after, page_size(ask.page_size)?).await?;
            Ok(v1::ListConsentEventsResponse {
                events: events.into_iter().map(wire_event).collect(),
                next_page_token: next.map(|number| number.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn prove_consent(
        &self,
        request: Request<v1::ProveConsentRequest>,
    ) -> Result<Response<v1::ProveConsentResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ProveConsent", proof::prove(&self.vault, &caller, request.into_inner())).await
    }

    async fn issue_receipt(
        &self,
        request: Request<v1::IssueReceiptRequest>,
    ) -> Result<Response<v1::IssueReceiptResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("IssueReceipt", proof::issue(&self.vault, &caller, request.into_inner())).await
    }

    async fn list_due_for_review(
        &self,
        request: Request<v1::ListDueForReviewRequest>,
    ) -> Result<Response<v1::ListDueForReviewResponse>, Status> {
        answer("ListDueForReview", proof::due(&self.vault, request.into_inner())).await
    }

    async fn audit_consents(
        &self,
        request: Request<v1::AuditConsentsRequest>,
    ) -> Result<Response<v1::AuditConsentsResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("AuditConsents", proof::audit(&self.vault, &caller)).await
    }

    async fn create_withdrawal_link(
        &self,
        request: Request<v1::CreateWithdrawalLinkRequest>,
    ) -> Result<Response<v1::CreateWithdrawalLinkResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("CreateWithdrawalLink", proof::create_link(&self.vault, &caller, request.into_inner())).await
    }

    async fn withdraw_by_link(
        &self,
        request: Request<v1::WithdrawByLinkRequest>,
    ) -> Result<Response<v1::WithdrawByLinkResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("WithdrawByLink", proof::withdraw(&self.vault, &caller, request.into_inner())).await
    }
}
