//! Loading: the root key opens the root page, and every page holds the keys of those below it.

use std::sync::Arc;

use crate::crypto::{Key, Secret, SecretBytes, derive, open};

use super::block::Block;
use super::page::{Draft, Page, Parsed, Version, parse};
use super::puncture::place;
use super::{PageId, Tree};

/// Why a tree cannot be loaded. None of the reasons is repaired by trying again with the same pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A page does not open: changed, of another version, or from another place.
    #[error("key page {prefix:#x} of level {level} does not open under the key its parent holds")]
    Broken {
        /// As in [`PageId`].
        level: u8,
        /// As in [`PageId`].
        prefix: u32,
    },
    /// A page opened and makes no sense: a fault of the program that wrote it.
    #[error("a key page opened but its content is malformed")]
    Malformed,
    /// A page is not there.
    #[error("key page {prefix:#x} of level {level} is missing in the version {root_id:02x?}")]
    Missing {
        /// As in [`PageId`].
        level: u8,
        /// As in [`PageId`].
        prefix: u32,
        /// As in [`PageId`].
        root_id: [u8; 16],
    },
}

impl Tree {
    /// Opens the tree that `root` belongs to; `fetch` gives the stored blob of a page version.
    ///
    /// Every page is fetched once. Nothing is left of what was opened if one of them is missing or does not open.
    pub fn load<B: AsRef<[u8]>>(
        id: [u8; 16],
        root: &Secret<32>,
        mut fetch: impl FnMut(PageId) -> Option<B>,
    ) -> Result<Self, LoadError> {
        let root_id = derive::root_id(root);
        let page = Loader { id, fetch: &mut fetch }.page(Block::ALL, root_id, root)?;
        Ok(Self { id, root_id, root: Arc::new(page) })
    }
}

struct Loader<'a, F> {
    id: [u8; 16],
    fetch: &'a mut F,
}

impl<B: AsRef<[u8]>, F: FnMut(PageId) -> Option<B>> Loader<'_, F> {
    fn page(&mut self, block: Block, root_id: [u8; 16], key: &Secret<32>) -> Result<Page, LoadError> {
        let plain = self.open(block.page_id(root_id), key)?;
        let Parsed { seeds, children } = parse(block, plain.expose()).ok_or(LoadError::Malformed)?;
        let mut draft = Draft::new(seeds.len());
        for (index, seed) in seeds {
            draft.seed(index, seed);
        }
        for (slot, root_id, key) in children {
            let key = Secret::build(|bytes| bytes.copy_from_slice(key));
            let page = self.page(block.slot(slot), *root_id, &key)?;
            draft.child(slot, Arc::new(Version { root_id: *root_id, key, page }));
        }
        Ok(draft.finish())
    }

    fn open(&mut self, page: PageId, key: &Secret<32>) -> Result<SecretBytes, LoadError> {
        let PageId { level, prefix, root_id } = page;
        let blob = (self.fetch)(page).ok_or(LoadError::Missing { level, prefix, root_id })?;
        let opened = open(&Key::new(key), &place(&self.id, &page), blob.as_ref());
        opened.map_err(|_| LoadError::Broken { level, prefix })
    }
}
