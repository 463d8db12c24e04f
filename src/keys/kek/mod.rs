//! Key-encrypting keys (SP 800-57): what wraps the content of a file slot and the key that signs receipts, so that a copy
//! of those files alone opens nothing. A KEK need not be able to forget; the slot is.
//!
//! A KEK has versions. The newest wraps; each wrapped secret names the one that it needs, and a version goes only after
//! nothing names it any more ([rotate]).

#[cfg(feature = "aws-kms")]
mod aws;
mod local;
mod pkcs11;
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
use crate::model::Result;

/// Wraps small secrets.
#[async_trait]
pub trait Kek: Send + Sync {
    /// Wraps `plain` for the use named by `label`, under the newest version that there is at this moment.
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>>;

    /// Unwraps what [`Kek::wrap`] made under the same label. `KeyCustodianUnavailable` for anything else.
    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes>;

    /// Which version a wrapped secret needs, if it is one of this KEK's.
    fn version_of(&self, wrapped: &[u8]) -> Option<String>;

    /// Its versions, the newest last.
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

/// Something that a KEK wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedCopy {
    /// Where it is.
    pub place: String,
    /// The version that it needs.
    pub version: String,
}

impl WrappedCopy {
    /// Tells about a wrapped secret, which must be one of the KEK's.
    pub fn of(kek: &dyn Kek, place: &std::path::Path, wrapped: &[u8]) -> Self {
        let version = kek.version_of(wrapped).unwrap_or_else(|| "unknown".to_owned());
        Self { place: place.display().to_string(), version }
    }
}
