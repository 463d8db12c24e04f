//! Every call is on record before it is answered: what its deed has not recorded is recorded here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;

use crate::model::{Error, Result};
use crate::policy::Caller;
use crate::vault::Vault;
use crate::vault::audit::call::Call;

/// A service whose calls are on record. It stands behind the gate, which knows the caller.
#[derive(Clone)]
pub struct Recorded<S> {
    service: S,
    vault: Arc<Vault>,
}

impl<S> Recorded<S> {
    /// Puts the calls of a service on the record of a vault.
    pub const fn new(service: S, vault: Arc<Vault>) -> Self {
        Self { service, vault }
    }
}

impl<S: NamedService> NamedService for Recorded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for Recorded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = request.extensions().get::<Caller>().map(|caller| Call::begin(Arc::clone(&self.vault), caller));
        let answering = self.service.call(request);
        // Without a caller the gate has let nobody in, and the service refuses.
        let Some(call) = call else { return Box::pin(answering) };
        Box::pin(call.scope(answering))
    }
}

/// Does a deed of the present call, and puts on record what the deed has not.
pub async fn settle<T>(rpc: &'static str, deed: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = deed.await;
    let call = Call::current().ok_or_else(|| Error::internal("a call that is not on record"))?;
    call.settle(rpc, outcome).await
}

/// Does one deed of a stream of them, with a record of its own.
pub async fn item<T>(call: Option<Arc<Call>>, rpc: &'static str, deed: impl Future<Output = Result<T>>) -> Result<T> {
    let call = call.ok_or_else(|| Error::internal("a stream that is not on record"))?.item();
    call.scope(settle(rpc, deed)).await
}
