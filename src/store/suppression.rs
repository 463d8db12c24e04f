//! The suppression list: names of identifiers, under a key that this floor does not know, and nothing else.

use std::collections::HashSet;

use async_trait::async_trait;

use crate::model::Result;

/// An identifier, as the list knows it.
pub type Name = [u8; 32];

/// The operations on the list.
#[async_trait]
pub trait Suppressions {
    /// Those of the names that are on the list. Asks the database only if there are any names.
    async fn suppressed(&mut self, names: &[Name]) -> Result<HashSet<Name>>;

    /// Puts names on the list, or leaves them there.
    async fn suppress(&mut self, names: &[Name]) -> Result<()>;

    /// Takes names off the list.
    async fn release(&mut self, names: &[Name]) -> Result<()>;
}
