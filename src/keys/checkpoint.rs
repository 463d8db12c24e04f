//! A checkpoint: the key state of one epoch, whole or as what has changed since another checkpoint.
//!
//! A checkpoint of any age may leak: its pages open only under the root key of its epoch, and the slot holds one
//! root. It also carries what a restored database has to be told: which subjects were erased, and which leaves may
//! not be handed out again.
//!
//! That nobody can forge an erasure takes two steps. The checkpoint of the present root is authenticated under that
//! root. Those that it goes on from were, too, but their roots are gone; so each checkpoint tells the digest of the one
//! before it, and what the newest vouches for is authentic down to the whole one at the beginning.
//!
//! A later version of the format may add lists, which read as empty where they are missing. A reader refuses a list that
//! it does not know: it would restore half a state.

mod state;

use serde::{Deserialize, Serialize};

pub use state::State;

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
    /// What it goes on from; without it, this is the whole key state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Page versions that are new.
    pages: Vec<PageText>,
    /// Page versions that are not part of the tree any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<NameText>,
    /// Ranges that are gone: first leaf, last leaf, epoch.
    punctured: Vec<(u32, u32, u64)>,
    /// Erasures that are complete once the slot stands at this epoch.
    erasures: Vec<Erased>,
}

/// Names the checkpoint that another goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The root that it was taken for, in hex.
    pub root_id: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// What a checkpoint holds: the whole key state, or what has changed since its base.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// No leaf below was free any more.
    pub next_leaf: u32,
    /// Page versions that are new.
    pub pages: Vec<Page>,
    /// Page versions that are not part of the tree any more.
    pub removed: Vec<PageId>,
    /// Ranges that are gone.
    pub punctured: Vec<Punctured>,
    /// Erasures that are complete.
    pub erasures: Vec<Erased>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameText {
    level: u8,
    prefix: u32,
    version: String,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Keys of the subject that outlast it, because a law demands what is under them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// A key that outlasts an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Its leaf.
    pub leaf: u32,
    /// The month in which its values were kept, counted from January 1970.
    pub cohort: u32,
    /// Until when, in microseconds since 1970.
    pub until: i64,
}

/// A checkpoint as a file: the statement and its authentication, each a line.
const SEPARATOR: u8 = b'\n';

impl Checkpoint {
    /// Puts one together.
    #[must_use]
    pub fn new(tree: &[u8; 16], root: &Root, taken_at: i64, base: Option<Base>, content: &Content) -> Self {
        let page = |page: &Page| PageText {
            level: page.id.level,
            prefix: page.id.prefix,
            version: hex(&page.id.version),
            blob: data_encoding::BASE64.encode(&page.blob),
        };
        let name = |id: &PageId| NameText { level: id.level, prefix: id.prefix, version: hex(&id.version) };
        Self {
            version: 1,
            tree: hex(tree),
            epoch: root.epoch,
            root_id: hex(&root.id),
            taken_at,
            next_leaf: content.next_leaf,
            base,
            pages: content.pages.iter().map(page).collect(),
            removed: content.removed.iter().map(name).collect(),
            punctured: content.punctured.iter().map(|range| (range.first, range.last, range.epoch)).collect(),
            erasures: content.erasures.clone(),
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
        let mut lines = bytes.split(|byte| *byte == SEPARATOR);
        let (Some(statement), Some(mac), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(refuse("the checkpoint is cut short"));
        };
        if hex(&authenticate(root, statement)).as_bytes() != mac {
            return Err(refuse("the checkpoint was altered, or belongs to another root"));
        }
        let checkpoint = read(statement)?;
        if checkpoint.root_id != hex(&root.id) || checkpoint.epoch != root.epoch {
            return Err(refuse("the checkpoint claims another epoch than its root has"));
        }
        Ok(checkpoint)
    }

    /// Reads the bytes that another checkpoint names as its base. `KeyCustodianUnavailable` for anything else.
    pub fn open_base(bytes: &[u8], base: &Base) -> Result<Self> {
        if hex(&derive::sha256(&[bytes])) != base.sha256 {
            return Err(refuse("the checkpoint was altered or cut short"));
        }
        read(bytes.split(|byte| *byte == SEPARATOR).next().unwrap_or_default())
    }

    /// Reads a checkpoint without its root, as anybody can who finds one: nothing in it is checked.
    #[must_use]
    pub fn glance(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.split(|byte| *byte == SEPARATOR).next()?).ok()
    }

    /// What it holds.
    pub fn content(self) -> Result<Content> {
        let id = |level, prefix, version: &str| Some(PageId { level, prefix, version: unhex(version)? });
        let page = |page: &PageText| {
            let blob = data_encoding::BASE64.decode(page.blob.as_bytes()).ok()?;
            Some(Page { id: id(page.level, page.prefix, &page.version)?, blob })
        };
        let pages: Option<_> = self.pages.iter().map(page).collect();
        let removed: Option<_> = self.removed.iter().map(|name| id(name.level, name.prefix, &name.version)).collect();
        let senseless = || refuse("a page of the checkpoint makes no sense");
        Ok(Content {
            next_leaf: self.next_leaf,
            pages: pages.ok_or_else(senseless)?,
            removed: removed.ok_or_else(senseless)?,
            punctured: self.punctured.iter().map(|&(first, last, epoch)| Punctured { first, last, epoch }).collect(),
            erasures: self.erasures,
        })
    }
}

fn read(statement: &[u8]) -> Result<Checkpoint> {
    let checkpoint: Checkpoint = serde_json::from_slice(statement)
        .map_err(|error| refuse("the checkpoint makes no sense to this version of the vault").because(error))?;
    if checkpoint.version != 1 {
        return Err(refuse("the checkpoint is of another format than this version of the vault reads"));
    }
    Ok(checkpoint)
}

fn refuse(what: &'static str) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, what)
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

    fn content(root: &Root) -> Content {
        let id = PageId { level: 0, prefix: 0, version: root.id };
        let (pages, punctured) =
            (vec![Page { id, blob: vec![1, 2, 3] }], vec![Punctured { first: 5, last: 9, epoch: 2 }]);
        Content { next_leaf: 100, pages, removed: vec![PageId { prefix: 7, ..id }], punctured, erasures: Vec::new() }
    }

    fn sample(root: &Root) -> Checkpoint {
        Checkpoint::new(&[1; 16], root, 7, None, &content(root))
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let root = root();
        let read = Checkpoint::open(&sample(&root).seal(&root).unwrap(), &root).unwrap();
        assert_eq!((read.epoch, read.base.clone(), read.root_id.as_str()), (3, None, hex(&root.id).as_str()));
        let (read, wrote) = (read.content().unwrap(), content(&root));
        assert_eq!((read.next_leaf, read.removed, read.punctured), (100, wrote.removed, wrote.punctured));
        assert_eq!(read.pages[0].blob, [1, 2, 3]);
    }

    #[test]
    fn what_a_later_version_adds_is_refused_and_what_it_left_out_reads_as_empty() {
        let root = root();
        let mut document = serde_json::to_value(sample(&root)).unwrap();
        document.as_object_mut().unwrap().remove("removed").unwrap();
        let seal = |document: &serde_json::Value| {
            let statement = document.to_string().into_bytes();
            let mac = hex(&authenticate(&root, &statement));
            [statement, vec![SEPARATOR], mac.into_bytes()].concat()
        };
        assert_eq!(Checkpoint::open(&seal(&document), &root).unwrap().content().unwrap().removed, []);
        document["withdrawals"] = serde_json::json!([]);
        assert!(Checkpoint::open(&seal(&document), &root).is_err());
    }

    #[test]
    fn a_base_is_known_by_its_digest() {
        let root = root();
        let bytes = sample(&root).seal(&root).unwrap();
        let base = Base { root_id: hex(&root.id), sha256: hex(&derive::sha256(&[&bytes])) };
        assert!(Checkpoint::open_base(&bytes, &base).is_ok());
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(Checkpoint::open_base(&altered, &base).is_err(), "byte {at}");
            assert!(Checkpoint::open_base(&bytes[..at], &base).is_err(), "cut at {at}");
        }
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
