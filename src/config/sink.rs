//! Configuration of the checkpoint sinks.

use std::path::PathBuf;

use serde::Deserialize;

/// A checkpoint sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// A directory.
    pub directory: PathBuf,
}
