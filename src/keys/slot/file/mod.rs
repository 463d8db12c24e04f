//! A root slot in a file, with mirrors.
//!
//! Each copy is written to a temporary file, synced, renamed over the old one, its directory synced, and read back. A
//! prepared root stands in every copy before any copy advances, so a copy that missed an advance can always catch up.
//! The copy of the highest epoch decides: an old one that somebody brought back cannot undo what the others have
//! forgotten. Reading needs one good copy; writing needs them all.
//!
//! Several processes may use one slot. Each operation compares and writes while it has the [`Turn`], a lock on a file
//! beside the first copy, so it is atomic to the others; reading needs no turn, because every copy is replaced whole.
//!
//! Not promised: that a flash chip has physically overwritten the old content. That is why the content is wrapped by
//! a key kept elsewhere, and why the assurance is `IMMEDIATE_LOGICAL`.

pub(crate) mod copy;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use self::copy::Stored;
use super::lock::{SlotLock, Turn, unusable};
use super::{Assurance, Content, CopyStatus, Root, RootSlot, check_prepare, moved, refused};
use crate::crash;
use crate::keys::files;
use crate::keys::kek::{self, Kek, WrappedCopy};
use crate::model::{Error, Result};

const LABEL: &str = "lacuna/root-slot/v1";

/// A slot in one or more files.
pub struct FileSlot {
    /// Every copy. Never empty.
    paths: Vec<PathBuf>,
    kek: Arc<dyn Kek>,
    /// Held while this process may write the slot.
    lock: Option<SlotLock>,
}

impl FileSlot {
    /// A slot that may be written, as long as it has the lock.
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

    /// Waits for the turn to write.
    async fn turn(&self) -> Result<Turn> {
        if self.lock.is_none() {
            return Err(Error::internal("a slot that is only looked at cannot be written"));
        }
        let missing = || Error::internal("a slot without a copy");
        Turn::take(self.paths.first().ok_or_else(missing)?).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Stored>> {
        match read_bytes(path).await? {
            Some(wrapped) => self.open(path, &wrapped).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open(&self, path: &Path, wrapped: &[u8]) -> Result<Stored> {
        let plain = self.kek.unwrap(LABEL, wrapped).await.map_err(|error| {
            let why = error.message.clone();
            unusable(path, format!("it does not open under the {}: {why}", self.kek.describe())).because(error)
        })?;
        Stored::decode(plain.expose()).ok_or_else(|| unusable(path, "it opened and makes no sense"))
    }

    /// Every copy, in the order of the paths.
    async fn read_all(&self) -> Vec<Result<Option<Stored>>> {
        let mut found = Vec::new();
        for path in &self.paths {
            found.push(self.read(path).await);
        }
        found
    }

    /// The copies for a writer, and the one that decides. Refuses when a copy cannot be read, for what is broken must
    /// not be overwritten unseen, or is not where it was: it may come back, when its disk is mounted again, with an old
    /// root in it. A place that is new in the configuration is no such copy.
    fn whole<'a>(&self, found: &'a [Result<Option<Stored>>]) -> Result<&'a Stored> {
        for copy in found {
            copy.as_ref().map_err(Error::share)?;
        }
        let empty = || refused("the root slot is empty");
        let decided = self.decide(found)?.ok_or_else(empty)?;
        let missing =
            |(path, copy): &(&PathBuf, &Result<Option<Stored>>)| matches!(copy, Ok(None)) && decided.knows(path);
        match self.paths.iter().zip(found).find(missing) {
            None => Ok(decided),
            Some((path, _)) => Err(unusable(
                path,
                "the file is missing: bring its disk back; a mirror that is gone for good must leave slot.mirrors",
            )),
        }
    }

    /// The copy that decides. An error when no copy can be read and one should be there, or when two contradict.
    fn decide<'a>(&self, found: &'a [Result<Option<Stored>>]) -> Result<Option<&'a Stored>> {
        let (mut newest, mut trouble): (Option<&Stored>, _) = (None, None);
        for (path, copy) in self.paths.iter().zip(found) {
            match copy {
                Ok(Some(found)) => newest = Some(later(path, newest, found)?),
                Ok(None) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        match (newest, trouble) {
            (None, Some(error)) => Err(error.share()),
            (newest, _) => Ok(newest),
        }
    }

    /// Makes every copy hold `content`, and nothing else. What is missing comes first, so that the others can name it.
    /// When this returns, no copy holds anything else: each one that was written was read again.
    async fn write_all(
        &self,
        found: &[Result<Option<Stored>>],
        (content, known): (&Content, &[String]),
        passed: fn(),
    ) -> Result<()> {
        let places = self.places();
        let copies = self.paths.iter().zip(found);
        let (there, missing): (Vec<_>, Vec<_>) = copies.partition(|(_, copy)| matches!(copy, Ok(Some(_))));
        for (path, copy) in missing.into_iter().chain(there) {
            let same = |held: &Stored| held.holds(content) && held.places == places;
            if !copy.as_ref().is_ok_and(|copy| copy.as_ref().is_some_and(same)) {
                self.write(path, content, known).await?;
                passed();
            }
        }
        Ok(())
    }

    /// Writes one copy. `known` are the places of copies that were written before.
    async fn write(&self, path: &Path, content: &Content, known: &[String]) -> Result<()> {
        // A copy names no other that was not written yet: after a crash that one is new, and not lost.
        let is_known = |other: &Path| known.iter().any(|place| place.as_str() == other.to_string_lossy());
        let named = |other: &&PathBuf| *other == path || other.exists() || is_known(other);
        let places: Vec<_> =
            self.paths.iter().filter(named).map(|place| place.to_string_lossy().into_owned()).collect();
        let wrapped = kek::wrap(&*self.kek, LABEL, &Stored::encode(content, &places)?).await?;
        let (target, bytes, new) = (path.to_owned(), wrapped.clone(), !is_known(path));
        let written = tokio::task::spawn_blocking(move || {
            if new {
                files::make_private_directory(files::parent(&target))?;
            }
            files::replace(&target, &bytes)
        });
        written.await.map_err(io::Error::other).flatten().map_err(|error| unusable(path, error))?;
        if read_bytes(path).await?.is_some_and(|found| found == wrapped) {
            return Ok(());
        }
        Err(unusable(path, "what was written is not what is there; it may still hold an old root"))
    }

    /// Tells of copies that are behind: they missed a change, or somebody has brought back old ones.
    fn tell_old(&self, found: &[Result<Option<Stored>>], present: u64) {
        for (path, copy) in self.paths.iter().zip(found) {
            let Ok(Some(Stored { content, .. })) = copy else { continue };
            let (copy, epoch) = (path.display(), content.current.epoch);
            if epoch < present {
                tracing::warn!(%copy, epoch, present, "a copy of the root slot is older than another; it is replaced");
            }
        }
    }

    fn places(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

async fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let target = path.to_owned();
    let read = tokio::task::spawn_blocking(move || files::read_if_there(&target)).await;
    read.map_err(io::Error::other).flatten().map_err(|error| unusable(path, error))
}

/// The later of two copies. Two of the same epoch must hold the same root.
fn later<'a>(path: &Path, best: Option<&'a Stored>, found: &'a Stored) -> Result<&'a Stored> {
    let Some(best) = best else { return Ok(found) };
    let (one, other) = (&best.content.current, &found.content.current);
    if one.epoch == other.epoch && one.id != other.id {
        return Err(unusable(path, "it holds another root of the same epoch than the copies before it"));
    }
    Ok(if best.age() < found.age() { found } else { best })
}

fn copy_set() {
    crash::point("slot::copy-set");
}

#[async_trait]
impl RootSlot for FileSlot {
    async fn load(&self) -> Result<Option<Content>> {
        Ok(self.decide(&self.read_all().await)?.map(|stored| stored.content.copy()))
    }

    async fn create(&self, content: &Content) -> Result<()> {
        let _turn = self.turn().await?;
        if self.decide(&self.read_all().await)?.is_some() {
            return Err(refused("the root slot is set already"));
        }
        for path in &self.paths {
            self.write(path, content, &[]).await?;
            crash::point("slot::copy-created");
        }
        // Now that all are there, each can name the others.
        self.write_all(&self.read_all().await, (content, &[]), copy_set).await
    }

    async fn prepare(&self, expect: &[u8; 16], next: &Root) -> Result<()> {
        let _turn = self.turn().await?;
        let found = self.read_all().await;
        let Stored { content, places } = self.whole(&found)?;
        check_prepare(content, expect, next)?;
        let content = Content { next: Some(next.copy()), ..content.copy() };
        self.write_all(&found, (&content, places), || crash::point("slot::copy-prepared")).await
    }

    async fn advance(&self, expect: &[u8; 16], next: &[u8; 16]) -> Result<()> {
        let _turn = self.turn().await?;
        let found = self.read_all().await;
        let Stored { content, places } = self.whole(&found)?;
        if content.current.id == *next {
            return self.write_all(&found, (content, places), copy_set).await;
        }
        match &content.next {
            Some(prepared) if content.current.id == *expect && prepared.id == *next => {
                let content = Content { current: prepared.copy(), next: None, ..content.copy() };
                self.write_all(&found, (&content, places), copy_set).await
            }
            _ => Err(moved(content.current.epoch)),
        }
    }

    async fn settle(&self) -> Result<()> {
        let _turn = self.turn().await?;
        let found = self.read_all().await;
        let Stored { content, places } = self.whole(&found)?;
        self.tell_old(&found, content.current.epoch);
        self.write_all(&found, (content, places), copy_set).await
    }

    async fn wrapped(&self) -> Result<Vec<WrappedCopy>> {
        let mut copies = Vec::new();
        for path in &self.paths {
            let Some(wrapped) = read_bytes(path).await? else { continue };
            copies.push(WrappedCopy::of(&*self.kek, LABEL, path, &wrapped).await?);
        }
        Ok(copies)
    }

    async fn rewrap(&self) -> Result<()> {
        let _turn = self.turn().await?;
        let found = self.read_all().await;
        let Stored { content, places } = self.whole(&found)?;
        for path in &self.paths {
            self.write(path, content, places).await?;
        }
        Ok(())
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
        let told = |(path, copy): (&PathBuf, Result<Option<Stored>>)| {
            let epoch = match copy {
                Ok(Some(stored)) => Ok(stored.content.current.epoch),
                Ok(None) => Err("missing".to_owned()),
                Err(error) => Err(error.message.into_owned()),
            };
            CopyStatus { place: path.display().to_string(), epoch }
        };
        self.paths.iter().zip(self.read_all().await).map(told).collect()
    }
}
