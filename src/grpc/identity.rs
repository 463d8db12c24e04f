//! Who calls: a credential becomes a [`Caller`], or the call ends here.
//!
//! A caller is known by its client certificate or by a bearer token. Whoever sends both is the bearer, and both must not
//! name different callers. What was wrong with a credential stands in the log and is not answered: it would help only
//! those who try.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tower::Service;

use super::jwt::{self, Issuer, Refused, Token, Why};
use super::listen::Peer;
use super::sparingly::Sparingly;
use super::status::to_status;
use super::tls::{Certificate, Tls};
use crate::crypto::derive;
use crate::model::{Clock, Error, Reason, Result};
use crate::policy::Caller;

/// The longest credential that is looked at.
const LONGEST: usize = 8 << 10;

/// Everyone who may call.
pub struct Callers {
    /// By a digest of their token: the tokens themselves are not kept.
    tokens: HashMap<[u8; 32], Caller>,
    /// By a name in their certificate.
    certificates: HashMap<String, Caller>,
    /// By what an issuer of tokens says of them.
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
}

/// Why a credential names nobody; for the log and the metrics.
struct Unknown {
    what: &'static str,
    why: String,
}

impl Unknown {
    fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into() }
    }
}

impl Callers {
    /// Nobody yet, and those who will issue tokens.
    pub fn new(issuers: Vec<Issuer>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens: HashMap::new(), certificates: HashMap::new(), issuers, clock }
    }

    /// Admits a caller by their token. `false` when another caller has it already.
    pub fn add(&mut self, token: &str, caller: Caller) -> bool {
        self.tokens.insert(digest(token), caller).is_none()
    }

    /// Admits a caller by a name in their certificate, which the configuration gives to one of them only.
    pub fn add_certificate(&mut self, name: &str, caller: Caller) {
        self.certificates.insert(name.to_owned(), caller);
    }

    fn by_certificate(&self, certificate: &Certificate, tls: Option<&Tls>) -> Result<Caller, Unknown> {
        let unknown = |why: String| Unknown::new("certificate", why);
        tls.map_or_else(|| Err("there is no TLS".to_owned()), |tls| tls.check(certificate)).map_err(unknown)?;
        let mut found = certificate.names().iter().filter_map(|name| self.certificates.get(name));
        let Some(caller) = found.next() else {
            return Err(unknown(format!("no caller has any of its names: {}", certificate.names().join(", "))));
        };
        if let Some(other) = found.find(|other| other.name != caller.name) {
            return Err(unknown(format!("it names both {} and {}", caller.name, other.name)));
        }
        Ok(caller.clone())
    }

    /// Those who issue tokens.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    async fn by_bearer(&self, token: &str) -> Result<Caller, Unknown> {
        if let Some(known) = self.tokens.get(&digest(token)) {
            return Ok(known.clone());
        }
        let Some(parsed) = Token::parse(token) else { return Err(Unknown::new("token", "nobody has this token")) };
        let unknown = |why: &str| Unknown::new("jwt", why);
        let issuer = self.issuers.iter().find(|issuer| parsed.issuer() == Some(issuer.name()));
        let issuer = issuer.ok_or_else(|| unknown("it is from no issuer whose tokens are taken"))?;
        let mut checked = issuer.check(&parsed, self.clock.now());
        if matches!(checked, Err(Refused::Key)) {
            if let Err(error) = issuer.look(Why::Token).await {
                jwt::complain(&error);
            }
            checked = issuer.check(&parsed, self.clock.now());
        }
        match checked {
            Ok(caller) => Ok(caller),
            Err(Refused::Key) => Err(unknown("it was signed with no key that its issuer publishes")),
            Err(Refused::Bad(why)) => Err(unknown(why)),
        }
    }

    async fn identify(&self, headers: &HeaderMap, peer: Option<&Peer>, tls: Option<&Tls>) -> Result<Caller, Unknown> {
        let certificate = peer.and_then(Peer::certificate).map(|certificate| self.by_certificate(certificate, tls));
        let bearer = match bearer(headers)? {
            Some(token) => Some(self.by_bearer(token).await),
            None => None,
        };
        match (bearer, certificate) {
            (Some(Ok(caller)), Some(Ok(other))) if caller.name != other.name => Err(Unknown::new(
                "both",
                format!("the token is that of {}, the certificate that of {}", caller.name, other.name),
            )),
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => Err(Unknown::new("none", "there is no credential")),
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    derive::sha256(&[b"lacuna/bearer/v1", token.trim().as_bytes()])
}

/// The bearer token among the headers of a call, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unknown> {
    let unknown = |why: &str| Unknown::new("token", why);
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(unknown("there are several"));
    }
    if header.len() > LONGEST {
        return Err(unknown("it is too long"));
    }
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| Some(token)).ok_or_else(|| unknown("it is no bearer token"))
}

/// Lets in who is known.
#[derive(Clone)]
pub struct Gate {
    callers: Arc<Callers>,
    tls: Option<Arc<Tls>>,
    /// How long a call may take until it begins to be answered.
    patience: Duration,
}

impl Gate {
    /// A gate for these callers, who come by these certificates.
    pub fn new(callers: Arc<Callers>, tls: Option<Arc<Tls>>, patience: Duration) -> Self {
        for credential in ["none", "certificate", "token", "jwt", "both"] {
            metrics::counter!("lacuna_callers_unknown_total", "credential" => credential).absolute(0);
        }
        Self { callers, tls, patience }
    }

    /// A service behind this gate.
    pub fn before<S>(&self, service: S) -> Gated<S> {
        Gated { gate: self.clone(), service }
    }

    async fn let_in(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        match self.callers.identify(request.headers(), peer.as_ref(), self.tls.as_deref()).await {
            Ok(caller) => {
                // Nobody behind the gate needs it.
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(caller);
                Ok(())
            }
            Err(unknown) => {
                tell(&unknown, peer.as_ref(), request.uri().path());
                Err(refusal())
            }
        }
    }
}

fn tell(unknown: &Unknown, peer: Option<&Peer>, rpc: &str) {
    static TOLD: Sparingly = Sparingly::new();
    metrics::counter!("lacuna_callers_unknown_total", "credential" => unknown.what).increment(1);
    if TOLD.may_tell() {
        let address = peer.map(|peer| peer.address().to_string()).unwrap_or_default();
        tracing::warn!(%address, rpc, credential = unknown.what, why = %unknown.why, "a call of somebody unknown was refused");
    }
}

fn refusal() -> Status {
    to_status(&Error::new(
        Reason::CallerUnknown,
        "no caller is known by this credential; send `authorization: Bearer TOKEN`, or connect with a client certificate",
    ))
}

fn too_late() -> Status {
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
                Ok(()) => match tokio::time::timeout(gate.patience, service.call(request)).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(too_late().into_http()),
                },
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// The caller that the gate let in.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller> {
    let missing = || Error::new(Reason::CallerUnknown, "no caller is known by this credential");
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}
