//! Checkpoint sinks: where the key state is copied to before the slot advances, and the journal soon after a change.
//!
//! A sink may be read by anyone and may keep everything for ever: what it holds opens only under the present root, and
//! the journal under a key of the vault's own. It knows nothing of what it keeps but the names; what to write, what it
//! adds up to and what may go is decided above it.

#[cfg(feature = "s3")]
mod bucket;
mod chain;
mod directory;
mod entry;
mod journal;
mod keep;
mod name;
mod set;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

#[cfg(feature = "s3")]
pub use bucket::{BucketSink, Settings as BucketSettings};
pub use chain::rebuild;
pub use directory::DirectorySink;
pub use entry::Entry;
pub use name::Name;
pub use set::{Sinks, Standing, Step};

use crate::model::{Error, Reason, Result};

/// A place for checkpoints and the journal. Names are of letters, digits, dots and dashes; what stands before the first
/// dash is the kind, and what stands before the second grows.
#[async_trait]
pub trait CheckpointSink: Send + Sync {
    /// Makes the place, for a new vault. Later a missing one is an error.
    async fn make(&self) -> Result<()>;

    /// Keeps something; durable and read back when this returns. What is kept under the name already is never
    /// changed: the same bytes are fine, others are an error.
    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// What is kept under that name, as it is.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The names of all that is kept of a kind, in order.
    async fn list(&self, kind: &str) -> Result<Vec<String>>;

    /// Removes what is kept under that name, if it is there.
    async fn remove(&self, name: &str) -> Result<()>;

    /// Refuses when the place is not there: what is missing may be a disk that is not mounted, and not empty.
    async fn is_there(&self) -> Result<()>;

    /// The names of all checkpoints, oldest first.
    async fn checkpoints(&self) -> Result<Vec<Name>> {
        Ok(self.list(Name::KIND).await?.iter().filter_map(|name| Name::parse(name)).collect())
    }

    /// The names of all entries of the journal, oldest first.
    async fn journal(&self) -> Result<Vec<Entry>> {
        self.is_there().await?;
        Ok(self.list(Entry::KIND).await?.iter().filter_map(|name| Entry::parse(name)).collect())
    }

    /// Where it is, for people.
    fn describe(&self) -> String;
}

fn unusable(message: String) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, message)
}
