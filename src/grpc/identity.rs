//! Who calls: a bearer token becomes a [`Caller`], or the call ends here.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::status::to_status;
use crate::crypto::derive;
use crate::model::{Error, Reason, Result};
use crate::policy::Caller;

/// Everyone who may call, by a digest of their token: the tokens themselves are not kept.
#[derive(Default)]
pub struct Callers(HashMap<[u8; 32], Caller>);

impl Callers {
    /// Admits a caller by their token. `false` when another caller has it already.
    pub fn add(&mut self, token: &str, caller: Caller) -> bool {
        self.0.insert(digest(token), caller).is_none()
    }

    fn find(&self, token: &str) -> Option<&Caller> {
        self.0.get(&digest(token))
    }
}

fn digest(token: &str) -> [u8; 32] {
    derive::sha256(&[b"lacuna/bearer/v1", token.trim().as_bytes()])
}

/// Lets in who is known.
#[derive(Clone)]
pub struct Gate(Arc<Callers>);

impl Gate {
    /// A gate for these callers.
    pub const fn new(callers: Arc<Callers>) -> Self {
        Self(callers)
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|header| header.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer ")));
        let Some(caller) = token.and_then(|token| self.0.find(token)).cloned() else {
            return Err(to_status(&Error::new(
                Reason::CallerUnknown,
                "no caller is known by this credential; send `authorization: Bearer TOKEN`",
            )));
        };
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// The caller that the gate let in.
pub fn caller<T>(request: &Request<T>) -> Result<Caller> {
    let missing = || Error::new(Reason::CallerUnknown, "no caller is known by this credential");
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}
