//! A root slot in a file, with mirrors.
//!
//! Each copy is written to a temporary file, synced, renamed over the old one, and its directory synced. A prepared
//! root stands in every copy before any copy advances, so a copy that missed an advance can always catch up. The copy
//! of the highest epoch decides: an old one that somebody brought back cannot undo what the others have forgotten.
//! Reading needs one good copy; writing needs them all.
//!
//! Not promised: that a flash chip has physically overwritten the old content. That is why the content is wrapped by
//! a key kept elsewhere, and why the assurance is `IMMEDIATE_LOGICAL`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Assurance, Content, CopyStatus, Root, RootSlot};
use crate::crash;
use crate::crypto::{Secret, SecretBytes, derive};
use crate::keys::files;
use crate::keys::kek::Kek;
use crate::model::{Error, Reason, Result};

const LABEL: &str = "lacuna/root-slot/v1";
const ROOT: usize = 8 + 32;

/// A slot in one or more files.
pub struct FileSlot {
    /// Every copy. Never empty.
    paths: Vec<PathBuf>,
    kek: Arc<dyn Kek>,
    /// Held while this process may write the slot.
    lock: Option<SlotLock>,
}

impl FileSlot {
    /// A slot that this process alone may write, as long as it has the lock.
    #[must_use]
    pub fn hold(lock: SlotLock, primary: &Path, mirrors: &[PathBuf], kek: Arc<dyn Kek>) -> Self {
        Self { lock: Some(lock), ..Self::look(primary, mirrors, kek) }
    }

    /// A slot that is only looked at.
    #[must_use]
    pub fn look(primary: &Path, mirrors: &[PathBuf], kek: Arc<dyn Kek>) -> Self {
        let paths = std::iter::once(primary.to_owned()).chain(mirrors.iter().cloned()).collect();
        Self { paths, kek, lock: None }
    }

    async fn read(&self, path: &Path) -> Result<Option<Stored>> {
        let read = files::read_if_there(path).map_err(|error| unusable(path, error))?;
        let Some(wrapped) = read else { return Ok(None) };
        let plain = self.kek.unwrap(LABEL, &wrapped).await.map_err(|error| {
            let why = error.message.clone();
            unusable(path, format!("it does not open under the {}: {why}", self.kek.describe())).because(error)
        })?;
        decode(plain.expose()).map(Some).ok_or_else(|| unusable(path, "it opened and makes no sense"))
    }

    /// Writes one copy. `known` are the places of copies that were written before.
    async fn write(&self, path: &Path, content: &Content, known: &[String]) -> Result<()> {
        if self.lock.is_none() {
            return Err(Error::internal("a slot that is only looked at cannot be written"));
        }
        // A copy names no other that was not written yet: after a crash that one is new, and not lost.
        let named = |other: &&PathBuf| *other == path || other.exists() || is_among(known, other);
        let places: Vec<_> = self.paths.iter().filter(named).collect();
        let wrapped = self.kek.wrap(LABEL, &encode(content, &places)?).await?;
        if !is_among(known, path) {
            let directory = files::parent(path);
            files::make_private_directory(directory).map_err(|error| unusable(directory, error))?;
        }
        files::replace(path, &wrapped).map_err(|error| unusable(path, error))
    }

    /// The copy that decides. An error when no copy can be read and one should be there, or when two contradict.
    async fn deciding(&self) -> Result<Option<Stored>> {
        let (mut newest, mut trouble): (Option<Stored>, _) = (None, None);
        for path in &self.paths {
            match self.read(path).await {
                Ok(Some(found)) => newest = Some(later(path, newest, found)?),
                Ok(None) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        match (newest, trouble) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    async fn set(&self) -> Result<Stored> {
        let missing = || Error::new(Reason::KeyCustodianUnavailable, "the root slot is empty");
        self.deciding().await?.ok_or_else(missing)
    }

    /// Refuses to go on without a copy that is not where it was: it may come back, when its disk is mounted again, with
    /// an old root in it. A place that is new in the configuration is no such copy.
    async fn check_complete(&self, decided: &Stored) -> Result<()> {
        for path in &self.paths {
            if is_among(&decided.places, path) && self.read(path).await?.is_none() {
                return Err(unusable(
                    path,
                    "the file is missing: bring its disk back; a mirror that is gone for good must leave slot.mirrors",
                ));
            }
        }
        Ok(())
    }

    /// Makes every copy hold `content`, and nothing else. What is missing comes first, so that the others can name it.
    async fn write_all(&self, content: &Content, known: &[String]) -> Result<()> {
        let (there, missing): (Vec<_>, Vec<_>) = self.paths.iter().partition(|path| path.exists());
        for path in missing.into_iter().chain(there) {
            let held = self.read(path).await?;
            let same = held.is_some_and(|held| {
                held.content.current.id == content.current.id
                    && held.content.next.is_none()
                    && held.places == self.places()
            });
            if !same {
                self.write(path, content, known).await?;
                crash::point("slot::copy-set");
            }
        }
        Ok(())
    }

    fn places(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

/// The right to write a slot, which one process has at a time: until it is dropped or the process ends.
pub struct SlotLock(File);

impl SlotLock {
    /// Takes the lock beside the slot's first copy, making its directory.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when another process has it.
    pub fn take(primary: &Path) -> Result<Self> {
        let directory = files::parent(primary);
        files::make_private_directory(directory).map_err(|error| unusable(directory, error))?;
        let path = primary.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| unusable(&path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(TryLockError::WouldBlock) => {
                Err(unusable(&path, "another lacuna process holds this root slot; stop it first"))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&path, error)),
        }
    }
}

impl Drop for SlotLock {
    /// Lets go of the lock itself, because a program that was started a moment ago may still share the open file.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock on the root slot goes with the process");
        }
    }
}

/// What a copy holds: the content, and where all copies were when it was written.
struct Stored {
    content: Content,
    places: Vec<String>,
}

fn is_among(places: &[String], path: &Path) -> bool {
    places.iter().any(|place| place.as_str() == path.to_string_lossy())
}

/// The later of two copies. Two of the same epoch must hold the same root.
fn later(path: &Path, best: Option<Stored>, found: Stored) -> Result<Stored> {
    let Some(best) = best else { return Ok(found) };
    let (one, other) = (&best.content.current, &found.content.current);
    if one.epoch == other.epoch && one.id != other.id {
        return Err(unusable(path, "it holds another root of the same epoch than the copies before it"));
    }
    Ok(if one.epoch < other.epoch { found } else { best })
}

#[async_trait]
impl RootSlot for FileSlot {
    async fn load(&self) -> Result<Option<Content>> {
        Ok(self.deciding().await?.map(|stored| stored.content))
    }

    async fn create(&self, content: &Content) -> Result<()> {
        if self.deciding().await?.is_some() {
            return Err(Error::new(Reason::KeyCustodianUnavailable, "the root slot is set already"));
        }
        for path in &self.paths {
            self.write(path, content, &[]).await?;
            crash::point("slot::copy-created");
        }
        self.write_all(content, &[]).await
    }

    async fn prepare(&self, expect: &[u8; 16], next: &Root) -> Result<()> {
        let stored = self.set().await?;
        self.check_complete(&stored).await?;
        if stored.content.current.id != *expect {
            return Err(moved(&stored.content.current));
        }
        let content = Content { next: Some(copy(next)), ..stored.content };
        for path in &self.paths {
            self.write(path, &content, &stored.places).await?;
            crash::point("slot::copy-prepared");
        }
        Ok(())
    }

    async fn advance(&self, expect: &[u8; 16], next: &[u8; 16]) -> Result<()> {
        let stored = self.set().await?;
        self.check_complete(&stored).await?;
        let found = stored.content;
        if found.current.id == *next {
            return self.settle().await;
        }
        match found.next {
            Some(prepared) if found.current.id == *expect && prepared.id == *next => {
                let content = Content { tree: found.tree, current: prepared, next: None };
                self.write_all(&content, &stored.places).await
            }
            _ => Err(moved(&found.current)),
        }
    }

    async fn settle(&self) -> Result<()> {
        let stored = self.set().await?;
        self.check_complete(&stored).await?;
        self.write_all(&Content { next: None, ..stored.content }, &stored.places).await
    }

    fn assurance(&self) -> Assurance {
        Assurance::ImmediateLogical
    }

    fn kind(&self) -> &'static str {
        "file"
    }

    fn describe(&self) -> String {
        let primary = self.paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        format!("file {primary}, wrapped by {}", self.kek.describe())
    }

    async fn status(&self) -> Vec<CopyStatus> {
        let mut copies = Vec::new();
        for path in &self.paths {
            let epoch = match self.read(path).await {
                Ok(Some(stored)) => Ok(stored.content.current.epoch),
                Ok(None) => Err("missing".to_owned()),
                Err(error) => Err(error.message.into_owned()),
            };
            copies.push(CopyStatus { place: path.display().to_string(), epoch });
        }
        copies
    }
}

fn encode(content: &Content, paths: &[&PathBuf]) -> Result<SecretBytes> {
    let places: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    let places = serde_json::to_vec(&places).map_err(Error::internal)?;
    let mut plain = SecretBytes::with_capacity(16 + 1 + 2 * ROOT + places.len());
    plain.append(&content.tree);
    plain.append(&[if content.next.is_some() { 2 } else { 1 }]);
    for root in std::iter::once(&content.current).chain(&content.next) {
        plain.append(&root.epoch.to_be_bytes());
        plain.append(root.key.expose());
    }
    plain.append(&places);
    Ok(plain)
}

fn decode(plain: &[u8]) -> Option<Stored> {
    let (tree, rest) = plain.split_first_chunk::<16>()?;
    let (roots, rest) = rest.split_first()?;
    let (current, rest) = rest.split_at_checked(ROOT)?;
    let (next, places) = match roots {
        1 => (None, rest),
        2 => rest.split_at_checked(ROOT).map(|(next, places)| (Some(next), places))?,
        _ => return None,
    };
    let next = match next {
        Some(next) => Some(root(next)?),
        None => None,
    };
    let content = Content { tree: *tree, current: root(current)?, next };
    Some(Stored { content, places: serde_json::from_slice(places).ok()? })
}

fn root(bytes: &[u8]) -> Option<Root> {
    let (epoch, key) = bytes.split_first_chunk::<8>()?;
    let key = Secret::from_slice(key)?;
    Some(Root { id: derive::root_id(&key), epoch: u64::from_be_bytes(*epoch), key })
}

fn copy(root: &Root) -> Root {
    let key = Secret::build(|bytes| bytes.copy_from_slice(root.key.expose()));
    Root { id: root.id, epoch: root.epoch, key }
}

fn moved(current: &Root) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, "the root slot has moved on: another writer advanced it")
        .with("epoch", current.epoch)
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    Error::new(Reason::KeyCustodianUnavailable, format!("the root slot at {} cannot be used: {source}", path.display()))
        .because(io::Error::other(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::keys::kek::LocalKek;

    fn fresh_root(epoch: u64) -> Root {
        let key = Secret::random(&SystemRandom::new());
        Root { id: derive::root_id(&key), epoch, key }
    }

    struct Place {
        home: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { home: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().join(name)
        }

        fn slot(&self) -> FileSlot {
            let kek = LocalKek::open(&self.path("kek"), true, Arc::new(SystemRandom::new())).unwrap();
            let lock = SlotLock::take(&self.path("a/root.slot")).unwrap();
            FileSlot::hold(lock, &self.path("a/root.slot"), &[self.path("b/root.slot")], Arc::new(kek))
        }
    }

    async fn created(slot: &FileSlot) -> [u8; 16] {
        let current = fresh_root(0);
        let id = current.id;
        slot.create(&Content { tree: [7; 16], current, next: None }).await.unwrap();
        id
    }

    #[tokio::test]
    async fn advancing_forgets_the_old_root_in_every_copy() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        let old_key = slot.load().await.unwrap().unwrap().current.key;
        let next = fresh_root(1);
        slot.prepare(&old, &next).await.unwrap();
        assert_eq!(slot.load().await.unwrap().unwrap().current.id, old, "preparing changes nothing that counts");
        slot.advance(&old, &next.id).await.unwrap();
        for path in &slot.paths {
            let content = slot.read(path).await.unwrap().unwrap().content;
            assert_eq!((content.current.id, content.current.epoch), (next.id, 1));
            assert!(content.next.is_none());
            let plain = slot.kek.unwrap(LABEL, &std::fs::read(path).unwrap()).await.unwrap();
            assert!(!plain.expose().windows(32).any(|window| window == old_key.expose()));
        }
    }

    #[tokio::test]
    async fn a_writer_who_saw_an_older_root_is_refused() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        let (one, two) = (fresh_root(1), fresh_root(1));
        slot.prepare(&old, &one).await.unwrap();
        slot.prepare(&old, &two).await.unwrap();
        assert!(slot.advance(&old, &one.id).await.is_err(), "the second preparation replaced the first");
        slot.advance(&old, &two.id).await.unwrap();
        assert!(slot.prepare(&old, &fresh_root(2)).await.is_err());
        assert!(slot.create(&Content { tree: [7; 16], current: fresh_root(0), next: None }).await.is_err());
    }

    #[tokio::test]
    async fn a_mirror_that_missed_the_advance_catches_up_and_until_then_it_is_not_done() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        let next = fresh_root(1);
        slot.prepare(&old, &next).await.unwrap();
        let mirror = place.path("b/root.slot");
        let lagging = std::fs::read(&mirror).unwrap();
        std::fs::write(&mirror, "broken").unwrap();
        assert!(slot.advance(&old, &next.id).await.is_err());
        assert_eq!(slot.load().await.unwrap().unwrap().current.id, old, "all of them advance, or none");
        std::fs::write(&mirror, lagging).unwrap();
        slot.advance(&old, &next.id).await.unwrap();
        assert_eq!(slot.read(&mirror).await.unwrap().unwrap().content.current.id, next.id);
    }

    #[tokio::test]
    async fn a_copy_that_vanished_is_missed_and_a_place_that_is_new_is_not() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        std::fs::remove_dir_all(place.path("b")).unwrap();
        assert!(slot.prepare(&old, &fresh_root(1)).await.is_err());
        assert!(slot.settle().await.is_err());
        assert!(!place.path("b").exists(), "nothing was put in its place");
        let FileSlot { kek, lock, .. } = slot;
        std::fs::create_dir(place.path("c")).unwrap();
        let moved = FileSlot::hold(lock.unwrap(), &place.path("a/root.slot"), &[place.path("c/root.slot")], kek);
        moved.settle().await.unwrap();
        assert_eq!(moved.read(&place.path("c/root.slot")).await.unwrap().unwrap().content.current.id, old);
    }

    #[tokio::test]
    async fn two_roots_of_one_epoch_are_refused() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        let (one, other) = (fresh_root(1), fresh_root(1));
        slot.prepare(&old, &other).await.unwrap();
        slot.advance(&old, &other.id).await.unwrap();
        let stray = Content { tree: [7; 16], current: one, next: None };
        slot.write(&place.path("b/root.slot"), &stray, &[]).await.unwrap();
        assert!(slot.load().await.is_err());
    }

    #[tokio::test]
    async fn an_old_copy_brought_back_does_not_decide() {
        let place = Place::new();
        let slot = place.slot();
        let old = created(&slot).await;
        let before = std::fs::read(place.path("a/root.slot")).unwrap();
        let next = fresh_root(1);
        slot.prepare(&old, &next).await.unwrap();
        slot.advance(&old, &next.id).await.unwrap();
        std::fs::write(place.path("a/root.slot"), before).unwrap();
        assert_eq!(slot.load().await.unwrap().unwrap().current.id, next.id);
        slot.settle().await.unwrap();
        assert_eq!(slot.read(&place.path("a/root.slot")).await.unwrap().unwrap().content.current.id, next.id);
    }

    #[tokio::test]
    async fn one_process_holds_a_slot_and_a_wrong_kek_is_told_apart() {
        let place = Place::new();
        let slot = place.slot();
        created(&slot).await;
        let other = LocalKek::open(&place.path("other"), true, Arc::new(SystemRandom::new())).unwrap();
        let other: Arc<dyn Kek> = Arc::new(other);
        assert!(SlotLock::take(&place.path("a/root.slot")).is_err());
        let wrong = FileSlot::look(&place.path("a/root.slot"), &[], other);
        let Err(error) = wrong.load().await else { panic!("opened under a wrong key") };
        assert!(error.to_string().contains("does not open under"), "{error}");
    }

    #[tokio::test]
    async fn a_torn_or_foreign_file_is_an_error_and_never_an_empty_slot() {
        let place = Place::new();
        let slot = place.slot();
        created(&slot).await;
        let path = place.path("a/root.slot");
        let whole = std::fs::read(&path).unwrap();
        for torn in [&whole[..0], &whole[..whole.len() / 2], b"not a slot".as_slice()] {
            std::fs::write(&path, torn).unwrap();
            assert!(slot.load().await.unwrap().is_some(), "the mirror is whole");
            assert!(slot.settle().await.is_err(), "and what is torn is not overwritten unseen");
        }
        std::fs::write(place.path("b/root.slot"), "torn as well").unwrap();
        assert!(slot.load().await.is_err());
    }
}
