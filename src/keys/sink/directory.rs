//! A sink that is a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::super::files;
use super::{CheckpointSink, unusable};
use crate::crash;
use crate::model::{Error, Result};

/// A directory.
pub struct DirectorySink {
    path: PathBuf,
}

impl DirectorySink {
    /// A sink in `path`. A missing directory is an error, for its disk may not be mounted.
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
    async fn make(&self) -> Result<()> {
        self.at(files::make_private_directory).await
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.at(move |path| put(path, &name, &bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.at(move |path| files::read_if_there(&path.join(name))).await
    }

    async fn is_there(&self) -> Result<()> {
        self.at(|path| fs::read_dir(path).map(drop)).await
    }

    async fn list(&self, kind: &str) -> Result<Vec<String>> {
        let kind = format!("{kind}-");
        let of_kind = move |name: &String| name.starts_with(&kind) && !name.ends_with(files::UNFINISHED);
        self.at(move |path| Ok(names(path)?.into_iter().filter(of_kind).collect())).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.at(move |path| remove_if_there(&path.join(name))).await
    }

    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }
}

fn put(path: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = path.join(name);
    match files::read_if_there(&file)? {
        Some(kept) if kept == bytes => return files::sync_directory(path),
        Some(_) => {
            return Err(io::Error::other(format!("{name} is there with another content, which it must not have")));
        }
        None => {}
    }
    sweep(path, name)?;
    files::replace(&file, bytes)?;
    crash::point("sink::written");
    if fs::read(&file)? == bytes {
        return Ok(());
    }
    Err(io::Error::other("it read back something else than was written"))
}

/// Removes what was left half written of the same kind earlier. Whoever should still be at it is too late anyway.
fn sweep(path: &Path, present: &str) -> io::Result<()> {
    let present = place(present);
    for name in names(path)? {
        let unfinished = name.strip_suffix(files::UNFINISHED).map(place);
        if unfinished.is_some_and(|(kind, number)| kind == present.0 && number < present.1) {
            remove_if_there(&path.join(name))?;
        }
    }
    Ok(())
}

/// The first two parts of a name: its kind, and what grows.
fn place(name: &str) -> (&str, &str) {
    let (kind, rest) = name.split_once('-').unwrap_or((name, ""));
    (kind, rest.split_once('-').map_or(rest, |(number, _)| number))
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
