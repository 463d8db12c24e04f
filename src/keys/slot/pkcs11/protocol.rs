//! A register out of things that can only be made, found and destroyed.
//!
//! PKCS#11 has no compare-and-swap. It has objects that come to be whole or not at all, and keys that never leave the
//! token and can be destroyed. So a root is three objects: a key K that is made in the token, the root key R sealed
//! under K, and a mark that the root is *armed*. A root is a *candidate* from when K and the sealed R are there, and it
//! counts once it is armed.
//!
//! - The **current** root is the armed one of the highest epoch whose key exists.
//! - **Preparing** makes a candidate and looks again. It destroys nothing, so it disturbs nobody. Whoever then finds
//!   another candidate of its epoch or a later one has been overtaken and begins again. A candidate that does not open is
//!   garbage: its epoch is taken, and nothing else comes of it.
//! - **Advancing** asks the token anew for the next root and opens it, marks it as armed, destroys everything of lower epochs, and looks again: no key of a lower
//!   epoch is left, and the current root is the one that was meant. Anything else is an error, and repeating goes on from
//!   wherever it stopped.
//!
//! Why writers who run into each other at any step do no harm:
//!
//! - *No live root is lost.* A key is destroyed only by a writer who found an armed root of a higher epoch and opened it.
//!   So the highest armed root is never destroyed, whoever sleeps and wakes: one who wakes up late arms a root whose key
//!   is gone, which counts for nothing, or one of a lower epoch, which does not decide.
//! - *Nothing is reported as forgotten that is not.* Success is reported only after the search that shows that every
//!   lower key is gone. A token that cannot be searched is an error.
//! - *A higher epoch that wins has forgotten what the lower had.* That is not this file's doing: a run reads what is dying
//!   after it has taken its epoch, and commits it to the database before it advances, where a run of a lower epoch is
//!   refused once a higher one has been there. And the checkpoint of a candidate is in the sinks before it is armed, so
//!   whichever root decides can be opened.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::super::{Content, Root, check_prepare, moved, refused};
use crate::model::{Error, Result};

/// Names a root in a token. Ordered by tree, then by epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The tree.
    pub tree: [u8; 16],
    /// Its place in time.
    pub epoch: u64,
    /// The root's id.
    pub id: [u8; 16],
}

/// Which objects of a root there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The key that seals it.
    pub key: bool,
    /// The sealed root.
    pub sealed: bool,
    /// The mark that it counts.
    pub armed: bool,
}

/// What a search finds.
pub type Found = BTreeMap<Name, Parts>;

/// Where roots are kept. Each method is one step, between which other writers may do theirs.
#[async_trait]
pub trait Cabinet: Send + Sync {
    /// Everything that is there.
    async fn search(&self) -> Result<Found>;
    /// Makes the key of a root.
    async fn make_key(&self, name: &Name) -> Result<()>;
    /// Seals a root under its key.
    async fn seal(&self, name: &Name, root: &Root) -> Result<()>;
    /// Marks a root as armed.
    async fn arm(&self, name: &Name) -> Result<()>;
    /// Destroys what there is of a root, its key first.
    async fn destroy(&self, name: &Name) -> Result<()>;
    /// Opens a root.
    async fn open(&self, name: &Name) -> Result<Root>;
    /// Forgets whatever was found before, so that the next search tells what is really kept.
    async fn refresh(&self) -> Result<()>;
}

/// What the register holds.
pub async fn load(cabinet: &dyn Cabinet) -> Result<Option<Content>> {
    let mut before = None;
    loop {
        let found = cabinet.search().await?;
        let Some(current) = current(&found)? else { return Ok(None) };
        let candidates: Vec<_> = candidates(&found, &current).rev().collect();
        let opened = open(cabinet, &current, &candidates).await;
        let seen = (current, candidates);
        match opened {
            Ok(content) if content.spoiled.is_none() || before.as_ref() == Some(&seen) => return Ok(Some(content)),
            Err(error) if before.as_ref() == Some(&seen) => return Err(error),
            // Another writer may have been faster between the search and the opening.
            _ => before = Some(seen),
        }
    }
}

/// Opens the current root, and of the candidates, the latest first, the first that opens.
async fn open(cabinet: &dyn Cabinet, current: &Name, candidates: &[Name]) -> Result<Content> {
    let (mut next, mut spoiled) = (None, None);
    for name in candidates {
        match cabinet.open(name).await {
            Ok(root) => {
                next = Some(root);
                break;
            }
            Err(_) => spoiled = spoiled.max(Some(name.epoch)),
        }
    }
    Ok(Content { tree: current.tree, current: cabinet.open(current).await?, next, spoiled })
}

/// Makes sure that the token really keeps a root and opens it: it may believe that it keeps what it could not write, and
/// seal what it cannot open. Answers what is there afterwards.
async fn verify(cabinet: &dyn Cabinet, name: &Name) -> Result<Found> {
    cabinet.refresh().await?;
    cabinet.open(name).await?;
    let found = cabinet.search().await?;
    if found.get(name).is_some_and(|parts| parts.whole()) { Ok(found) } else { Err(lost_by_token()) }
}

/// Sets the register for the first time.
pub async fn create(cabinet: &dyn Cabinet, content: &Content) -> Result<()> {
    if current(&cabinet.search().await?)?.is_some() {
        return Err(refused("the root slot is set already"));
    }
    let name = Name::of(content.tree, &content.current);
    cabinet.make_key(&name).await?;
    cabinet.seal(&name, &content.current).await?;
    verify(cabinet, &name).await?;
    cabinet.arm(&name).await?;
    cabinet.refresh().await?;
    match current(&cabinet.search().await?)? {
        Some(current) if current == name => Ok(()),
        Some(_) => Err(refused("the root slot was set by another writer at the same moment")),
        None => Err(lost_by_token()),
    }
}

/// Puts a candidate beside the current root.
pub async fn prepare(cabinet: &dyn Cabinet, expect: &[u8; 16], next: &Root) -> Result<()> {
    let content = load(cabinet).await?.ok_or_else(empty)?;
    check_prepare(&content, expect, next)?;
    let name = Name::of(content.tree, next);
    if content.next.is_some_and(|prepared| prepared.id == next.id) {
        return Ok(());
    }
    cabinet.make_key(&name).await?;
    cabinet.seal(&name, next).await?;
    let found = cabinet.search().await?;
    let current = current(&found)?.ok_or_else(empty)?;
    if current.id != *expect {
        return Err(moved(current.epoch));
    }
    let rival = |(other, parts): (&Name, &Parts)| {
        parts.whole() && other.tree == name.tree && other.epoch >= name.epoch && *other != name
    };
    if found.iter().any(rival) {
        return Err(refused("another writer prepared a root of this epoch at the same moment; begin again"));
    }
    Ok(())
}

/// Makes a candidate the current root, and destroys what came before it.
pub async fn advance(cabinet: &dyn Cabinet, expect: &[u8; 16], next: &[u8; 16]) -> Result<()> {
    let found = cabinet.search().await?;
    let current = current(&found)?.ok_or_else(empty)?;
    if current.id == *next {
        return sweep(cabinet, &current).await;
    }
    let prepared = found.iter().find(|(name, parts)| name.id == *next && parts.whole()).map(|(name, _)| *name);
    let name = prepared.ok_or_else(|| moved(current.epoch))?;
    // What is found now decides, because others may have done something since.
    let found = verify(cabinet, &name).await?;
    let current = self::current(&found)?.ok_or_else(empty)?;
    let is_latest = candidates(&found, &current).next_back().is_some_and(|latest| latest.epoch <= name.epoch);
    if current != name {
        if current.id != *expect || !is_latest {
            return Err(moved(current.epoch));
        }
        cabinet.arm(&name).await?;
    }
    sweep(cabinet, &name).await
}

/// Destroys what was interrupted before it was destroyed.
pub async fn settle(cabinet: &dyn Cabinet) -> Result<()> {
    let current = current(&cabinet.search().await?)?.ok_or_else(empty)?;
    sweep(cabinet, &current).await
}

/// Destroys everything of lower epochs than the current root, which must be `armed`, and makes sure of it.
async fn sweep(cabinet: &dyn Cabinet, armed: &Name) -> Result<()> {
    let found = cabinet.search().await?;
    let decides = current(&found)?.ok_or_else(empty)?;
    if decides != *armed {
        return Err(moved(decides.epoch));
    }
    let lower: Vec<_> = found.into_keys().filter(|name| name.tree == armed.tree && name.epoch < armed.epoch).collect();
    if !lower.is_empty() {
        // Before anything is destroyed: a token may believe that it keeps what it could not write.
        cabinet.refresh().await?;
        match current(&cabinet.search().await?)? {
            Some(decides) if decides == *armed => cabinet.open(armed).await.map(drop)?,
            _ => return Err(lost_by_token()),
        }
    }
    for name in &lower {
        cabinet.destroy(name).await?;
    }
    cabinet.refresh().await?;
    let found = cabinet.search().await?;
    let decides = current(&found)?.ok_or_else(empty)?;
    if decides != *armed {
        return Err(moved(decides.epoch));
    }
    match found.keys().find(|name| name.tree == armed.tree && name.epoch < armed.epoch) {
        None => Ok(()),
        Some(left) => {
            Err(refused("the token still holds a former root, which it does not destroy").with("epoch", left.epoch))
        }
    }
}

/// Whether a search found a root that counts, and only one.
pub fn decides(found: &Found) -> bool {
    matches!(current(found), Ok(Some(_)))
}

/// The armed root of the highest epoch whose key exists.
fn current(found: &Found) -> Result<Option<Name>> {
    let counts = |(_, parts): &(&Name, &Parts)| parts.armed && parts.key;
    let Some((best, parts)) = found.iter().filter(counts).max_by_key(|(name, _)| name.epoch) else {
        // Of a creation that was interrupted there may be parts of a first root, and no mark.
        let more = |(name, parts): &(&Name, &Parts)| parts.armed || name.epoch > 0;
        return match found.iter().rfind(more) {
            None => Ok(None),
            Some((name, _)) => Err(refused("the token holds parts of a root slot, but no whole root: it was damaged")
                .with("epoch", name.epoch)),
        };
    };
    if found.iter().filter(counts).any(|(name, _)| name.tree != best.tree) {
        return Err(refused(
            "the token holds the root slots of several vaults under one label: give each its own slot.pkcs11.label",
        ));
    }
    if found.iter().filter(counts).any(|(name, _)| name.epoch == best.epoch && name.id != best.id) {
        return Err(refused("the token holds two armed roots of one epoch").with("epoch", best.epoch));
    }
    if !parts.sealed {
        return Err(refused("the token holds the key of the root, but not the sealed root").with("epoch", best.epoch));
    }
    Ok(Some(*best))
}

/// The candidates above the current root, in the order of their epochs.
fn candidates(found: &Found, current: &Name) -> impl DoubleEndedIterator<Item = Name> {
    let (tree, epoch) = (current.tree, current.epoch);
    let follows =
        move |(name, parts): &(&Name, &Parts)| parts.whole() && !parts.armed && name.tree == tree && name.epoch > epoch;
    found.iter().filter(follows).map(|(name, _)| *name)
}

/// The epochs before the present one whose keys exist.
pub fn former(found: &Found, tree: &[u8; 16], present: u64) -> Vec<u64> {
    let is_former = |(name, parts): &(&Name, &Parts)| parts.key && name.tree == *tree && name.epoch < present;
    found.iter().filter(is_former).map(|(name, _)| name.epoch).collect()
}

fn lost_by_token() -> Error {
    refused("the token did not keep the root that it was given; is it full?")
}

fn empty() -> Error {
    refused("the root slot is empty")
}

impl Name {
    /// The name of a root.
    pub const fn of(tree: [u8; 16], root: &Root) -> Self {
        Self { tree, epoch: root.epoch, id: root.id }
    }
}

impl Parts {
    const fn whole(self) -> bool {
        self.key && self.sealed
    }
}
