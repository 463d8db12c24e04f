//! `CallService`.

mod lookup;
mod recording;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::{answer, status};
use crate::proto::v1;
use crate::proto::v1::call_service_server::CallService;
use crate::vault::Vault;

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
    async fn lookup_by_caller(
        &self,
        request: Request<v1::LookupByCallerRequest>,
    ) -> Result<Response<v1::LookupByCallerResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        lookup::by_caller(&self.vault, &caller, request.into_inner()).await
    }

    async fn decide_recording(
        &self,
        request: Request<v1::DecideRecordingRequest>,
    ) -> Result<Response<v1::DecideRecordingResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DecideRecording", recording::decide(&self.vault, &caller, request.into_inner())).await
    }
}
