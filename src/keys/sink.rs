//! Checkpoint sinks: where the key state is copied to before the slot advances.
//!
//! A sink may be read by anyone and may keep everything for ever: what it holds opens only under the present root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::checkpoint::hex;
use super::files;
use crate::crash;
use crate::model::{Error, Reason, Result};

/// How many checkpoints a directory keeps: the present one, and some before it for whoever investigates.
const KEPT: usize = 3;

/// A place for checkpoints.
#[async_trait]
pub trait CheckpointSink: Send + Sync {
    /// Keeps a checkpoint; durable and read back when this returns.
    async fn put(&self, epoch: u64, root_id: &[u8; 16], bytes: &[u8]) -> Result<()>;

    /// The checkpoint of a root.
    async fn get(&self, root_id: &[u8; 16]) -> Result<Option<Vec<u8>>>;

    /// Removes checkpoints that are no longer needed once the slot stands at `root_id`.
    async fn collect_garbage(&self, root_id: &[u8; 16]) -> Result<()>;

    /// The newest epoch it holds.
    async fn newest(&self) -> Result<Option<u64>>;

    /// Where it is, for people.
    fn describe(&self) -> String;
}

/// A directory.
pub struct DirectorySink {
    path: PathBuf,
}

impl DirectorySink {
    /// A sink in `path`. A new vault makes the directory; later a missing one is an error, for its disk may not be
    /// mounted.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn unusable(&self, error: io::Error) -> Error {
        let message = format!("the checkpoint sink at {} cannot be used: {error}", self.path.display());
        Error::new(Reason::KeyCustodianUnavailable, message).because(error)
    }

    fn remove(&self, chosen: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.names().map_err(|error| self.unusable(error))? {
            if chosen(&name) {
                fs::remove_file(self.path.join(&name)).map_err(|error| self.unusable(error))?;
            }
        }
        Ok(())
    }

    /// Names of checkpoints, oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("keys-") && name.ends_with(".checkpoint") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

#[async_trait]
impl CheckpointSink for DirectorySink {
    async fn put(&self, epoch: u64, root_id: &[u8; 16], bytes: &[u8]) -> Result<()> {
        if epoch == 0 {
            files::make_private_directory(&self.path).map_err(|error| self.unusable(error))?;
        }
        let path = self.path.join(format!("keys-{epoch:020}-{}.checkpoint", hex(root_id)));
        let written = files::replace(&path, bytes).and_then(|()| fs::read(&path));
        crash::point("sink::written");
        let read = written.map_err(|error| self.unusable(error))?;
        if read != bytes {
            return Err(self.unusable(io::Error::other("it read back something else than was written")));
        }
        // Another checkpoint of this epoch is of a run that failed: its root was never put into the slot, or was
        // replaced there by this one.
        self.remove(|name| name.starts_with(&format!("keys-{epoch:020}-")) && !name.contains(&hex(root_id)))
    }

    async fn get(&self, root_id: &[u8; 16]) -> Result<Option<Vec<u8>>> {
        let ending = format!("-{}.checkpoint", hex(root_id));
        let names = self.names().map_err(|error| self.unusable(error))?;
        let Some(name) = names.iter().find(|name| name.ends_with(&ending)) else { return Ok(None) };
        fs::read(self.path.join(name)).map(Some).map_err(|error| self.unusable(error))
    }

    async fn collect_garbage(&self, root_id: &[u8; 16]) -> Result<()> {
        let names = self.names().map_err(|error| self.unusable(error))?;
        let present = names.iter().position(|name| name.contains(&hex(root_id)));
        let obsolete = present.map_or(0, |at| (at + 1).saturating_sub(KEPT));
        let obsolete: Vec<_> = names.into_iter().take(obsolete).collect();
        self.remove(|name| obsolete.iter().any(|old| old == name))
    }

    async fn newest(&self) -> Result<Option<u64>> {
        let names = self.names().map_err(|error| self.unusable(error))?;
        Ok(names.last().and_then(|name| name.get(5..25)?.parse().ok()))
    }

    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_present_checkpoint_and_some_before_it() {
        let home = tempfile::tempdir().unwrap();
        let sink = DirectorySink::new(&home.path().join("checkpoints"));
        assert_eq!(sink.newest().await.unwrap(), None);
        for epoch in 0..6_u8 {
            sink.put(epoch.into(), &[epoch; 16], &[epoch, 1]).await.unwrap();
        }
        // Epoch 5 was prepared and never came to be: it stays, and 4 is the present one.
        sink.collect_garbage(&[4; 16]).await.unwrap();
        assert_eq!(sink.get(&[4; 16]).await.unwrap().unwrap(), [4, 1]);
        assert!(sink.get(&[5; 16]).await.unwrap().is_some());
        assert!(sink.get(&[2; 16]).await.unwrap().is_some());
        assert!(sink.get(&[1; 16]).await.unwrap().is_none());
        assert_eq!(sink.newest().await.unwrap(), Some(5));
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("not-a-directory");
        std::fs::write(&file, "x").unwrap();
        let error = DirectorySink::new(&file).put(0, &[0; 16], b"x").await.unwrap_err();
        assert_eq!(error.reason, Reason::KeyCustodianUnavailable);
        assert!(error.message.contains("not-a-directory"));
    }
}
