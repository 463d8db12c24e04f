//! The key that signs receipts: outside the key tree, wrapped by the KEK, because it must outlive every root.
//!
//! It is kept beside each copy of the slot, with a list of every public key that there was, the newest first: a receipt
//! is good for as long as anybody may ask, whatever was rotated since.
//!
//! Rotating writes the fresh key aside, then the longer list of public keys, then the key in every place, and then
//! removes what lies aside. Whatever interrupts it, the key in each place is one whose public half is listed; repeating
//! it goes on with the key that lies aside.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::Custody;
use super::files;
use super::kek::{Kek, WrappedCopy};
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
    /// Reads the wrapped signing key from the first of `paths` where it is, after making one if `create` and there is
    /// none. Each place gets a copy, and beside it the public key, with the ending `pub`.
    pub async fn open(paths: &[PathBuf], kek: Arc<dyn Kek>, create: bool, random: &dyn Random) -> Result<Self> {
        let files = Files { paths, kek: &*kek };
        if create && paths.iter().all(|path| !path.exists()) {
            let (key, pkcs8) = SigningKey::generate(random).map_err(|error| files.unusable(error))?;
            files.write_public(&[encode(&key)])?;
            files.write(&kek.wrap(LABEL, &pkcs8).await?)?;
        }
        let held = files.read().await?;
        Ok(Self { paths: paths.to_vec(), kek, held: RwLock::new(held) })
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
            self.files().open(&wrapped).await?;
            copies.push(WrappedCopy::of(&*self.kek, &path, &wrapped));
        }
        Ok(copies)
    }

    /// Wraps every copy anew. To be called by whoever has the turn.
    pub(super) async fn rewrap(&self) -> Result<()> {
        for (path, wrapped) in self.files().all()? {
            let plain = self.kek.unwrap(LABEL, &wrapped).await?;
            let fresh = self.kek.wrap(LABEL, &plain).await?;
            files::replace(&path, &fresh).map_err(|error| self.files().unusable(error))?;
        }
        self.refresh().await.map(drop)
    }

    /// Waits for the turn to write what the KEK wraps and the signing key.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let missing = || Error::internal("a signing key without a place");
        Turn::take(self.paths.first().ok_or_else(missing)?).await
    }

    /// Puts a fresh key in the place of the present one. Repeating it after an error finishes what was begun.
    pub async fn rotate(&self, dry_run: bool, random: &dyn Random) -> Result<SigningKeyRotation> {
        let _turn = self.turn().await?;
        self.refresh().await?;
        let files = self.files();
        let aside = files.aside();
        let staged = files::read_if_there(&aside).map_err(|error| files.unusable(error))?;
        let former = encode(&self.key());
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
        let pkcs8 = if let Some(wrapped) = staged {
            self.kek.unwrap(LABEL, &wrapped).await?
        } else {
            let (_, pkcs8) = SigningKey::generate(random).map_err(|error| files.unusable(error))?;
            let wrapped = self.kek.wrap(LABEL, &pkcs8).await?;
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
        files.write(&self.kek.wrap(LABEL, &pkcs8).await?)?;
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
    /// Has receipts signed by a fresh key from now on; what was signed before can be verified as before. Other nodes
    /// take the key up within a second.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when the KEK or a place of the key cannot be used; repeat it then.
    pub async fn rotate_signing_key(&self, dry_run: bool) -> Result<SigningKeyRotation> {
        let done = self.parts.signer.rotate(dry_run, &*self.parts.random).await?;
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
        found.ok_or_else(|| self.unusable("it is nowhere; bring it back"))
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

    /// The public keys that are listed in the first place where there is a list.
    fn public(&self) -> Result<Vec<String>> {
        let mut lists = self.paths.iter().map(|path| files::read_if_there(&path.with_extension("pub")));
        let found = lists.find_map(io::Result::transpose).transpose().map_err(|error| self.unusable(error))?;
        let text = String::from_utf8(found.unwrap_or_default()).map_err(|error| self.unusable(error))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    fn write_public(&self, listed: &[String]) -> Result<()> {
        let text = listed.join("\n") + "\n";
        let write = |path: &PathBuf| files::replace(&path.with_extension("pub"), text.as_bytes());
        self.paths.iter().try_for_each(write).map_err(|error| self.unusable(error))
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

fn encode(key: &SigningKey) -> String {
    data_encoding::BASE64.encode(&key.public())
}
