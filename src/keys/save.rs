//! Saving the key state: a checkpoint of the next epoch goes to the sinks before the slot advances to it.
//!
//! A checkpoint tells what has changed since that of the present root, so its size does not grow with the vault. Only a
//! sink that lacks the one before, or whose chain has become long, gets the whole state, which is read from the database.

use std::collections::{BTreeMap, HashMap};

use super::checkpoint::{Content, Erased, Kept};
use super::custody::Custody;
use super::sink::Step;
use super::slot::Root;
use super::tree::{PageId, Puncture, Tree};
use crate::model::{Erasure, ErasureState, Error, Result, SubjectId, Time};
use crate::store::Tx;
use crate::store::key::{Page, Punctured, SubjectKey};

/// A change of the key state that is about to happen.
pub(super) struct Change<'a> {
    /// The next tree and the pages that are new in it.
    pub puncture: &'a Puncture,
    /// The present root, whose checkpoint the sinks have; a new vault has none.
    pub base: Option<&'a Root>,
    /// The root of the next tree.
    pub root: &'a Root,
    /// What dies with it.
    pub punctured: &'a [Punctured],
    /// Who is erased by it.
    pub erasures: &'a [Erasure],
}

impl Custody {
    /// Writes a checkpoint of the state after a change to the sinks; durable in as many as are required when this
    /// returns.
    pub(super) async fn save(&self, change: &Change<'_>) -> Result<()> {
        let Change { puncture, base, root, punctured, erasures } = change;
        let now = self.parts.clock.now();
        let mut tx = self.store().read().await?;
        let next_leaf = tx.tree_head().await?.map_or(0, |head| head.next_leaf);
        let subjects: Vec<SubjectId> = erasures.iter().map(|erasure| erasure.subject).collect();
        let mut kept = by_subject(tx.subject_keys(&subjects).await?);
        drop(tx);
        let changed = Content {
            next_leaf,
            pages: puncture.written.clone(),
            removed: puncture.removed.clone(),
            punctured: punctured.to_vec(),
            erasures: erasures.iter().map(|erasure| erased_by(erasure, root.epoch, now, &mut kept)).collect(),
        };
        // What changed since another tree than the present one says nothing to whoever has the present one.
        let base = base.filter(|base| puncture.base == Some(base.id));
        let tree = puncture.tree.id();
        let step = Step { tree: &tree, base, root, taken_at: now.micros() };
        self.parts.sinks.save(&step, &changed, self.whole(&puncture.tree, root, &changed)).await
    }

    /// Brings sinks that lag to the present key state. Does nothing while a run is under way: it will.
    pub async fn catch_up_sinks(&self) -> Result<()> {
        if !self.parts.sinks.may_lag() {
            return Ok(());
        }
        let missing = || Error::internal("the database has no key tree");
        let Some(content) = self.parts.slot.load().await? else { return Ok(()) };
        let head = self.store().read().await?.tree_head().await?.ok_or_else(missing)?;
        if head.root_id != content.current.id {
            return Ok(());
        }
        let (tree, root, taken_at) = (content.tree, &content.current, self.parts.clock.now().micros());
        let step = Step { tree: &tree, base: None, root, taken_at };
        let whole = async {
            let pages = self.store().read().await?.key_pages().await?;
            let present = load(tree, root, &pages)?;
            self.whole(&present, root, &Content { next_leaf: head.next_leaf, ..Content::default() }).await
        };
        self.parts.sinks.catch_up(&step, whole).await
    }

    /// The whole state of `tree` after `changed`, from the database.
    async fn whole(&self, tree: &Tree, root: &Root, changed: &Content) -> Result<Content> {
        let mut tx = self.store().read().await?;
        let mut erasures = shredded(&mut *tx, root.epoch).await?;
        let mut stored: HashMap<PageId, Page> = tx.key_pages().await?.into_iter().map(|page| (page.id, page)).collect();
        let gone = tx.punctured_after(0).await?.into_iter().filter(|range| range.epoch <= root.epoch);
        let mut punctured: BTreeMap<_, _> = gone.map(|range| ((range.first, range.last), range)).collect();
        drop(tx);
        erasures.extend(changed.erasures.iter().cloned());
        stored.extend(changed.pages.iter().map(|page| (page.id, page.clone())));
        punctured.extend(changed.punctured.iter().map(|range| ((range.first, range.last), *range)));
        let pages: Option<Vec<_>> = tree.pages().map(|id| stored.remove(&id)).collect();
        let pages = pages.ok_or_else(|| Error::internal("a page of the key tree is missing in the database"))?;
        // What was damaged in the database must not become the only state that the slot opens.
        load(tree.id(), root, &pages)?;
        let (next_leaf, punctured) = (changed.next_leaf, punctured.into_values().collect());
        Ok(Content { next_leaf, pages, removed: Vec::new(), punctured, erasures })
    }

    /// Lets sinks drop what nothing needs once the slot stands at `root_id`.
    pub(super) async fn drop_old_checkpoints(&self, root_id: &[u8; 16]) {
        self.parts.sinks.collect_garbage(root_id).await;
    }
}

fn load(tree: [u8; 16], root: &Root, pages: &[Page]) -> Result<Tree> {
    let by_id: HashMap<PageId, &[u8]> = pages.iter().map(|page| (page.id, page.blob.as_slice())).collect();
    Tree::load(tree, &root.key, |id| by_id.get(&id).copied())
        .map_err(|error| Error::internal("the key state in the database is damaged").because(error))
}

/// Every erasure that was complete at `epoch`, as a checkpoint tells it.
async fn shredded(tx: &mut dyn Tx, epoch: u64) -> Result<Vec<Erased>> {
    let done = tx.erasures_in(ErasureState::Shredded, Time::from_micros(i64::MAX)).await?;
    let mut kept = by_subject(tx.kept_keys().await?);
    let told = |erasure: &Erasure| Some(erased_by(erasure, erasure.epoch?, erasure.shredded_at?, &mut kept));
    Ok(done.iter().filter_map(told).filter(|erased| erased.epoch <= epoch).collect())
}

/// Of keys, those that outlast an erasure.
fn by_subject(keys: Vec<SubjectKey>) -> HashMap<SubjectId, Vec<Kept>> {
    let mut kept: HashMap<SubjectId, Vec<Kept>> = HashMap::new();
    for key in keys.into_iter().filter(|key| !key.ended) {
        if let Some((cohort, until)) = key.cohort.zip(key.kept_until) {
            let one = Kept { leaf: key.leaf, cohort: cohort.number(), until: until.micros() };
            kept.entry(key.subject).or_default().push(one);
        }
    }
    kept
}

/// An erasure as a checkpoint tells it, with what of `kept` outlasts it.
fn erased_by(erasure: &Erasure, epoch: u64, at: Time, kept: &mut HashMap<SubjectId, Vec<Kept>>) -> Erased {
    Erased {
        kept: kept.remove(&erasure.subject).unwrap_or_default(),
        erasure: erasure.id.to_string(),
        subject: erasure.subject.to_string(),
        reason: erasure.reason.as_str().to_owned(),
        requested_by: erasure.requested_by.clone(),
        requested_at: erasure.requested_at.micros(),
        erased_at: at.micros(),
        epoch,
    }
}
