//! The key that signs receipts: outside the key tree, wrapped by the KEK, because it must outlive every root.
//!
//! It is kept beside each copy of the slot, with a list of every public key that there was, the newest first: a receipt
//! is good for as long as anybody may ask, whatever was rotated since. A place that has no copy gets one when the vault
//! starts; what is listed in any place is listed.
//!
//! Rotating writes the fresh key aside, then the longer list of public keys, then the key in every place, and then
//! removes what lies aside. Whatever interrupts it, the key in each place is one whose public half is listed; repeating
//! it goes on with the key that lies aside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::Custody;
use super::files;
use super::kek::{self, Absent, Kek, WrappedCopy};
use super::recover::Report;
use super::slot::Turn;
use crate::crash;
use crate::crypto::{Random, SecretBytes, SigningKey};
use crate::model::{Error, KeyEventKind, Reason, Result};

const LABEL: &str = "lacuna/receipt-signing-key/v1";

/// Signs receipts.
pub struct Signer {
    /// Every place of the key. Never empty.
    paths: Vec<PathBuf>,
    kek: Arc<dyn Kek>,
    held: RwLock<Held>,
    /// Whether it was made by this process.
    made: bool,
}

/// The key in use, and how it stands in its file.
struct Held {
    key: Arc<SigningKey>,
    wrapped: Vec<u8>,
}

/// What a rotation of the signing key did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRotation {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Whether it finished, or would finish, one that was interrupted.
    pub resumed: bool,
    /// The public key that signed before, base64.
    pub former: String,
    /// The public key that signs from now on; not known in a dry run that would make one.
    pub present: Option<String>,
    /// How many public keys are listed.
    pub listed: u64,
}

impl Signer {
    /// Reads the wrapped signing key from the first of `paths` where it is, after making one if it is nowhere and
    /// `absent` says so. Each place gets a copy, and beside it the public key, with the ending `pub`.
    pub async fn open(paths: &[PathBuf], kek: Arc<dyn Kek>, absent: Absent, random: &dyn Random) -> Result<Self> {
        let files = Files { paths, kek: &*kek };
        let made = absent == Absent::Make && files.all()?.is_empty();
        if made {
            let (key, pkcs8) = SigningKey::generate(random).map_err(|error| files.unusable(error))?;
            let mut listed = files.public()?;
            listed.insert(0, encode(&key));
            files.write_public(&listed)?;
            files.write(&kek::wrap(&*kek, LABEL, &pkcs8).await?)?;
        }
        let held = files.read().await?;
        Ok(Self { paths: paths.to_vec(), kek, held: RwLock::new(held), made })
    }

    /// Gives a copy to each place that has none, as one that is new in the configuration, and the whole list to each that
    /// has not all of it.
    pub(super) async fn complete(&self) -> Result<()> {
        let files = self.files();
        let listed = self.public_keys()?;
        if !files.lack(&listed)? {
            return Ok(());
        }
        let _turn = self.turn().await?;
        self.refresh().await?;
        let listed = self.public_keys()?;
        let wrapped = self.held.read().unwrap_or_else(PoisonError::into_inner).wrapped.clone();
        for path in &self.paths {
            let written = files::read_if_there(path).and_then(|found| match found {
                Some(_) => Ok(()),
                None => files::replace(path, &wrapped),
            });
            written.and_then(|()| write_list(path, &listed)).map_err(|error| files.unusable(error))?;
        }
        Ok(())
    }

    /// The directory of its first place, which every node shares.
    pub(super) fn directory(&self) -> &Path {
        self.paths.first().map_or(Path::new("."), |path| files::parent(path))
    }

    /// The key that signs now.
    pub(super) fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner).key)
    }

    /// Takes up the key that another process has put in place. Answers whether there was one.
    pub async fn refresh(&self) -> Result<bool> {
        // Asked for once a second, of a disk that may not answer.
        let paths = self.paths.clone();
        let found = tokio::task::spawn_blocking(move || find(&paths)).await;
        let found = found.map_err(io::Error::other).flatten().map_err(|error| self.files().unusable(error))?;
        if found.as_ref() == Some(&self.held.read().unwrap_or_else(PoisonError::into_inner).wrapped) {
            return Ok(false);
        }
        let held = self.files().read().await?;
        let other = held.key.public() != self.key().public();
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(other)
    }

    /// The public keys of every key that ever signed, base64, the newest first.
    pub fn public_keys(&self) -> Result<Vec<String>> {
        let mut listed = self.files().public()?;
        let present = encode(&self.key());
        if !listed.contains(&present) {
            listed.insert(0, present);
        }
        Ok(listed)
    }

    /// Every copy of the key with the version of the KEK that it needs, each of them opened.
    pub(super) async fn wrapped(&self) -> Result<Vec<WrappedCopy>> {
        let mut copies = Vec::new();
        for (path, wrapped) in self.files().all()? {
            copies.push(WrappedCopy::of(&*self.kek, LABEL, &path, &wrapped).await?);
        }
        Ok(copies)
    }

    /// Wraps every copy anew. To be called by whoever has the turn.
    pub(super) async fn rewrap(&self) -> Result<()> {
        for (path, wrapped) in self.files().all()? {
            let plain = self.kek.unwrap(LABEL, &wrapped).await?;
            let fresh = kek::wrap(&*self.kek, LABEL, &plain).await?;
            files::replace(&path, &fresh).map_err(|error| self.files().unusable(error))?;
        }
        self.refresh().await.map(drop)
    }

    /// Waits for the turn to write what the KEK wraps and the signing key.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let missing = || Error::internal("a signing key without a place");
        Turn::take(self.paths.first().ok_or_else(missing)?).await
    }

    /// Tells what a rotation would do, unless it is told which key is the `former` one. Then a fresh key takes its place;
    /// repeating that, after an error or without need, makes no further key.
    pub async fn rotate(&self, former: Option<&str>, random: &dyn Random) -> Result<SigningKeyRotation> {
        let _turn = self.turn().await?;
        self.refresh().await?;
        let files = self.files();
        let aside = files.aside();
        let staged = files::read_if_there(&aside).map_err(|error| files.unusable(error))?;
        let (dry_run, present) = (former.is_none(), encode(&self.key()));
        let former = former.map_or_else(|| present.clone(), str::to_owned);
        let done = former != present && staged.is_none();
        let mut listed = self.public_keys()?;
        let mut rotation = SigningKeyRotation {
            dry_run,
            resumed: staged.is_some(),
            former,
            present: None,
            listed: listed.len() as u64,
        };
        if dry_run {
            return Ok(rotation);
        }
        if done {
            rotation.present = Some(present);
            return Ok(rotation);
        }
        let pkcs8 = if let Some(wrapped) = staged {
            self.kek.unwrap(LABEL, &wrapped).await?
        } else {
            let (_, pkcs8) = SigningKey::generate(random).map_err(|error| files.unusable(error))?;
            let wrapped = kek::wrap(&*self.kek, LABEL, &pkcs8).await?;
            files::replace(&aside, &wrapped).map_err(|error| files.unusable(error))?;
            pkcs8
        };
        let key = SigningKey::from_pkcs8(&pkcs8).map_err(|error| files.unusable(error))?;
        let present = encode(&key);
        listed.retain(|other| *other != present);
        listed.insert(0, present.clone());
        crash::point("signer::aside");
        files.write_public(&listed)?;
        crash::point("signer::listed");
        files.write(&kek::wrap(&*self.kek, LABEL, &pkcs8).await?)?;
        crash::point("signer::written");
        self.refresh().await?;
        std::fs::remove_file(&aside)
            .and_then(|()| files::sync_directory(files::parent(&aside)))
            .map_err(|error| files.unusable(error))?;
        (rotation.present, rotation.listed) = (Some(present), listed.len() as u64);
        Ok(rotation)
    }

    fn files(&self) -> Files<'_> {
        Files { paths: &self.paths, kek: &*self.kek }
    }
}

impl Custody {
    /// Sees to it that the key that signs receipts is beside every copy of the slot, and that a fresh one is known of.
    pub(super) async fn settle_signer(&self, report: &Report) -> Result<()> {
        let signer = &self.parts.signer;
        if signer.made && !report.created {
            tracing::warn!("receipts are signed by a fresh key, because the former one was lost");
            self.note(KeyEventKind::SigningKeyChanged, encode(&signer.key())).await?;
        }
        if let Err(error) = signer.complete().await {
            tracing::warn!(%error, "a place beside the root slot has no copy of the key that signs receipts");
        }
        Ok(())
    }

    /// Has receipts signed by a fresh key in the place of the `former` one; what was signed before can be verified as
    /// before. Other nodes take the key up within a second. Without `former` it only tells what would be done.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when the KEK or a place of the key cannot be used; repeat it then.
    pub async fn rotate_signing_key(&self, former: Option<&str>) -> Result<SigningKeyRotation> {
        let done = self.parts.signer.rotate(former, &*self.parts.random).await?;
        if let Some(present) = &done.present {
            tracing::info!(public_key = present, "receipts are signed by a fresh key");
            self.note(KeyEventKind::SigningKeyChanged, present.clone()).await?;
        }
        Ok(done)
    }

    /// Takes up a signing key that another node has put in place. Answers whether there was one.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when it cannot be read; the former key goes on signing.
    pub async fn refresh_signer(&self) -> Result<bool> {
        self.parts.signer.refresh().await
    }

    /// The public keys that verify receipts, base64, the newest first.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when the list cannot be read.
    pub fn signing_public_keys(&self) -> Result<Vec<String>> {
        self.parts.signer.public_keys()
    }
}

/// The files of the key.
struct Files<'a> {
    paths: &'a [PathBuf],
    kek: &'a dyn Kek,
}

impl Files<'_> {
    fn find(&self) -> Result<Vec<u8>> {
        let found = find(self.paths).map_err(|error| self.unusable(error))?;
        found.ok_or_else(|| {
            self.unusable(
            "it is nowhere: bring a copy back. If there is none, stop the vault and run `lacuna keys make-signing-key`",
        )
        })
    }

    /// Every copy that is there, also the one that lies aside.
    fn all(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut all = Vec::new();
        for path in self.paths.iter().cloned().chain([self.aside()]) {
            if let Some(wrapped) = files::read_if_there(&path).map_err(|error| self.unusable(error))? {
                all.push((path, wrapped));
            }
        }
        Ok(all)
    }

    async fn read(&self) -> Result<Held> {
        let wrapped = self.find()?;
        Ok(Held { key: Arc::new(self.open(&wrapped).await?), wrapped })
    }

    async fn open(&self, wrapped: &[u8]) -> Result<SigningKey> {
        let pkcs8: SecretBytes = self.kek.unwrap(LABEL, wrapped).await.map_err(|error| {
            self.unusable(format!("it does not open under the {}: {}", self.kek.describe(), error.message))
        })?;
        SigningKey::from_pkcs8(&pkcs8).map_err(|error| self.unusable(error))
    }

    /// Writes the wrapped key in every place, the first one first: it is the one that is read.
    fn write(&self, wrapped: &[u8]) -> Result<()> {
        self.paths.iter().try_for_each(|path| files::replace(path, wrapped)).map_err(|error| self.unusable(error))
    }

    /// The public keys that are listed in any place, in the order of the longest list.
    fn public(&self) -> Result<Vec<String>> {
        let lists: io::Result<Vec<_>> = self.paths.iter().map(|path| read_list(path)).collect();
        let mut lists = lists.map_err(|error| self.unusable(error))?;
        lists.sort_by_key(|list| std::cmp::Reverse(list.len()));
        let mut union: Vec<String> = Vec::new();
        for key in lists.into_iter().flatten() {
            if !union.contains(&key) {
                union.push(key);
            }
        }
        Ok(union)
    }

    fn write_public(&self, listed: &[String]) -> Result<()> {
        self.paths.iter().try_for_each(|path| write_list(path, listed)).map_err(|error| self.unusable(error))
    }

    /// Whether a place lacks the key, or something of the list.
    fn lack(&self, listed: &[String]) -> Result<bool> {
        for path in self.paths {
            let list = read_list(path).map_err(|error| self.unusable(error))?;
            if !path.exists() || listed.iter().any(|key| !list.contains(key)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a fresh key lies until it is in every place.
    fn aside(&self) -> PathBuf {
        self.paths.first().map(|path| path.with_extension("next")).unwrap_or_default()
    }

    fn unusable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let places = self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let message = format!("the key that signs receipts, in {places}, cannot be used: {}", source.into());
        Error::new(Reason::KeyCustodianUnavailable, message)
    }
}

/// The wrapped key in the first place where there is one.
fn find(paths: &[PathBuf]) -> io::Result<Option<Vec<u8>>> {
    paths.iter().find_map(|path| files::read_if_there(path).transpose()).transpose()
}

fn read_list(path: &Path) -> io::Result<Vec<String>> {
    let bytes = files::read_if_there(&path.with_extension("pub"))?.unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn write_list(path: &Path, listed: &[String]) -> io::Result<()> {
    files::replace(&path.with_extension("pub"), (listed.join("\n") + "\n").as_bytes())
}

fn encode(key: &SigningKey) -> String {
    data_encoding::BASE64.encode(&key.public())
}
