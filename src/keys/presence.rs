//! Whether every node uses the same directory of the root slot. It holds the locks and the key that signs receipts, so
//! a copy of it on another machine would go its own way without anybody noticing.
//!
//! A node leaves a file with its id there before it has a row among the nodes, and looks for the files of those who
//! have one. Of two who use different directories, the later does not find the file of the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint::{hex, unhex};
use super::files;
use crate::model::{Error, Reason, Result};
use crate::store::node::NodeId;

/// What the name of such a file ends with.
const ENDING: &str = "node";

/// How old the file of a node that has no row must be to be cleared away: its node ended without good-bye.
const LEFT_OVER: Duration = Duration::from_hours(24);

/// Says that a node is here.
pub fn announce(directory: &Path, id: &NodeId) -> Result<()> {
    files::replace(&file_of(directory, id), b"").map_err(|error| unusable(directory, error))
}

/// Takes that back.
pub fn withdraw(directory: &Path, id: &NodeId) {
    if let Err(error) = fs::remove_file(file_of(directory, id)) {
        tracing::debug!(%error, "the file of this node stays in the root slot's directory");
    }
}

/// Whether a node said that it is here.
pub fn is_here(directory: &Path, id: &NodeId) -> bool {
    file_of(directory, id).exists()
}

/// Clears away what nodes left that ended long ago.
pub fn clear(directory: &Path, nodes: &[NodeId]) -> Result<()> {
    let broken = |error| unusable(directory, error);
    for entry in fs::read_dir(directory).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).and_then(unhex);
        let ours = path.extension().is_some_and(|ending| ending == ENDING);
        let Some(id) = name.filter(|_| ours) else { continue };
        let written = fs::metadata(&path).and_then(|file| file.modified()).unwrap_or_else(|_| SystemTime::now());
        if !nodes.contains(&id) && written.elapsed().is_ok_and(|age| age > LEFT_OVER) {
            withdraw(directory, &id);
        }
    }
    Ok(())
}

/// The refusal of a directory that another node does not use.
pub fn elsewhere(directory: &Path, name: &str) -> Error {
    let message = format!(
        "the node {name} does not use this directory of the root slot, {}: slot.directory must be one and the same for all \
         nodes, on a file system that they share. A copy does not do",
        directory.display()
    );
    Error::new(Reason::KeyCustodianUnavailable, message)
}

fn file_of(directory: &Path, id: &NodeId) -> PathBuf {
    directory.join(format!("{}.{ENDING}", hex(id)))
}

fn unusable(directory: &Path, error: std::io::Error) -> Error {
    let message = format!("the directory of the root slot, {}, cannot be used: {error}", directory.display());
    Error::new(Reason::KeyCustodianUnavailable, message).because(error)
}
