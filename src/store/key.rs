//! The vault's own row and its key state: pages that open nothing without the root slot.

use async_trait::async_trait;

use crate::model::{Cohort, KeyState, PartId, Result, SubjectId, Time};

/// The vault itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// The id of its key tree.
    pub tree: [u8; 16],
    /// When it was made.
    pub created_at: Time,
}

/// Where the key tree stands, as far as the database knows. The root slot has the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Which root key opens the tree.
    pub root_id: [u8; 16],
    /// How often the root has changed.
    pub epoch: u64,
    /// The lowest leaf never handed out.
    pub next_leaf: u32,
    /// The newest epoch whose deaths were announced to every node. The slot may not have advanced to it yet.
    pub fence: u64,
}

/// Names one version of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId {
    /// 0 is the root, 4 the lowest.
    pub level: u8,
    /// The leading bits that all leaves below the page share.
    pub prefix: u32,
    /// The public name of its own key; for the root page, of the root key.
    pub version: [u8; 16],
}

/// One version of one page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Which one.
    pub id: PageId,
    /// The envelope.
    pub blob: Vec<u8>,
}

/// The epoch of a range that is to die with the next change of the root, whichever that will be.
pub const CONDEMNED: u64 = i64::MAX.cast_unsigned();

/// A range of leaves that are gone, or will be at an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punctured {
    /// First leaf.
    pub first: u32,
    /// Last leaf.
    pub last: u32,
    /// The epoch that lacks them.
    pub epoch: u64,
}

/// Which leaf holds a subject's key for a retention class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectKey {
    /// The leaf.
    pub leaf: u32,
    /// Whose key.
    pub subject: SubjectId,
    /// For which retention class.
    pub class: String,
    /// The key's version.
    pub version: u32,
    /// When it was handed out.
    pub created_at: Time,
    /// What it may be used for.
    pub state: KeyState,
    /// The month in which its values were kept; `None` for those of any month.
    pub cohort: Option<Cohort>,
    /// Whether it was destroyed because its retention had ended.
    pub ended: bool,
    /// The part of a call that it is for; `None` of one for whatever else is kept in the class.
    pub part: Option<PartId>,
    /// Until when it outlasts the erasure of its subject; the last of all times: until a legal hold is released.
    pub kept_until: Option<Time>,
}

impl SubjectKey {
    /// A key for new values of a class, of whatever month and of no part.
    #[must_use]
    pub const fn active(leaf: u32, subject: SubjectId, class: String, version: u32, created_at: Time) -> Self {
        let (state, cohort, ended, part, kept_until) = (KeyState::Active, None, false, None, None);
        Self { leaf, subject, class, version, created_at, state, cohort, ended, part, kept_until }
    }

    /// A key for the copies of a legal hold. Nothing comes under it later, and no erasure takes it along.
    #[must_use]
    pub fn of_hold(leaf: u32, subject: SubjectId, class: String, version: u32, created_at: Time) -> Self {
        let key = Self::active(leaf, subject, class, version, created_at);
        let (cohort, kept_until) = (Some(Cohort::of(created_at)), Some(Time::LAST));
        Self { state: KeyState::Retiring, cohort, kept_until, ..key }
    }

    /// Whether it is for the copies of a legal hold that nobody has released.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.kept_until == Some(Time::LAST) && !self.ended
    }

    /// Whether it is for what the other one is for: the same class, month and part of a call.
    #[must_use]
    pub fn serves_as(&self, other: &Self) -> bool {
        (&self.class, self.cohort, self.part) == (&other.class, other.cohort, other.part)
    }
}

/// The operations on the key state.
#[async_trait]
pub trait Keys {
    /// Writes the rows of a new vault; refuses when there is one.
    async fn create_vault(&mut self, vault: &Vault, head: &TreeHead) -> Result<()>;

    /// Removes a vault that holds nobody, whose making was interrupted before its slot was set.
    async fn discard_vault(&mut self) -> Result<()>;

    /// The vault's row, once there is one.
    async fn vault(&mut self) -> Result<Option<Vault>>;

    /// Where the tree stands.
    async fn tree_head(&mut self) -> Result<Option<TreeHead>>;

    /// Moves the tree from one root to the next. `false`, and no change, when it is not at `expect`.
    async fn advance_tree(&mut self, expect: &[u8; 16], root_id: &[u8; 16], epoch: u64) -> Result<bool>;

    /// Announces an epoch whose deaths every node has to apply. `false`, and no change, when another was announced
    /// since `expect`, or the tree is not at `root_id`.
    async fn announce(&mut self, root_id: &[u8; 16], expect: u64, epoch: u64) -> Result<bool>;

    /// Every page version.
    async fn key_pages(&mut self) -> Result<Vec<Page>>;

    /// Names of every page version that was written for `epoch` or before.
    async fn key_page_ids(&mut self, epoch: u64) -> Result<Vec<PageId>>;

    /// Adds page versions made for `epoch`, or writes those that are there again.
    async fn insert_pages(&mut self, epoch: u64, pages: &[Page]) -> Result<()>;

    /// Removes page versions.
    async fn delete_pages(&mut self, pages: &[PageId]) -> Result<()>;

    /// Removes page versions that were made for epochs between the two: `base` was followed by `epoch`, so those
    /// between were prepared and never came to be.
    async fn delete_pages_between(&mut self, base: u64, epoch: u64) -> Result<()>;

    /// Notes ranges that an epoch lacks.
    async fn put_punctured(&mut self, ranges: &[Punctured]) -> Result<()>;

    /// Ranges that epochs after `epoch` lack.
    async fn punctured_after(&mut self, epoch: u64) -> Result<Vec<Punctured>>;

    /// Ranges whose death was announced after `epoch`.
    async fn announced_after(&mut self, epoch: u64) -> Result<Vec<Punctured>>;

    /// Adds subjects' keys.
    async fn insert_subject_keys(&mut self, keys: &[SubjectKey]) -> Result<()>;

    /// Moves keys, by their leaves, to another state.
    async fn put_key_states(&mut self, leaves: &[u32], state: KeyState) -> Result<()>;

    /// Retires the keys that are punctured by `epoch`, whatever a restored database says of them.
    async fn retire_punctured_keys(&mut self, epoch: u64) -> Result<()>;

    /// Has keys outlast the erasure of their subject: each by its leaf, with its month and until when.
    async fn keep_keys(&mut self, keys: &[(u32, Cohort, Time)]) -> Result<()>;

    /// All keys that outlast the erasure of their subject and that nobody has ended.
    async fn kept_keys(&mut self) -> Result<Vec<SubjectKey>>;

    /// All keys of the subjects, oldest version first.
    async fn subject_keys(&mut self, subjects: &[SubjectId]) -> Result<Vec<SubjectKey>>;
}
