//! A PKCS#11 token: a hardware security module, a smart card, or `SoftHSM`. The module that speaks to it is a library of
//! the vendor's, loaded at run time.
//!
//! One thread for each module makes all calls into it, because sessions belong to one thread and because a module may
//! hang: then the callers get an error after a bounded time, and only the thread hangs. A session that broke is opened
//! again at the next call, with the module initialised anew, as most need it after a token was away.
//!
//! A module whose token went away may answer a search with nothing at all. So an answer counts only when the token
//! still tells about itself afterwards, and nothing may be concluded from an empty one.

mod objects;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

pub use objects::{Desk, KeyObject, Note};
use worker::Worker;

use super::files;
use crate::crypto::{Secret, SecretBytes};
use crate::model::{Error, Reason, Result};

/// Which token, and how to log in to it.
pub struct Options {
    /// The vendor's library.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The user's PIN.
    pub pin: Pin,
    /// Whether the token must be one that can be believed to have destroyed a key for good.
    pub hardware: bool,
}

/// The user's PIN, or where it is.
pub enum Pin {
    /// The PIN itself.
    Text(SecretBytes),
    /// A file that holds it; read at each login.
    File(PathBuf),
}

/// A token that can be used from any task.
pub struct Token {
    options: Arc<Options>,
    worker: Arc<Worker>,
}

impl Token {
    /// A token, not yet looked for: it may be away now and come back.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { worker: Worker::of(&options.module), options: Arc::new(options) }
    }

    /// Runs `work` on a session that is logged in. When this answers an error because of the time it took, the work
    /// may have been done all the same.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable`, naming the token and what to do.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Desk<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        self.worker.run(&self.options, work).await
    }

    /// Has the next call open a new session, with the module initialised anew.
    pub async fn reopen(&self) -> Result<()> {
        self.worker.reset(&self.options).await
    }

    /// Its label, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("PKCS#11 token {}", self.options.token)
    }
}

impl Options {
    fn pin(&self) -> Result<SecretBytes> {
        match &self.pin {
            Pin::Text(pin) => Ok(pin.expose().into()),
            Pin::File(path) => {
                let unusable = |error: std::io::Error| {
                    self.unavailable(format!("its PIN in {} cannot be read: {error}", path.display()))
                };
                files::check_private(path).map_err(unusable)?;
                let text = SecretBytes::new(std::fs::read(path).map_err(unusable)?);
                Ok(text.expose().trim_ascii().into())
            }
        }
    }

    fn unavailable(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Reason::KeyCustodianUnavailable, format!("the PKCS#11 token {} cannot be used: {what}", self.token))
    }
}

/// Why work on a token failed.
pub enum Trouble {
    /// The token or its module.
    Token(cryptoki::error::Error),
    /// What was found there.
    Refused(Error),
}

impl From<cryptoki::error::Error> for Trouble {
    fn from(error: cryptoki::error::Error) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A name for a PIN that was refused, so that it is not tried again until the token locks itself.
fn fingerprint(pin: &SecretBytes) -> [u8; 32] {
    let salt = Secret::build(|bytes| bytes.fill(0));
    crate::crypto::derive::tag(&salt, &[b"lacuna/refused-pin", pin.expose()])
}
