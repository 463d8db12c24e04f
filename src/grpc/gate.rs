//! The gate: nobody is served who is not known, nor for longer than they are.
//!
//! A stream may go on for days. It ends with what its caller was known by: with the token that expires, or the certificate
//! that expires, is revoked or loses its authority.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame};
use tokio::time::Interval;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tower::Service;

use super::arrival::{Arriving, Room};
use super::identity::{Callers, Known, Proof, Unknown};
use super::listen::Peer;
use super::sparingly::Sparingly;
use super::status::to_status;
use super::tls::Tls;
use crate::model::{Error, Reason};
use crate::trace;

/// How often the caller of an answer that is not ready is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Lets in who is known.
#[derive(Clone)]
pub struct Gate {
    callers: Arc<Callers>,
    tls: Option<Arc<Tls>>,
    /// How long a call may take until it begins to be answered.
    patience: Duration,
    /// For messages of theirs that are arriving.
    room: Room,
}

impl Gate {
    /// A gate for these callers, who come by these certificates.
    pub fn new(callers: Arc<Callers>, tls: Option<Arc<Tls>>, patience: Duration, room: Room) -> Self {
        for credential in ["none", "certificate", "token", "jwt", "both"] {
            metrics::counter!("lacuna_callers_unknown_total", "credential" => credential).absolute(0);
        }
        Self { callers, tls, patience, room }
    }

    /// A service behind this gate.
    pub fn before<S>(&self, service: S) -> Gated<S> {
        Gated { gate: self.clone(), service }
    }

    /// Puts an answer under watch whose caller may become unknown before its end.
    fn keep_watch(self, proof: Proof, answer: Response<Body>) -> Response<Body> {
        if matches!(proof, Proof::Token) {
            return answer;
        }
        answer.map(|body| Body::new(Watched { gate: self, proof, body, look: None, ended: false }))
    }

    async fn let_in(&self, request: &mut Request<Body>) -> Result<Proof, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        match self.callers.identify(request.headers(), peer.as_ref(), self.tls.as_deref()).await {
            Ok(Known { caller, proof }) => {
                // Nobody behind the gate needs it.
                request.headers_mut().remove(AUTHORIZATION);
                trace::note_caller(&caller.name);
                request.extensions_mut().insert(caller);
                Ok(proof)
            }
            Err(unknown) => {
                tell(&unknown, peer.as_ref());
                Err(refusal())
            }
        }
    }
}

fn tell(unknown: &Unknown, peer: Option<&Peer>) {
    static TOLD: Sparingly = Sparingly::new();
    metrics::counter!("lacuna_callers_unknown_total", "credential" => unknown.what).increment(1);
    if TOLD.may_tell() {
        let address = peer.map(|peer| peer.address().to_string()).unwrap_or_default();
        tracing::warn!(%address, credential = unknown.what, why = %unknown.why, "a call of somebody unknown was refused");
    }
}

fn refusal() -> Status {
    to_status(&Error::new(
        Reason::CallerUnknown,
        "no caller is known by this credential; send `authorization: Bearer TOKEN`, or connect with a client certificate",
    ))
}

fn too_late() -> Status {
    tracing::warn!("a call took longer than the vault lets a call take");
    to_status(&Error::new(Reason::DeadlineExceeded, "the call took longer than the vault lets a call take"))
}

/// A service that only those reach who are known.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    service: S,
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        // The one that is ready is called; its copy has to become ready first.
        let copy = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, copy);
        Box::pin(async move {
            match gate.let_in(&mut request).await {
                Ok(proof) => {
                    let request = request.map(|body| Body::new(Arriving::over(body, gate.room.clone())));
                    match tokio::time::timeout(gate.patience, service.call(request)).await {
                        Ok(answer) => answer.map(|answer| gate.keep_watch(proof, answer)),
                        Err(_) => Ok(too_late().into_http()),
                    }
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// An answer whose caller may become unknown.
struct Watched {
    gate: Gate,
    proof: Proof,
    body: Body,
    /// When to look next, once there was something to wait for.
    look: Option<Interval>,
    ended: bool,
}

impl Watched {
    fn is_known(&self) -> bool {
        let checked = self.gate.callers.check(&self.proof, self.gate.tls.as_deref());
        checked.map_err(|unknown| tell(&unknown, None)).is_ok()
    }

    fn end(&mut self) -> Result<Frame<Bytes>, Status> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        refusal().add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && !self.is_known() => Poll::Ready(Some(self.end())),
            Poll::Pending => {
                while self.look.get_or_insert_with(|| tokio::time::interval(LOOK)).poll_tick(cx).is_ready() {
                    if !self.is_known() {
                        return Poll::Ready(Some(self.end()));
                    }
                }
                Poll::Pending
            }
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
