//! Locks beside the first copy of a slot: who may use it for the life of a process, and whose turn it is to write.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::keys::files;
use crate::model::{Error, Reason, Result};

/// How long a writer waits for its turn. A write takes milliseconds; whoever takes longer hangs on a broken disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a writer that waits looks again.
const LOOK: Duration = Duration::from_millis(5);

/// The right to use a slot, until it is dropped or the process ends: alone, or beside others of the same kind.
pub struct SlotLock {
    _file: Locked,
}

impl SlotLock {
    /// Takes the slot for this process alone, making the directory of its first copy: for an embedded vault, and for
    /// whatever must not happen beside a running one.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when another process has it.
    pub fn take(primary: &Path) -> Result<Self> {
        Self::lock(primary, File::try_lock, "another lacuna process holds this root slot; stop it first")
    }

    /// Takes the slot beside other processes that share it, as the nodes of one vault do. They take turns at writing.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when another process has it alone.
    pub fn share(primary: &Path) -> Result<Self> {
        let held = "another lacuna process holds this root slot for itself, as a restore does; wait until it has ended";
        Self::lock(primary, File::try_lock_shared, held)
    }

    fn lock(primary: &Path, how: fn(&File) -> Result<(), TryLockError>, held: &'static str) -> Result<Self> {
        let directory = files::parent(primary);
        files::make_private_directory(directory).map_err(|error| unusable(directory, error))?;
        let path = primary.with_extension("lock");
        let file = open(&path)?;
        match how(&file) {
            Ok(()) => Ok(Self { _file: Locked(file) }),
            Err(TryLockError::WouldBlock) => Err(unusable(&path, held)),
            Err(TryLockError::Error(error)) => Err(unusable(&path, error)),
        }
    }
}

/// The turn to write: held for one operation, by one writer on this file system at a time.
pub struct Turn {
    _file: Locked,
}

impl Turn {
    /// Waits for the turn at what lies at `primary`, for a bounded time and without holding up the thread.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when another writer does not end.
    pub async fn take(primary: &Path) -> Result<Self> {
        let path = Self::path(primary);
        let file = open(&path)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: Locked(file) }),
                Err(TryLockError::WouldBlock) if Instant::now() < end => tokio::time::sleep(LOOK).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(unusable(&path, "another lacuna process is writing it and does not end"));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(&path, error)),
            }
        }
    }

    fn path(primary: &Path) -> PathBuf {
        primary.with_extension("turn")
    }
}

/// An open file with a lock on it.
struct Locked(File);

impl Drop for Locked {
    /// Lets go of the lock itself, because a program that was started a moment ago may still share the open file.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a lock on the root slot goes with the process");
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    lock.map_err(|error| unusable(path, error))
}

/// That something of the slot's files cannot be used, and why.
pub fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    Error::new(Reason::KeyCustodianUnavailable, format!("the root slot at {} cannot be used: {source}", path.display()))
        .because(io::Error::other(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_share_or_one_has_it_alone() {
        let home = tempfile::tempdir().unwrap();
        let slot = home.path().join("slot/root.slot");
        let (one, other) = (SlotLock::share(&slot).unwrap(), SlotLock::share(&slot).unwrap());
        assert!(SlotLock::take(&slot).is_err());
        drop(one);
        assert!(SlotLock::take(&slot).is_err());
        drop(other);
        let alone = SlotLock::take(&slot).unwrap();
        assert!(SlotLock::take(&slot).is_err());
        let Err(error) = SlotLock::share(&slot) else { panic!("shared with one who has it alone") };
        assert!(error.to_string().contains("for itself"), "{error}");
        drop(alone);
        SlotLock::share(&slot).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_but_not_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let slot = home.path().join("root.slot");
        let first = Turn::take(&slot).await.unwrap();
        let Err(error) = Turn::take(&slot).await else { panic!("two have the turn") };
        assert_eq!(error.reason, Reason::KeyCustodianUnavailable);
        let (second, ()) = tokio::join!(Turn::take(&slot), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        });
        second.unwrap();
    }
}
