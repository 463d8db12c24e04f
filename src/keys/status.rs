//! How the keys are, for people and for metrics. Needs no lock on the slot, so it can be asked beside a running vault.

use std::collections::HashMap;

use serde::Serialize;

use super::checkpoint::hex;
use super::sink::Sinks;
use super::slot::RootSlot;
use super::tree::Tree;
use crate::model::{ErasureState, Error, Reason, Result, Time};
use crate::store::Store;

/// How the keys are.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// How often the root has changed.
    pub epoch: u64,
    /// The present root, by its public name.
    pub root_id: String,
    /// The key tree, by its id.
    pub tree: String,
    /// The epoch that the database has recorded; one behind while an erasure settles.
    pub database_epoch: u64,
    /// Leaves handed out and not punctured.
    pub live_leaves: u64,
    /// Leaves that are gone.
    pub punctured_leaves: u64,
    /// Pages of the tree.
    pub pages: u64,
    /// Bytes of those pages.
    pub bytes: u64,
    /// The kind of slot and where it is.
    pub slot: String,
    /// How certain its forgetting is.
    pub assurance: &'static str,
    /// Each copy of the slot.
    pub copies: Vec<Copy>,
    /// Each checkpoint sink.
    pub sinks: Vec<Copy>,
    /// Erasures that wait for something.
    pub erasures_pending: u64,
}

/// A copy of something that should be up to date.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// Where it is.
    pub place: String,
    /// The epoch it stands at; of a sink, the newest that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Why that cannot be told, or is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Asks database, slot and sinks.
///
/// # Errors
/// `KeyCustodianUnavailable` when the slot cannot be read or does not open the tree in the database.
pub async fn ask(store: &dyn Store, slot: &dyn RootSlot, sinks: &Sinks) -> Result<Status> {
    let refuse = |what: &'static str| Error::new(Reason::KeyCustodianUnavailable, what);
    let content = slot.load().await?.ok_or_else(|| refuse("the root slot is empty"))?;
    let mut tx = store.read().await?;
    let head = tx.tree_head().await?.ok_or_else(|| refuse("the database holds no vault"))?;
    let stored = tx.key_pages().await?;
    let pending = tx.erasures_in(ErasureState::Pending, Time::from_micros(i64::MAX)).await?;
    drop(tx);
    let by_id: HashMap<_, _> = stored.iter().map(|page| (page.id, page.blob.as_slice())).collect();
    let find = |id| by_id.get(&id).copied();
    let tree = Tree::load(content.tree, &content.current.key, find)
        .map_err(|error| refuse("the key state in the database does not open under the slot's root").because(error))?;
    let bytes = tree.pages().filter_map(find).map(|blob| blob.len() as u64).sum();
    let stats = tree.stats();
    Ok(Status {
        epoch: content.current.epoch,
        root_id: hex(&content.current.id),
        tree: hex(&content.tree),
        database_epoch: head.epoch,
        live_leaves: u64::from(head.next_leaf).saturating_sub(stats.punctured_leaves),
        punctured_leaves: stats.punctured_leaves,
        pages: stats.pages,
        bytes,
        slot: slot.describe(),
        assurance: slot.assurance().name(),
        copies: ask_slot(slot).await,
        sinks: ask_sinks(sinks, &content.current.id).await,
        erasures_pending: pending.len() as u64,
    })
}

/// Where each copy of the keys stands, and what waits for one.
#[derive(Clone, Debug)]
pub struct Copies {
    /// Each copy of the slot.
    pub copies: Vec<Copy>,
    /// Each checkpoint sink.
    pub sinks: Vec<Copy>,
    /// Erasures that wait for something.
    pub erasures_pending: u64,
}

/// Asks for what can be told without walking through the tree.
///
/// # Errors
/// `StoreUnavailable` when the database cannot be read.
pub async fn ask_briefly(store: &dyn Store, slot: &dyn RootSlot, sinks: &Sinks) -> Result<Copies> {
    let mut tx = store.read().await?;
    let pending = tx.erasures_in(ErasureState::Pending, Time::from_micros(i64::MAX)).await?;
    let present = tx.tree_head().await?.map_or([0; 16], |head| head.root_id);
    drop(tx);
    let (copies, sinks) = (ask_slot(slot).await, ask_sinks(sinks, &present).await);
    Ok(Copies { copies, sinks, erasures_pending: pending.len() as u64 })
}

async fn ask_slot(slot: &dyn RootSlot) -> Vec<Copy> {
    let copy = |copy: super::slot::CopyStatus| {
        let (epoch, trouble) = match copy.epoch {
            Ok(epoch) => (Some(epoch), None),
            Err(trouble) => (None, Some(trouble)),
        };
        Copy { place: copy.place, epoch, trouble }
    };
    slot.status().await.into_iter().map(copy).collect()
}

async fn ask_sinks(sinks: &Sinks, present: &[u8; 16]) -> Vec<Copy> {
    let copy = |sink: super::sink::Standing| Copy { place: sink.place, epoch: sink.epoch, trouble: sink.trouble };
    sinks.standing(present).await.into_iter().map(copy).collect()
}
