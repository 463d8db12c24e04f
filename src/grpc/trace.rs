//! Every call has an id, which its caller is told whatever becomes of it, and which everything that is told of it names.
//!
//! It stands before the gate, so that those who are refused there, and those who have waited too long, can ask about it too.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use super::landing;
use super::rights::right;
use crate::keys::checkpoint::hex;
use crate::telemetry::otlp::{Ended, Tracer};
use crate::trace::{Parent, Trace};
use crate::vault::Vault;

/// The header of an answer that names the call as the log and the audit do.
const REQUEST_ID: &str = "x-request-id";
/// The header of a call that tells what it is part of (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";

/// What is told of a call to an rpc that does not exist: its name is whatever the caller wrote.
const NO_RPC: &str = "unknown";

/// A service whose calls can be found.
#[derive(Clone)]
pub struct Traced<S> {
    service: S,
    vault: Arc<Vault>,
    tracer: Option<Arc<Tracer>>,
}

impl<S> Traced<S> {
    /// Gives the calls of a service their ids, and tells of them if there is a tracer.
    pub const fn new(service: S, vault: Arc<Vault>, tracer: Option<Arc<Tracer>>) -> Self {
        Self { service, vault, tracer }
    }

    fn begin(&self, headers: &HeaderMap) -> Arc<Trace> {
        let random = self.vault.custody().ring.random();
        let (mut id, parent) = ([0; 8], parent(headers));
        random.fill(&mut id);
        let span = self.tracer.as_ref().and_then(|tracer| tracer.begin(parent, random));
        Arc::new(Trace::begin(hex(&id), parent, span))
    }
}

/// What a call is part of. Whoever names two things names none.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(TRACE_PARENT).iter();
    let header = all.next()?;
    if all.next().is_some() {
        return None;
    }
    Parent::parse(header.to_str().ok()?)
}

impl<S: NamedService> NamedService for Traced<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let trace = self.begin(request.headers());
        let rpc = right(request.uri().path()).map_or(NO_RPC, |(_, rpc)| rpc);
        let (service, tracer) = (S::NAME, self.tracer.clone());
        let mut ending = Ending { service, rpc, begun: Instant::now(), code: None, trace: Arc::clone(&trace), tracer };
        let answering = Arc::clone(&trace).within(|| self.service.call(request));
        Box::pin(Arc::clone(&trace).scope(async move {
            let mut answered = landing::watch(answering.await?);
            ending.look(answered.headers());
            if let Ok(id) = HeaderValue::from_str(trace.request()) {
                answered.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(answered.map(|body| Body::new(Answer { body, ending })))
        }))
    }
}

/// Tells how a call has ended when it is dropped: also the call of somebody who has not waited for that.
struct Ending {
    service: &'static str,
    rpc: &'static str,
    begun: Instant,
    /// How it was answered, once that is known.
    code: Option<Code>,
    trace: Arc<Trace>,
    tracer: Option<Arc<Tracer>>,
}

impl Ending {
    /// Looks for the status among headers or trailers.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (rpc, code, took) = (self.rpc, self.code.unwrap_or(Code::Cancelled), self.begun.elapsed());
        Arc::clone(&self.trace).within(|| tracing::debug!(rpc, ?code, ?took, "a call has ended"));
        if let Some(tracer) = &self.tracer {
            tracer.end(Ended { trace: Arc::clone(&self.trace), service: self.service, rpc, code });
        }
    }
}

/// An answer, whose parts are made as part of its call.
struct Answer {
    body: Body,
    ending: Ending,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let trace = Arc::clone(&self.ending.trace);
        let polled = trace.within(|| Pin::new(&mut self.body).poll_frame(cx));
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.ending.look(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
