//! `AccessService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::status::reason_name;
use super::subject::subject_id;
use super::{answer, approval, honey, parse, status};
use crate::model::{Error, Jurisdiction, Label, Redaction, Result, SubjectState};
use crate::policy::{Action, Caller, Over};
use crate::proto::v1;
use crate::proto::v1::access_service_server::AccessService;
use crate::vault::Vault;
use crate::vault::access::{Access, Known, Simulation};
use crate::vault::page_size;
use crate::vault::token::DEFAULT_CLASS;

/// The service.
pub struct Accesses {
    vault: Arc<Vault>,
}

impl Accesses {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

impl Accesses {
    async fn change(&self, by: &Caller, name: &str, disabled: bool, reason: &str) -> Result<v1::AccessCaller> {
        let reason = parse::reference("reason", reason)?;
        Ok(wire_caller(self.vault.change_caller(by, name, disabled, reason.as_ref()).await?))
    }
}

#[tonic::async_trait]
impl AccessService for Accesses {
    async fn list_callers(
        &self,
        request: Request<v1::ListCallersRequest>,
    ) -> Result<Response<v1::ListCallersResponse>, Status> {
        answer("ListCallers", async {
            let ask = request.into_inner();
            let (callers, next) = self.vault.list_callers(&ask.page_token, page_size(ask.page_size)?).await?;
            Ok(v1::ListCallersResponse {
                callers: callers.into_iter().map(wire_caller).collect(),
                next_page_token: next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn disable_caller(
        &self,
        request: Request<v1::DisableCallerRequest>,
    ) -> Result<Response<v1::DisableCallerResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DisableCaller", async {
            let v1::DisableCallerRequest { caller, reason } = request.into_inner();
            Ok(v1::DisableCallerResponse { caller: Some(self.change(&by, &caller, true, &reason).await?) })
        })
        .await
    }

    async fn enable_caller(
        &self,
        request: Request<v1::EnableCallerRequest>,
    ) -> Result<Response<v1::EnableCallerResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("EnableCaller", async {
            let v1::EnableCallerRequest { caller, reason } = request.into_inner();
            Ok(v1::EnableCallerResponse { caller: Some(self.change(&by, &caller, false, &reason).await?) })
        })
        .await
    }

    async fn list_who_can_access(
        &self,
        request: Request<v1::ListWhoCanAccessRequest>,
    ) -> Result<Response<v1::ListWhoCanAccessResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ListWhoCanAccess", async {
            let ask = request.into_inner();
            let (subject, size) = (subject_id(&ask.subject)?, page_size(ask.page_size)?);
            let (entries, next) = self.vault.who_can_access(&by, subject, &ask.page_token, size).await?;
            Ok(v1::ListWhoCanAccessResponse {
                entries: entries.into_iter().map(wire_access).collect(),
                next_page_token: next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn simulate_access(
        &self,
        request: Request<v1::SimulateAccessRequest>,
    ) -> Result<Response<v1::SimulateAccessResponse>, Status> {
        answer("SimulateAccess", async {
            let simulated = self.vault.simulate_access(&simulation(request.into_inner())?).await?;
            Ok(v1::SimulateAccessResponse {
                allowed: simulated.refusal.is_none(),
                refusal: simulated.refusal.map(reason_name).unwrap_or_default(),
                redaction: wire_redaction(simulated.redaction).into(),
                policies: simulated
                    .policies
                    .into_iter()
                    .map(|named| v1::DecidingPolicy { policy: named.name, place: named.place })
                    .collect(),
            })
        })
        .await
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        answer("ListApprovals", approval::list(&self.vault, request.into_inner())).await
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Result<Response<v1::GetApprovalResponse>, Status> {
        answer("GetApproval", async {
            let approval = approval::get(&self.vault, &request.into_inner().approval).await?;
            Ok(v1::GetApprovalResponse { approval: Some(approval) })
        })
        .await
    }

    async fn grant_approval(
        &self,
        request: Request<v1::GrantApprovalRequest>,
    ) -> Result<Response<v1::GrantApprovalResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("GrantApproval", async {
            let v1::GrantApprovalRequest { approval, reason } = request.into_inner();
            let approval = approval::decide(&self.vault, &by, &approval, true, &reason).await?;
            Ok(v1::GrantApprovalResponse { approval: Some(approval) })
        })
        .await
    }

    async fn refuse_approval(
        &self,
        request: Request<v1::RefuseApprovalRequest>,
    ) -> Result<Response<v1::RefuseApprovalResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RefuseApproval", async {
            let v1::RefuseApprovalRequest { approval, reason } = request.into_inner();
            let approval = approval::decide(&self.vault, &by, &approval, false, &reason).await?;
            Ok(v1::RefuseApprovalResponse { approval: Some(approval) })
        })
        .await
    }

    async fn place_honey(
        &self,
        request: Request<v1::PlaceHoneyRequest>,
    ) -> Result<Response<v1::PlaceHoneyResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("PlaceHoney", honey::place(&self.vault, &by, request.into_inner())).await
    }

    async fn lift_honey(
        &self,
        request: Request<v1::LiftHoneyRequest>,
    ) -> Result<Response<v1::LiftHoneyResponse>, Status> {
        let by = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("LiftHoney", honey::lift(&self.vault, &by, request.into_inner())).await
    }

    async fn list_honey(
        &self,
        request: Request<v1::ListHoneyRequest>,
    ) -> Result<Response<v1::ListHoneyResponse>, Status> {
        answer("ListHoney", honey::list(&self.vault, request.into_inner())).await
    }
}

fn simulation(ask: v1::SimulateAccessRequest) -> Result<Simulation> {
    if ask.caller.is_empty() {
        return Err(Error::invalid("caller", "is missing"));
    }
    let action = Action::ALL.iter().copied().find(|action| action.name() == ask.action);
    let action = action.ok_or_else(|| Error::invalid("action", "is no right of the policies' schema"))?;
    let class = parse::optional(&ask.retention_class).unwrap_or(DEFAULT_CLASS);
    let state = match ask.state {
        0 => SubjectState::Active,
        number => i16::try_from(number)
            .ok()
            .and_then(SubjectState::from_number)
            .ok_or_else(|| Error::invalid("state", "is not a SubjectState that this vault knows"))?,
    };
    let jurisdiction = parse::optional(&ask.jurisdiction).map(Jurisdiction::parse).transpose()?;
    Ok(Simulation {
        kind: if action.over() == Over::Value { Some(parse::field_type(ask.r#type)?) } else { None },
        class: Label::retention_class(class)?.as_str().to_owned(),
        jurisdiction: jurisdiction.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        redaction: parse::redaction(ask.redaction)?,
        deduplicate: ask.deduplicate,
        at: ask.time.map(|time| parse::time("time", time)).transpose()?,
        caller: ask.caller,
        groups: ask.groups,
        action,
        purpose: ask.purpose,
        state,
    })
}

fn wire_caller(known: Known) -> v1::AccessCaller {
    let configured = known.registered.is_some();
    let mut wire = v1::AccessCaller {
        caller: known.name,
        configured,
        actions: known.actions.iter().map(|action| action.name().to_owned()).collect(),
        ..Default::default()
    };
    if let Some(registered) = known.registered {
        wire.groups = registered.caller.groups.into_iter().collect();
        wire.limited = registered.caller.purposes.is_some();
        wire.purposes = registered.caller.purposes.into_iter().flatten().collect();
        wire.authorization = Some(v1::Authorization {
            person: registered.person,
            granted_by: registered.granted_by,
            from_date: registered.from,
            until_date: registered.until,
            trained_date: registered.trained,
        });
    }
    if let Some(change) = known.change {
        wire.disabled = change.disabled;
        wire.change_time = Some(parse::wire_time(change.changed_at));
        wire.changed_by = change.changed_by;
        wire.reason = change.reason;
    }
    wire
}

fn wire_access(access: Access) -> v1::AccessEntry {
    v1::AccessEntry {
        caller: access.caller,
        purpose: access.purpose,
        r#type: access.kind.number().into(),
        retention_class: access.class,
        redaction: wire_redaction(access.redaction).into(),
        policies: access.policies,
        refusal: access.refusal.map(reason_name).unwrap_or_default(),
    }
}

/// A redaction on the wire.
pub const fn wire_redaction(redaction: Redaction) -> v1::Redaction {
    match redaction {
        Redaction::PlainText => v1::Redaction::PlainText,
        Redaction::Masked => v1::Redaction::Masked,
        Redaction::LastFour => v1::Redaction::LastFour,
        Redaction::Redacted => v1::Redaction::Redacted,
    }
}
