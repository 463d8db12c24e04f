//! What a caller may do: the gate that every rpc passes before its message is read.
//!
//! The right that an rpc needs stands in one table ([`Action::of`]); an rpc that is not in it does not exist for anybody.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::status::{reason_name, to_status};
use crate::model::{Error, Reason};
use crate::policy::{Action, Caller};
use crate::vault::Vault;

/// Asks the vault about each call.
#[derive(Clone)]
pub struct Rights(Arc<Vault>);

impl Rights {
    /// A gate to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }

    /// Puts a service behind the gate.
    pub fn over<S>(&self, service: S) -> Gated<S> {
        Gated { service, rights: self.clone() }
    }

    async fn enter(&self, caller: Option<Caller>, path: &str) -> Result<(), Status> {
        let Some(caller) = caller else {
            return Err(to_status(&Error::new(Reason::CallerUnknown, "no caller is known by this credential")));
        };
        let Some((action, rpc)) = right(path) else { return Err(Status::unimplemented("there is no such rpc")) };
        self.0.enter(&caller, action, rpc).await.map_err(|error| {
            let reason = reason_name(error.reason);
            metrics::counter!("lacuna_calls_total", "rpc" => rpc, "reason" => reason).increment(1);
            to_status(&error)
        })
    }
}

/// The right that a call to this path needs, and the name of the rpc; `None` when there is no such rpc.
pub fn right(path: &str) -> Option<(Action, &'static str)> {
    let rpc = path.rsplit('/').next()?;
    let action = Action::of(rpc)?;
    let known = action.rpcs().iter().find(|known| **known == rpc)?;
    Some((action, *known))
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    service: S,
    rights: Rights,
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that is ready takes the call.
        let spare = self.service.clone();
        let mut service = mem::replace(&mut self.service, spare);
        let rights = self.rights.clone();
        Box::pin(async move {
            let caller = request.extensions().get::<Caller>().cloned();
            match rights.enter(caller, request.uri().path()).await {
                Ok(()) => service.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
