//! `CallService`.

mod event;
mod import;
pub(super) mod lookup;
mod part;
mod recording;
mod relink;
mod vcon;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::identity::caller;
use super::landing::Landing;
use super::stream::{self, Answers};
use super::{answer, parse, status};
use crate::model::{CallFilter, CallId, Error, Label, Result, SourceCallId, SubjectId};
use crate::policy::Caller;
use crate::proto::v1;
use crate::proto::v1::call_service_server::CallService;
use crate::vault::Vault;
use crate::vault::call::{Outcome, UPSERT};

/// The service.
pub struct Calls {
    vault: Arc<Vault>,
}

impl Calls {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl CallService for Calls {
    type AppendCallEventStream = Answers<v1::AppendCallEventResponse>;
    type ImportCdrStream = Answers<v1::ImportCdrResponse>;
    type ImportVconStream = Answers<v1::ImportVconResponse>;

    async fn upsert_call(
        &self,
        request: Request<v1::UpsertCallRequest>,
    ) -> Result<Response<v1::UpsertCallResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("UpsertCall", upsert(&self.vault, &caller, request.into_inner())).await
    }

    async fn import_cdr(
        &self,
        request: Request<Streaming<v1::ImportCdrRequest>>,
    ) -> Result<Response<Self::ImportCdrStream>, Status> {
        import::rows(&self.vault, request).await
    }

    async fn import_vcon(
        &self,
        request: Request<Streaming<v1::ImportVconRequest>>,
    ) -> Result<Response<Self::ImportVconStream>, Status> {
        vcon::documents(&self.vault, request).await
    }

    async fn export_vcon(
        &self,
        request: Request<v1::ExportVconRequest>,
    ) -> Result<Response<v1::ExportVconResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let landing = Landing::default();
        let written = vcon::export(&self.vault, &caller, request.into_inner(), &landing);
        let answered = answer("ExportVcon", Box::pin(written)).await?;
        Ok(landing.watch_over(answered))
    }

    async fn attach_part(
        &self,
        request: Request<v1::AttachPartRequest>,
    ) -> Result<Response<v1::AttachPartResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("AttachPart", attach(&self.vault, &caller, request.into_inner())).await
    }

    async fn erase_parts(
        &self,
        request: Request<v1::ErasePartsRequest>,
    ) -> Result<Response<v1::ErasePartsResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("EraseParts", part::erase(&self.vault, &caller, request.into_inner())).await
    }

    async fn relink_caller(
        &self,
        request: Request<v1::RelinkCallerRequest>,
    ) -> Result<Response<v1::RelinkCallerResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RelinkCaller", relink::caller(&self.vault, caller, request.into_inner())).await
    }

    async fn get_media_key(
        &self,
        request: Request<v1::GetMediaKeyRequest>,
    ) -> Result<Response<v1::GetMediaKeyResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let landing = Landing::default();
        let asked = part::media_key(&self.vault, &caller, request.into_inner(), &landing);
        let answered = answer("GetMediaKey", asked).await?;
        Ok(landing.watch_over(answered))
    }

    async fn get_call(&self, request: Request<v1::GetCallRequest>) -> Result<Response<v1::GetCallResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let landing = Landing::default();
        let answered = answer("GetCall", show(&self.vault, &caller, request.into_inner(), &landing)).await?;
        Ok(landing.watch_over(answered))
    }

    async fn append_call_event(
        &self,
        request: Request<Streaming<v1::AppendCallEventRequest>>,
    ) -> Result<Response<Self::AppendCallEventStream>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let (vault, turns) = (Arc::clone(&self.vault), Arc::new(event::Turns::default()));
        let deed = move |item: v1::AppendCallEventRequest| {
            let (vault, caller, turns) = (Arc::clone(&vault), caller.clone(), Arc::clone(&turns));
            async move {
                let _turn = turns.of(&item.source_call_id).await;
                event::append(&vault, &caller, item).await
            }
        };
        let told = |kept: Result<Result<v1::AppendedCallEvent>, Status>| {
            use v1::append_call_event_response::Outcome;
            let outcome = match kept? {
                Ok(kept) => Outcome::Event(kept),
                Err(error) => Outcome::Error(status::to_item_status(&error)),
            };
            Ok(v1::AppendCallEventResponse { outcome: Some(outcome) })
        };
        Ok(Response::new(Box::pin(stream::each(request, "AppendCallEvent", deed).map(told))))
    }

    async fn list_calls(
        &self,
        request: Request<v1::ListCallsRequest>,
    ) -> Result<Response<v1::ListCallsResponse>, Status> {
        answer("ListCalls", list(&self.vault, request.into_inner())).await
    }

    async fn lookup_by_caller(
        &self,
        request: Request<v1::LookupByCallerRequest>,
    ) -> Result<Response<v1::LookupByCallerResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        Box::pin(lookup::by_caller(&self.vault, &caller, request.into_inner())).await
    }

    async fn decide_recording(
        &self,
        request: Request<v1::DecideRecordingRequest>,
    ) -> Result<Response<v1::DecideRecordingResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DecideRecording", recording::decide(&self.vault, &caller, request.into_inner())).await
    }
}

async fn upsert(vault: &Vault, caller: &Caller, ask: v1::UpsertCallRequest) -> Result<v1::UpsertCallResponse> {
    let (whole, outcome) = vault.upsert_call(caller, wire::upsert(ask, UPSERT)?).await?;
    let call = wire::call(vault.describe_call(whole));
    Ok(v1::UpsertCallResponse {
        call: Some(if vault.may_read_calls(caller) { call } else { wire::of_nobody(call) }),
        outcome: wire::outcome(outcome).into(),
        stale: outcome == Outcome::Stale,
    })
}

async fn attach(vault: &Vault, caller: &Caller, ask: v1::AttachPartRequest) -> Result<v1::AttachPartResponse> {
    let attached = vault.attach_part(caller, part::attach(ask)?).await?;
    Ok(v1::AttachPartResponse { part: Some(part::shown(attached.part)), created: attached.created })
}

async fn show(
    vault: &Vault,
    caller: &Caller,
    ask: v1::GetCallRequest,
    landing: &Landing,
) -> Result<v1::GetCallResponse> {
    let (shown, flight) = vault.show_call(caller, wire::show(ask)?).await?;
    let call = wire::call(shown);
    flight.map_or(Ok(()), |flight| landing.carry(flight))?;
    Ok(v1::GetCallResponse { call: Some(call) })
}

async fn list(vault: &Vault, mut ask: v1::ListCallsRequest) -> Result<v1::ListCallsResponse> {
    if !ask.source_system.is_empty() || !ask.source_call_id.is_empty() {
        let system = Label::code("source_system", &std::mem::take(&mut ask.source_system))?;
        let source_id = SourceCallId::parse("source_call_id", &std::mem::take(&mut ask.source_call_id))?;
        let page = (std::mem::take(&mut ask.page_size), std::mem::take(&mut ask.page_token));
        crate::vault::page_size(page.0)?;
        if ask != v1::ListCallsRequest::default() || !page.1.is_empty() {
            return Err(Error::invalid("source_call_id", "cannot be given together with what else chooses calls"));
        }
        let calls = vault.calls_told(&system, &source_id).await?.into_iter().map(wire::call).collect();
        return Ok(v1::ListCallsResponse { calls, ..Default::default() });
    }
    if !ask.subject.is_empty() && !ask.agent.is_empty() {
        return Err(Error::invalid("agent", "cannot be given together with subject"));
    }
    let served = !ask.agent.is_empty();
    let (field, subject) = if served { ("agent", &ask.agent) } else { ("subject", &ask.subject) };
    let subject = parse::optional(subject).map(SubjectId::parse).transpose().map_err(|error| error.at(field))?;
    let queue = parse::optional(&ask.queue).map(|code| Label::code("queue", code)).transpose()?;
    let filter = CallFilter {
        subject,
        served,
        queue: queue.map(|code| code.as_str().to_owned()),
        from: ask.start_time.map(|time| parse::time("start_time", time)).transpose()?,
        until: ask.end_time.map(|time| parse::time("end_time", time)).transpose()?,
        paid_unpaused: ask.payment_without_pause,
        paused_longer: Some(Duration::from_secs(ask.pause_longer_than_seconds.into())).filter(|pause| !pause.is_zero()),
    };
    let after = parse::page_token(&ask.page_token, CallId::parse)?;
    let size = crate::vault::page_size(ask.page_size)?;
    let (calls, next) = vault.list_calls(&filter, after, size).await?;
    let next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
    Ok(v1::ListCallsResponse { calls: calls.into_iter().map(wire::call).collect(), next_page_token })
}
