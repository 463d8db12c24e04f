//! A sink that is a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::super::files;
use super::{CheckpointSink, Name, unusable};
use crate::crash;
use crate::model::{Error, Result};

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

    /// Does something with the directory where it may block: on a network's file system it may take its time.
    async fn at<T: Send + 'static>(&self, deed: impl FnOnce(&Path) -> io::Result<T> + Send + 'static) -> Result<T> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || deed(&path)).await.map_err(Error::internal)?;
        done.map_err(|error| {
            unusable(format!("the checkpoint sink at {} cannot be used: {error}", self.path.display())).because(error)
        })
    }
}

#[async_trait]
impl CheckpointSink for DirectorySink {
    async fn put(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.clone(), bytes.to_vec());
        self.at(move |path| put(path, &name, &bytes)).await
    }

    async fn get(&self, name: &Name) -> Result<Option<Vec<u8>>> {
        let name = name.to_string();
        self.at(move |path| files::read_if_there(&path.join(name))).await
    }

    async fn list(&self) -> Result<Vec<Name>> {
        self.at(|path| Ok(names(path)?.iter().filter_map(|name| Name::parse(name)).collect())).await
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        let name = name.to_string();
        self.at(move |path| remove_if_there(&path.join(name))).await
    }

    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }
}

fn put(path: &Path, name: &Name, bytes: &[u8]) -> io::Result<()> {
    if name.epoch == 0 {
        files::make_private_directory(path)?;
    }
    let file = path.join(name.to_string());
    match files::read_if_there(&file)? {
        Some(kept) if kept == bytes => return files::sync_directory(path),
        Some(_) => {
            return Err(io::Error::other(format!("{name} is there with another content, which it must not have")));
        }
        None => {}
    }
    sweep(path, name.epoch)?;
    files::replace(&file, bytes)?;
    crash::point("sink::written");
    if fs::read(&file)? == bytes {
        return Ok(());
    }
    Err(io::Error::other("it read back something else than was written"))
}

/// Removes what earlier epochs left half written. Whoever should still be at it is too late anyway.
fn sweep(path: &Path, epoch: u64) -> io::Result<()> {
    for name in names(path)? {
        let half_written = name.strip_suffix(files::UNFINISHED).and_then(Name::parse);
        if half_written.is_some_and(|unfinished| unfinished.epoch < epoch) {
            remove_if_there(&path.join(name))?;
        }
    }
    Ok(())
}

/// The names of all files, in order.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
