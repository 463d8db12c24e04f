//! The root slot: a tiny register outside every database, the only thing that must be able to forget.
//!
//! It holds the root key R of the key tree and, while a batch of erasures is under way, the next one. Advancing it
//! is the single moment of erasure: the old R is gone, and with it whatever only the old tree could derive. Every
//! change compares before it sets, so that two writers cannot both believe they moved it.

pub(crate) mod file;
mod lock;
mod pkcs11;

pub use file::FileSlot;
pub use lock::{SlotLock, Turn};
pub use pkcs11::TokenSlot;

use std::fmt;

use async_trait::async_trait;

use super::kek::WrappedCopy;
use super::tree::Puncture;
use crate::crypto::Secret;
use crate::model::{Error, Reason, Result};

/// A root key with its public name and its place in time.
pub struct Root {
    /// The first 16 bytes of a digest of the key.
    pub id: [u8; 16],
    /// How many roots came before.
    pub epoch: u64,
    /// The key of the tree's root page.
    pub key: Secret<32>,
}

impl Root {
    /// The root of a tree that was just made, as number `epoch`.
    #[must_use]
    pub fn of(puncture: &Puncture, epoch: u64) -> Self {
        let key = Secret::build(|bytes| bytes.copy_from_slice(puncture.root.expose()));
        Self { id: puncture.root_id, epoch, key }
    }

    pub(super) fn copy(&self) -> Self {
        let key = Secret::build(|bytes| bytes.copy_from_slice(self.key.expose()));
        Self { id: self.id, epoch: self.epoch, key }
    }
}

/// What a slot holds.
pub struct Content {
    /// The id of the tree the root belongs to.
    pub tree: [u8; 16],
    /// The root that counts.
    pub current: Root,
    /// The root prepared to follow it.
    pub next: Option<Root>,
    /// The epoch of a later one that was prepared and does not open. It never counts; its number is taken.
    pub spoiled: Option<u64>,
}

impl Content {
    /// What a slot is set to hold at first.
    #[must_use]
    pub const fn first(tree: [u8; 16], root: Root) -> Self {
        Self { tree, current: root, next: None, spoiled: None }
    }

    pub(super) fn copy(&self) -> Self {
        Self {
            tree: self.tree,
            current: self.current.copy(),
            next: self.next.as_ref().map(Root::copy),
            spoiled: self.spoiled,
        }
    }

    /// The epoch of the next root to be prepared. A number is never used twice: not that of a root which was prepared
    /// and never became the current one, for there may be a checkpoint of it.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        self.latest_epoch() + 1
    }

    /// The latest epoch that a checkpoint can be of, because a root is prepared before its checkpoint is written.
    #[must_use]
    pub fn latest_epoch(&self) -> u64 {
        let next = self.next.as_ref().map(|next| next.epoch);
        self.current.epoch.max(next.max(self.spoiled).unwrap_or_default())
    }
}

/// The rule of every slot for what may be prepared: it follows the current root that the writer knows, and takes
/// nobody's epoch. The very root that is prepared already may be prepared again, by a writer who never heard of it.
fn check_prepare(found: &Content, expect: &[u8; 16], next: &Root) -> Result<()> {
    if found.current.id != *expect {
        return Err(moved(found.current.epoch));
    }
    let again = found.next.as_ref().is_some_and(|prepared| prepared.id == next.id);
    if again || next.epoch >= found.next_epoch() {
        return Ok(());
    }
    Err(refused(
        "another writer has prepared a root of this epoch or a later one; begin again with what the slot holds",
    )
    .with("epoch", next.epoch)
    .with("prepared_epoch", found.latest_epoch()))
}

fn moved(epoch: u64) -> Error {
    refused("the root slot has moved on: another writer advanced it").with("epoch", epoch)
}

fn refused(message: &'static str) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, message)
}

/// How certain it is that the slot forgot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// The old root is physically gone.
    Immediate,
    /// The old root is overwritten at the level of files; what a flash chip still holds is wrapped by another key.
    ImmediateLogical,
}

impl Assurance {
    /// The name used in receipts and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "IMMEDIATE",
            Self::ImmediateLogical => "IMMEDIATE_LOGICAL",
        }
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One copy of a slot, for people.
#[derive(Clone, Debug)]
pub struct CopyStatus {
    /// Where it is.
    pub place: String,
    /// Its epoch, or why it cannot be read.
    pub epoch: Result<u64, String>,
}

/// A register with compare-and-swap. Several processes may use one: each operation is atomic by itself, or as good as
/// that under any interleaving.
#[async_trait]
pub trait RootSlot: Send + Sync {
    /// What it holds; `None` when it was never set.
    async fn load(&self) -> Result<Option<Content>>;

    /// Sets it for the first time; refuses when it was set before.
    async fn create(&self, content: &Content) -> Result<()>;

    /// Puts `next` beside the current root, in every mirror. Refuses when the current root is not `expect`, and when
    /// another root of the same or a later epoch is prepared. Safe to repeat.
    async fn prepare(&self, expect: &[u8; 16], next: &Root) -> Result<()>;

    /// Makes the prepared root the current one and forgets the old, in every mirror. Safe to repeat: what has
    /// advanced stays, what lags behind catches up. An error after the first copy advanced leaves the rest to the
    /// next call; until one succeeds, the old root must be taken to exist.
    async fn advance(&self, expect: &[u8; 16], next: &[u8; 16]) -> Result<()>;

    /// Brings every mirror to what the deciding copy holds, a prepared root included. An error means that an old root
    /// may still exist somewhere.
    async fn settle(&self) -> Result<()>;

    /// How certain the forgetting is.
    fn assurance(&self) -> Assurance;

    /// What kind of slot it is, for receipts: no path, no host.
    fn kind(&self) -> &'static str;

    /// What kind of slot it is and where, for the operator.
    fn describe(&self) -> String;

    /// Every copy with its epoch.
    async fn status(&self) -> Vec<CopyStatus>;

    /// Every copy that a key-encrypting key wraps, each of them opened; none of a slot that needs no such key.
    async fn wrapped(&self) -> Result<Vec<WrappedCopy>> {
        Ok(Vec::new())
    }

    /// Wraps every copy anew, under the newest version of the key-encrypting key.
    async fn rewrap(&self) -> Result<()> {
        Ok(())
    }
}
