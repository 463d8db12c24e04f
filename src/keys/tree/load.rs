//! Loading: the root key opens the root page, and every page holds the keys of those below it.

use std::sync::Arc;

use crate::crypto::{Broken, Key, Secret, SecretBytes, derive, open};

use super::block::Block;
use super::page::{Draft, Page, Parsed, Version, parse};
use super::puncture::place;
use super::{PageId, SealedPage, Tree};

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
    #[error("key page {prefix:#x} of level {level} is missing in the version {version:02x?}")]
    Missing {
        /// As in [`PageId`].
        level: u8,
        /// As in [`PageId`].
        prefix: u32,
        /// As in [`PageId`].
        version: [u8; 16],
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
    fn page(&mut self, block: Block, name: [u8; 16], key: &Secret<32>) -> Result<Page, LoadError> {
        let plain = self.open(block.page_id(name), key)?;
        let Parsed { seeds, children } = parse(block, plain.expose()).ok_or(LoadError::Malformed)?;
        let mut draft = Draft::new(seeds.len());
        for (index, seed) in seeds {
            draft.seed(index, seed);
        }
        for (slot, key) in children {
            let key = copy(key);
            let name = derive::root_id(&key);
            let page = self.page(block.slot(slot), name, &key)?;
            draft.child(slot, Arc::new(Version { name, key, page }));
        }
        Ok(draft.finish())
    }

    fn open(&mut self, page: PageId, key: &Secret<32>) -> Result<SecretBytes, LoadError> {
        let PageId { level, prefix, version } = page;
        let blob = (self.fetch)(page).ok_or(LoadError::Missing { level, prefix, version })?;
        unseal(&self.id, &page, &Key::new(key), blob.as_ref()).map_err(|_| LoadError::Broken { level, prefix })
    }
}

/// A seed with the block of leaves that follow from it.
pub struct Branch {
    block: Block,
    seed: Secret<32>,
}

impl Branch {
    /// The seed of a leaf of the block; `None` for any other.
    pub fn leaf(&self, leaf: u32) -> Option<Secret<32>> {
        self.block.holds(leaf).then(|| derive::descend(self.seed.expose(), leaf, self.block.bits))
    }

    /// The seed itself.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }
}

/// A page opened by itself, whatever tree it is part of now or was once.
pub struct Loose {
    /// Its seeds.
    pub branches: Vec<Branch>,
    /// The keys of the pages below it.
    pub keys: Vec<Secret<32>>,
}

impl Loose {
    /// Tries one key on one page version of the tree with this id.
    pub fn open(tree: &[u8; 16], page: &SealedPage, key: &Key) -> Option<Self> {
        let block = Block::of_page(&page.id)?;
        let plain = unseal(tree, &page.id, key, &page.blob).ok()?;
        let Parsed { seeds, children } = parse(block, plain.expose())?;
        let branch = |(index, seed): (u8, &[u8; 32])| Some(Branch { block: block.inside(index)?, seed: copy(seed) });
        Some(Self {
            branches: seeds.into_iter().filter_map(branch).collect(),
            keys: children.into_iter().map(|(_, key)| copy(key)).collect(),
        })
    }
}

fn unseal(tree: &[u8; 16], page: &PageId, key: &Key, blob: &[u8]) -> Result<SecretBytes, Broken> {
    open(key, &place(tree, page), blob)
}

fn copy(secret: &[u8; 32]) -> Secret<32> {
    Secret::build(|bytes| bytes.copy_from_slice(secret))
}
