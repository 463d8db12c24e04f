//! Key-encrypting keys (SP 800-57): what wraps the content of a file slot and the key that signs receipts, so that a copy
//! of those files alone opens nothing. A KEK need not be able to forget; the slot is.
//!
//! A KEK has versions. The newest wraps; each wrapped secret names the one that it needs, and a version goes only after
//! nothing names it any more ([rotate]). A KEK serves one vault: it knows which, and so does whatever it wraps. Of what
//! another vault needs nobody here could know, and a rotation would destroy it.

#[cfg(feature = "aws-kms")]
pub(crate) mod aws;
#[cfg(any(feature = "aws-kms", fuzzing, test))]
pub(crate) mod blob;
pub(crate) mod local;
pub(crate) mod pkcs11;
mod rotate;
mod succession;

#[cfg(feature = "aws-kms")]
pub use aws::{AwsKek, Settings as KmsSettings};
pub use local::LocalKek;
pub use pkcs11::TokenKek;
pub use rotate::{KekRotation, Progress};
pub use succession::Succession;

use async_trait::async_trait;

use crate::crypto::SecretBytes;
use crate::model::{Error, Reason, Result};

/// What to do about a KEK of which there is no version yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Refuse: it was lost, or is somewhere else.
    Refuse,
    /// Make the first one: the vault is new, or the former KEK still opens everything.
    Make,
    /// Go on without: another KEK is still there, of which this one is to take the place.
    Await,
}

/// Wraps small secrets.
#[async_trait]
pub trait Kek: Send + Sync {
    /// Wraps `plain` for the use named by `label`, under the newest version that there is at this moment.
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>>;

    /// Unwraps what [`Kek::wrap`] made under the same label. `KeyCustodianUnavailable` for anything else.
    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes>;

    /// Which version a wrapped secret needs, after opening it.
    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String>;

    /// Its versions, the newest last. None before the first was made.
    async fn versions(&self) -> Result<Vec<String>>;

    /// Makes a version that wraps from now on, in every process.
    async fn add_version(&self) -> Result<String>;

    /// Destroys a version that nothing needs any more. To be called by [rotate] only, which makes sure of that.
    async fn destroy_version(&self, version: &str) -> Result<()>;

    /// What kind of KEK it is.
    fn kind(&self) -> &'static str;

    /// Where the key is, for people.
    fn describe(&self) -> String;
}

/// Wraps what is about to take the place of something, and makes sure that it opens: what a KEK was never seen to open may
/// be lost for ever.
pub async fn wrap(kek: &dyn Kek, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
    let wrapped = kek.wrap(label, plain).await?;
    if kek.unwrap(label, &wrapped).await?.expose() == plain.expose() {
        return Ok(wrapped);
    }
    let message = format!("the {} does not open what it has wrapped; nothing was replaced", kek.describe());
    Err(Error::new(Reason::KeyCustodianUnavailable, message))
}

/// Something that a KEK wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedCopy {
    /// Where it is.
    pub place: String,
    /// The version that it needs.
    pub version: String,
}

impl WrappedCopy {
    /// Tells about a wrapped secret, after opening it.
    pub async fn of(kek: &dyn Kek, label: &'static str, place: &std::path::Path, wrapped: &[u8]) -> Result<Self> {
        Ok(Self { place: place.display().to_string(), version: kek.needs(label, wrapped).await? })
    }
}
