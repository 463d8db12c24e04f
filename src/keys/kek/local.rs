//! A KEK in a local file, mode 0600: 32 random bytes, or several versions while one takes the place of another.
//!
//! A file of exactly 32 bytes is version 1. Otherwise it is a list of versions, each four bytes of its number and 32 of
//! its key, in order. The file is read at each use: another process may have made a version, and a key that is not kept
//! in memory cannot be read from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::Kek;
use crate::crypto::{Aad, Key, Random, Secret, SecretBytes, leaf_of, open, seal};
use crate::keys::files;
use crate::model::{Error, Reason, Result};

const NUMBER: usize = 4;
const KEY: usize = 32;
const FIRST: u32 = 1;

/// A key in a file. Keep the file on another medium than the slot: who copies both has the slot.
pub struct LocalKek {
    path: PathBuf,
    random: Arc<dyn Random>,
}

type Versions = Vec<(u32, Secret<KEY>)>;

impl LocalKek {
    /// The key in `path`, after making one if `create` and there is none.
    pub fn open(path: &Path, create: bool, random: Arc<dyn Random>) -> Result<Self> {
        if create && !path.exists() {
            let fresh = Secret::<KEY>::random(&*random);
            files::replace(path, fresh.expose()).map_err(|error| unusable(path, error))?;
        }
        read(path)?;
        Ok(Self { path: path.to_owned(), random })
    }

    async fn read(&self) -> Result<Versions> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        read.map_err(|error| unusable(&self.path, io::Error::other(error)))?
    }

    async fn write(&self, versions: &[(u32, Secret<KEY>)]) -> Result<()> {
        let mut bytes = SecretBytes::with_capacity(versions.len() * (NUMBER + KEY));
        for (number, key) in versions {
            bytes.append(&number.to_be_bytes());
            bytes.append(key.expose());
        }
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || files::replace(&path, bytes.expose())).await;
        written.map_err(io::Error::other).flatten().map_err(|error| unusable(&self.path, error))
    }
}

fn read(path: &Path) -> Result<Versions> {
    files::check_private(path).map_err(|error| unusable(path, error))?;
    let bytes = SecretBytes::new(fs::read(path).map_err(|error| unusable(path, error))?);
    parse(bytes.expose()).ok_or_else(|| unusable(path, "it holds neither exactly 32 bytes nor a list of versions"))
}

fn parse(bytes: &[u8]) -> Option<Versions> {
    if let Some(only) = Secret::from_slice(bytes) {
        return Some(vec![(FIRST, only)]);
    }
    let mut versions: Versions = Vec::new();
    for entry in bytes.chunks(NUMBER + KEY) {
        let (number, key) = entry.split_first_chunk::<NUMBER>()?;
        let number = u32::from_be_bytes(*number);
        if versions.last().is_some_and(|(last, _)| *last >= number) {
            return None;
        }
        versions.push((number, Secret::from_slice(key)?));
    }
    (!versions.is_empty()).then_some(versions)
}

#[async_trait]
impl Kek for LocalKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let versions = self.read().await?;
        let (number, key) = versions.last().ok_or_else(|| unusable(&self.path, "it holds no version"))?;
        Ok(seal(&Key::new(key), u64::from(*number), &Aad::new(label), plain.expose(), &*self.random))
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        let versions = self.read().await?;
        let wanted = leaf_of(wrapped);
        let found = versions.iter().find(|(number, _)| Some(u64::from(*number)) == wanted);
        let broken = |what: String| unusable(&self.path, what).with("wrapped", label);
        match (found, wanted) {
            (Some((_, key)), _) => {
                open(&Key::new(key), &Aad::new(label), wrapped).map_err(|error| broken(error.to_string()))
            }
            (None, Some(wanted)) => Err(broken(format!("it does not hold version {wanted}"))),
            (None, None) => {
                Err(broken("what it should open is not wrapped by a key in a file, or is cut short".to_owned()))
            }
        }
    }

    fn version_of(&self, wrapped: &[u8]) -> Option<String> {
        leaf_of(wrapped).map(|version| version.to_string())
    }

    async fn versions(&self) -> Result<Vec<String>> {
        Ok(self.read().await?.iter().map(|(number, _)| number.to_string()).collect())
    }

    async fn add_version(&self) -> Result<String> {
        let mut versions = self.read().await?;
        let number = versions.last().map_or(FIRST, |(number, _)| number + 1);
        versions.push((number, Secret::random(&*self.random)));
        self.write(&versions).await?;
        Ok(number.to_string())
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        let mut versions = self.read().await?;
        if versions.last().is_none_or(|(newest, _)| newest.to_string() == version) {
            return Err(unusable(&self.path, "its newest version is in use and cannot be destroyed"));
        }
        versions.retain(|(number, _)| number.to_string() != version);
        self.write(&versions).await
    }

    fn kind(&self) -> &'static str {
        "local"
    }

    fn describe(&self) -> String {
        format!("local file {}", self.path.display())
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    let message = format!("the key-encrypting key in {} cannot be used: {source}", path.display());
    Error::new(Reason::KeyCustodianUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    const LABEL: &str = "test/kek/v1";

    #[tokio::test]
    async fn versions_come_and_go_and_each_secret_names_its_own() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kek");
        let kek = LocalKek::open(&path, true, Arc::new(SystemRandom::new())).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), KEY);
        let plain = SecretBytes::from("a root".to_owned());
        let old = kek.wrap(LABEL, &plain).await.unwrap();
        // Another process.
        let other = LocalKek::open(&path, false, Arc::new(SystemRandom::new())).unwrap();
        assert_eq!(other.add_version().await.unwrap(), "2");
        let new = kek.wrap(LABEL, &plain).await.unwrap();
        assert_eq!([&old, &new].map(|wrapped| kek.version_of(wrapped).unwrap()), ["1", "2"]);
        for wrapped in [&old, &new] {
            assert_eq!(kek.unwrap(LABEL, wrapped).await.unwrap().expose(), b"a root");
            assert!(kek.unwrap("test/other/v1", wrapped).await.is_err());
        }
        assert!(kek.destroy_version("2").await.is_err());
        kek.destroy_version("1").await.unwrap();
        assert_eq!(other.versions().await.unwrap(), ["2"]);
        let Err(error) = other.unwrap(LABEL, &old).await else { panic!("a version came back") };
        assert!(error.message.contains("does not hold version 1"), "{error}");
        assert_eq!(kek.add_version().await.unwrap(), "3");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        let entry = |number: u8| [&[0, 0, 0, number][..], &[7; KEY]].concat();
        for bad in [vec![], vec![1; 31], vec![1; 33], entry(1)[..35].to_vec(), [entry(2), entry(2)].concat()] {
            assert!(parse(&bad).is_none(), "{} bytes", bad.len());
        }
        assert_eq!(parse(&[entry(2), entry(5)].concat()).unwrap().len(), 2);
    }
}
