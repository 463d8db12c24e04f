//! The key state that a whole checkpoint and those after it add up to.

use std::collections::BTreeMap;

use super::{Content, Erased, refuse};
use crate::model::Result;
use crate::store::key::{Page, PageId, Punctured};

/// The key state of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// No leaf below was free any more.
    pub next_leaf: u32,
    pages: BTreeMap<PageId, Vec<u8>>,
    punctured: BTreeMap<(u32, u32), u64>,
    /// By the erasure's id.
    erasures: BTreeMap<String, Erased>,
}

impl State {
    /// The state after one more change. Refuses a change that does not fit.
    pub fn apply(&mut self, content: Content) -> Result<()> {
        for id in content.removed {
            self.pages
                .remove(&id)
                .ok_or_else(|| refuse("the checkpoint removes a page that its base does not have"))?;
        }
        for Page { id, blob } in content.pages {
            if self.pages.insert(id, blob).is_some() {
                return Err(refuse("the checkpoint adds a page that its base has already"));
            }
        }
        self.next_leaf = self.next_leaf.max(content.next_leaf);
        self.punctured.extend(content.punctured.iter().map(|range| ((range.first, range.last), range.epoch)));
        self.erasures.extend(content.erasures.into_iter().map(|erased| (erased.erasure.clone(), erased)));
        Ok(())
    }

    /// Every page of the tree.
    #[must_use]
    pub fn pages(&self) -> Vec<Page> {
        self.pages.iter().map(|(id, blob)| Page { id: *id, blob: blob.clone() }).collect()
    }

    /// Every range that is gone.
    #[must_use]
    pub fn punctured(&self) -> Vec<Punctured> {
        self.punctured.iter().map(|(&(first, last), &epoch)| Punctured { first, last, epoch }).collect()
    }

    /// Every erasure that is complete.
    pub fn erasures(&self) -> impl Iterator<Item = &Erased> {
        self.erasures.values()
    }
}
