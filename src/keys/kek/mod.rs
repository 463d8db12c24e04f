//! Key-encrypting keys (SP 800-57): what wraps the content of the root slot, so that a copy of the slot's file alone
//! opens nothing. A KEK need not be able to forget; the slot is.

mod local;

pub use local::LocalKek;

use async_trait::async_trait;

use crate::crypto::SecretBytes;
use crate::model::Result;

/// Wraps small secrets.
#[async_trait]
pub trait Kek: Send + Sync {
    /// Wraps `plain` for the use named by `label`.
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>>;

    /// Unwraps what [`Kek::wrap`] made under the same label. `KeyCustodianUnavailable` for anything else.
    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes>;

    /// Where the key is, for people.
    fn describe(&self) -> String;
}
