//! A checkpoint: the whole key state of one epoch, small enough to be copied after every batch of erasures.
//!
//! A checkpoint of any age may leak: its pages open only under the root key of its epoch, and the slot holds one
//! root. It also carries what a restored database has to be told: which subjects were erased, and which leaves may
//! not be handed out again. That part is authenticated under the root, so that nobody can forge an erasure.

use serde::{Deserialize, Serialize};

use super::slot::Root;
use crate::crypto::derive;
use crate::model::{Error, Reason, Result};
use crate::store::key::{Page, PageId, Punctured};

/// What a checkpoint says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The format, 1.
    version: u32,
    /// The tree's id, in hex.
    pub tree: String,
    /// The epoch.
    pub epoch: u64,
    /// The root that opens it, in hex.
    pub root_id: String,
    /// When it was taken, in microseconds since 1970.
    pub taken_at: i64,
    /// No leaf below was free any more.
    pub next_leaf: u32,
    /// Every page of the tree.
    pages: Vec<PageText>,
    /// Every range that is gone: first leaf, last leaf, epoch.
    punctured: Vec<(u32, u32, u64)>,
    /// Every erasure that this epoch completes or that was complete before.
    pub erasures: Vec<Erased>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageText {
    level: u8,
    prefix: u32,
    version: String,
    blob: String,
}

/// An erasure, as a restored database has to learn of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// The erasure's id.
    pub erasure: String,
    /// The subject's id.
    pub subject: String,
    /// A legal ground or a ticket.
    pub reason: String,
    /// The caller.
    pub requested_by: String,
    /// Microseconds since 1970.
    pub requested_at: i64,
    /// Microseconds since 1970; for the batch that this checkpoint belongs to, when it was made up.
    pub erased_at: i64,
    /// The epoch that lacks the keys.
    pub epoch: u64,
}

/// A checkpoint as a file: the statement and its authentication, each a line.
const SEPARATOR: u8 = b'\n';

impl Checkpoint {
    /// Puts one together.
    #[must_use]
    pub fn new(tree: &[u8; 16], root: &Root, taken_at: i64, next_leaf: u32, state: State<'_>) -> Self {
        let page = |page: &Page| PageText {
            level: page.id.level,
            prefix: page.id.prefix,
            version: hex(&page.id.version),
            blob: data_encoding::BASE64.encode(&page.blob),
        };
        Self {
            version: 1,
            tree: hex(tree),
            epoch: root.epoch,
            root_id: hex(&root.id),
            taken_at,
            next_leaf,
            pages: state.pages.iter().map(page).collect(),
            punctured: state.punctured.iter().map(|range| (range.first, range.last, range.epoch)).collect(),
            erasures: state.erasures,
        }
    }

    /// The bytes to keep, authenticated under the root.
    pub fn seal(&self, root: &Root) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(Error::internal)?;
        let mac = hex(&authenticate(root, &bytes));
        bytes.push(SEPARATOR);
        bytes.extend_from_slice(mac.as_bytes());
        Ok(bytes)
    }

    /// Reads what [`Checkpoint::seal`] wrote under the same root. `KeyCustodianUnavailable` for anything else.
    pub fn open(bytes: &[u8], root: &Root) -> Result<Self> {
        let refuse = |what: &'static str| Error::new(Reason::KeyCustodianUnavailable, what);
        let mut lines = bytes.split(|byte| *byte == SEPARATOR);
        let (Some(statement), Some(mac), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(refuse("the checkpoint is cut short"));
        };
        if hex(&authenticate(root, statement)).as_bytes() != mac {
            return Err(refuse("the checkpoint was altered, or belongs to another root"));
        }
        serde_json::from_slice(statement).map_err(|error| refuse("the checkpoint makes no sense").because(error))
    }

    /// Reads a checkpoint without its root, as anybody can who finds one: nothing in it is checked.
    #[must_use]
    pub fn glance(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.split(|byte| *byte == SEPARATOR).next()?).ok()
    }

    /// Its pages.
    pub fn pages(&self) -> Result<Vec<Page>> {
        let page = |page: &PageText| {
            let version = unhex(&page.version)?;
            let blob = data_encoding::BASE64.decode(page.blob.as_bytes()).ok()?;
            Some(Page { id: PageId { level: page.level, prefix: page.prefix, version }, blob })
        };
        let pages: Option<Vec<_>> = self.pages.iter().map(page).collect();
        pages.ok_or_else(|| Error::new(Reason::KeyCustodianUnavailable, "a page of the checkpoint makes no sense"))
    }

    /// Its punctured ranges.
    #[must_use]
    pub fn punctured(&self) -> Vec<Punctured> {
        self.punctured.iter().map(|&(first, last, epoch)| Punctured { first, last, epoch }).collect()
    }
}

/// The key state that a checkpoint holds.
pub struct State<'a> {
    /// Every page of the tree.
    pub pages: &'a [Page],
    /// Every range that is gone.
    pub punctured: &'a [Punctured],
    /// Every erasure.
    pub erasures: Vec<Erased>,
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Sixteen bytes from lower-case hex.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 16]> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn authenticate(root: &Root, statement: &[u8]) -> [u8; 32] {
    derive::tag(&root.key, &[b"lacuna/checkpoint/v1", statement])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Secret, SystemRandom};

    fn root() -> Root {
        let key = Secret::random(&SystemRandom::new());
        Root { id: derive::root_id(&key), epoch: 3, key }
    }

    fn sample(root: &Root) -> Checkpoint {
        let id = PageId { level: 0, prefix: 0, version: root.id };
        let (pages, punctured) = ([Page { id, blob: vec![1, 2, 3] }], [Punctured { first: 5, last: 9, epoch: 2 }]);
        Checkpoint::new(&[1; 16], root, 7, 100, State { pages: &pages, punctured: &punctured, erasures: Vec::new() })
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let root = root();
        let read = Checkpoint::open(&sample(&root).seal(&root).unwrap(), &root).unwrap();
        assert_eq!((read.epoch, read.next_leaf, read.root_id.as_str()), (3, 100, hex(&root.id).as_str()));
        assert_eq!(read.pages().unwrap()[0].blob, [1, 2, 3]);
        assert_eq!(read.punctured(), [Punctured { first: 5, last: 9, epoch: 2 }]);
    }

    #[test]
    fn altered_cut_or_foreign_bytes_are_refused() {
        let root = root();
        let bytes = sample(&root).seal(&root).unwrap();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(Checkpoint::open(&altered, &root).is_err(), "byte {at}");
            assert!(Checkpoint::open(&bytes[..at], &root).is_err(), "cut at {at}");
        }
        assert!(Checkpoint::open(&bytes, &self::root()).is_err());
    }
}
