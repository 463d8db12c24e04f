//! Configuration of the root slot and of what wraps it.

use std::path::PathBuf;

use serde::Deserialize;

/// The root slot, in files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slot {
    /// The deciding copy's directory: beside the data directory.
    pub directory: Option<PathBuf>,
    /// Directories of further copies.
    pub mirrors: Vec<PathBuf>,
    /// The key that wraps the slot: `kek.key` in the slot's directory. Better on another medium.
    pub kek_file: Option<PathBuf>,
}
