//! Making a new vault.

use std::sync::Arc;

use super::custody::{Custody, Parts};
use super::index;
use super::node::Member;
use super::recover::Report;
use super::ring::{Epoch, FIRST_LEAF, Keyring};
use super::save::Change;
use super::slot::{Content, Root};
use super::tree::Tree;
use crate::crash;
use crate::model::{Error, Reason, Result};
use crate::store::key::{Page, TreeHead, Vault};
use crate::store::subject::Filter;

/// Makes a new vault: its key state goes to the sinks, then into the database, then into the slot. A vault without a
/// slot has never answered anybody, so a crash in between loses nothing.
pub(super) async fn create(parts: Parts) -> Result<(Custody, Report)> {
    let tree = parts.vault;
    let genesis = Tree::genesis(tree, &*parts.random);
    let root = Root::of(&genesis, 0);
    let ring = Keyring::new(Epoch { tree: genesis.tree.clone(), number: 0 }, Arc::clone(&parts.random))?;
    let mut custody = Custody::new(parts, ring, Vec::new(), genesis.tree.clone(), None);
    crash::point("create::start");
    custody.save(&Change { puncture: &genesis, base: None, root: &root, punctured: &[], erasures: &[] }).await?;
    crash::point("create::checkpointed");
    custody.write_new_vault(&genesis.written).await?;
    crash::point("create::written");
    custody.parts.slot.create(&Content::first(tree, root)).await?;
    crash::point("create::slot-set");
    if custody.store().is_shared() {
        custody.member = Some(Member::join(&custody.parts).await?);
        custody.stand_for_lead(false).await?;
    } else {
        custody.begin_to_write().await?;
    }
    Ok((custody, Report { created: true, ..Report::default() }))
}

/// Makes a vault where one was begun and its slot never set. Refuses when somebody is in it: then the slot was lost.
pub(super) async fn begin_again(parts: Parts) -> Result<(Custody, Report)> {
    let mut tx = parts.store.write().await?;
    let used = !tx.list_subjects(&Filter::default(), None, 1).await?.is_empty()
        || tx.tree_head().await?.is_some_and(|head| head.epoch > 0);
    if used {
        return Err(Error::new(
            Reason::KeyCustodianUnavailable,
            "the database holds a vault but its root slot is empty: bring back the slot or one of its mirrors; \
             without it nothing in this database can be read",
        ));
    }
    tx.discard_vault().await?;
    tx.commit().await?;
    create(parts).await
}

impl Custody {
    async fn write_new_vault(&self, pages: &[Page]) -> Result<()> {
        let tree = self.ring.epoch()?.tree;
        let vault = Vault { tree: tree.id(), created_at: self.parts.clock.now() };
        let generation = index::first_generation(self.parts.index_buckets);
        let head = TreeHead { root_id: tree.root_id(), epoch: 0, next_leaf: FIRST_LEAF + generation.buckets, fence: 0 };
        let mut tx = self.store().write().await?;
        tx.create_vault(&vault, &head).await?;
        tx.insert_pages(0, pages).await?;
        tx.put_generation(&generation).await?;
        index::prepare(&self.ring, &mut *tx, generation.numbers(), FIRST_LEAF).await?;
        self.see_generations(&[generation]);
        crash::point("create::before-commit");
        tx.commit().await
    }
}
