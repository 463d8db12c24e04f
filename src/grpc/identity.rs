//! Who calls: a credential becomes a [`Caller`], or the call ends here.
//!
//! A caller is known by its client certificate or by a bearer token. Whoever sends both is the bearer, and both must not
//! name different callers. What was wrong with a credential stands in the log and is not answered: it would help only
//! those who try.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::AUTHORIZATION;

use super::jwt::{self, Issuer, Refused, Token, Why};
use super::listen::Peer;
use super::tls::{Certificate, Tls};
use crate::crypto::derive;
use crate::model::{Clock, Error, Reason, Result, Time};
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

/// A caller who was recognised.
pub struct Known {
    /// Who it is.
    pub caller: Caller,
    /// By what, and for how long that is good.
    pub proof: Proof,
}

/// What a caller is known by.
#[derive(Clone)]
pub enum Proof {
    /// A token that is good for ever.
    Token,
    /// A token that is good until then.
    TokenUntil(Time),
    /// The certificate of a connection, as long as nothing is said against it.
    Certificate(Peer),
}

/// Why a credential names nobody; for the log and the metrics.
pub struct Unknown {
    /// Which credential.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
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
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Forgets tokens of issuers that have expired.
    pub fn forget_expired(&self) {
        let now = self.clock.now();
        self.issuers.iter().for_each(|issuer| issuer.forget_expired(now));
    }

    async fn by_bearer(&self, token: &str) -> Result<Known, Unknown> {
        let (token, digest) = (token.trim(), digest(token));
        if let Some(caller) = self.tokens.get(&digest) {
            return Ok(Known { caller: caller.clone(), proof: Proof::Token });
        }
        let now = self.clock.now();
        if let Some((caller, until)) = self.issuers.iter().find_map(|issuer| issuer.recall(&digest, now)) {
            return Ok(Known { caller, proof: Proof::TokenUntil(until) });
        }
        let Some(parsed) = Token::parse(token) else { return Err(Unknown::new("token", "nobody has this token")) };
        let unknown = |why: &str| Unknown::new("jwt", why);
        let issuer = self.issuers.iter().find(|issuer| parsed.issuer() == Some(issuer.name()));
        let issuer = issuer.ok_or_else(|| unknown("it is from no issuer whose tokens are taken"))?;
        let mut checked = issuer.check(&parsed, digest, self.clock.now());
        if matches!(checked, Err(Refused::Key)) {
            if let Err(error) = issuer.look(Why::Token).await {
                jwt::complain(&error);
            }
            checked = issuer.check(&parsed, digest, self.clock.now());
        }
        match checked {
            Ok((caller, until)) => Ok(Known { caller, proof: Proof::TokenUntil(until) }),
            Err(Refused::Key) => Err(unknown("it was signed with no key that its issuer publishes")),
            Err(Refused::Bad(why)) => Err(unknown(why)),
        }
    }

    /// Who makes a call.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        tls: Option<&Tls>,
    ) -> Result<Known, Unknown> {
        let shown = peer.and_then(|peer| peer.certificate().map(|certificate| (peer, certificate)));
        let certificate = shown.map(|(peer, certificate)| {
            let caller = self.by_certificate(certificate, tls)?;
            Ok(Known { caller, proof: Proof::Certificate(peer.clone()) })
        });
        let bearer = match bearer(headers)? {
            Some(token) => Some(self.by_bearer(token).await),
            None => None,
        };
        match (bearer, certificate) {
            (Some(Ok(known)), Some(Ok(other))) if known.caller.name != other.caller.name => {
                let (one, other) = (known.caller.name, other.caller.name);
                Err(Unknown::new("both", format!("the token is that of {one}, the certificate that of {other}")))
            }
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => Err(Unknown::new("none", "there is no credential")),
        }
    }

    /// Whether what a caller was known by is still good.
    ///
    /// # Errors
    /// Telling why not.
    pub fn check(&self, proof: &Proof, tls: Option<&Tls>) -> Result<(), Unknown> {
        match proof {
            Proof::Token => Ok(()),
            Proof::TokenUntil(until) if self.clock.now() < *until => Ok(()),
            Proof::TokenUntil(_) => Err(Unknown::new("jwt", "it has expired under a call")),
            Proof::Certificate(peer) => match (peer.certificate(), tls) {
                (Some(shown), Some(tls)) => tls.check(shown).map_err(|why| Unknown::new("certificate", why)),
                _ => Err(Unknown::new("certificate", "there is none")),
            },
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

/// The caller that the gate let in.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller> {
    let missing = || Error::new(Reason::CallerUnknown, "no caller is known by this credential");
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}
