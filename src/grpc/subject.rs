//! `SubjectService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::call::lookup::assurance;
use super::identity::caller;
use super::{answer, parse, status};
use crate::keys::slot::Assurance;
use crate::model::{
    Element, Erasure, ErasureId, ErasureState, Error, Jurisdiction, Label, PlanItem, Reference, Result, Subject,
    SubjectId, SubjectState, Time, Verdict,
};
use crate::proto::v1;
use crate::proto::v1::subject_service_server::SubjectService;
use crate::store::subject::Filter;
use crate::vault::Vault;
use crate::vault::audit::call::carry;
use crate::vault::claim::Claiming;
use crate::vault::erasure::{Erase, Erased};
use crate::vault::subject::{Create, DEFAULT_KIND};

/// The service.
pub struct Subjects {
    vault: Arc<Vault>,
}

impl Subjects {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn erasure(&self, erased: Erased) -> v1::Erasure {
        let Erased { erasure, real } = erased;
        let assurance = wire_assurance(self.vault.custody().slot().assurance());
        let done = erasure.state == ErasureState::Shredded;
        v1::Erasure {
            erasure: if real { erasure.id.to_string() } else { String::new() },
            subject: erasure.subject.to_string(),
            state: if real { wire_erasure_state(erasure.state).into() } else { 0 },
            reason: erasure.reason.as_str().to_owned(),
            plan: erasure.plan.into_iter().map(wire_plan_item).collect(),
            create_time: real.then(|| parse::wire_time(erasure.requested_at)),
            execute_time: erasure.execute_at.map(parse::wire_time),
            erase_time: erasure.shredded_at.map(parse::wire_time),
            pending_reason: erasure.pending_reason.unwrap_or_default(),
            receipt: erasure.receipt.unwrap_or_default(),
            assurance: if done { assurance.into() } else { 0 },
        }
    }

    fn real(&self, erasure: Erasure) -> v1::Erasure {
        self.erasure(Erased { erasure, real: true })
    }
}

#[tonic::async_trait]
impl SubjectService for Subjects {
    async fn create_subject(
        &self,
        request: Request<v1::CreateSubjectRequest>,
    ) -> Result<Response<v1::CreateSubjectResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("CreateSubject", async {
            let ask = request.into_inner();
            let create = Create {
                kind: Label::kind(parse::optional(&ask.kind).unwrap_or(DEFAULT_KIND))?,
                jurisdiction: parse::optional(&ask.jurisdiction).map(Jurisdiction::parse).transpose()?,
                source: Label::source(&ask.source)?,
                request: parse::request_id(&ask.request_id)?,
            };
            let subject = self.vault.create_subject(&caller, create).await?;
            Ok(v1::CreateSubjectResponse { subject: Some(wire(subject)) })
        })
        .await
    }

    async fn get_subject(
        &self,
        request: Request<v1::GetSubjectRequest>,
    ) -> Result<Response<v1::GetSubjectResponse>, Status> {
        answer("GetSubject", async {
            let subject = self.vault.subject(subject_id(&request.into_inner().subject)?).await?;
            Ok(v1::GetSubjectResponse { subject: Some(wire(subject)) })
        })
        .await
    }

    async fn list_subjects(
        &self,
        request: Request<v1::ListSubjectsRequest>,
    ) -> Result<Response<v1::ListSubjectsResponse>, Status> {
        answer("ListSubjects", async {
            let ask = request.into_inner();
            let filter = filter(&ask.filter.unwrap_or_default())?;
            let after = parse::page_token(&ask.page_token, SubjectId::parse)?;
            let size = crate::vault::page_size(ask.page_size)?;
            let (subjects, next) = self.vault.list_subjects(&filter, after, size).await?;
            Ok(v1::ListSubjectsResponse {
                subjects: subjects.into_iter().map(wire).collect(),
                next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn restrict_subject(
        &self,
        request: Request<v1::RestrictSubjectRequest>,
    ) -> Result<Response<v1::RestrictSubjectResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RestrictSubject", async {
            let ask = request.into_inner();
            let (id, etag) = (subject_id(&ask.subject)?, parse::etag(&ask.etag)?);
            let ground = Reference::parse("ground", &ask.ground)?;
            let subject = self.vault.restrict_subject(&caller, id, ground, etag).await?;
            Ok(v1::RestrictSubjectResponse { subject: Some(wire(subject)) })
        })
        .await
    }

    async fn lift_restriction(
        &self,
        request: Request<v1::LiftRestrictionRequest>,
    ) -> Result<Response<v1::LiftRestrictionResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("LiftRestriction", async {
            let ask = request.into_inner();
            let (id, etag) = (subject_id(&ask.subject)?, parse::etag(&ask.etag)?);
            let missing =
                || Error::invalid("subject_informed_time", "is required: the person is told first (Art. 18(3) GDPR)");
            let informed = ask.subject_informed_time.ok_or_else(missing)?;
            let informed = parse::time("subject_informed_time", informed)?;
            let subject = self.vault.lift_restriction(&caller, id, informed, etag).await?;
            Ok(v1::LiftRestrictionResponse { subject: Some(wire(subject)) })
        })
        .await
    }

    async fn set_profiling(
        &self,
        request: Request<v1::SetProfilingRequest>,
    ) -> Result<Response<v1::SetProfilingResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("SetProfiling", async {
            let ask = request.into_inner();
            let (id, etag) = (subject_id(&ask.subject)?, parse::etag(&ask.etag)?);
            // The work goes on if the caller hangs up: what has begun is finished.
            let vault = Arc::clone(&self.vault);
            let switched =
                tokio::spawn(carry(async move { vault.set_profiling(&caller, id, ask.enabled, etag).await }));
            let switched = switched.await.map_err(Error::internal)??;
            Ok(v1::SetProfilingResponse {
                subject: Some(wire(switched.subject)),
                scores_destroyed: switched.destroyed,
                pending_reason: switched.pending.unwrap_or_default(),
            })
        })
        .await
    }

    async fn erase_subject(
        &self,
        request: Request<v1::EraseSubjectRequest>,
    ) -> Result<Response<v1::EraseSubjectResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("EraseSubject", async {
            let ask = request.into_inner();
            let erase = Erase {
                subject: subject_id(&ask.subject)?,
                reason: Reference::parse("reason", &ask.reason)?,
                execute_at: ask.execute_time.map(|time| parse::time("execute_time", time)).transpose()?,
                validate_only: ask.validate_only,
                request: parse::request_id(&ask.request_id)?,
            };
            // The work goes on if the caller hangs up: what has begun is finished.
            let vault = Arc::clone(&self.vault);
            let erased = tokio::spawn(carry(async move { vault.erase_subject(&caller, erase).await }));
            let erased = erased.await.map_err(Error::internal)??;
            Ok(v1::EraseSubjectResponse { erasure: Some(self.erasure(erased)) })
        })
        .await
    }

    async fn claim_subject(
        &self,
        request: Request<v1::ClaimSubjectRequest>,
    ) -> Result<Response<v1::ClaimSubjectResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ClaimSubject", async {
            let ask = request.into_inner();
            let claimant = parse::optional(&ask.claimant).map(SubjectId::parse).transpose();
            let claiming = Claiming {
                subject: subject_id(&ask.subject)?,
                claimant: claimant.map_err(|error| error.at("claimant"))?,
                assurance: assurance(ask.assurance)?,
                evidence: Reference::parse("evidence", &ask.evidence)?,
                request: parse::request_id(&ask.request_id)?,
            };
            // The work goes on if the caller hangs up: what has begun is finished.
            let vault = Arc::clone(&self.vault);
            let claimed = tokio::spawn(carry(async move { vault.claim_subject(&caller, claiming).await }));
            let claimed = claimed.await.map_err(Error::internal)??;
            let (claimant, erasure) = (Some(wire(claimed.claimant)), Some(self.erasure(claimed.erasure)));
            Ok(v1::ClaimSubjectResponse { claimant, erasure })
        })
        .await
    }

    async fn get_erasure(
        &self,
        request: Request<v1::GetErasureRequest>,
    ) -> Result<Response<v1::GetErasureResponse>, Status> {
        answer("GetErasure", async {
            let erasure = self.vault.erasure(erasure_id(&request.into_inner().erasure)?).await?;
            Ok(v1::GetErasureResponse { erasure: Some(self.real(erasure)) })
        })
        .await
    }

    async fn cancel_erasure(
        &self,
        request: Request<v1::CancelErasureRequest>,
    ) -> Result<Response<v1::CancelErasureResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("CancelErasure", async {
            let erasure = self.vault.cancel_erasure(&caller, erasure_id(&request.into_inner().erasure)?).await?;
            Ok(v1::CancelErasureResponse { erasure: Some(self.real(erasure)) })
        })
        .await
    }

    async fn list_erasures(
        &self,
        request: Request<v1::ListErasuresRequest>,
    ) -> Result<Response<v1::ListErasuresResponse>, Status> {
        answer("ListErasures", async {
            let ask = request.into_inner();
            let after = parse::page_token(&ask.page_token, ErasureId::parse)?;
            let (erasures, next) = self.vault.list_erasures(after, crate::vault::page_size(ask.page_size)?).await?;
            Ok(v1::ListErasuresResponse {
                erasures: erasures.into_iter().map(|erasure| self.real(erasure)).collect(),
                next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        answer("GetReceipt", async {
            let (receipt, json) = self.vault.receipt(erasure_id(&request.into_inner().erasure)?).await?;
            Ok(v1::GetReceiptResponse { receipt, json })
        })
        .await
    }
}

pub(super) const fn wire_assurance(assurance: Assurance) -> v1::ErasureAssurance {
    match assurance {
        Assurance::Immediate => v1::ErasureAssurance::Immediate,
        Assurance::ImmediateLogical => v1::ErasureAssurance::ImmediateLogical,
    }
}

pub(super) fn subject_id(text: &str) -> Result<SubjectId> {
    SubjectId::parse(text).map_err(|error| error.at("subject"))
}

pub(super) fn erasure_id(text: &str) -> Result<ErasureId> {
    ErasureId::parse(text).map_err(|error| error.at("erasure"))
}

fn filter(filter: &v1::SubjectFilter) -> Result<Filter> {
    let unknown = || Error::invalid("filter.state", "is not a SubjectState that this vault knows");
    let state = match filter.state {
        0 => None,
        number => Some(i16::try_from(number).ok().and_then(SubjectState::from_number).ok_or_else(unknown)?),
    };
    let kind = parse::optional(&filter.kind).map(Label::kind).transpose().map_err(|error| error.within("filter"))?;
    Ok(Filter { state, kind: kind.map(|kind| kind.as_str().to_owned()) })
}

fn wire(subject: Subject) -> v1::Subject {
    v1::Subject {
        subject: subject.id.to_string(),
        kind: subject.kind.as_str().to_owned(),
        jurisdiction: subject.jurisdiction.as_ref().map(Jurisdiction::as_str).unwrap_or_default().to_owned(),
        source: subject.source.as_str().to_owned(),
        state: wire_subject_state(subject.state).into(),
        restrict_time: subject.restriction.as_ref().map(|restriction| parse::wire_time(restriction.since)),
        restriction_ground: subject.restriction.map(|restriction| restriction.ground.to_string()).unwrap_or_default(),
        profiling: subject.profiling,
        create_time: Some(parse::wire_time(subject.created_at)),
        erasure: subject.erasure.map(|id| id.to_string()).unwrap_or_default(),
        erase_time: subject.erased_at.map(parse::wire_time),
        etag: subject.version.to_string(),
    }
}

pub const fn wire_subject_state(state: SubjectState) -> v1::SubjectState {
    match state {
        SubjectState::Active => v1::SubjectState::Active,
        SubjectState::Restricted => v1::SubjectState::Restricted,
        SubjectState::Scheduled => v1::SubjectState::Scheduled,
        SubjectState::Shredding => v1::SubjectState::Shredding,
        SubjectState::Shredded => v1::SubjectState::Shredded,
    }
}

const fn wire_erasure_state(state: ErasureState) -> v1::ErasureState {
    match state {
        ErasureState::Scheduled => v1::ErasureState::Scheduled,
        ErasureState::Pending => v1::ErasureState::Pending,
        ErasureState::Shredded => v1::ErasureState::Shredded,
        ErasureState::Cancelled => v1::ErasureState::Cancelled,
    }
}

fn wire_plan_item(item: PlanItem) -> v1::ErasurePlanItem {
    let element = match item.element {
        Element::Fields => "fields",
        Element::Tokens => "tokens",
        Element::Suppression => "suppression",
    };
    let verdict = match item.verdict {
        Verdict::Destroy => "DESTROY",
        Verdict::KeepPseudonym => "KEEP_PSEUDONYM",
        Verdict::KeepDigest => "KEEP_DIGEST",
        Verdict::KeepRestricted => "KEEP_RESTRICTED",
    };
    v1::ErasurePlanItem {
        element: element.to_owned(),
        retention_class: item.class.unwrap_or_default(),
        verdict: verdict.to_owned(),
        count: item.count,
        end_time: item.end_time.as_deref().and_then(Time::parse).map(parse::wire_time),
        reason: item.reason.unwrap_or_default(),
    }
}
