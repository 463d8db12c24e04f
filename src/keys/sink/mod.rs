//! Checkpoint sinks: where the key state is copied to before the slot advances.
//!
//! A sink may be read by anyone and may keep everything for ever: what it holds opens only under the present root. It
//! knows nothing of what it keeps but the names; what to write, what it adds up to and what may go is decided above it.

#[cfg(feature = "s3")]
mod bucket;
mod chain;
mod directory;
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
pub use name::Name;
pub use set::{Sinks, Standing, Step};

use crate::model::{Error, Reason, Result};

/// A place for checkpoints.
#[async_trait]
pub trait CheckpointSink: Send + Sync {
    /// Keeps a checkpoint; durable and read back when this returns. What is kept under the name already is never
    /// changed: the same bytes are fine, others are an error.
    async fn put(&self, name: &Name, bytes: &[u8]) -> Result<()>;

    /// The checkpoint of that name, as it is.
    async fn get(&self, name: &Name) -> Result<Option<Vec<u8>>>;

    /// The names of all checkpoints, oldest first.
    async fn list(&self) -> Result<Vec<Name>>;

    /// Removes a checkpoint, if it is there.
    async fn remove(&self, name: &Name) -> Result<()>;

    /// Where it is, for people.
    fn describe(&self) -> String;
}

fn unusable(message: String) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, message)
}
