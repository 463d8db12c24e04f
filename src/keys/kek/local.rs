//! A KEK in a local file, mode 0600: one version, or several while one takes the place of another.
//!
//! The file is a format byte, the sixteen bytes of the vault that it serves, and a list of versions in order, each four
//! bytes of its number and 32 of its key. The file is read at each use: another process may have made a version, and a
//! key that is not kept in memory cannot be read from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Absent, Kek};
use crate::crypto::{Aad, Key, Random, Secret, SecretBytes, leaf_of, open, seal};
use crate::keys::checkpoint::hex;
use crate::keys::files;
use crate::model::{Error, Reason, Result};

const FORMAT: u8 = 1;
const NUMBER: usize = 4;
const KEY: usize = 32;
const FIRST: u32 = 1;

/// A key in a file. Keep the file on another medium than the slot: who copies both has the slot.
pub struct LocalKek {
    path: PathBuf,
    /// The vault that it serves, by the id of its key tree.
    tree: [u8; 16],
    /// Whether the file may not be there yet.
    awaited: bool,
    random: Arc<dyn Random>,
}

type Versions = Vec<(u32, Secret<KEY>)>;

impl LocalKek {
    /// The key in `path` for the vault of `tree`, which must not be that of another.
    pub fn open(path: &Path, tree: [u8; 16], absent: Absent, random: Arc<dyn Random>) -> Result<Self> {
        if absent == Absent::Make && !path.exists() {
            let bytes = encode(&tree, &[(FIRST, Secret::random(&*random))]);
            files::replace(path, bytes.expose()).map_err(|error| unusable(path, error))?;
        }
        let awaited = absent == Absent::Await;
        read(path, &tree, awaited)?;
        Ok(Self { path: path.to_owned(), tree, awaited, random })
    }

    async fn read(&self) -> Result<Versions> {
        let (path, tree, awaited) = (self.path.clone(), self.tree, self.awaited);
        let read = tokio::task::spawn_blocking(move || read(&path, &tree, awaited)).await;
        read.map_err(|error| unusable(&self.path, io::Error::other(error)))?
    }

    async fn write(&self, versions: &[(u32, Secret<KEY>)]) -> Result<()> {
        let (bytes, path) = (encode(&self.tree, versions), self.path.clone());
        let written = tokio::task::spawn_blocking(move || files::replace(&path, bytes.expose())).await;
        written.map_err(io::Error::other).flatten().map_err(|error| unusable(&self.path, error))
    }

    fn aad(&self, label: &'static str) -> Aad {
        Aad::new(label).bytes(&self.tree)
    }
}

fn read(path: &Path, tree: &[u8; 16], awaited: bool) -> Result<Versions> {
    if awaited && !path.exists() {
        return Ok(Vec::new());
    }
    files::check_private(path).map_err(|error| unusable(path, error))?;
    let bytes = SecretBytes::new(fs::read(path).map_err(|error| unusable(path, error))?);
    let (owner, versions) =
        parse(bytes.expose()).ok_or_else(|| unusable(path, "it is no file of a key-encrypting key, or damaged"))?;
    if owner != *tree {
        let whose = "it belongs to another vault, which needs it for itself; name another file in slot.kek_file";
        return Err(unusable(path, whose).with("belongs_to", hex(&owner)).with("vault", hex(tree)));
    }
    Ok(versions)
}

pub(crate) fn encode(tree: &[u8; 16], versions: &[(u32, Secret<KEY>)]) -> SecretBytes {
    let mut bytes = SecretBytes::with_capacity(1 + tree.len() + versions.len() * (NUMBER + KEY));
    bytes.append(&[FORMAT]);
    bytes.append(tree);
    for (number, key) in versions {
        bytes.append(&number.to_be_bytes());
        bytes.append(key.expose());
    }
    bytes
}

/// The vault that a file serves, and its versions.
pub(crate) fn parse(bytes: &[u8]) -> Option<([u8; 16], Versions)> {
    let (format, rest) = bytes.split_first()?;
    (*format == FORMAT).then_some(())?;
    let (tree, rest) = rest.split_first_chunk::<16>()?;
    let mut versions: Versions = Vec::new();
    for entry in rest.chunks(NUMBER + KEY) {
        let (number, key) = entry.split_first_chunk::<NUMBER>()?;
        let number = u32::from_be_bytes(*number);
        if versions.last().is_some_and(|(last, _)| *last >= number) {
            return None;
        }
        versions.push((number, Secret::from_slice(key)?));
    }
    (!versions.is_empty()).then_some((*tree, versions))
}

#[async_trait]
impl Kek for LocalKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let versions = self.read().await?;
        let (number, key) = versions.last().ok_or_else(|| unusable(&self.path, "it holds no version"))?;
        Ok(seal(&Key::new(key), u64::from(*number), &self.aad(label), plain.expose(), &*self.random))
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        let versions = self.read().await?;
        let wanted = leaf_of(wrapped);
        let found = versions.iter().find(|(number, _)| Some(u64::from(*number)) == wanted);
        let broken = |what: String| unusable(&self.path, what).with("wrapped", label);
        match (found, wanted) {
            (Some((_, key)), _) => {
                open(&Key::new(key), &self.aad(label), wrapped).map_err(|error| broken(error.to_string()))
            }
            (None, Some(wanted)) => Err(broken(format!("it does not hold version {wanted}"))),
            (None, None) => {
                Err(broken("what it should open is not wrapped by a key in a file, or is cut short".to_owned()))
            }
        }
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.unwrap(label, wrapped).await?;
        Ok(leaf_of(wrapped).unwrap_or_default().to_string())
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
    const TREE: [u8; 16] = [7; 16];

    #[tokio::test]
    async fn versions_come_and_go_and_each_secret_names_its_own() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kek");
        let kek = LocalKek::open(&path, TREE, Absent::Make, Arc::new(SystemRandom::new())).unwrap();
        let plain = SecretBytes::from("a root".to_owned());
        let old = kek.wrap(LABEL, &plain).await.unwrap();
        // Another process.
        let other = LocalKek::open(&path, TREE, Absent::Refuse, Arc::new(SystemRandom::new())).unwrap();
        assert_eq!(other.add_version().await.unwrap(), "2");
        let new = kek.wrap(LABEL, &plain).await.unwrap();
        for (wrapped, version) in [(&old, "1"), (&new, "2")] {
            assert_eq!(kek.needs(LABEL, wrapped).await.unwrap(), version);
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
        let file = |entries: &[u8]| [&[FORMAT][..], &TREE, entries].concat();
        let other_format = [&[FORMAT + 1][..], &TREE, &entry(1)].concat();
        let cut = file(&entry(1)[..35]);
        for bad in [vec![], vec![1; 32], file(&[]), other_format, cut, file(&[entry(2), entry(2)].concat())] {
            assert!(parse(&bad).is_none(), "{} bytes", bad.len());
        }
        let (tree, versions) = parse(&file(&[entry(2), entry(5)].concat())).unwrap();
        assert_eq!((tree, versions.len()), (TREE, 2));
    }

    #[tokio::test]
    async fn it_is_made_for_one_vault_and_awaited_where_another_gives_way() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kek");
        let open = |tree, absent| LocalKek::open(&path, tree, absent, Arc::new(SystemRandom::new()));
        assert!(open(TREE, Absent::Refuse).is_err());
        let kek = open(TREE, Absent::Await).unwrap();
        assert!(kek.versions().await.unwrap().is_empty());
        assert_eq!(kek.add_version().await.unwrap(), "1");
        let before = fs::read(&path).unwrap();
        for absent in [Absent::Refuse, Absent::Make, Absent::Await] {
            let Err(error) = open([8; 16], absent) else { panic!("it serves two vaults") };
            assert!(error.message.contains("belongs to another vault"), "{error}");
            open(TREE, absent).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
